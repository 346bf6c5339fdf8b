"""Tokens: where they come from, what is refused before anything is sent, and what stays hidden."""

from __future__ import annotations

import base64
import io
import json
import logging
import pickle
import sys
import traceback
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from mrtd.errors import MrtdError, NoOidcPermission, ServiceRefused, TokenError, TransportError
from mrtd.verifier.identity import check_identity, read_signer
from release.ambient import REQUEST_TOKEN, REQUEST_URL, ambient_token, find_token
from release.attempts import shown
from release.oidc import given_token, read_token
from release.secret import Secret, is_private
from release.sign import sign_statement
from tests.lab.faults import Fault, Kind
from tests.lab.github_oidc import OidcProvider, run_claims, utc_now
from tests.lab.identity import ISSUER
from tests.lab.signing_server import Endpoint, SigningServer
from tests.lab.world import policy_of
from tests.release.signing import Pauses, instance_of, sign

PROVIDER = OidcProvider(utc_now)


def test_claims_that_can_be_seen() -> None:
    token = read_token(f" {PROVIDER.token()}\n", source="a file")
    assert token.issuer == ISSUER
    assert timedelta(minutes=4) < token.expires - datetime.now(UTC) <= timedelta(minutes=5)
    assert all(check.ok for check in check_identity(token.signer, policy_of().identity))
    token.check_time(datetime.now(UTC))


def test_identity_is_known_before_signing() -> None:
    dispatched = PROVIDER.token(run_claims(event="workflow_dispatch"))
    signer = read_token(dispatched, source="x").signer
    failed = [check.name for check in check_identity(signer, policy_of().identity) if not check.ok]
    assert failed == ["identity.trigger"]


def test_identity_on_an_enterprise_host() -> None:
    issuer = "https://token.actions.acme.ghe.com"
    signer = read_token(PROVIDER.token({"iss": issuer}), source="x").signer
    assert signer["sourceRepositoryURI"] == "https://acme.ghe.com/devopsdefender/dd"


def test_claim_that_is_missing_is_no_extension() -> None:
    signer = read_token(PROVIDER.token({"repository_visibility": None}), source="x").signer
    assert "sourceRepositoryVisibilityAtSigning" not in signer.values


@pytest.mark.parametrize(
    ("claims", "message"),
    [
        ({"aud": "https://github.com/o"}, "is meant for https://github.com/o, not for sigstore"),
        ({"aud": None}, "is meant for None"),
        ({"aud": ["a", "b"]}, "is meant for a, b"),
        ({"iss": None}, "iss: is missing"),
        ({"sub": 7}, "sub: is missing, or no text"),
        ({"exp": None}, "exp: is missing"),
        ({"exp": 1 << 52}, "exp: is missing, or no time"),
        ({"iat": "now"}, "iat: is missing, or no time"),
        ({"nbf": True}, "nbf: is missing, or no time"),
        ({"job_workflow_ref": None}, "names no run of a GitHub workflow"),
    ],
)
def test_token_that_would_not_work(claims: dict[str, Any], message: str) -> None:
    made = {**run_claims(), "aud": "sigstore", "iat": 1, "exp": 2, **claims}
    kept = {name: value for name, value in made.items() if value is not None}
    payload = base64.urlsafe_b64encode(json.dumps(kept).encode()).decode().rstrip("=")
    with pytest.raises(TokenError, match=message):
        read_token(f"eyJhbGciOiJub25lIn0.{payload}.c2ln", source="x")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a",
        "a.b",
        "a.b.c",
        "a.b.c.d",
        "e30.W10.e30",
        "e30.e30.",
        "e30.e31.e30",
        "é.é.é",
        "..",
        f"e30.{'A' * (1 << 17)}.e30",
    ],
)
def test_no_token(text: str) -> None:
    with pytest.raises(TokenError):
        read_token(text, source="x")


def test_time() -> None:
    token = read_token(PROVIDER.token(), source="the file")
    token.check_time(token.expires - timedelta(seconds=6))
    with pytest.raises(TokenError, match="the file: expired at") as caught:
        token.check_time(token.expires - timedelta(seconds=4))
    assert caught.value.exit_code == 2
    with pytest.raises(TokenError, match=r"not valid before .*is the clock right"):
        token.check_time(datetime.now(UTC) - timedelta(hours=1))


def test_given_by_file_variable_or_standard_input(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = PROVIDER.token()
    file = tmp_path / "token"
    file.write_text(text + "\n", encoding="ascii")
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text.encode())))
    environ = {"SIGSTORE_ID_TOKEN": text, "OTHER": text}
    for where in (str(file), "env", "env:OTHER", "-"):
        assert find_token(where, environ=environ).secret.reveal() == text


@pytest.mark.parametrize("where", ["env", "env:EMPTY", "env:", "no/such/file", "a\0b", "/"])
def test_given_nowhere(where: str) -> None:
    with pytest.raises(TokenError):
        given_token(where, {"EMPTY": " \n"})


def test_file_without_end() -> None:
    with pytest.raises(TokenError, match="more than"):
        given_token("/dev/zero", {})


def test_command_line_is_no_place_for_a_token() -> None:
    text = PROVIDER.token()
    with pytest.raises(TokenError, match="looks like the token itself") as caught:
        given_token(text, {})
    assert text[:20] not in str(caught.value)


def test_ambient(server: SigningServer, pauses: Pauses) -> None:
    token = ambient_token(server.actions_environment(), patience=pauses.patience())
    assert token.secret.reveal() == server.issued[0]
    assert token.source == "GitHub's OIDC provider"
    assert server.web.requests[0].query == {"api-version": "2.0", "audience": "sigstore"}


@pytest.mark.parametrize(
    "missing", [(REQUEST_URL,), (REQUEST_TOKEN,), (REQUEST_URL, REQUEST_TOKEN)]
)
def test_missing_permission_is_named(server: SigningServer, missing: tuple[str, ...]) -> None:
    environ = server.actions_environment()
    for name in missing:
        del environ[name]
    with pytest.raises(NoOidcPermission) as caught:
        ambient_token(environ)
    text = str(caught.value)
    assert "`id-token: write`" in text
    assert "`permissions:`" in text
    assert ", ".join(missing) in text
    assert caught.value.exit_code == 2
    assert server.counts == {}


def test_neither_token_nor_actions() -> None:
    with pytest.raises(TokenError, match="no job of GitHub Actions") as caught:
        find_token(environ={})
    assert not isinstance(caught.value, NoOidcPermission)


@pytest.mark.parametrize(
    "url", ["http://evil.example/?a=b", "ftp://localhost/", "x", "http://[", ""]
)
def test_request_token_goes_nowhere_in_plain_text(url: str) -> None:
    assert not is_private(url)
    if url:
        with pytest.raises(TokenError, match="no https address"):
            ambient_token({REQUEST_URL: url, REQUEST_TOKEN: "secret"})


@pytest.mark.parametrize(
    ("fault", "asked", "kind", "message"),
    [
        (Fault(Kind.STATUS, 500), 3, TransportError, r"HTTP 500: .*lab says no.* \(3 attempts\)"),
        (Fault(Kind.STATUS, 429), 3, TransportError, "HTTP 429"),
        (Fault(Kind.STATUS, 401), 1, ServiceRefused, "HTTP 401"),
        (Fault(Kind.STATUS, 302), 1, ServiceRefused, "HTTP 302"),
        (Fault(Kind.GARBAGE), 1, TransportError, "no token in it"),
        (Fault(Kind.EMPTY_OBJECT), 1, TransportError, "no token in it"),
        (Fault(Kind.DRIPPING_HEAD), 3, TransportError, "no answer in time"),
        (Fault(Kind.DRIPPING_BODY), 3, TransportError, "no answer in time"),
        (Fault(Kind.TRUNCATED), 3, TransportError, "no usable connection"),
        (Fault(Kind.RESET), 3, TransportError, "no usable connection"),
    ],
    ids=lambda value: f"{value.kind}-{value.status}" if isinstance(value, Fault) else "",
)
def test_provider_that_fails(
    *,
    server: SigningServer,
    pauses: Pauses,
    fault: Fault,
    asked: int,
    kind: type[MrtdError],
    message: str,
) -> None:
    server.faults[Endpoint.OIDC] = fault
    each = 0.3 if "dripping" in fault.kind else 30
    with pytest.raises(kind, match=message):
        ambient_token(server.actions_environment(), patience=pauses.patience(each=each))
    assert server.counts == {Endpoint.OIDC: asked}


def test_provider_that_comes_back(server: SigningServer, pauses: Pauses) -> None:
    server.faults[Endpoint.OIDC] = Fault(Kind.STATUS, 503, times=2)
    token = ambient_token(server.actions_environment(), patience=pauses.patience())
    assert token.issuer == ISSUER
    assert pauses.taken == [1, 2]


def test_certificate_says_what_the_token_promised(
    server: SigningServer, payload: bytes, pauses: Pauses
) -> None:
    sign(server, payload, pauses)
    promised = read_token(server.provider.token(), source="x").signer
    assert read_signer(server.certificates[0]) == promised


def test_secret_shows_itself_to_nobody() -> None:
    text = PROVIDER.token()
    token = read_token(text, source="x")
    for copy in (repr(token), str(token), f"{token}", repr(token.secret), f"{token.secret}"):
        assert not leaked(copy, [text])
    for write in (pickle.dumps, json.dumps):
        with pytest.raises(TypeError):
            write(token.secret)


def test_what_a_service_repeats_is_hidden() -> None:
    text = PROVIDER.token()
    said = f"bad token {text} or {text.split('.')[2]}\n\x1b[1m{text[:-5]}".encode()
    told = shown(said, (Secret(text),))
    assert not leaked(told, [text])
    assert told == "bad token *** or *** [1m***"
    assert shown(b"request token: abcdefghijklmnop", (Secret("abcdefghijklmnop"),)).endswith("***")


def leaked(text: str, secrets: list[str]) -> list[str]:
    """Pieces of secrets that are in a text; a token's claims are no secret."""
    pieces = [piece for secret in secrets for piece in (secret, secret.rpartition(".")[2][:24])]
    return [piece for piece in pieces if piece in text]


def attempt(action: Callable[[], object], said: list[str]) -> None:
    """Run something, and keep all that its exception has to say, whatever it came from."""
    try:
        action()
    except MrtdError as error:
        said += traceback.format_exception(error)
        link: BaseException | None = error
        while link is not None:
            said += [repr(link), str(link), repr(vars(link)), repr(link.args)]
            link = link.__cause__ or link.__context__


@pytest.mark.parametrize("rekor", [1, 2])
def test_no_output_has_a_secret_in_it(
    *,
    server: SigningServer,
    payload: bytes,
    pauses: Pauses,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
    rekor: int,
) -> None:
    caplog.set_level(logging.DEBUG)
    said: list[str] = []
    instance = instance_of(server, rekor=rekor)
    environ = server.actions_environment()

    def whole() -> None:
        token = find_token(environ=environ, patience=pauses.patience())
        said.append(repr(token))
        made = sign_statement(payload, token=token, instance=instance, patience=pauses.patience())
        said.append(f"{made}")

    attempt(whole, said)
    assert server.done[Endpoint.REKOR_V1] + server.done[Endpoint.REKOR_V2] == 1
    faults = [
        *(Fault(Kind.ECHO, status) for status in (400, 401, 429, 500)),
        *(Fault(kind) for kind in (Kind.GARBAGE, Kind.EMPTY_OBJECT, Kind.TRUNCATED, Kind.RESET)),
    ]
    for endpoint in Endpoint:
        for fault in faults:
            server.faults = {endpoint: fault}
            attempt(whole, said)
    environ[REQUEST_TOKEN] = "another-request-token-of-nobody"
    server.faults = {}
    attempt(whole, said)

    assert len(server.issued) > len(faults)
    secrets = [server.request_token, environ[REQUEST_TOKEN], *server.issued]
    assert "DEBUG" in caplog.text
    assert any("HTTP 401" in text for text in said)
    out = capfd.readouterr()
    assert leaked("\n".join([*said, caplog.text, out.out, out.err]), secrets) == []
