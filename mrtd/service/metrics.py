"""Counters and a histogram, written in Prometheus's text format 0.0.4."""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from itertools import accumulate
from typing import Final

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
# Seconds: a cached answer takes half a millisecond, the first Sigstore verification a second
_BUCKETS: Final = (
    *(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5),
    *(1.0, 2.5, 5.0, 10.0, 30.0),
)

Sample = tuple[tuple[str, ...], float]


class Counter:
    """A family of counters, by label values. Thread-safe.

    Args:
        name: without the ``_total`` at its end that is written.
        text: what is counted.
        labels: names; their values must be few.
    """

    def __init__(self, name: str, text: str, labels: tuple[str, ...] = ()) -> None:
        self.name, self.text, self.labels = name, text, labels
        self._lock = threading.Lock()
        self._values: dict[tuple[str, ...], int] = {}

    def add(self, *values: str) -> None:
        """Count one; ``values`` are those of the labels."""
        with self._lock:
            self._values[values] = self._values.get(values, 0) + 1

    def value(self, *values: str) -> int:
        """How many there were."""
        return self._values.get(values, 0)

    def lines(self) -> Iterator[str]:
        with self._lock:
            found = sorted(self._values.items())
        yield from family(f"{self.name}_total", "counter", self.text, self.labels, found)


class Histogram:
    """How long something takes, seconds, by one label. Thread-safe."""

    def __init__(self, name: str, text: str, label: str) -> None:
        self.name, self.text, self.label = name, text, label
        self._lock = threading.Lock()
        self._counts: dict[str, list[int]] = {}
        self._sums: dict[str, float] = {}

    def observe(self, value: str, seconds: float) -> None:
        """Count one that took so long."""
        with self._lock:
            counts = self._counts.setdefault(value, [0] * (len(_BUCKETS) + 1))
            counts[bisect_left(_BUCKETS, seconds)] += 1
            self._sums[value] = self._sums.get(value, 0.0) + seconds

    def lines(self) -> Iterator[str]:
        yield from _head(self.name, "histogram", self.text)
        with self._lock:
            found = [
                (value, [*counts], self._sums[value]) for value, counts in self._counts.items()
            ]
        for value, counts, total in sorted(found):
            bounds = (*(f"{bound:g}" for bound in _BUCKETS), "+Inf")
            for bound, count in zip(bounds, accumulate(counts), strict=True):
                yield _sample(f"{self.name}_bucket", ((self.label, value), ("le", bound)), count)
            yield _sample(f"{self.name}_sum", ((self.label, value),), total)
            yield _sample(f"{self.name}_count", ((self.label, value),), sum(counts))


def family(
    name: str, kind: str, text: str, labels: tuple[str, ...], samples: Iterable[Sample]
) -> Iterator[str]:
    """All lines of a metric."""
    yield from _head(name, kind, text)
    for values, number in samples:
        yield _sample(name, tuple(zip(labels, values, strict=True)), number)


def gauge(name: str, text: str, number: float) -> Iterator[str]:
    """A metric without labels that goes up and down."""
    yield from family(name, "gauge", text, (), [((), number)])


def counted(name: str, text: str, number: float) -> Iterator[str]:
    """A counter without labels that somebody else keeps."""
    yield from family(f"{name}_total", "counter", text, (), [((), number)])


def _head(name: str, kind: str, text: str) -> Iterator[str]:
    escaped = text.replace("\\", r"\\").replace("\n", r"\n")
    yield f"# HELP {name} {escaped}"
    yield f"# TYPE {name} {kind}"


def _sample(name: str, labels: tuple[tuple[str, str], ...], number: float) -> str:
    inner = ",".join(f'{key}="{_escaped(value)}"' for key, value in labels)
    shown = f"{number:.17g}"
    return f"{name}{{{inner}}} {shown}" if inner else f"{name} {shown}"


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
