"""Alignment: every event once, in order, cheapest, bounded."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mrtd.align import align
from mrtd.eventlog import Event, EventLog, EventType, InputName, Origin
from mrtd.registers import RegisterName, Sha384, Unpinned

_TYPES = [EventType.EV_SEPARATOR, EventType.EV_EFI_ACTION, EventType.EV_IPL, 0x1234]


def event(kind: int, number: int, name: bytes = b"") -> Event:
    digest = Sha384.of(bytes([number % 256, number >> 8])) if number else Unpinned("unknown")
    return Event(RegisterName.RTMR0, kind, digest, "x", Origin(InputName.LOG, "x"), name)


logs = st.lists(
    st.builds(
        event,
        st.sampled_from(_TYPES),
        st.integers(0, 5),
        st.sampled_from([b"", b"a", b"b"]),
    ),
    max_size=12,
).map(tuple)


@given(logs, logs, st.sampled_from([0, 1, 20, 1_000_000]))
def test_every_event_comes_once_and_in_order(a: EventLog, b: EventLog, cells: int) -> None:
    pairs = align(a, b, cells=cells).pairs
    assert [left for left, _ in pairs if left is not None] == list(range(len(a)))
    assert [right for _, right in pairs if right is not None] == list(range(len(b)))
    assert (None, None) not in pairs
    for left, right in pairs:
        if left is not None and right is not None:
            assert a[left].type == b[right].type
    assert align(a, b, cells=cells).pairs == pairs


@given(logs)
def test_a_log_is_aligned_with_itself(log: EventLog) -> None:
    assert align(log, log).pairs == tuple((i, i) for i in range(len(log)))


def test_what_was_left_out_is_one_gap_and_shifts_nothing() -> None:
    log = tuple(event(EventType.EV_EFI_ACTION, number, b"a") for number in range(1, 9))
    pairs = align(log, log[:3] + log[4:]).pairs
    assert pairs == (*((i, i) for i in range(3)), (3, None), *((i + 1, i) for i in range(3, 7)))


def test_a_change_keeps_its_place_among_equal_types() -> None:
    names = [b"SecureBoot", b"PK", b"KEK"]
    ours = tuple(event(EventType.EV_EFI_ACTION, n + 1, name) for n, name in enumerate(names))
    theirs = (ours[0], event(EventType.EV_EFI_ACTION, 99, b"KEK"))
    assert align(ours, theirs).pairs == ((0, 0), (1, None), (2, 1))


def test_hostile_sizes_are_cut_at_unique_events_and_stay_cheap() -> None:
    ours = tuple(event(EventType.EV_IPL, 1 + n) for n in range(20_000))
    theirs = (event(EventType.EV_IPL, 60_000), *ours[:10_000], *ours[10_001:], ours[5])
    found = align(ours, theirs)
    assert not found.minimal
    assert sum(a == b and a is not None for a, b in found.pairs) < 20_000
    assert (9_999, 10_000) in found.pairs
    assert (10_001, 10_001) in found.pairs
