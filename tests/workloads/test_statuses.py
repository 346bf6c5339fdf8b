"""Many deployments: one check for each digest, kept for a while, and never for too many at once."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from mrtd.images.outcome import Kind, NotSigned
from mrtd.images.reference import ImageReference
from mrtd.images.settings import ImageSource
from mrtd.images.status import Code, Colour, Deployment, ImageCheck
from mrtd.workloads.statuses import KEPT_SECONDS, UNKNOWN_SECONDS, Statuses
from tests.lab.agents import IMAGES, LENIENT, NOW, OURS, RUNS, Checker, digest, settings
from tests.lab.world import Times


def made(**options: Any) -> tuple[Statuses, Checker, Times]:
    checker, times = Checker(), Times(NOW)
    return Statuses(settings(), checker, clock=times.clock, **options), checker, times


def deployments(count: int, digests: int) -> list[Deployment]:
    """Workloads with names and tags of their own, and few images."""
    return [
        Deployment(f"app-{n}", f"{OURS}:v{n}", f"sha256:{n % digests:064x}") for n in range(count)
    ]


def test_500_workloads_of_20_digests_are_20_checks() -> None:
    statuses, checker, _ = made()
    found = statuses.of(deployments(500, 20))
    assert len(found) == 500
    assert {status.colour for status in found} == {Colour.GREEN}
    assert len(checker.asked) == 20
    statuses.of(deployments(500, 20))
    assert len(checker.asked) == 20


def test_each_gets_its_own_status_in_order() -> None:
    statuses, _, _ = made()
    found = [status.code for status in statuses.of(RUNS.values())]
    assert dict(zip(RUNS, found, strict=True)) == {
        "green": Code.SIGNED,
        "green too": Code.SIGNED,
        "exception": Code.EXCEPTION,
        "lenient": Code.WORKFLOW_OPTIONAL,
        "unsigned": Code.NOT_SIGNED,
        "foreign": Code.REFUSED,
        "away": Code.NOT_CHECKED,
        "expired": Code.EXCEPTION_EXPIRED,
        "stranger": Code.NOT_ALLOWED,
        "moved": Code.DIGEST_DIFFERS,
        "no container": Code.NOT_REPORTED,
    }


def test_who_ask_at_the_same_time_wait_for_one_check() -> None:
    entered, leave = threading.Event(), threading.Event()

    class Slow(Checker):
        def check(self, source: ImageSource, image: ImageReference) -> ImageCheck:
            entered.set()
            assert leave.wait(60)
            return super().check(source, image)

    checker = Slow()
    statuses = Statuses(settings(), checker)
    with ThreadPoolExecutor(8) as threads:
        waiting = [threads.submit(statuses.of, [RUNS["green"]]) for _ in range(8)]
        assert entered.wait(60)
        leave.set()
        assert {one.result(60)[0].code for one in waiting} == {Code.SIGNED}
    assert len(checker.asked) == 1


def test_the_same_digest_elsewhere_is_another_question() -> None:
    # a signature is for a repository: who copies it to another one has nothing
    statuses, checker, _ = made()
    statuses.of([Deployment("a", OURS, digest("1")), Deployment("b", LENIENT, digest("1"))])
    assert len(checker.asked) == 2


def test_what_is_unknown_is_asked_again_soon_and_what_is_known_late() -> None:
    statuses, checker, times = made()
    both = [RUNS["green"], RUNS["away"]]
    statuses.of(both)
    times.pass_by(UNKNOWN_SECONDS - 1)
    statuses.of(both)
    assert len(checker.asked) == 2
    times.pass_by(1)
    statuses.of(both)
    assert [image.hex[0] for image in checker.asked] == ["1", "c", "c"]
    times.pass_by(KEPT_SECONDS - UNKNOWN_SECONDS)
    statuses.of(both)
    assert [image.hex[0] for image in checker.asked[3:]] == ["1", "c"]


def test_one_call_checks_so_many_and_the_next_goes_on() -> None:
    statuses, checker, _ = made(checks=5)
    many = deployments(12, 12)
    first = statuses.of(many)
    assert [status.colour for status in first].count(Colour.GREEN) == 5
    assert {status.code for status in first[5:]} == {Code.NOT_CHECKED}
    statuses.of(many)
    third = statuses.of(many)
    assert {status.colour for status in third} == {Colour.GREEN}
    assert len(checker.asked) == 12


def test_a_check_that_raises_is_unknown_and_tried_again() -> None:
    class Broken(Checker):
        def check(self, source: ImageSource, image: ImageReference) -> ImageCheck:
            super().check(source, image)
            raise ConnectionError("https://registry?token=secret")

    checker, times = Broken(), Times(NOW)
    statuses = Statuses(settings(), checker, clock=times.clock)
    (found,) = statuses.of([RUNS["green"]])
    assert found.colour is Colour.UNKNOWN
    assert "secret" not in found.reason
    times.pass_by(UNKNOWN_SECONDS)
    statuses.of([RUNS["green"]])
    assert len(checker.asked) == 2


def test_an_exception_ends_while_the_service_runs() -> None:
    statuses, checker, times = made()
    assert statuses.of([RUNS["exception"]])[0].colour is Colour.YELLOW
    times.pass_by(70 * 86400)
    assert statuses.of([RUNS["exception"]])[0].code is Code.EXCEPTION_EXPIRED
    assert checker.asked == []


def test_a_key_that_was_replaced_counts_no_more() -> None:
    class SignedByOldKey(Checker):
        def check(self, source: ImageSource, image: ImageReference) -> ImageCheck:
            found = super().check(source, image)
            if "release.pub" in source.keys:
                return found
            return ImageCheck(NotSigned(image, Kind.KEY, "none of these keys"), found.workflow)

    checker = SignedByOldKey()
    both, rotated = IMAGES, IMAGES.replace('"release.pub", ', "")
    assert both != rotated
    before, after = (
        Statuses(settings(text), checker).of([RUNS["green"]])[0] for text in (both, rotated)
    )
    assert (before.colour, after.colour) == (Colour.GREEN, Colour.RED)
