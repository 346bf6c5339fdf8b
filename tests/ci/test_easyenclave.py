"""The EasyEnclave adapter against a double that answers as told."""

from __future__ import annotations

import base64
import contextlib
import json
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import ci.easyenclave
from ci.easyenclave import attest, attest_at
from ci.errors import LaunchFailed
from ci.outcome import Outcome
from fixtures.quotes import Td, build_quote
from mrtd.errors import MalformedQuote, MrtdError, SpecError, TransportError

REPORT_DATA = bytes(range(64))
QUOTE = build_quote(Td(report_data=REPORT_DATA))


def base64_of(data: bytes) -> str:
    return base64.b64encode(data).decode()


def good(**changes: Any) -> dict[str, Any]:
    answer: dict[str, Any] = {
        "ok": True,
        "quote_b64": base64_of(QUOTE),
        "report_data_b64": base64_of(REPORT_DATA),
        "report_data_len": 64,
    }
    return answer | changes


def line(answer: object) -> bytes:
    return json.dumps(answer).encode() + b"\n"


@contextlib.contextmanager
def double(reply: bytes | Callable[[dict[str, Any]], bytes]) -> Iterator[socket.socket]:
    """The client's end of a connection to an EasyEnclave that answers once, then closes."""
    ours, theirs = socket.socketpair()

    def serve() -> None:
        # the client may be gone before it has read everything
        with theirs, contextlib.suppress(OSError), theirs.makefile("rb") as lines:
            asked = json.loads(lines.readline())
            theirs.sendall(reply(asked) if callable(reply) else reply)

    server = threading.Thread(target=serve)
    server.start()
    try:
        with ours:
            yield ours
    finally:
        server.join()


def test_a_quote() -> None:
    asked: list[dict[str, Any]] = []

    def reply(message: dict[str, Any]) -> bytes:
        asked.append(message)
        return line(good())

    with double(reply) as stream:
        assert attest(stream, REPORT_DATA) == QUOTE
    with double(reply) as stream:
        assert attest(stream, REPORT_DATA, token="sesame") == QUOTE  # noqa: S106 - no password
    request = {"method": "attest", "report_data_b64": base64_of(REPORT_DATA)}
    assert asked == [request, request | {"token": "sesame"}]


def test_a_real_quote(corpus: Path) -> None:
    quote = (corpus / "quotes/gce-cos-113.quote").read_bytes()
    differs = pytest.raises(LaunchFailed, match="the quote has report data")
    with double(line(good(quote_b64=base64_of(quote)))) as stream, differs as failure:
        attest(stream, REPORT_DATA)
    assert failure.value.code is Outcome.REPORT_DATA_DIFFERS


def test_through_a_path(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()

        def serve() -> None:
            stream, _ = listener.accept()
            with stream, stream.makefile("rb") as lines:
                lines.readline()
                stream.sendall(line(good()))

        server = threading.Thread(target=serve)
        server.start()
        assert attest_at(path, REPORT_DATA) == QUOTE
        server.join()
    with pytest.raises(TransportError, match="none"):
        attest_at(tmp_path / "none", REPORT_DATA)


@pytest.mark.parametrize(
    ("reply", "error", "reason"),
    [
        (b"", TransportError, "closed the connection"),
        (line(good())[:-1], TransportError, "closed the connection"),
        (b"x" * 5000, MalformedQuote, "an answer of over 4096 bytes"),
        (b"{}\n", MalformedQuote, "no such answer"),
        (b"[" * 3000 + b"\n", MalformedQuote, "no such answer"),
        (b"\xff\n", MalformedQuote, "no such answer"),
        (line([]), MalformedQuote, "no such answer"),
        (line({"ok": True}), MalformedQuote, "no such answer"),
        (line({"ok": "yes"}), MalformedQuote, "no such answer"),
        (line(good(more=1)), MalformedQuote, "no such answer"),
        (line(good(report_data_len=63)), MalformedQuote, "no such answer"),
        (line(good()) + b"{}", MalformedQuote, "more than one line"),
        (line(good(quote_b64="?")), MalformedQuote, "quote_b64: no base64"),
        (line(good(quote_b64="\u00e9")), MalformedQuote, "quote_b64: no base64"),
        (line(good(quote_b64="")), MalformedQuote, "EasyEnclave"),
        (line({"ok": False}), LaunchFailed, "gives no quote: no reason given"),
        (
            line({"ok": False, "error": "sealed \x1b[1m"}),
            LaunchFailed,
            r"gives no quote: sealed \\x1b\[1m",
        ),
        (
            line(good(report_data_b64=base64_of(bytes(64)))),
            LaunchFailed,
            "the answer has report data 0000",
        ),
    ],
)
def test_other_answers(
    reply: bytes, error: type[MrtdError], reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ci.easyenclave, "ANSWER_LIMIT", 1 << 12)
    monkeypatch.setattr(ci.easyenclave, "_CHUNK", 1 << 12)
    with double(reply) as stream, pytest.raises(error, match=reason):
        attest(stream, REPORT_DATA)


def test_no_answer() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs, pytest.raises(TransportError, match=r"no answer in 0\.1 seconds"):
        attest(ours, REPORT_DATA, timeout=0.1)


def test_the_question_has_64_bytes() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs, pytest.raises(SpecError, match="63 bytes, not 64"):
        attest(ours, bytes(63))


@given(st.binary(max_size=200) | st.builds(line, st.recursive(st.none(), st.lists)))
def test_nothing_foreign_from_any_answer(reply: bytes) -> None:
    with double(reply) as stream, contextlib.suppress(MrtdError):
        attest(stream, REPORT_DATA)
