"""Things that work once: nonces of registrations, and tokens.

A nonce carries its own expiry under a MAC, so issuing costs no memory, however many are asked for.
Only nonces that were consumed are remembered, until they expire. The steady clock counts: setting
the wall clock neither revives nor kills a nonce. Steady clock and key begin with the process: the
nonces of another process, or of the one before a restart, are unknown, and the agent asks again.
"""

from __future__ import annotations

import base64
import hashlib
import heapq
import hmac
import secrets
import threading
from typing import Final

from mrtd.errors import MalformedDocument
from mrtd.verifier.clock import Clock
from mrtd.verifier.verdict import Reason

_RANDOM: Final = 16
_EXPIRY: Final = 8
_MAC: Final = 32
NONCE_SIZE: Final = _RANDOM + _EXPIRY + _MAC
_DOMAIN: Final = b"mrtd.nonce/v1\0"


class _Once:
    """Keys that were used, until a time each; at most ``capacity``. Call with ``lock`` held.

    Attributes:
        horizon: latest time of the keys that were forgotten.
    """

    def __init__(self, capacity: int) -> None:
        self.lock = threading.Lock()
        self.horizon = float("-inf")
        self._capacity = capacity
        self._used: set[bytes] = set()
        self._until: list[tuple[float, bytes]] = []

    def use(self, key: bytes, until: float, now: float, used: Reason) -> Reason | None:
        """None the first time, then ``used``; ``OVERLOADED`` if it could not be remembered."""
        while self._until and self._until[0][0] <= now:
            self.horizon, oldest = heapq.heappop(self._until)
            self._used.discard(oldest)
        if key in self._used:
            return used
        if len(self._used) >= self._capacity:
            return Reason.OVERLOADED
        self._used.add(key)
        heapq.heappush(self._until, (until, key))
        return None


class Nonces:
    """Nonces, issued and consumed. Thread-safe.

    Args:
        clock: the steady one counts.
        lifetime_seconds: of a nonce.
        capacity: how many consumed ones are remembered; when there are more, further ones are
            refused until some expire, and none is forgotten early.
        secret: goes into the key, besides randomness of this object that is always in it, so that
            no two objects (of which each remembers its own) accept the same nonce.
    """

    def __init__(
        self,
        *,
        clock: Clock,
        lifetime_seconds: int = 300,
        capacity: int = 100_000,
        secret: bytes | None = None,
    ) -> None:
        self._steady = clock.steady
        self._start = clock.steady()
        self._lifetime = lifetime_seconds
        self._key = hmac.digest(secrets.token_bytes(32), _DOMAIN + (secret or b""), hashlib.sha256)
        self._once = _Once(capacity)

    def issue(self) -> bytes:
        """A new nonce, 56 bytes: 16 random ones, expiry (milliseconds, big-endian), HMAC-SHA-256.

        Milliseconds count from the start of this object: they tell a stranger nothing more.
        """
        expiry = int((self._now() + self._lifetime) * 1000)
        body = secrets.token_bytes(_RANDOM) + expiry.to_bytes(_EXPIRY, "big")
        return body + self._mac(body)

    def consume(self, nonce: bytes) -> Reason | None:
        """Use a nonce up: None the first time, else why not. Never raises.

        ``NONCE_UNKNOWN``, ``NONCE_EXPIRED``, ``NONCE_USED`` or ``OVERLOADED``.
        """
        body, mac = nonce[:-_MAC], nonce[-_MAC:]
        if len(nonce) != NONCE_SIZE or not hmac.compare_digest(mac, self._mac(body)):
            return Reason.NONCE_UNKNOWN
        expiry = int.from_bytes(body[_RANDOM:], "big") / 1000
        with self._once.lock:
            # read with the lock held: a later reader may have forgotten the nonce as expired
            now = self._now()
            if not now < expiry:
                return Reason.NONCE_EXPIRED
            return self._once.use(mac, expiry, now, Reason.NONCE_USED)

    def _now(self) -> float:
        return self._steady() - self._start

    def _mac(self, body: bytes) -> bytes:
        return hmac.digest(self._key, body, hashlib.sha256)


class TokenMemory:
    """Tokens that admitted somebody, until they expire. Thread-safe.

    Args:
        clock: the wall clock counts, as for the tokens' own times. Setting it back makes no token
            new: one that might have been forgotten counts as used.
        capacity: how many are remembered; see `Nonces`.
    """

    def __init__(self, *, clock: Clock, capacity: int = 100_000) -> None:
        self._wall = clock.wall
        self._once = _Once(capacity)

    def use(self, token_id: str, expires: float) -> Reason | None:
        """Use a token up: None the first time, else ``TOKEN_REPLAYED`` or ``OVERLOADED``.

        Args:
            token_id: ``jti``, or a quote's SHA-256.
            expires: Unix time in seconds from which on the token is refused anyway.
        """
        key = hashlib.sha256(token_id.encode("utf-8", "surrogatepass")).digest()
        with self._once.lock:
            now = self._wall()
            if not max(now, self._once.horizon) < expires:
                return Reason.TOKEN_REPLAYED
            return self._once.use(key, expires, now, Reason.TOKEN_REPLAYED)


def nonce_text(nonce: bytes) -> str:
    """A nonce as text: base64url without padding."""
    return base64.urlsafe_b64encode(nonce).rstrip(b"=").decode()


def read_nonce(text: str) -> bytes:
    """The nonce of a text. Raises `MalformedDocument`; whether it is ours, `Nonces` knows."""
    try:
        nonce = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except ValueError as error:
        raise MalformedDocument("is no base64url", origin="nonce") from error
    if len(nonce) != NONCE_SIZE or nonce_text(nonce) != text:
        raise MalformedDocument(f"is not {NONCE_SIZE} bytes of base64url", origin="nonce")
    return nonce
