"""Cross-check: what was derived of a launch against what the launch shows, line by line.

A line says MATCH, DIFFERS or NOT CHECKED, and what is not checked says why. There are two kinds of
the last: what this mode can never see (a VM with a TPM has no MRTD), which decides nothing, and
what could have been checked and was not, which is no agreement. So the outcome is 0 only if all
that the mode can check matches, 1 if anything differs, and 3 if something could not be checked.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from msgspec.structs import replace

from ci.crosscheck_evidence import LOGGED_PCRS, Evidence
from mrtd.compare import (
    DIFFERENCES,
    Comparison,
    EventRow,
    Outcome,
    RegisterComparison,
    RowOutcome,
    compare_sides,
    extended,
)
from mrtd.derive import Derivation
from mrtd.eventlog import Event, EventLog, replay
from mrtd.explain.findings import Explanation, FindingKind
from mrtd.registers import LAUNCH_REGISTERS, ZERO, Exact, RegisterName, Target, Unpinned
from mrtd.side import Side
from mrtd.sources import side_of_derivation

OK: Final = 0
DIFFERS: Final = 1
UNCHECKED: Final = 3

# Where a TD has the events of which PCRs (`mrtd.eventlog.register_of_pcr`)
_PCRS_OF: Final = {
    RegisterName.MRTD: "only a TD has it; PCR 0 has the firmware volumes instead",
    RegisterName.RTMR0: "only a TD has it; PCR 1 and 7 show what it is made of",
    RegisterName.RTMR1: "only a TD has it; PCR 2 to 6 show what it is made of",
    RegisterName.RTMR2: "only a TD has it; PCR 8 to 15 show what it is made of",
}
_NO_QUOTE: Final = "a VM without TDX has no quote"


class Mark(StrEnum):
    """The word of a line."""

    MATCH = "MATCH"
    DIFFERS = "DIFFERS"
    NOT_CHECKED = "NOT CHECKED"


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the outcome.

    Attributes:
        name: what was checked; stable.
        mark: how it came out.
        text: one sentence.
        details: explanations of what differs, and events that nobody can predict.
        beyond: whether a NOT CHECKED is beyond this mode, so that it decides nothing.
    """

    name: str
    mark: Mark
    text: str
    details: tuple[str, ...] = ()
    beyond: bool = False


@dataclass(frozen=True, slots=True)
class CrossCheck:
    """What came of it.

    Attributes:
        target: ``tpm`` for the plain mode, ``cc`` for TDX.
        lines: in the order in which they are shown.
        derivation: what was expected.
        evidence: what was observed.
        comparison: of the two.
        changes: what the launched machine has otherwise than the spec.
    """

    target: Target
    lines: tuple[Line, ...]
    derivation: Derivation
    evidence: Evidence
    comparison: Comparison
    changes: tuple[str, ...] = ()

    @property
    def exit_code(self) -> int:
        """0, 1 or 3; see the module."""
        marks = {line.mark for line in self.lines if not line.beyond}
        if Mark.DIFFERS in marks:
            return DIFFERS
        return OK if marks == {Mark.MATCH} else UNCHECKED


def expected_side(derivation: Derivation, *, origin: str) -> Side:
    """What was derived; of a TPM also that the other PCRs of the firmware stay zero."""
    side = side_of_derivation(derivation, origin=origin)
    if derivation.target is Target.CC:
        return side
    rules = {name: side.registers.get(name, Exact(ZERO)) for name in LOGGED_PCRS}
    return replace(side, registers=rules)


def crosscheck(
    derivation: Derivation,
    evidence: Evidence,
    *,
    origin: str = "derived",
    explanation: Explanation | None = None,
    appraised: tuple[Line, ...] = (),
    changes: tuple[str, ...] = (),
) -> CrossCheck:
    """Check evidence of a launch against its derivation, which has the same target.

    Args:
        derivation: what is expected.
        evidence: what was observed.
        origin: what the expectation is called.
        explanation: of what differs, if it was looked for.
        appraised: lines of Intel Trust Authority and DCAP, for a TD.
        changes: what the launched machine has otherwise than the spec.

    Raises:
        MalformedDocument: the targets are not the same.
    """
    comparison = compare_sides(expected_side(derivation, origin=origin), evidence.side)
    tpm = evidence.target is Target.TPM
    if tpm:
        appraised = tuple(
            Line(name, Mark.NOT_CHECKED, _NO_QUOTE, beyond=True) for name in ("ita", "dcap")
        )
    lines = (
        _log_replays(evidence),
        _quote_replays(evidence),
        *appraised,
        *_registers(comparison, derivation, evidence, explanation),
        _events(comparison),
    )
    return CrossCheck(evidence.target, lines, derivation, evidence, comparison, changes)


def _log_replays(evidence: Evidence) -> Line:
    """Log against the registers that the guest read."""
    name = "log replays"
    if evidence.log is None:
        return Line(name, Mark.NOT_CHECKED, "there is no event log")
    if not evidence.shown:
        return Line(
            name, Mark.NOT_CHECKED, "the guest's kernel does not show its registers",
            beyond=evidence.quote is not None,
        )  # fmt: skip
    wrong = evidence.log_mismatches(evidence.shown)
    what = "the PCRs" if evidence.target is Target.TPM else "the registers the kernel shows"
    if wrong:
        names = " ".join(wrong).upper()
        return Line(name, Mark.DIFFERS, f"the log does not fold to {what}: {names}")
    return Line(name, Mark.MATCH, f"{len(evidence.log)} events fold to {what}")


def _quote_replays(evidence: Evidence) -> Line:
    name = "quote == replay"
    if evidence.target is Target.TPM:
        return Line(name, Mark.NOT_CHECKED, _NO_QUOTE, beyond=True)
    if evidence.quote is None or evidence.log is None:
        missing = "quote" if evidence.quote is None else "event log"
        return Line(name, Mark.NOT_CHECKED, f"there is no {missing}")
    wrong = evidence.log_mismatches(evidence.quote.registers)
    if wrong:
        text = f"the log does not fold to the quote's {' '.join(wrong).upper()}"
        return Line(name, Mark.DIFFERS, text)
    return Line(name, Mark.MATCH, "the log folds to the quote's RTMRs")


def _registers(
    comparison: Comparison,
    derivation: Derivation,
    evidence: Evidence,
    explanation: Explanation | None,
) -> Iterator[Line]:
    if evidence.target is Target.TPM:
        for name, text in _PCRS_OF.items():
            yield Line(str(name), Mark.NOT_CHECKED, text, beyond=True)
    found = {one.name: one for one in comparison.registers}
    wanted = LAUNCH_REGISTERS if evidence.target is Target.CC else LOGGED_PCRS
    for name in wanted:
        one = found.get(name)
        if one is None:
            yield Line(str(name), Mark.NOT_CHECKED, "neither side says anything about it")
        else:
            yield _register(one, derivation, evidence, explanation)
    if evidence.target is Target.CC:
        text = "belongs to the software in the guest: no launch decides it"
        yield Line("rtmr3", Mark.NOT_CHECKED, text, beyond=True)


def _register(
    one: RegisterComparison,
    derivation: Derivation,
    evidence: Evidence,
    explanation: Explanation | None,
) -> Line:
    name = str(one.name)
    if one.outcome is Outcome.MATCH:
        zero = isinstance(one.expected, Exact) and one.expected.value.is_zero
        if zero and one.name in LAUNCH_REGISTERS:
            text = "zero on both sides: nothing was measured, which is evidence of nothing"
            return Line(name, Mark.NOT_CHECKED, text)
        return Line(name, Mark.MATCH, "nothing extends it" if zero else _counted(one))
    if one.outcome is Outcome.DIFFERS:
        return Line(name, Mark.DIFFERS, one.reason, tuple(_why(one, explanation)))
    unpredicted = [row for row in one.rows if row.outcome is RowOutcome.NOT_PREDICTED]
    details = tuple(_unpredicted(row) for row in unpredicted)
    known = unpredicted and all(known_unpredictable(row.expected) for row in unpredicted)
    if not known or one.name not in evidence.shown:
        return Line(name, Mark.NOT_CHECKED, one.reason, details)
    if not folds_otherwise(one, derivation.log, evidence):
        text = "the PCR is not what the derived events give with the unpredictable ones as logged"
        return Line(name, Mark.DIFFERS, text, details)
    rest = len(one.rows) - len(unpredicted)
    text = (
        f"{len(unpredicted)} of {len(one.rows)} events cannot be predicted; the other {rest} match"
    )
    return Line(name, Mark.NOT_CHECKED, text, details, beyond=True)


def known_unpredictable(event: Event | None) -> bool:
    """Whether no input tells an event's digest: the PEI volume of edk2 before 2026.

    Its modules write to it before Tcg2Pei measures it (docs/firmware-profiles.md); it enters a
    TPM's PCR 0 only, never a register of a TD. Any other unknown digest is a missing input.
    """
    return (
        event is not None
        and event.register is RegisterName.PCR0
        and event.description == "PEI firmware volume"
        and isinstance(event.digest, Unpinned)
        and "write to it" in event.digest.reason
    )


def folds_otherwise(one: RegisterComparison, log: EventLog, evidence: Evidence) -> bool:
    """Whether the derived events, with digests from the log where none are derived, fold to it."""
    logged = {
        row.expected_index: row.observed.digest
        for row in one.rows
        if row.outcome is RowOutcome.NOT_PREDICTED and row.observed is not None
    }
    own = extended(log, one.name)
    filled = [
        replace(event, digest=logged[index]) if index in logged else event
        for index, event in enumerate(own)
    ]
    return replay(filled).get(one.name) == Exact(evidence.shown[one.name])


def _counted(one: RegisterComparison) -> str:
    if not one.rows:
        return "the values are equal"
    events = "1 event" if len(one.rows) == 1 else f"{len(one.rows)} events"
    return f"value and {events} as derived"


def _unpredicted(row: EventRow) -> str:
    event = row.expected or row.observed
    reason = row.expected.digest.reason if row.expected and isinstance(
        row.expected.digest, Unpinned
    ) else "not known"  # fmt: skip
    return f"cannot be predicted: {event.description if event else 'event'}: {reason}"


def _why(one: RegisterComparison, explanation: Explanation | None) -> Iterator[str]:
    """The events that differ and what they depend on, and what `mrtd explain` found."""
    for row in one.rows:
        event = row.expected or row.observed
        if row.outcome in DIFFERENCES and event is not None:
            yield f"{event.description}: {row.outcome}"
            yield from (f"depends on {cause.text}" for cause in row.depends)
    yield from (f"depends on {cause.text}" for cause in one.depends)
    if explanation is None:
        return
    good = {FindingKind.EXPLAINED, FindingKind.RECOGNISED}
    for finding in explanation.findings:
        if finding.register is one.name and finding.kind in good:
            yield f"{finding.kind}: {finding.text}"


def _events(comparison: Comparison) -> Line:
    """All events of the registers above together."""
    rows = [row for one in comparison.registers for row in one.rows]
    matching = sum(row.outcome is RowOutcome.MATCH for row in rows)
    differing = sum(row.outcome in DIFFERENCES for row in rows)
    unknown = [row for row in rows if row.outcome is RowOutcome.NOT_PREDICTED]
    if not rows:
        return Line("events", Mark.NOT_CHECKED, "there is no event log")
    text = f"{matching} of {len(rows)} match"
    if differing:
        return Line("events", Mark.DIFFERS, f"{text}, {differing} differ")
    if unknown:
        text = f"{text}, {len(unknown)} cannot be predicted"
    if all(known_unpredictable(row.expected) for row in unknown):
        return Line("events", Mark.MATCH, text)
    return Line("events", Mark.NOT_CHECKED, text, tuple(_unpredicted(row) for row in unknown))
