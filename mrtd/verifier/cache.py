"""Answers that are kept, questions that are asked once, and threads that ask them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final, Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")
_WORKERS: Final = 8


class Bounded(Generic[K, V]):
    """A map that forgets its oldest entries. Reading takes no lock. Thread-safe.

    Args:
        entries: at most.
    """

    def __init__(self, entries: int) -> None:
        self._entries = entries
        self._found: dict[K, V] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._found)

    def get(self, key: K) -> V | None:
        """The value; None if there is none."""
        return self._found.get(key)

    def put(self, key: K, value: V) -> None:
        """Keep a value; the one that was put first goes if there are too many."""
        with self._lock:
            self._found.pop(key, None)
            self._found[key] = value
            while len(self._found) > self._entries:
                del self._found[next(iter(self._found))]

    def drop(self, key: K) -> None:
        """Forget a value."""
        with self._lock:
            self._found.pop(key, None)


class Interrupted(Exception):
    """Whoever worked out the answer was told to stop; asking again makes sense."""


class Flights(Generic[K, V]):
    """Runs one call per key at a time; whoever asks meanwhile gets the same answer. Thread-safe."""

    def __init__(self) -> None:
        self._flying: dict[K, Future[V]] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._flying)

    def join(self, key: K) -> tuple[Future[V], bool]:
        """The answer to come, and whether the caller is the one to see that `land` is called.

        The answer may be what ``land``'s work raised, or `Interrupted`.
        """
        with self._lock:
            if (flying := self._flying.get(key)) is not None:
                return flying, False
            mine: Future[V] = Future()
            self._flying[key] = mine
            return mine, True

    def land(self, key: K, work: Callable[[], V]) -> None:
        """Work out the answer, and give it to everybody who waits; once, however often called.

        What stops a thread (Ctrl-C, `SystemExit`) stops only the one that works.
        """
        with self._lock:
            future = self._flying.get(key)
            if future is None or future.running():
                return
            future.set_running_or_notify_cancel()  # from here on nobody can cancel it for others
        try:
            value = work()
        except Exception as error:  # noqa: BLE001 - it goes to whoever waits
            self._end(key)
            future.set_exception(error)
        except BaseException as error:
            self._end(key)
            future.set_exception(Interrupted(type(error).__name__))
            raise
        else:
            self._end(key)
            future.set_result(value)

    def _end(self, key: K) -> None:
        with self._lock:
            del self._flying[key]


class Workers:
    """Threads by what they are for; none before they are needed. Thread-safe."""

    def __init__(self) -> None:
        self._pools: dict[str, ThreadPoolExecutor] = {}
        self._lock = threading.Lock()

    def named(self, name: str) -> ThreadPoolExecutor:
        """The threads for something."""
        with self._lock:
            if name not in self._pools:
                made = ThreadPoolExecutor(_WORKERS, thread_name_prefix=f"mrtd-verifier-{name}")
                self._pools[name] = made
            return self._pools[name]

    def close(self) -> None:
        """End all threads; what they were asked for is finished. There may be new ones later."""
        with self._lock:
            pools, self._pools = self._pools, {}
        for pool in pools.values():
            pool.shutdown()
