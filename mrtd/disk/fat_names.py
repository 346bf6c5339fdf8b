"""Directory entries of a FAT file system, with their long names.

Source: Microsoft, "FAT: General Overview of On-Disk Format" (fatgen103), "FAT Directory
Structure" and "FAT Long Directory Entries"; Linux ``fs/fat/dir.c`` (bits of lower-case names).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from mrtd.errors import MalformedDisk

ENTRY: Final = 32
DIRECTORY: Final = 0x10

_VOLUME_ID: Final = 0x08
_LONG_NAME: Final = 0x0F
_ATTRIBUTES: Final = 0x3F
_FREE: Final = 0xE5
_IS_E5: Final = 0x05
"""In place of a first byte 0xe5, which means a free entry."""
_LAST_LONG: Final = 0x40
_MAX_LONG: Final = 20  # entries of 13 characters: 255 and the end
_LOWER_BASE: Final = 0x08
_LOWER_EXTENSION: Final = 0x10
_CODE_PAGE: Final = "cp437"


@dataclass(frozen=True, slots=True)
class FatEntry:
    """A file or a folder.

    Attributes:
        name: its long name; the short one where it has none.
        short_name: its name of eight and three characters.
        directory: whether it is a folder.
        cluster: its first cluster; 0 if it is empty.
        size: bytes of a file; 0 of a folder.
        offset: where its entry is within its folder.
    """

    name: str
    short_name: str
    directory: bool
    cluster: int
    size: int
    offset: int

    def is_named(self, name: str) -> bool:
        """Whether this is the entry that a path means: FAT ignores case."""
        return name.upper() in {self.name.upper(), self.short_name.upper()}


def read_entries(data: bytes, *, wide: bool, origin: str) -> Iterator[FatEntry]:
    """The entries of a folder, without ``.``, ``..`` and the volume's label.

    A long name whose parts are not all there, or whose checksum is not that of the short name
    behind it, belongs to nothing, and the short name counts (fatgen103: orphans).

    Args:
        data: all bytes of the folder.
        wide: whether clusters have 32 bits.
        origin: the folder, for messages.
    """
    parts: list[bytes] = []
    for offset in range(0, len(data) - ENTRY + 1, ENTRY):
        raw = data[offset : offset + ENTRY]
        if raw[0] == 0:
            return
        if raw[0] == _FREE:
            parts = []
        elif raw[11] & _ATTRIBUTES == _LONG_NAME:
            parts = [raw] if raw[0] & _LAST_LONG else [*parts, raw]
            if len(parts) > _MAX_LONG:
                parts = []
        else:
            long_name = _long_name(parts, raw[:11])
            parts = []
            if not raw[11] & _VOLUME_ID and raw[:1] != b".":
                yield _entry(raw, long_name, offset, wide=wide, origin=origin)


def _entry(raw: bytes, long_name: str, offset: int, *, wide: bool, origin: str) -> FatEntry:
    short_name = _short_name(raw)
    name = long_name or short_name
    if "/" in name or "\\" in name or "\0" in name or not name:
        raise MalformedDisk(
            f"name {name!r} has no place in a path", origin=origin, offset=offset, field="name"
        )
    directory = bool(raw[11] & DIRECTORY)
    cluster = int.from_bytes(raw[26:28], "little")
    if wide:
        cluster |= int.from_bytes(raw[20:22], "little") << 16
    size = 0 if directory else int.from_bytes(raw[28:32], "little")
    return FatEntry(name, short_name, directory, cluster, size, offset)


def _short_name(raw: bytes) -> str:
    first = _FREE if raw[0] == _IS_E5 else raw[0]
    text = (bytes([first]) + raw[1:11]).decode(_CODE_PAGE)
    base, extension = text[:8].rstrip(" "), text[8:].rstrip(" ")
    base = base.lower() if raw[12] & _LOWER_BASE else base
    extension = extension.lower() if raw[12] & _LOWER_EXTENSION else extension
    return f"{base}.{extension}" if extension else base


def _long_name(parts: list[bytes], short: bytes) -> str:
    """The name of the entries before a short one; empty if they are not its own."""
    expected = [len(parts) - i for i in range(len(parts))]
    if not parts or parts[0][0] != expected[0] | _LAST_LONG:
        return ""
    checksum = _checksum(short)
    for part, number in zip(parts, expected, strict=True):
        if part[0] & ~_LAST_LONG != number or part[13] != checksum:
            return ""
    units = b"".join(part[1:11] + part[14:26] + part[28:32] for part in reversed(parts))
    text = units.decode("utf-16-le", "replace")
    return text.partition("\0")[0]


def _checksum(short: bytes) -> int:
    """fatgen103, ChkSum: rotate right and add."""
    total = 0
    for byte in short:
        total = ((total >> 1 | total << 7) + byte) & 0xFF
    return total
