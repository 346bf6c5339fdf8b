"""Quotes from an EasyEnclave guest, through its own socket instead of our agent.

The socket is a Unix socket in the guest: one JSON object a line, one exchange per connection,
``{"method": "attest", "report_data_b64": ...}`` (easyenclave/easyenclave, 2026-04). How the harness
gets to it (a forwarded socket, an exec of a workload) is the runner's affair; this module takes a
path or a connected socket. Whoever holds the socket chooses the report data, so a quote alone
proves nothing about who asked: the nonce in the report data does.

An EasyEnclave image keeps its measured parts, as nothing is added to it.
"""

from __future__ import annotations

import base64
import binascii
import json
import socket
import time
from pathlib import Path
from typing import Final, Literal

import msgspec

from ci.errors import LaunchFailed, printable
from ci.outcome import Outcome
from ci.payload import REPORT_DATA_SIZE
from mrtd.errors import MalformedQuote, SpecError, TransportError
from mrtd.evidence.quote import read_quote

ANSWER_LIMIT: Final = 1 << 20
"""Bytes of an answer; a quote of 8 kB makes about 11 kB."""

_ORIGIN: Final = "EasyEnclave"
_CHUNK: Final = 1 << 16
_TEXT_LIMIT: Final = 300


class _Head(msgspec.Struct):
    ok: bool
    error: str = ""


class _Attested(msgspec.Struct, forbid_unknown_fields=True):
    ok: Literal[True]
    quote_b64: str
    report_data_b64: str
    report_data_len: Literal[64]


def attest_at(
    path: Path, report_data: bytes, *, token: str | None = None, timeout: float = 60
) -> bytes:
    """`attest` over a Unix socket that is (or is forwarded) at ``path``."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as stream:
        try:
            stream.settimeout(timeout)
            stream.connect(str(path))
        except OSError as error:
            raise TransportError(f"{_ORIGIN}: {path}: {error}") from error
        return attest(stream, report_data, token=token, timeout=timeout)


def attest(
    stream: socket.socket, report_data: bytes, *, token: str | None = None, timeout: float = 60
) -> bytes:
    """A quote over ``report_data``; nobody has verified it.

    Args:
        stream: a connected stream socket; it serves this one exchange.
        report_data: 64 bytes.
        token: what a sealed EasyEnclave wants with each request.
        timeout: seconds for the whole exchange.

    Raises:
        SpecError: the report data are not 64 bytes.
        TransportError: no answer in time, or the connection ended before one.
        LaunchFailed: EasyEnclave refused (``quote_refused``), or the quote is over other report
            data (``report_data_differs``).
        MalformedQuote: what came is no such answer, or no quote is in it.
    """
    if len(report_data) != REPORT_DATA_SIZE:
        raise SpecError(
            f"{len(report_data)} bytes, not {REPORT_DATA_SIZE}", origin=_ORIGIN, field="report_data"
        )
    message = {"method": "attest", "report_data_b64": base64.b64encode(report_data).decode()}
    if token is not None:
        message["token"] = token
    line = _exchange(stream, json.dumps(message).encode() + b"\n", timeout)
    answer = _read(line)
    quote = _base64(answer.quote_b64, "quote_b64")
    found = read_quote(quote, origin=_ORIGIN).report.report_data
    for where, seen in (
        ("the answer", _base64(answer.report_data_b64, "report_data_b64")),
        ("the quote", found),
    ):
        if seen != report_data:
            raise LaunchFailed(
                f"{_ORIGIN}: {where} has report data {seen[:64].hex()}, not {report_data.hex()}",
                code=Outcome.REPORT_DATA_DIFFERS,
            )
    return quote


def _exchange(stream: socket.socket, message: bytes, timeout: float) -> bytes:
    """Send one line, receive one; all in so many seconds, the answer no longer than the limit."""
    deadline = time.monotonic() + timeout
    answer = bytearray()
    try:
        stream.settimeout(timeout)
        stream.sendall(message)
        while b"\n" not in answer:
            if len(answer) > ANSWER_LIMIT:
                raise MalformedQuote(f"an answer of over {ANSWER_LIMIT} bytes", origin=_ORIGIN)
            stream.settimeout(max(deadline - time.monotonic(), 0.001))
            chunk = stream.recv(_CHUNK)
            if not chunk:
                raise TransportError(f"{_ORIGIN} closed the connection in the middle of its answer")
            answer += chunk
    except TimeoutError as error:
        raise TransportError(f"{_ORIGIN} gave no answer in {timeout:g} seconds") from error
    except OSError as error:
        raise TransportError(f"{_ORIGIN}: {error}") from error
    line, _, rest = bytes(answer).partition(b"\n")
    if rest:
        raise MalformedQuote("more than one line in answer to one", origin=_ORIGIN)
    return line


def _read(line: bytes) -> _Attested:
    try:
        head = msgspec.json.decode(line, type=_Head)
        if not head.ok:
            said = printable(head.error.encode())[:_TEXT_LIMIT] or "no reason given"
            raise LaunchFailed(f"{_ORIGIN} gives no quote: {said}", code=Outcome.QUOTE_REFUSED)
        return msgspec.json.decode(line, type=_Attested)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise MalformedQuote(f"no such answer: {error}", origin=_ORIGIN) from error


def _base64(text: str, field: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise MalformedQuote(f"no base64: {error}", origin=_ORIGIN, field=field) from error
