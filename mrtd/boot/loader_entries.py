"""Boot loader entries: text files (type 1) and UKIs (type 2), and loader.conf.

Source: UAPI Group, "Boot Loader Specification"; loader.conf(5).
"""

from __future__ import annotations

import re
from typing import Final

import msgspec

from mrtd.boot.chain import Files
from mrtd.boot.uki import profile_ids, read_uki

_TYPE_1: Final = "/loader/entries"
_TYPE_2: Final = "/EFI/Linux"
_MAX_ENTRY: Final = 1 << 20
_MAX_UKI: Final = 1 << 31
_SKIPPED: Final = "auto-"  # boot.c: names that begin so are those of its own entries
_COUNTED: Final = re.compile(r"\+\d+(?:-\d+)?\.(?:conf|efi)\Z", re.IGNORECASE)
# Keys that say how an entry is shown, or for which machine it is
_SHOWN: Final = frozenset({"title", "version", "machine-id", "sort-key"})
_MAX_ENTRIES: Final = 1024


class Entry(msgspec.Struct, frozen=True):
    """An entry of the boot menu.

    Attributes:
        id: its identifier: the file's name, with ``@ID`` for a profile of a UKI but the first.
        source: the file that says it.
        path: what is started; empty if that is not said.
        options: load options.
        initrds: initrds that the loader reads.
        linux: whether it is a kernel that the loader gives an initrd and options.
        unified: whether it is a UKI (type 2).
        counted: whether its name counts boot attempts.
        unsupported: a key of it that is not modelled; empty if there is none.
    """

    id: str
    source: str
    path: str
    options: str
    initrds: tuple[str, ...]
    linux: bool
    unified: bool
    counted: bool
    unsupported: str


def read_loader_conf(text: str) -> dict[str, str]:
    """The settings of loader.conf; the last of each key counts."""
    return dict(_pairs(text))


def read_entries(files: Files) -> tuple[Entry, ...]:
    """Every entry on a file system. Raises `InputError` for a UKI that is no PE image."""
    found: list[Entry] = []
    for folder, suffix, read in ((_TYPE_1, ".conf", _type_1), (_TYPE_2, ".efi", _type_2)):
        if not files.exists(folder):
            continue
        names = sorted(e.name for e in files.listdir(folder) if not e.directory)
        for name in names[:_MAX_ENTRIES]:
            if name.lower().endswith(suffix) and not name.startswith("."):
                found += read(files, folder, name)
    return tuple(found)


def read_entry(text: str, *, name: str, source: str) -> Entry:
    """Read a type 1 entry."""
    path, linux = "", False
    unsupported = "text that is not UTF-8" if {"\ufffd", "\0"} & set(text) else ""
    options: list[str] = []
    initrds: list[str] = []
    for key, value in _pairs(text):
        if key in {"linux", "efi"}:
            path, linux = value, key == "linux"
        elif key == "initrd":
            initrds.append(value)
        elif key == "options":
            options.append(value)
        elif key == "architecture":
            unsupported = unsupported or ("" if value.lower() == "x64" else f"{key} {value}")
        elif key not in _SHOWN:
            unsupported = unsupported or key
    return Entry(
        id=name,
        source=source,
        path=path,
        options=" ".join(options),
        initrds=tuple(initrds),
        linux=linux,
        unified=False,
        counted=_COUNTED.search(name) is not None,
        unsupported=unsupported or _unlisted(name),
    )


def _type_1(files: Files, folder: str, name: str) -> list[Entry]:
    source = f"{folder}/{name}"
    text = files.read(source, _MAX_ENTRY).decode("utf-8", "replace")
    return [read_entry(text, name=name, source=source)]


def _type_2(files: Files, folder: str, name: str) -> list[Entry]:
    source = f"{folder}/{name}"
    image = memoryview(files.read(source, _MAX_UKI))
    ids = profile_ids(image, origin=source)
    # without one, systemd-boot lists no entry
    named = read_uki(image, origin=source).section(".osrel") is not None
    counted = _COUNTED.search(name) is not None
    return [
        Entry(
            id=f"{name}@{profile}" if number else name,
            source=source,
            path=source,
            options=f"@{number}" if number else "",
            initrds=(),
            linux=False,
            unified=True,
            counted=counted,
            unsupported=_unlisted(name) if named else "a UKI without .osrel",
        )
        for number, profile in enumerate(ids or ("",))
    ]


def _unlisted(name: str) -> str:
    return f"a name that begins with {_SKIPPED!r}" if name.lower().startswith(_SKIPPED) else ""


def _pairs(text: str) -> list[tuple[str, str]]:
    """Keys and values of the lines that are no comments, quotes around a value taken off."""
    found = []
    for line in re.split(r"[\r\n]", text):  # other separators of Unicode are none to systemd
        stripped = line.strip(" \t")
        if not stripped or stripped.startswith("#"):
            continue
        key, _, value = stripped.replace("\t", " ").partition(" ")
        value = value.strip(" ")
        if len(value) > 1 and value[0] == value[-1] == '"':
            value = value[1:-1]
        found.append((key, value))
    return found
