"""Nonces and tokens are good for one use, within their time."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mrtd.errors import MalformedDocument
from mrtd.verifier.nonce import NONCE_SIZE, Nonces, TokenMemory, nonce_text, read_nonce
from mrtd.verifier.verdict import Reason
from tests.lab.trust_authority import NOW, LabClock

THREADS: Final = 8


def together(work: Callable[[], Reason | None]) -> Counter[Reason | None]:
    """What several threads get that do the same at the same time."""
    start = threading.Barrier(THREADS)

    def run() -> Reason | None:
        start.wait(30)
        return work()

    with ThreadPoolExecutor(THREADS) as pool:
        return Counter(f.result(30) for f in [pool.submit(run) for _ in range(THREADS)])


# Nonces


def test_a_nonce_works_once() -> None:
    nonces = Nonces(clock=LabClock().clock)
    nonce = nonces.issue()
    assert len(nonce) == NONCE_SIZE == 56
    assert nonces.consume(nonce) is None
    assert nonces.consume(nonce) is Reason.NONCE_USED
    assert nonces.consume(nonce) is Reason.NONCE_USED


def test_nonces_differ() -> None:
    nonces = Nonces(clock=LabClock().clock)
    assert len({nonces.issue() for _ in range(1000)}) == 1000


def test_issuing_costs_no_memory() -> None:
    nonces = Nonces(clock=LabClock().clock, capacity=1)
    issued = [nonces.issue() for _ in range(100)]
    assert nonces.consume(issued[50]) is None


@pytest.mark.parametrize(
    ("seconds", "reason"), [(299, None), (300, Reason.NONCE_EXPIRED), (10**9, Reason.NONCE_EXPIRED)]
)
def test_a_nonce_expires(seconds: int, reason: Reason | None) -> None:
    clock = LabClock()
    nonces = Nonces(clock=clock.clock)
    nonce = nonces.issue()
    clock.steady += seconds
    assert nonces.consume(nonce) is reason


def test_a_used_nonce_stays_used_until_it_is_expired() -> None:
    clock = LabClock()
    nonces = Nonces(clock=clock.clock)
    nonce = nonces.issue()
    assert nonces.consume(nonce) is None
    clock.steady += 299.9
    assert nonces.consume(nonce) is Reason.NONCE_USED
    clock.steady += 0.1
    assert nonces.consume(nonce) is Reason.NONCE_EXPIRED
    assert nonces.consume(nonces.issue()) is None
    assert nonces.consume(nonce) is Reason.NONCE_EXPIRED


@pytest.mark.parametrize("jump", [-(10**9), 10**9])
def test_the_wall_clock_neither_revives_nor_kills_a_nonce(jump: int) -> None:
    clock = LabClock()
    nonces = Nonces(clock=clock.clock)
    used, fresh, old = nonces.issue(), nonces.issue(), nonces.issue()
    assert nonces.consume(used) is None
    clock.wall += jump
    assert nonces.consume(used) is Reason.NONCE_USED
    assert nonces.consume(fresh) is None
    clock.steady += 300
    clock.wall -= jump
    assert nonces.consume(old) is Reason.NONCE_EXPIRED


@pytest.mark.parametrize("secret", [None, b"the same secret of both"])
def test_another_process_knows_none_of_them(secret: bytes | None) -> None:
    """With the same secret too: each remembers only what it consumed itself."""
    clock = LabClock().clock
    nonce = Nonces(clock=clock, secret=secret).issue()
    assert Nonces(clock=clock, secret=secret).consume(nonce) is Reason.NONCE_UNKNOWN


@given(st.integers(0, NONCE_SIZE * 8 - 1))
def test_a_nonce_with_another_bit_is_unknown(bit: int) -> None:
    nonces = Nonces(clock=LabClock().clock)
    changed = int.from_bytes(nonces.issue(), "big") ^ 1 << bit
    assert nonces.consume(changed.to_bytes(NONCE_SIZE, "big")) is Reason.NONCE_UNKNOWN


@given(st.binary(max_size=80))
def test_what_was_not_issued_is_unknown(data: bytes) -> None:
    assert Nonces(clock=LabClock().clock).consume(data) is Reason.NONCE_UNKNOWN


def test_a_nonce_with_something_after_it_is_unknown() -> None:
    nonces = Nonces(clock=LabClock().clock)
    nonce = nonces.issue()
    assert nonces.consume(nonce + b"\0") is Reason.NONCE_UNKNOWN
    assert nonces.consume(nonce[:-1]) is Reason.NONCE_UNKNOWN
    assert nonces.consume(nonce) is None


def test_a_full_memory_forgets_nothing_early() -> None:
    clock = LabClock()
    nonces = Nonces(clock=clock.clock, capacity=2)
    first, second = nonces.issue(), nonces.issue()
    clock.steady += 100
    third, fourth = nonces.issue(), nonces.issue()
    assert [nonces.consume(n) for n in (first, second)] == [None, None]
    assert nonces.consume(third) is Reason.OVERLOADED
    assert nonces.consume(first) is Reason.NONCE_USED
    clock.steady += 200
    assert nonces.consume(third) is None
    assert nonces.consume(fourth) is None
    assert nonces.consume(third) is Reason.NONCE_USED


def test_of_many_threads_one_gets_the_nonce() -> None:
    nonces = Nonces(clock=LabClock().clock)
    nonce = nonces.issue()
    found = together(lambda: nonces.consume(nonce))
    assert found == {None: 1, Reason.NONCE_USED: THREADS - 1}


def test_threads_together_stay_within_the_memory() -> None:
    nonces = Nonces(clock=LabClock().clock, capacity=3)
    found = together(lambda: nonces.consume(nonces.issue()))
    assert found == {None: 3, Reason.OVERLOADED: THREADS - 3}


def test_text_of_a_nonce() -> None:
    nonce = Nonces(clock=LabClock().clock).issue()
    text = nonce_text(nonce)
    assert len(text) == 75
    assert "=" not in text
    assert read_nonce(text) == nonce


@pytest.mark.parametrize("text", ["", "A", "A" * 76, "A" * 74, "A" * 74 + "B", "é" * 75, "A=" * 37])
def test_text_that_is_no_nonce_is_refused(text: str) -> None:
    with pytest.raises(MalformedDocument):
        read_nonce(text)


@given(st.text(max_size=90))
def test_reading_text_raises_our_errors_only(text: str) -> None:
    with suppress(MalformedDocument):
        assert nonce_text(read_nonce(text)) == text


# Tokens


def test_a_token_admits_once() -> None:
    clock = LabClock()
    memory = TokenMemory(clock=clock.clock)
    assert memory.use("a", NOW + 60) is None
    assert memory.use("a", NOW + 60) is Reason.TOKEN_REPLAYED
    assert memory.use("b", NOW + 60) is None
    assert memory.use("a", NOW + 6000) is Reason.TOKEN_REPLAYED


@pytest.mark.parametrize("expires", [NOW, NOW - 1, 0.0, float("nan"), float("-inf")])
def test_a_token_that_is_not_in_force_is_not_taken(expires: float) -> None:
    assert TokenMemory(clock=LabClock().clock).use("a", expires) is Reason.TOKEN_REPLAYED


def test_a_full_memory_of_tokens_takes_no_more_until_some_expire() -> None:
    clock = LabClock()
    memory = TokenMemory(clock=clock.clock, capacity=2)
    assert memory.use("a", NOW + 60) is None
    assert memory.use("b", NOW + 90) is None
    assert memory.use("c", NOW + 90) is Reason.OVERLOADED
    clock.wall += 60
    assert memory.use("c", NOW + 90) is None
    assert memory.use("d", NOW + 90) is Reason.OVERLOADED


@pytest.mark.parametrize("back", [1, 30, 61, 10**9])
def test_setting_the_clock_back_makes_no_token_new(back: float) -> None:
    clock = LabClock()
    memory = TokenMemory(clock=clock.clock)
    assert memory.use("a", NOW + 60) is None
    clock.wall += 61
    assert memory.use("b", NOW + 120) is None
    clock.wall -= back
    assert memory.use("a", NOW + 60) is Reason.TOKEN_REPLAYED
    assert memory.use("b", NOW + 120) is Reason.TOKEN_REPLAYED
    assert memory.use("c", NOW + 120) is None


@given(
    st.lists(st.tuples(st.integers(0, 5), st.integers(1, 50), st.integers(-60, 60)), max_size=40)
)
def test_no_token_is_taken_twice_however_the_clock_jumps(
    steps: list[tuple[int, int, int]],
) -> None:
    clock = LabClock()
    memory = TokenMemory(clock=clock.clock)
    expires = {number: float(NOW + 20 * number) for number in range(6)}
    taken: set[int] = set()
    for number, _, jump in steps:
        clock.wall += jump
        if memory.use(str(number), expires[number]) is None:
            assert number not in taken
            taken.add(number)


def test_of_many_threads_one_uses_the_token() -> None:
    memory = TokenMemory(clock=LabClock().clock)
    found = together(lambda: memory.use("a", NOW + 60))
    assert found == {None: 1, Reason.TOKEN_REPLAYED: THREADS - 1}


@given(st.text(max_size=300))
def test_any_text_is_a_token_id(text: str) -> None:
    memory = TokenMemory(clock=LabClock().clock)
    assert memory.use(text, NOW + 1) is None
    assert memory.use(text, NOW + 1) is Reason.TOKEN_REPLAYED
