"""What is in a partition, by the magic number of its superblock.

Sources: Linux ``include/uapi/linux/magic.h``, ``fs/squashfs/squashfs_fs.h``, ``fs/erofs/
erofs_fs.h``, ``fs/ext4/ext4.h``, ``fs/xfs/libxfs/xfs_format.h``, ``fs/btrfs/accessors.h``,
``include/linux/swap.h``; ECMA-119, 8.4; cryptsetup ``docs/on-disk-format-luks2``. Names are those
of blkid(8).
"""

from __future__ import annotations

from typing import Final
from uuid import UUID

import msgspec

from mrtd.disk.fat import open_fat
from mrtd.disk.image import Disk
from mrtd.disk.verity import MAGIC
from mrtd.errors import MalformedDisk

_EXT: Final = 1024
_EXT_JOURNAL: Final = 0x4
_EXT4_FEATURES: Final = 0x40 | 0x80 | 0x200
"""Extents, 64-bit, flexible groups."""


class Content(msgspec.Struct, frozen=True):
    """What is in a partition.

    Attributes:
        kind: as blkid(8) calls it, such as ``ext4`` or ``DM_verity_hash``.
        label: its name; empty where it has none or none is read.
        uuid: its UUID as text; empty where it has none or none is read.
    """

    kind: str
    label: str = ""
    uuid: str = ""


class _Magic(msgspec.Struct, frozen=True):
    """Where a format has its magic number, its UUID (16 bytes) and its label."""

    kind: str
    at: int
    magic: bytes
    uuid: int | None = None
    label: tuple[int, int] | None = None


_MAGICS: Final = (
    _Magic("DM_verity_hash", 0, MAGIC, 16),
    _Magic("squashfs", 0, b"hsqs"),
    _Magic("erofs", 1024, b"\xe2\xe1\xf5\xe0", 1024 + 48, (1024 + 64, 16)),
    _Magic("xfs", 0, b"XFSB", 32, (108, 12)),
    _Magic("btrfs", 0x10040, b"_BHRfS_M", 0x10020, (0x1012B, 256)),
    _Magic("iso9660", 0x8001, b"CD001", None, (0x8028, 32)),
    _Magic("swap", 4086, b"SWAPSPACE2", 1024 + 12, (1024 + 28, 16)),
    _Magic("LVM2_member", 512, b"LABELONE"),
    _Magic("ext4", _EXT + 56, b"\x53\xef", _EXT + 104, (_EXT + 120, 16)),
)


def recognise(disk: Disk) -> Content | None:
    """What is in a partition (or on a disk without partitions); None if it is not known.

    Raises:
        MalformedDisk: the image it is in cannot be read.
    """
    if _read(disk, 0, 6) == b"LUKS\xba\xbe":
        second = _read(disk, 6, 2) == b"\0\2"
        name = _text(_read(disk, 24, 48)) if second else ""
        return Content("crypto_LUKS", name, _text(_read(disk, 168, 40)))
    for row in _MAGICS:
        if _read(disk, row.at, len(row.magic)) == row.magic:
            kind = _ext_kind(disk) if row.kind == "ext4" else row.kind
            uuid = b"" if row.uuid is None else _read(disk, row.uuid, 16)
            label = b"" if row.label is None else _read(disk, *row.label)
            return Content(kind, _text(label), str(UUID(bytes=uuid)) if len(uuid) == 16 else "")
    if _read(disk, 510, 2) != b"\x55\xaa":
        return None
    try:
        volume = open_fat(disk)
    except MalformedDisk:
        return None
    return Content("vfat", volume.label, volume.volume_id)


def _ext_kind(disk: Disk) -> str:
    compatible = int.from_bytes(_read(disk, _EXT + 92, 4), "little")
    incompatible = int.from_bytes(_read(disk, _EXT + 96, 4), "little")
    if incompatible & _EXT4_FEATURES:
        return "ext4"
    return "ext3" if compatible & _EXT_JOURNAL else "ext2"


def _read(disk: Disk, offset: int, length: int) -> bytes:
    """Bytes of a partition; nothing if it ends before them."""
    return disk.read(offset, length) if offset + length <= disk.size else b""


def _text(raw: bytes) -> str:
    return raw.partition(b"\0")[0].decode("utf-8", "replace").rstrip()
