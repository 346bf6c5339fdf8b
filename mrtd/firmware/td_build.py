"""The TD build: which pages a VMM adds to a new TD and measures, and the MRTD they fold to.

Source: Intel TDX Module Base Architecture Specification, TDH.MEM.PAGE.ADD and TDH.MR.EXTEND
(the records that they hash); TDVF Design Guide and td-shim specification (which sections).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from mrtd.errors import MalformedFirmware
from mrtd.firmware.tdvf import PAGE, Section, SectionType, Tdvf
from mrtd.launch.spec import PageOrder
from mrtd.registers import Sha384

_CHUNK: Final = 256  # bytes measured by one TDH.MR.EXTEND
_RECORD: Final = 128
_CHUNKS: Final = PAGE // _CHUNK
_EXTEND: Final = _RECORD + _CHUNK
_GPA: Final = slice(16, 24)  # of a record
# Far above any real TDVF; a bound on the work that a hostile size field can ask for.
_MAX_ADDED: Final = 1 << 30


class BuildPass(StrEnum):
    """What happens to the pages of a section in one pass."""

    ADD = "add"
    EXTEND = "extend"
    ADD_EXTEND = "add+extend"


@dataclass(frozen=True, slots=True)
class TdBuildStep:
    """One pass over one section's pages, ascending: an entry of the `TdBuild` log."""

    section: Section
    build_pass: BuildPass


@dataclass(frozen=True, slots=True)
class TdBuild:
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


def fold(build: TdBuild, image: memoryview) -> Sha384:
    """MRTD: one SHA-384 stream over the records of the build.

    Args:
        build: the log of the build.
        image: the firmware image that its sections point into; it is not copied.
    """
    state = hashlib.sha384()
    for step in build.steps:
        section = step.section
        if step.build_pass is BuildPass.ADD:
            _add_pages(state, section)
        else:
            _extend_pages(state, section, image, with_add=step.build_pass is BuildPass.ADD_EXTEND)
    return Sha384(state.digest())


def _add_pages(state: hashlib._Hash, section: Section) -> None:
    """PAGE.ADD records: ``"MEM.PAGE.ADD"`` | zeros to 16 | u64 GPA | zeros to 128."""
    record = bytearray(b"MEM.PAGE.ADD".ljust(_RECORD, b"\0"))
    for gpa in range(section.gpa, section.end, PAGE):
        record[_GPA] = gpa.to_bytes(8, "little")
        state.update(record)


def _extend_pages(
    state: hashlib._Hash, section: Section, image: memoryview, *, with_add: bool
) -> None:
    """MR.EXTEND records: ``"MR.EXTEND"`` | zeros to 16 | u64 GPA | zeros to 128 | 256 bytes.

    The records of one page are laid out in one buffer and hashed with one call: a hash call for
    each of 14,000 chunks would cost more than the hashing.
    """
    page_records = bytearray(b"MEM.PAGE.ADD".ljust(_RECORD, b"\0"))
    page_records += b"MR.EXTEND".ljust(_EXTEND, b"\0") * _CHUNKS
    skip = 0 if with_add else _RECORD
    content = section.content(image)
    hashed = memoryview(page_records)[skip:]
    starts = [_RECORD + _EXTEND * i for i in range(_CHUNKS)]
    for gpa in range(section.gpa, section.end, PAGE):
        page_records[_GPA] = gpa.to_bytes(8, "little")
        page = content[gpa - section.gpa : gpa - section.gpa + PAGE]
        if len(page) < PAGE:  # memory beyond the content is zero
            page = memoryview(bytes(page).ljust(PAGE, b"\0"))
        chunk = 0
        for start in starts:
            page_records[start + 16 : start + 24] = (gpa + chunk).to_bytes(8, "little")
            page_records[start + _RECORD : start + _EXTEND] = page[chunk : chunk + _CHUNK]
            chunk += _CHUNK
        state.update(hashed)
