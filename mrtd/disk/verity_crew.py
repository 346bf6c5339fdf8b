"""Processes that check pieces of a hash tree, each with files of its own.

A worker opens the disk's files again by their names, and makes sure that they are the same files.
"""

from __future__ import annotations

import signal
from collections import deque
from collections.abc import Iterable, Iterator
from itertools import islice
from types import TracebackType
from typing import TYPE_CHECKING, Final, Protocol, Self

from mrtd.errors import MalformedDisk

if TYPE_CHECKING:  # they take as long to import as all of a measurement's modules
    from concurrent.futures import Future, ProcessPoolExecutor

_PR_SET_PDEATHSIG: Final = 1  # Linux include/uapi/linux/prctl.h
_AHEAD: Final = 3
"""Pieces under way for each worker."""

Piece = tuple[int, int, int]
"""Level, first block, number of blocks."""


class Tree(Protocol):
    """What is checked: see `mrtd.disk.verity_tree.VerityTree`."""

    def first_wrong(self, number: int, first: int, count: int) -> int | None:
        """The first of some blocks that is wrong."""
        ...


class Crew:
    """Checks pieces of a tree in other processes, or in this one if one worker is enough.

    Args:
        tree: what is checked.
        workers: how many processes; 1: none.
    """

    def __init__(self, tree: Tree, workers: int) -> None:
        self._tree = tree
        self._workers = workers
        self._pool: ProcessPoolExecutor | None = None
        if workers > 1:
            from concurrent.futures import ProcessPoolExecutor  # noqa: PLC0415 - see above
            from multiprocessing import get_context  # noqa: PLC0415

            # a fork would copy locks that other threads of this process hold
            self._pool = ProcessPoolExecutor(
                workers, get_context("spawn"), initializer=_adopt, initargs=(tree,)
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)

    def work(self, pieces: Iterable[Piece]) -> Iterator[tuple[int, int | None]]:
        """End of each piece and its first wrong block, in the order of the pieces."""
        rest = iter(pieces)
        waiting: deque[tuple[Piece, Future[int | None] | None]] = deque()
        while True:
            missing = self._workers * _AHEAD - len(waiting)
            waiting += ((piece, self._submit(piece)) for piece in islice(rest, missing))
            if not waiting:
                return
            piece, future = waiting.popleft()
            yield piece[1] + piece[2], self._answer(piece, future)

    def _submit(self, piece: Piece) -> Future[int | None] | None:
        if self._pool is None:
            return None
        from concurrent.futures import BrokenExecutor  # noqa: PLC0415

        try:
            return self._pool.submit(_check, piece)
        except BrokenExecutor:
            return None

    def _answer(self, piece: Piece, future: Future[int | None] | None) -> int | None:
        """What a worker says; if it could not, what is found here, or raised."""
        if future is None:
            return self._tree.first_wrong(*piece)
        from concurrent.futures import BrokenExecutor  # noqa: PLC0415

        try:
            answer = future.result()
        except BrokenExecutor:  # as where __main__ cannot be imported again
            answer = _UNANSWERED
        return self._tree.first_wrong(*piece) if answer == _UNANSWERED else answer


_UNANSWERED: Final = -1
_ADOPTED: Final[list[Tree]] = []
"""In a worker: the tree that it checks."""


def _adopt(tree: Tree) -> None:
    """Begin as a worker, which ends with the process that started it."""
    import ctypes  # noqa: PLC0415 - in workers only

    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the user means the process that started it
    _ADOPTED[:] = [tree]


def _check(piece: Piece) -> int | None:
    try:
        return _ADOPTED[0].first_wrong(*piece)
    except MalformedDisk:
        return _UNANSWERED
