"""TDVF metadata: which parts of a firmware image become the initial memory of a TD.

Sources: Intel TDX Virtual Firmware Design Guide, chapter "TDVF Image" (metadata, sections);
edk2 OvmfPkg/ResetVector (GUIDed structure table); td-shim doc/tdshim_spec.md (section types 4-8).
"""

from __future__ import annotations

import itertools
from enum import IntEnum
from typing import Final

import msgspec

from mrtd.errors import MalformedFirmware
from mrtd.firmware.guids import OVMF_TABLE_FOOTER, OVMF_TDX_METADATA_OFFSET
from mrtd.reader import Reader

PAGE: Final = 4096
MR_EXTEND: Final = 1 << 0
PAGE_AUG: Final = 1 << 1

_TABLE_END_TO_EOF: Final = 0x20  # the reset vector's last bytes stay free of the table
_TABLE_ENTRY_HEADER: Final = 18  # u16 length | GUID, at an entry's end
_DESCRIPTOR: Final = 16  # signature, length, version, number of sections
_SECTION: Final = 32
_MAX_SECTIONS: Final = 256
_GPA_LIMIT: Final = 1 << 52


class SectionType(IntEnum):
    """TDVF Design Guide, table "TDVF section type"; 4 and later: td-shim specification."""

    BFV = 0
    CFV = 1
    TD_HOB = 2
    TEMP_MEM = 3
    PERM_MEM = 4
    PAYLOAD = 5
    PAYLOAD_PARAM = 6
    TD_INFO = 7
    TD_PARAMS = 8


class Section(msgspec.Struct, frozen=True):
    """One TDVF section.

    Attributes:
        index: its place in the metadata.
        type: what it is.
        data_offset: offset of its content in the image, bytes.
        raw_size: size of its content in the image, bytes; 0 if it has none.
        gpa: guest physical address, 4 KiB aligned.
        memory_size: size in guest memory, bytes, a multiple of 4 KiB.
        attributes: bit 0 MR.EXTEND, bit 1 PAGE.AUG.
    """

    index: int
    type: SectionType
    data_offset: int
    raw_size: int
    gpa: int
    memory_size: int
    attributes: int

    @property
    def extended(self) -> bool:
        """Whether the content is measured into MRTD."""
        return bool(self.attributes & MR_EXTEND)

    @property
    def augmented(self) -> bool:
        """Whether its memory is added at run time, and so is no part of MRTD."""
        return bool(self.attributes & PAGE_AUG)

    @property
    def end(self) -> int:
        """First guest physical address after it."""
        return self.gpa + self.memory_size

    def content(self, image: memoryview) -> memoryview:
        """Its bytes in the image, without the zeros that fill its memory."""
        return image[self.data_offset : self.data_offset + self.raw_size]


class Tdvf(msgspec.Struct, frozen=True):
    """The TDX metadata of a firmware image.

    Attributes:
        origin: the file it came from.
        sections: in the order of the metadata, which is the order of the TD build.
    """

    origin: str
    sections: tuple[Section, ...]

    def of_type(self, kind: SectionType) -> tuple[Section, ...]:
        """The sections of one type."""
        return tuple(s for s in self.sections if s.type is kind)


def read_tdvf(image: memoryview, *, origin: str) -> Tdvf:
    """Read the TDX metadata of a firmware image.

    Args:
        image: the whole file as given to the VMM.
        origin: its name, for messages.

    Raises:
        MalformedFirmware: no metadata, or metadata that breaks the format; for a file that holds
            the code only (OVMF_CODE*.fd), with the remedy.
    """
    offset = _metadata_offset(image, origin)
    reader = Reader(image, origin=origin, error=MalformedFirmware)
    reader.seek(offset, "TDX metadata")
    signature = bytes(reader.take(4, "TDX metadata signature"))
    if signature != b"TDVF":
        raise reader.fail(f"{signature!r} is not 'TDVF'", "TDX metadata signature")
    length = reader.u32("TDX metadata length")
    version = reader.u32("TDX metadata version")
    if version != 1:
        raise reader.fail(f"{version} is not 1", "TDX metadata version")
    count = reader.u32("number of TDVF sections")
    if not 0 < count <= _MAX_SECTIONS:
        raise reader.fail(f"{count} is not in 1..{_MAX_SECTIONS}", "number of TDVF sections")
    if length != _DESCRIPTOR + count * _SECTION:
        raise reader.fail(f"{length} does not fit {count} sections", "TDX metadata length")
    sections = tuple(_read_section(reader, index, len(image)) for index in range(count))
    _check_layout(sections, origin)
    return Tdvf(origin, sections)


def _metadata_offset(image: memoryview, origin: str) -> int:
    """Offset of the descriptor: by the GUIDed table, else by the legacy absolute offset."""
    entry = _table_entry(image, OVMF_TDX_METADATA_OFFSET, origin)
    if entry is not None:
        start, data = entry
        if len(data) != 4:
            raise MalformedFirmware(
                f"{len(data)} bytes, not 4", origin=origin, offset=start, field="TDX table entry"
            )
        from_end = int.from_bytes(data, "little")
        if not _DESCRIPTOR <= from_end <= len(image):
            raise MalformedFirmware(
                f"{from_end:#x} before the end is outside the file",
                origin=origin,
                offset=start,
                field="TDX metadata offset",
            )
        return len(image) - from_end
    # cloud-hypervisor and old TDVF: absolute file offset 0x20 before the end (td-shim keeps both)
    if len(image) >= _TABLE_END_TO_EOF:
        absolute = int.from_bytes(image[-0x20:-0x1C], "little")
        if bytes(image[absolute : absolute + 4]) == b"TDVF":
            return absolute
    raise MalformedFirmware(
        "no TDX metadata: this file cannot launch a TD",
        origin=origin,
        hint="use a TDVF build such as Debian's OVMF.fd or OVMF.inteltdx.fd, not a VARS file",
    )


def _table_entry(image: memoryview, wanted: bytes, origin: str) -> tuple[int, memoryview] | None:
    """Offset and data of an entry of OVMF's GUIDed structure table, which grows downwards."""
    end = len(image) - _TABLE_END_TO_EOF
    if end < _TABLE_ENTRY_HEADER or image[end - 16 : end] != OVMF_TABLE_FOOTER:
        return None
    total = int.from_bytes(image[end - 18 : end - 16], "little")
    if not _TABLE_ENTRY_HEADER <= total <= end:
        raise MalformedFirmware(
            f"{total} bytes do not fit", origin=origin, offset=end - 18, field="GUIDed table length"
        )
    start, end = end - total, end - _TABLE_ENTRY_HEADER
    while end > start:
        length = int.from_bytes(image[end - 18 : end - 16], "little") if end - start >= 18 else 0
        if not _TABLE_ENTRY_HEADER <= length <= end - start:
            raise MalformedFirmware(
                f"{length} bytes where {end - start} are left",
                origin=origin,
                offset=max(end - 18, 0),
                field="GUIDed table entry length",
            )
        if image[end - 16 : end] == wanted:
            return end - length, image[end - length : end - _TABLE_ENTRY_HEADER]
        end -= length
    return None


def _read_section(reader: Reader, index: int, image_size: int) -> Section:
    name = f"TDVF section {index}"
    data_offset = reader.u32(f"{name} data offset")
    raw_size = reader.u32(f"{name} raw size")
    gpa = reader.u64(f"{name} memory address")
    memory_size = reader.u64(f"{name} memory size")
    number = reader.u32(f"{name} type")
    attributes = reader.u32(f"{name} attributes")
    if number not in SectionType.__members__.values():
        raise reader.fail(f"{number} is not a known section type", f"{name} type")
    kind = SectionType(number)
    name = f"{name} ({kind.name})"
    section = Section(index, kind, data_offset, raw_size, gpa, memory_size, attributes)
    _check_section(section, reader, name, image_size)
    return section


def _check_section(section: Section, reader: Reader, name: str, image_size: int) -> None:
    if section.attributes & ~(MR_EXTEND | PAGE_AUG):
        raise reader.fail(f"unknown bits in {section.attributes:#x}", f"{name} attributes")
    if section.data_offset + section.raw_size > image_size:
        raise reader.fail(
            f"content ends at {section.data_offset + section.raw_size:#x}, after the file "
            f"({image_size:#x})",
            name,
            hint="a file with the code only (OVMF_CODE*.fd) has no MRTD: put its VARS file in "
            "front of it (cat OVMF_VARS.fd OVMF_CODE.fd; --vars or firmware.vars does it)",
        )
    if section.gpa % PAGE or section.memory_size % PAGE:
        raise reader.fail(f"{section.gpa:#x}+{section.memory_size:#x} is not 4 KiB aligned", name)
    if section.end > _GPA_LIMIT:
        raise reader.fail(
            f"{section.gpa:#x}+{section.memory_size:#x} is no guest physical address", name
        )
    if section.raw_size > section.memory_size and section.type is not SectionType.TD_INFO:
        raise reader.fail(
            f"{section.raw_size:#x} bytes do not fit its memory ({section.memory_size:#x})", name
        )
    if section.type in {SectionType.BFV, SectionType.CFV} and not section.raw_size:
        raise reader.fail("has no content", name)
    if section.type in {SectionType.TEMP_MEM, SectionType.TD_HOB} and (
        section.raw_size or not section.memory_size
    ):
        raise reader.fail("must have memory and no content", name)


def _check_layout(sections: tuple[Section, ...], origin: str) -> None:
    def refuse(field: str, message: str) -> MalformedFirmware:
        return MalformedFirmware(message, origin=origin, field=field)

    if not any(s.type is SectionType.BFV for s in sections):
        raise refuse("TDVF sections", "no boot firmware volume (BFV)")
    if sum(s.type is SectionType.TD_HOB for s in sections) > 1:
        raise refuse("TDVF sections", "more than one TD_HOB")
    placed = sorted((s for s in sections if s.memory_size), key=lambda s: s.gpa)
    for before, after in itertools.pairwise(placed):
        if before.end > after.gpa:
            raise refuse(
                f"TDVF section {after.index} ({after.type.name})",
                f"{after.gpa:#x} overlaps section {before.index} ({before.type.name}), "
                f"which ends at {before.end:#x}",
            )
