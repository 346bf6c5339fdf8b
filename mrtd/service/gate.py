"""The outermost layer: limits, errors, the log line and the counters of every request."""

from __future__ import annotations

import asyncio
import re
import secrets
import time
import traceback
from typing import Final

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mrtd.service.answers import (
    GONE,
    ClientGone,
    Refusal,
    error_answer,
    refusal_answer,
)
from mrtd.service.service import Service
from mrtd.verifier.verdict import Verdict

_UNKNOWN: Final = "(unknown)"
_NOTES: Final = "mrtd.notes"
_ID: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")
_METHODS: Final = frozenset({"DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT"})
_CODES: Final = {404: "not_found", 405: "method_not_allowed"}


class Notes:
    """What an endpoint says for the log line of its request.

    Attributes:
        vm: name of the VM.
        reason: code of verdict or error.
        labels: of the verdict.
        check: name of the check that decided.
        detail: the verdict's message.
    """

    def __init__(self) -> None:
        self.vm: str | None = None
        self.reason: str | None = None
        self.labels: tuple[str, ...] = ()
        self.check: str | None = None
        self.detail: str | None = None

    def take(self, verdict: Verdict) -> None:
        """What a verdict says. Its message is for logs: of tokens and proofs it has nothing."""
        self.reason = None if verdict.reason is None else str(verdict.reason)
        self.labels, self.detail = verdict.labels, verdict.message
        # verdicts are decided by the first check of their reason
        deciding = (c.name for c in verdict.checks if not c.ok and c.reason is verdict.reason)
        self.check = None if verdict.reason is None else next(deciding, None)


def notes_of(request: Request) -> Notes:
    """The notes of a request."""
    notes: Notes = request.scope[_NOTES]
    return notes


class Gate:
    """An ASGI application around another one.

    Args:
        app: the endpoints; what they raise is answered here.
        service: limits, counters, log.
        paths: that the endpoints have: others are neither counted nor logged by name.
        working: paths whose requests count as in flight; the others have to work under load too.
    """

    def __init__(
        self, app: ASGIApp, service: Service, *, paths: frozenset[str], working: frozenset[str]
    ) -> None:
        self._app, self._service = app, service
        self._paths, self._working = paths, working
        # "/agent/{agent_id}": paths below a folder count together, however many there are
        self._folders = {path.partition("{")[0]: path for path in paths if "{" in path}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] != "http":
            raise RuntimeError(f"not served: {scope['type']}")
        started = time.perf_counter()
        notes = scope[_NOTES] = Notes()
        scope["app"] = self  # starlette raises instead of answering in plain text
        path = self._named(scope["path"])
        sent = _Sent(send, _request_id(Request(scope)))
        try:
            await self._run(scope, receive, sent)
        finally:
            seconds = time.perf_counter() - started
            self._service.answered(path, sent.status, seconds)
            self._service.log.write(
                "request",
                level="error" if sent.status == 500 else "info",
                method=scope["method"] if scope["method"] in _METHODS else None,
                path=path,
                status=sent.status or GONE,
                reason=notes.reason,
                duration_ms=round(seconds * 1000, 3),
                request_id=sent.request_id,
                vm=notes.vm,
                labels=notes.labels,
                check=notes.check,
                detail=notes.detail,
            )

    def _named(self, path: str) -> str:
        """What a path is counted as."""
        if path in self._paths:
            return path
        return self._folders.get(path[: path.rfind("/") + 1], _UNKNOWN)

    async def _run(self, scope: Scope, receive: Receive, sent: _Sent) -> None:
        answer: Response | None = None
        notes: Notes = scope[_NOTES]
        try:
            self._check_head(scope)
            if self._named(scope["path"]) in self._working:
                await self._work(scope, receive, sent)
            else:
                await self._limited(scope, receive, sent)
        except ClientGone:
            notes.reason = "client_gone"
        except Refusal as refusal:
            notes.reason = refusal.code
            answer = refusal_answer(refusal)
        except HTTPException as error:
            notes.reason = _CODES.get(error.status_code, "http_error")
            text = error.detail
            answer = error_answer(error.status_code, notes.reason, text, headers=error.headers)
        except Exception as error:  # noqa: BLE001 - whatever it is, it admits nobody
            notes.reason = "internal_error"
            self._service.log.write(
                "internal error", level="error", request_id=sent.request_id, detail=_where(error)
            )
            answer = error_answer(500, "internal_error", "an error of ours; see the log")
        if answer is not None and sent.status is None:
            await answer(scope, receive, sent)

    def _check_head(self, scope: Scope) -> None:
        """h11 counts what it cannot read yet; a large head that came at once it does read."""
        size = len(scope.get("raw_path", b"")) + len(scope.get("query_string", b""))
        size += sum(len(name) + len(value) + 4 for name, value in scope["headers"])
        if size > self._service.limits.head_bytes:
            text = "the head of the request cannot be read"
            raise Refusal(431, "head_too_large", text, close=True)
        names = {name for name, _ in scope["headers"]}
        if {b"content-length", b"transfer-encoding"} <= names:
            # RFC 9112, 6.1: a proxy may go by the other one, and hide a request in the body
            text = "Content-Length and Transfer-Encoding together"
            raise Refusal(400, "invalid_request", text, close=True)

    async def _work(self, scope: Scope, receive: Receive, sent: _Sent) -> None:
        service = self._service
        if service.draining:
            raise Refusal(503, "draining", "the service stops", retry_after=1, close=True)
        if service.in_flight >= service.limits.in_flight:
            text = "too many requests at a time; try again"
            raise Refusal(503, "overloaded", text, retry_after=1, close=True)
        service.in_flight += 1
        try:
            await self._limited(scope, receive, sent)
        finally:
            service.in_flight -= 1

    async def _limited(self, scope: Scope, receive: Receive, sent: _Sent) -> None:
        try:
            async with asyncio.timeout(self._service.limits.request_seconds):
                await self._app(scope, receive, sent)
        except TimeoutError as error:
            text = "not answered in time; try again"
            raise Refusal(503, "timeout", text, retry_after=5, close=True) from error


class _Sent:
    """``send``, with headers that every answer has.

    Attributes:
        status: of the answer; None before it.
        request_id: the client's, or one of ours.
    """

    def __init__(self, send: Send, request_id: str) -> None:
        self.status: int | None = None
        self.request_id = request_id
        self._send = send

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            message["headers"] = [
                *message["headers"],
                (b"cache-control", b"no-store"),
                (b"x-content-type-options", b"nosniff"),
                (b"x-request-id", self.request_id.encode()),
            ]
        await self._send(message)


def _request_id(request: Request) -> str:
    """The client's id, if it is one that can be logged."""
    given = request.headers.get("x-request-id", "")
    return given if _ID.fullmatch(given) else secrets.token_hex(8)


def _where(error: Exception) -> str:
    """Kind and place of an error; its message may quote a secret."""
    frames = traceback.extract_tb(error.__traceback__)
    place = f" at {frames[-1].filename.rpartition('/')[2]}:{frames[-1].lineno}" if frames else ""
    return f"{type(error).__name__}{place}"
