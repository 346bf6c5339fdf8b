"""What the register index of a TD's log means, and how that shows in the log itself.

edk2 before stable202302 wrote the number of the run-time register (RTMRn as n) where UEFI 2.10
38.4.1 wants that of the measurement register (RTMRn as n + 1, 0 is MRTD); edk2 fb91d6cbd0 corrected
it. Read in the wrong way such a log replays to other values, or to none: nothing is guessed here
silently, the caller says which it is or asks for detection and is told the evidence.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from typing import Final

import msgspec

from mrtd.eventlog.event import EventType
from mrtd.registers import RegisterName


class RegisterNumbering(StrEnum):
    """How CCEL numbers registers."""

    MR = "mr"
    """0 is MRTD, n + 1 is RTMRn (UEFI 2.10 38.4.1)."""
    RTMR = "rtmr"
    """n is RTMRn (edk2 before stable202302)."""
    DETECT = "detect"
    """Whatever the log's own events show; `MR` where they show nothing."""


class NumberingEvidence(msgspec.Struct, frozen=True):
    """What a log shows.

    Attributes:
        numbering: `MR` or `RTMR`; None if no event tells, or if events contradict each other.
        evidence: which event tells, for a person; or why none does.
    """

    numbering: RegisterNumbering | None
    evidence: str


CC_REGISTERS: Final = (
    RegisterName.MRTD,
    RegisterName.RTMR0,
    RegisterName.RTMR1,
    RegisterName.RTMR2,
    RegisterName.RTMR3,
)

# Events whose register no firmware is free to choose, and the index they have by UEFI 2.10: Secure
# Boot policy is PCR 7 (PFP 1.06, 3.3.4.8), thus RTMR0; the TD HOB is RTMR0 (edk2
# PeilessStartupLib); boot applications are PCR 4, thus RTMR1.
_FIXED: Final = {
    EventType.EV_EFI_VARIABLE_DRIVER_CONFIG: 1,
    EventType.EV_EFI_VARIABLE_AUTHORITY: 1,
    EventType.EV_EFI_HANDOFF_TABLES2: 1,
    EventType.EV_EFI_BOOT_SERVICES_APPLICATION: 2,
}


def numbering_of(records: Iterable[tuple[int, int]]) -> NumberingEvidence:
    """Which numbering the events of a TD's log follow.

    Args:
        records: register index and event type of each event.
    """
    shown: dict[RegisterNumbering, str] = {}
    for index, kind in records:
        if kind not in _FIXED:
            continue
        right = _FIXED[EventType(kind)]
        name = EventType(kind).name
        if index == right:
            found = RegisterNumbering.MR
        elif index == right - 1:
            found = RegisterNumbering.RTMR
        else:
            continue
        register = CC_REGISTERS[right].upper()
        shown.setdefault(found, f"{name}, always an event of {register}, has index {index}")
    if len(shown) > 1:
        return NumberingEvidence(None, f"events contradict each other: {'; '.join(shown.values())}")
    for numbering, evidence in shown.items():
        return NumberingEvidence(numbering, evidence)
    return NumberingEvidence(None, "no event is of a type whose register is fixed")
