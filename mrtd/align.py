"""Align two sequences of events: the cheapest script of matches, changes, insertions, deletions.

A weighted edit distance (Wagner and Fischer 1974). Sequences whose product is too large for its
table are cut at events that are equal and unique on both sides, in the longest order that both
share (patience diff); what even then is too large is paired in order. So the cost is bounded
whatever the sizes: `CELLS` steps, and time and memory linear in the number of events.
"""

from __future__ import annotations

import bisect
from collections.abc import Sequence
from itertools import zip_longest
from typing import Final

import msgspec

from mrtd.eventlog import Event
from mrtd.registers import Sha384
from mrtd.subject import Identity, identity_of

CELLS: Final = 1_000_000
"""Steps of the dynamic programme per alignment, all segments together: about a second."""

Pair = tuple[int | None, int | None]
"""Places in the first and the second sequence; None where that side has nothing."""

# Two events of the same identity are changed rather than removed and added; two of the same type
# only if nothing cheaper fits; events of different types are never paired.
_GAP: Final = 6
_UNKNOWN_DIGEST: Final = 1
_SAME_IDENTITY: Final = 2
_SAME_TYPE: Final = 10


class Alignment(msgspec.Struct, frozen=True):
    """Two sequences, aligned.

    Attributes:
        pairs: every place of both exactly once, in order.
        minimal: whether the script is the cheapest there is; False if sizes forbade to look.
    """

    pairs: tuple[Pair, ...]
    minimal: bool


class _Token(msgspec.Struct, frozen=True):
    """What an event is compared by; ``digest`` is None where it is not predicted."""

    identity: Identity
    digest: bytes | None


def align(expected: Sequence[Event], observed: Sequence[Event], *, cells: int = CELLS) -> Alignment:
    """Align the events of one register.

    Args:
        expected: events of one side; a digest may be unpinned.
        observed: those of the other.
        cells: how many steps may be spent.
    """
    return _Aligner([_token(e) for e in expected], [_token(e) for e in observed], cells).run()


def _token(event: Event) -> _Token:
    digest = event.digest.raw if isinstance(event.digest, Sha384) else None
    return _Token(identity_of(event), digest)


def _cost(left: _Token, right: _Token) -> int:
    """Cost of pairing; 0 for equal events, more than two gaps for those that never pair."""
    if left.identity.type != right.identity.type:
        return 2 * _GAP + 1
    if left.digest is not None and left.digest == right.digest:
        return 0
    if left.identity == right.identity:
        unknown = left.digest is None or right.digest is None
        return _UNKNOWN_DIGEST if unknown else _SAME_IDENTITY
    return _SAME_TYPE


class _Aligner:
    def __init__(self, left: list[_Token], right: list[_Token], cells: int) -> None:
        self.left, self.right, self.cells = left, right, cells
        self.pairs: list[Pair] = []
        self.minimal = True

    def run(self) -> Alignment:
        left_end, right_end = len(self.left), len(self.right)
        start = 0
        while start < min(left_end, right_end) and self.equal(start, start):
            self.pairs.append((start, start))
            start += 1
        tail: list[Pair] = []
        while left_end > start and right_end > start and self.equal(left_end - 1, right_end - 1):
            left_end, right_end = left_end - 1, right_end - 1
            tail.append((left_end, right_end))
        if self.fits(left_end - start, right_end - start):
            self.segment(start, left_end, start, right_end)
        else:
            self.minimal = False
            self.cut(start, left_end, right_end)
        return Alignment((*self.pairs, *reversed(tail)), self.minimal)

    def equal(self, left: int, right: int) -> bool:
        return _cost(self.left[left], self.right[right]) == 0

    def fits(self, height: int, width: int) -> bool:
        return (height + 1) * (width + 1) <= self.cells

    def cut(self, start: int, left_end: int, right_end: int) -> None:
        """Align between anchors: events that both sides have exactly once."""
        at_left = at_right = start
        for left, right in [*self.anchors(start, left_end, right_end), (left_end, right_end)]:
            self.segment(at_left, left, at_right, right)
            if left < left_end:
                self.pairs.append((left, right))
            at_left, at_right = left + 1, right + 1

    def anchors(self, start: int, left_end: int, right_end: int) -> list[tuple[int, int]]:
        ours = _unique(self.left, start, left_end)
        theirs = _unique(self.right, start, right_end)
        common = [(place, theirs[token]) for token, place in ours.items() if token in theirs]
        return _longest_increasing(sorted(common))

    def segment(self, left: int, left_end: int, right: int, right_end: int) -> None:
        height, width = left_end - left, right_end - right
        if not height or not width or not self.fits(height, width):
            self.in_order(range(left, left_end), range(right, right_end))
            return
        self.cells -= (height + 1) * (width + 1)
        self.pairs += self.cheapest(left, height, right, width)

    def in_order(self, lefts: range, rights: range) -> None:
        """Pair by place; what is not of one type stays single."""
        for left, right in zip_longest(lefts, rights):
            if left is not None and right is not None:
                if self.left[left].identity.type == self.right[right].identity.type:
                    self.pairs.append((left, right))
                else:
                    self.pairs += [(left, None), (None, right)]
            else:
                self.pairs.append((left, right))

    def cheapest(self, left: int, height: int, right: int, width: int) -> list[Pair]:
        """The table of costs of all prefixes, kept as one byte of direction per cell."""
        diagonal, up, along = 0, 1, 2
        directions = [bytearray([along]) * (width + 1)]
        costs = [_GAP * column for column in range(width + 1)]
        for row in range(1, height + 1):
            previous, costs = costs, [_GAP * row]
            line = bytearray([up]) * (width + 1)
            token = self.left[left + row - 1]
            for column in range(1, width + 1):
                paired = previous[column - 1] + _cost(token, self.right[right + column - 1])
                removed, added = previous[column] + _GAP, costs[-1] + _GAP
                cheapest = min(paired, removed, added)
                if cheapest == paired:
                    line[column] = diagonal
                elif cheapest != removed:
                    line[column] = along
                costs.append(cheapest)
            directions.append(line)
        pairs: list[Pair] = []
        row, column = height, width
        while row or column:
            step = directions[row][column]
            row -= step != along
            column -= step != up
            pairs.append(
                (left + row if step != along else None, right + column if step != up else None)
            )
        return pairs[::-1]


def _unique(tokens: list[_Token], start: int, end: int) -> dict[_Token, int]:
    places: dict[_Token, int] = {}
    repeated: set[_Token] = set()
    for place in range(start, end):
        token = tokens[place]
        if token in places or token.digest is None:
            repeated.add(token)
        places[token] = place
    return {token: place for token, place in places.items() if token not in repeated}


def _longest_increasing(pairs: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """The longest subsequence whose second numbers increase (the first ones already do)."""
    ends: list[int] = []
    heads: list[int] = []
    before: list[int | None] = []
    for index, (_, right) in enumerate(pairs):
        length = bisect.bisect_left(ends, right)
        before.append(heads[length - 1] if length else None)
        if length == len(ends):
            ends.append(right)
            heads.append(index)
        else:
            ends[length], heads[length] = right, index
    chain: list[tuple[int, int]] = []
    at = heads[-1] if heads else None
    while at is not None:
        chain.append(pairs[at])
        at = before[at]
    return chain[::-1]
