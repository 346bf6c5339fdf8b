"""A release channel lives: published, revoked, deleted, down and up again, while VMs register.

A model knows which images are good, and since when not; the verifier may be behind by the lifetimes
of its policy, and by nothing else.
"""

from __future__ import annotations

from typing import Any, Final

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from fixtures import reference
from mrtd.verifier.github import GitHubLookup
from tests.lab.identity import GitHubIdentity
from tests.lab.world import ListedGitHub, World, claims_of

SOFT: Final = 600
HARD: Final = 3000
NEGATIVE: Final = 60
BREAKER: Final = 31  # seconds after which a breaker lets somebody try
IMAGES: Final = ("blue", "green", "red")
POLICY: Final = f"""\
[cache]
soft_seconds = {SOFT}
hard_seconds = {HARD}
negative_seconds = {NEGATIVE}
entries = 64
[lookup]
requests_per_hour = 100000
by_mrtd = false
"""


class Image:
    """What the model knows of an image.

    Attributes:
        good: listed, and not revoked.
        since: when that last changed, steady clock.
        revoked: once and for all.
        documents: how many of its bundles were published.
    """

    def __init__(self, name: str, now: float) -> None:
        self.launch = reference.launch(image=name)
        registers = self.launch["registers"]
        values = (registers[r]["value"] for r in ("mrtd", "rtmr1", "rtmr2"))
        self.digest = reference.launch_digest(*values)
        self.claims = claims_of(self.launch)
        self.good = self.revoked = False
        self.since = now

    def turn(self, now: float, *, good: bool) -> None:
        if self.good != good:
            self.good, self.since = good, now


class Channel(RuleBasedStateMachine):
    """One verifier, and everything that can happen around it."""

    def __init__(self) -> None:
        super().__init__()
        self.world = World(POLICY)
        self.github: ListedGitHub = self.world.github
        self.images = {name: Image(name, self.now) for name in IMAGES}
        self.sequence = 1000
        self.released: list[dict[str, Any]] = []
        self.revoked: list[dict[str, Any]] = []
        self.up_since = self.now - BREAKER
        self.verifier = self.world.verifier

    @property
    def now(self) -> float:
        return self.world.times.steady

    @property
    def commit(self) -> str:
        return f"{self.sequence:040x}"

    def _publish(self, *launches: dict[str, Any]) -> bytes:
        made = self._document(*launches)
        return self.world.publish(made, GitHubIdentity.of_run(commit=self.commit))

    def _document(self, *launches: dict[str, Any]) -> dict[str, Any]:
        """The next release: all before it may still run, all revocations are repeated."""
        self.sequence += 1
        made = reference.document(*launches)
        if not launches:
            made |= {"launches": [], "artifacts": []}
        own = {"tag": f"v{self.sequence}", "commit": self.commit, "sequence": self.sequence}
        made["release"] |= own
        made["lifecycle"] = {
            "current": list(self.released),
            "next": [],
            "retired": [],
            "revoked": list(self.revoked),
        }
        self.released.append(own)
        return made

    @initialize()
    def start(self) -> None:
        """Two images are in use, the third was seen before it is published."""
        for name in IMAGES:
            if name != "red":
                self.publish(name)
            self._register(name)

    @rule(name=st.sampled_from(IMAGES))
    def publish(self, name: str) -> None:
        image = self.images[name]
        if image.revoked:  # no signer publishes what it revokes
            return
        self._publish(image.launch)
        image.turn(self.now, good=True)

    @precondition(lambda self: any(image.good for image in self.images.values()))
    @rule(name=st.sampled_from(IMAGES), told=st.booleans())
    def revoke(self, name: str, told: bool) -> None:  # noqa: FBT001
        """Half of the time the control plane is told; else the verifier finds it by itself."""
        image = self.images[name]
        if image.revoked:
            return
        self.revoked.append(reference.revocation("launch", image.digest, self.sequence + 1))
        bundle = self._publish()
        image.revoked = True
        image.turn(self.now, good=False)
        if told:
            assert all(check.ok for check in self.verifier.learn(bundle))
            assert not self.verifier.verify_claims(image.claims).allowed

    @rule(name=st.sampled_from(IMAGES))
    def delete(self, name: str) -> None:
        self.github.listed[self.images[name].digest].clear()
        self.images[name].turn(self.now, good=False)

    @precondition(lambda self: not self.github.down)
    @rule()
    def outage(self) -> None:
        self.github.down = True

    @precondition(lambda self: self.github.down)
    @rule()
    def recover(self) -> None:
        self.github.down = False
        self.up_since = self.now

    @rule(
        seconds=st.sampled_from((1, 30, NEGATIVE + 1, SOFT - 1, SOFT + 1, HARD - SOFT, HARD)),
        names=st.sets(st.sampled_from(IMAGES), min_size=1),
    )
    def time_passes(self, seconds: int, names: set[str]) -> None:
        self.world.times.pass_by(seconds)
        for name in sorted(names):
            self._register(name)

    @rule(seconds=st.sampled_from((-86400.0, 86400.0)))
    def wall_clock_jumps_and_is_set_right(self, seconds: float) -> None:
        """Somebody registers in between, whatever comes of it."""
        self.world.times.wall += seconds
        for name in IMAGES:
            self._register(name, right=False)
        self.world.times.wall -= seconds
        self.world.times.pass_by(SOFT + 1)

    @rule(name=st.sampled_from(IMAGES))
    def register(self, name: str) -> None:
        self._register(name)

    def _register(self, name: str, *, right: bool = True) -> None:
        image = self.images[name]
        verdict = self.verifier.verify_claims(image.claims)
        age = self.now - image.since
        sure = not self.github.down and self.now - self.up_since >= BREAKER
        if verdict.allowed and not image.good:
            assert age < (SOFT if sure else HARD), verdict.message
        if image.good and sure and age > NEGATIVE and right:
            assert verdict.allowed, verdict.message
        if not verdict.allowed:
            assert verdict.status in {403, 503}

    @rule()
    def strangers(self) -> None:
        for number in range(20):
            claims = claims_of(reference.launch(image=f"{self.sequence} {number} {self.now}"))
            assert not self.verifier.verify_claims(claims).allowed

    @invariant()
    def nothing_piles_up(self) -> None:
        found = self.verifier.attestations
        assert len(self.verifier._flights) == len(found._flights) == 0
        assert max(len(found._attested), len(found._unattested), len(found._opened)) <= 64
        assert self.verifier.counters["internal_errors"] == 0


@pytest.fixture(autouse=True)
def without_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Requests that failed are repeated at once."""
    defaults = GitHubLookup.__init__.__kwdefaults__
    assert defaults is not None
    monkeypatch.setitem(defaults, "sleep", lambda _: None)


TestChannel = Channel.TestCase
TestChannel.settings = settings(
    max_examples=150,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
