r"""What binds evidence to one registration: a nonce of ours and the agent's key in report data.

Formats, all version 1; ``u32`` is big-endian, ``field(x) = u32(len(x)) || x``::

    registration data = "mrtd.registration/v1\0" || field(nonce) || field(public key)
    report data       = SHA-512(val || iat || registration data)
    proof message     = "mrtd.registration.proof/v1\0" || field(nonce)
                        || SHA-256(evidence) || field(context)

``public key`` is a SubjectPublicKeyInfo in DER: Ed25519, or ECDSA on P-256. ``val`` and ``iat`` are
those of Intel Trust Authority's own nonce, base64 undone once, and empty without one (that rule is
Intel's, "report_data" of its clients). ``evidence`` is the token as sent, or the quote. ``context``
is whatever else the proof shall cover, such as the rest of the request. A proof is a signature over
the proof message: Ed25519 (64 bytes), or ECDSA with SHA-256 (DER). Vectors for other languages:
``fixtures/vectors/registration.json``.
"""

from __future__ import annotations

import hashlib
import hmac
from typing import TYPE_CHECKING, Final, Literal

import msgspec

from mrtd.verifier.nonce import Nonces
from mrtd.verifier.token_claims import VerifierNonce
from mrtd.verifier.verdict import Check, Reason, check, not_made

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import (
        EllipticCurvePrivateKey,
        EllipticCurvePublicKey,
    )
    from cryptography.hazmat.primitives.asymmetric.ed25519 import (
        Ed25519PrivateKey,
        Ed25519PublicKey,
    )

REPORT_DATA_SIZE: Final = 64
_KEY_LIMIT: Final = 256
_PROOF_LIMIT: Final = 256
_REGISTRATION: Final = b"mrtd.registration/v1\0"
_PROOF: Final = b"mrtd.registration.proof/v1\0"
# y of Ed25519's points of order 1, 2, 4 and 8 (the same for x and -x): to "verify" under such a
# key no private key is needed
_PRIME: Final = 2**255 - 19
_ORDER_8: Final = 0x7A03AC9277FDC74EC6CC392CFA53202A0F67100D760B3CBA4FD84D3D706A17C7
_SMALL_ORDER: Final = frozenset({0, 1, _PRIME - 1, _ORDER_8, _PRIME - _ORDER_8})


class NonceBinding(msgspec.Struct, frozen=True, kw_only=True):
    """A registration with a nonce of ours.

    Attributes:
        nonce: as `mrtd.verifier.nonce.Nonces` issued it.
        public_key: the agent's, SubjectPublicKeyInfo in DER.
        proof: its signature over `proof_message`.
        context: what else the proof covers; the caller knows it, not the agent.
    """

    nonce: bytes
    public_key: bytes
    proof: bytes
    context: bytes = b""


class ReportDataBinding(msgspec.Struct, frozen=True):
    """Report data that the caller demands; that it can be used only once is the caller's care."""

    report_data: bytes


Binding = NonceBinding | ReportDataBinding | Literal["none"]


def registration_data(nonce: bytes, public_key: bytes) -> bytes:
    """What report data commits to, and what Intel Trust Authority gets as runtime data."""
    return _REGISTRATION + _field(nonce) + _field(public_key)


def report_data(data: bytes, verifier_nonce: VerifierNonce | None = None) -> bytes:
    """The 64 bytes that the TD asks its quote for; ``data`` is `registration_data`."""
    prefix = b"" if verifier_nonce is None else verifier_nonce.val + verifier_nonce.iat
    return hashlib.sha512(prefix + data).digest()


def proof_message(*, nonce: bytes, token_or_quote: bytes, context: bytes = b"") -> bytes:
    """What the agent signs to show that it has the private key."""
    return _PROOF + _field(nonce) + hashlib.sha256(token_or_quote).digest() + _field(context)


def prove(
    private_key: Ed25519PrivateKey | EllipticCurvePrivateKey,
    *,
    nonce: bytes,
    token_or_quote: bytes,
    context: bytes = b"",
) -> bytes:
    """The agent's proof: for agents in Python, and for tests."""
    from cryptography.hazmat.primitives import hashes  # noqa: PLC0415 - heavy
    from cryptography.hazmat.primitives.asymmetric import ec  # noqa: PLC0415

    message = proof_message(nonce=nonce, token_or_quote=token_or_quote, context=context)
    if isinstance(private_key, ec.EllipticCurvePrivateKey):
        return private_key.sign(message, ec.ECDSA(hashes.SHA256()))
    return private_key.sign(message)


def check_binding(
    binding: Binding,
    *,
    report_data: bytes,
    evidence: bytes,
    runtime_data: bytes | None,
    verifier_nonce: VerifierNonce | None,
    nonces: Nonces,
) -> tuple[Check, ...]:
    """Check what binds genuine evidence to this registration. Never raises.

    The nonce is used up when all else is right, and only then: whoever sees a nonce but has neither
    a TD nor the key cannot use it up. So call this after the evidence itself has been checked.

    Args:
        binding: of the registration.
        report_data: of the TD, 64 bytes.
        evidence: the token as sent, or the quote.
        runtime_data: what the token says that was bound; None if it does not.
        verifier_nonce: Intel Trust Authority's nonce in the token; None without one.
        nonces: that issued ours.
    """
    if binding == "none":
        return (not_made("binding", "none: any TD's evidence would do"),)
    if isinstance(binding, ReportDataBinding):
        wanted = binding.report_data
        # zero is what a TD has that was asked for nothing
        usable = len(wanted) == REPORT_DATA_SIZE and any(wanted)
        return (_check_report_data(wanted if usable else None, report_data),)
    if not isinstance(binding, NonceBinding):
        return (_made("binding", Reason.BINDING_MISSING, ok=False, expected="a binding",
                      observed="none"),)  # fmt: skip
    data = registration_data(binding.nonce, binding.public_key)
    checks = [_check_report_data(_report_data(data, verifier_nonce), report_data)]
    if runtime_data is not None:
        same = hmac.compare_digest(runtime_data, data)
        checks.append(_made("runtime_data", Reason.BINDING_MISMATCH, ok=same,
                            expected="this nonce and key", observed="them" if same else "others",
                            ))  # fmt: skip
    checks.append(_check_proof(binding, evidence))
    if not all(c.ok for c in checks):
        return (*checks, not_made("nonce", "not used up: it was not this nonce's owner who asked"))
    reason = nonces.consume(binding.nonce)
    return (*checks, _made("nonce", reason or Reason.NONCE_UNKNOWN, ok=reason is None,
                           expected="ours, in force, not used before",
                           observed=reason.value if reason else "used now"))  # fmt: skip


_report_data = report_data  # check_binding has an argument of that name


def _check_report_data(wanted: bytes | None, found: bytes) -> Check:
    same = wanted is not None and hmac.compare_digest(wanted, found)
    expected = "64 bytes, not all zero" if wanted is None else wanted.hex()
    return _made("report_data", Reason.BINDING_MISMATCH, ok=same, expected=expected,
                 observed=found.hex())  # fmt: skip


def _made(name: str, reason: Reason, *, ok: bool, expected: str, observed: str) -> Check:
    return check(name, reason, ok=ok, expected=expected, observed=observed, source="binding")


def _check_proof(binding: NonceBinding, evidence: bytes) -> Check:
    reason = Reason.KEY_PROOF_INVALID
    try:
        fault = _proof_fault(binding, evidence)
    except ImportError:
        reason, fault = Reason.TOOL_MISSING, "cryptography is not installed"
    except Exception as error:  # noqa: BLE001 - what nobody thought of is a refusal
        fault = type(error).__name__
    expected = "signed by the bound key"
    return _made(
        "key_proof", reason, ok=fault is None, expected=expected, observed=fault or expected
    )


def _proof_fault(binding: NonceBinding, evidence: bytes) -> str | None:
    """What is wrong with key or proof; None if nothing is."""
    from cryptography.exceptions import InvalidSignature  # noqa: PLC0415 - heavy
    from cryptography.hazmat.primitives import hashes  # noqa: PLC0415
    from cryptography.hazmat.primitives.asymmetric import ec  # noqa: PLC0415

    key = _read_key(binding.public_key)
    if key is None:
        return "no key on Ed25519 or P-256 that can be used"
    if len(binding.proof) > _PROOF_LIMIT:
        return f"a proof of {len(binding.proof)} bytes"
    message = proof_message(nonce=binding.nonce, token_or_quote=evidence, context=binding.context)
    try:
        if isinstance(key, ec.EllipticCurvePublicKey):
            key.verify(binding.proof, message, ec.ECDSA(hashes.SHA256()))
        else:
            key.verify(binding.proof, message)
    except InvalidSignature:
        return "not signed by it"
    return None


def _read_key(data: bytes) -> Ed25519PublicKey | EllipticCurvePublicKey | None:
    """The key of a SubjectPublicKeyInfo in its only DER spelling; None if it is none we take."""
    from cryptography.hazmat.primitives import serialization as form  # noqa: PLC0415 - heavy
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519  # noqa: PLC0415

    if len(data) > _KEY_LIMIT:
        return None
    try:
        key = form.load_der_public_key(data)
        same = data == key.public_bytes(form.Encoding.DER, form.PublicFormat.SubjectPublicKeyInfo)
    except Exception:  # noqa: BLE001 - whatever a stranger's bytes make cryptography raise
        return None
    if isinstance(key, ec.EllipticCurvePublicKey):
        return key if same and isinstance(key.curve, ec.SECP256R1) else None
    if isinstance(key, ed25519.Ed25519PublicKey):
        y = int.from_bytes(key.public_bytes_raw(), "little") & (2**255 - 1)
        return key if same and y < _PRIME and y not in _SMALL_ORDER else None
    return None


def _field(data: bytes) -> bytes:
    return len(data).to_bytes(4, "big") + data
