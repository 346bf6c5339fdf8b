"""What a client can send, and what it is answered: never 200, always JSON."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from mrtd.service.limits import Limits
from tests.service.fleet import JSON, Agent, Fleet, Got, ask, run

BODY = b'{"ita_token":"a.b.c","binding":{"type":"report_data","report_data":"' + b"A" * 86 + b'"}}'


def answer(body: bytes, headers: dict[str, str] | None = None, **options: Any) -> Got:
    """What a sidecar answers to a body."""
    found: list[Got] = []

    async def work(fleet: Fleet) -> None:
        found.append(await ask(fleet.app, "POST", "/v1/verify", body, headers or JSON, **options))

    run(Fleet(limits=Limits(body_bytes=2000, body_seconds=0.05)), work)
    return found[0]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b"{}",
        b"\xff",
        b'{"ita_token":',
        b'{"binding":{"type":"none"}}',
        BODY.replace(b'"ita_token"', b'"more":1,"ita_token"'),
        BODY.replace(b'"ita_token"', b'"ita_token":"x","ita_token"'),
        BODY.replace(b'"ita_token"', b'"quote":"AA","collateral":{},"ita_token"'),
        BODY.replace(b'"ita_token"', b'"collateral":{},"ita_token"'),
        BODY.replace(b'"ita_token":"a.b.c"', b'"quote":"AA"'),
        BODY.replace(b'"ita_token":"a.b.c"', b'"quote":"AA","collateral":[]'),
        BODY.replace(b'"ita_token":"a.b.c"', b'"quote":"AA","collateral":{}'),
        BODY.replace(b'"ita_token":"a.b.c"', b'"quote":"AB","collateral":{}'),
        BODY.replace(b'"a.b.c"', b"7"),
        BODY.replace(b'"a.b.c"', b'"a.b.c","bundles":[1]'),
        BODY.replace(b'"a.b.c"', b'"a.b.c","bundles":[' + b"{}," * 8 + b"{}]"),
        BODY.replace(b'"a.b.c"', b'"a.b.c","vm_name":"a\\n"'),
        BODY.replace(b'"report_data",', b'"other",'),
        BODY.replace(b"A" * 86, b"A" * 85),
        BODY.replace(b"A" * 86, b"A" * 85 + b"="),
        BODY.replace(b"A" * 86, b"A" * 85 + b"B"),
        BODY.replace(b"A" * 86, b"A" * 85 + b"/"),
        BODY.replace(b'"type":"report_data",', b""),
        b"[" * 1900,
    ],
)
def test_what_is_no_request_is_refused(body: bytes) -> None:
    got = answer(body)
    assert (got.status, got.code) == (400, "invalid_request")


@pytest.mark.parametrize(
    "headers",
    [
        {"x-none": ""},
        {"content-type": "text/plain"},
        {"content-type": "application/json; charset=latin-1"},
        {**JSON, "content-encoding": "gzip"},
    ],
)
def test_a_body_of_another_type_is_refused(headers: dict[str, str]) -> None:
    got = answer(BODY, headers)
    assert (got.status, got.code) == (415, "unsupported_media_type")
    assert got.headers["connection"] == "close"


def test_a_body_that_says_that_it_is_too_large_is_not_read() -> None:
    got = answer(b"", {**JSON, "content-length": "2001"}, messages=[])
    assert (got.status, got.code) == (413, "body_too_large")


def test_a_body_without_a_length_is_counted() -> None:
    more = {"type": "http.request", "body": b" " * 700, "more_body": True}
    got = answer(b"", messages=[more] * 3)
    assert (got.status, got.code) == (413, "body_too_large")


def test_a_body_of_several_parts_is_read() -> None:
    parts: list[dict[str, Any]] = [
        {"type": "http.request", "body": BODY[i : i + 9], "more_body": True}
        for i in range(0, len(BODY), 9)
    ]
    got = answer(b"", messages=[*parts, {"type": "http.request"}])
    assert (got.status, got.json["reason"]) == (401, "token_malformed")


def test_a_slow_body_is_not_waited_for() -> None:
    more = {"type": "http.request", "body": BODY[:20], "more_body": True}
    got = answer(b"", messages=[more])
    assert (got.status, got.code) == (408, "body_timeout")


def test_who_hangs_up_gets_no_answer() -> None:
    fleet = Fleet()
    more = {"type": "http.request", "body": BODY[:20], "more_body": True}

    async def work(fleet: Fleet) -> None:
        got = await ask(
            fleet.app, "POST", "/v1/verify", b"", JSON, messages=[more, {"type": "http.disconnect"}]
        )
        assert got.status == 0

    run(fleet, work)
    assert [(line["status"], line["reason"]) for line in fleet.log()] == [(499, "client_gone")]
    assert (
        'mrtd_http_requests_total{path="/v1/verify",status="499"} 1' in fleet.service.exposition()
    )


def test_a_head_that_is_too_large_is_refused() -> None:
    got = answer(BODY, {**JSON, "x-long": "x" * (16 << 10)})
    assert (got.status, got.code) == (431, "head_too_large")


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/v1/verify", 405, "method_not_allowed"),
        ("HEAD", "/v1/verify", 405, "method_not_allowed"),
        ("OPTIONS", "/v1/verify", 405, "method_not_allowed"),
        ("POST", "/v1/verify/", 404, "not_found"),
        ("POST", "/V1/verify", 404, "not_found"),
        ("GET", "/register/nonce", 404, "not_found"),
        ("POST", "/healthz", 405, "method_not_allowed"),
    ],
)
def test_other_methods_and_paths_are_errors(method: str, path: str, status: int, code: str) -> None:
    async def work(fleet: Fleet) -> None:
        got = await ask(fleet.app, method, path, BODY, JSON)
        assert (got.status, got.code) == (status, code)

    run(Fleet(), work)


def test_a_nonce_is_asked_for_without_a_body() -> None:
    async def work(fleet: Fleet) -> None:
        got = await ask(fleet.app, "POST", "/v1/nonce", b'{"nonce":1}')
        assert (got.status, got.code) == (400, "invalid_request")
        got = await ask(fleet.app, "POST", "/v1/nonce", b"{}")
        assert (got.status, got.json["expires_in"]) == (200, 300)

    run(Fleet(), work)


def test_no_more_requests_at_a_time_than_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    fleet = Fleet(limits=Limits(in_flight=1))
    entered, leave = asyncio.Event(), asyncio.Event()

    async def hang(*_: Any, **__: Any) -> None:
        entered.set()
        await leave.wait()
        raise ValueError("the token is secret-secret")

    async def work(fleet: Fleet) -> None:
        first = asyncio.create_task(fleet.post("/v1/verify", BODY))
        await entered.wait()
        got = await fleet.post("/v1/verify", BODY)
        assert (got.status, got.code, got.headers["retry-after"]) == (503, "overloaded", "1")
        assert (await fleet.get("/healthz")).status == 200
        assert "mrtd_http_in_flight 1" in (await fleet.get("/metrics")).body.decode()
        leave.set()
        got = await first
        assert (got.status, got.code) == (500, "internal_error")
        assert b"secret" not in got.body
        assert (await ask(fleet.app, "POST", "/v1/nonce")).status == 200

    monkeypatch.setattr(fleet.service.verifier, "averify_registration", hang)
    run(fleet, work)
    assert b"secret" not in fleet.stream.getvalue()
    found = [line for line in fleet.log() if line["event"] == "internal error"]
    assert found[0]["detail"].startswith("ValueError at test_limits.py:")


def test_a_verifier_that_hangs_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    fleet = Fleet(limits=Limits(request_seconds=0.05))

    async def hang(*_: Any, **__: Any) -> None:
        await asyncio.Event().wait()

    async def work(fleet: Fleet) -> None:
        got = await fleet.post("/v1/verify", BODY)
        assert (got.status, got.code, got.headers["retry-after"]) == (503, "timeout", "5")

    monkeypatch.setattr(fleet.service.verifier, "averify_registration", hang)
    run(fleet, work)
    assert fleet.service.in_flight == 0


def test_a_verdict_that_contradicts_itself_admits_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    fleet = Fleet()
    fleet.publish()

    async def work(fleet: Fleet) -> None:
        import msgspec

        body = fleet.verification(Agent(), await fleet.nonce())
        real = fleet.service.verifier.averify_registration

        async def wrong(*arguments: Any, **keywords: Any) -> Any:
            verdict = await real(*arguments, **keywords)
            assert verdict.allowed
            return msgspec.structs.replace(verdict, allowed=False)

        monkeypatch.setattr(fleet.service.verifier, "averify_registration", wrong)
        got = await fleet.post("/v1/verify", body)
        assert (got.status, got.code) == (500, "internal_error")

    run(fleet, work)


def test_who_comes_when_the_service_stops_is_sent_away() -> None:
    async def work(fleet: Fleet) -> None:
        assert (await fleet.get("/readyz")).json["ready"] is True
        fleet.service.draining = True
        got = await fleet.post("/v1/verify", BODY)
        assert (got.status, got.code, got.headers["connection"]) == (503, "draining", "close")
        assert (await fleet.get("/healthz")).status == 200
        ready = await fleet.get("/readyz")
        assert (ready.status, ready.json["ready"]) == (503, False)

    run(Fleet(), work)
