"""What a fleet asks of GitHub and of Intel Trust Authority: ``python -m benchmarks.scale``.

A discrete-event simulation of registrations, with the verifier's own budget and lifetimes
(`mrtd.verifier.budget.Budget`, `mrtd.verifier.policy`) and the limits that the services publish. It
prints the table that docs/scale.md quotes: the seed is fixed, so it prints the same everywhere.

An agent gets a token, waiting in line where the limit of Trust Authority is reached (the best case:
no try is lost), and registers with a replica that a balancer picks. A replica looks a launch and
the channel's revocations up unless it knows them, as often as its cache and its budget
allow. What is not modelled: time on the network and in processors, failures, bundles' hosts.
"""

from __future__ import annotations

import random
import sys
from collections import Counter, deque
from collections.abc import Iterator
from itertools import accumulate
from typing import Final, NamedTuple

from mrtd.verifier.budget import Budget
from mrtd.verifier.clock import Clock
from mrtd.verifier.policy import CachePolicy, LookupPolicy

GITHUB_PER_HOUR: Final = 5000
"""Requests with the token of a user or an app (GitHub REST docs, "Rate limits")."""
ITA_REQUESTS: Final = 1000
"""Requests in `ITA_SECONDS` (Intel Trust Authority REST API, introduction), of one fleet."""
ITA_SECONDS: Final = 300.0
_HOUR: Final = 3600.0
_DAY: Final = 24 * _HOUR
_STORM: Final = 60.0
_SEED: Final = 20261124
_REVOCATIONS: Final = -1  # what the channel has revoked is looked up like a launch
_LOOKUP, _CACHE = LookupPolicy(), CachePolicy()


class Case(NamedTuple):
    """A row of the table.

    Attributes:
        agents: each registers once.
        launches: different launch digests among them; few have most of the agents (Zipf's law).
        replicas: of the control plane, with one GitHub token together.
        within: the time in which all agents register, seconds.
        how: in words.
        tokens: of Trust Authority; False: quotes, verified by the control plane itself.
        per_hour: ``lookup.requests_per_hour`` of each replica.
        soft: ``cache.soft_seconds``.
        shared: a cache between the replicas has the lists of launches (`mrtd.verifier.shared`).
    """

    agents: int
    launches: int
    replicas: int
    within: float = _DAY
    how: str = "defaults"
    tokens: bool = True
    per_hour: int = _LOOKUP.requests_per_hour
    soft: float = _CACHE.soft_seconds
    shared: bool = False


class Outcome(NamedTuple):
    """What came of it.

    Attributes:
        waited: seconds that agents waited for their token: the median and the longest.
        github: requests to GitHub in the busiest hour, of all replicas.
        stale: registrations that were answered from a list past its soft lifetime.
        later: registrations that were told to come back: the budget was used up.
    """

    waited: tuple[float, float]
    github: int
    stale: int
    later: int


_SPLIT: Final = GITHUB_PER_HOUR // (2 * 20)  # of 20 replicas; the first hour may see twice as many
CASES: Final = (
    Case(10, 2, 1),
    Case(10, 2, 1, _STORM),
    Case(10_000, 20, 2),
    Case(10_000, 20, 2, _STORM),
    Case(10_000, 20, 2, _STORM, "quotes", tokens=False),
    Case(1_000_000, 200, 20),
    Case(1_000_000, 200, 20, how="quotes", tokens=False),
    Case(1_000_000, 200, 20, how="quotes, budget/20", tokens=False, per_hour=_SPLIT),
    Case(
        1_000_000, 200, 20, how="quotes, budget/20, 2 h", tokens=False, per_hour=_SPLIT, soft=7200
    ),
    Case(
        1_000_000,
        200,
        20,
        how="quotes, budget/20, cache",
        tokens=False,
        per_hour=_SPLIT,
        shared=True,
    ),
)


class Replica:
    """What one replica knows, and may ask; ``cache``: what all of them share, if they do."""

    def __init__(self, case: Case, clock: Clock, cache: dict[int, float]) -> None:
        self._known: dict[int, float] = {}
        self._cache = cache if case.shared else {}
        self._soft, self._now = case.soft, clock.steady
        self._budget = Budget(case.per_hour, _LOOKUP.reserve_percent, clock)
        self.asked = self.stale = False

    def look_up(self, digest: int) -> bool:
        """Whether it is known afterwards; ``asked`` and ``stale`` say how."""
        now, at = self._now(), self._known.get(digest)
        self.asked = self.stale = False
        if at is not None and now - at < self._soft:
            return True
        read = self._cache.get(digest)
        if read is not None and now - read < self._soft and digest != _REVOCATIONS:
            self._known[digest] = now
            return True
        # as mrtd.verifier.attestations: what was attested has all of the reserve, new images half
        priority = 1.0 if at is not None or digest == _REVOCATIONS else 0.5
        if self._budget.take(priority=priority) is None:
            self.asked, self._known[digest] = True, now
            self._cache[digest] = now
            return True
        self.stale = at is not None and now - at < _CACHE.hard_seconds
        return self.stale


def simulate(case: Case, seed: int = _SEED) -> Outcome:
    """Let all agents of a case register once."""
    chance = random.Random(seed)  # noqa: S311 - a simulation
    now = [0.0]
    clock = Clock(wall=lambda: now[0], steady=lambda: now[0])
    cache: dict[int, float] = {}
    replicas = [Replica(case, clock, cache) for _ in range(case.replicas)]
    weights = list(accumulate(1 / rank for rank in range(1, case.launches + 1)))
    launches = chance.choices(range(case.launches), cum_weights=weights, k=case.agents)
    hours: Counter[int] = Counter()
    waited: list[float] = []
    stale = later = 0
    for launch, (ready, wait) in zip(launches, _registrations(case, chance), strict=True):
        now[0] = ready
        waited.append(wait)
        replica = replicas[int(chance.random() * case.replicas)]
        known, old = True, False
        for digest in (launch, _REVOCATIONS):
            known = replica.look_up(digest) and known
            old = old or replica.stale
            hours[int(ready // _HOUR)] += replica.asked
        stale += known and old
        later += not known
    waited.sort()
    median = waited[len(waited) // 2]
    return Outcome((median, waited[-1]), max(hours.values()), stale, later)


def _registrations(case: Case, chance: random.Random) -> Iterator[tuple[float, float]]:
    """When each agent can register, in order, and how long it waited for its token."""
    arrivals = sorted(chance.random() * case.within for _ in range(case.agents))
    if not case.tokens:
        yield from ((arrival, 0.0) for arrival in arrivals)
        return
    window: deque[float] = deque(maxlen=ITA_REQUESTS)
    for arrival in arrivals:
        full = len(window) == ITA_REQUESTS
        ready = max(arrival, window[0] + ITA_SECONDS) if full else arrival
        window.append(ready)
        yield ready, ready - arrival


def table(cases: tuple[Case, ...] = CASES) -> str:
    """The cases and what came of them, as text."""
    head = f"{'agents':>9} {'launches':>8} {'replicas':>8}  {'within':<6} {'how':<24}"
    lines = [f"{head} {'wait: median, longest':<21} {'GitHub/h':>8} {'stale':>7} {'later':>7}"]
    for case in cases:
        got = simulate(case)
        within = "1 day" if case.within == _DAY else "1 min"
        wait = ", ".join(_time(seconds) for seconds in got.waited) if case.tokens else "no token"
        what = f"{case.agents:>9} {case.launches:>8} {case.replicas:>8}  {within:<6} {case.how:<24}"
        lines.append(f"{what} {wait:<21} {got.github:>8} {got.stale:>7} {got.later:>7}")
    return "\n".join(lines)


def _time(seconds: float) -> str:
    for unit, length in (("h", _HOUR), ("min", 60.0)):
        if seconds >= length:
            return f"{seconds / length:.1f} {unit}"
    return f"{seconds:.0f} s"


def main() -> int:
    """Print the table."""
    sys.stdout.write(table() + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
