"""Fold an event log into the registers that it leaves behind."""

from __future__ import annotations

from collections.abc import Iterable

from mrtd.eventlog.event import Event, EventType
from mrtd.registers import ZERO, Exact, RegisterName, Rule, Sha384, Unpinned, extend


def replay(log: Iterable[Event]) -> dict[RegisterName, Rule]:
    """The register values after the log, for each register that the log names.

    A register with an event that cannot be predicted is `Unpinned`, with the reasons of all such
    events. EV_NO_ACTION events and events of MRTD are informative and extend nothing
    (TCG PC Client Platform Firmware Profile, "EV_NO_ACTION"; MRTD is final before the TD runs).
    """
    values: dict[RegisterName, Rule] = {}
    for event in log:
        if event.type == EventType.EV_NO_ACTION or event.register is RegisterName.MRTD:
            continue
        before = values.get(event.register, Exact(ZERO))
        values[event.register] = _fold(before, event.digest)
    return values


def _fold(before: Rule, digest: Sha384 | Unpinned) -> Rule:
    match before, digest:
        case Exact(value), Sha384():
            return Exact(extend(value, digest))
        case Exact(), Unpinned():
            return digest
        case Unpinned(reason), Unpinned() if digest.reason not in reason.split("; "):
            return Unpinned(f"{reason}; {digest.reason}")
        case _:
            return before
