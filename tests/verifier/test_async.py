"""The verifier in an event loop: it is never blocked, and nobody waits for ever.

Upstreams here hang on events that the tests set; nothing sleeps, and no time is measured.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from itertools import islice, repeat
from typing import Any, Final

import pytest

from fixtures import reference
from fixtures.quotes import Td
from mrtd.verifier.bundle import bundle_digest
from mrtd.verifier.fetch import Response
from mrtd.verifier.github import GitHubLookup
from mrtd.verifier.verdict import Reason, Verdict
from tests.lab.trust_authority import ISSUER, Recipe, TrustAuthority
from tests.lab.world import NOW, ONCE_EACH, ListedGitHub, World, claims_of

CROWD: Final = 1000
PATIENCE: Final = 60  # seconds until a test gives up; none gets there


@pytest.fixture(autouse=True)
def without_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Requests that failed are repeated at once."""
    defaults = GitHubLookup.__init__.__kwdefaults__
    assert defaults is not None
    monkeypatch.setitem(defaults, "sleep", lambda _: None)


class HangingGitHub:
    """GitHub that answers when it is told to.

    Attributes:
        asked: digests.
        entered: set with the first request.
        go: set to let all requests be answered.
        raises: what a request raises instead.
    """

    def __init__(self, github: ListedGitHub) -> None:
        self.github = github
        self.asked: list[str] = []
        self.entered, self.go = threading.Event(), threading.Event()
        self.waiting = threading.Semaphore(0)
        self.raises: BaseException | None = None

    def __call__(
        self, url: str, *, headers: Mapping[str, str], limit: int, timeout: float
    ) -> Response:
        self.asked.append(url)
        self.entered.set()
        self.waiting.release()
        if not self.go.wait(PATIENCE):
            raise AssertionError("nobody let GitHub answer")
        if self.raises is not None:
            raise self.raises
        return self.github(url, headers=headers, limit=limit, timeout=timeout)


class Hanging(World):
    """A world whose GitHub hangs, with one release."""

    def __init__(self, policy: str = "") -> None:
        super().__init__(policy)
        self.publish(reference.document())
        self.hanging = HangingGitHub(self.github)
        self.verifier = self.another(fetch=self.hanging)


def another_launch(number: int) -> Any:
    return claims_of(reference.launch(image=f"image {number}"))


async def ticks(count: int) -> None:
    """Let everything else in the loop have its turn so many times."""
    for _ in range(count):
        await asyncio.sleep(0)


async def entered(event: threading.Event) -> None:
    """Wait for a thread without blocking the loop."""
    assert await asyncio.to_thread(event.wait, PATIENCE)


def test_a_thousand_tasks_cause_one_lookup_of_each_list() -> None:
    async def scenario(world: Hanging) -> list[Verdict]:
        crowd = [
            asyncio.ensure_future(world.verifier.averify_claims(claims_of())) for _ in range(CROWD)
        ]
        await entered(world.hanging.entered)
        await ticks(10)
        assert not any(task.done() for task in crowd)
        world.hanging.go.set()
        return await asyncio.gather(*crowd)

    world = Hanging()
    verdicts = asyncio.run(scenario(world))
    assert len(verdicts) == CROWD
    assert all(verdict.allowed for verdict in verdicts)
    assert world.github.about == ONCE_EACH
    world.verifier.close()


def test_a_thousand_threads_cause_one_lookup_of_each_list() -> None:
    world = Hanging()
    world.hanging.go.set()
    everybody = threading.Barrier(CROWD)

    def register(_: object) -> Verdict:
        everybody.wait(PATIENCE)
        return world.verifier.verify_claims(claims_of())

    before = threading.stack_size(256 << 10)
    try:
        with ThreadPoolExecutor(CROWD) as threads:
            verdicts = list(threads.map(register, range(CROWD)))
    finally:
        threading.stack_size(before)
    assert all(verdict.allowed for verdict in verdicts)
    assert world.github.about == ONCE_EACH


def test_a_mixed_crowd_causes_one_lookup_of_each_list() -> None:
    """Threads and tasks that ask the same wait for the same answer."""

    async def scenario(world: Hanging) -> list[Verdict]:
        tasks = [
            asyncio.ensure_future(world.verifier.averify_claims(claims_of())) for _ in range(50)
        ]
        await entered(world.hanging.entered)
        threads = [asyncio.to_thread(world.verifier.verify_claims, claims_of()) for _ in range(4)]
        others = [asyncio.ensure_future(thread) for thread in threads]
        await ticks(10)
        world.hanging.go.set()
        return await asyncio.gather(*tasks, *others)

    world = Hanging()
    assert all(verdict.allowed for verdict in asyncio.run(scenario(world)))
    assert world.github.about == ONCE_EACH
    world.verifier.close()


@pytest.mark.parametrize("first", [True, False], ids=["the one who asked first", "another one"])
def test_who_hangs_up_takes_nobody_along(first: bool) -> None:  # noqa: FBT001
    async def scenario(world: Hanging) -> list[Verdict]:
        crowd = [
            asyncio.ensure_future(world.verifier.averify_claims(claims_of())) for _ in range(10)
        ]
        await entered(world.hanging.entered)
        gone = crowd.pop(0 if first else 5)
        gone.cancel()
        with pytest.raises(asyncio.CancelledError):
            await gone
        world.hanging.go.set()
        return await asyncio.gather(*crowd)

    world = Hanging()
    assert all(verdict.allowed for verdict in asyncio.run(scenario(world)))
    assert world.github.about == ONCE_EACH
    world.verifier.close()


def test_if_everybody_hangs_up_the_answer_is_there_for_the_next_one() -> None:
    async def scenario(world: Hanging) -> Verdict:
        crowd = [
            asyncio.ensure_future(world.verifier.averify_claims(claims_of())) for _ in range(10)
        ]
        await entered(world.hanging.entered)
        for task in crowd:
            task.cancel()
        await asyncio.gather(*crowd, return_exceptions=True)
        world.hanging.go.set()
        return await world.verifier.averify_claims(claims_of())

    world = Hanging()
    assert asyncio.run(scenario(world)).allowed
    assert world.github.about == ONCE_EACH
    world.verifier.close()


@pytest.mark.parametrize(
    "raised", [ValueError("x"), KeyboardInterrupt(), SystemExit(1)], ids=lambda e: type(e).__name__
)
def test_a_worker_that_fails_leaves_nobody_waiting(raised: BaseException) -> None:
    async def scenario(world: Hanging) -> tuple[list[Verdict], Verdict]:
        crowd = [
            asyncio.ensure_future(world.verifier.averify_claims(claims_of())) for _ in range(100)
        ]
        await entered(world.hanging.entered)
        world.hanging.go.set()
        answers = await asyncio.gather(*crowd)
        world.hanging.raises = None
        world.times.pass_by(31)
        return answers, await world.verifier.averify_claims(claims_of())

    world = Hanging()
    world.hanging.raises = raised
    answers, later = asyncio.run(scenario(world))
    assert {verdict.status for verdict in answers} == {503}
    assert later.allowed
    world.verifier.close()


def test_an_interrupted_thread_leaves_nobody_waiting() -> None:
    """Ctrl-C in the thread that asks GitHub: it stops, the others get an answer."""
    world = Hanging()
    world.hanging.raises = KeyboardInterrupt()
    stopped: list[BaseException] = []

    def leader() -> None:
        try:
            world.verifier.verify_claims(claims_of())
        except KeyboardInterrupt as error:
            stopped.append(error)

    thread = threading.Thread(target=leader)
    thread.start()
    assert world.hanging.entered.wait(PATIENCE)
    with ThreadPoolExecutor(8) as threads:
        waiting = [threads.submit(world.verifier.verify_claims, claims_of()) for _ in range(8)]
        world.hanging.raises = KeyboardInterrupt()
        world.hanging.go.set()
        thread.join(PATIENCE)
        answers = [future.exception(PATIENCE) or future.result() for future in waiting]
    assert len(stopped) == 1
    for answer in answers:  # who came too late to wait has become a leader itself
        assert isinstance(answer, KeyboardInterrupt) or (
            isinstance(answer, Verdict) and answer.status == 503
        )
    world.hanging.raises = None
    assert world.verifier.verify_claims(claims_of()).allowed


def test_a_closed_executor_leaves_nobody_waiting() -> None:
    async def scenario(world: Hanging) -> list[Verdict]:
        executor = world.verifier._workers.named("lookups")
        executor.shutdown()  # as close() does between finding the executor and using it
        return [await world.verifier.averify_claims(claims_of()) for _ in range(2)]

    world = Hanging()
    for verdict in asyncio.run(scenario(world)):
        assert (verdict.status, verdict.reason) == (503, Reason.INTERNAL_ERROR)
    world.verifier.close()
    world.hanging.go.set()
    assert asyncio.run(world.verifier.averify_claims(claims_of())).allowed
    world.verifier.close()


def test_closing_finishes_what_is_under_way() -> None:
    async def scenario(world: Hanging) -> list[Verdict]:
        crowd = [
            asyncio.ensure_future(world.verifier.averify_claims(another_launch(n)))
            for n in range(20)  # more than there are workers
        ]
        await entered(world.hanging.entered)
        closing = asyncio.ensure_future(asyncio.to_thread(world.verifier.close))
        await ticks(10)
        assert not closing.done()
        world.hanging.go.set()
        await closing
        return await asyncio.gather(*crowd)

    world = Hanging()
    assert {verdict.status for verdict in asyncio.run(scenario(world))} == {403}


def test_the_loop_goes_on_while_github_hangs() -> None:
    async def scenario(world: Hanging) -> int:
        done = False
        counted = 0

        async def clockwork() -> None:
            nonlocal counted
            while not done:
                counted += 1
                await asyncio.sleep(0)

        ticking = asyncio.ensure_future(clockwork())
        crowd = [
            asyncio.ensure_future(world.verifier.averify_claims(another_launch(n % 30)))
            for n in range(200)
        ]
        await entered(world.hanging.entered)
        before = counted
        await ticks(100)
        hung = counted - before
        assert not any(task.done() for task in crowd)
        world.hanging.go.set()
        await asyncio.gather(*crowd)
        done = True
        await ticking
        return hung

    world = Hanging()
    assert asyncio.run(scenario(world)) >= 99
    world.verifier.close()


def test_who_is_known_is_admitted_while_lookups_of_others_hang() -> None:
    """All workers wait for GitHub; a token of a known launch is checked by others."""

    async def scenario(world: Hanging, token: str) -> Verdict:
        strangers = [
            asyncio.ensure_future(world.verifier.averify_claims(another_launch(n)))
            for n in range(50)
        ]
        for _ in range(8):
            assert await asyncio.to_thread(world.hanging.waiting.acquire, timeout=PATIENCE)
        verdict = await world.verifier.averify_registration(token, binding="none")
        assert not any(task.done() for task in strangers)
        world.hanging.go.set()
        await asyncio.gather(*strangers)
        return verdict

    authority = TrustAuthority()
    registers = reference.launch()["registers"]
    td = {
        **{f"tdx_{name}": registers[name]["value"] for name in ("mrtd", "rtmr0", "rtmr1", "rtmr2")},
        "tdx_xfam": (0x61AE7).to_bytes(8, "little").hex(),
    }
    world = World()
    world.publish(reference.document())
    recipe = Recipe(now=int(NOW.timestamp()), td=td)
    hanging = HangingGitHub(world.github)
    hanging.go.set()

    def fetch(url: str, **options: Any) -> Response:
        if url == f"{ISSUER}/certs":
            return Response(200, {}, authority.jwks())
        return hanging(url, **options)

    verifier = world.another(fetch=fetch)
    first = verifier.verify_registration(authority.token(Td().report10(), recipe), binding="none")
    assert first.allowed, first.message
    hanging.go.clear()
    while hanging.waiting.acquire(blocking=False):
        pass
    crowded = Hanging()
    crowded.verifier, crowded.hanging = verifier, hanging
    token = authority.token(Td().report10(), recipe)
    verdict = asyncio.run(scenario(crowded, token))
    assert verdict.allowed, verdict.message
    verifier.close()


def test_a_loop_that_ends_early_harms_no_other() -> None:
    """The worker finishes after the loop of those who asked is closed."""
    world = Hanging()

    async def impatient() -> None:
        crowd = [
            asyncio.ensure_future(world.verifier.averify_claims(claims_of())) for _ in range(3)
        ]
        await entered(world.hanging.entered)
        for task in crowd:
            task.cancel()
        await asyncio.gather(*crowd, return_exceptions=True)

    asyncio.run(impatient())
    world.hanging.go.set()
    assert asyncio.run(world.verifier.averify_claims(claims_of())).allowed
    assert world.github.about == ONCE_EACH
    world.verifier.close()


def test_large_bundles_of_an_agent_are_not_read_in_the_loop(monkeypatch: Any) -> None:
    """Reading 8 x 4 MiB of JSON would block everybody else."""
    threads: set[str] = set()

    def watched(bundle: bytes) -> str:
        threads.add(threading.current_thread().name)
        return bundle_digest(bundle)

    monkeypatch.setattr("mrtd.verifier.attestations.bundle_digest", watched)
    world = Hanging('[lookup]\ngithub = "off"\n')
    bundles = tuple(islice(repeat(world.mint(reference.document())), 3))
    assert asyncio.run(world.verifier.averify_claims(claims_of(), bundles=bundles)).allowed
    assert all(name.startswith("mrtd-verifier-lookups") for name in threads)
    assert threads
    world.verifier.close()
