"""How much one client, or all of them together, can make the service hold and wait for."""

from __future__ import annotations

import msgspec


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """Limits of the service.

    Attributes:
        body_bytes: largest request body; it is counted while it is read.
        head_bytes: largest request line with headers.
        in_flight: requests that are worked on at a time; further ones get 503.
        head_seconds: for a request line with headers to arrive.
        body_seconds: for a body to arrive.
        request_seconds: for the whole request; more than a lookup and a fetch of keys may take.
        drain_seconds: for the requests in flight, once the service was told to stop.
        nonce_seconds: lifetime of a nonce.
    """

    body_bytes: int = 1 << 20
    head_bytes: int = 16 << 10
    in_flight: int = 256
    head_seconds: float = 5.0
    body_seconds: float = 10.0
    request_seconds: float = 60.0
    drain_seconds: float = 30.0
    nonce_seconds: int = 300

    @property
    def connections(self) -> int:
        """Connections at a time; further ones are closed at once. Idle ones cost little."""
        return 4 * self.in_flight + 64
