"""Where the EFI system partition of a disk is.

Sources: UEFI 2.10, 5.2.2 (type 0xEF in an MBR), 5.3.3 (type GUID), 13.3.2 (a medium without a
partition table is one file system).
"""

from __future__ import annotations

from contextlib import suppress
from typing import Final

from mrtd.disk.fat import FatVolume, open_fat
from mrtd.disk.gpt import Gpt, GptEntry, has_gpt, read_gpt
from mrtd.disk.image import SECTOR, Disk
from mrtd.errors import MalformedDisk

ESP_TYPE: Final = "c12a7328-f81f-11d2-ba4b-00a0c93ec93b"
XBOOTLDR_TYPE: Final = "bc13c2ff-59e6-4262-a352-b275fd6f7172"
"""A partition with more boot loader entries (UAPI Group, "Boot Loader Specification")."""

_MBR_TYPE: Final = 0xEF
_MBR_TABLE: Final = 446
_MBR_ENTRY: Final = 16


def find_esp(gpt: Gpt) -> GptEntry:
    """The one EFI system partition of a table. Raises `MalformedDisk` for none or several."""
    found = gpt.of_type(ESP_TYPE)
    if len(found) != 1:
        numbers = ", ".join(str(entry.number) for entry in found)
        raise MalformedDisk(
            f"has {len(found)} EFI system partitions ({numbers})" if found else (
                "has no EFI system partition"
            ),
            origin=gpt.origin, field="GPT",
        )  # fmt: skip
    return found[0]


def open_esp(disk: Disk) -> FatVolume:
    """The ESP of a disk with a GPT or an MBR, or of one that is a FAT file system itself.

    Raises:
        MalformedDisk: there is none, or there are several.
    """
    if has_gpt(disk):
        gpt = read_gpt(disk)
        return open_fat(disk, *gpt.extent(find_esp(gpt)))
    with suppress(MalformedDisk):  # boot code in an MBR may begin with a jump as well
        return open_fat(disk)
    block = disk.read(0, SECTOR)
    table = [block[at : at + _MBR_ENTRY] for at in range(_MBR_TABLE, 510, _MBR_ENTRY)]
    found = [entry for entry in table if entry[4] == _MBR_TYPE]
    if block[510:512] != b"\x55\xaa" or len(found) != 1:
        raise MalformedDisk(
            "has no GPT, is no FAT file system, and its MBR has not one EFI system partition",
            origin=disk.origin, field="MBR",
        )  # fmt: skip
    start, length = (int.from_bytes(found[0][at : at + 4], "little") for at in (8, 12))
    return open_fat(disk, start * SECTOR, length * SECTOR)
