"""A crowd of strangers: memory and requests stay bounded, and who is genuine is still admitted.

Strangers have valid tokens of other people's TDs: any MRTD and RTMRs, none of them attested.
"""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from random import Random
from typing import Any, Final

import msgspec
import pytest

from fixtures import reference
from mrtd.registers import Sha384
from mrtd.verifier.claims import TdClaims
from mrtd.verifier.fetch import Response
from mrtd.verifier.github import GitHubLookup
from mrtd.verifier.verdict import Reason
from mrtd.verifier.verifier import Verifier
from tests.lab.github import GitHub
from tests.lab.identity import OWNER_ID, REPOSITORY, REPOSITORY_ID
from tests.lab.world import ListedGitHub, World, claims_of

CROWD: Final = 100_000
TRACED: Final = 5000  # of them; tracing is slow
THROUGH_EVERYTHING: Final = 2000
ENTRIES: Final = 500
PER_HOUR: Final = 3000
RESERVE: Final = 1500
POLICY: Final = f"""\
[cache]
entries = {ENTRIES}
[lookup]
requests_per_hour = {PER_HOUR}
reserve_percent = 50
"""
ENTRY_SIZE: Final = 4096  # bytes, roughly twice of what one takes


@pytest.fixture(autouse=True)
def without_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Requests that failed are repeated at once."""
    defaults = GitHubLookup.__init__.__kwdefaults__
    assert defaults is not None
    monkeypatch.setitem(defaults, "sleep", lambda _: None)


def strangers(count: int, seed: int = 1) -> Iterator[TdClaims]:
    """Claims of TDs that nobody attested."""
    random, pattern = Random(seed), claims_of()  # noqa: S311 - the same crowd every time
    replace = msgspec.structs.replace
    for _ in range(count):
        mrtd, rtmr1, rtmr2 = (Sha384(random.randbytes(48)) for _ in range(3))
        rtmr0, *_, rtmr3 = pattern.report.rtmrs
        report = replace(pattern.report, mr_td=mrtd, rtmrs=(rtmr0, rtmr1, rtmr2, rtmr3))
        yield replace(pattern, report=report)


def image(name: str) -> dict[str, Any]:
    """A release of another image on the same firmware."""
    return reference.document(reference.launch(image=name))


def kept(verifier: Verifier) -> dict[str, int]:
    """How much a verifier holds, by name."""
    found = verifier.attestations
    return {
        "verdicts": len(verifier._kept),
        "attested": len(found._attested),
        "not attested": len(found._unattested),
        "opened": len(found._opened),
        "questions": len(verifier._flights),
        "lookups": len(found._flights),
    }


def grown(action: Callable[[], object]) -> int:
    """Bytes that are held longer than the action takes."""
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        action()
        return tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()


class Counted:
    """GitHub from memory; only how often it was asked is kept."""

    def __init__(self, github: ListedGitHub) -> None:
        self.github, self.count = github, 0

    def __call__(
        self, url: str, *, headers: Mapping[str, str], limit: int, timeout: float
    ) -> Response:
        self.count += 1
        answer = self.github(url, headers=headers, limit=limit, timeout=timeout)
        self.github.asked.clear()
        return answer


def test_a_hundred_thousand_strangers_in_an_hour() -> None:
    """The budget is spent on strangers, except for the reserve; memory is that of the caches."""
    world = World(POLICY)
    world.publish(image("known"))
    counted = Counted(world.github)
    verifier = world.another(fetch=counted)
    known = claims_of(reference.launch(image="known"))
    assert verifier.verify_claims(known).allowed

    def crowd(count: int, seed: int) -> None:
        for number, claims in enumerate(strangers(count, seed)):
            assert not verifier.verify_claims(claims).allowed
            if number % 100 == 0:
                world.times.pass_by(3.6)
                assert verifier.verify_claims(known).allowed

    crowd(CROWD - TRACED, 3)
    # only what was put there while tracing counts: one filling of the cache, however many come
    assert grown(lambda: crowd(TRACED, 4)) < ENTRIES * ENTRY_SIZE
    assert all(count <= ENTRIES for count in kept(verifier).values()), kept(verifier)
    assert (kept(verifier)["questions"], kept(verifier)["lookups"]) == (0, 0)
    assert counted.count <= 2 * PER_HOUR  # a full bucket, and what flows in within that hour


def test_what_is_known_is_looked_up_again_while_strangers_have_spent_the_budget() -> None:
    world = World(POLICY)
    world.publish(image("known"))
    known = claims_of(reference.launch(image="known"))
    assert world.verifier.verify_claims(known).allowed
    refused = [world.verifier.verify_claims(claims) for claims in strangers(2 * PER_HOUR)]
    assert refused[-1].reason is Reason.LOOKUP_BUDGET
    assert refused[-1].retry_after is not None
    assert len(world.github.asked) <= PER_HOUR - RESERVE + 1
    world.times.pass_by(601)
    for claims in strangers(2 * PER_HOUR, seed=3):
        world.verifier.verify_claims(claims)
    verdict = world.verifier.verify_claims(known)
    assert (verdict.allowed, verdict.labels) == (True, ())


def test_a_new_release_is_admitted_while_strangers_have_spent_the_budget() -> None:
    """On firmware that is known."""
    world = World(POLICY)
    world.publish(image("known"))
    assert world.verifier.verify_claims(claims_of(reference.launch(image="known"))).allowed
    for claims in strangers(2 * PER_HOUR):
        world.verifier.verify_claims(claims)
    world.publish(image("new"))
    assert world.verifier.verify_claims(claims_of(reference.launch(image="new"))).allowed


def test_strangers_on_known_firmware_do_not_end_known_admissions() -> None:
    """They can spend the reserve too: what is known is then admitted as stale, with its age."""
    world = World(POLICY)
    world.publish(image("known"))
    known = claims_of(reference.launch(image="known"))
    assert world.verifier.verify_claims(known).allowed
    for number in range(PER_HOUR + 100):
        claims = claims_of(reference.launch(image=f"stranger {number}"))
        assert not world.verifier.verify_claims(claims).allowed
    assert len(world.github.asked) <= PER_HOUR
    world.times.pass_by(601)
    for number in range(PER_HOUR):
        world.verifier.verify_claims(claims_of(reference.launch(image=f"other {number}")))
    verdict = world.verifier.verify_claims(known)
    assert verdict.allowed, verdict.message
    assert verdict.age <= 601


def test_a_crowd_through_everything_that_is_real() -> None:
    """Real HTTP to a server on this machine, from eight threads, genuine agents among them."""
    world = World(POLICY)
    with GitHub(REPOSITORY, int(REPOSITORY_ID)) as github:
        for number in range(3):
            github.add(world.mint(image(f"image {number}")))
        verifier = world.another(fetch=github.fetch)
        genuine = [claims_of(reference.launch(image=f"image {number}")) for number in range(3)]
        crowd = list(strangers(THROUGH_EVERYTHING))

        def register(number: int) -> bool:
            claims = genuine[number % 3] if number % 10 == 0 else crowd[number]
            return verifier.verify_claims(claims).allowed == (number % 10 == 0)

        # who is known before the crowd comes; after it there is only the reserve
        assert all(verifier.verify_claims(claims).allowed for claims in genuine)
        with ThreadPoolExecutor(8) as threads:
            assert all(threads.map(register, range(THROUGH_EVERYTHING)))
        asked = len(github.api.requests) + len(github.blobs.requests)
    assert world.policy.identity.owner_id == OWNER_ID
    assert asked <= PER_HOUR - RESERVE + 1 + 10
    assert all(count <= ENTRIES for count in kept(verifier).values()), kept(verifier)
