"""What a dm-verity device is made of: superblock, device-mapper table, shape of the hash tree.

Sources: Linux ``Documentation/admin-guide/device-mapper/verity.rst`` (table, tree);
``drivers/md/dm-verity-target.c:verity_ctr`` (positions of the levels); cryptsetup's
``lib/verity/verity.c`` (``struct verity_sb``, and where the tree begins behind it).
"""

from __future__ import annotations

from typing import Final

import msgspec

from mrtd.disk.image import Disk
from mrtd.errors import MalformedDisk
from mrtd.reader import Reader

SUPERBLOCK: Final = 512
MAGIC: Final = b"verity\0\0"
ALGORITHMS: Final = {"sha256": 32, "sha384": 48, "sha512": 64}
"""Hash algorithms that can be checked, with the bytes of their digests."""

_BLOCK_SIZES: Final = tuple(1 << bits for bits in range(9, 20))
_MAX_SALT: Final = 256


class VerityTable(msgspec.Struct, frozen=True):
    """A hash tree: what it is made with and where it lies.

    Attributes:
        algorithm: a key of `ALGORITHMS`.
        data_block: bytes of a block of data.
        hash_block: bytes of a block of the tree.
        data_blocks: how many blocks of data there are.
        hash_start: the tree's first block on the hash device.
        salt: what is hashed before each block.
        uuid: of the superblock, as text; empty without one.
    """

    algorithm: str
    data_block: int
    hash_block: int
    data_blocks: int
    hash_start: int
    salt: bytes
    uuid: str = ""

    @property
    def slot(self) -> int:
        """Bytes that a digest takes in a block: a power of two."""
        return 1 << (ALGORITHMS[self.algorithm] - 1).bit_length()

    def levels(self) -> tuple[tuple[int, int], ...]:
        """First block and number of blocks of each level; the one over the data comes first.

        A single block of data has no tree: its digest is the root hash.
        """
        fan_out = self.hash_block // self.slot
        counts = []
        count = self.data_blocks
        while count > 1:
            count = -(-count // fan_out)
            counts.append(count)
        position = self.hash_start
        found = []
        for count in reversed(counts):  # the root's block is the first on the device
            found.append((position, count))
            position += count
        return tuple(reversed(found))


def read_superblock(disk: Disk, offset: int = 0) -> VerityTable:
    """The table that the superblock at an offset of the hash device describes.

    Raises:
        MalformedDisk: there is none, or it is of a kind that cannot be checked.
    """
    raw = disk.read(offset, SUPERBLOCK)
    reader = Reader(raw, origin=disk.origin, error=MalformedDisk, base=offset)
    if bytes(reader.take(8, "verity signature")) != MAGIC:
        raise reader.fail("is not 'verity'", "verity signature")
    if (version := reader.u32("verity superblock version")) != 1:
        raise reader.fail(f"{version} is not 1", "verity superblock version")
    if (kind := reader.u32("verity hash type")) != 1:
        raise reader.fail(f"{kind} is not 1", "verity hash type")
    uuid = bytes(reader.take(16, "verity UUID")).hex()
    name = bytes(reader.take(32, "hash algorithm")).partition(b"\0")[0].decode("ascii", "replace")
    data_block, hash_block = reader.u32("data block size"), reader.u32("hash block size")
    blocks, salt_size = reader.u64("data blocks"), reader.u16("salt size")
    if salt_size > _MAX_SALT:
        raise reader.fail(f"{salt_size} is more than {_MAX_SALT}", "salt size")
    reader.take(6, "padding")
    salt = bytes(reader.take(salt_size, "salt"))
    table = VerityTable(name, data_block, hash_block, blocks, 0, salt, format_uuid(uuid))
    check_table(table, origin=disk.origin)
    start = -(-(offset + SUPERBLOCK) // hash_block)
    return msgspec.structs.replace(table, hash_start=start)


def check_table(table: VerityTable, *, origin: str) -> None:
    """Refuse a table that no kernel takes, or that cannot be checked. Raises `MalformedDisk`."""
    if table.algorithm not in ALGORITHMS:
        raise MalformedDisk(
            f"{table.algorithm!r} is none of {', '.join(ALGORITHMS)}",
            origin=origin, field="hash algorithm",
        )  # fmt: skip
    for size in (table.data_block, table.hash_block):
        if size not in _BLOCK_SIZES:
            raise MalformedDisk(
                f"{size} is not a power of two between 512 and 512 KiB",
                origin=origin, field="verity block size",
            )  # fmt: skip
    if not table.data_blocks:
        raise MalformedDisk("are none", origin=origin, field="data blocks")


def format_uuid(digits: str) -> str:
    """32 hexadecimal digits as a UUID, in the order of its text."""
    parts = ((0, 8), (8, 12), (12, 16), (16, 20), (20, 32))
    return "-".join(digits[start:end] for start, end in parts)
