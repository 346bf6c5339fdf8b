"""The client of Intel Trust Authority, against the double behind TLS on this machine."""

from __future__ import annotations

import argparse
import base64
import gc
import json
import pickle
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ci import __main__ as command_line
from ci import ita_command
from ci.ita import KeyRefused, Limits, TrustAuthority
from ci.ita_check import (
    NotBound,
    RoundTrip,
    TokenRefused,
    check_round_trip,
    compare_reports,
    require_binding,
    second_opinion,
)
from ci.ita_settings import ApiKey, Endpoints, SettingsError, api_key, endpoints
from ci.ita_wire import (
    BODY_LIMIT,
    NONCE_LIMIT,
    TOKEN_LIMIT,
    Nonce,
    Options,
    RequestError,
    attest_body,
    error_text,
    read_nonce,
    read_token,
)
from fixtures.dcap import NOW as DCAP_NOW
from fixtures.dcap import World, authority
from fixtures.quotes import SEPT_VE_DISABLE, Td, build_quote
from mrtd.cli import run
from mrtd.errors import (
    MalformedStatement,
    MrtdError,
    ToolFailed,
    ToolMissing,
    TransportError,
)
from mrtd.evidence.collateral import read_collateral
from mrtd.evidence.quote import Quote, read_quote
from mrtd.evidence.tcb import TcbStatus
from mrtd.verifier.binding import report_data
from mrtd.verifier.fetch import HttpFetch
from mrtd.verifier.jwks import KeySource
from tests.conftest import ROOT
from tests.lab import trust_authority as lab
from tests.lab.web import Answer, How, Request, Server, make_certificate

DATA: Final = b"registration data"
KEY: Final = lab.API_KEY
Respond = Callable[[Request, Answer], Answer]


def quote_of(td: Td | None = None, **more: Any) -> Quote:
    return read_quote(build_quote(td, **more), origin="quote")


@dataclass
class Desk:
    """A client and its service.

    Attributes:
        respond: what becomes of the double's good answer.
        slept: pauses, in seconds.
    """

    server: Server
    ca: Path
    clock: lab.LabClock
    key: str = KEY
    limits: Limits = field(default_factory=Limits)
    slept: list[float] = field(default_factory=list)
    double: lab.TrustAuthority = field(default_factory=lab.TrustAuthority)

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.clock.advance(seconds)

    @property
    def where(self) -> Endpoints:
        origin = self.server.origin
        return Endpoints(origin, lab.ISSUER, f"{origin}/certs", "us")

    def client(self) -> TrustAuthority:
        return TrustAuthority(
            self.where,
            ApiKey(self.key),
            exchange=HttpFetch(ca_bundle=self.ca),
            clock=self.clock.clock,
            sleep=self.sleep,
            jitter=lambda: 0.5,
            limits=self.limits,
        )

    def keys(self) -> KeySource:
        fetch = HttpFetch(ca_bundle=self.ca)
        return KeySource(self.where.token_policy(), fetch, self.clock.clock)

    def asked(self, path: str) -> list[Request]:
        return [request for request in self.server.requests if request.path == path]

    def trip(self, quote: Quote, token: str | None = None, **more: Any) -> RoundTrip:
        if token is None:
            token = self.client().attest(
                quote.raw, **{k: v for k, v in more.items() if k in {"nonce", "data"}}
            )
        return check_round_trip(
            token, quote, where=self.where, keys=self.keys(), now=self.clock.wall, **more
        )


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return make_certificate(tmp_path_factory.mktemp("certificate"))


@pytest.fixture
def open_desk(certificate: tuple[Path, Path]) -> Callable[..., Any]:
    @contextmanager
    def opened(respond: Respond = lambda _, good: good, **more: Any) -> Iterator[Desk]:
        double = lab.TrustAuthority()

        def answer(request: Request) -> Answer:
            return respond(request, double.answer(request))

        with Server(answer, tls=certificate[0]) as server:
            yield Desk(server, certificate[1], lab.LabClock(), double=double, **more)
        assert server.errors == []

    return opened


def bound_quote(nonce: Nonce, data: bytes = DATA, **more: Any) -> Quote:
    return quote_of(Td(report_data=report_data(data, nonce.decoded)), **more)


# the good way


@pytest.mark.parametrize("api", ["v1", "v2"])
def test_nonce_quote_token(open_desk: Callable[..., Any], api: Any) -> None:
    with open_desk() as desk:
        nonce = desk.client().nonce()
        quote = bound_quote(nonce)
        require_binding(quote, nonce=nonce, data=DATA)
        token = desk.client().attest(quote.raw, api=api, nonce=nonce, data=DATA)
        trip = desk.trip(quote, token, nonce=nonce, data=DATA)
        (attest,) = desk.asked(f"/appraisal/{api}/attest")
        certs = desk.asked("/certs")
    trip.require()
    assert trip.ok
    assert trip.checked.runtime_data == DATA
    assert attest.headers["content-type"] == "application/json"
    assert "request-id" not in attest.headers
    body = json.loads(attest.body)
    assert set(body) == ({"tdx"} if api == "v2" else {"quote", "verifier_nonce", "runtime_data"})
    evidence = body.get("tdx", body)
    assert base64.b64decode(evidence["quote"]) == quote.raw
    assert evidence["verifier_nonce"] == nonce.as_json()
    # the key is for the API, and not for whoever serves the keys
    assert [request.headers.get("x-api-key") for request in certs] == [None]
    assert desk.slept == []


def test_base64_is_undone_once(open_desk: Callable[..., Any]) -> None:
    with open_desk() as desk:
        nonce = desk.client().nonce()
    assert nonce.decoded.iat == b"2026-11-23 12:26:40 +0000 UTC"
    assert base64.b64decode(nonce.decoded.val)  # text that is base64 again, and stays so


def test_options_are_sent(open_desk: Callable[..., Any]) -> None:
    ids = ("00000000-0000-4000-8000-000000000001",)
    options = Options(ids, policy_must_match=True, algorithm="RS256", request_id="run-17.1")
    with open_desk() as desk:
        desk.client().attest(quote_of().raw, options=options)
        (request,) = desk.asked("/appraisal/v2/attest")
    body = json.loads(request.body)
    assert body["policy_ids"] == list(ids)
    assert (body["policy_must_match"], body["token_signing_alg"]) == (True, "RS256")
    assert request.headers["request-id"] == "run-17.1"


@pytest.mark.parametrize("name", ["gce-cos-113.quote", "spr-v4.quote", "v5-sample.quote", "dstack"])
@pytest.mark.parametrize("api", ["v1", "v2"])
def test_real_quotes(open_desk: Callable[..., Any], corpus: Path, name: str, api: Any) -> None:
    if name == "dstack":
        document = json.loads((corpus / "quotes" / "dstack-quote-report.json").read_bytes())
        raw = bytes.fromhex(document["quote"])
    else:
        raw = (corpus / "quotes" / name).read_bytes()
    # the repository that published it left 39 bytes of something else after it
    quote = read_quote(raw[:4935] if name == "spr-v4.quote" else raw, origin=name)
    with open_desk() as desk:
        trip = desk.trip(quote, desk.client().attest(quote.raw, api=api))
    assert trip.checked.ok
    assert trip.differences == ()
    assert trip.ok


# faults of the service, one at a time


def faulty(answer: Answer, *, times: int = 99) -> Respond:
    left = [times]

    def respond(request: Request, good: Answer) -> Answer:
        if request.path == "/certs":
            return good
        left[0] -= 1
        return good if left[0] < 0 else answer

    return respond


def failing(open_desk: Callable[..., Any], answer: Answer, **more: Any) -> tuple[MrtdError, Desk]:
    with open_desk(faulty(answer), **more) as desk:
        with pytest.raises(MrtdError) as caught:
            desk.client().attest(quote_of().raw)
        assert caught.value.__cause__ is None
        return caught.value, desk


FINAL: Final = {
    "bad-request": (Answer(400, b'{"error":"quote is bad"}'), ToolFailed, "HTTP 400: quote is bad"),
    "not-found": (Answer(404), ToolFailed, "HTTP 404"),
    "too-large": (Answer(413, b'{"error":"big"}'), ToolFailed, "HTTP 413: big"),
    "other-5xx": (Answer(502, b'{"error":"gone"}'), TransportError, "HTTP 502: gone"),
    "no-json": (Answer(200, b"<html>maintenance</html>"), TransportError, "no token"),
    "no-token": (Answer(200, b'{"token":null}'), TransportError, "no token"),
    "empty-token": (Answer(200, b'{"token":""}'), TransportError, "no token"),
    "two-tokens": (Answer(200, b'{"token":"a","token":"b"}'), TransportError, "no token"),
    "no-content": (Answer(204), TransportError, "HTTP 204"),
    "redirect": (
        Answer(307, b"", {"Location": "https://elsewhere.test/"}),
        TransportError,
        "redirects",
    ),
    "huge": (Answer(200, bytes(TOKEN_LIMIT + 1)), TransportError, f"more than {TOKEN_LIMIT} bytes"),
    "declared-huge": (
        Answer(200, b"x", {"Content-Length": str(1 << 40)}),
        TransportError,
        f"more than {TOKEN_LIMIT} bytes",
    ),
    "no-length": (Answer(200, b"{}", how=How.WITHOUT_LENGTH), TransportError, "without a length"),
}


@pytest.mark.parametrize("name", FINAL)
def test_what_would_not_go_better_is_asked_once(open_desk: Callable[..., Any], name: str) -> None:
    answer, kind, text = FINAL[name]
    error, desk = failing(open_desk, answer)
    assert type(error) is kind
    assert text in str(error)
    assert len(desk.server.requests) == 1
    assert desk.slept == []


AGAIN: Final = {
    "500": Answer(500, b'{"error":"oops"}'),
    "503": Answer(503),
    "504": Answer(504),
    "reset": Answer(how=How.RESET),
    "truncated": Answer(200, b'{"token":"a"}', how=How.TRUNCATED),
    "chunks-cut": Answer(200, b'{"token":"a"}', how=How.CHUNKED_TRUNCATED),
}


@pytest.mark.parametrize("name", AGAIN)
def test_what_may_go_better_is_asked_three_times(open_desk: Callable[..., Any], name: str) -> None:
    error, desk = failing(open_desk, AGAIN[name])
    assert type(error) is TransportError
    assert "tried 3x" in str(error)
    assert len(desk.server.requests) == 3
    assert desk.slept == [0.75, 1.5]


@pytest.mark.parametrize("name", AGAIN)
@pytest.mark.parametrize("times", [1, 2])
def test_and_goes_better(open_desk: Callable[..., Any], name: str, times: int) -> None:
    with open_desk(faulty(AGAIN[name], times=times)) as desk:
        desk.trip(quote_of()).require()
    assert len(desk.slept) == times


def test_slow_drip_ends(open_desk: Callable[..., Any]) -> None:
    error, _ = failing(open_desk, Answer(how=How.DRIPPING_HEAD), limits=Limits(once=0.2))
    assert type(error) is TransportError
    assert "tried 3x" in str(error)


def test_slow_drip_of_a_body_that_is_too_long_is_not_waited_for(
    open_desk: Callable[..., Any],
) -> None:
    error, desk = failing(open_desk, Answer(how=How.DRIPPING_BODY))
    assert f"more than {TOKEN_LIMIT} bytes" in str(error)
    assert len(desk.server.requests) == 1


def test_nobody_listens(open_desk: Callable[..., Any]) -> None:
    with open_desk() as desk:
        client = desk.client()
    with pytest.raises(TransportError, match=r"ConnectionRefusedError \(tried 3x\)"):
        client.nonce()


def test_certificate_of_a_stranger(open_desk: Callable[..., Any], tmp_path: Path) -> None:
    _, other = make_certificate(tmp_path)
    with open_desk() as desk:
        desk.ca = other
        with pytest.raises(TransportError, match="SSLCertVerificationError"):
            desk.client().nonce()
        assert desk.server.requests == []


@pytest.mark.parametrize("status", [401, 403])
def test_refused_key(open_desk: Callable[..., Any], status: int) -> None:
    error, desk = failing(open_desk, Answer(status, b'{"error":"Forbidden"}'))
    assert type(error) is KeyRefused
    assert error.exit_code == 2
    assert f"HTTP {status}: Forbidden" in str(error)
    assert "region us" in str(error)
    assert "--region us, eu" in str(error.hint)
    assert len(desk.server.requests) == 1


def test_wrong_key_at_the_double(open_desk: Callable[..., Any]) -> None:
    with open_desk(key="another") as desk, pytest.raises(KeyRefused, match="unauthorized"):
        desk.client().nonce()


# rate limits


def test_retry_after_is_waited_for(open_desk: Callable[..., Any]) -> None:
    limited = Answer(429, b"", {"Retry-After": "7"})
    with open_desk(faulty(limited, times=1)) as desk:
        desk.trip(quote_of()).require()
    assert desk.slept == [7.5]


def test_retry_after_as_a_date(open_desk: Callable[..., Any]) -> None:
    date = format_datetime(datetime.fromtimestamp(lab.NOW, UTC) + timedelta(seconds=11))
    with open_desk(faulty(Answer(429, b"", {"Retry-After": date}), times=1)) as desk:
        desk.trip(quote_of()).require()
    assert desk.slept == [11.5]


@pytest.mark.parametrize("value", ["300", "999999999"])
def test_beyond_the_deadline_nothing_is_waited_for(
    open_desk: Callable[..., Any], value: str
) -> None:
    error, desk = failing(open_desk, Answer(429, b"", {"Retry-After": value}))
    assert isinstance(error, TransportError)
    assert error.retry_after == float(value)
    assert f"ask again in {value} s" in str(error)
    assert (desk.slept, len(desk.server.requests)) == ([], 1)


@pytest.mark.parametrize("value", ["", "soon", "-1", "1e3", "\u0661", "1" * 40])
def test_nonsense_in_retry_after(open_desk: Callable[..., Any], value: str) -> None:
    headers = {"Retry-After": value.encode().decode("latin-1")}
    error, desk = failing(open_desk, Answer(429, b"", headers))
    assert isinstance(error, TransportError)
    assert error.retry_after == 30
    assert desk.slept == [30.5, 30.5]


def test_the_deadline_counts_all_tries(open_desk: Callable[..., Any]) -> None:
    error, desk = failing(open_desk, Answer(503), limits=Limits(total=1.0))
    assert desk.slept == [0.75]
    assert "tried 2x" in str(error)


# the key is nowhere


@pytest.mark.parametrize("status", [200, 307, 400, 401, 404, 429, 500, 502, 503])
def test_an_echo_of_the_key_is_not_shown(open_desk: Callable[..., Any], status: int) -> None:
    secret = "s3cr3t-" + "k" * 40
    said = json.dumps({"error": f"x-api-key {secret} " * 30}).encode()
    error, _ = failing(
        open_desk, Answer(status, said, {"Location": f"https://a.test/{secret}"}), key=secret
    )
    for text in (str(error), repr(error), error.message, str(error.hint)):
        assert secret not in text
        assert "s3cr3t" not in text


def test_the_key_shows_itself_to_nobody() -> None:
    key = ApiKey("s3cr3t")
    client = TrustAuthority(endpoints(), key)
    assert "s3cr3t" not in f"{key!r} {key} {client!r} {client}"
    with pytest.raises(TypeError):
        pickle.dumps(key)


@pytest.mark.parametrize("text", ["", "a b", "a\nb: c", "kéy", "k" * 1025, "\x7f"])
def test_no_key(text: str) -> None:
    with pytest.raises(SettingsError) as caught:
        ApiKey(text)
    assert text not in str(caught.value) or text == ""


def test_where_the_key_comes_from() -> None:
    assert api_key({"DD_ITA_API_KEY": "a", "ITA_API_KEY": "b"}).reveal() == "a"
    assert api_key({"DD_ITA_API_KEY": "", "ITA_API_KEY": "b\n"}).reveal() == "b"
    with pytest.raises(SettingsError, match="DD_ITA_API_KEY or ITA_API_KEY"):
        api_key({})


# regions


def test_regions() -> None:
    us, eu = endpoints("us"), endpoints("eu")
    assert us == Endpoints(
        "https://api.trustauthority.intel.com",
        "https://portal.trustauthority.intel.com",
        "https://portal.trustauthority.intel.com/certs",
        "us",
    )
    assert eu.api == "https://api.eu.trustauthority.intel.com"
    assert eu.issuer == "https://portal.eu.trustauthority.intel.com"
    assert eu.token_policy().jwks_url == "https://portal.eu.trustauthority.intel.com/certs"
    assert us.token_policy().issuer == us.issuer


def test_settings_of_dd() -> None:
    found = endpoints(
        "us",
        {
            "DD_ITA_BASE_URL": "api.lab.test/",
            "DD_ITA_JWKS_URL": "https://portal.lab.test/certs",
            "DD_ITA_ISSUER": "Lab Trust Authority",
        },
    )
    assert found == Endpoints(
        "https://api.lab.test", "Lab Trust Authority", "https://portal.lab.test/certs", "custom"
    )


@pytest.mark.parametrize(
    "text",
    [
        "http://a.test",
        "https://",
        "https://u:p@a.test",
        "https://a.test:x",
        "a b",
        "https://a/?k=1",
    ],
)
def test_addresses_that_are_none(text: str) -> None:
    with pytest.raises(SettingsError) as caught:
        endpoints("us", {"DD_ITA_BASE_URL": text})
    assert text not in str(caught.value)


# what is asked


def test_limits_of_a_request() -> None:
    some = "00000000-0000-4000-8000-000000000001"
    assert len(Options(policy_ids=(some,) * 10).policy_ids) == 10
    for bad in ({"policy_ids": (some,) * 11}, {"policy_ids": ("\x1b[1m",)}, {"request_id": ""},
                {"request_id": "a" * 129}, {"request_id": "a\r\nx-api-key: b"}):  # fmt: skip
        with pytest.raises(RequestError) as caught:
            Options(**bad)
        assert "\x1b" not in str(caught.value)
    overhead = len(attest_body(b"", api="v2"))
    most = (BODY_LIMIT - overhead) // 4 * 3
    assert len(attest_body(bytes(most), api="v2")) <= BODY_LIMIT
    with pytest.raises(RequestError, match="more than 500000"):
        attest_body(bytes(most + 3), api="v2")


def test_a_quote_of_another_nonce_is_not_sent(open_desk: Callable[..., Any]) -> None:
    with open_desk() as desk:
        first, second = desk.client().nonce(), desk.client().nonce()
    quote = bound_quote(first)
    require_binding(quote, nonce=first, data=DATA)
    require_binding(quote, nonce=None, data=b"")
    for nonce, data in ((second, DATA), (first, b""), (first, DATA + b"x"), (None, DATA)):
        with pytest.raises(NotBound, match="report data is"):
            require_binding(quote, nonce=nonce, data=data)


# what comes back


def test_token_of_another_quote_names_every_field(open_desk: Callable[..., Any]) -> None:
    td = Td(mr_td=b"\x01" * 48, rtmrs=(b"\x02" * 48, *Td().rtmrs[1:]))
    with open_desk() as desk:
        trip = desk.trip(quote_of(), desk.double.token(td.report10()))
    assert {d.field for d in trip.differences} == {"mr_td", "rtmr0"}
    with pytest.raises(TokenRefused, match=r"another quote: mr_td: (01){48}, not .*rtmr0: ") as e:
        trip.require()
    assert e.value.exit_code == 1
    assert not trip.ok


@pytest.mark.parametrize("index", range(15))
def test_every_field_counts(open_desk: Callable[..., Any], index: int) -> None:
    names = ("tee_tcb_svn", "mr_seam", "mr_signer_seam", "seam_attributes", "td_attributes", "xfam",
             "mr_td", "mr_config_id", "mr_owner", "mr_owner_config", "rtmr0", "rtmr1", "rtmr2",
             "rtmr3", "report_data")  # fmt: skip
    sizes = (16, 48, 48, 8, 8, 8, *[48] * 8, 64)
    body = bytearray(Td().report10())
    body[sum(sizes[: index + 1]) - 1] ^= 0x40
    with open_desk() as desk:
        trip = desk.trip(quote_of(), desk.double.token(bytes(body)))
    assert [d.field for d in trip.differences] == [names[index]]


def test_a_token_that_calls_a_debug_td_one(open_desk: Callable[..., Any]) -> None:
    debug = Td(attributes=SEPT_VE_DISABLE | 1)
    with open_desk() as desk:
        about_another = desk.trip(quote_of(), desk.double.token(debug.report10()))
        honest = desk.trip(quote_of(debug))
    assert [d.field for d in about_another.differences] == ["td_attributes"]
    assert honest.differences == ()
    for trip in (about_another, honest):
        assert not trip.ok
        assert trip.refusals == ("a debug TD: its host can read and change all of it",)
        with pytest.raises(TokenRefused):
            trip.require()


def test_key_of_another_region(open_desk: Callable[..., Any]) -> None:
    other = lab.TrustAuthority()
    other.rotate(drop=True)
    with open_desk() as desk:
        trip = desk.trip(quote_of(), other.token(Td().report10()))
    with pytest.raises(TokenRefused, match="another region than us"):
        trip.require()


def test_issuer_of_another_region(open_desk: Callable[..., Any]) -> None:
    eu = lab.Recipe(top={"iss": "https://portal.eu.trustauthority.intel.com"})
    with open_desk() as desk:
        trip = desk.trip(quote_of(), desk.double.token(Td().report10(), eu))
    with pytest.raises(TokenRefused, match="token_issuer"):
        trip.require()


def test_keys_that_cannot_be_had(open_desk: Callable[..., Any]) -> None:
    def respond(request: Request, good: Answer) -> Answer:
        return Answer(500) if request.path == "/certs" else good

    with open_desk(respond) as desk:
        trip = desk.trip(quote_of())
    assert not trip.ok
    with pytest.raises(TransportError, match="could not be checked") as caught:
        trip.require()
    assert caught.value.exit_code == 3


FLAWS: Final = {
    "expired": lab.Recipe(now=lab.NOW - 3600),
    "development": lab.Recipe(td={"attester_type": "LOCAL"}),
    "hs256": lab.Recipe(alg="HS256"),
    "no-registers": lab.Recipe(td={"tdx_rtmr2": None}),
    "forged": lab.Recipe(key=lab.signing_key("forger")),
    "status": lab.Recipe(td={"attester_tcb_status": "OutOfDate"}),
}


@pytest.mark.parametrize("name", FLAWS)
def test_flawed_tokens(open_desk: Callable[..., Any], name: str) -> None:
    with open_desk() as desk:
        trip = desk.trip(quote_of(), desk.double.token(Td().report10(), FLAWS[name]))
    assert not trip.ok
    with pytest.raises(TokenRefused):
        trip.require()


def test_nonce_and_data_that_were_not_sent(open_desk: Callable[..., Any]) -> None:
    with open_desk() as desk:
        nonce, other = desk.client().nonce(), desk.client().nonce()
        quote = bound_quote(nonce)
        token = desk.client().attest(quote.raw, nonce=nonce, data=DATA)
        swapped = desk.trip(quote, token, nonce=other, data=DATA)
        unasked = desk.trip(quote, token, data=DATA)
        other_data = desk.trip(quote, token, nonce=nonce, data=b"else")
        without = desk.trip(quote, desk.double.token(quote.signed[48:]), nonce=nonce, data=DATA)
    assert [d.field for d in swapped.differences] == ["verifier_nonce"]
    assert [d.field for d in unasked.differences] == ["verifier_nonce"]
    assert [d.field for d in other_data.differences] == ["runtime_data"]
    assert [d.field for d in without.differences] == ["verifier_nonce"]


def test_service_td_of_a_report_that_the_token_leaves_out() -> None:
    zero, bound = Td(), replace(Td(), mr_service_td=b"\x07" * 48)
    token = quote_of().report
    assert compare_reports(quote_of(zero, version=5).report, token) == ()
    (found,) = compare_reports(quote_of(bound, version=5).report, token)
    assert (found.field, found.quote) == ("mr_service_td", "07" * 48)


def test_words_of_a_token_are_printable(open_desk: Callable[..., Any]) -> None:
    recipe = lab.Recipe(top={"iss": "\x1b[31m\r\nevil"})
    with open_desk() as desk:
        trip = desk.trip(quote_of(), desk.double.token(Td().report10(), recipe))
    with pytest.raises(TokenRefused) as caught:
        trip.require()
    assert str(caught.value).isprintable()
    assert all(line.isprintable() for line in ita_command.lines(trip))


# DCAP beside it


def dcap_desk(open_desk: Callable[..., Any], world: World, **more: Any) -> RoundTrip:
    raw, collateral = world.build()
    quote = read_quote(raw, origin="quote")
    now = DCAP_NOW.timestamp()
    opinion = second_opinion(
        quote,
        read_collateral(json.dumps(collateral).encode(), origin="collateral"),
        now=now,
        root_ca=authority().root.der,
        **more,
    )
    with open_desk() as desk:
        desk.clock.wall = now
        status = {"attester_tcb_status": world.status}
        token = desk.double.token(quote.signed[48:632], lab.Recipe(now=int(now), td=status))
        trip: RoundTrip = desk.trip(quote, token, dcap=opinion, **more)
        return trip


def test_both_opinions_agree(open_desk: Callable[..., Any]) -> None:
    trip = dcap_desk(open_desk, World())
    trip.require()
    assert trip.ok
    shown = "\n".join(ita_command.lines(trip))
    assert "Intel Trust Authority (us)         TCB UpToDate" in shown
    assert "DCAP                               TCB UpToDate" in shown


@pytest.mark.parametrize(
    ("world", "refused"),
    [(World(revoked=True), True), (World(expires=DCAP_NOW - timedelta(days=1)), True)],
)
def test_dcap_disagrees(open_desk: Callable[..., Any], world: World, *, refused: bool) -> None:
    trip = dcap_desk(open_desk, world)
    assert trip.checked.ok
    assert trip.differences == ()
    assert not trip.ok
    assert trip.dcap is not None
    assert trip.dcap.refused is refused
    with pytest.raises(TokenRefused, match="DCAP does not agree"):
        trip.require()


@pytest.mark.parametrize("status", ["OutOfDate", "SWHardeningNeeded"])
def test_accepted_statuses_hold_for_both_opinions(
    open_desk: Callable[..., Any], status: str
) -> None:
    world = World(status=status)
    assert not dcap_desk(open_desk, world).ok
    trip = dcap_desk(open_desk, world, accepted=frozenset({TcbStatus(status)}))
    assert trip.ok, ita_command.lines(trip)
    assert trip.dcap is not None
    assert trip.dcap.status == status


def test_dcap_that_is_not_installed(
    open_desk: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def none() -> None:
        raise ToolMissing("dcap-qvl is not installed")

    monkeypatch.setattr("mrtd.evidence.dcap.import_qvl", none)
    trip = dcap_desk(open_desk, World())
    assert not trip.ok
    with pytest.raises(TransportError, match="could not be asked: dcap-qvl is not installed"):
        trip.require()


# readers of answers


@given(st.binary(max_size=200))
def test_readers_raise_only_our_errors(data: bytes) -> None:
    for read in (read_nonce, read_token):
        with suppress(MrtdError):
            read(data)
    assert error_text(data).isprintable()


TEXTS: Final = st.one_of(st.none(), st.text(max_size=40), st.integers(), st.booleans())


@given(st.dictionaries(st.sampled_from(["val", "iat", "signature", "token", "error"]), TEXTS))
def test_readers_of_objects(tree: dict[str, Any]) -> None:
    body = json.dumps(tree).encode()
    text = error_text(body)
    assert text.isprintable()
    try:
        assert read_token(body) == tree["token"]
    except TransportError:
        assert not isinstance(tree.get("token"), str) or not tree["token"] or "token" in tree
    try:
        nonce = read_nonce(body)
    except MalformedStatement:
        return
    assert nonce.as_json() == {name: tree[name] for name in ("val", "iat", "signature")}


@given(st.binary(min_size=1, max_size=64), st.binary(min_size=1, max_size=64))
def test_nonce_round_trip(val: bytes, iat: bytes) -> None:
    texts = {"val": val, "iat": iat, "signature": b"s"}
    body = json.dumps({k: base64.b64encode(v).decode() for k, v in texts.items()}).encode()
    nonce = read_nonce(body)
    assert (nonce.decoded.val, nonce.decoded.iat) == (val, iat)
    assert read_nonce(json.dumps(nonce.as_json()).encode()) == nonce


@pytest.mark.parametrize("text", ["", "YQ", "YQ= =", "YR==", "Y\n==", "_w=="])
def test_other_spellings_of_base64(text: str) -> None:
    body = json.dumps({"val": text, "iat": "YQ==", "signature": "YQ=="}).encode()
    with pytest.raises(MalformedStatement, match="val: is no base64"):
        read_nonce(body)


def test_huge_nonce(open_desk: Callable[..., Any]) -> None:
    big = json.dumps({"val": "A" * NONCE_LIMIT, "iat": "YQ==", "signature": "YQ=="}).encode()
    with open_desk(faulty(Answer(200, big))) as desk:
        with pytest.raises(TransportError, match=f"more than {NONCE_LIMIT} bytes"):
            desk.client().nonce()
        assert len(desk.server.requests) == 1


def test_words_of_strangers_are_cut_and_printable(open_desk: Callable[..., Any]) -> None:
    said = json.dumps({"error": "\x1b[31m\r\n" + "a" * 5000}).encode()
    error, _ = failing(open_desk, Answer(400, said))
    assert str(error).isprintable()
    assert len(str(error)) < 500


# the command


@dataclass
class Shell:
    desk: Desk
    folder: Path
    capsys: pytest.CaptureFixture[str]

    def __call__(self, *words: str) -> tuple[int, str, str]:
        def outside() -> ita_command.Outside:
            return ita_command.Outside(
                {},
                lambda _: self.desk.client(),
                lambda *_: self.desk.keys(),
                root_ca=authority().root.der,
            )

        top = argparse.ArgumentParser()
        ita_command.add_to(top.add_subparsers(), "summary")
        arguments = top.parse_args(["ita", *words])
        arguments.run = lambda a: ita_command.run(a, outside())
        try:
            code = arguments.run(arguments)
        except MrtdError as error:
            run._report("ci", error, as_json=arguments.json)
            code = error.exit_code
        out, err = self.capsys.readouterr()
        assert KEY not in out + err
        return code, out, err


@pytest.fixture
def shell(
    open_desk: Callable[..., Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> Iterator[Shell]:
    with open_desk() as desk:
        yield Shell(desk, tmp_path, capsys)


def test_command_from_nonce_to_token(shell: Shell) -> None:
    nonce, data, quote, token = (shell.folder / n for n in ("nonce", "data", "quote", "token"))
    data.write_bytes(DATA)
    code, out, _ = shell("--new-nonce", str(nonce), "--data", str(data))
    assert code == 0
    quote.write_bytes(build_quote(Td(report_data=bytes.fromhex(out))))
    words = [str(quote), "--nonce-file", str(nonce), "--data", str(data), "--out", str(token)]
    code, out, _ = shell(*words)
    assert code == 0
    assert "MATCH        TD report" in out
    assert "DCAP                               not asked" in out
    assert token.read_bytes().count(b".") == 2
    assert token.stat().st_mode & 0o077 == 0
    code, out, _ = shell(*words, "--json", "--api", "v1")
    assert (code, json.loads(out)["ok"]) == (0, True)
    assert sorted(path.name for path in shell.folder.iterdir()) == [
        "data", "nonce", "quote", "token",
    ]  # fmt: skip


def test_command_refuses_what_is_not_bound(shell: Shell) -> None:
    nonce, quote = shell.folder / "nonce", shell.folder / "quote"
    assert shell("--new-nonce", str(nonce))[0] == 0
    quote.write_bytes(build_quote())
    code, _, err = shell(str(quote), "--nonce-file", str(nonce))
    assert code == 1
    assert "report data is" in err
    assert shell.desk.asked("/appraisal/v2/attest") == []


def test_command_with_a_debug_quote_writes_no_token(shell: Shell) -> None:
    quote, token = shell.folder / "quote", shell.folder / "token"
    quote.write_bytes(build_quote(Td(attributes=SEPT_VE_DISABLE | 1)))
    code, out, err = shell(str(quote), "--out", str(token), "--json")
    assert code == 1
    assert json.loads(out)["ok"] is False
    assert "debug TD" in err
    assert not token.exists()


def test_command_with_collateral(shell: Shell) -> None:
    raw, collateral = World().build()
    quote, file = shell.folder / "quote", shell.folder / "collateral.json"
    quote.write_bytes(raw)
    file.write_text(json.dumps(collateral), encoding="utf-8")
    code, out, err = shell(str(quote), "--collateral", str(file))
    # the double's clock is months after the collateral's
    assert code == 1
    assert "MATCH" in out
    assert "DCAP does not agree" in err


@pytest.mark.parametrize("words", [("--tcb", "Fine"), ("--tcb", "Revoked"), ("--policy-id", "x")])
def test_command_with_wrong_options(shell: Shell, words: tuple[str, str]) -> None:
    quote = shell.folder / "quote"
    quote.write_bytes(build_quote())
    assert shell(str(quote), *words)[0] == 2
    assert shell.desk.server.requests == []


def test_command_without_key(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    for name in ("DD_ITA_API_KEY", "ITA_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    code = command_line.main(["ita", "--new-nonce", str(tmp_path / "n"), "--json"])
    out, err = capsys.readouterr()
    assert code == 2
    assert "no option" in err
    assert json.loads(out)["error"]["type"] == "SettingsError"


@pytest.mark.parametrize("words", [[], ["--help"], ["ita"], ["ita", "q", "--new-nonce", "n"]])
def test_usage(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        command_line.main(words)
    assert caught.value.code == (0 if words == ["--help"] else 2)
    assert "usage: python -m ci" in "".join(capsys.readouterr())


def test_nobody_logs_the_key(
    shell: Shell, caplog: pytest.LogCaptureFixture, recwarn: pytest.WarningsRecorder
) -> None:
    caplog.set_level(0)
    quote = shell.folder / "quote"
    quote.write_bytes(build_quote())
    assert shell(str(quote), "--json")[0] == 0
    assert KEY not in caplog.text
    assert [str(w.message) for w in recwarn if KEY in str(w.message)] == []


@pytest.mark.parametrize(
    "settings",
    [{}, {"DD_ITA_BASE_URL": "http://s3cr3t.test"}, {"DD_ITA_API_KEY": "s3cr3t with spaces"}],
)
def test_process_shows_the_key_to_nobody(tmp_path: Path, settings: dict[str, str]) -> None:
    quote = tmp_path / "quote"
    quote.write_bytes(b"no quote")
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-m", "ci", "ita", str(quote), "--json"],
        capture_output=True,
        check=False,
        cwd=ROOT,
        env={"DD_ITA_API_KEY": "s3cr3t", **settings},
        timeout=60,
    )
    assert done.returncode == 2
    assert json.loads(done.stdout)["error"]["message"]
    assert b"s3cr3t" not in done.stdout + done.stderr


def test_nothing_is_left_open(open_desk: Callable[..., Any]) -> None:
    with open_desk() as desk:
        desk.trip(quote_of()).require()
    gc.collect()  # a socket that was forgotten warns, and a warning is an error
