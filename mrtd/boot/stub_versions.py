"""What systemd-stub measures and passes on, by its version.

A stub says its version in its section ``.sdmagic``. Rows are facts with a source; the first one
that fits a version counts, and a version that no row describes is not guessed at.
"""

from __future__ import annotations

import re
from typing import Final

import msgspec

_MAGIC: Final = re.compile(rb"#### LoaderInfo: (systemd-stub|systemd-boot) (\d{1,4})([^#\0]*)####")

# systemd src/fundamental/uki.h, "the canonical order in which we measure"; .pcrsig is in it and is
# not measured, as it signs the result
_SECTIONS_252: Final = (
    ".linux", ".osrel", ".cmdline", ".initrd", ".splash", ".dtb", ".pcrpkey",
)  # fmt: skip
_SECTIONS_254: Final = (
    ".linux", ".osrel", ".cmdline", ".initrd", ".splash", ".dtb", ".uname", ".sbat", ".pcrpkey",
)  # fmt: skip
_SECTIONS_256: Final = (
    ".linux", ".osrel", ".cmdline", ".initrd", ".ucode", ".splash", ".dtb", ".uname", ".sbat",
    ".pcrpkey",
)  # fmt: skip
_SECTIONS_257: Final = (*_SECTIONS_256, ".profile", ".dtbauto", ".hwids")
_SECTIONS_258: Final = (*_SECTIONS_257, ".efifw")

# Sections that are packed as cpio archives of their own: name of the file in /.extra, in the order
# in which the archives follow the initrd
_EXTRA_252: Final = (
    (".pcrsig", "tpm2-pcr-signature.json"),
    (".pcrpkey", "tpm2-pcr-public-key.pem"),
)
_EXTRA_257: Final = (*_EXTRA_252, (".osrel", "os-release"), (".profile", "profile"))


class StubRow(msgspec.Struct, frozen=True):
    """A stub of versions ``first <= version < before``.

    Attributes:
        first: first version.
        before: first version that it does not describe.
        sections: sections measured, in their order.
        extra: sections that become archives in the initrd, with the file's name.
        cc: whether it measures through the CC protocol, that is in a TD at all.
        cc_tagged: whether that goes for EV_EVENT_TAG events as well; None where it is not known.
        addons: whether it takes add-ons.
        addon_initrds: whether add-ons may have an ``.initrd`` or ``.ucode``.
        confexts: whether it tells configuration extensions from system extensions.
        global_extensions: whether it takes extensions from ``loader/extensions``.
        profiles: whether UKIs may have profiles.
        loads_kernel: whether it starts the kernel through the firmware's LoadImage, which measures
            it, unless Secure Boot is on.
        appends_console: whether it adds ``console=`` to a command line that has none.
        measures_smbios: whether it measures the system's SMBIOS structure into PCR 1.
        boot_secret: whether it may pass on a secret that it makes, in the measured initrd.
        confidential_cmdline: whether a TD under Secure Boot gets no command line from outside.
        source: where that is known from.
        unconfirmed: what no boot here confirms; empty if one does.
    """

    first: int
    before: int
    sections: tuple[str, ...]
    extra: tuple[tuple[str, str], ...]
    cc: bool
    cc_tagged: bool | None
    addons: bool
    addon_initrds: bool
    confexts: bool
    global_extensions: bool
    profiles: bool
    loads_kernel: bool
    appends_console: bool
    measures_smbios: bool
    boot_secret: bool
    confidential_cmdline: bool
    source: str
    unconfirmed: str = ""


_NO_BOOT: Final = "no boot here confirms the rules of this systemd-stub"
_252: Final = StubRow(
    first=252,
    before=254,
    sections=_SECTIONS_252,
    extra=_EXTRA_252,
    cc=False,
    cc_tagged=False,
    addons=False,
    addon_initrds=False,
    confexts=False,
    global_extensions=False,
    profiles=False,
    loads_kernel=True,
    appends_console=False,
    measures_smbios=False,
    boot_secret=False,
    confidential_cmdline=False,
    source="systemd v252 src/boot/efi/stub.c; logs of Debian 252.39",
)
_254: Final = msgspec.structs.replace(
    _252,
    first=254,
    before=256,
    sections=_SECTIONS_254,
    addons=True,
    confidential_cmdline=True,
    source="systemd v254 and v255: .uname and .sbat are measured, add-ons",
    unconfirmed=_NO_BOOT,
)
_256: Final = msgspec.structs.replace(
    _254,
    first=256,
    before=257,
    sections=_SECTIONS_256,
    cc=True,
    addon_initrds=True,
    confexts=True,
    source="systemd v256: EFI_CC_MEASUREMENT_PROTOCOL (pull request 30996; measure.c: of EV_IPL "
    "events only), .ucode, confexts",
)
_257: Final = msgspec.structs.replace(
    _256,
    first=257,
    before=258,
    sections=_SECTIONS_257,
    extra=_EXTRA_257,
    profiles=True,
    source="systemd v257 src/boot/stub.c; logs of Debian 257.13",
    unconfirmed="",
)
_258: Final = msgspec.structs.replace(
    _257,
    first=258,
    before=262,
    sections=_SECTIONS_258,
    cc_tagged=None,
    loads_kernel=False,
    source="systemd v258: pull request 37372 starts the kernel itself",
    unconfirmed=_NO_BOOT,
)
_262: Final = msgspec.structs.replace(
    _258,
    first=262,
    before=263,
    global_extensions=True,
    appends_console=True,
    measures_smbios=True,
    boot_secret=True,
    source="systemd v262 src/boot/stub.c, console.c, boot-secret.c; logs of Debian 262.1",
    unconfirmed="",
)

STUB_ROWS: Final = (_252, _254, _256, _257, _258, _262)


class LoaderInfo(msgspec.Struct, frozen=True):
    """What a program of systemd says of itself: its name, major version, and version text."""

    program: str
    major: int
    version: str


def read_loader_info(magic: bytes) -> LoaderInfo | None:
    """Read a section ``.sdmagic``; None if it is of neither stub nor systemd-boot."""
    found = _MAGIC.search(magic)
    if found is None:
        return None
    rest = found[3].decode("ascii", "replace").strip()
    version = "".join(c if c.isprintable() else "?" for c in found[2].decode() + rest)
    return LoaderInfo(found[1].decode(), int(found[2]), version)


def stub_row(major: int) -> StubRow | None:
    """The row for a version; None if there is none."""
    return next((row for row in STUB_ROWS if row.first <= major < row.before), None)
