"""Tokens of Intel Trust Authority: whether one is genuine and in force.

Signature by PyJWT, over a key that `KeySource` has from the policy's address; the payload is read
here, strictly, from the bytes that were verified (what it says of the TD: `token_claims`). Before
the signature is known to be genuine, nothing of the payload is looked at.
"""

from __future__ import annotations

import base64
import re
from typing import Any, Final

import msgspec

from mrtd.errors import MalformedStatement
from mrtd.reference.strict_json import read_json
from mrtd.verifier.claims import TdClaims
from mrtd.verifier.jwks import KID_LIMIT, KeySource
from mrtd.verifier.policy import TokenPolicy
from mrtd.verifier.token_claims import VerifierNonce, read_claims
from mrtd.verifier.verdict import Check, Reason, check, not_made, passed

SIZE_LIMIT: Final = 64 << 10
_MISSING: Final = "not installed: pip install './mrtd[verifier]'"
_ID_LIMIT: Final = 200
_SHOWN: Final = 5
_FORM: Final = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")
_GENUINE: Final = (
    "token_form",
    "token_algorithm",
    "token_key",
    "token_signature",
    "token_payload",
)
_REST: Final = (
    "token_issuer",
    "token_expiry",
    "token_not_before",
    "token_issued",
    "token_age",
    "token_id",
    "token_production",
    "token_claims",
)


class CheckedToken(msgspec.Struct, frozen=True, kw_only=True):
    """What came of a token (or of a quote, see `mrtd.verifier.quote`).

    Attributes:
        checks: all that were made, and those that were left out.
        claims: None unless the signature is genuine and the claims are whole. Claims do not mean
            that the checks are passed: see `ok`.
        token_id: ``jti``, or the quote's SHA-256; empty if there is none.
        expires: Unix time in seconds from which on the same token is refused, leeway included.
        runtime_data: what the attester says it bound; None if the token does not repeat it.
        verifier_nonce: None if the attester asked for none.
    """

    checks: tuple[Check, ...]
    claims: TdClaims | None = None
    token_id: str = ""
    expires: float = 0.0
    runtime_data: bytes | None = None
    verifier_nonce: VerifierNonce | None = None

    @property
    def ok(self) -> bool:
        """Whether there are claims and every check is passed."""
        return self.claims is not None and all(c.ok for c in self.checks)


class _Refused(Exception):
    """There is no payload that can be used; ``stage`` counts the checks that were passed."""

    def __init__(self, stage: int, reason: Reason, expected: str, observed: str) -> None:
        super().__init__(observed)
        self.stage = stage
        self.failed = _check(_GENUINE[stage], reason, expected, observed, ok=False)


def check_token(token: str, *, keys: KeySource, policy: TokenPolicy, now: float) -> CheckedToken:
    """Check a token. Never raises.

    Args:
        token: in compact form.
        keys: of the issuer.
        policy: issuer, algorithms, leeway, age.
        now: Unix time in seconds.
    """
    try:
        return _appraise(_verify(token, keys, policy), policy, now)
    except _Refused as error:
        refused = error
    except ImportError:
        refused = _Refused(0, Reason.TOOL_MISSING, "PyJWT and cryptography", _MISSING)
    except Exception as error:  # noqa: BLE001 - what nobody thought of is a refusal
        refused = _Refused(0, Reason.INTERNAL_ERROR, "an answer", type(error).__name__)
    names = (*_GENUINE[refused.stage + 1 :], *_REST)
    rest = tuple(not_made(name, "nothing is known that the issuer signed") for name in names)
    return CheckedToken(checks=(*_made_before(refused.stage), refused.failed, *rest))


def _check(name: str, reason: Reason, expected: str, observed: str, *, ok: bool) -> Check:
    return check(name, reason, ok=ok, expected=expected, observed=observed, source="token")


def _made_before(stage: int) -> tuple[Check, ...]:
    return tuple(
        passed(name, expected="good", observed="good", source="token") for name in _GENUINE[:stage]
    )


def _verify(token: object, keys: KeySource, policy: TokenPolicy) -> dict[str, Any]:
    """The payload of a token with a genuine signature. Raises `_Refused`."""
    import jwt  # noqa: PLC0415 - heavy

    if not isinstance(token, str) or len(token) > SIZE_LIMIT or not _FORM.fullmatch(token):
        raise _Refused(0, Reason.TOKEN_MALFORMED, "a compact JWS, at most 64 KiB", "something else")
    header, _, _ = (_decode(segment) for segment in token.split("."))
    alg, kid = _read_header(header, policy)
    key = keys.key(kid, alg)
    if isinstance(key, Reason):
        why = keys.problem if key is Reason.TOKEN_KEYS_UNAVAILABLE and keys.problem else key.value
        raise _Refused(2, key, f"a key of the issuer for {alg}", f"{kid[:40]!r}: {why}")
    try:
        # Not jwt.decode, whose claims are not read as strictly. The raw key, since a PyJWK without
        # "alg" would be taken for RS256.
        verified = jwt.PyJWS(algorithms=[alg]).decode_complete(token, key, algorithms=[alg])
    except Exception as error:
        raise _Refused(3, Reason.TOKEN_SIGNATURE, "genuine", type(error).__name__) from error
    return _read(verified["payload"], 4)


def _read_header(data: bytes, policy: TokenPolicy) -> tuple[str, str]:
    """Algorithm and key id; ``jku``, ``jwk``, ``x5u`` and ``x5c`` are never looked at."""
    header = _read(data, 0)
    alg, kid = header.get("alg"), header.get("kid")
    if "crit" in header or "b64" in header:
        raise _Refused(0, Reason.TOKEN_MALFORMED, "neither crit nor b64", "one of them")
    if alg not in policy.algorithms:
        # HS256 is what dd's local mode makes: whoever can verify such a token can make it
        local = isinstance(alg, str) and alg.startswith("HS")
        reason = Reason.TOKEN_DEVELOPMENT if local else Reason.TOKEN_ALGORITHM
        raise _Refused(1, reason, " or ".join(policy.algorithms), repr(alg)[:40])
    if not isinstance(kid, str) or not 0 < len(kid) <= KID_LIMIT:
        raise _Refused(2, Reason.TOKEN_MALFORMED, "a key id (kid)", "none that can be used")
    return str(alg), kid


def _decode(segment: str) -> bytes:
    """Base64url in its only spelling (RFC 7515, section 2)."""
    try:
        data = base64.urlsafe_b64decode(segment + "=" * (-len(segment) % 4))
    except ValueError as error:
        raise _Refused(0, Reason.TOKEN_MALFORMED, "base64url", "no base64url") from error
    if base64.urlsafe_b64encode(data).rstrip(b"=").decode() != segment:
        raise _Refused(0, Reason.TOKEN_MALFORMED, "base64url", "another spelling of it")
    return data


def _read(data: bytes, stage: int) -> dict[str, Any]:
    try:
        value = read_json(data, origin="token", limit=SIZE_LIMIT)
    except MalformedStatement as error:
        raise _Refused(stage, Reason.TOKEN_MALFORMED, "strict JSON", error.message) from error
    if not isinstance(value, dict):
        raise _Refused(stage, Reason.TOKEN_MALFORMED, "a JSON object", type(value).__name__)
    return value


def _appraise(payload: dict[str, Any], policy: TokenPolicy, now: float) -> CheckedToken:
    """Every question to a genuine token; no answer hides another."""
    said = read_claims(payload)
    issuer, token_id = payload.get("iss"), payload.get("jti")
    has_id = isinstance(token_id, str) and 0 < len(token_id) <= _ID_LIMIT
    exp, nbf, iat = (_number(payload.get(name)) for name in ("exp", "nbf", "iat"))
    leeway, age = policy.leeway_seconds, policy.maximum_age_seconds
    # a comparison with NaN is False, so "now" is never on the left of a "not"
    times = (
        ("token_expiry", Reason.TOKEN_EXPIRED, exp, "exp in the future",
         exp is not None and now < exp + leeway),
        ("token_not_before", Reason.TOKEN_NOT_YET_VALID, nbf, "nbf in the past",
         nbf is not None and now >= nbf - leeway),
        ("token_issued", Reason.TOKEN_NOT_YET_VALID, iat, "iat in the past",
         iat is not None and now >= iat - leeway),
        ("token_age", Reason.TOKEN_TOO_OLD, iat, f"iat at most {age} s ago",
         iat is not None and now < iat + age + leeway),
    )  # fmt: skip
    claims_problem = "; ".join(said.problems[:_SHOWN])
    checks = (
        *_made_before(len(_GENUINE)),
        _check("token_issuer", Reason.TOKEN_ISSUER, policy.issuer, repr(issuer)[:100],
               ok=issuer == policy.issuer),
        *(_check(name, Reason.TOKEN_CLAIMS if value is None else reason, expected,
                 "no integer" if value is None else f"{value - now:+.0f} s from now", ok=ok)
          for name, reason, value, expected, ok in times),
        _check("token_id", Reason.TOKEN_CLAIMS, "jti, at most 200 characters",
               "there" if has_id else "none that can be used", ok=has_id),
        _check("token_production", Reason.TOKEN_DEVELOPMENT, "no development token",
               "LOCAL" if said.development else "none", ok=not said.development),
        _check("token_claims", Reason.TOKEN_CLAIMS, "whole and consistent",
               claims_problem or "whole and consistent", ok=not said.problems),
    )  # fmt: skip
    return CheckedToken(
        checks=checks,
        claims=said.td,
        token_id=str(token_id) if has_id else "",
        expires=float(min(exp or 0, (iat or 0) + age) + leeway),
        runtime_data=said.runtime_data,
        verifier_nonce=said.verifier_nonce,
    )


def _number(value: object) -> int | None:
    """An integer that is no boolean; `read_json` has refused fractions, NaN and huge numbers."""
    return value if isinstance(value, int) and not isinstance(value, bool) else None
