"""SMBIOS tables without what identifies a machine: serial numbers, UUID, asset tags, OEM strings.

Source: DMTF DSP0134 (SMBIOS 3.7), sections 6.1.2 and 6.1.3 (structure header, text strings) and 7.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Final

import msgspec

from mrtd.errors import MalformedBundle
from mrtd.reader import Reader

_SYSTEM: Final = 1
_UUID: Final = (0x08, 0x18)
_END_OF_TABLE: Final = 127
_OEM: Final = 128  # and above: of unknown content
_INTERFACE: Final = 42  # management controller host interface: addresses and identifiers

# Type: offsets of the string numbers of serial number, asset tag, SKU or part number
_STRINGS: Final[dict[int, tuple[int, ...]]] = {
    _SYSTEM: (0x07, 0x19),
    2: (0x07, 0x08, 0x0A),  # baseboard: and its place in the chassis
    3: (0x07, 0x08),  # chassis
    4: (0x20, 0x21, 0x22),  # processor
    17: (0x18, 0x19),  # memory device
    22: (0x07,),  # portable battery
    39: (0x08, 0x09),  # power supply
}
_ALL_STRINGS: Final = (11, 12)  # OEM strings, which also carry credentials; configuration options


class Structure(msgspec.Struct, frozen=True):
    """A structure of the table.

    Attributes:
        type: its number.
        start: offset of its header in the table.
        length: of header and fields, bytes.
        strings: start and end of each string, from the first.
    """

    type: int
    start: int
    length: int
    strings: tuple[tuple[int, int], ...]


def blank_smbios(data: bytes, *, origin: str) -> tuple[bytes, tuple[str, ...]]:
    """The table with identifying fields and strings blanked, and the texts that were in them.

    Raises:
        MalformedBundle: the table breaks its format.
    """
    result = bytearray(data)
    values: list[str] = []
    for structure in read_structures(data, origin=origin):
        for first, last in _identifying(structure, data):
            values.append(data[first:last].decode("utf-8", "replace"))
            result[first:last] = b"x" * (last - first)
        start, end = structure.start, structure.start + structure.length
        if structure.type >= _OEM or structure.type == _INTERFACE:
            result[start + 4 : end] = bytes(end - start - 4)
        first, last = start + _UUID[0], start + _UUID[1]
        if structure.type == _SYSTEM and last <= end and any(data[first:last]):
            raw = data[first:last]
            values += [str(uuid.UUID(bytes_le=raw)), str(uuid.UUID(bytes=raw)), raw.hex()]
            result[first:last] = bytes(len(raw))
    return bytes(result), tuple(values)


def read_structures(data: bytes, *, origin: str) -> Iterator[Structure]:
    """The structures of a table, up to its end; zeros may follow.

    Raises:
        MalformedBundle: a structure does not end, or is shorter than its header.
    """
    reader = Reader(data, origin=origin, error=MalformedBundle)
    while reader.remaining and any(data[reader.offset :]):
        start = reader.offset
        kind, length = reader.u8("structure type"), reader.u8("structure length")
        if length < 4:
            raise reader.fail(f"{length} is less than a header has", "structure length")
        reader.take(length - 2, "structure")
        end = data.find(b"\0\0", reader.offset)
        if end < 0:
            raise reader.fail("its strings do not end", "strings")
        yield Structure(kind, start, length, tuple(_strings(data, reader.offset, end)))
        reader.seek(end + 2, "strings")
        if kind == _END_OF_TABLE and any(data[reader.offset :]):
            raise reader.fail("something follows the end of the table", "end of table")


def _strings(data: bytes, start: int, end: int) -> Iterator[tuple[int, int]]:
    for text in data[start:end].split(b"\0") if end > start else ():
        yield start, start + len(text)
        start += len(text) + 1


def _identifying(structure: Structure, data: bytes) -> Iterator[tuple[int, int]]:
    if structure.type in _ALL_STRINGS or structure.type >= _OEM:
        yield from structure.strings
        return
    for offset in _STRINGS.get(structure.type, ()):
        if offset < structure.length:
            number = data[structure.start + offset]
            if 0 < number <= len(structure.strings):
                yield structure.strings[number - 1]
