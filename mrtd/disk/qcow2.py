"""Disks in qcow2 images: clusters are found through two levels of tables and read in place.

Source: QEMU ``docs/interop/qcow2.rst`` ("L1 table entry", "L2 table entry", "Compressed Clusters
Descriptor", "Extended L2 Entries"); ``block/qcow2-threads.c`` (how a cluster is unpacked).
Only the active tables count: internal snapshots are of no concern to a launch.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache
from pathlib import Path
from typing import Final

from mrtd.disk.host_file import HostFile
from mrtd.disk.image import Disk, OpenDisk, check_range
from mrtd.disk.qcow2_header import Qcow2Header, cluster_size, read_header
from mrtd.errors import MalformedDisk

_TABLE_CACHE: Final = 16 << 20
_DATA_CACHE: Final = 8 << 20
"""Bytes that are kept of L2 tables and of unpacked clusters."""
_OFFSET: Final = 0x00FFFFFFFFFFFE00
_L1_RESERVED: Final = 0x7F000000000001FF
_L2_RESERVED: Final = 0x3F000000000001FE
_COMPRESSED: Final = 1 << 62
_ZERO: Final = 1
_SUBCLUSTERS: Final = 32
_SECTOR: Final = 512
_WINDOW_BITS: Final = -12  # qcow2-threads.c: qcow2_zlib_decompress
_MAX_WINDOW: Final = 1 << 27
"""Bytes of memory that unpacking zstd may take; libzstd's own limit."""


class _Kind(Enum):
    DATA = "data"
    ZERO = "zero"
    BACKING = "backing"
    PACKED = "packed"


@dataclass(slots=True)
class _Run:
    """Bytes of the disk that are in one place.

    Attributes:
        at: offset in the file; of a compressed cluster its L2 entry.
        skip: bytes of an unpacked cluster before those that are wanted.
    """

    kind: _Kind
    offset: int
    length: int
    at: int = 0
    skip: int = 0


class Qcow2Disk:
    """A disk in a qcow2 image.

    Args:
        file: the image.
        header: what `read_file_header` says of it.
        backing: what clusters are read from that the image has not; None: they are zero.
    """

    def __init__(self, file: HostFile, header: Qcow2Header, backing: OpenDisk | None) -> None:
        self._file = file
        self._header = header
        self._backing = backing
        self._cluster = 1 << header.cluster_bits
        self._l2_bits = header.cluster_bits - (4 if header.extended_l2 else 3)
        self._l1 = file.read(header.l1_offset, header.l1_size * 8, "L1 table")
        self._table = lru_cache(max(_TABLE_CACHE // self._cluster, 1))(self._read_table)
        self._packed = lru_cache(max(_DATA_CACHE // self._cluster, 1))(self._unpack)

    def __reduce__(self) -> tuple[type[Qcow2Disk], tuple[HostFile, Qcow2Header, OpenDisk | None]]:
        return Qcow2Disk, (self._file, self._header, self._backing)

    @property
    def size(self) -> int:
        """Bytes that the guest sees."""
        return self._header.size

    @property
    def origin(self) -> str:
        """The image's file."""
        return self._file.origin

    @property
    def files(self) -> tuple[Path, ...]:
        """The image and its backing files."""
        return (self._file.path, *(self._backing.files if self._backing else ()))

    @property
    def notes(self) -> tuple[str, ...]:
        """What is odd about them."""
        own = (f"{self.origin} was not closed: is it in use?",) if self._header.dirty else ()
        return (*own, *(self._backing.notes if self._backing else ()))

    def read(self, offset: int, length: int) -> bytes:
        """Bytes of the disk."""
        check_range(self, offset, length)
        return b"".join(self._fetch(run) for run in _merged(self._runs(offset, length)))

    def _fetch(self, run: _Run) -> bytes:
        if run.kind is _Kind.DATA:
            return self._file.read(run.at, run.length, "data cluster")
        if run.kind is _Kind.PACKED:
            return self._packed(run.at)[run.skip : run.skip + run.length]
        if run.kind is _Kind.BACKING and self._backing is not None:
            return _padded(self._backing, run.offset, run.length)
        return bytes(run.length)

    def _runs(self, offset: int, length: int) -> Iterator[_Run]:
        """Where the bytes are, cluster by cluster (or subcluster by subcluster)."""
        unit = self._cluster // (_SUBCLUSTERS if self._header.extended_l2 else 1)
        end = offset + length
        while offset < end:
            within = offset % unit
            size = min(unit - within, end - offset)
            run = self._locate(offset, size)
            yield run
            offset += run.length

    def _locate(self, offset: int, length: int) -> _Run:
        index, within = divmod(offset, self._cluster)
        entry, bitmap = self._entry(index)
        if entry & _COMPRESSED:
            if bitmap:
                raise self._fail("subclusters of a compressed cluster", index)
            return _Run(_Kind.PACKED, offset, length, entry, within)
        at = entry & _OFFSET
        if entry & _L2_RESERVED or at % self._cluster:
            raise self._fail(f"L2 entry {entry:#018x} has reserved bits set", index)
        if self._header.extended_l2:
            kind = self._subcluster(entry, bitmap, within, index)
        elif entry & _ZERO:
            if self._header.version < 3:
                raise self._fail("a zero cluster, which version 2 has not", index)
            kind = _Kind.ZERO
        else:
            kind = _Kind.DATA if at else _Kind.BACKING
        return _Run(kind, offset, length, at + within if kind is _Kind.DATA else 0)

    def _subcluster(self, entry: int, bitmap: int, within: int, index: int) -> _Kind:
        bit = within // (self._cluster // _SUBCLUSTERS)
        allocated, zero = bitmap >> bit & 1, bitmap >> (_SUBCLUSTERS + bit) & 1
        if entry & _ZERO or (allocated and (zero or not entry & _OFFSET)):
            raise self._fail(f"subcluster {bit} is both zero and not, or nowhere", index)
        return _Kind.DATA if allocated else _Kind.ZERO if zero else _Kind.BACKING

    def _entry(self, index: int) -> tuple[int, int]:
        """The L2 entry of a cluster, and its bitmap of subclusters; zeros if there is none."""
        first, second = index >> self._l2_bits, index & ((1 << self._l2_bits) - 1)
        pointer = int.from_bytes(self._l1[first * 8 : first * 8 + 8], "big")
        at = pointer & _OFFSET
        if pointer & _L1_RESERVED or at % self._cluster:
            raise self._fail(f"L1 entry {pointer:#018x} has reserved bits set", index)
        if not at:
            return 0, 0
        table = self._table(at)
        if self._header.extended_l2:
            raw = table[second * 16 : second * 16 + 16]
            return int.from_bytes(raw[:8], "big"), int.from_bytes(raw[8:], "big")
        return int.from_bytes(table[second * 8 : second * 8 + 8], "big"), 0

    def _read_table(self, at: int) -> bytes:
        l1_end = self._header.l1_offset + len(self._l1)
        if at + self._cluster > self._header.l1_offset and at < l1_end:
            raise MalformedDisk(
                "is within the L1 table", origin=self.origin, offset=at, field="L2 table"
            )
        return self._file.read(at, self._cluster, "L2 table")

    def _unpack(self, entry: int) -> bytes:
        """A compressed cluster by its descriptor: offset, and how many more sectors it is in."""
        shift = 62 - (self._header.cluster_bits - 8)
        at = entry & ((1 << shift) - 1)
        sectors = ((entry & (_COMPRESSED - 1)) >> shift) + 1
        # the last sector of the last cluster need not be all there
        size = min(sectors * _SECTOR - at % _SECTOR, max(self._file.size - at, 1))
        data = self._file.read(at, size, "compressed cluster")
        unpack = _unpack_zstd if self._header.compression == "zstd" else _unpack_zlib
        cluster = unpack(data, self._cluster)
        if cluster is None or len(cluster) != self._cluster:
            raise MalformedDisk(
                f"is not {self._header.compression} of {self._cluster} bytes",
                origin=self.origin, offset=at, field="compressed cluster",
            )  # fmt: skip
        return cluster

    def _fail(self, message: str, index: int) -> MalformedDisk:
        return MalformedDisk(message, origin=self.origin, field=f"cluster {index}")


def read_file_header(file: HostFile) -> Qcow2Header:
    """The header of an image. Raises `MalformedDisk`."""
    size = cluster_size(file.read(0, min(24, file.size), "header"), origin=file.origin)
    return read_header(file.read(0, min(size, file.size), "header"), origin=file.origin)


def _merged(runs: Iterator[_Run]) -> Iterator[_Run]:
    """Neighbours on the disk that are neighbours in the file as one."""
    last = next(runs, None)
    for run in runs:
        if last is not None and _continues(last, run):
            last.length += run.length
            continue
        if last is not None:
            yield last
        last = run
    if last is not None:
        yield last


def _continues(before: _Run, run: _Run) -> bool:
    if run.kind is _Kind.DATA:
        return before.kind is _Kind.DATA and before.at + before.length == run.at
    return run.kind is before.kind is not _Kind.PACKED


def _padded(disk: Disk, offset: int, length: int) -> bytes:
    """Bytes of a backing file, which may be shorter than what it backs: zeros follow."""
    held = max(min(length, disk.size - offset), 0)
    return (disk.read(offset, held) if held else b"").ljust(length, b"\0")


def _unpack_zlib(data: bytes, size: int) -> bytes | None:
    try:
        return zlib.decompressobj(_WINDOW_BITS).decompress(data, size)
    except zlib.error:
        return None


def _unpack_zstd(data: bytes, size: int) -> bytes | None:
    import zstandard  # noqa: PLC0415 - most images have none

    try:
        with zstandard.ZstdDecompressor(max_window_size=_MAX_WINDOW).stream_reader(data) as reader:
            return reader.read(size)
    except zstandard.ZstdError:
        return None
