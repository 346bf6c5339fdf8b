"""What is kept between questions: how much, for how long, and what makes two questions the same."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any, Final

import msgspec
import pytest

from fixtures import reference
from mrtd.evidence.attributes import TdAttributes, Xfam
from mrtd.evidence.tcb import TcbStatus
from mrtd.evidence.td_report import Extended15, ServiceTd15
from mrtd.registers import ZERO, Sha384
from mrtd.verifier import verifier as verifiers
from mrtd.verifier.cache import Bounded, Flights, Interrupted
from mrtd.verifier.claims import TdClaims
from mrtd.verifier.github import GitHubLookup
from mrtd.verifier.verdict import Reason
from mrtd.verifier.wording import compose
from tests.lab.world import (
    LAUNCH,
    NOW,
    ONCE_EACH,
    REVOCATIONS,
    World,
    claims_of,
    launch_digest_of,
)

OTHER = Sha384.of(b"another")
EXTENDED = Extended15(
    vmid=0, td_id=bytes(32), dev_info=ZERO, init_service_td_hash=ZERO,
    init_service_td_attributes=bytes(8), init_cpu_svn=bytes(16), init_tee_tcb_svn=bytes(16),
    init_tee_fmspc=bytes(12), cur_service_td_hash=ZERO, cur_service_td_attributes=bytes(8),
)  # fmt: skip
V15: Final[dict[str, Any]] = {
    "version": "1.5ex",
    "v15": ServiceTd15(bytes(16), ZERO),
    "v15ex": EXTENDED,
}


def extended(**changes: Any) -> TdClaims:
    return claims_of(None, **V15 | {"v15ex": msgspec.structs.replace(EXTENDED, **changes)})


@pytest.fixture(autouse=True)
def without_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Requests that failed are repeated at once."""
    defaults = GitHubLookup.__init__.__kwdefaults__
    assert defaults is not None
    monkeypatch.setitem(defaults, "sleep", lambda _: None)


def test_a_bounded_map_forgets_its_oldest_entries() -> None:
    kept: Bounded[int, int] = Bounded(3)
    for number in (1, 2, 3, 1, 4):
        kept.put(number, number)
    assert [kept.get(n) for n in (1, 2, 3, 4)] == [1, None, 3, 4]
    kept.drop(1)
    kept.drop(1)
    assert (len(kept), kept.get(1)) == (2, None)


DIFFERENT = {
    "mrtd": claims_of(mr_td=OTHER),
    "rtmr0": claims_of(rtmrs=(OTHER, *claims_of().report.rtmrs[1:])),
    "rtmr3": claims_of(rtmrs=(*claims_of().report.rtmrs[:3], OTHER)),
    "module": claims_of(mr_seam=OTHER),
    "module's signer": claims_of(mr_signer_seam=OTHER),
    "module's attributes": claims_of(seam_attributes=b"\1" + bytes(7)),
    "attributes": claims_of(td_attributes=TdAttributes(1 << 28 | 1)),
    "xfam": claims_of(xfam=Xfam(3)),
    "configuration": claims_of(mr_config_id=OTHER),
    "owner": claims_of(mr_owner=OTHER),
    "owner's configuration": claims_of(mr_owner_config=OTHER),
    "report 1.5": claims_of(version="1.5", v15=ServiceTd15(bytes(16), ZERO)),
    "a service TD": claims_of(version="1.5", v15=ServiceTd15(bytes(16), OTHER)),
    "report 1.5ex": extended(),
    "a service TD at creation": extended(init_service_td_hash=OTHER),
    "a service TD now": extended(cur_service_td_hash=OTHER),
    "status": msgspec.structs.replace(claims_of(), tcb_status=TcbStatus.OUT_OF_DATE),
    "advisories": msgspec.structs.replace(claims_of(), advisories=("INTEL-SA-00001",)),
    "source": msgspec.structs.replace(claims_of(), source="quote"),
}


def test_claims_that_may_be_judged_differently_have_different_keys() -> None:
    keys = [claims.key for claims in (claims_of(), *DIFFERENT.values())]
    assert len(set(keys)) == len(keys)


def test_report_data_makes_no_other_question() -> None:
    assert claims_of(report_data=b"\1" * 64).key == claims_of().key


@pytest.mark.parametrize("what", ["a service TD at creation", "a service TD now", "attributes"])
def test_a_kept_admission_is_not_for_a_td_that_differs(what: str) -> None:
    world = World()
    world.publish(reference.document())
    for genuine in (claims_of(), extended()):
        assert world.verifier.verify_claims(genuine).allowed
    assert not world.verifier.verify_claims(DIFFERENT[what]).allowed


def test_a_kept_admission_asks_nobody_until_its_soft_lifetime_is_over() -> None:
    world = World("[cache]\nsoft_seconds = 100\n")
    world.publish(reference.document())
    first = world.verifier.verify_claims(claims_of())
    assert world.github.about == ONCE_EACH
    world.times.pass_by(99)
    assert world.verifier.verify_claims(claims_of()) is first
    assert world.github.about == ONCE_EACH
    world.times.pass_by(2)
    assert world.verifier.verify_claims(claims_of()).allowed
    assert world.github.about == ONCE_EACH + ONCE_EACH


def test_the_channels_revocations_are_read_once_whatever_is_asked_about() -> None:
    world = World("[cache]\nsoft_seconds = 100\n")
    launches = [reference.launch(image=f"image {number}") for number in range(5)]
    for _ in range(2):
        for made in launches:
            assert not world.verifier.verify_claims(claims_of(made)).allowed
    assert world.github.about[REVOCATIONS] == 1
    assert {world.github.about[launch_digest_of(made)] for made in launches} == {1}
    world.times.pass_by(99)
    world.verifier.verify_claims(claims_of(launches[0]))
    assert world.github.about[REVOCATIONS] == 1
    world.times.pass_by(1)
    for made in launches:
        world.verifier.verify_claims(claims_of(made))
    assert world.github.about[REVOCATIONS] == 2


def test_nobody_attested_is_kept_for_its_own_lifetime() -> None:
    world = World("[cache]\nnegative_seconds = 50\n")
    assert world.verifier.verify_claims(claims_of()).reason is Reason.NOT_ATTESTED
    asked = len(world.github.asked)
    world.publish(reference.document())
    world.times.pass_by(49)
    assert world.verifier.verify_claims(claims_of()).reason is Reason.NOT_ATTESTED
    assert len(world.github.asked) == asked
    world.times.pass_by(2)
    assert world.verifier.verify_claims(claims_of()).allowed


def test_what_could_not_be_looked_up_is_not_kept() -> None:
    world = World()
    world.publish(reference.document())
    world.github.down = True
    verdict = world.verifier.verify_claims(claims_of())
    assert (verdict.status, verdict.reason) == (503, Reason.LOOKUP_UNAVAILABLE)
    world.github.down = False
    world.times.pass_by(31)
    assert world.verifier.verify_claims(claims_of()).allowed


def test_a_stale_admission_ends_with_its_hard_lifetime_and_says_its_age() -> None:
    world = World("[cache]\nsoft_seconds = 100\nhard_seconds = 1000\n")
    world.publish(reference.document())
    assert world.verifier.verify_claims(claims_of()).allowed
    world.github.down = True
    world.times.pass_by(999)
    stale = world.verifier.verify_claims(claims_of())
    assert (stale.allowed, stale.age, "stale" in stale.labels) == (True, 999, True)
    world.times.pass_by(2)
    assert world.verifier.verify_claims(claims_of()).status == 503


def test_a_revocation_that_is_learned_ends_a_kept_admission_at_once() -> None:
    world = World()
    world.publish(reference.document())
    assert world.verifier.verify_claims(claims_of()).allowed
    registers = reference.launch()["registers"]
    digest = reference.launch_digest(*(registers[n]["value"] for n in ("mrtd", "rtmr1", "rtmr2")))
    world.verifier.learn(world.mint(reference.revoking(reference.revocation("launch", digest))))
    assert world.verifier.verify_claims(claims_of()).reason is Reason.REVOKED


REVOKING: Final = reference.revoking(reference.revocation("launch", LAUNCH))


def test_who_finds_a_revocation_while_it_is_being_learned_waits_for_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One thread opens it (`learn`), and another finds the same one on GitHub's lists."""
    world = World()
    world.publish(reference.document())
    revoking = world.mint(REVOKING)
    world.github.add(revoking, LAUNCH, REVOCATIONS)
    entered, go, learn = threading.Event(), threading.Event(), world.verifier.ledger.learn

    def slow(values: Any) -> None:
        if values.lifecycle.revoked and not entered.is_set():
            entered.set()
            assert go.wait(60)
        learn(values)

    monkeypatch.setattr(world.verifier.ledger, "learn", slow)
    with ThreadPoolExecutor(1) as threads:
        learning = threads.submit(world.verifier.learn, revoking)
        assert entered.wait(60)
        verdict = world.verifier.verify_claims(claims_of())
        go.set()
        assert all(check.ok for check in learning.result(60))
    assert verdict.reason is Reason.REVOKED


def test_who_asks_after_something_was_learned_gets_no_answer_from_before(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = World()
    world.publish(reference.document())
    world.verifier.learn(world.mint(reference.document()))
    entered, go = threading.Event(), threading.Event()

    def slow(*arguments: Any, **named: Any) -> Any:
        made = compose(*arguments, **named)
        if not entered.is_set():
            entered.set()
            assert go.wait(60)
        return made

    monkeypatch.setattr(verifiers, "compose", slow)
    with ThreadPoolExecutor(2) as threads:
        before = threads.submit(world.verifier.verify_claims, claims_of())
        assert entered.wait(60)
        assert all(check.ok for check in world.verifier.learn(world.mint(REVOKING)))
        after = threads.submit(world.verifier.verify_claims, claims_of())
        assert after.result(60).reason is Reason.REVOKED
        go.set()
        assert before.result(60).allowed  # it was asked, and judged, before
    assert world.verifier.verify_claims(claims_of()).reason is Reason.REVOKED


# --- who says what time it is


AGED: Final = "[release]\nmaximum_age_seconds = 86400\n"


def test_the_time_that_somebody_says_decides_for_nobody_else() -> None:
    world = World(AGED)
    world.publish(reference.document())
    world.times.pass_by(3 * 86400)
    ask = world.verifier.verify_claims
    for _ in range(2):
        assert ask(claims_of(), now=NOW).allowed
        assert ask(claims_of()).reason is Reason.ATTESTATION_TOO_OLD


def test_a_kept_admission_is_not_for_who_says_another_time() -> None:
    world = World(AGED)
    world.publish(reference.document())
    kept = world.verifier.verify_claims(claims_of())
    assert kept.allowed
    later = NOW + timedelta(days=3)
    ask = world.verifier.verify_claims
    assert ask(claims_of(), now=later).reason is Reason.ATTESTATION_TOO_OLD
    assert ask(claims_of()) is kept


def test_two_who_say_different_times_do_not_share_an_answer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = World(AGED)
    world.publish(reference.document())
    assert world.verifier.verify_claims(claims_of()).allowed
    entered, go = threading.Event(), threading.Event()

    def slow(*arguments: Any, **named: Any) -> Any:
        made = compose(*arguments, **named)
        if not entered.is_set():
            entered.set()
            assert go.wait(60)
        return made

    monkeypatch.setattr(verifiers, "compose", slow)
    with ThreadPoolExecutor(2) as threads:
        early = threads.submit(world.verifier.verify_claims, claims_of(), now=NOW)
        assert entered.wait(60)
        late = threads.submit(
            world.verifier.verify_claims, claims_of(), now=NOW + timedelta(days=3)
        )
        assert late.result(60).reason is Reason.ATTESTATION_TOO_OLD
        go.set()
        assert early.result(60).allowed


# --- one answer for everybody who asks meanwhile


def outcome(future: Callable[[], str]) -> str:
    try:
        return future()
    except Exception as error:  # noqa: BLE001 - which one is what is asked
        return type(error).__name__


def test_a_failure_is_everybodys_and_the_next_one_tries_again() -> None:
    flights: Flights[str, str] = Flights()
    waiting, mine = flights.join("key")
    same, also_mine = flights.join("key")
    assert (same is waiting, mine, also_mine) == (True, True, False)

    def fail() -> str:
        raise ValueError("no")

    flights.land("key", fail)
    assert outcome(waiting.result) == "ValueError"
    again, mine = flights.join("key")
    assert mine
    flights.land("key", lambda: "answer")
    assert (again.result(), len(flights)) == ("answer", 0)


@pytest.mark.parametrize("stop", [KeyboardInterrupt, SystemExit])
def test_who_is_told_to_stop_stops_alone(stop: type[BaseException]) -> None:
    flights: Flights[str, str] = Flights()
    waiting, _ = flights.join("key")

    def interrupted() -> str:
        raise stop

    with pytest.raises(stop):
        flights.land("key", interrupted)
    with pytest.raises(Interrupted):
        waiting.result()
    assert len(flights) == 0


def test_an_answer_is_worked_out_once_however_often_that_is_asked_for() -> None:
    flights: Flights[str, str] = Flights()
    waiting, _ = flights.join("key")
    begun, go, calls = threading.Event(), threading.Event(), []

    def work() -> str:
        calls.append(1)
        begun.set()
        assert go.wait(30)
        return "answer"

    worker = threading.Thread(target=flights.land, args=("key", work))
    worker.start()
    assert begun.wait(30)
    flights.land("key", work)
    assert not waiting.cancel()
    go.set()
    worker.join()
    flights.land("key", work)
    assert (waiting.result(), len(calls)) == ("answer", 1)
