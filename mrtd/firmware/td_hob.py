"""The TD HOB: the memory map that QEMU hands to the firmware of a TD, measured into RTMR0.

Sources: qemu hw/i386/tdvf-hob.c and target/i386/kvm/tdx.c (what is written), edk2
OvmfPkg/Library/TdxHelperLib (what is measured: from the list's start up to its end HOB);
UEFI PI 1.8 vol. 3 chapter 5 (HOB layouts).
"""

from __future__ import annotations

from typing import Final

import msgspec

from mrtd.errors import InputError, MalformedFirmware
from mrtd.firmware.tdvf import SectionType, Tdvf

_HOB_HANDOFF: Final = 1
_HOB_RESOURCE: Final = 3
_HANDOFF_SIZE: Final = 56
_RESOURCE_SIZE: Final = 48
_END_SIZE: Final = 8
_HANDOFF_VERSION: Final = 9
_SYSTEM_MEMORY: Final = 0
_UNACCEPTED_MEMORY: Final = 7
_ATTRIBUTES: Final = 7  # present, initialized, tested

# qemu hw/i386/pc_q35.c pc_q35_init: RAM from 2.75 GiB on keeps 2 GiB below 4 GiB.
_LOW_RAM_LIMIT: Final = 0xB0000000
_LOW_RAM_SPLIT: Final = 0x80000000
_FOUR_GIB: Final = 1 << 32


class MemoryRange(msgspec.Struct, frozen=True):
    """Guest memory ``[start, end)`` in bytes, accepted by the VMM at build time or not."""

    start: int
    end: int
    accepted: bool


def below_4g(memory: int) -> int:
    """How many bytes of RAM a q35 machine has below 4 GiB."""
    return _LOW_RAM_SPLIT if memory >= _LOW_RAM_LIMIT else memory


def memory_map(tdvf: Tdvf, memory: int) -> tuple[MemoryRange, ...]:
    """The RAM of a q35 TD in address order, cut at the ranges accepted at build time.

    Accepted are the TD_HOB and TEMP_MEM sections; neighbours are not merged (tdvf-hob.c).

    Args:
        tdvf: the firmware's layout.
        memory: guest memory in bytes.

    Raises:
        InputError: a section lies outside the guest's memory.
    """
    low = below_4g(memory)
    accepted = sorted(
        (s for s in tdvf.sections if s.type in {SectionType.TD_HOB, SectionType.TEMP_MEM}),
        key=lambda s: s.gpa,
    )
    ranges: list[MemoryRange] = []
    start = 0
    for section in accepted:
        if section.end > low:
            raise InputError(
                f"{memory:#x} bytes of memory do not reach TDVF section {section.index} "
                f"({section.type.name}) at {section.gpa:#x}..{section.end:#x}",
                origin=tdvf.origin,
                field="machine.memory",
            )
        if section.gpa > start:
            ranges.append(MemoryRange(start, section.gpa, accepted=False))
        ranges.append(MemoryRange(section.gpa, section.end, accepted=True))
        start = section.end
    if start < low:
        ranges.append(MemoryRange(start, low, accepted=False))
    if memory > low:
        ranges.append(MemoryRange(_FOUR_GIB, _FOUR_GIB + memory - low, accepted=False))
    return tuple(ranges)


def td_hob(tdvf: Tdvf, memory: int) -> bytes:
    """The measured bytes of the TD HOB: hand-off HOB and resource HOBs, without the end HOB.

    Args:
        tdvf: the firmware's layout.
        memory: guest memory in bytes.

    Raises:
        MalformedFirmware: the firmware has no TD_HOB section, or it is too small.
        InputError: a section lies outside the guest's memory.
    """
    sections = tdvf.of_type(SectionType.TD_HOB)
    if not sections:
        raise MalformedFirmware("no TD_HOB section", origin=tdvf.origin, field="TDVF sections")
    ranges = memory_map(tdvf, memory)
    size = _HANDOFF_SIZE + _RESOURCE_SIZE * len(ranges)
    if size + _END_SIZE > sections[0].memory_size:
        raise MalformedFirmware(
            f"{size + _END_SIZE} bytes of HOBs do not fit its memory",
            origin=tdvf.origin,
            field=f"TDVF section {sections[0].index} (TD_HOB)",
        )
    hob = bytearray()
    hob += _header(_HOB_HANDOFF, _HANDOFF_SIZE)
    hob += _HANDOFF_VERSION.to_bytes(4, "little")
    hob += bytes(4 + 4 * 8)  # boot mode, memory top and bottom, free memory top and bottom
    hob += (sections[0].gpa + size + _END_SIZE).to_bytes(8, "little")
    for part in ranges:
        hob += _header(_HOB_RESOURCE, _RESOURCE_SIZE)
        hob += bytes(16)  # owner
        hob += (_SYSTEM_MEMORY if part.accepted else _UNACCEPTED_MEMORY).to_bytes(4, "little")
        hob += _ATTRIBUTES.to_bytes(4, "little")
        hob += part.start.to_bytes(8, "little") + (part.end - part.start).to_bytes(8, "little")
    return bytes(hob)


def _header(kind: int, size: int) -> bytes:
    return kind.to_bytes(2, "little") + size.to_bytes(2, "little") + bytes(4)
