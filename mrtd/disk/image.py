"""A disk as a guest sees it: a size and bytes at offsets, whatever file they are in."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, Protocol

from mrtd.disk.host_file import HostFile
from mrtd.errors import MalformedDisk

DiskFormat = Literal["raw", "qcow2"]
"""Never guessed: the guest writes a raw disk's first bytes, and could make it look like another."""

SECTOR: Final = 512
"""Bytes of the smallest block that a disk is made of."""


class Disk(Protocol):
    """Bytes at offsets."""

    @property
    def size(self) -> int:
        """Bytes that the guest sees."""
        ...

    @property
    def origin(self) -> str:
        """The file, as messages name it."""
        ...

    def read(self, offset: int, length: int) -> bytes:
        """Exactly these bytes. Raises `MalformedDisk`."""
        ...


class OpenDisk(Disk, Protocol):
    """A disk of which the files are known.

    Attributes:
        files: the image and its backing files, in the order in which they are asked.
        notes: what is odd about them, a sentence each.
    """

    @property
    def files(self) -> tuple[Path, ...]:
        """The image and its backing files."""
        ...

    @property
    def notes(self) -> tuple[str, ...]:
        """What is odd about them."""
        ...


def check_range(disk: Disk, offset: int, length: int) -> None:
    """Refuse to read what is not on a disk."""
    if length < 0 or not 0 <= offset <= disk.size - length:
        raise MalformedDisk(
            f"needs {length} bytes, past the end of the disk ({disk.size:#x})",
            origin=disk.origin, offset=offset,
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class RawDisk:
    """An image whose bytes are the disk's.

    QEMU shows whole sectors: a last one that the file has not all of ends in zeros
    (``block/file-posix.c``, ``block.c:bdrv_refresh_total_sectors``).
    """

    file: HostFile
    notes: tuple[str, ...] = ()

    @property
    def size(self) -> int:
        """Bytes that the guest sees."""
        return -(-self.file.size // SECTOR) * SECTOR

    @property
    def origin(self) -> str:
        """The file."""
        return self.file.origin

    @property
    def files(self) -> tuple[Path, ...]:
        """The one file."""
        return (self.file.path,)

    def read(self, offset: int, length: int) -> bytes:
        """Bytes of the file."""
        check_range(self, offset, length)
        held = max(min(length, self.file.size - offset), 0)
        data = self.file.read(offset, held, "disk") if held else b""
        return data if held == length else data.ljust(length, b"\0")


@dataclass(frozen=True, slots=True)
class Slice:
    """A part of a disk, such as a partition: a disk itself. Raises `MalformedDisk` if outside."""

    disk: Disk
    offset: int
    size: int

    def __post_init__(self) -> None:
        check_range(self.disk, self.offset, self.size)

    @property
    def origin(self) -> str:
        """The disk, and where the part begins."""
        return f"{self.disk.origin} (partition at {self.offset:#x})" if self.offset else (
            self.disk.origin
        )  # fmt: skip

    def read(self, offset: int, length: int) -> bytes:
        """Bytes of the part."""
        check_range(self, offset, length)
        return self.disk.read(self.offset + offset, length)
