"""One side of a comparison: what is known of a launch, whoever said it.

A derivation, a measurement document, an event log, a quote and an evidence bundle say different
amounts about a launch; a `Side` is what they have in common. `mrtd.sources` makes them from files.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec

from mrtd.eventlog import EventLog
from mrtd.launch.spec import LaunchSpec, PageOrder
from mrtd.registers import RegisterName, Rule, Target


class SideKind(StrEnum):
    """What a side was read from."""

    SPEC = "launch spec"
    DOCUMENT = "measurement document"
    REFERENCE = "reference values"
    EVENT_LOG = "event log"
    QUOTE = "quote"
    BUNDLE = "evidence bundle"
    COMBINED = "several files"


class Side(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of one launch.

    Attributes:
        origin: the file (or files) it was read from.
        kind: what that is.
        target: whose registers these are.
        registers: the registers that are known; a quote's where there is a quote, else what the
            log folds to. A register that is missing is one that this side says nothing about.
        log: the events; None if only registers are known. Without its Spec ID record.
        replayed: what the log folds to, where the registers are a quote's; else empty.
        page_order: the order of the TD build behind MRTD, where it is known.
        spec: the launch spec, where one is known.
        facts: what its inputs are, as far as it says: code of `mrtd.depends.TEXTS` to a text that
            is equal for equal inputs. A code that is missing is not known; "" is known absence.
        notes: what else the reader has to know of this side, one sentence each.
    """

    origin: str
    kind: SideKind
    target: Target
    registers: dict[RegisterName, Rule]
    log: EventLog | None = None
    replayed: dict[RegisterName, Rule] = {}
    page_order: PageOrder | None = None
    spec: LaunchSpec | None = None
    facts: dict[str, str] = {}
    notes: tuple[str, ...] = ()
