"""Verdicts that hold for everybody with the same claims, for a while."""

from __future__ import annotations

import msgspec

from mrtd.verifier.cache import Bounded
from mrtd.verifier.clock import Clock
from mrtd.verifier.ledger import Ledger
from mrtd.verifier.verdict import Verdict


class _Kept(msgspec.Struct, frozen=True):
    """A verdict, what had been learned when it was made, and until when it holds."""

    verdict: Verdict
    generation: int
    until: float


class KeptVerdicts:
    """Verdicts by claims. Thread-safe.

    Args:
        entries: at most.
        ledger: a verdict holds until something is learned.
        clock: and for some time; the steady one counts.
    """

    def __init__(self, entries: int, ledger: Ledger, clock: Clock) -> None:
        self._kept: Bounded[bytes, _Kept] = Bounded(entries)
        self._ledger, self._steady = ledger, clock.steady

    def __len__(self) -> int:
        return len(self._kept)

    def get(self, key: bytes) -> Verdict | None:
        """The verdict about claims, while it holds."""
        kept = self._kept.get(key)
        if kept is None or kept.generation != self._ledger.generation:
            return None
        return kept.verdict if self._steady() < kept.until else None

    def put(self, key: bytes, verdict: Verdict, *, generation: int, until: float) -> None:
        """Keep a verdict that was made of what had been learned by a generation."""
        if generation == self._ledger.generation:
            self._kept.put(key, _Kept(verdict, generation, until))
