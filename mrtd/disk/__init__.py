"""Disks as they are: images, partition tables, file systems and dm-verity, read in place.

Nothing here needs root, a mount or a network block device, and nothing is converted: a question
about a file on the ESP of a large image reads the blocks that answer it. What is refused, and why,
stands in ``docs/disk-images.md``.

    with open_disk(Path("image.qcow2"), "qcow2") as disk:
        gpt = read_gpt(disk)
        event = gpt.event_data()
        loader = open_fat(disk, *gpt.extent(find_esp(gpt))).read("EFI/BOOT/BOOTX64.EFI")
"""

from __future__ import annotations

from mrtd.disk.esp import find_esp, open_esp
from mrtd.disk.fat import FatVolume, open_fat
from mrtd.disk.fat_names import FatEntry
from mrtd.disk.gpt import Gpt, GptEntry, read_gpt
from mrtd.disk.image import Disk, DiskFormat, OpenDisk, Slice
from mrtd.disk.open import open_disk

__all__ = [
    "Disk",
    "DiskFormat",
    "FatEntry",
    "FatVolume",
    "Gpt",
    "GptEntry",
    "OpenDisk",
    "Slice",
    "find_esp",
    "open_disk",
    "open_esp",
    "open_fat",
    "read_gpt",
]
