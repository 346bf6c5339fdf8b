r"""What systemd-stub takes from beside a UKI: add-ons, credentials, extension images.

Sources: systemd-stub(7) ("Companion files"); systemd src/boot/stub.c (load_addons,
generate_sidecar_initrds) and cpio.c (pack_cpio: which files, in which order).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

import msgspec

from mrtd.boot.newc import archive
from mrtd.boot.stub_versions import StubRow
from mrtd.boot.uki import read_uki
from mrtd.eventlog import InputName

if TYPE_CHECKING:
    from mrtd.boot.chain import Chain, Files, Image

_ADDONS: Final = "/loader/addons"
_ADDON: Final = ".addon.efi"
_MAX_FILE: Final = 1 << 30
_MAX_NAME: Final = 255


class Addon(msgspec.Struct, frozen=True):
    """An add-on: a PE image with some sections of a UKI, and no kernel."""

    name: str
    path: str
    cmdline: str
    initrd: bytes
    ucode: bytes


class Sidecar(msgspec.Struct, frozen=True):
    """Files that become an archive: its event's PCR and text, and its bytes."""

    pcr: int
    label: str
    archive: bytes


class _Kind(msgspec.Struct, frozen=True):
    """Files that the stub packs: where, which, and into which folder of the archive."""

    folder: str | None  # None: the one beside the UKI
    suffix: str
    excluded: str
    target: str
    folder_mode: int
    file_mode: int
    pcr: int
    label: str


_CREDENTIALS: Final = (
    _Kind(None, ".cred", "", ".extra/credentials", 0o500, 0o400, 12, "Credentials initrd"),
    _Kind(
        "/loader/credentials", ".cred", "", ".extra/global_credentials", 0o500, 0o400, 12,
        "Global credentials initrd",
    ),
)  # fmt: skip
_OLD_SYSEXT: Final = _Kind(
    None, ".raw", "", ".extra/sysext", 0o555, 0o444, 13, "System extension initrd"
)
_SYSEXT: Final = msgspec.structs.replace(_OLD_SYSEXT, excluded=".confext.raw")
_GLOBAL_SYSEXT: Final = msgspec.structs.replace(
    _SYSEXT, folder="/loader/extensions", target=".extra/global_sysext",
    label="Global system extension initrd",
)  # fmt: skip
_CONFEXT: Final = _Kind(
    None, ".confext.raw", "", ".extra/confext", 0o555, 0o444, 12, "Configuration extension initrd"
)
_GLOBAL_CONFEXT: Final = msgspec.structs.replace(
    _CONFEXT, folder="/loader/extensions", target=".extra/global_confext",
    label="Global configuration extension initrd",
)  # fmt: skip


def _kinds(row: StubRow) -> tuple[_Kind, ...]:
    if not row.confexts:
        return (*_CREDENTIALS, _OLD_SYSEXT)
    if not row.global_extensions:
        return (*_CREDENTIALS, _SYSEXT, _CONFEXT)
    return (*_CREDENTIALS, _SYSEXT, _GLOBAL_SYSEXT, _CONFEXT, _GLOBAL_CONFEXT)


def extra_folder(path: str) -> str:
    """The folder beside a UKI that is its own."""
    return f"{path}.extra.d"


def sidecar_archives(files: Files, path: str, row: StubRow) -> Iterator[Sidecar]:
    """The archives that the stub makes, in the order in which it measures them.

    Args:
        files: the file system that the UKI is on.
        path: the UKI's path on it.
        row: the stub's rules.
    """
    for kind in _kinds(row):
        folder = kind.folder or extra_folder(path)
        names = [
            name for name in names_in(files, folder, kind.suffix)
            if not (kind.excluded and name.lower().endswith(kind.excluded))
        ]  # fmt: skip
        if names:
            read = [(name, files.read(f"{folder}/{name}", _MAX_FILE)) for name in names]
            packed = archive(
                kind.target, read, folder_mode=kind.folder_mode, file_mode=kind.file_mode
            )
            yield Sidecar(kind.pcr, kind.label, packed)


def names_in(files: Files, folder: str, suffix: str) -> list[str]:
    """Names of a folder's files that the stub takes, sorted as it sorts them."""
    if not files.exists(folder):
        return []
    return sorted(
        entry.name
        for entry in files.listdir(folder)
        if not entry.directory
        and not entry.name.startswith(".")
        and entry.name.isascii()
        and len(entry.name) <= _MAX_NAME
        and entry.name.lower().endswith(suffix)
    )


def read_addons(chain: Chain, image: Image, uname: str | None) -> tuple[Addon, ...]:
    """Load the add-ons for a UKI, global ones first, which the firmware measures as images.

    Add-ons that the firmware refuses, that are UKIs or that are for another kernel have no effect.
    """
    files = image.files
    if files is None:
        return ()
    found: list[Addon] = []
    for folder in (_ADDONS, extra_folder(image.path)):
        for name in names_in(files, folder, _ADDON):
            path = f"{folder}/{name}"
            data = memoryview(files.read(path, _MAX_FILE))
            if not chain.load_image(data, path, InputName.UKI, required=False):
                continue
            addon = read_uki(data, origin=path)
            other = addon.text(".uname")
            if addon.section(".linux") or (uname and other and other.rstrip() != uname.rstrip()):
                continue
            texts = (name, path, addon.text(".cmdline") or "")
            found.append(Addon(*texts, addon.content(".initrd"), addon.content(".ucode")))
    return tuple(found)
