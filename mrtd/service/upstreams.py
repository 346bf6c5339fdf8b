"""The services that the verifier asks, as seen from here: how often they fail, and since when."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final
from urllib.parse import urlsplit

from mrtd.errors import MrtdError, TransportError
from mrtd.service.metrics import Counter
from mrtd.verifier.clock import Clock
from mrtd.verifier.fetch import Fetch, Response
from mrtd.verifier.jwks import SIZE_LIMIT, read_keys, why_no_keys
from mrtd.verifier.policy import Policy
from mrtd.verifier.verdict import OK

_TIMEOUT: Final = 10.0


class WatchedFetch:
    """A `Fetch` that counts, and knows when the token issuer's keys were last there. Thread-safe.

    Attributes:
        requests: by upstream: ``keys``, ``github``, ``blobs``.
        failures: by upstream and kind. That GitHub has no attestation (404) is none.
        keys_fetched_at: when the verifier last got usable keys, steady clock; None for never.
    """

    def __init__(self, fetch: Fetch, policy: Policy, clock: Clock) -> None:
        self._fetch, self._clock = fetch, clock
        self._keys_url = policy.token.jwks_url
        self._api_host = urlsplit(policy.lookup.api).netloc
        self.requests = Counter("mrtd_upstream_requests", "Requests to upstreams.", ("upstream",))
        self.failures = Counter(
            "mrtd_upstream_failures",
            "Requests to upstreams without a usable answer.",
            ("upstream", "kind"),
        )
        self.keys_fetched_at: float | None = None

    def __call__(
        self, url: str, *, headers: Mapping[str, str], limit: int, timeout: float
    ) -> Response:
        """`Fetch`."""
        upstream = self._upstream(url)
        answer = self._counted(upstream, url, headers=headers, limit=limit, timeout=timeout)
        if upstream == "keys" and self._usable(answer):
            self.keys_fetched_at = self._clock.steady()
        return answer

    def reach_keys(self) -> str:
        """Why the token issuer's keys cannot be fetched now; empty if they can. Never raises."""
        headers = {"Accept": "application/json"}
        try:
            answer = self._counted(
                "keys", self._keys_url, headers=headers, limit=SIZE_LIMIT, timeout=_TIMEOUT
            )
            self._demand_keys(answer)
        except Exception as error:  # noqa: BLE001 - whatever it is, there are no keys
            return why_no_keys(error)
        return ""

    def _counted(
        self, upstream: str, url: str, *, headers: Mapping[str, str], limit: int, timeout: float
    ) -> Response:
        self.requests.add(upstream)
        try:
            answer = self._fetch(url, headers=headers, limit=limit, timeout=timeout)
        except TransportError:
            self.failures.add(upstream, "no_answer")
            raise
        if answer.status in {401, 403, 429} or answer.status >= 500:
            self.failures.add(upstream, f"status_{answer.status}")
        return answer

    def _usable(self, answer: Response) -> bool:
        """Whether that are keys."""
        try:
            self._demand_keys(answer)
        except MrtdError:
            return False
        return True

    def _demand_keys(self, answer: Response) -> None:
        """Read keys. Raises `MrtdError`."""
        if answer.status != OK:
            raise TransportError(f"the keys' address answered {answer.status}")
        try:
            read_keys(answer.body)
        except MrtdError:
            self.failures.add("keys", "unusable")
            raise

    def _upstream(self, url: str) -> str:
        if url == self._keys_url:
            return "keys"
        return "github" if urlsplit(url).netloc == self._api_host else "blobs"
