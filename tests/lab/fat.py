"""An empty FAT16 file system, for firmware to find and write to.

Source: Microsoft, FAT32 File System Specification 1.03 (BPB, FAT entries 0 and 1).
"""

from __future__ import annotations

import struct

SECTOR = 512
SECTORS = 32768  # 16 MiB
FAT_SECTORS = 64
ROOT_ENTRIES = 512


def empty_fat16() -> bytes:
    """A disk image without partitions: boot sector, two FATs, an empty root directory."""
    boot = b"\xeb\x3c\x90" + b"MSWIN4.1"
    # sector and cluster size, reserved sectors, FATs, root entries, small total, media, FAT size
    boot += struct.pack("<HBHBHHBH", SECTOR, 2, 1, 2, ROOT_ENTRIES, SECTORS, 0xF8, FAT_SECTORS)
    boot += struct.pack("<HHII", 63, 16, 0, 0)  # geometry, hidden sectors, large total
    boot += struct.pack("<BBBI", 0x80, 0, 0x29, 0x12345678) + b"NO NAME    " + b"FAT16   "
    boot = boot.ljust(SECTOR - 2, b"\0") + b"\x55\xaa"
    fat = b"\xf8\xff\xff\xff".ljust(FAT_SECTORS * SECTOR, b"\0")
    return (boot + fat * 2).ljust(SECTORS * SECTOR, b"\0")
