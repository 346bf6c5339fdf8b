"""Rows of a comparison in words: what a row is about, and which hypothesis makes it fit."""

from __future__ import annotations

from collections.abc import Iterator

from mrtd.compare import DIFFERENCES, EventRow, RowOutcome
from mrtd.eventlog import EventLog
from mrtd.explain.search import Line, Lines, Option, Solution
from mrtd.registers import RegisterName, Sha384
from mrtd.subject import Subject, subjects_of


def with_subjects(
    rows: tuple[EventRow, ...], events: EventLog
) -> Iterator[tuple[EventRow, Subject | None]]:
    """Rows with the subjects of their observed events."""
    subjects = subjects_of(events)
    for row in rows:
        yield row, None if row.observed_index is None else subjects[row.observed_index]


def option_for(
    row: EventRow, subject: Subject | None, lines: Lines, solution: Solution, final: Lines
) -> Option | None:
    """The option of a solution that makes a row fit; None if the row does not fit under it."""
    if row.observed is not None and subject is not None:
        digest = row.observed.digest
        line = Line(subject, digest.raw if isinstance(digest, Sha384) else None)
        if line not in final:
            return None
        for option in reversed(solution.options):
            if line.digest in option.digests:
                return option
        return solution.options[0] if solution.options else None
    gone = lines[row.expected_index] if row.expected_index is not None else None
    before = lines
    for option in solution.options:
        after = option.edit(before) or ()
        if gone is not None and before.count(gone) > after.count(gone):
            return option
        before = after
    return None


def label(name: RegisterName, row: EventRow, subject: Subject | None, *, alone: bool) -> str:
    """``RTMR0 event 9 etc/acpi/tables differs``."""
    event = row.observed or row.expected
    place = row.observed_index if row.observed_index is not None else row.expected_index
    what = (row.expected.description if row.expected else "") or (
        event.description if event else ""
    )
    if subject is not None and subject.value.startswith("etc/"):
        what = subject.value
    verb = " differs" if row.outcome is RowOutcome.DIFFERS else ""
    if row.outcome in DIFFERENCES and not verb and not alone:
        verb = f" ({row.outcome})"
    return f"{name.upper()} event {place} {what}{verb}"


def sentence(name: RegisterName, solution: Solution, *, fits: bool) -> str:
    """What a solution says of a register."""
    texts = " and ".join(dict.fromkeys(change.text for change in solution.changes))
    if fits:
        meaning = "; ".join(dict.fromkeys(c.meaning for c in solution.changes if c.meaning))
        return f"{name.upper()} matches with {texts or 'what is expected'}: {meaning}"
    if texts:
        return f"{name.upper()} comes nearer with {texts}, but does not match"
    return f"{name.upper()} fits no hypothesis"
