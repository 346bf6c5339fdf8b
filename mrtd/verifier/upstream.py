"""Asking a service on the network: within a deadline, a budget, and the limits that it names."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Final

import msgspec

from mrtd.errors import TransportError
from mrtd.verifier.budget import HOLD_LIMIT, Breaker, Budget
from mrtd.verifier.clock import Clock
from mrtd.verifier.fetch import Fetch, Response
from mrtd.verifier.verdict import Reason

_RETRIES: Final = 2
_PAUSE: Final = 60.0  # GitHub REST docs, "Rate limits": where no header says so, wait a minute
_LIMITED: Final = frozenset({403, 429, 503})


class Stop(Exception):
    """Why a lookup ends, here or altogether.

    Attributes:
        message: for a person; no secrets.
        reason: of the `mrtd.verifier.lookup.Lookup` that this makes.
        retry_after: seconds after which asking again makes sense; None if that is not known.
    """

    def __init__(
        self,
        message: str,
        reason: Reason = Reason.LOOKUP_UNAVAILABLE,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.message, self.reason, self.retry_after = message, reason, retry_after

    def incomplete(self) -> Stop:
        """The same where a part has been read."""
        if self.reason is Reason.LOOKUP_UNAVAILABLE:
            return Stop(self.message, Reason.LOOKUP_INCOMPLETE, self.retry_after)
        return self


class Turn(msgspec.Struct, frozen=True):
    """On whose behalf is asked: until when (steady clock), and with which share of the reserve."""

    deadline: float
    priority: float


class Upstream:
    """Gets addresses of one service. Thread-safe.

    Args:
        name: for messages.
        headers: of every request.
        limit: largest body, bytes.
        timeout: for one request, seconds.
        budget: from which every request takes; None for a service that does not count.
        fetch: for HTTP.
        clock: for deadlines, and for the time that rate limits name.
        sleep: waits some seconds before a request is repeated.
        jitter: a number from 0 to 1, so that not everybody repeats at the same time.
    """

    def __init__(
        self,
        name: str,
        *,
        headers: Mapping[str, str],
        limit: int,
        timeout: float,
        budget: Budget | None,
        fetch: Fetch,
        clock: Clock,
        sleep: Callable[[float], None],
        jitter: Callable[[], float],
    ) -> None:
        self.name, self._breaker = name, Breaker(clock)
        self._headers, self._limit, self._timeout = headers, limit, timeout
        self._budget, self._fetch, self._clock = budget, fetch, clock
        self._sleep, self._jitter = sleep, jitter

    def ask(self, url: str, turn: Turn) -> Response:
        """An answer below 500 that is no rate limit; repeats twice at most. Raises `Stop`."""
        problem = ""
        for attempt in range(_RETRIES + 1):
            if attempt:
                pause = 0.25 * 2**attempt * (1 + self._jitter())
                if pause >= turn.deadline - self._clock.steady():
                    break
                self._sleep(pause)
            answer, problem = self._ask_once(url, turn)
            if answer is not None:
                return answer
        raise Stop(f"{self.name}: {problem}")

    def _ask_once(self, url: str, turn: Turn) -> tuple[Response | None, str]:
        """An answer, or what went wrong and may go better the next time."""
        timeout = min(self._permit(turn), self._timeout)
        try:
            answer = self._fetch(url, headers=self._headers, limit=self._limit, timeout=timeout)
        except Exception as error:  # noqa: BLE001 - the interface may be anybody's
            self._breaker.failed()
            return None, error.message if isinstance(error, TransportError) else "no answer"
        if (wait := self._pause(answer)) is not None:
            self._breaker.hold(wait)
        if wait is not None and answer.status in _LIMITED:
            raise Stop(f"{self.name}: rate limit, for {wait:.0f} s", retry_after=wait)
        if answer.status >= 500:
            self._breaker.failed()
            return None, f"HTTP {answer.status}"
        if answer.status in {401, 403}:  # all others would be refused as well
            self._breaker.failed()
        else:
            self._breaker.succeeded()
        return answer, ""

    def _permit(self, turn: Turn) -> float:
        """Seconds that are left for a request, which is paid for. Raises `Stop`."""
        left = turn.deadline - self._clock.steady()
        if left <= 0:
            raise Stop(f"{self.name}: no time left")
        if (wait := self._breaker.enter()) is not None:
            raise Stop(f"{self.name}: not asked now, for {wait:.0f} s", retry_after=wait)
        budget = self._budget
        if budget and (wait := budget.take(priority=turn.priority)) is not None:
            text = f"lookup.requests_per_hour is used up, for {wait:.0f} s"
            raise Stop(text, Reason.LOOKUP_BUDGET, wait)
        return left

    def _pause(self, answer: Response) -> float | None:
        """Seconds that a service wants to be left alone (GitHub REST docs, "Rate limits")."""
        refused, found = answer.status in _LIMITED, answer.headers
        pause = None
        if refused and "retry-after" in found:
            pause = _number(found["retry-after"]) or _PAUSE
        elif found.get("x-ratelimit-remaining") == "0":
            reset = _number(found.get("x-ratelimit-reset", ""))
            pause = _PAUSE if reset is None else max(1.0, reset - self._clock.wall())
        elif answer.status == 429 or (refused and b"rate limit" in answer.body[:4096].lower()):
            pause = _PAUSE
        return None if pause is None else min(pause, HOLD_LIMIT)


def _number(text: str) -> float | None:
    return float(text) if re.fullmatch("[0-9]{1,12}", text) else None
