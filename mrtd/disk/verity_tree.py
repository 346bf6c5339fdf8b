"""Whether a dm-verity hash tree is that of its data: streamed from the root to the data.

Source: Linux ``Documentation/admin-guide/device-mapper/verity.rst``, "Hash Tree"; format 1: the
digest of a block is that of the salt and the block.
"""

from __future__ import annotations

import hashlib
import os
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import islice, pairwise
from typing import Final

import msgspec

from mrtd.disk.image import Disk, Slice
from mrtd.disk.verity import ALGORITHMS, VerityTable

_PIECE: Final = 2 << 20
"""Bytes that a thread reads and hashes at once."""

Progress = Callable[[int, int], None]
"""Called with bytes of data that are checked, and all bytes of data."""


class TreeMismatch(msgspec.Struct, frozen=True):
    """The first block that is not what the level above it (or the root hash) says.

    Attributes:
        level: 0 is the data, 1 are the digests of the data, and so on.
        block: its number within the level.
    """

    level: int
    block: int


@dataclass(frozen=True, slots=True)
class _Level:
    """Blocks of one size that lie one after the other.

    Attributes:
        number: as in `TreeMismatch`.
        disk: where they are.
        offset: of the first one, in bytes.
        block: bytes of a block.
        count: how many.
    """

    number: int
    disk: Disk
    offset: int
    block: int
    count: int


def verify_tree(
    data: Disk,
    hashes: Disk,
    table: VerityTable,
    root_hash: bytes,
    *,
    workers: int | None = None,
    progress: Progress | None = None,
) -> TreeMismatch | None:
    """Check all of a tree and all of its data.

    Args:
        data: the data device.
        hashes: the hash device.
        table: the tree.
        root_hash: what the command line says.
        workers: threads; by default one for each core that this process may use.
        progress: told how far it is, from time to time.

    Returns:
        The first block that is wrong; None if there is none.

    Raises:
        MalformedDisk: data or tree are not all there.
    """
    levels = [_Level(0, data, 0, table.data_block, table.data_blocks)]
    for number, (start, count) in enumerate(table.levels(), 1):
        offset = start * table.hash_block
        levels.append(_Level(number, hashes, offset, table.hash_block, count))
    for level in levels:  # what is not on the disk is found before hours of hashing
        Slice(level.disk, level.offset, level.block * level.count)
    root = levels[-1]
    found = _digests(table, root.disk.read(root.offset, root.block), root.block)
    if found != root_hash.ljust(table.slot, b"\0"):
        return TreeMismatch(root.number, 0)
    threads = workers or len(os.sched_getaffinity(0))
    with ThreadPoolExecutor(threads, thread_name_prefix="mrtd-verity") as pool:
        for below, above in reversed(list(pairwise(levels))):
            check = partial(_check_piece, table, below, above)
            told = None if below.number else progress
            wrong = _first(pool, 2 * threads, check, below, told)
            if wrong is not None:
                return TreeMismatch(below.number, wrong)
    return None


def _first(
    pool: ThreadPoolExecutor,
    ahead: int,
    check: Callable[[int, int], int | None],
    level: _Level,
    progress: Progress | None,
) -> int | None:
    """The first wrong block of a level; so many pieces are under way at once."""
    waiting: deque[tuple[int, Future[int | None]]] = deque()
    pieces = _pieces(level)
    try:
        while True:
            for first, count in islice(pieces, ahead - len(waiting)):
                waiting.append((first + count, pool.submit(check, first, count)))
            if not waiting:
                return None
            end, future = waiting.popleft()
            if (wrong := future.result()) is not None:
                return wrong
            if progress is not None:
                progress(end * level.block, level.count * level.block)
    finally:
        for _, future in waiting:
            future.cancel()


def _pieces(level: _Level) -> Iterator[tuple[int, int]]:
    step = max(_PIECE // level.block, 1)
    for first in range(0, level.count, step):
        yield first, min(step, level.count - first)


def _check_piece(
    table: VerityTable, below: _Level, above: _Level, first: int, count: int
) -> int | None:
    # digests fill the blocks above without a gap: slots and blocks are powers of two
    slot = table.slot
    expected = above.disk.read(above.offset + first * slot, count * slot)
    data = below.disk.read(below.offset + first * below.block, count * below.block)
    found = _digests(table, data, below.block)
    if found == expected:
        return None
    size = ALGORITHMS[table.algorithm]  # what fills a slot up is not compared by the kernel
    for number in range(count):
        at = number * slot
        if found[at : at + size] != expected[at : at + size]:
            return first + number
    return None


def _digests(table: VerityTable, data: bytes, block: int) -> bytes:
    """Digests of blocks, in slots. OpenSSL hashes without the interpreter's lock."""
    salted = hashlib.new(table.algorithm, table.salt).copy
    view = memoryview(data)
    found = []
    for at in range(0, len(data), block):
        digest = salted()
        digest.update(view[at : at + block])
        found.append(digest.digest())
    fill = bytes(table.slot - ALGORITHMS[table.algorithm])
    return fill.join((*found, b"")) if fill else b"".join(found)
