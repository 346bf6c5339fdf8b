"""Authenticode digest of a PE image, as edk2 measures what it starts.

Source: edk2 SecurityPkg DxeTpm2MeasureBootLib and OvmfPkg TdTcg2Dxe MeasurePeCoff.c (order of what
is hashed, what is skipped, what is appended); PE/COFF specification (header offsets).
"""

from __future__ import annotations

import hashlib
from typing import Final

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


class PeLayout(msgspec.Struct, frozen=True):
    """What of a PE image is hashed.

    Attributes:
        hashed: byte ranges ``(start, end)`` of the file, in hashing order.
        certificates: size of the certificate table at the end, bytes; it is not hashed.
    """

    hashed: tuple[tuple[int, int], ...]
    certificates: int


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
    reader.take(12, "COFF header")
    optional_size = reader.u16("size of optional header")
    reader.take(2, "characteristics")
    optional = reader.offset
    magic = reader.u16("optional header magic")
    if magic not in _DIRECTORIES:
        raise reader.fail(f"{magic:#x} is neither PE32 nor PE32+", "optional header magic")
    reader.seek(optional + _SIZE_OF_HEADERS, "SizeOfHeaders")
    headers = reader.u32("SizeOfHeaders")
    directories = optional + _DIRECTORIES[magic]
    reader.seek(directories - 4, "NumberOfRvaAndSizes")
    count = reader.u32("NumberOfRvaAndSizes")
    checksum = optional + _CHECKSUM
    parts = [(0, checksum)]
    after, certificates = checksum + 4, 0
    if count > _SECURITY:
        entry = directories + _SECURITY * _DIRECTORY
        reader.seek(entry + 4, "certificate table size")
        certificates = reader.u32("certificate table size")
        parts.append((after, entry))
        after = entry + _DIRECTORY
    if not after <= headers <= len(image):
        raise reader.fail(f"{headers:#x} does not hold the headers", "SizeOfHeaders")
    parts.append((after, headers))
    reader.seek(optional + optional_size, "section table")
    raw = [_raw_section(reader, index) for index in range(sections)]
    raw.sort(key=lambda part: part[0])  # edk2's insertion sort leaves equal offsets in file order
    parts.extend((start, start + size) for start, size in raw if size)
    total = headers + sum(size for _, size in raw)
    if len(image) < total + certificates:
        raise reader.fail(
            f"headers, sections and certificates need {total + certificates:#x} bytes, "
            f"the file has {len(image):#x}",
            "certificate table size",
        )
    parts.append((total, len(image) - certificates))
    return PeLayout(tuple((start, end) for start, end in parts if end > start), certificates)


def _raw_section(reader: Reader, index: int) -> tuple[int, int]:
    """PointerToRawData and SizeOfRawData of a section."""
    header = reader.take(_SECTION, f"section {index}")
    size = int.from_bytes(header[16:20], "little")
    start = int.from_bytes(header[20:24], "little")
    reader_end = reader.offset + reader.remaining
    if size and start + size > reader_end:
        raise reader.fail(f"raw data ends at {start + size:#x}, after the file", f"section {index}")
    return start, size


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
    layout = pe_layout(image, origin=origin)
    state = hashlib.sha384()
    for start, end in layout.hashed:
        state.update(header[start:end])
        state.update(image[max(start, min(end, len(header))) : end])
    return Sha384(state.digest())
