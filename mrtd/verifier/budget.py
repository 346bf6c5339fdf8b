"""How often a verifier asks others: a budget, and a breaker for when they fail or say "later".

Both are safe to use from several threads, have a fixed size, and count on the steady clock.
"""

from __future__ import annotations

import math
import threading
from typing import Final

from mrtd.verifier.clock import Clock

_HOUR: Final = 3600.0
HOLD_LIMIT: Final = _HOUR
"""Longest pause, seconds, that a service can ask for: GitHub's limits are hourly."""


class Budget:
    """A token bucket: full at first, and filled again over an hour.

    So the first hour may see twice as many requests, and no later one more than a full bucket and
    what flows in.

    Args:
        per_hour: how many requests fit, and flow in within an hour.
        reserve_percent: share that only callers with priority get.
        clock: for the time that has passed.
    """

    def __init__(self, per_hour: int, reserve_percent: int, clock: Clock) -> None:
        self._rate, self._size = per_hour / _HOUR, float(per_hour)
        # never all of it: there is always one that somebody without priority could get
        self._reserve = float(min(per_hour * reserve_percent // 100, per_hour - 1))
        self._clock, self._lock = clock, threading.Lock()
        self._left, self._then = self._size, clock.steady()

    def take(self, *, priority: float) -> float | None:
        """Take one: None if it was taken, otherwise the seconds until it can be.

        Args:
            priority: share of the reserve that the caller may use, from 0 to 1.
        """
        with self._lock:
            now = self._clock.steady()
            flowed = max(0.0, now - self._then) * self._rate
            self._left, self._then = min(self._size, self._left + flowed), now
            missing = 1.0 + self._reserve * (1.0 - priority) - self._left
            if missing > 0:
                return missing / self._rate
            self._left -= 1.0
            return None


class Breaker:
    """Stops asking a service that keeps failing, or that said when to come back.

    After ``failures`` failures in a row it is open for ``open_seconds``; then one caller may try.
    If that one fails too, or never says how it went, it is open as long again.

    Args:
        clock: for the time that has passed.
        failures: in a row, until it opens.
        open_seconds: how long nobody may ask.
    """

    def __init__(self, clock: Clock, failures: int = 5, open_seconds: float = 30.0) -> None:
        self._clock, self._lock = clock, threading.Lock()
        self._allowed, self._open_seconds = failures, open_seconds
        self._failed = 0
        self._open_until = self._held_until = -math.inf

    def enter(self) -> float | None:
        """Ask to ask: None if one may, otherwise the seconds until it makes sense again.

        Whoever may says afterwards how it went: `succeeded` or `failed`.
        """
        with self._lock:
            now = self._clock.steady()
            wait = max(self._held_until, self._open_until) - now
            if wait > 0:
                return wait
            if self._failed >= self._allowed:  # half open: this caller tries, the others wait
                self._open_until = now + self._open_seconds
            return None

    def succeeded(self) -> None:
        """It answered. A pause that it asked for stays."""
        with self._lock:
            self._failed, self._open_until = 0, -math.inf

    def failed(self) -> None:
        """It did not answer, or not usably."""
        with self._lock:
            self._failed = min(self._failed + 1, self._allowed)
            if self._failed >= self._allowed:
                self._open_until = self._clock.steady() + self._open_seconds

    def hold(self, seconds: float) -> None:
        """It said when to come back (``Retry-After``); later ones count, none is forgotten."""
        pause = min(max(seconds, 0.0), HOLD_LIMIT) if math.isfinite(seconds) else HOLD_LIMIT
        with self._lock:
            self._held_until = max(self._held_until, self._clock.steady() + pause)
