"""What binds a token to a registration: nonce, key, proof, and the rule of Intel's report data."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa, x25519
from hypothesis import given
from hypothesis import strategies as st

from fixtures import registration_vectors
from fixtures.quotes import Td, build_quote
from mrtd.verifier.binding import (
    Binding,
    NonceBinding,
    ReportDataBinding,
    check_binding,
    proof_message,
    prove,
    registration_data,
    report_data,
)
from mrtd.verifier.jwks import KeySource
from mrtd.verifier.nonce import Nonces
from mrtd.verifier.policy import TokenPolicy
from mrtd.verifier.token import check_token
from mrtd.verifier.token_claims import VerifierNonce
from mrtd.verifier.verdict import Check, Outcome, Reason
from tests.lab.trust_authority import API_KEY, NOW, KeysFetch, LabClock, TrustAuthority, encode
from tests.lab.web import Request

ED25519: Final = registration_vectors.ED25519
P256: Final = registration_vectors.P256
TOKEN: Final = b"the.token.text"
OTHERS: Final = VerifierNonce(b"val", b"iat")


def spki(key: Any) -> bytes:
    der: bytes = key.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return der


@dataclass(frozen=True)
class Registration:
    """A registration of which everything is right, unless it is replaced."""

    nonces: Nonces = field(default_factory=lambda: Nonces(clock=LabClock().clock))
    key: Any = ED25519
    evidence: bytes = TOKEN
    context: bytes = b""
    verifier_nonce: VerifierNonce | None = None
    runtime_data: bytes | None = None
    nonce: bytes = b""

    def made(self) -> tuple[NonceBinding, bytes]:
        """Binding and report data, as an agent makes them."""
        nonce = self.nonce or self.nonces.issue()
        proof = prove(self.key, nonce=nonce, token_or_quote=self.evidence, context=self.context)
        bound = NonceBinding(
            nonce=nonce, public_key=spki(self.key), proof=proof, context=self.context
        )
        return bound, report_data(registration_data(nonce, spki(self.key)), self.verifier_nonce)

    def check(self, binding: Binding, found: bytes) -> tuple[Check, ...]:
        return check_binding(
            binding,
            report_data=found,
            evidence=self.evidence,
            runtime_data=self.runtime_data,
            verifier_nonce=self.verifier_nonce,
            nonces=self.nonces,
        )


def failed(checks: tuple[Check, ...]) -> dict[str, Reason | None]:
    return {c.name: c.reason for c in checks if not c.ok}


@pytest.mark.parametrize("verifier_nonce", [None, OTHERS])
@pytest.mark.parametrize("context", [b"", b'{"vm_name":"a"}'])
@pytest.mark.parametrize("key", [ED25519, P256], ids=["ed25519", "p256"])
def test_a_good_binding_passes(
    key: Any, context: bytes, verifier_nonce: VerifierNonce | None
) -> None:
    registration = Registration(key=key, context=context, verifier_nonce=verifier_nonce)
    checks = registration.check(*registration.made())
    assert {c.outcome for c in checks} == {Outcome.PASSED}
    assert [c.name for c in checks] == ["report_data", "key_proof", "nonce"]


def test_it_works_once() -> None:
    registration = Registration()
    made = registration.made()
    assert not failed(registration.check(*made))
    assert failed(registration.check(*made)) == {"nonce": Reason.NONCE_USED}


def test_runtime_data_that_the_token_repeats_has_to_be_ours() -> None:
    registration = Registration()
    binding, found = registration.made()
    data = registration_data(binding.nonce, binding.public_key)
    other = replace(registration, runtime_data=data + b"\0")
    assert failed(other.check(binding, found)) == {"runtime_data": Reason.BINDING_MISMATCH}
    good = replace(registration, runtime_data=data)
    assert not failed(good.check(binding, found))


@pytest.mark.parametrize("size", [0, 63, 64, 65])
def test_other_report_data_is_refused(size: int) -> None:
    registration = Registration()
    binding, _ = registration.made()
    checks = registration.check(binding, bytes(size))
    assert failed(checks) == {"report_data": Reason.BINDING_MISMATCH}


def test_report_data_without_the_trust_authoritys_nonce_is_another() -> None:
    registration = Registration(verifier_nonce=OTHERS)
    binding, _ = registration.made()
    _, without = replace(registration, verifier_nonce=None, nonce=binding.nonce).made()
    assert failed(registration.check(binding, without)) == {"report_data": Reason.BINDING_MISMATCH}


def test_a_proof_about_another_token_is_refused() -> None:
    registration = Registration()
    made = registration.made()
    other = replace(registration, evidence=b"another.token.text")
    assert failed(other.check(*made)) == {"key_proof": Reason.KEY_PROOF_INVALID}


def test_a_proof_about_another_request_is_refused() -> None:
    registration = Registration(context=b"a")
    binding, found = registration.made()
    other = NonceBinding(
        nonce=binding.nonce, public_key=binding.public_key, proof=binding.proof, context=b"b"
    )
    assert failed(registration.check(other, found)) == {"key_proof": Reason.KEY_PROOF_INVALID}


def test_a_stranger_with_another_key_does_not_fit_the_report_data() -> None:
    registration = Registration()
    binding, found = registration.made()
    strangers, _ = replace(registration, key=P256, nonce=binding.nonce).made()
    checks = registration.check(strangers, found)
    assert failed(checks) == {"report_data": Reason.BINDING_MISMATCH}
    assert not failed(registration.check(binding, found))


@pytest.mark.parametrize("proof", [b"", b"\0", bytes(64), bytes(257), bytes(100_000)])
def test_who_has_not_the_key_does_not_use_up_the_nonce(proof: bytes) -> None:
    registration = Registration()
    binding, found = registration.made()
    stranger = NonceBinding(nonce=binding.nonce, public_key=binding.public_key, proof=proof)
    checks = registration.check(stranger, found)
    assert failed(checks) == {"key_proof": Reason.KEY_PROOF_INVALID}
    assert checks[-1].name == "nonce"
    assert checks[-1].outcome is Outcome.NOT_CHECKED
    assert not failed(registration.check(binding, found))


def test_a_nonce_that_is_not_ours_is_unknown() -> None:
    registration = Registration(nonce=bytes(56))
    assert failed(registration.check(*registration.made())) == {"nonce": Reason.NONCE_UNKNOWN}


def test_a_nonce_that_is_too_old_is_expired() -> None:
    clock = LabClock()
    registration = Registration(nonces=Nonces(clock=clock.clock))
    made = registration.made()
    clock.advance(300)
    assert failed(registration.check(*made)) == {"nonce": Reason.NONCE_EXPIRED}


def test_without_room_to_remember_nobody_is_admitted() -> None:
    registration = Registration(nonces=Nonces(clock=LabClock().clock, capacity=0))
    checks = registration.check(*registration.made())
    assert failed(checks) == {"nonce": Reason.OVERLOADED}
    assert checks[-1].outcome is Outcome.NOT_CHECKED


def test_of_many_requests_with_one_nonce_one_is_admitted() -> None:
    registration = Registration()
    made = registration.made()
    start = threading.Barrier(8)

    def run() -> bool:
        start.wait(30)
        return not failed(registration.check(*made))

    with ThreadPoolExecutor(8) as pool:
        answers = [pool.submit(run) for _ in range(8)]
    assert sum(answer.result() for answer in answers) == 1


# Keys that are none

P: Final = 2**255 - 19
ED25519_PREFIX: Final = bytes.fromhex("302a300506032b6570032100")


def torsion() -> list[int]:
    """y of the eight points whose order divides 8, by the curve's own arithmetic (RFC 8032)."""
    d = -121665 * pow(121666, P - 2, P) % P
    root = pow(2, (P - 1) // 4, P)

    def x_of(y: int) -> int | None:
        square = (y * y - 1) * pow(d * y * y + 1, P - 2, P) % P
        x = pow(square, (P + 3) // 8, P)
        x = x if (x * x - square) % P == 0 else x * root % P
        return x if (x * x - square) % P == 0 else None

    def add(a: tuple[int, int], b: tuple[int, int]) -> tuple[int, int]:
        (x1, y1), (x2, y2) = a, b
        t = d * x1 * x2 * y1 * y2 % P
        x3 = (x1 * y2 + x2 * y1) * pow(1 + t, P - 2, P) % P
        return x3, (y1 * y2 + x1 * x2) * pow(1 - t, P - 2, P) % P

    # L times any point has an order that divides 8; the first of order 8 makes all others
    order = 2**252 + 27742317777372353535851937790883648493
    for y in range(2, 100):
        if (x := x_of(y)) is None:
            continue
        point, power, scalar = (0, 1), (x, y), order
        while scalar:
            point = add(point, power) if scalar & 1 else point
            power, scalar = add(power, power), scalar >> 1
        found = [(0, 1)]
        while (after := add(found[-1], point)) != (0, 1):
            found.append(after)
        if len(found) == 8:
            return [y for _, y in found]
    raise AssertionError


def encodings() -> list[bytes]:
    """Those points in every spelling: with either sign, and not reduced where there is room."""
    values = {*torsion()}
    values |= {y + P for y in values if y + P < 2**255}
    return [(y | sign << 255).to_bytes(32, "little") for y in values for sign in (0, 1)]


@pytest.mark.parametrize("point", encodings(), ids=bytes.hex)
def test_keys_under_which_anybody_can_sign_are_refused(point: bytes) -> None:
    registration = Registration()
    nonce, public = registration.nonces.issue(), ED25519_PREFIX + point
    # S = 0 and R = a point of small order: valid for one message in eight, at worst
    for proof in (e + bytes(32) for e in encodings()):
        binding = NonceBinding(nonce=nonce, public_key=public, proof=proof)
        found = report_data(registration_data(nonce, public))
        assert failed(registration.check(binding, found)) == {"key_proof": Reason.KEY_PROOF_INVALID}


def test_the_eight_points_are_those_that_are_known() -> None:
    """libsodium, ge25519_has_small_order: 0, 1, two of order 8, p - 1; not reduced p, p + 1."""
    assert len({*torsion()}) == 5
    assert (
        bytes.fromhex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05")
        in encodings()
    )
    assert len(encodings()) == 14


def compressed() -> bytes:
    """P-256 in another spelling: a point without its y."""
    point = P256.public_key().public_bytes(
        serialization.Encoding.X962, serialization.PublicFormat.CompressedPoint
    )
    head = bytes.fromhex("3039301306072a8648ce3d020106082a8648ce3d030107032200")
    return head + point


OTHER_KEYS: Final = {
    "rsa": spki(rsa.generate_private_key(public_exponent=65537, key_size=2048)),
    "p384": spki(ec.generate_private_key(ec.SECP384R1())),
    "p224": spki(ec.generate_private_key(ec.SECP224R1())),
    "secp256k1": spki(ec.generate_private_key(ec.SECP256K1())),
    "ed448": spki(ed448.Ed448PrivateKey.generate()),
    "x25519": spki(x25519.X25519PrivateKey.generate()),
    "raw": ED25519.public_key().public_bytes_raw(),
    "trailing": spki(ED25519) + b"\0",
    "compressed": compressed(),
    "off-the-curve": spki(P256)[:-1] + b"\0",
    "infinity": bytes.fromhex("3019301306072a8648ce3d020106082a8648ce3d03010703020000"),
    "empty": b"",
    "zeros": bytes(91),
    "oversized": spki(P256) + bytes(200),
    "pem": P256.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    ),
}


@pytest.mark.parametrize("name", OTHER_KEYS)
def test_other_keys_are_refused(name: str) -> None:
    registration = Registration()
    nonce, public = registration.nonces.issue(), OTHER_KEYS[name]
    proof = prove(P256, nonce=nonce, token_or_quote=TOKEN)
    binding = NonceBinding(nonce=nonce, public_key=public, proof=proof)
    checks = registration.check(binding, report_data(registration_data(nonce, public)))
    assert failed(checks) == {"key_proof": Reason.KEY_PROOF_INVALID}


@pytest.mark.parametrize(
    ("error", "reason"),
    [(ImportError, Reason.TOOL_MISSING), (RuntimeError, Reason.KEY_PROOF_INVALID)],
)
def test_a_proof_that_cannot_be_checked_admits_nobody(
    error: type[Exception], reason: Reason, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise error

    monkeypatch.setattr("mrtd.verifier.binding._read_key", broken)
    registration = Registration()
    assert failed(registration.check(*registration.made())) == {"key_proof": reason}


# Other bindings


def test_demanded_report_data() -> None:
    registration = Registration()
    wanted = hashlib.sha512(b"demanded").digest()
    assert not failed(registration.check(ReportDataBinding(wanted), wanted))
    other = registration.check(ReportDataBinding(wanted), wanted[::-1])
    assert failed(other) == {"report_data": Reason.BINDING_MISMATCH}


@pytest.mark.parametrize("size", [0, 63, 64, 65])
def test_report_data_that_binds_nothing_is_refused(size: int) -> None:
    zero = bytes(size)
    checks = Registration().check(ReportDataBinding(zero), zero)
    assert failed(checks) == {"report_data": Reason.BINDING_MISMATCH}


def test_no_binding_is_asked_for_by_name() -> None:
    checks = Registration().check("none", bytes(64))
    # it does not stand in the way, and it does not look like a check that was passed
    assert [(c.name, c.outcome, c.ok) for c in checks] == [("binding", Outcome.NOT_CHECKED, True)]


@pytest.mark.parametrize("binding", [None, "", "None", "nonce", b"none", 0, False, object()])
def test_what_is_no_binding_is_refused(binding: Any) -> None:
    checks = Registration().check(binding, bytes(64))
    assert failed(checks) == {"binding": Reason.BINDING_MISSING}


@given(
    st.binary(max_size=100),
    st.binary(max_size=100),
    st.binary(max_size=100),
    st.binary(max_size=64),
)
def test_arbitrary_bytes_bind_nothing(nonce: bytes, key: bytes, proof: bytes, found: bytes) -> None:
    registration = Registration()
    binding = NonceBinding(nonce=nonce, public_key=key, proof=proof)
    assert failed(registration.check(binding, found))


@given(st.binary(max_size=9), st.binary(max_size=9), st.binary(max_size=9), st.binary(max_size=9))
def test_fields_do_not_run_into_each_other(a: bytes, b: bytes, c: bytes, d: bytes) -> None:
    assert (registration_data(a, b) == registration_data(c, d)) == ((a, b) == (c, d))
    first = proof_message(nonce=a, token_or_quote=b"", context=b)
    assert (first == proof_message(nonce=c, token_or_quote=b"", context=d)) == ((a, b) == (c, d))
    assert first != registration_data(a, b)


# Vectors for other languages


def vectors() -> list[Any]:
    document = json.loads(registration_vectors.FILE.read_text(encoding="utf-8"))
    return [pytest.param(case, id=case["name"]) for case in document["cases"]]


def test_the_file_of_vectors_is_current() -> None:
    assert registration_vectors.FILE.read_bytes() == registration_vectors.encode()


@pytest.mark.parametrize("case", vectors())
def test_vectors(case: dict[str, str]) -> None:
    at = {
        name: bytes.fromhex(text)
        for name, text in case.items()
        if name not in {"name", "algorithm"}
    }
    nonce = VerifierNonce(at["val"], at["iat"]) if at["val"] else None
    data = registration_data(at["nonce"], at["public_key"])
    assert data == at["registration_data"]
    assert report_data(data, nonce) == at["report_data"]
    message = proof_message(nonce=at["nonce"], token_or_quote=at["evidence"], context=at["context"])
    assert message == at["proof_message"]
    binding = NonceBinding(
        nonce=at["nonce"], public_key=at["public_key"], proof=at["proof"], context=at["context"]
    )
    checks = check_binding(
        binding,
        report_data=at["report_data"],
        evidence=at["evidence"],
        runtime_data=data,
        verifier_nonce=nonce,
        nonces=Nonces(clock=LabClock().clock),
    )
    # all is right but the nonce, which no verifier of today issued
    assert failed(checks) == {"nonce": Reason.NONCE_UNKNOWN}


# With the trust authority in between

AUTHORITY: Final = TrustAuthority()


def ask(method: str, path: str, body: object = None, key: str = API_KEY) -> tuple[int, Any]:
    headers = {"x-api-key": key}
    data = b"" if body is None else encode(body)
    answer = AUTHORITY.answer(Request(method, path, {}, headers, data))
    return answer.status, json.loads(answer.body)


@pytest.mark.parametrize("version", ["v1", "v2"])
@pytest.mark.parametrize("with_nonce", [False, True])
def test_a_registration_from_nonce_to_nonce(version: str, *, with_nonce: bool) -> None:
    nonces = Nonces(clock=LabClock().clock)
    nonce = nonces.issue()
    data = registration_data(nonce, spki(P256))
    body: dict[str, Any] = {"runtime_data": base64.b64encode(data).decode()}
    theirs = None
    if with_nonce:
        body["verifier_nonce"] = ask("GET", "/appraisal/v2/nonce")[1]
        parts = (base64.b64decode(body["verifier_nonce"][name]) for name in ("val", "iat"))
        theirs = VerifierNonce(*parts)
    quote = build_quote(Td(report_data=report_data(data, theirs)))
    body["quote"] = base64.b64encode(quote).decode()
    status, answer = ask(
        "POST", f"/appraisal/{version}/attest", {"tdx": body} if version == "v2" else body
    )
    assert status == 200
    token = answer["token"]
    policy = TokenPolicy()
    keys = KeySource(policy, KeysFetch(AUTHORITY), LabClock().clock)
    checked = check_token(token, keys=keys, policy=policy, now=NOW)
    assert checked.claims is not None
    assert (checked.verifier_nonce, checked.runtime_data) == (theirs, data)
    proof = prove(P256, nonce=nonce, token_or_quote=token.encode())
    checks = check_binding(
        NonceBinding(nonce=nonce, public_key=spki(P256), proof=proof),
        report_data=checked.claims.report.report_data,
        evidence=token.encode(),
        runtime_data=checked.runtime_data,
        verifier_nonce=checked.verifier_nonce,
        nonces=nonces,
    )
    assert not failed(checks)


def test_the_trust_authority_refuses_what_intels_refuses() -> None:
    quote = base64.b64encode(build_quote()).decode()
    path = "/appraisal/v1/attest"
    assert ask("POST", path, {"quote": quote})[0] == 200
    assert ask("POST", path, {"quote": quote}, key="wrong")[0] == 401
    assert ask("POST", path, {"quote": quote, "runtime_data": "YQ=="})[0] == 400
    assert ask("POST", path, {"quote": "AAAA"})[0] == 400
    assert ask("POST", path, {"quote": quote, "user_data": "x" * 500_000})[0] == 413
    strange = {"val": "YQ==", "iat": "YQ==", "signature": "YQ=="}
    assert ask("POST", path, {"quote": quote, "verifier_nonce": strange})[0] == 400


def test_vectors_are_in_the_folder_of_vectors() -> None:
    assert (
        registration_vectors.FILE.parent == Path(registration_vectors.__file__).parent / "vectors"
    )


def test_ed25519_key_has_its_usual_form() -> None:
    assert spki(ED25519)[:12] == ED25519_PREFIX
    assert isinstance(ED25519, ed25519.Ed25519PrivateKey)
