r"""Challenges to a runner that nobody believes (``mrtd.challenge/1``).

A hosted job writes a challenge: a nonce, for one run, one commit and one launch spec, for a while.
A runner with TDX launches the spec and answers with evidence whose report data is made of it::

    challenge data = "mrtd.challenge/v1\0" || SHA-256(challenge document, as it is)
    report data    = SHA-512(val || iat || challenge data)

``val`` and ``iat`` are those of Intel Trust Authority's nonce, if the document has one, and empty
without. So an answer belongs to one document, byte for byte. That the document is the hosted job's
own says its SHA-256, which the job hands on in its outputs (a runner cannot change those), or the
HMAC in it, made with a key that only hosted jobs have; `ci.appraise` demands one of them.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Final, Literal

import msgspec

from ci.ita_settings import SettingsError
from ci.ita_wire import Nonce, read_nonce
from mrtd.errors import InputError
from mrtd.reference.consistency import instant
from mrtd.reference.fields import CommitHex, Instant, Object, Sha256Hex
from mrtd.reference.strict_json import canonical, convert, read_json
from mrtd.verifier.binding import report_data

SCHEMA: Final = "mrtd.challenge/1"
SIZE_LIMIT: Final = 16 << 10
NONCE_SIZE: Final = 32
LIFETIME: Final = 3600
LONGEST: Final = 24 * 3600
KEY_VARIABLE: Final = "MRTD_CHALLENGE_KEY"
_KEY_LEAST: Final = 32
_DATA: Final = b"mrtd.challenge/v1\0"
_MAC: Final = b"mrtd.challenge.mac/v1\0"
_TIME: Final = "%Y-%m-%dT%H:%M:%SZ"
_END: Final = r"$(?!\n)"

RunId = Annotated[str, msgspec.Meta(pattern="^[A-Za-z0-9][A-Za-z0-9._/:@-]{0,199}" + _END)]
"""Which run of which workflow: such as ``owner/name/17003@1``, with its attempt."""


class MalformedChallenge(InputError):
    """A challenge breaks its format, or contradicts itself."""


class ItaNonce(Object, frozen=True):
    """A nonce of Intel Trust Authority, as it came (`ci.ita_wire.Nonce`)."""

    val: str
    iat: str
    signature: str


class Challenge(Object, frozen=True):
    """What a runner has to answer.

    Attributes:
        schema: ``mrtd.challenge/1``.
        nonce: 32 random bytes, hex.
        run: the run that asks, and whose job appraises the answer.
        commit: what it releases.
        spec_sha256: of the launch spec, byte for byte.
        issued: RFC 3339 in UTC.
        expires: ditto; from then on no answer counts.
        ita_nonce: of Intel Trust Authority; null without one.
        mac: HMAC-SHA-256 over the document with null in this place, hex; null without a key.
    """

    schema: Literal["mrtd.challenge/1"]
    nonce: Sha256Hex
    run: RunId
    commit: CommitHex
    spec_sha256: Sha256Hex
    issued: Instant
    expires: Instant
    ita_nonce: ItaNonce | None
    mac: Sha256Hex | None

    @property
    def issued_at(self) -> float:
        """Unix time in seconds."""
        return _seconds(self.issued)

    @property
    def expires_at(self) -> float:
        """Unix time in seconds."""
        return _seconds(self.expires)

    @property
    def intel_nonce(self) -> Nonce | None:
        """Intel Trust Authority's nonce, for its client."""
        found = self.ita_nonce
        return None if found is None else Nonce(found.val, found.iat, found.signature)


def new_challenge(
    *,
    run: str,
    commit: str,
    spec: bytes,
    now: float,
    lifetime: int = LIFETIME,
    ita_nonce: Nonce | None = None,
    key: bytes | None = None,
    nonce: bytes | None = None,
) -> bytes:
    """A challenge document.

    Args:
        run: the run that asks.
        commit: 40 hex digits.
        spec: the launch spec's bytes.
        now: Unix time in seconds.
        lifetime: seconds until it expires.
        ita_nonce: of Intel Trust Authority.
        key: for the HMAC.
        nonce: 32 bytes; random by default.

    Raises:
        MalformedChallenge: run, commit or lifetime cannot be one.
    """
    if not 0 < lifetime <= LONGEST:
        raise MalformedChallenge(
            f"{lifetime} is not 1 to {LONGEST} seconds", origin="challenge", field="lifetime"
        )
    drawn = secrets.token_bytes(NONCE_SIZE) if nonce is None else nonce
    open_ = {
        "schema": SCHEMA,
        "nonce": drawn.hex(),
        "run": run,
        "commit": commit,
        "spec_sha256": hashlib.sha256(spec).hexdigest(),
        "issued": _text(now),
        "expires": _text(now + lifetime),
        "ita_nonce": None if ita_nonce is None else ita_nonce.as_json(),
        "mac": None,
    }
    challenge = _checked(open_, "challenge")
    if key is not None:
        challenge = msgspec.structs.replace(challenge, mac=_mac(challenge, key))
    return canonical(challenge, origin="challenge")


def read_challenge(data: bytes, *, origin: str) -> Challenge:
    """Read a challenge; that it is ours, `is_authentic` says.

    Raises:
        MalformedChallenge: not strict JSON, not this schema, or no time or nonce where one is.
    """
    try:
        tree = read_json(data, origin=origin, limit=SIZE_LIMIT)
    except InputError as error:
        raise _malformed(error, origin) from error
    return _checked(tree, origin)


def challenge_sha256(data: bytes) -> str:
    """The digest that a hosted job hands on."""
    return hashlib.sha256(data).hexdigest()


def challenge_data(data: bytes) -> bytes:
    """What the answer binds, and what Intel Trust Authority gets as runtime data."""
    return _DATA + hashlib.sha256(data).digest()


def wanted_report_data(data: bytes, challenge: Challenge) -> bytes:
    """The 64 bytes that the TD has to ask its quote for; ``data`` is the document as it is."""
    nonce = challenge.intel_nonce
    return report_data(challenge_data(data), None if nonce is None else nonce.decoded)


def is_authentic(challenge: Challenge, key: bytes) -> bool:
    """Whether the HMAC in it is made with our key."""
    return challenge.mac is not None and hmac.compare_digest(challenge.mac, _mac(challenge, key))


def challenge_key(environment: Mapping[str, str]) -> bytes | None:
    """The key of ``MRTD_CHALLENGE_KEY``; None if there is none. Raises `SettingsError`."""
    text = environment.get(KEY_VARIABLE, "")
    if text and len(text) < _KEY_LEAST:
        raise SettingsError(
            f"has fewer than {_KEY_LEAST} characters: openssl rand -hex 32 makes one",
            origin="environment",
            field=KEY_VARIABLE,
        )
    return text.encode() or None


def _mac(challenge: Challenge, key: bytes) -> str:
    body = canonical(msgspec.structs.replace(challenge, mac=None), origin="challenge")
    return hmac.digest(key, _MAC + body, hashlib.sha256).hex()


def _checked(tree: object, origin: str) -> Challenge:
    try:
        challenge = convert(tree, Challenge, origin=origin)
        if challenge.ita_nonce is not None:
            read_nonce(msgspec.json.encode(challenge.ita_nonce), origin=origin)
    except InputError as error:
        raise _malformed(error, origin) from error
    for field in ("issued", "expires"):
        for where, problem in instant(field, getattr(challenge, field)):
            raise MalformedChallenge(problem, origin=origin, field=where)
    if not 0 < challenge.expires_at - challenge.issued_at <= LONGEST:
        raise MalformedChallenge(
            f"is not within {LONGEST} seconds after issued", origin=origin, field="expires"
        )
    return challenge


def _malformed(error: InputError, origin: str) -> MalformedChallenge:
    return MalformedChallenge(error.message.removeprefix(f"{origin}: "), origin=origin)


def _text(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime(_TIME)


def _seconds(text: str) -> float:
    return datetime.strptime(text, _TIME).replace(tzinfo=UTC).timestamp()
