"""Signing as tests do it: with the lab's server, and pauses that nobody waits for."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from release.attempts import Patience
from release.instance import SigstoreInstance, read_instance
from release.oidc import OidcToken, read_token
from release.sign import SignedRelease, sign_statement
from tests.lab.signing_server import SigningServer


class Pauses:
    """A clock that only pauses move.

    Attributes:
        taken: seconds of each pause.
    """

    def __init__(self) -> None:
        self.taken: list[float] = []
        self._now = 1000.0

    def sleep(self, seconds: float) -> None:
        self.taken.append(seconds)
        self._now += seconds

    def patience(self, **changes: Any) -> Patience:
        """Three attempts, pauses of 1 and 2 seconds."""
        values: dict[str, Any] = {
            "attempts": 3,
            "sleep": self.sleep,
            "jitter": lambda: 1.0,
            "steady": lambda: self._now,
        }
        return Patience(**values | changes)


def instance_of(server: SigningServer, **options: Any) -> SigstoreInstance:
    return read_instance(
        server.trust_config(**options), source="lab", dated=datetime(2026, 11, 1, tzinfo=UTC)
    )


def token_of(server: SigningServer) -> OidcToken:
    return read_token(server.provider.token(), source="test")


def sign(
    server: SigningServer, payload: bytes, pauses: Pauses, *, rekor: int = 1, **changes: Any
) -> SignedRelease:
    """Sign at the lab; ``changes`` are fields of `Patience`."""
    return sign_statement(
        payload,
        token=token_of(server),
        instance=instance_of(server, rekor=rekor),
        patience=pauses.patience(**changes),
    )
