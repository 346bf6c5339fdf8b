"""The TD build: which pages a VMM adds to a new TD and measures, and the MRTD they fold to.

Source: Intel TDX Module Base Architecture Specification, TDH.MEM.PAGE.ADD and TDH.MR.EXTEND
(the records that they hash); TDVF Design Guide and td-shim specification (which sections).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Final

import msgspec

from mrtd.errors import MalformedFirmware
from mrtd.firmware.tdvf import PAGE, Section, SectionType, Tdvf
from mrtd.launch.spec import PageOrder
from mrtd.registers import Sha384

_CHUNK: Final = 256  # bytes measured by one TDH.MR.EXTEND
_RECORD: Final = 128
_CHUNKS: Final = PAGE // _CHUNK
_EXTEND: Final = _RECORD + _CHUNK
_GPA: Final = 16  # offset of the u64 GPA in a record
_PAGE_ADD: Final = b"MEM.PAGE.ADD".ljust(_RECORD, b"\0")
_MR_EXTEND: Final = b"MR.EXTEND".ljust(_EXTEND, b"\0")
_BATCH: Final = 64  # pages whose records are hashed with one call
# Far above any real TDVF; a bound on the work that a hostile size field can ask for.
_MAX_ADDED: Final = 1 << 30


class BuildPass(StrEnum):
    """What happens to the pages of a section in one pass."""

    ADD = "add"
    EXTEND = "extend"
    ADD_EXTEND = "add+extend"


class TdBuildStep(msgspec.Struct, frozen=True):
    """One pass over one section's pages, ascending: an entry of the `TdBuild` log."""

    section: Section
    build_pass: BuildPass


class TdBuild(msgspec.Struct, frozen=True):
    """The log of a TD build; `fold` makes MRTD of it.

    Attributes:
        page_order: whether a page is extended right after it is added, or after its section.
        steps: in order.
    """

    page_order: PageOrder
    steps: tuple[TdBuildStep, ...]


def td_build(tdvf: Tdvf, page_order: PageOrder) -> TdBuild:
    """The build of a TD from a firmware image.

    Every section with memory is page-added in metadata order, except those that are added at run
    time (PAGE.AUG); those with MR.EXTEND are measured with their content.

    Raises:
        MalformedFirmware: sections ask for more than 1 GiB of initial memory.
    """
    steps: list[TdBuildStep] = []
    added = 0
    for section in tdvf.sections:
        if not section.memory_size or section.augmented or section.type is SectionType.TD_INFO:
            continue
        added += section.memory_size
        if added > _MAX_ADDED:
            raise MalformedFirmware(
                f"asks for {added:#x} bytes of initial memory, more than {_MAX_ADDED:#x}",
                origin=tdvf.origin,
                field=f"TDVF section {section.index} ({section.type.name})",
            )
        if not section.extended:
            steps.append(TdBuildStep(section, BuildPass.ADD))
        elif page_order is PageOrder.PER_PAGE:
            steps.append(TdBuildStep(section, BuildPass.ADD_EXTEND))
        else:
            steps.append(TdBuildStep(section, BuildPass.ADD))
            steps.append(TdBuildStep(section, BuildPass.EXTEND))
    return TdBuild(page_order, tuple(steps))


def fold(
    build: TdBuild, image: memoryview, *, supplied: Mapping[int, bytes] = MappingProxyType({})
) -> Sha384:
    """MRTD: one SHA-384 stream over the records of the build.

    Args:
        build: the log of the build.
        image: the firmware image that its sections point into; it is not copied.
        supplied: content that the VMM puts into sections, by their index.
    """
    state = hashlib.sha384()
    for step in build.steps:
        section = step.section
        if step.build_pass is BuildPass.ADD:
            _add_pages(state, section)
        else:
            given = supplied.get(section.index)
            content = section.content(image) if given is None else memoryview(given)
            with_add = step.build_pass is BuildPass.ADD_EXTEND
            _extend_pages(state, section, content, with_add=with_add)
    return Sha384(state.digest())


def _add_pages(state: hashlib._Hash, section: Section) -> None:
    """PAGE.ADD records: ``"MEM.PAGE.ADD"`` | zeros to 16 | u64 GPA | zeros to 128."""
    record = bytearray(_PAGE_ADD)
    for gpa in range(section.gpa, section.end, PAGE):
        record[_GPA : _GPA + 8] = gpa.to_bytes(8, "little")
        state.update(record)


def _extend_pages(
    state: hashlib._Hash, section: Section, content: memoryview, *, with_add: bool
) -> None:
    """MR.EXTEND records: ``"MR.EXTEND"`` | zeros to 16 | u64 GPA | zeros to 128 | 256 bytes.

    The records of some pages are laid out in one buffer and hashed with one call: 14,000 calls, one
    for each chunk of a 4 MiB firmware, would cost more than the hashing.
    """
    page_records = _PAGE_ADD + _MR_EXTEND * _CHUNKS if with_add else _MR_EXTEND * _CHUNKS
    records = bytearray(page_records * _BATCH)
    for first in range(section.gpa, section.end, _BATCH * PAGE):
        pages = range(first, min(first + _BATCH * PAGE, section.end), PAGE)
        _write_addresses(records, pages, len(page_records))
        at = first - section.gpa
        data = content[at : at + len(pages) * PAGE]
        if len(data) < len(pages) * PAGE:  # memory beyond the content is zero
            data = memoryview(bytes(data).ljust(len(pages) * PAGE, b"\0"))
        _write_content(records, data, len(page_records))
        state.update(memoryview(records)[: len(pages) * len(page_records)])


def _write_addresses(records: bytearray, pages: range, stride: int) -> None:
    """Write the GPA of every record: byte by byte, each for all pages at once.

    The GPA of a chunk is its page's with the chunk's number in bits 8..11; the other bytes are the
    page's, in the PAGE.ADD record too.
    """
    end = len(pages) * stride
    skip = stride - _CHUNKS * _EXTEND  # the PAGE.ADD record, or nothing
    starts = [*range(0, skip, _RECORD), *range(skip, stride, _EXTEND)]
    for byte in range(1, 8):
        values = bytes(gpa >> 8 * byte & 0xFF for gpa in pages)
        for start in starts:
            if byte == 1 and start >= skip:
                chunk = (start - skip) // _EXTEND
                records[start + _GPA + byte : end : stride] = bytes(v | chunk for v in values)
            else:
                records[start + _GPA + byte : end : stride] = values


def _write_content(records: bytearray, data: memoryview, stride: int) -> None:
    """Write 256 bytes of content into each MR.EXTEND record."""
    skip = stride - _CHUNKS * _EXTEND
    at = 0
    for page in range(0, len(data) // PAGE * stride, stride):
        for start in range(page + skip + _RECORD, page + stride, _EXTEND):
            records[start : start + _CHUNK] = data[at : at + _CHUNK]
            at += _CHUNK
