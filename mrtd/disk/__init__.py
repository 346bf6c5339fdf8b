"""Disks as they are: images, partition tables, file systems and dm-verity, read in place.

Nothing here needs root, a mount or a network block device, and nothing is converted: a question
about a file on the ESP of a large image reads the blocks that answer it. What is refused, and why,
stands in ``docs/disk-images.md``.

    with open_disk(Path("image.qcow2"), "qcow2") as disk:
        gpt = read_gpt(disk)
        event = gpt.event_data()
        esp = open_fat(disk, *gpt.extent(find_esp(gpt)))
        loader = esp.read("EFI/BOOT/BOOTX64.EFI", limit=1 << 28)
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
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

_HOME: Final = {
    "Disk": "image",
    "DiskFormat": "image",
    "FatEntry": "fat_names",
    "FatVolume": "fat",
    "Gpt": "gpt",
    "GptEntry": "gpt",
    "OpenDisk": "image",
    "Slice": "image",
    "find_esp": "esp",
    "open_disk": "open",
    "open_esp": "esp",
    "open_fat": "fat",
    "read_gpt": "gpt",
}


if not TYPE_CHECKING:  # it would make type checkers believe in any name

    def __getattr__(name: str) -> object:
        """Import a name with its first use (PEP 562): a direct boot reads no disk."""
        if name not in _HOME:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = getattr(import_module(f"mrtd.disk.{_HOME[name]}"), name)
        globals()[name] = value
        return value
