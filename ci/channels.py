"""Connections to running programs, for asyncio.

Every connection is a socket pair of which the program inherits one end: there is no path to clean
up, no waiting until somebody listens, and nobody else can connect.
"""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Final, TypeVar

from mrtd.qemu.process import Process

_CHUNK: Final = 1 << 16
_POLL_SECONDS: Final = 0.02
# How far back a pattern of `Drain` may begin: more than any line of a console.
_LINE: Final = 4096
_T = TypeVar("_T")


@contextmanager
def connection() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Both ends of a new connection. A program inherits one, or two programs one each."""
    one, other = socket.socketpair()
    with one, other:
        yield one, other


@asynccontextmanager
async def background(job: Coroutine[None, None, _T]) -> AsyncIterator[asyncio.Task[_T]]:
    """Runs a job during the block, and no longer."""
    task = asyncio.create_task(job)
    try:
        yield task
    finally:
        task.cancel()
        # Not `await task`: whether this very block is being cancelled must not get lost.
        await asyncio.wait([task])


async def ended(process: Process) -> int:
    """Wait for a program's end; its exit status, negative for a signal."""
    while not process.exited():  # noqa: ASYNC110 -- a process, which has no asyncio event
        await asyncio.sleep(_POLL_SECONDS)
    return process.kill()


class Drain:
    """Reads a connection to its end, so that the writer never waits for us.

    Args:
        end: our end of the connection.
        keep: how many bytes are kept, the last ones.
        stop: a pattern after which there is no use in waiting.
        limit: how many bytes may come; what comes after that is not read.
        heard: called with the end of what came so far, after every piece: at least that piece, and
            up to a line before it.

    Attributes:
        kept: the last ``keep`` bytes so far.
        total: how many bytes came so far.
        matched: done with the matching bytes once ``stop`` is found.
        overflowed: done once more than ``limit`` bytes came.
    """

    def __init__(
        self,
        end: socket.socket,
        *,
        keep: int,
        stop: re.Pattern[bytes] | None = None,
        limit: int | None = None,
        heard: Callable[[bytes], None] | None = None,
    ) -> None:
        end.setblocking(False)
        loop = asyncio.get_running_loop()
        self.kept = bytearray()
        self.total = 0
        self.matched: asyncio.Future[bytes] = loop.create_future()
        self.overflowed: asyncio.Future[None] = loop.create_future()
        self._end = end
        self._keep = keep
        self._stop = stop
        self._limit = limit
        self._heard = heard

    async def run(self) -> None:
        """Read until the other side closes, or has sent too much."""
        loop = asyncio.get_running_loop()
        # The other side may end with bytes of ours unread, which is reported as a reset.
        with suppress(ConnectionResetError):
            while chunk := await loop.sock_recv(self._end, _CHUNK):
                self.total += len(chunk)
                self.kept += chunk
                del self.kept[: -self._keep]
                self._search(len(chunk))
                if self._limit is not None and self.total > self._limit:
                    self.overflowed.set_result(None)
                    return

    def _search(self, added: int) -> None:
        start = max(0, len(self.kept) - added - _LINE)
        if self._heard is not None:
            self._heard(bytes(self.kept[start:]))
        if self._stop is None or self.matched.done():
            return
        if found := self._stop.search(self.kept, start):
            self.matched.set_result(bytes(found[0]))
