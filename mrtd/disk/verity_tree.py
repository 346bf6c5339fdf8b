"""Whether a dm-verity hash tree is that of its data: streamed from the root to the data.

Source: Linux ``Documentation/admin-guide/device-mapper/verity.rst``, "Hash Tree"; format 1: the
digest of a block is that of the salt and the block.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

import msgspec

from mrtd.disk.image import Disk, Slice
from mrtd.disk.verity import ALGORITHMS, VerityTable
from mrtd.disk.verity_crew import Crew

_PIECE: Final = 2 << 20
"""Bytes that are read and hashed at once."""
_WORTH_STARTING: Final = 256 << 20
"""Bytes of data for which processes are started: they need some 100 ms."""

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
        disk: where they are.
        offset: of the first one, in bytes.
        block: bytes of a block.
        count: how many.
    """

    disk: Disk
    offset: int
    block: int
    count: int

    def pieces(self) -> Iterator[tuple[int, int]]:
        """First block and number of blocks of what is hashed at once."""
        step = max(_PIECE // self.block, 1)
        for first in range(0, self.count, step):
            yield first, min(step, self.count - first)


@dataclass(frozen=True, slots=True)
class VerityTree:
    """Data and the hash tree over them: what `verify_tree` checks, here or in another process."""

    data: Disk
    hashes: Disk
    table: VerityTable

    def levels(self) -> list[_Level]:
        """The data, the digests of the data, and so on up to the root's block."""
        table = self.table
        levels = [_Level(self.data, 0, table.data_block, table.data_blocks)]
        for start, count in table.levels():
            offset = start * table.hash_block
            levels.append(_Level(self.hashes, offset, table.hash_block, count))
        return levels

    def digests(self, content: bytes, block: int) -> bytes:
        """Digests of blocks, in slots as the tree has them."""
        salted = hashlib.new(self.table.algorithm, self.table.salt).copy
        view = memoryview(content)
        found = []
        for at in range(0, len(content), block):
            digest = salted()
            digest.update(view[at : at + block])
            found.append(digest.digest())
        fill = bytes(self.table.slot - ALGORITHMS[self.table.algorithm])
        return fill.join((*found, b"")) if fill else b"".join(found)

    def first_wrong(self, number: int, first: int, count: int) -> int | None:
        """The first of some blocks of a level that is not what the level above says."""
        below, above = self.levels()[number : number + 2]
        # digests fill the blocks above without a gap: slots and blocks are powers of two
        slot = self.table.slot
        expected = above.disk.read(above.offset + first * slot, count * slot)
        content = below.disk.read(below.offset + first * below.block, count * below.block)
        found = self.digests(content, below.block)
        if found == expected:
            return None
        size = ALGORITHMS[self.table.algorithm]  # the kernel does not compare what fills a slot up
        for at in range(0, count * slot, slot):
            if found[at : at + size] != expected[at : at + size]:
                return first + at // slot
        return None


def verify_tree(
    tree: VerityTree,
    root_hash: bytes,
    *,
    workers: int | None = None,
    progress: Progress | None = None,
) -> TreeMismatch | None:
    """Check all of a tree and all of its data, from the root down.

    Args:
        tree: data and hash tree.
        root_hash: what the command line says.
        workers: processes; by default one for each core, and none where starting them takes longer
            than hashing. Threads would wait for each other: a block takes two microseconds.
        progress: told how far the check of the data is.

    Returns:
        The first block that is wrong; None if there is none.

    Raises:
        MalformedDisk: data or tree are not all there.
    """
    levels = tree.levels()
    for level in levels:  # what is not on the disk is found before hours of hashing
        Slice(level.disk, level.offset, level.block * level.count)
    root = levels[-1]
    found = tree.digests(root.disk.read(root.offset, root.block), root.block)
    if found != root_hash.ljust(tree.table.slot, b"\0"):
        return TreeMismatch(len(levels) - 1, 0)
    few = levels[0].count * levels[0].block < _WORTH_STARTING
    count = workers or (1 if few else len(os.sched_getaffinity(0)))
    with Crew(tree, count) as crew:
        for number in range(len(levels) - 2, -1, -1):
            wrong = _check_level(crew, number, levels[number], None if number else progress)
            if wrong is not None:
                return TreeMismatch(number, wrong)
    return None


def _check_level(crew: Crew, number: int, level: _Level, progress: Progress | None) -> int | None:
    size = level.count * level.block
    for end, wrong in crew.work((number, first, count) for first, count in level.pieces()):
        if wrong is not None:
            return wrong
        if progress is not None:
            progress(end * level.block, size)
    return None
