"""Speed of the event log reader, as ratios of two measurements of the same run.

``python -m benchmarks.eventlog`` prints: reading and replaying a log of 1 MiB against hashing its
digests (the same folds with hashlib alone); time per event of 10^4 and of 10^5 events; the memory
that reading takes. Nothing here is a test: a busy machine is no bug.
"""

from __future__ import annotations

import hashlib
import sys
import time
import tracemalloc
from collections.abc import Callable
from itertools import cycle, islice
from typing import Final

from mrtd.eventlog import Event, EventLog, EventType, InputName, Origin, replay
from mrtd.eventlog.tcg2 import read_log
from mrtd.eventlog.writer import write_log
from mrtd.registers import RegisterName, Sha384, Target

_ROUNDS: Final = 15
_MIB: Final = 1 << 20
_BODY: Final = 300  # bytes, so that a record is as long as the average one of a real TD
_REPLAY_BOUND: Final = 3.0
_LINEAR_BOUND: Final = 2.0  # memory of 10^5 events does not fit the caches that 10^4 fit
_MEMORY_BOUND: Final = 3.0
_REGISTERS: Final = (RegisterName.RTMR0, RegisterName.RTMR1, RegisterName.RTMR2)


def made_log(count: int) -> bytes:
    """A TD's log with so many events of boot loader text, each with another body."""
    origin = Origin(InputName.LOG, "bench")
    events = (
        Event(register, EventType.EV_IPL, Sha384.of(body), None, origin, body.ljust(_BODY))
        for number, register in enumerate(islice(cycle(_REGISTERS), count))
        for body in [f"grub_cmd: set number={number}".encode()]
    )
    return write_log(events, target=Target.CC)


def fold(log: list[tuple[RegisterName, bytes]]) -> dict[RegisterName, bytes]:
    """What replaying cannot do without."""
    values = dict.fromkeys(_REGISTERS, bytes(48))
    for register, digest in log:
        values[register] = hashlib.sha384(values[register] + digest).digest()
    return values


def best(action: Callable[[], object]) -> float:
    """The shortest of some runs, in seconds: what else the machine did disturbs it least."""
    times = []
    for _ in range(_ROUNDS):
        start = time.perf_counter()
        action()
        times.append(time.perf_counter() - start)
    return min(times)


def read(data: bytes) -> EventLog:
    """Read a log that is made here."""
    return read_log(data, origin="bench", target=Target.CC)


def bench_replay(data: bytes, what: str) -> None:
    """Reading and replaying against hashing."""
    log = read(data)
    digests = [(e.register, e.digest.raw) for e in log[1:] if isinstance(e.digest, Sha384)]
    ours, floor = best(lambda: replay(read(data))), best(lambda: fold(digests))
    _report(f"{what}, {len(log)} events", ours, floor, _REPLAY_BOUND)


def _report(what: str, ours: float, floor: float, bound: float) -> None:
    ratio = ours / floor
    verdict = "within" if ratio <= bound else "OVER"
    print(
        f"event log: {what}: {ours * 1000:.2f} ms, hashing {floor * 1000:.2f} ms, "
        f"ratio {ratio:.2f}, {verdict} the bound of {bound}"
    )


def _verdict(value: float, bound: float) -> str:
    return f"{value:.2f}, {'within' if value <= bound else 'OVER'} the bound of {bound}"


def main() -> int:
    """Run all of it; the exit code."""
    record = len(made_log(2)) - len(made_log(1))
    bench_replay(made_log(_MIB // record), "1 MiB")
    small, large = made_log(10**4), made_log(10**5)
    few, many = best(lambda: replay(read(small))), best(lambda: replay(read(large)))
    growth = _verdict(many / few / 10, _LINEAR_BOUND)
    print(f"event log: time of 10^5 events / 10 x that of 10^4: {growth}")
    tracemalloc.start()
    log = read(large)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    share = _verdict(peak / len(large), _MEMORY_BOUND)
    print(f"event log: memory of {len(log)} events / their bytes: {share}")
    start = time.perf_counter()
    described = sum(len(event.description) for event in log)
    each = (time.perf_counter() - start) / len(log) * 1e6
    print(f"event log: describing on demand: {each:.1f} us per event ({described} characters)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
