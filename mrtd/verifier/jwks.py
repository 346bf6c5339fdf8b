"""Keys of the token issuer: a JWK set (RFC 7517), fetched rarely, whatever tokens name.

Only the policy's address is ever asked; what a token says about keys (``jku``, ``x5u``, ``jwk``) is
not looked at. A stranger who sends tokens with invented key ids causes at most one fetch per
`TokenPolicy.jwks_refresh_seconds`, and delays nobody whose key is known.
"""

from __future__ import annotations

import base64
import threading
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from mrtd.errors import MalformedStatement, MrtdError, TransportError
from mrtd.printable import printable
from mrtd.reference.strict_json import read_json
from mrtd.verifier.clock import Clock
from mrtd.verifier.fetch import Fetch
from mrtd.verifier.policy import TokenPolicy
from mrtd.verifier.verdict import OK, Reason

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

SIZE_LIMIT: Final = 256 << 10
KID_LIMIT: Final = 200
_KEY_LIMIT: Final = 100
_BITS: Final = range(2048, 8192 + 1)
_TIMEOUT: Final = 10.0
_SHOWN: Final = 200


class IssuerKey(NamedTuple):
    """A key of the set; ``algorithm`` is the only one that it is for, None if that is not said."""

    public: RSAPublicKey
    algorithm: str | None


class KeySource:
    """The issuer's keys, cached. Thread-safe; one fetch at a time.

    Args:
        policy: address and lifetimes.
        fetch: how to fetch.
        clock: the steady one counts.

    Attributes:
        problem: why the last fetch came to nothing, for a person, without secrets; empty if it
            did not.
    """

    def __init__(self, policy: TokenPolicy, fetch: Fetch, clock: Clock) -> None:
        self._policy = policy
        self._fetch = fetch
        self._clock = clock
        self.problem = ""
        self._changed = threading.Condition()
        self._keys: dict[str, IssuerKey] = {}
        self._fetched_at: float | None = None
        self._tried_at: float | None = None
        self._fetching = False

    def key(self, kid: str, alg: str) -> RSAPublicKey | Reason:
        """The key that a token names, or why there is none. Never raises.

        ``TOKEN_KEY_UNKNOWN`` says that the issuer has no such key, as of at most
        `TokenPolicy.jwks_refresh_seconds` ago; ``TOKEN_KEYS_UNAVAILABLE`` that this is not known.
        """
        if self._has_to_fetch(kid):
            self._refresh()
        with self._changed:
            usable = self._usable()
            found = usable.get(kid)
            if found is None:
                # not known: there are no keys, or the last try to get newer ones came to nothing
                unsure = not usable or self._fetched_at != self._tried_at
                return Reason.TOKEN_KEYS_UNAVAILABLE if unsure else Reason.TOKEN_KEY_UNKNOWN
        return found.public if found.algorithm in {None, alg} else Reason.TOKEN_ALGORITHM

    def _has_to_fetch(self, kid: str) -> bool:
        """Whether the caller has to fetch: a need, a turn, and nobody else at it."""
        with self._changed:
            if self._fetching and not self._usable():
                # nothing to answer with, so the other's answer is waited for; it has a time limit
                self._changed.wait_for(lambda: not self._fetching, timeout=2 * _TIMEOUT)
            now = self._clock.steady()
            policy = self._policy
            fresh = self._fetched_at is not None and (
                now - self._fetched_at < policy.jwks_lifetime_seconds
            )
            if (fresh and kid in self._keys) or self._fetching:
                return False
            if self._tried_at is not None and now - self._tried_at < policy.jwks_refresh_seconds:
                return False
            # counted before it is sent, so that a slow answer is not taken for a young one
            self._fetching, self._tried_at = True, now
            return True

    def _usable(self) -> dict[str, IssuerKey]:
        """The keys, while they may be used. Called with the lock held."""
        if self._fetched_at is None:
            return {}
        age = self._clock.steady() - self._fetched_at
        return self._keys if age < self._policy.jwks_hard_lifetime_seconds else {}

    def _refresh(self) -> None:
        found: dict[str, IssuerKey] | None = None
        problem = "the fetch was broken off"
        try:
            found, problem = self._download(), ""
        except Exception as error:  # noqa: BLE001 - a caller's Fetch raises what it likes: old keys stay
            problem = why_no_keys(error)
        finally:
            with self._changed:
                if found is not None:
                    self._keys, self._fetched_at = found, self._tried_at
                self.problem = problem
                self._fetching = False
                self._changed.notify_all()

    def _download(self) -> dict[str, IssuerKey]:
        answer = self._fetch(
            self._policy.jwks_url,
            headers={"Accept": "application/json"},
            limit=SIZE_LIMIT,
            timeout=_TIMEOUT,
        )
        if answer.status != OK:
            raise TransportError(f"the keys' address answered {answer.status}")
        return read_keys(answer.body)


def why_no_keys(error: Exception) -> str:
    """What a person may read of it: of foreign errors the kind only, their text may be secret."""
    text = error.message if isinstance(error, MrtdError) else type(error).__name__
    return printable(text[:_SHOWN])


def read_keys(data: bytes) -> dict[str, IssuerKey]:
    """RSA signature keys of 2048 to 8192 bits of a JWK set, by key id; other keys are left out.

    Raises:
        MalformedStatement: no JWK set, one id for two such keys, or no such key at all.
    """
    tree = read_json(data, origin="keys", limit=SIZE_LIMIT)
    entries = tree.get("keys") if isinstance(tree, dict) else None
    if not isinstance(entries, list) or len(entries) > _KEY_LIMIT:
        raise MalformedStatement("no list of at most 100 keys", origin="keys", field="keys")
    found: dict[str, IssuerKey] = {}
    for entry in entries:
        key = _read_key(entry) if isinstance(entry, dict) else None
        if key is None:
            continue
        if entry["kid"] in found:
            raise MalformedStatement("one id for two keys", origin="keys", field="kid")
        found[entry["kid"]] = key
    if not found:
        raise MalformedStatement("no RSA signature key", origin="keys", field="keys")
    return found


def _read_key(entry: dict[str, Any]) -> IssuerKey | None:
    """One JWK (RFC 7518, section 6.3.1); None if it is of no use, or not only public."""
    from cryptography.hazmat.primitives.asymmetric import rsa  # noqa: PLC0415 - heavy

    kid, algorithm, operations = entry.get("kid"), entry.get("alg"), entry.get("key_ops")
    wanted = (
        entry.get("kty") == "RSA"
        and entry.get("use") in {None, "sig"}
        and (operations is None or (isinstance(operations, list) and "verify" in operations))
        and (algorithm is None or isinstance(algorithm, str))
        and (isinstance(kid, str) and 0 < len(kid) <= KID_LIMIT)
        and "d" not in entry
    )
    if not wanted:
        return None
    try:
        modulus, exponent = (_integer(entry[name]) for name in ("n", "e"))
        if modulus.bit_length() not in _BITS or exponent.bit_length() > 32:
            return None
        return IssuerKey(rsa.RSAPublicNumbers(exponent, modulus).public_key(), algorithm)
    except (KeyError, ValueError, TypeError, MrtdError):
        return None


def _integer(text: object) -> int:
    """Base64urlUInt (RFC 7518, section 2). Raises `ValueError` or `TypeError`."""
    if not isinstance(text, str):
        raise TypeError("no text")
    data = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    return int.from_bytes(data, "big")
