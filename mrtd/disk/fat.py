"""FAT12, FAT16 and FAT32 file systems, read in place.

Source: Microsoft, "FAT: General Overview of On-Disk Format" (fatgen103): FAT and its chains.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final

from mrtd.disk.fat_layout import FIRST_CLUSTER, FatLayout, read_layout
from mrtd.disk.fat_names import ENTRY, FatEntry, read_entries
from mrtd.disk.image import Disk, Slice
from mrtd.errors import MalformedDisk

_BOOT_SECTOR: Final = 512
_PAGE: Final = 1 << 16
"""Bytes of the FAT that are read at once; 64 pages are kept."""
_MAX_FOLDER: Final = 65536 * ENTRY  # fatgen103: a folder has at most 65536 entries
_MAX_FILES: Final = 1 << 16
"""Of a walk; the ESP of a real machine has a few hundred."""
_MAX_DEPTH: Final = 64
_MAX_CLUSTERS: Final = 1 << 21
"""Of a file: 1 GiB with clusters of 512 bytes. What is kept of a chain is bounded by it."""


@dataclass(frozen=True, slots=True)
class FatVolume:
    r"""A file system. Paths have ``/`` or ``\`` between their parts, and ignore case.

    Attributes:
        disk: the partition.
        kind: ``FAT12``, ``FAT16`` or ``FAT32``.
        label: of the boot sector.
        volume_id: the file system's ``UUID``, such as ``1A2B-3C4D``.
    """

    disk: Disk
    kind: str
    label: str
    volume_id: str
    _layout: FatLayout = field(repr=False)
    _table: _Table = field(repr=False)

    def listdir(self, path: str = "") -> tuple[FatEntry, ...]:
        """The entries of a folder, in their order. Raises `MalformedDisk`."""
        entry = self._find(path)
        if entry is not None and not entry.directory:
            raise self._fail("is not a folder", path)
        return self._entries(entry, path)

    def read(self, path: str, limit: int) -> bytes:
        """The bytes of a file of at most ``limit``. Raises `MalformedDisk`."""
        entry = self._find(path)
        if entry is None or entry.directory:
            raise self._fail("is a folder", path)
        if entry.size > limit:
            raise self._fail(f"has {entry.size} bytes, more than {limit}", path)
        return self._content(entry, path)

    def exists(self, path: str) -> bool:
        """Whether there is such a file or folder. Raises `MalformedDisk` for a broken volume."""
        return self._lookup(path) is not _ABSENT

    def walk(self) -> Iterator[tuple[str, FatEntry]]:
        """Path and entry of each file and folder, folders before what is in them.

        Raises:
            MalformedDisk: also if a cluster belongs to two of them.
        """
        owners: dict[int, int] = {}
        paths: list[str] = []
        waiting: list[tuple[str, FatEntry | None]] = [("", None)]
        count = 0
        while waiting:
            above, folder = waiting.pop()
            if above.count("/") >= _MAX_DEPTH:
                raise self._fail(f"folders in folders, more than {_MAX_DEPTH}", above)
            inner: list[tuple[str, FatEntry | None]] = []
            for entry in self._entries(folder, above):
                path = f"{above}/{entry.name}" if above else entry.name
                count += 1
                if count > _MAX_FILES:
                    raise self._fail(f"more than {_MAX_FILES} files", path)
                paths.append(path)
                for cluster in self._chain(entry, path):
                    if (owner := owners.setdefault(cluster, count)) != count:
                        other = paths[owner - 1]
                        raise self._fail(f"cluster {cluster} belongs to {other!r} as well", path)
                yield path, entry
                if entry.directory:
                    inner.append((path, entry))
            waiting += reversed(inner)

    def _find(self, path: str) -> FatEntry | None:
        found = self._lookup(path)
        if found is _ABSENT:
            raise self._fail("no such file or folder", path)
        return found

    def _lookup(self, path: str) -> FatEntry | None:
        """The entry of a path; None for the root folder, `_ABSENT` if there is none."""
        entry: FatEntry | None = None
        for part in path.replace("\\", "/").split("/"):
            if part in {"", "."}:
                continue
            if entry is not None and not entry.directory:
                return _ABSENT
            found = [e for e in self._entries(entry, path) if e.is_named(part)]
            if not found:
                return _ABSENT
            if len(found) > 1:
                raise self._fail(f"{len(found)} entries are named {part!r}", path)
            entry = found[0]
        return entry

    def _entries(self, folder: FatEntry | None, path: str) -> tuple[FatEntry, ...]:
        layout = self._layout
        if folder is None and not layout.root_cluster:
            data = self.disk.read(*layout.root)
        else:
            root = FatEntry("", "", True, layout.root_cluster, 0, 0)
            data = self._content(folder or root, path)
        origin = f"{self.disk.origin}: {path or '/'}"
        return tuple(read_entries(data, wide=layout.bits == 32, origin=origin))

    def _content(self, entry: FatEntry, path: str) -> bytes:
        """All bytes; runs of clusters are read at once."""
        layout = self._layout
        chain = self._chain(entry, path)
        size = len(chain) * layout.cluster if entry.directory else entry.size
        parts = []
        at = 0
        while at < len(chain):
            run = 1
            while at + run < len(chain) and chain[at + run] == chain[at] + run:
                run += 1
            offset = layout.data + (chain[at] - FIRST_CLUSTER) * layout.cluster
            parts.append(self.disk.read(offset, run * layout.cluster))
            at += run
        return b"".join(parts)[:size]

    def _chain(self, entry: FatEntry, path: str) -> list[int]:
        """The clusters of a file, as many as its size needs; all clusters of a folder."""
        layout = self._layout
        most = _MAX_FOLDER if entry.directory else entry.size
        needed = -(-most // layout.cluster)
        if needed > layout.clusters and not entry.directory:
            raise self._fail(f"has {entry.size} bytes, more than the volume", path)
        if needed > _MAX_CLUSTERS:
            raise self._fail(f"has more than {_MAX_CLUSTERS} clusters", path)
        chain: list[int] = []
        seen: set[int] = set()
        cluster: int | None = entry.cluster
        while cluster is not None and (entry.directory or len(chain) < needed):
            if not FIRST_CLUSTER <= cluster < layout.clusters + FIRST_CLUSTER:
                raise self._fail(f"cluster {cluster} is not in use or not on the volume", path)
            if cluster in seen:
                raise self._fail(f"its chain comes back to cluster {cluster}", path)
            if len(chain) >= needed:
                raise self._fail(f"a folder of more than {_MAX_FOLDER} bytes", path)
            seen.add(cluster)
            chain.append(cluster)
            cluster = self._table.after(cluster)
        if len(chain) < needed and not entry.directory:
            raise self._fail(f"has {entry.size} bytes, its chain ends before", path)
        return chain

    def _fail(self, message: str, path: str) -> MalformedDisk:
        return MalformedDisk(message, origin=self.disk.origin, field=path or "/")


_ABSENT: Final = FatEntry("", "", False, 0, 0, -1)


class _Table:
    """A file allocation table: which cluster follows which."""

    def __init__(self, disk: Disk, layout: FatLayout) -> None:
        self._bits = layout.bits
        length = -(-(layout.clusters + FIRST_CLUSTER) * layout.bits // 8)

        def page(number: int) -> bytes:
            start = number * _PAGE
            return disk.read(layout.fat + start, min(_PAGE, length - start))

        self._page = lru_cache(64)(page)

    def after(self, cluster: int) -> int | None:
        """The next cluster; None after the last one."""
        bits = self._bits
        at = cluster * bits // 8
        value = self._byte(at) | self._byte(at + 1) << 8
        if bits == 32:
            value |= (self._byte(at + 2) << 16 | self._byte(at + 3) << 24) & 0x0FFFFFFF
        elif bits == 12:
            value = value >> 4 if cluster & 1 else value & 0xFFF
        last = (1 << min(bits, 28)) - 8
        return None if value >= last else value

    def _byte(self, at: int) -> int:
        return self._page(at // _PAGE)[at % _PAGE]


def open_fat(disk: Disk, offset: int = 0, size: int | None = None) -> FatVolume:
    """Open the file system at an offset of a disk, such as a partition's.

    Args:
        disk: the disk.
        offset: bytes.
        size: bytes; by default all that follow.

    Raises:
        MalformedDisk: there is none, or its boot sector contradicts itself.
    """
    part = Slice(disk, offset, disk.size - offset if size is None else size)
    sector = part.read(0, min(_BOOT_SECTOR, part.size))
    layout = read_layout(sector, part.size, origin=part.origin)
    wide = layout.bits == 32
    at = 66 if wide else 38  # fatgen103: BS_BootSig; then BS_VolID, BS_VolLab
    label = volume_id = ""
    if sector[at] in {0x28, 0x29}:
        number = int.from_bytes(sector[at + 1 : at + 5], "little")
        volume_id = f"{number >> 16:04X}-{number & 0xFFFF:04X}"
        label = sector[at + 5 : at + 16].decode("cp437").rstrip(" \0")
    return FatVolume(part, f"FAT{layout.bits}", label, volume_id, layout, _Table(part, layout))
