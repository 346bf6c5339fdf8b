"""Budget and breaker, on a clock that only tests move."""

from __future__ import annotations

import math
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mrtd.verifier.budget import HOLD_LIMIT, Breaker, Budget
from mrtd.verifier.clock import Clock


class Time:
    """A clock that is moved by hand."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.clock = Clock(wall=lambda: 1_800_000_000.0 + self.now, steady=lambda: self.now)


def taken(budget: Budget, *, priority: float = 0.0) -> int:
    """How many can be had at once."""
    count = 0
    while budget.take(priority=priority) is None:
        count += 1
    return count


def test_a_full_bucket_can_be_taken() -> None:
    assert taken(Budget(10, 0, Time().clock)) == 10


def test_the_reserve_is_for_priority_only() -> None:
    budget = Budget(10, 30, Time().clock)
    assert taken(budget) == 7
    assert taken(budget, priority=1.0) == 3


def test_priority_takes_from_the_whole_bucket() -> None:
    budget = Budget(10, 30, Time().clock)
    assert taken(budget, priority=1.0) == 10
    assert taken(budget) == 0


@pytest.mark.parametrize(("share", "gets"), [(0.0, 60), (0.25, 70), (0.5, 80), (1.0, 100)])
def test_priority_is_a_share_of_the_reserve(share: float, gets: int) -> None:
    budget = Budget(100, 40, Time().clock)
    assert taken(budget, priority=share) == gets
    assert taken(budget, priority=1.0) == 100 - gets


def test_the_seconds_until_the_next_one_are_said() -> None:
    time = Time()
    budget = Budget(3600, 0, time.clock)
    assert taken(budget) == 3600
    wait = budget.take(priority=0.0)
    assert wait == pytest.approx(1.0)
    time.now += 1.001
    assert budget.take(priority=0.0) is None


def test_without_priority_the_reserve_has_to_fill_first() -> None:
    time = Time()
    budget = Budget(3600, 50, time.clock)
    assert taken(budget, priority=1.0) == 3600
    assert budget.take(priority=1.0) == pytest.approx(1.0)
    assert budget.take(priority=0.0) == pytest.approx(1801.0)


def test_asking_in_vain_costs_nothing() -> None:
    time = Time()
    budget = Budget(60, 0, time.clock)
    assert taken(budget) == 60
    for _ in range(100):
        assert budget.take(priority=0.0) is not None
    time.now += 60.001
    assert taken(budget) == 1


def test_it_fills_no_further_than_full() -> None:
    time = Time()
    budget = Budget(10, 0, time.clock)
    time.now += 1e6
    assert taken(budget) == 10


def test_a_clock_that_goes_back_gives_nothing() -> None:
    time = Time()
    budget = Budget(10, 0, time.clock)
    assert taken(budget) == 10
    time.now -= 500
    assert budget.take(priority=1.0) == pytest.approx(360)


@given(st.integers(1, 1 << 31), st.integers(0, 90))
def test_somebody_without_priority_can_always_get_one(per_hour: int, reserve: int) -> None:
    assert Budget(per_hour, reserve, Time().clock).take(priority=0.0) is None


def test_threads_take_no_more_than_there_is() -> None:
    budget = Budget(100, 0, Time().clock)
    barrier = threading.Barrier(8)

    def work() -> int:
        barrier.wait()
        return sum(budget.take(priority=0.0) is None for _ in range(50))

    with ThreadPoolExecutor(8) as pool:
        counts = [pool.submit(work) for _ in range(8)]
        assert sum(count.result() for count in counts) == 100


def fail(breaker: Breaker, times: int) -> None:
    for _ in range(times):
        assert breaker.enter() is None
        breaker.failed()


def test_failures_in_a_row_open_it() -> None:
    breaker = Breaker(Time().clock)
    fail(breaker, 5)
    assert breaker.enter() == pytest.approx(30)


def test_a_success_in_between_keeps_it_closed() -> None:
    breaker = Breaker(Time().clock)
    fail(breaker, 4)
    breaker.succeeded()
    fail(breaker, 4)
    assert breaker.enter() is None


def test_half_open_lets_one_through() -> None:
    time = Time()
    breaker = Breaker(time.clock)
    fail(breaker, 5)
    time.now += 30
    assert breaker.enter() is None
    assert breaker.enter() == pytest.approx(30)


def test_a_probe_that_succeeds_closes_it() -> None:
    time = Time()
    breaker = Breaker(time.clock)
    fail(breaker, 5)
    time.now += 30
    assert breaker.enter() is None
    breaker.succeeded()
    assert [breaker.enter(), breaker.enter()] == [None, None]


def test_a_probe_that_fails_opens_it_again() -> None:
    time = Time()
    breaker = Breaker(time.clock)
    fail(breaker, 5)
    time.now += 30
    fail(breaker, 1)
    time.now += 29
    assert breaker.enter() == pytest.approx(1)


def test_a_probe_that_is_never_heard_of_again_blocks_nobody_for_ever() -> None:
    time = Time()
    breaker = Breaker(time.clock)
    fail(breaker, 5)
    time.now += 30
    assert breaker.enter() is None
    time.now += 30
    assert breaker.enter() is None


def test_a_pause_is_kept() -> None:
    time = Time()
    breaker = Breaker(time.clock)
    breaker.hold(120)
    assert breaker.enter() == pytest.approx(120)
    breaker.succeeded()  # of a request that was on its way
    breaker.hold(10)
    assert breaker.enter() == pytest.approx(120)
    time.now += 120
    assert breaker.enter() is None


@pytest.mark.parametrize("seconds", [1e9, math.inf, math.nan])
def test_no_pause_is_longer_than_an_hour(seconds: float) -> None:
    breaker = Breaker(Time().clock)
    breaker.hold(seconds)
    assert breaker.enter() == pytest.approx(HOLD_LIMIT)


def test_a_pause_in_the_past_is_none() -> None:
    breaker = Breaker(Time().clock)
    breaker.hold(-5)
    assert breaker.enter() is None
