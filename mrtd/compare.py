"""Compare two sides of a launch: register by register, event by event, each difference with what
it depends on.

    expected Side + observed Side --compare_sides--> Comparison
"""

from __future__ import annotations

from enum import StrEnum

import msgspec

from mrtd.eventlog import Event
from mrtd.registers import RegisterName, Rule, Target
from mrtd.side import Side


class Outcome(StrEnum):
    """Result for one register."""

    MATCH = "match"
    DIFFERS = "differs"
    NOT_COMPARED = "not compared"


class RowOutcome(StrEnum):
    """Result for one row of an event table."""

    MATCH = "match"
    DIFFERS = "differs"
    ONLY_EXPECTED = "only expected"
    ONLY_OBSERVED = "only observed"
    NOT_PREDICTED = "not predicted"
    """Both sides have the event; one does not know its digest (`mrtd.registers.Unpinned`)."""


class Dependence(msgspec.Struct, frozen=True):
    """An input that a difference can come from.

    Attributes:
        code: stable name for programs: ``memory``, ``vcpus``, ``devices``, ``variables``,
            ``kernel``, ``initrd``, ``cmdline``, ``profile``, ``header_patch``, ``page_order``, ...
        text: what to look at, one sentence for people.
    """

    code: str
    text: str


class EventRow(msgspec.Struct, frozen=True):
    """One row of two aligned logs.

    Attributes:
        outcome: how the two compare.
        expected: the expected event; None if there is none.
        observed: the observed event; None if there is none.
        expected_index: its place among the expected events of the register, from 0.
        observed_index: its place among the observed events of the register, from 0.
        depends: what a difference can come from, likeliest first; empty where nothing differs.
    """

    outcome: RowOutcome
    expected: Event | None
    observed: Event | None
    expected_index: int | None
    observed_index: int | None
    depends: tuple[Dependence, ...] = ()


class RegisterComparison(msgspec.Struct, frozen=True):
    """One register, on both sides.

    Attributes:
        name: the register.
        outcome: how the values compare.
        expected: what is expected; None if that side says nothing about it.
        observed: what is observed; None if that side says nothing about it.
        reason: why it is no match, or was not compared; one sentence, empty for a match.
        rows: the aligned events; empty unless both sides have a log.
        depends: what a difference of the whole register can come from, where the events do not
            say it (MRTD; a side without a log).
    """

    name: RegisterName
    outcome: Outcome
    expected: Rule | None
    observed: Rule | None
    reason: str = ""
    rows: tuple[EventRow, ...] = ()
    depends: tuple[Dependence, ...] = ()


class Caution(msgspec.Struct, frozen=True):
    """What makes a comparison weaker than it looks: stable code, sentence, the side it is about."""

    code: str
    text: str
    side: str


class Comparison(msgspec.Struct, frozen=True):
    """Two sides, compared.

    Attributes:
        expected: where the expectation came from.
        observed: where the observation came from.
        target: whose registers these are.
        matches: at least one register matches, and none differs.
        registers: the registers in their order.
        warnings: log and quote of a side contradict each other, and the like.
    """

    expected: Side
    observed: Side
    target: Target
    matches: bool
    registers: tuple[RegisterComparison, ...]
    warnings: tuple[Caution, ...] = ()
