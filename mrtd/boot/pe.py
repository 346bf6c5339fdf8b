"""PE images: their sections, their certificates, and the digest that edk2 measures of them.

Source: edk2 SecurityPkg DxeTpm2MeasureBootLib and OvmfPkg TdTcg2Dxe MeasurePeCoff.c (order of what
is hashed, what is skipped, what is appended); PE/COFF specification (header offsets).
"""

from __future__ import annotations

import hashlib
from typing import Final, NamedTuple

import msgspec

from mrtd.errors import MalformedKernel
from mrtd.reader import Reader
from mrtd.registers import Sha384

_MAGIC_PE32: Final = 0x10B
_MAGIC_PE32_PLUS: Final = 0x20B
_CHECKSUM: Final = 64  # offset of CheckSum in the optional header, both formats
_SIZE_OF_HEADERS: Final = 60
_DIRECTORIES: Final = {_MAGIC_PE32: 96, _MAGIC_PE32_PLUS: 112}
_SECURITY: Final = 4  # index of the certificate table in the data directories
_DIRECTORY: Final = 8
_SECTION: Final = 40
_SYMBOL: Final = 18
# Longer names of sections are "/OFFSET" into the string table behind the symbols, as GNU ld does it
_LONG_NAME: Final = 64
# How much larger than the file a section may be in memory; the .bss of a loader is some MB
_MAX_PADDING: Final = 1 << 26


class PeLayout(msgspec.Struct, frozen=True):
    """What of a PE image is hashed.

    Attributes:
        hashed: byte ranges ``(start, end)`` of the file, in hashing order.
        certificates: size of the certificate table at the end, bytes; it is not hashed.
        certificates_offset: where the header says that table is, bytes from the start.
    """

    hashed: tuple[tuple[int, int], ...]
    certificates: int
    certificates_offset: int = 0


class PeSection(msgspec.Struct, frozen=True):
    """A section of a PE image.

    Attributes:
        name: up to 8 characters.
        size: bytes it has in memory (VirtualSize).
        raw_offset: where its bytes are in the file.
        raw_size: how many there are.
    """

    name: str
    size: int
    raw_offset: int
    raw_size: int

    def content(self, image: memoryview) -> bytes:
        """Its bytes as in memory: cut to, or padded with zeros to, its size there."""
        kept = min(self.size, self.raw_size)
        data = bytes(image[self.raw_offset : self.raw_offset + kept])
        return data if kept == self.size else data + bytes(self.size - kept)


class _Headers(NamedTuple):
    """Offsets of what the headers of a PE image say, and their end."""

    reader: Reader
    optional: int
    directories: int
    directory_count: int
    size: int
    table: int
    sections: int
    strings: int


def _read_headers(image: memoryview, origin: str) -> _Headers:
    reader = Reader(image, origin=origin, error=MalformedKernel)
    if bytes(reader.take(2, "DOS header")) != b"MZ":
        reader.seek(0, "DOS header")
        raise reader.fail(
            "not a PE image (no 'MZ'): the firmware cannot start it",
            "DOS header",
            hint="give a bzImage with EFI stub (arch/x86/boot/bzImage, /boot/vmlinuz-*), "
            "not an ELF vmlinux",
        )
    reader.seek(0x3C, "PE header offset")
    reader.seek(reader.u32("PE header offset"), "PE header offset")
    if bytes(reader.take(4, "PE signature")) != b"PE\0\0":
        raise reader.fail("not 'PE'", "PE signature")
    reader.take(2, "machine")
    sections = reader.u16("number of sections")
    reader.take(4, "time stamp")
    symbols = reader.u32("symbol table offset")
    strings = symbols + _SYMBOL * reader.u32("number of symbols")
    optional_size = reader.u16("size of optional header")
    reader.take(2, "characteristics")
    optional = reader.offset
    magic = reader.u16("optional header magic")
    if magic not in _DIRECTORIES:
        raise reader.fail(f"{magic:#x} is neither PE32 nor PE32+", "optional header magic")
    reader.seek(optional + _SIZE_OF_HEADERS, "SizeOfHeaders")
    size = reader.u32("SizeOfHeaders")
    directories = optional + _DIRECTORIES[magic]
    reader.seek(directories - 4, "NumberOfRvaAndSizes")
    count = reader.u32("NumberOfRvaAndSizes")
    return _Headers(
        reader, optional, directories, count, size, optional + optional_size, sections, strings
    )


def pe_layout(image: memoryview, *, origin: str) -> PeLayout:
    """Where the hashed parts of a PE image are.

    Skipped are the checksum, the certificate table's directory entry and the certificates;
    bytes after the last section are hashed, with or without certificates, and without padding.

    Args:
        image: the whole file.
        origin: its name, for messages.

    Raises:
        MalformedKernel: not a PE image, or one that edk2 would refuse to measure.
    """
    headers = _read_headers(image, origin)
    reader = headers.reader
    checksum = headers.optional + _CHECKSUM
    parts = [(0, checksum)]
    after, certificates, where = checksum + 4, 0, 0
    if headers.directory_count > _SECURITY:
        entry = headers.directories + _SECURITY * _DIRECTORY
        reader.seek(entry + 4, "certificate table size")
        certificates = reader.u32("certificate table size")
        where = int.from_bytes(image[entry : entry + 4], "little")
        parts.append((after, entry))
        after = entry + _DIRECTORY
    if not after <= headers.size <= len(image):
        raise reader.fail(f"{headers.size:#x} does not hold the headers", "SizeOfHeaders")
    parts.append((after, headers.size))
    reader.seek(headers.table, "section table")
    raw = [_raw_section(reader, index) for index in range(headers.sections)]
    raw.sort(key=lambda part: part[0])  # edk2's insertion sort leaves equal offsets in file order
    parts.extend((start, start + size) for start, size in raw if size)
    total = headers.size + sum(size for _, size in raw)
    if len(image) < total + certificates:
        raise reader.fail(
            f"headers, sections and certificates need {total + certificates:#x} bytes, "
            f"the file has {len(image):#x}",
            "certificate table size",
        )
    parts.append((total, len(image) - certificates))
    hashed = tuple((start, end) for start, end in parts if end > start)
    return PeLayout(hashed, certificates, where)


def pe_sections(image: memoryview, *, origin: str) -> tuple[PeSection, ...]:
    """The sections of a PE image, in the order of its section table.

    Raises:
        MalformedKernel: not a PE image, or a section outside of it.
    """
    headers = _read_headers(image, origin)
    headers.reader.seek(headers.table, "section table")
    return tuple(_section(image, headers, index) for index in range(headers.sections))


def _section(image: memoryview, headers: _Headers, index: int) -> PeSection:
    reader = headers.reader
    header = bytes(reader.take(_SECTION, f"section {index}"))
    size, raw_size, start = (int.from_bytes(header[at : at + 4], "little") for at in (8, 16, 20))
    _check_section(reader, index, start, raw_size)
    if size > len(image) + _MAX_PADDING:
        raise reader.fail(f"{size:#x} bytes in memory", f"section {index}")
    name = header[:8].split(b"\0", 1)[0]
    if name[:1] == b"/" and name[1:].isdigit():
        at = headers.strings + int(name[1:])
        name = bytes(image[at : at + _LONG_NAME]).split(b"\0", 1)[0] or name
    return PeSection(name.decode("ascii", "replace"), size, start, raw_size)


def _raw_section(reader: Reader, index: int) -> tuple[int, int]:
    """PointerToRawData and SizeOfRawData of a section."""
    header = reader.take(_SECTION, f"section {index}")
    size = int.from_bytes(header[16:20], "little")
    start = int.from_bytes(header[20:24], "little")
    _check_section(reader, index, start, size)
    return start, size


def _check_section(reader: Reader, index: int, start: int, size: int) -> None:
    if size and start + size > reader.offset + reader.remaining:
        raise reader.fail(f"raw data ends at {start + size:#x}, after the file", f"section {index}")


def authenticode(image: memoryview, *, origin: str, header: bytes = b"") -> Sha384:
    """Authenticode SHA-384 of a PE image.

    Args:
        image: the whole file; it is not copied.
        origin: its name, for messages.
        header: bytes that replace the file's first ones, for a kernel whose setup header the
            VMM has patched.

    Raises:
        MalformedKernel: not a PE image, or one that edk2 would refuse to measure.
    """
    return Sha384(authenticode_digest(image, "sha384", origin=origin, header=header))


def authenticode_digest(
    image: memoryview, algorithm: str, *, origin: str, header: bytes = b""
) -> bytes:
    """`authenticode` with another hash, such as ``sha256``, which Secure Boot's databases hold."""
    layout = pe_layout(image, origin=origin)
    state = hashlib.new(algorithm)
    for start, end in layout.hashed:
        state.update(header[start:end])
        state.update(image[max(start, min(end, len(header))) : end])
    return state.digest()
