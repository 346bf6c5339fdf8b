"""The partitions of a disk with what is in them, and which of them a device name means."""

from __future__ import annotations

import re
from typing import Final

import msgspec

from mrtd.disk.content import Content, recognise
from mrtd.disk.gpt import GptEntry, has_gpt, read_gpt
from mrtd.disk.image import SECTOR, Disk, Slice

_MBR_TABLE: Final = 446
_MBR_ENTRY: Final = 16
_MBR_SIGNATURE: Final = slice(440, 444)
# Linux Documentation/admin-guide/devices.rst: names of disks, and the partition's number
_NODE: Final = re.compile(
    r"/dev/(?:(?:vd|sd|xvd|hd)[a-z]{1,3}|(?:nvme[0-9]{1,3}n[0-9]{1,3}|mmcblk[0-9]{1,3})"
    r"(?=p[0-9]|$))p?([0-9]{1,3})?"
)
_BY: Final = re.compile(r"(?:/dev/disk/by-)?(partuuid|partlabel|uuid|label)[=/](.+)", re.IGNORECASE)


class Volume(msgspec.Struct, frozen=True):
    """A partition, or a disk without any.

    Attributes:
        number: of the partition; 0 for the whole disk.
        offset: where it begins on the disk, in bytes.
        size: bytes.
        partuuid: as ``PARTUUID=`` has it, in lower case; empty for a whole disk.
        partlabel: its name in a GPT.
        type: type GUID, or type of an MBR as ``0x83``; empty for a whole disk.
        content: what is in it; None if that is not known.
    """

    number: int
    offset: int
    size: int
    partuuid: str = ""
    partlabel: str = ""
    type: str = ""
    content: Content | None = None

    def __str__(self) -> str:
        kind = self.content.kind if self.content else "unknown content"
        name = f" {self.partlabel!r}" if self.partlabel else ""
        return f"partition {self.number}{name} ({kind})" if self.number else f"disk ({kind})"

    def slice(self, disk: Disk) -> Slice:
        """Its bytes."""
        return Slice(disk, self.offset, self.size)


def list_volumes(disk: Disk) -> tuple[Volume, ...]:
    """The partitions of a disk with a GPT or an MBR; else the disk itself.

    Logical partitions of an MBR are not read: what they are in is one volume.

    Raises:
        MalformedDisk: the partition table is damaged, or the image cannot be read.
    """
    if has_gpt(disk):
        gpt = read_gpt(disk)
        found = [_of_gpt(entry, *gpt.extent(entry)) for entry in gpt.entries]
    elif disk.size >= SECTOR and recognise(disk) is None:
        found = _of_mbr(disk)
    else:
        found = []
    listed = found or [Volume(0, 0, disk.size)]
    return tuple(
        msgspec.structs.replace(volume, content=recognise(volume.slice(disk))) for volume in listed
    )


def _of_gpt(entry: GptEntry, offset: int, size: int) -> Volume:
    return Volume(entry.number, offset, size, entry.unique_guid, entry.name, entry.type_guid)


def _of_mbr(disk: Disk) -> list[Volume]:
    block = disk.read(0, SECTOR)
    if block[510:512] != b"\x55\xaa":
        return []
    signature = block[_MBR_SIGNATURE][::-1].hex()
    found = []
    for number in range(1, 5):
        entry = block[_MBR_TABLE + (number - 1) * _MBR_ENTRY :][:_MBR_ENTRY]
        start, count = (int.from_bytes(entry[at : at + 4], "little") * SECTOR for at in (8, 12))
        if entry[4] and count:
            uuid = f"{signature}-{number:02x}"
            found.append(Volume(number, start, count, uuid, "", f"{entry[4]:#04x}"))
    return found


def named(device: str, volumes: tuple[Volume, ...]) -> tuple[Volume, ...] | None:
    """The volumes that a device name may mean; None if the name does not tell.

    A name such as ``/dev/vda2`` means the second partition of *a* disk: which one depends on the
    machine, and this disk is taken for it.
    """
    if (node := _NODE.fullmatch(device)) is not None:
        number = int(node[1] or 0)
        return tuple(volume for volume in volumes if volume.number == number)
    by = _BY.fullmatch(device)
    if by is None:
        return None
    kind, value = by[1].lower(), by[2]
    return tuple(volume for volume in volumes if _is_named(volume, kind, value))


def _is_named(volume: Volume, kind: str, value: str) -> bool:
    content = volume.content or Content("")
    names = {
        "partuuid": volume.partuuid.lower(),
        "partlabel": volume.partlabel,
        "uuid": content.uuid.lower(),
        "label": content.label,
    }
    return names[kind] == (value.lower() if kind.endswith("uuid") else value) != ""
