"""What fuzzes the readers of disks: images in memory, with checksums made right."""

from __future__ import annotations

import os
import struct
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from fixtures.fat import build_fat
from fixtures.gpt import ESP, Partition, build_gpt, seal
from fixtures.qcow2 import Image, build_qcow2
from mrtd.disk.esp import open_esp
from mrtd.disk.fat import open_fat
from mrtd.disk.gpt import read_gpt
from mrtd.disk.host_file import HostFile
from mrtd.disk.image import check_range
from mrtd.disk.qcow2 import Qcow2Disk, read_file_header
from mrtd.disk.root import check_root
from mrtd.disk.verity import read_superblock
from mrtd.errors import InputError

_READ: Final = 1 << 20
"""Bytes that are read of a disk or a file, whatever its size."""

_FILES: Final = {"EFI/BOOT/BOOTX64.EFI": bytes(range(256)) * 9, "loader/a long name.conf": b"x"}
_CLUSTERS: Final = {0: b"first", 6: None, 70: b"packed" * 80, 71: b"more" * 100, 72: b"last"}
_IMAGE: Final = Image(_CLUSTERS, packed=frozenset({70, 71}))

FAT_SEEDS: Final = tuple(bytes(build_fat(_FILES, bits=bits).data) for bits in (12, 32))
GPT_SEEDS: Final = tuple(
    bytes(build_gpt([Partition(8, 20, ESP, "ESP"), None, Partition(21, 40)], entry_size=size))
    for size in (128, 256)
)
QCOW2_SEEDS: Final = (
    bytes(build_qcow2(_IMAGE)),
    bytes(build_qcow2(replace(_IMAGE, clusters={1: b"x"}, version=2))),
    bytes(build_qcow2(replace(_IMAGE, clusters={1: b"x"}, backing=(b"base", b"raw")))),
)
VERITY_SEEDS: Final = (
    struct.pack(
        "<8sII16s32sIIQH6x32s", b"verity", 1, 1, bytes(16), b"sha256", 512, 512, 10, 32, b"salt"
    ).ljust(2048, b"\0"),
)
_HASH: Final = "ab" * 32
_TABLE: Final = f"0 8 verity 1 /dev/vda /dev/vda 512 512 9 1 sha256 {_HASH} -"
CMDLINE_SEEDS: Final = (
    f"roothash={_HASH} systemd.verity_root_data=/dev/vda".encode(),
    f'dm-mod.create="r,,,ro,{_TABLE}" root=/dev/dm-0'.encode(),
)


@dataclass(frozen=True, slots=True)
class _Memory:
    data: bytes
    origin: str = "fuzz"

    @property
    def size(self) -> int:
        return len(self.data)

    def read(self, offset: int, length: int) -> bytes:
        check_range(self, offset, length)
        return self.data[offset : offset + length]


def fuzz_fat(data: bytes) -> None:
    """All files of a volume."""
    volume = open_fat(_Memory(data))
    for path, entry in volume.walk():
        if not entry.directory:
            volume.read(path, _READ)


def fuzz_gpt(data: bytes) -> None:
    """A table whose checksums are right, and the ESP it leads to."""
    disk = _Memory(bytes(seal(bytearray(data))))
    read_gpt(disk)
    with suppress(InputError):
        open_esp(disk)


def fuzz_qcow2(data: bytes) -> None:
    """The first bytes of a disk, its backing file left out."""
    descriptor = os.memfd_create("fuzz")
    try:
        os.write(descriptor, data)
        file = HostFile(descriptor, len(data), Path("fuzz"), (0, 0))
        disk = Qcow2Disk(file, read_file_header(file), None)
        disk.read(0, min(disk.size, _READ))
    finally:
        os.close(descriptor)


def fuzz_verity(data: bytes) -> None:
    """A superblock, and the tree it describes."""
    read_superblock(_Memory(data)).levels()


def fuzz_verity_cmdline(data: bytes) -> None:
    """A command line, with a disk that has a superblock."""
    disk = _Memory(VERITY_SEEDS[0] + bytes(1 << 14))
    if not check_root(disk, data.decode("utf-8", "replace"), workers=1).reason:
        raise AssertionError(data)
