"""Appends sections to a PE image, which makes a unified kernel image of systemd's stub.

What ``ukify`` does, and no more: the tests hold both results to each other. Sections go behind the
stub's in file and memory; a section that the stub has already (``.sbat``) gets the new content in
its place. Times, checksum and signatures are left as the stub has them, so that the same inputs
give the same bytes.

Sources: PE/COFF specification, 3 (headers) and 4 (section table); UAPI Group, Unified Kernel Image.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from mrtd.errors import MalformedKernel

_PE_OFFSET: Final = 0x3C
_COFF: Final = 24  # signature and COFF header
_SECTION: Final = 40
# Offsets in the optional header, PE32+
_INITIALIZED: Final = 8
_SECTION_ALIGNMENT: Final = 32
_FILE_ALIGNMENT: Final = 36
_SIZE_OF_IMAGE: Final = 56
_SIZE_OF_HEADERS: Final = 60
_CHECKSUM: Final = 64
_DLL_CHARACTERISTICS: Final = 70
_NX_COMPAT: Final = 0x100
_CODE: Final = 0x4000_0020  # readable code
_DATA: Final = 0x4000_0040  # readable initialized data
# Stubs before systemd 254 say 512; the firmware maps by page whatever they say.
_PAGE: Final = 4096


@dataclass(frozen=True, slots=True)
class Section:
    """A section to add: its name, up to 8 bytes, and what it holds."""

    name: str
    content: bytes


class _Headers:
    """A PE32+ image whose headers are changed."""

    def __init__(self, image: bytes, origin: str) -> None:
        self.image = bytearray(image)
        self.origin = origin
        pe = self.u32(_PE_OFFSET)
        if image[:2] != b"MZ" or image[pe : pe + 4] != b"PE\0\0":
            raise MalformedKernel("not a PE image", origin=origin)
        self.coff = pe + 4
        self.optional = pe + _COFF
        if self.image[self.optional : self.optional + 2] != b"\x0b\x02":
            raise MalformedKernel("not PE32+", origin=origin, offset=self.optional)
        self.table = self.optional + self.u16(self.coff + 16)
        self.count = self.u16(self.coff + 2)

    def u16(self, offset: int) -> int:
        return int(struct.unpack_from("<H", self.image, offset)[0])

    def u32(self, offset: int) -> int:
        return int(struct.unpack_from("<I", self.image, offset)[0])

    def header(self, field: int) -> int:
        return self.u32(self.optional + field)

    def set_header(self, field: int, value: int) -> None:
        struct.pack_into("<I", self.image, self.optional + field, value)

    def find(self, name: str) -> int | None:
        """Offset of the header of a section."""
        wanted = name.encode().ljust(8, b"\0")
        for index in range(self.count):
            at = self.table + index * _SECTION
            if self.image[at : at + 8] == wanted:
                return at
        return None

    @property
    def memory_end(self) -> int:
        last = self.table + (self.count - 1) * _SECTION
        return self.u32(last + 12) + self.u32(last + 8)

    def replace(self, at: int, section: Section) -> None:
        room = self.u32(at + 16)
        if len(section.content) > room:
            raise self.fail(f"{section.name} has no room for {len(section.content)} bytes")
        start = self.u32(at + 20)
        self.image[start : start + room] = section.content.ljust(room, b"\0")
        struct.pack_into("<I", self.image, at + 8, len(section.content))

    def append(self, section: Section) -> None:
        at = self.table + self.count * _SECTION
        if at + _SECTION > self.header(_SIZE_OF_HEADERS):
            raise self.fail(f"the headers have no room for {section.name}")
        unit = self.header(_FILE_ALIGNMENT)
        start = _align(len(self.image), unit)
        size = _align(len(section.content), unit)
        address = _align(self.memory_end, max(self.header(_SECTION_ALIGNMENT), _PAGE))
        flags = _CODE if section.name == ".linux" else _DATA
        struct.pack_into(
            "<8s6I2HI",
            self.image,
            at,
            *(section.name.encode(), len(section.content), address, size, start),
            *(0, 0, 0, 0, flags),
        )
        self.image += bytes(start - len(self.image)) + section.content.ljust(size, b"\0")
        self.count += 1
        struct.pack_into("<H", self.image, self.coff + 2, self.count)
        self.set_header(_INITIALIZED, self.header(_INITIALIZED) + len(section.content))

    def agree_on_nx(self, kernel: bytes) -> None:
        """A kernel that does not claim NX_COMPAT takes the claim from the whole image."""
        at = self.optional + _DLL_CHARACTERISTICS
        if not _Headers(kernel, "kernel").characteristics & _NX_COMPAT:
            struct.pack_into("<H", self.image, at, self.characteristics & ~_NX_COMPAT)

    @property
    def characteristics(self) -> int:
        return self.u16(self.optional + _DLL_CHARACTERISTICS)

    def fail(self, message: str) -> MalformedKernel:
        return MalformedKernel(message, origin=self.origin)


def _align(value: int, unit: int) -> int:
    return -(-value // unit) * unit


def add_sections(stub: bytes, sections: Sequence[Section], *, origin: str = "stub") -> bytes:
    """The image with further sections, in the given order; names may repeat (``.profile``).

    Args:
        stub: an unsigned PE32+ image.
        sections: what to add.
        origin: the stub's name, for messages.

    Raises:
        MalformedKernel: the stub is no PE32+ image, or its headers have no room.
    """
    image = _Headers(stub, origin)
    own = image.count
    for section in sections:
        at = image.find(section.name)
        if at is not None and at < image.table + own * _SECTION:
            image.replace(at, section)
            continue
        image.append(section)
        if section.name == ".linux":
            image.agree_on_nx(section.content)
    unit = max(image.header(_SECTION_ALIGNMENT), 1)
    image.set_header(_SIZE_OF_IMAGE, _align(image.memory_end, unit))
    image.set_header(_CHECKSUM, 0)
    return bytes(image.image)


def section_content(image: bytes, name: str, *, origin: str = "image") -> bytes:
    """What a section holds, as long as it is in memory; empty if there is none."""
    headers = _Headers(image, origin)
    at = headers.find(name)
    if at is None:
        return b""
    start, size = headers.u32(at + 20), min(headers.u32(at + 8), headers.u32(at + 16))
    return image[start : start + size]
