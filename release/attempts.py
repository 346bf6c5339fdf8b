"""Asking services that may be away: bounded in time and number, with growing, random pauses.

A call runs in a thread of its own and is given up when its time is over: sigstore asks Fulcio and
Rekor without any time limit, and a limit of requests would be one for each read only, which a
service that drips never exceeds. The threads are daemons: one that still waits keeps no process
from ending.
"""

from __future__ import annotations

import queue
import random
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import Final, TypeVar

from mrtd.errors import MrtdError, ServiceRefused, TransportError
from release.secret import Secret

T = TypeVar("T")

_SHOWN: Final = 200
_TOKEN: Final = re.compile(r"eyJ[A-Za-z0-9_-]{8}[A-Za-z0-9_.-]*")
"""A JSON Web Token, or the beginning of one: base64url of ``{"``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How long, and how often, services are asked.

    Attributes:
        attempts: per service.
        pause: seconds before the second attempt; doubled before every further one.
        longest_pause: seconds; a service that asks for more is not waited for.
        each: seconds for one attempt.
        total: seconds for everything.
        sleep: waits so many seconds.
        jitter: a number from 0 to 1; a pause is between half of what it might be and all of it.
        steady: seconds that only go forward.
    """

    attempts: int = 4
    pause: float = 1.0
    longest_pause: float = 30.0
    each: float = 30.0
    total: float = 180.0
    sleep: Callable[[float], None] = time.sleep
    jitter: Callable[[], float] = random.random
    steady: Callable[[], float] = time.monotonic


@dataclass(frozen=True, slots=True)
class _Problem:
    """What was wrong with one attempt.

    Attributes:
        why: in words that may be shown.
        again: whether another attempt may help.
        status: of the answer, where there was an HTTP answer.
        retry_after: seconds, if the service named them.
    """

    why: str
    again: bool
    status: int | None = None
    retry_after: float | None = None


class TooSlow(Exception):
    """An attempt was given up."""


class BadStatus(Exception):
    """A service answered with an HTTP status that means no."""

    def __init__(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        super().__init__(f"HTTP {status}")
        self.status, self.headers, self.body = status, headers, body


@dataclass(slots=True)
class Attempts:
    """The attempts of one job, whose services share its time.

    Attributes:
        patience: with the services.
        secrets: what no message may have in it, even if a service says it.
    """

    patience: Patience
    secrets: tuple[Secret, ...] = ()
    _end: float = field(init=False)

    def __post_init__(self) -> None:
        self._end = self.patience.steady() + self.patience.total

    def run(self, service: str, call: Callable[[], T]) -> T:
        """Ask a service until it answers.

        Args:
            service: its name, for messages.
            call: one attempt.

        Raises:
            TransportError: no usable answer in time.
            ServiceRefused: it said no.
            MrtdError: as ``call`` raises it: that is final.
        """
        return self.repeat(service, lambda: self.bounded(call))

    def repeat(self, service: str, call: Callable[[], T]) -> T:
        """Like `run`, for a call that bounds its own time with `bounded`."""
        for number in range(1, self.patience.attempts + 1):
            if self._left() <= 0:
                raise TransportError(f"{service}: no time is left to ask it")
            try:
                return call()
            except MrtdError:
                raise
            except Exception as error:  # noqa: BLE001 - whatever sigstore lets through is a problem
                problem = self._judge(error)
            # Not in the handler: what is raised here must not have secrets behind it.
            self._pause(service, problem, number)
        raise AssertionError("the last attempt neither returns nor raises")

    def bounded(self, call: Callable[[], T]) -> T:
        """The result of a call, or its exception. Raises `TooSlow`."""
        box: queue.SimpleQueue[tuple[T | None, Exception | None]] = queue.SimpleQueue()

        def work() -> None:
            try:
                box.put((call(), None))
            except Exception as error:  # noqa: BLE001 - raised where it is waited for
                box.put((None, error))

        threading.Thread(target=work, daemon=True, name="attempt").start()
        try:
            result, error = box.get(timeout=max(0, min(self.patience.each, self._left())))
        except queue.Empty:
            raise TooSlow from None
        if error is not None:
            raise error
        return result  # type: ignore[return-value] # no error: it is one

    def _left(self) -> float:
        return self._end - self.patience.steady()

    def _pause(self, service: str, problem: _Problem, number: int) -> None:
        """Wait before the next attempt, or raise why there is none."""
        told = f"{service}: {problem.why}"
        if problem.status is not None and not problem.again:
            raise ServiceRefused(told, status=problem.status)
        patience = self.patience
        longest = min(patience.longest_pause, patience.pause * 2 ** (number - 1))
        pause = max(longest * (1 + patience.jitter()) / 2, problem.retry_after or 0)
        waits = pause <= patience.longest_pause and pause < self._left()
        if not problem.again or number == patience.attempts or not waits:
            tries = "" if number == 1 else f" ({number} attempts)"
            raise TransportError(f"{told}{tries}", retry_after=problem.retry_after)
        patience.sleep(pause)

    def _judge(self, error: BaseException) -> _Problem:
        """What an exception says of the service."""
        import requests  # noqa: PLC0415 - heavy

        if isinstance(error, TooSlow):
            return _Problem("no answer in time", again=True)
        for link in _chain(error):
            if isinstance(link, BadStatus):
                return self._judge_status(link.status, link.headers, link.body)
            if isinstance(link, requests.HTTPError) and link.response is not None:
                answer = link.response
                return self._judge_status(answer.status_code, answer.headers, answer.content)
            if isinstance(
                link,
                requests.ConnectionError
                | requests.Timeout
                | requests.exceptions.ChunkedEncodingError,
            ):
                return _Problem(f"no usable connection ({type(link).__name__})", again=True)
        # Only the type: the text of a foreign exception may repeat what was sent or received.
        return _Problem(f"no usable answer ({type(error).__name__})", again=False)

    def _judge_status(self, status: int, headers: Mapping[str, str], body: bytes) -> _Problem:
        said = shown(body, self.secrets)
        return _Problem(
            f"HTTP {status}: {said}" if said else f"HTTP {status}",
            again=status >= 500 or status == 429,
            status=status,
            retry_after=_seconds(headers.get("Retry-After", "")),
        )


def shown(said: bytes, secrets: tuple[Secret, ...]) -> str:
    """What a service said, in one short line without secrets."""
    # Before it is cut, since half a secret would not be found; what the service has cut itself is
    # found by its beginning.
    text = _TOKEN.sub("***", said.decode("utf-8", "replace"))
    for secret in secrets:
        text = secret.redact(text)
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())[:_SHOWN]


def _chain(error: BaseException) -> Iterator[BaseException]:
    """An exception and what it came from."""
    link: BaseException | None = error
    while link is not None:
        yield link
        link = link.__cause__ or link.__context__


def _seconds(text: str) -> float | None:
    """``Retry-After`` (RFC 9110, 10.2.3): seconds or a date; None if it is neither."""
    if text.strip().isdecimal():
        return float(text[:10])
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - time.time())
    except (ValueError, TypeError, OverflowError):
        return None
