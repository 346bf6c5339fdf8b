"""A Merkle tree that grows (RFC 6962, 2.1)."""

from __future__ import annotations

import hashlib


def leaf_hash(entry: bytes) -> bytes:
    """MTH({d(0)}) = SHA-256(0x00 || d(0))."""
    return hashlib.sha256(b"\x00" + entry).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """SHA-256(0x01 || left || right)."""
    return hashlib.sha256(b"\x01" + left + right).digest()


class MerkleTree:
    """All entries' hashes, and those of all complete subtrees.

    ``_levels[k][i]`` is the hash of entries ``i * 2**k`` up to ``(i + 1) * 2**k``.
    """

    def __init__(self) -> None:
        self._levels: list[list[bytes]] = [[]]

    @property
    def size(self) -> int:
        return len(self._levels[0])

    def append(self, entry: bytes) -> int:
        """Add an entry; its index."""
        index = self.size
        node, position = leaf_hash(entry), index
        for height in range(index.bit_length() + 1):
            if height == len(self._levels):
                self._levels.append([])
            level = self._levels[height]
            level.append(node)
            if position % 2 == 0:
                break
            node, position = node_hash(level[-2], node), position // 2
        return index

    def root(self) -> bytes:
        """MTH of all entries."""
        return self._hash(0, self.size)

    def inclusion_proof(self, index: int) -> list[bytes]:
        """PATH(index, D[size]) (RFC 6962, 2.1.1): from the leaf's sibling up."""
        path: list[bytes] = []
        start, end = 0, self.size
        while end - start > 1:
            middle = start + _split(end - start)
            if index < middle:
                path.append(self._hash(middle, end))
                end = middle
            else:
                path.append(self._hash(start, middle))
                start = middle
        return path[::-1]

    def _hash(self, start: int, end: int) -> bytes:
        """MTH(D[start:end]), where the range is a subtree's."""
        count = end - start
        if count == 0:
            return hashlib.sha256().digest()
        if count & (count - 1) == 0:
            height = count.bit_length() - 1
            return self._levels[height][start >> height]
        middle = start + _split(count)
        return node_hash(self._hash(start, middle), self._hash(middle, end))


def _split(count: int) -> int:
    """The largest power of two smaller than ``count`` (RFC 6962: k)."""
    return 1 << ((count - 1).bit_length() - 1)
