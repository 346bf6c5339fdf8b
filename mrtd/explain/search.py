"""Search for the fewest changes that make a register hold an observed value.

A register is a list of `Line`; a hypothesis edits that list. Without an event log, combinations
are tried, fewer changes first, until the fold of the lines is the observed value. With one, each
line is looked for on its own, so nothing has to be combined.
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from itertools import combinations, product
from typing import Final

import msgspec

from mrtd.compare import extended
from mrtd.eventlog import EventLog
from mrtd.explain.findings import Change
from mrtd.registers import ZERO, RegisterName, Sha384
from mrtd.subject import Subject, subjects_of

BOUND: Final = 250_000
"""Combinations per register: some seconds."""
MAX_CHANGES: Final = 4


class Line(msgspec.Struct, frozen=True):
    """One event of a register: what it measures and its digest, None if that is not known."""

    subject: Subject
    digest: bytes | None


Lines = tuple[Line, ...]


class Option(msgspec.Struct, frozen=True):
    """A hypothesis about a register.

    Attributes:
        changes: what it says.
        edit: the lines under it; None if it does not apply to them.
        digests: what it puts there; empty if it only removes or moves.
        names: names that all say the same here, such as of profiles.
    """

    changes: tuple[Change, ...]
    edit: Callable[[Lines], Lines | None]
    digests: frozenset[bytes] = frozenset()
    names: tuple[str, ...] = ()


class Dimension(msgspec.Struct, frozen=True):
    """Hypotheses of which one can hold at a time: sizes of memory, states of Secure Boot."""

    name: str
    options: tuple[Option, ...]


class Solution(msgspec.Struct, frozen=True):
    """Options that make a register fit; none at all if it fits as it is."""

    options: tuple[Option, ...]

    @property
    def changes(self) -> tuple[Change, ...]:
        """All changes of all options."""
        return tuple(change for option in self.options for change in option.changes)


class Searched(msgspec.Struct, frozen=True):
    """What a search found: solutions with equally few changes, how many were tried, all or not."""

    solutions: tuple[Solution, ...]
    tried: int
    complete: bool


def lines_of(log: EventLog, name: RegisterName) -> Lines:
    """A register's lines in a log."""
    events = extended(log, name)
    return tuple(
        Line(subject, event.digest.raw if isinstance(event.digest, Sha384) else None)
        for subject, event in zip(subjects_of(events), events, strict=True)
    )


def fold_lines(lines: Lines) -> bytes | None:
    """What the lines fold to; None if a digest is not known."""
    value = ZERO.raw
    for line in lines:
        if line.digest is None:
            return None
        value = hashlib.sha384(value + line.digest).digest()
    return value


def substitute(digests: dict[Subject, Sha384], *changes: Change) -> Option:
    """An option that gives the lines of some subjects other digests; all of them must be there."""
    raw = {subject: digest.raw for subject, digest in digests.items()}

    def edit(lines: Lines) -> Lines | None:
        present = {line.subject for line in lines}
        if not raw.keys() <= present:
            return None
        return tuple(
            Line(line.subject, raw[line.subject]) if line.subject in raw else line for line in lines
        )

    return Option(changes, edit, frozenset(raw.values()))


def without(subject: Subject, *changes: Change) -> Option:
    """An option without the events of a subject."""

    def edit(lines: Lines) -> Lines | None:
        left = tuple(line for line in lines if line.subject is not subject)
        return None if len(left) == len(lines) else left

    return Option(changes, edit)


def replaced_by(lines: Lines, *changes: Change, names: tuple[str, ...] = ()) -> Option:
    """An option with lines of its own, whatever the others were."""
    digests = frozenset(line.digest for line in lines if line.digest is not None)
    return Option(changes, lambda _: lines, digests, names)


def search_value(
    lines: Lines,
    dimensions: Sequence[Dimension],
    value: Sha384,
    *,
    bound: int = BOUND,
) -> Searched:
    """Combine options until the lines fold to a value.

    Args:
        lines: the register as expected.
        dimensions: what can be otherwise; options are applied in this order.
        value: what the register holds.
        bound: how many combinations may be tried.
    """
    tried = 0
    for size in range(min(len(dimensions), MAX_CHANGES) + 1):
        found: list[Solution] = []
        for chosen in _cheapest_first(dimensions, size):
            if tried + _count(chosen) > bound:
                # what is left is larger still; what was found with so few changes counts
                return Searched(tuple(found), tried, complete=False)
            for options in product(*(dimension.options for dimension in chosen)):
                tried += 1
                edited = apply(lines, options)
                if edited is not None and fold_lines(edited) == value.raw:
                    found.append(Solution(options))
        if found:
            # rather what a launch spec can say than what only somebody's patch can do
            found.sort(key=lambda s: sum(not change.setting for change in s.changes))
            return Searched(tuple(found), tried, complete=True)
    return Searched((), tried, complete=True)


def search_lines(
    lines: Lines, dimensions: Sequence[Dimension], observed: Lines
) -> tuple[Solution, Lines, int]:
    """Choose options that bring the lines nearer to an observed log, the most helpful one first.

    Of equally helpful ones, an option that gives an observed digest counts more than one that only
    leaves something out. Options are applied in the order of their dimensions.

    Returns:
        The options chosen, the lines under them, and how many options were looked at.
    """
    seen = frozenset(line.digest for line in observed if line.digest is not None)
    chosen: dict[int, Option] = {}
    best, distance = lines, _distance(lines, observed)
    tried = 0
    while distance:
        found: list[tuple[int, bool, int, int, Option]] = []
        for place, dimension in enumerate(dimensions):
            for number, option in enumerate(dimension.options):
                tried += 1
                if place in chosen or (option.digests and not option.digests & seen):
                    continue
                trial = _in_order({**chosen, place: option})
                if (edited := apply(lines, trial)) is not None:
                    ranked = (_distance(edited, observed), not option.digests, place, number)
                    found.append((*ranked, option))
        found.sort(key=lambda row: row[:4])
        if not found or found[0][0] >= distance:
            break
        distance, _, place, _, option = found[0]
        chosen[place] = option
        best = apply(lines, _in_order(chosen)) or ()
    return Solution(_in_order(chosen)), best, tried


def _in_order(chosen: dict[int, Option]) -> tuple[Option, ...]:
    return tuple(chosen[place] for place in sorted(chosen))


def apply(lines: Lines, options: Sequence[Option]) -> Lines | None:
    """The lines under several options; None if one does not apply."""
    edited: Lines | None = lines
    for option in options:
        edited = option.edit(edited) if edited is not None else None
    return edited


def _distance(lines: Lines, observed: Lines) -> int:
    """How many lines only one side has; moved lines count too, a little."""
    ours = Counter((line.subject, line.digest) for line in lines)
    theirs = Counter((line.subject, line.digest) for line in observed)
    apart = (ours - theirs).total() + (theirs - ours).total()
    return 2 * apart + (lines != observed)


def _count(chosen: Sequence[Dimension]) -> int:
    return math.prod(len(dimension.options) for dimension in chosen)


def _cheapest_first(dimensions: Sequence[Dimension], size: int) -> Iterator[tuple[Dimension, ...]]:
    yield from sorted(combinations(dimensions, size), key=_count)
