"""Memory sizes by TD HOB digest: hashing every plausible size is cheap."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import msgspec

from mrtd.document import MeasurementDocument
from mrtd.errors import InputError
from mrtd.firmware.td_hob import td_hob
from mrtd.firmware.tdvf import Section, SectionType, Tdvf
from mrtd.registers import Sha384

_MIB: Final = 1 << 20
_GIB: Final = 1 << 30


class MemoryMatch(msgspec.Struct, frozen=True):
    """A memory size and the TDVF layout with which a TD HOB has a digest."""

    memory: int
    layout: str


def memory_sizes() -> Iterator[int]:
    """Plausible sizes in bytes: multiples of 64 MiB up to 8 GiB, of 1 GiB up to 2 TiB."""
    yield from range(64 * _MIB, 8 * _GIB, 64 * _MIB)
    yield from range(8 * _GIB, 2048 * _GIB + 1, _GIB)


def hob_digests(tdvf: Tdvf) -> dict[Sha384, int]:
    """Memory size in bytes by the digest of its TD HOB, for each size that the layout allows."""
    found: dict[Sha384, int] = {}
    for memory in memory_sizes():
        try:
            found.setdefault(Sha384.of(td_hob(tdvf, memory)), memory)
        except InputError:
            continue  # a section lies outside so little memory, or there is no TD_HOB
    return found


def memory_of_hob(digest: Sha384, layouts: tuple[Tdvf, ...]) -> tuple[MemoryMatch | None, int]:
    """Which size and layout give a TD HOB digest, if any; and how many were tried."""
    tried = 0
    for tdvf in layouts:
        table = hob_digests(tdvf)
        tried += len(table)
        if digest in table:
            return MemoryMatch(table[digest], tdvf.origin), tried
    return None, tried


def shown_memory(memory: int) -> str:
    """``2 GiB``, ``1536 MiB``, or the bytes."""
    for unit, name in ((_GIB, "GiB"), (_MIB, "MiB")):
        if memory % unit == 0:
            return f"{memory // unit} {name}"
    return f"{memory:#x} bytes"


def _layout(name: str, *temporary: tuple[int, int]) -> Tdvf:
    common = ((0x80B000, 0x2000), (0x800000, 0x6000))
    sections = [Section(0, SectionType.TD_HOB, 0, 0, 0x809000, 0x2000, 0)]
    for gpa, size in (*temporary, *common):
        sections.append(Section(len(sections), SectionType.TEMP_MEM, 0, 0, gpa, size, 0))
    return Tdvf(name, tuple(sections))


LAYOUTS: Final = (
    _layout("layout 0x810000 (edk2 202211 to 202411; IntelTdxX64)", (0x810000, 0x10000)),
    _layout("layout 0x811000 (edk2 202502)", (0x811000, 0xF000)),
    _layout("layout 0x814000 (edk2 202608)", (0x814000, 0xC000), (0x820000, 0x10000)),
)
"""TEMP_MEM layouts of OVMF builds: metadata of Debian 2022.11, 2025.02 and 2026.08 images, and of
the TDs whose logs have these digests."""


def layout_of_document(document: MeasurementDocument) -> Tdvf | None:
    """The layout that a measurement document's TD build shows; None if it has none."""
    seen: dict[int, Section] = {}
    for step in document.td_build:
        if step.type in SectionType.__members__:
            kind = SectionType[step.type]
            seen[step.section] = Section(step.section, kind, 0, 0, step.gpa, step.memory_size, 0)
    return Tdvf("its TD build", tuple(seen.values())) if seen else None
