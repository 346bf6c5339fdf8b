"""Compare two sides of a launch: register by register, event by event, each difference with what
it depends on.

    expected Side + observed Side --compare_sides--> Comparison
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum
from typing import Final

import msgspec

from mrtd.align import align
from mrtd.depends import Dependence, of_event, of_register
from mrtd.errors import MalformedDocument
from mrtd.eventlog import Event, EventLog, EventType
from mrtd.registers import LAUNCH_REGISTERS, Exact, RegisterName, Rule, Target, Unpinned
from mrtd.side import Side, SideKind
from mrtd.subject import subjects_of


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


DIFFERENCES: Final = frozenset(
    {RowOutcome.DIFFERS, RowOutcome.ONLY_EXPECTED, RowOutcome.ONLY_OBSERVED}
)


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
        cautions: log and quote of a side contradict each other, and the like.
    """

    expected: Side
    observed: Side
    target: Target
    matches: bool
    registers: tuple[RegisterComparison, ...]
    cautions: tuple[Caution, ...] = ()


def compare_sides(expected: Side, observed: Side) -> Comparison:
    """Compare two sides.

    Registers are compared where both sides know the value. Where one does not, known events can
    still show that it differs; else it is not compared, which is never a match.

    Raises:
        MalformedDocument: one side is a TD, the other a VM with a TPM.
    """
    if expected.target is not observed.target:
        raise MalformedDocument(
            f"has registers of target {observed.target}, while {expected.origin} has those of "
            f"target {expected.target}",
            origin=observed.origin,
            hint="--target derives a launch spec for the other target",
        )
    names = [n for n in RegisterName if n in expected.registers or n in observed.registers]
    found = tuple(_Register(expected, observed, name).compare() for name in names)
    outcomes = {register.outcome for register in found}
    return Comparison(
        expected=expected,
        observed=observed,
        target=expected.target,
        matches=Outcome.MATCH in outcomes and Outcome.DIFFERS not in outcomes,
        registers=found,
        cautions=(
            *_contradictions("expected", expected),
            *_contradictions("observed", observed),
            *_weak(found),
        ),
    )


def extended(log: EventLog, name: RegisterName) -> EventLog:
    """The events of a log that extend a register, which are those that rows number."""
    return tuple(
        event for event in log if event.register is name and event.type != EventType.EV_NO_ACTION
    )


class _Register:
    """The comparison of one register."""

    def __init__(self, expected: Side, observed: Side, name: RegisterName) -> None:
        self.sides = (expected, observed)
        self.name = name
        self.wanted = expected.registers.get(name)
        self.found = observed.registers.get(name)

    def compare(self) -> RegisterComparison:
        rows = self.rows()
        outcome, reason = self.verdict(rows)
        explained = any(row.depends for row in rows)
        differs = outcome is Outcome.DIFFERS
        return RegisterComparison(
            name=self.name,
            outcome=outcome,
            expected=self.wanted,
            observed=self.found,
            reason=reason,
            rows=rows,
            depends=of_register(self.name, sides=self.sides) if differs and not explained else (),
        )

    def rows(self) -> tuple[EventRow, ...]:
        expected, observed = (side.log for side in self.sides)
        if expected is None or observed is None:
            return ()
        return compare_events(
            extended(expected, self.name), extended(observed, self.name), sides=self.sides
        )

    def verdict(self, rows: tuple[EventRow, ...]) -> tuple[Outcome, str]:
        match self.wanted, self.found:
            case Exact(wanted), Exact(found):
                if wanted == found:
                    return Outcome.MATCH, ""
                return Outcome.DIFFERS, self.difference(rows)
            case None, _:
                return Outcome.NOT_COMPARED, self.silent(self.sides[0], "expected")
            case _, None:
                return Outcome.NOT_COMPARED, self.silent(self.sides[1], "observed")
        reasons = [rule.reason for rule in (self.wanted, self.found) if isinstance(rule, Unpinned)]
        differing = [row for row in rows if row.outcome in DIFFERENCES]
        trusted = self.name not in {name for side in self.sides for name in log_mismatches(side)}
        if differing and trusted:
            # whatever the unknown events are, a known one already differs
            return Outcome.DIFFERS, self.difference(rows)
        return Outcome.NOT_COMPARED, f"not pinned: {'; '.join(dict.fromkeys(reasons))}"

    def difference(self, rows: tuple[EventRow, ...]) -> str:
        count = sum(row.outcome in DIFFERENCES for row in rows)
        distrusted = [side for side in self.sides if self.name in log_mismatches(side)]
        if distrusted:
            return (
                f"the values differ, and the log of {distrusted[0].origin} does not fold to its "
                "quote's value: it cannot be trusted to explain why"
            )
        if count:
            return f"{count} of {len(rows)} events differ"
        return "the values differ"

    def silent(self, side: Side, which: str) -> str:
        if self.name is RegisterName.MRTD and side.kind is SideKind.EVENT_LOG:
            return "an event log does not hold MRTD: a quote does"
        return f"the {which} side says nothing about it"


def compare_events(
    expected: EventLog, observed: EventLog, *, sides: tuple[Side, Side]
) -> tuple[EventRow, ...]:
    """Align the events of one register, and say of each difference what it depends on."""
    ours, theirs = subjects_of(expected), subjects_of(observed)
    rows: list[EventRow] = []
    for left, right in align(expected, observed).pairs:
        wanted = None if left is None else expected[left]
        found = None if right is None else observed[right]
        outcome = _row_outcome(wanted, found)
        depends: tuple[Dependence, ...] = ()
        if outcome in DIFFERENCES:
            subject = ours[left] if left is not None else theirs[right or 0]
            both = outcome is RowOutcome.DIFFERS
            depends = of_event(subject, both=both, sides=sides)
        rows.append(EventRow(outcome, wanted, found, left, right, depends))
    return tuple(rows)


def log_mismatches(side: Side) -> tuple[RegisterName, ...]:
    """Registers whose events do not fold to the value that the side's quote has."""
    return tuple(
        name
        for name, rule in side.replayed.items()
        if isinstance(rule, Exact)
        and isinstance(side.registers.get(name), Exact)
        and rule != side.registers[name]
    )


def _row_outcome(wanted: Event | None, found: Event | None) -> RowOutcome:
    if found is None:
        return RowOutcome.ONLY_EXPECTED
    if wanted is None:
        return RowOutcome.ONLY_OBSERVED
    if isinstance(wanted.digest, Unpinned) or isinstance(found.digest, Unpinned):
        return RowOutcome.NOT_PREDICTED
    return RowOutcome.MATCH if wanted.digest == found.digest else RowOutcome.DIFFERS


def _contradictions(which: str, side: Side) -> Iterator[Caution]:
    for name in log_mismatches(side):
        yield Caution(
            "log_contradicts_quote",
            f"{side.origin}: {name.upper()} of the quote is not what the event log folds to: the "
            "log is incomplete, changed or of another boot, and cannot explain the quote",
            which,
        )
    for text in side.notes:
        yield Caution("note", text, which)


def _weak(found: tuple[RegisterComparison, ...]) -> Iterator[Caution]:
    for register in found:
        zero = isinstance(register.expected, Exact) and register.expected.value.is_zero
        if zero and register.outcome is Outcome.MATCH and register.name in LAUNCH_REGISTERS:
            yield Caution(
                "register_not_measured",
                f"{register.name.upper()} is zero on both sides: nothing was measured into it, so "
                "that it matches is evidence of nothing",
                "both",
            )
