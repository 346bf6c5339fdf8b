"""Signing end to end: sigstore's own signing path against a Sigstore on a loopback port."""

from __future__ import annotations

import json
import subprocess
import sys
from base64 import b64decode
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sigstore.models import Bundle, TrustedRoot
from sigstore.verify import Verifier, policy

from mrtd.errors import (
    MalformedStatement,
    MrtdError,
    ServiceRefused,
    TokenError,
    TransportError,
    TrustRootError,
    VerificationError,
)
from mrtd.verifier.bundle import SigstoreVerifier
from mrtd.verifier.identity import check_identity
from release.ambient import find_token
from release.instance import KNOWN, load_instance, read_instance
from release.oidc import read_token
from release.sign import sign_statement
from tests.lab.faults import Fault, Kind
from tests.lab.github_oidc import altered
from tests.lab.identity import GitHubIdentity
from tests.lab.instance import Instance
from tests.lab.signing_server import Endpoint, SigningServer
from tests.lab.trusted_root import Windows
from tests.lab.world import policy_of, root_of
from tests.release.signing import Pauses, instance_of, sign, token_of

ROOT = Path(__file__).resolve().parents[2]
REKOR = {1: Endpoint.REKOR_V1, 2: Endpoint.REKOR_V2}
SERVICES = [(1, Endpoint.FULCIO), (1, Endpoint.TSA), (1, Endpoint.REKOR_V1), (2, Endpoint.REKOR_V2)]


def payload_in(bundle: bytes) -> bytes:
    return b64decode(json.loads(bundle)["dsseEnvelope"]["payload"])


@pytest.mark.parametrize("rekor", [1, 2])
def test_signed_bundle_is_what_verifiers_take(
    server: SigningServer, payload: bytes, pauses: Pauses, rekor: int, tmp_path: Path
) -> None:
    before = datetime.now(UTC).replace(microsecond=0)
    token = find_token(environ=server.actions_environment())
    signed = sign_statement(
        payload, token=token, instance=instance_of(server, rekor=rekor), patience=pauses.patience()
    )

    opened = SigstoreVerifier(root_of(server.instance)).open(signed.bundle, now=datetime.now(UTC))
    assert [check for check in opened.checks if not check.ok] == []
    assert opened.signed is not None
    assert opened.signed.payload == payload
    assert all(check.ok for check in check_identity(signed.signer, policy_of().identity))
    # what the token promised is what the certificate says
    assert token.signer == signed.signer == opened.signed.signer
    assert signed.log_index == opened.signed.log_index
    assert before <= signed.signed_at <= datetime.now(UTC)

    root = tmp_path / "trusted_root.json"
    root.write_bytes(server.instance.trusted_root_json())
    identity = policy.Identity(identity=GitHubIdentity.release().san)
    verifier = Verifier(trusted_root=TrustedRoot.from_file(str(root)))
    _, verified = verifier.verify_dsse(Bundle.from_json(signed.bundle), identity)
    assert verified == payload

    entry = json.loads(signed.bundle)["verificationMaterial"]["tlogEntries"][0]
    assert entry["kindVersion"]["kind"] == ("dsse" if rekor == 1 else "hashedrekord")
    used = {Endpoint.OIDC, Endpoint.FULCIO, Endpoint.TSA, REKOR[rekor]}
    assert server.counts == dict.fromkeys(used, 1)
    assert pauses.taken == []


def test_payload_is_signed_as_it_is(server: SigningServer, payload: bytes, pauses: Pauses) -> None:
    odd = json.dumps(json.loads(payload), indent=3, sort_keys=False).encode() + b"\n"
    assert payload_in(sign(server, odd, pauses).bundle) == odd


def test_without_timestamp_authority(server: SigningServer, payload: bytes, pauses: Pauses) -> None:
    instance = instance_of(server, timestamps=False)
    token = token_of(server)
    signed = sign_statement(payload, token=token, instance=instance, patience=pauses.patience())
    assert payload_in(signed.bundle) == payload
    with pytest.raises(TrustRootError, match="Rekor v2 knows no time"):
        instance_of(server, rekor=2, timestamps=False)


@pytest.mark.parametrize(("rekor", "endpoint"), SERVICES)
@pytest.mark.parametrize(
    "fault",
    [
        Fault(Kind.STATUS, 500),
        Fault(Kind.STATUS, 503),
        Fault(Kind.STATUS, 429),
        Fault(Kind.DRIPPING_HEAD),
        Fault(Kind.DRIPPING_BODY),
        Fault(Kind.TRUNCATED),
        Fault(Kind.RESET),
        Fault(Kind.ANSWER_LOST),
    ],
    ids=lambda fault: f"{fault.kind}-{fault.status}",
)
def test_service_that_may_come_back(
    *,
    server: SigningServer,
    payload: bytes,
    pauses: Pauses,
    rekor: int,
    endpoint: Endpoint,
    fault: Fault,
) -> None:
    slow = fault.kind in {Kind.DRIPPING_HEAD, Kind.DRIPPING_BODY}
    server.faults[endpoint] = fault
    with pytest.raises(TransportError) as caught:
        sign(server, payload, pauses, rekor=rekor, each=2 if slow else 30)
    assert not isinstance(caught.value, ServiceRefused)
    assert "(3 attempts)" in str(caught.value)
    assert "localhost" in str(caught.value)
    assert caught.value.__cause__ is None
    assert server.counts[endpoint] == 3
    assert pauses.taken == [1, 2] or slow  # on a busy machine, others may have been slow, too
    assert_nothing_further(server, endpoint)


@pytest.mark.parametrize(("rekor", "endpoint"), SERVICES)
@pytest.mark.parametrize(
    "fault",
    [
        Fault(Kind.STATUS, 503, times=2),
        Fault(Kind.RESET, times=2),
        Fault(Kind.ANSWER_LOST, times=2),
    ],
    ids=lambda fault: str(fault.kind),
)
def test_service_that_comes_back(
    *,
    server: SigningServer,
    payload: bytes,
    pauses: Pauses,
    rekor: int,
    endpoint: Endpoint,
    fault: Fault,
) -> None:
    server.faults[endpoint] = fault
    assert payload_in(sign(server, payload, pauses, rekor=rekor).bundle) == payload
    assert server.counts[endpoint] == 3
    assert pauses.taken == [1, 2]
    others = {Endpoint.FULCIO, REKOR[rekor]} - {endpoint}
    assert {server.counts[other] for other in others} == {1}


@pytest.mark.parametrize(("rekor", "endpoint"), SERVICES)
@pytest.mark.parametrize(
    "fault",
    [
        Fault(Kind.STATUS, 400),
        Fault(Kind.STATUS, 403),
        Fault(Kind.STATUS, 404),
        Fault(Kind.STATUS, 409),
        Fault(Kind.GARBAGE),
        Fault(Kind.EMPTY_OBJECT),
    ],
    ids=lambda fault: f"{fault.kind}-{fault.status}",
)
def test_service_that_is_not_asked_again(
    *,
    server: SigningServer,
    payload: bytes,
    pauses: Pauses,
    rekor: int,
    endpoint: Endpoint,
    fault: Fault,
) -> None:
    server.faults[endpoint] = fault
    with pytest.raises(MrtdError) as caught:
        sign(server, payload, pauses, rekor=rekor)
    error = caught.value
    if fault.kind is not Kind.STATUS:
        assert type(error) is TransportError
        assert "no usable answer" in str(error)
    elif endpoint is Endpoint.FULCIO and fault.status in {400, 403}:
        assert type(error) is TokenError
    else:
        assert isinstance(error, ServiceRefused)
        assert error.status == fault.status
    if fault.kind is Kind.STATUS:
        assert f"HTTP {fault.status}" in str(error)
        assert "lab says no" in str(error)
    assert server.counts[endpoint] == 1
    assert pauses.taken == []
    assert_nothing_further(server, endpoint)


def assert_nothing_further(server: SigningServer, failed: Endpoint) -> None:
    """No service was asked that comes after the one that failed."""
    order = [{Endpoint.FULCIO}, {Endpoint.TSA}, {Endpoint.REKOR_V1, Endpoint.REKOR_V2}]
    place = next(number for number, stage in enumerate(order) if failed in stage)
    later = set().union(*order[place + 1 :])
    assert {endpoint for endpoint in later if server.counts[endpoint]} == set()


def test_log_took_the_entry_but_its_answer_was_lost(
    server: SigningServer, payload: bytes, pauses: Pauses
) -> None:
    # Rekor v1 refuses an entry that it has: the next attempt has a signature of its own
    server.faults[Endpoint.REKOR_V1] = Fault(Kind.ANSWER_LOST, times=1)
    sign(server, payload, pauses)
    assert server.done[Endpoint.REKOR_V1] == 2
    assert server.counts[Endpoint.FULCIO] == 1


def test_retry_after_is_obeyed(server: SigningServer, payload: bytes, pauses: Pauses) -> None:
    wait = {"Retry-After": "7"}
    server.faults[Endpoint.FULCIO] = Fault(Kind.STATUS, 429, times=1, headers=wait)
    sign(server, payload, pauses)
    assert pauses.taken == [7]


def test_nobody_is_waited_for_too_long(
    server: SigningServer, payload: bytes, pauses: Pauses
) -> None:
    wait = {"Retry-After": "3600"}
    server.faults[Endpoint.FULCIO] = Fault(Kind.STATUS, 429, headers=wait)
    with pytest.raises(TransportError) as caught:
        sign(server, payload, pauses)
    assert caught.value.retry_after == 3600
    assert (server.counts[Endpoint.FULCIO], pauses.taken) == (1, [])


def test_all_services_share_the_time(server: SigningServer, payload: bytes, pauses: Pauses) -> None:
    server.faults[Endpoint.FULCIO] = Fault(Kind.STATUS, 503, times=2)
    server.faults[Endpoint.TSA] = Fault(Kind.STATUS, 503, times=2)
    with pytest.raises(TransportError, match="timestamp authority"):
        sign(server, payload, pauses, total=5)
    assert pauses.taken == [1, 2, 1]
    assert server.counts[Endpoint.REKOR_V1] == 0


def test_nobody_there(server: SigningServer, payload: bytes, pauses: Pauses) -> None:
    token, instance = token_of(server), instance_of(server)
    with SigningServer() as other:
        gone = instance_of(other)
    assert instance.config != gone.config
    with pytest.raises(TransportError, match=r"Fulcio \(localhost\): no usable connection"):
        sign_statement(payload, token=token, instance=gone, patience=pauses.patience())


def test_expired_token_is_not_sent(server: SigningServer, payload: bytes, pauses: Pauses) -> None:
    with pytest.raises(TokenError, match="expired at"):
        sign_statement(
            payload,
            token=token_of(server),
            instance=instance_of(server),
            patience=pauses.patience(),
            now=lambda: datetime.now(UTC) + timedelta(hours=1),
        )
    assert server.counts == {}


def test_token_that_fulcio_does_not_take(
    server: SigningServer, payload: bytes, pauses: Pauses
) -> None:
    forged = read_token(altered(server.provider.token()), source="test")
    with pytest.raises(TokenError, match=r"test: refused by Fulcio .*HTTP 401"):
        sign_statement(
            payload, token=forged, instance=instance_of(server), patience=pauses.patience()
        )
    assert server.counts == {Endpoint.FULCIO: 1}


@pytest.mark.parametrize("bad", [b"", b"[]", b"{}", b"\xff", b'{"_type":"x"}'])
def test_no_statement(server: SigningServer, pauses: Pauses, bad: bytes) -> None:
    with pytest.raises(MalformedStatement):
        sign(server, bad, pauses)
    assert server.counts == {}


def test_certificate_of_another_instance(
    server: SigningServer, payload: bytes, pauses: Pauses
) -> None:
    config = json.loads(server.trust_config())
    config["trustedRoot"] = Instance("another").trusted_root()
    instance = instance_from(config)
    with pytest.raises(VerificationError, match="SCT"):
        sign_statement(
            payload, token=token_of(server), instance=instance, patience=pauses.patience()
        )
    assert server.counts[Endpoint.REKOR_V1] == 0


def test_log_of_another_instance(server: SigningServer, payload: bytes, pauses: Pauses) -> None:
    config = json.loads(server.trust_config())
    config["trustedRoot"]["tlogs"] = Instance("another").trusted_root(Windows())["tlogs"]
    with pytest.raises(VerificationError, match="does not verify"):
        sign_statement(
            payload,
            token=token_of(server),
            instance=instance_from(config),
            patience=pauses.patience(),
        )


def instance_from(config: dict[str, Any]) -> Any:
    return read_instance(json.dumps(config).encode(), source="lab", dated=datetime.now(UTC))


def test_process_ends_while_a_service_drips(server: SigningServer, tmp_path: Path) -> None:
    server.faults[Endpoint.FULCIO] = Fault(Kind.DRIPPING_BODY)
    config, token = tmp_path / "config.json", tmp_path / "token"
    config.write_bytes(server.trust_config())
    token.write_text(server.provider.token() + "\n", encoding="ascii")
    program = """
import sys
from pathlib import Path
from fixtures import reference
from mrtd.errors import MrtdError
from release.ambient import find_token
from release.attempts import Patience
from release.instance import load_instance
from release.sign import sign_statement
try:
    sign_statement(
        reference.encoded(reference.statement(reference.document())),
        token=find_token(sys.argv[2]),
        instance=load_instance(Path(sys.argv[1])),
        patience=Patience(attempts=2, pause=0, each=0.2),
    )
except MrtdError as error:
    print(error)
    sys.exit(error.exit_code)
"""
    done = subprocess.run(
        [sys.executable, "-c", program, str(config), str(token)],
        capture_output=True,
        check=False,
        cwd=ROOT,
        text=True,
        timeout=120,
    )
    assert (done.returncode, done.stderr) == (3, "")
    assert done.stdout == "Fulcio (localhost): no answer in time (2 attempts)\n"
    assert server.counts == {Endpoint.FULCIO: 2}


def test_netrc_does_not_replace_the_token(
    server: SigningServer,
    payload: bytes,
    pauses: Pauses,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("default login somebody password something\n", encoding="ascii")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    token = find_token(environ=server.actions_environment())
    sign_statement(payload, token=token, instance=instance_of(server), patience=pauses.patience())


def test_production_is_embedded_and_known() -> None:
    instance = load_instance()
    config = json.loads(instance.config)
    assert config["signingConfig"]["caUrls"][0]["url"] == "https://fulcio.sigstore.dev"
    assert config["trustedRoot"] == json.loads(instance.root.raw)
    assert len(KNOWN) == 1
    from sigstore.models import ClientTrustConfig

    assert len(ClientTrustConfig.from_json(instance.config).signing_config.get_tsas()) == 1


def test_unknown_production_config(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("release.instance.KNOWN", frozenset())
    with pytest.raises(TrustRootError, match="not known here"):
        load_instance()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mediaType": "x"}, "is no client trust config"),
        ({"signingConfig": []}, "is no signing config"),
        ({"trustedRoot": {}}, "is no trusted root"),
    ],
)
def test_config_that_is_none(server: SigningServer, change: Any, message: str) -> None:
    config = json.loads(server.trust_config()) | change
    with pytest.raises(TrustRootError, match=message):
        instance_from(config)


def test_token_goes_nowhere_in_plain_text(server: SigningServer) -> None:
    config = json.loads(server.trust_config())
    config["signingConfig"]["caUrls"][0]["url"] = "http://fulcio.example"
    with pytest.raises(TrustRootError, match="not https"):
        instance_from(config)


def test_config_file(server: SigningServer, tmp_path: Path) -> None:
    file = tmp_path / "config.json"
    with pytest.raises(TrustRootError, match="cannot be read"):
        load_instance(file)
    for bad in (b"", b"null", b"{", b" " * ((1 << 20) + 1)):
        file.write_bytes(bad)
        with pytest.raises(TrustRootError):
            load_instance(file)
    file.write_bytes(server.trust_config(rekor=2))
    assert load_instance(file, rekor_version=2).root.sha256
    with pytest.raises(TrustRootError, match="no transparency log of version 1"):
        load_instance(file, rekor_version=1)
