"""What the endpoints share: the verifier, limits, counters, log, and whether it is time to go."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from mrtd import __version__
from mrtd.service.answers import GONE
from mrtd.service.limits import Limits
from mrtd.service.logs import Log
from mrtd.service.metrics import Counter, Histogram, counted, family, gauge
from mrtd.service.upstreams import WatchedFetch
from mrtd.verifier.clock import Clock
from mrtd.verifier.fetch import Fetch
from mrtd.verifier.nonce import Nonces
from mrtd.verifier.policy import Policy
from mrtd.verifier.shared import BundleCache
from mrtd.verifier.trust_root import TrustRoot
from mrtd.verifier.verdict import Verdict
from mrtd.verifier.verifier import Verifier

_WORKERS: Final = 8
_WOULD: Final = "would_refuse_"


class Service:
    """The service, apart from HTTP.

    Args:
        policy: of the verifier.
        fetch: how the verifier asks upstreams.
        log: where to write.
        limits: see `Limits`.
        allow_unbound: the operator said ``--binding none``.
        clock: of the verifier.
        github_token: for lookups.
        trust_root: of the verifier; by default as the policy says.
        shared: lists of bundles that replicas share; none by default.

    Attributes:
        verifier: decides.
        workers: threads for what would block: quotes, admissions, probes.
        draining: told to stop: requests in flight are finished, no new ones begun.
        in_flight: requests that are worked on.

    Raises:
        PolicyError: a folder of the policy cannot be used.
        TrustRootError: the root of trust cannot be used.
    """

    def __init__(
        self,
        policy: Policy,
        *,
        fetch: Fetch,
        log: Log,
        limits: Limits | None = None,
        allow_unbound: bool = False,
        clock: Clock | None = None,
        github_token: str | None = None,
        trust_root: TrustRoot | None = None,
        shared: BundleCache | None = None,
    ) -> None:
        self.policy, self.log, self.allow_unbound = policy, log, allow_unbound
        self.limits = limits or Limits()
        self.clock = clock or Clock()
        self.upstreams = WatchedFetch(fetch, policy, self.clock)
        self.nonces = Nonces(clock=self.clock, lifetime_seconds=self.limits.nonce_seconds)
        self.verifier = Verifier(
            policy,
            fetch=self.upstreams,
            clock=self.clock,
            github_token=github_token,
            trust_root=trust_root,
            nonces=self.nonces,
            shared=shared,
        )
        self._ends: list[Callable[[], None]] = []
        self.workers = ThreadPoolExecutor(_WORKERS, thread_name_prefix="mrtd-service")
        self.draining = False
        self.in_flight = 0
        self.verdicts = Counter("mrtd_verdicts", "Verdicts.", ("status", "reason"))
        self.would_refuse = Counter(
            "mrtd_would_refuse", "What observe mode let pass, by reason.", ("reason",)
        )
        self.requests = Counter("mrtd_http_requests", "Requests.", ("path", "status"))
        self.seconds = Histogram("mrtd_http_request_seconds", "Duration of requests.", "path")

    def count(self, verdict: Verdict) -> None:
        """Count a verdict."""
        self.verdicts.add(str(verdict.status), str(verdict.reason or "admitted"))
        for label in verdict.labels:
            if label.startswith(_WOULD):
                self.would_refuse.add(label.removeprefix(_WOULD))

    def answered(self, path: str, status: int | None, seconds: float) -> None:
        """Count a request; None for a client that had gone."""
        self.requests.add(path, str(GONE if status is None else status))
        self.seconds.observe(path, seconds)

    def at_end(self, end: Callable[[], None]) -> None:
        """What to call when the service is closed."""
        self._ends.append(end)

    def close(self, seconds: float) -> bool:
        """End the threads; False if some are still at work after so many seconds."""

        def end() -> None:
            self.verifier.close()
            for one in self._ends:
                one()
            self.workers.shutdown()

        # in a thread, because what it waits for may be an upstream that answers slowly
        ending = threading.Thread(target=end, name="mrtd-close", daemon=True)
        ending.start()
        ending.join(seconds)
        return not ending.is_alive()

    def exposition(self) -> str:
        """All metrics, in Prometheus's text format."""
        return "\n".join([*self._lines(), ""])

    def _lines(self) -> Iterator[str]:
        verifier, attestations = self.verifier, self.verifier.attestations
        about = (__version__, self.policy.digest, self.policy.mode, self._binding)
        labels = ("version", "policy", "mode", "binding")
        yield from family("mrtd_info", "gauge", "What runs here.", labels, [(about, 1)])
        for own in (self.verdicts, self.would_refuse, self.requests, self.seconds):
            yield from own.lines()
        yield from self.upstreams.requests.lines()
        yield from self.upstreams.failures.lines()
        events = [((name,), number) for name, number in sorted(dict(verifier.counters).items())]
        text = "What happened in the verifier."
        yield from family("mrtd_verifier_events_total", "counter", text, ("event",), events)
        hits = verifier.counters["cache_hits"]
        yield from counted("mrtd_cache_hits", "Verdicts that were known already.", hits)
        yield from counted("mrtd_lookups", "Lookups of attestations.", attestations.lookups)
        yield from counted(
            "mrtd_store_write_failures",
            "Bundles that could not be written to the disk.",
            attestations.store_failures,
        )
        yield from counted("mrtd_log_lines_dropped", "Lines not written.", self.log.dropped)
        highest = verifier.ledger.highest_sequence
        yield from gauge("mrtd_highest_sequence", "Sequence of the newest release seen.", highest)
        if verifier.trust_root is not None:
            age = self.clock.wall() - verifier.trust_root.dated.timestamp()
            text = "Seconds since the root of trust was known to be current."
            yield from gauge("mrtd_trust_root_age_seconds", text, age)
        yield from gauge("mrtd_http_in_flight", "Requests that are worked on.", self.in_flight)
        yield from gauge("mrtd_draining", "1 once it was told to stop.", int(self.draining))

    @property
    def _binding(self) -> str:
        return "none" if self.allow_unbound else "required"
