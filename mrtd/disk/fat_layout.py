"""The boot sector of a FAT file system: where its FAT, its root folder and its clusters are.

Source: Microsoft, "FAT: General Overview of On-Disk Format" (fatgen103). Whether it is FAT32 is
told by an empty 16-bit FAT size, as Linux (``fs/fat/inode.c``) and edk2 (``FatPkg/EnhancedFatDxe/
Init.c``) do: FAT32 volumes smaller than fatgen103 allows exist.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from mrtd.errors import MalformedDisk
from mrtd.reader import Reader

FIRST_CLUSTER: Final = 2
"""Clusters are counted from two."""

_ENTRY: Final = 32
_FAT12_CLUSTERS: Final = 4085
_FAT16_CLUSTERS: Final = 65525
_MIRRORING_OFF: Final = 0x80
_ACTIVE_FAT: Final = 0x0F


@dataclass(frozen=True, slots=True)
class FatLayout:
    """Offsets and sizes in bytes, within the volume.

    Attributes:
        bits: 12, 16 or 32.
        fat: offset of the FAT that counts.
        cluster: size of a cluster.
        data: offset of cluster 2.
        clusters: how many there are.
        root: offset and size of the root folder of FAT12 and FAT16.
        root_cluster: its first cluster on FAT32; else 0.
    """

    bits: int
    fat: int
    cluster: int
    data: int
    clusters: int
    root: tuple[int, int]
    root_cluster: int


@dataclass(frozen=True, slots=True)
class _Sizes:
    """What the boot sector says, in sectors of ``unit`` bytes."""

    unit: int
    per_cluster: int
    reserved: int
    copies: int
    root_entries: int
    total: int
    fat: int
    active: int
    root_cluster: int


def read_layout(sector: bytes, size: int, *, origin: str) -> FatLayout:
    """Read a boot sector.

    Args:
        sector: the first 512 bytes of the volume.
        size: bytes of the partition.
        origin: the volume, for messages.

    Raises:
        MalformedDisk: it is none, or its figures do not fit each other or the partition.
    """
    reader = Reader(sector, origin=origin, error=MalformedDisk)
    if sector[510:512] != b"\x55\xaa" or sector[:1] not in {b"\xeb", b"\xe9"}:
        raise reader.fail("is not that of a FAT file system", "boot sector")
    sizes = _read_sizes(reader)
    unit, cluster = sizes.unit, sizes.unit * sizes.per_cluster
    if not 0 < sizes.total * unit <= size:
        raise reader.fail(f"{sizes.total} of {unit} bytes, {size} are there", "sectors")
    wide = bool(sizes.root_cluster)
    root_size = 0 if wide else -(-sizes.root_entries * _ENTRY // unit) * unit
    root = (sizes.reserved + sizes.copies * sizes.fat) * unit
    clusters = (sizes.total * unit - root - root_size) // cluster
    bits = 32 if wide else 12 if clusters < _FAT12_CLUSTERS else 16
    entries = sizes.fat * unit * 8 // bits
    if not 0 < clusters <= entries - FIRST_CLUSTER or (bits == 16 and clusters >= _FAT16_CLUSTERS):
        raise reader.fail(f"{clusters} clusters, FAT{bits} of {entries} entries", "layout")
    fat = (sizes.reserved + sizes.active * sizes.fat) * unit
    held = (root, sizes.root_entries * _ENTRY)
    return FatLayout(bits, fat, cluster, root + root_size, clusters, held, sizes.root_cluster)


def _read_sizes(reader: Reader) -> _Sizes:
    reader.seek(11, "boot sector")
    unit = reader.u16("bytes per sector")
    if unit not in {512, 1024, 2048, 4096}:
        raise reader.fail(f"{unit} is not 512, 1024, 2048 or 4096", "bytes per sector")
    per_cluster = reader.u8("sectors per cluster")
    if not per_cluster or per_cluster & (per_cluster - 1):
        raise reader.fail(f"{per_cluster} is not a power of two", "sectors per cluster")
    reserved, copies = reader.u16("reserved sectors"), reader.u8("number of FATs")
    root_entries, few = reader.u16("root entries"), reader.u16("sectors")
    reader.seek(22, "boot sector")
    fat = reader.u16("sectors of a FAT")
    reader.seek(32, "boot sector")
    total = reader.u32("sectors")
    active = root_cluster = 0
    if not fat:
        fat, flags = reader.u32("sectors of a FAT"), reader.u16("flags")
        if reader.u16("version"):
            raise reader.fail("is not 0.0", "version")
        root_cluster = reader.u32("first cluster of the root folder")
        if root_cluster < FIRST_CLUSTER:
            raise reader.fail(f"{root_cluster} is no cluster", "first cluster of the root folder")
        active = flags & _ACTIVE_FAT if flags & _MIRRORING_OFF else 0
    if not reserved or active >= copies or not (root_cluster or root_entries):
        raise reader.fail("no boot sector, no FAT or no root folder", "layout")
    return _Sizes(
        unit, per_cluster, reserved, copies, root_entries, few or total, fat, active, root_cluster
    )
