"""What the service answers with: JSON, always, and 200 for nothing but an admission.

A client that looks at nothing but the status fails closed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec
from starlette.responses import Response

from mrtd.verifier.verdict import OK, UNAVAILABLE, Check, Verdict

GONE: Final = 499
"""For the log only: the client went away before there was an answer (nginx's number for it)."""


class ErrorText(msgspec.Struct, frozen=True):
    """What went wrong.

    Attributes:
        code: stable; a program may compare it.
        message: one line for a person; no secrets.
    """

    code: str
    message: str


class ErrorBody(msgspec.Struct, frozen=True, omit_defaults=True):
    """Body of every answer that is no result.

    Attributes:
        error: what went wrong.
        checks: every check of the verifier, where there was a verdict.
    """

    error: ErrorText
    checks: tuple[Check, ...] | None = None


class Refusal(Exception):
    """The request is answered with an error.

    Args:
        status: 4xx or 5xx.
        code: see `ErrorText`.
        message: ditto.
        retry_after: seconds.
        close: whether the connection ends, because what was sent was not read to its end.
    """

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        retry_after: int | None = None,
        close: bool = False,
    ) -> None:
        super().__init__(code)
        self.status, self.code, self.message = status, code, message
        self.retry_after, self.close = retry_after, close


class ClientGone(Exception):
    """Nobody is there to be answered."""


def json_answer(
    value: object, status: int = OK, headers: Mapping[str, str] | None = None
) -> Response:
    """A value as JSON."""
    return Response(msgspec.json.encode(value), status, headers, "application/json")


def error_answer(
    status: int,
    code: str,
    message: str,
    *,
    headers: Mapping[str, str] | None = None,
    checks: tuple[Check, ...] | None = None,
) -> Response:
    """An error as JSON."""
    return json_answer(ErrorBody(ErrorText(code, message), checks), status, headers)


def refusal_answer(refusal: Refusal) -> Response:
    """What a `Refusal` says."""
    headers = retry_headers(refusal.retry_after)
    if refusal.close:
        headers["connection"] = "close"
    return error_answer(refusal.status, refusal.code, refusal.message, headers=headers)


def retry_headers(seconds: int | None) -> dict[str, str]:
    """``Retry-After``, if there is something to say."""
    return {} if seconds is None else {"retry-after": str(seconds)}


def verdict_status(verdict: Verdict) -> int:
    """The status that says what a verdict says.

    Raises:
        Refusal: the verdict contradicts itself, which only a defect can bring about.
    """
    if verdict.allowed is not (verdict.status == OK):
        raise Refusal(500, "internal_error", "the verdict contradicts itself")
    return verdict.status


def verdict_headers(verdict: Verdict) -> dict[str, str]:
    """Headers that go with a verdict."""
    later = verdict.status == UNAVAILABLE
    return retry_headers(verdict.retry_after if later else None)
