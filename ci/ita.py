"""A client of Intel Trust Authority: a nonce, and a token for a quote.

Intel's own client is not used (facts: not in a registry, no check of ``iss``, errors as None).
This one asks within limits of size, time and number of tries, and repeats only what may go better
the next time: a broken connection, 500, 503, 504 and, when the service says when, 429. The API key
goes to the API's address only and is found in no message.

What comes back is not believed here: see `ci.ita_check`.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Final, NoReturn, Protocol

from ci.ita_settings import ApiKey, Endpoints
from ci.ita_wire import (
    ATTEST_PATHS,
    NONCE_LIMIT,
    NONCE_PATH,
    TOKEN_LIMIT,
    Api,
    Nonce,
    Options,
    attest_body,
    cut,
    error_text,
    read_nonce,
    read_token,
)
from mrtd.errors import InputError, MalformedStatement, ToolFailed, TransportError
from mrtd.verifier.clock import Clock
from mrtd.verifier.fetch import HttpFetch, Response, UnusableAnswer

SERVICE: Final = "Intel Trust Authority"
RETRIES: Final = 2
_RETRIED: Final = frozenset({500, 503, 504})
_KEY_REFUSED: Final = frozenset({401, 403})
_OK: Final = 200
_LIMITED: Final = 429
_PAUSE: Final = 0.5
# 1000 requests in 5 minutes (Intel's REST API introduction); where no header says how long
_LIMIT_PAUSE: Final = 30.0
# Some error answers are long; they are cut where they are shown
_ANSWER_LIMIT: Final = TOKEN_LIMIT


class KeyRefused(InputError):
    """Intel Trust Authority does not take the API key."""


class Exchange(Protocol):
    """``GET``, or with a body ``POST``: `mrtd.verifier.fetch.HttpFetch` is one."""

    def __call__(
        self,
        url: str,
        *,
        headers: Mapping[str, str],
        limit: int,
        timeout: float,
        body: bytes | None = None,
    ) -> Response:
        """Like `mrtd.verifier.fetch.Fetch`."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Of one question, with all its repetitions.

    Attributes:
        total: seconds until it is given up.
        once: seconds for one try.
    """

    total: float = 120.0
    once: float = 30.0


@dataclass(frozen=True, slots=True)
class TrustAuthority:
    """Intel Trust Authority in one region.

    Attributes:
        where: its addresses.
        key: the API key.
        exchange: how to ask.
        clock: for deadlines, and for dates in ``Retry-After``.
        sleep: waits some seconds before a question is repeated.
        jitter: a number from 0 to 1.
        limits: of time.
    """

    where: Endpoints
    key: ApiKey
    exchange: Exchange = field(default_factory=HttpFetch)
    clock: Clock = field(default_factory=Clock)
    sleep: Callable[[float], None] = time.sleep
    jitter: Callable[[], float] = random.random
    limits: Limits = field(default_factory=Limits)

    def nonce(self) -> Nonce:
        """A nonce: ``GET /appraisal/v2/nonce``. Raises like `attest`."""
        answer = self._ask(NONCE_PATH, None, {}, NONCE_LIMIT)
        try:
            return read_nonce(answer)
        except MalformedStatement as error:
            text = f"{SERVICE} answered 200 with something that is no nonce: {cut(error.message)}"
            raise TransportError(text) from None

    def attest(
        self,
        quote: bytes,
        *,
        api: Api = "v2",
        nonce: Nonce | None = None,
        data: bytes = b"",
        options: Options | None = None,
    ) -> str:
        """The token for a quote: ``POST /appraisal/v2/attest``, or v1. It is not checked.

        Args:
            quote: exactly the quote; see `mrtd.evidence.quote.Quote.raw`.
            api: version of the API, and so of the token.
            nonce: that the quote's report data was made with.
            data: what else it was made with.
            options: policies and algorithm.

        Raises:
            RequestError: more than the service takes.
            KeyRefused: the key is wrong, or of another region.
            ToolFailed: the service refuses the request; its words are in the message.
            TransportError: no usable answer within the limits; ``retry_after`` where it said so.
        """
        options = options or Options()
        body = attest_body(quote, api=api, nonce=nonce, data=data, options=options)
        more = {"Content-Type": "application/json"}
        if options.request_id is not None:
            more["Request-Id"] = options.request_id
        return read_token(self._ask(ATTEST_PATHS[api], body, more, TOKEN_LIMIT))

    def _ask(self, path: str, body: bytes | None, more: Mapping[str, str], limit: int) -> bytes:
        """The body of a 200, after at most two repetitions."""
        deadline = self.clock.steady() + self.limits.total
        headers = {"Accept": "application/json", "x-api-key": self.key.reveal(), **more}
        for repeated in range(RETRIES + 1):
            answer, problem = self._ask_once(path, body, headers, deadline)
            if answer is not None and answer.status not in {*_RETRIED, _LIMITED}:
                return self._usable(answer, limit)
            pause = _PAUSE * 2**repeated * (1 + self.jitter())
            wanted = self._wanted_pause(answer)
            if wanted is not None:
                pause = wanted + self.jitter()
            left = deadline - self.clock.steady()
            if repeated == RETRIES or pause >= left:
                break
            self.sleep(pause)
        raise TransportError(
            f"{SERVICE}: {problem} (tried {repeated + 1}x)",
            hint=None if wanted is None else f"ask again in {wanted:.0f} s",
            retry_after=wanted,
        )

    def _ask_once(
        self, path: str, body: bytes | None, headers: Mapping[str, str], deadline: float
    ) -> tuple[Response | None, str]:
        """An answer, and what is wrong if it (or that there is none) may be better next time."""
        timeout = min(self.limits.once, deadline - self.clock.steady())
        if timeout <= 0:
            raise TransportError(f"{SERVICE}: no answer within {self.limits.total:.0f} s")
        url = f"{self.where.api}{path}"
        try:
            answer = self.exchange(
                url, headers=headers, limit=_ANSWER_LIMIT, timeout=timeout, body=body
            )
        except UnusableAnswer as error:
            problem = self._shown(error.message)
        except TransportError as error:
            return None, self._shown(error.message)
        else:
            return answer, self._status(answer)
        raise TransportError(f"{SERVICE}: {problem}")

    def _usable(self, answer: Response, limit: int) -> bytes:
        """The body of an answer that is final. Raises for everything but 200."""
        if answer.status != _OK:
            self._refuse(answer)
        if len(answer.body) > limit:
            raise TransportError(f"{SERVICE} answered with more than {limit} bytes")
        return answer.body

    def _refuse(self, answer: Response) -> NoReturn:
        said = self._status(answer)
        if answer.status in _KEY_REFUSED:
            raise KeyRefused(
                f"the API key is refused: {said}",
                origin=f"{SERVICE}, region {self.where.region}",
                hint="keys and subscriptions belong to one region: is yours another "
                "(--region us, eu)? else the key is revoked or its plan has ended",
            )
        if 300 <= answer.status < 400:
            raise TransportError(f"{SERVICE} redirects ({said}), which is not followed with a key")
        if 400 <= answer.status < 500:
            raise ToolFailed(f"the request is refused: {said}", origin=SERVICE)
        raise TransportError(f"{SERVICE}: {said}")

    def _status(self, answer: Response) -> str:
        text = self._shown(error_text(answer.body))
        return f"HTTP {answer.status}: {text}" if text else f"HTTP {answer.status}"

    def _shown(self, text: str) -> str:
        return cut(self.key.hide_in(text))

    def _wanted_pause(self, answer: Response | None) -> float | None:
        """Seconds that the service wants to be left alone; None if it does not say."""
        if answer is None or answer.status not in {_LIMITED, 503}:
            return None
        text = answer.headers.get("retry-after", "")
        if text.isascii() and text.isdecimal() and len(text) <= 9:
            return float(text)
        try:
            date = parsedate_to_datetime(text)
        except ValueError:
            return _LIMIT_PAUSE if answer.status == _LIMITED else None
        seconds = (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp()
        return max(0.0, seconds - self.clock.wall())
