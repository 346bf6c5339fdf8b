"""Body of EV_EFI_GPT_EVENT: UEFI_GPT_DATA.

Sources: TCG PC Client Platform Firmware Profile 1.06, 10.2.6 (header 92 B, number of partitions
u64, the used entries); UEFI 2.10, 5.3.2 and 5.3.3 (header and entry).
"""

from __future__ import annotations

from typing import Final

import msgspec

from mrtd.errors import MalformedEventLog
from mrtd.eventlog.guid_names import guid_name, guid_text
from mrtd.eventlog.text import printable
from mrtd.reader import Reader

_HEADER: Final = 92
_SIGNATURE: Final = b"EFI PART"
_ENTRY: Final = 128
_SHOWN: Final = 16


class Partition(msgspec.Struct, frozen=True):
    """A partition. GUIDs as text; first and last block, inclusive."""

    type: str
    id: str
    first_block: int
    last_block: int
    attributes: int
    name: str


class GptBody(msgspec.Struct, frozen=True):
    """The partition table of the disk that is booted."""

    disk: str
    partitions: tuple[Partition, ...]

    def __str__(self) -> str:
        listed = ", ".join(printable(p.name) or guid_name(p.type) for p in self.partitions[:_SHOWN])
        more = ", ..." if len(self.partitions) > _SHOWN else ""
        return f"GPT of disk {self.disk}: {len(self.partitions)} partitions ({listed}{more})"


def read_gpt(body: bytes) -> GptBody:
    """Read UEFI_GPT_DATA. Raises `MalformedEventLog`."""
    reader = Reader(body, origin="GPT event", error=MalformedEventLog)
    if bytes(reader.take(8, "GPT signature")) != _SIGNATURE:
        raise reader.fail("is not 'EFI PART'", "GPT signature")
    reader.take(48, "GPT header")
    disk = guid_text(reader.guid("disk GUID"))
    reader.take(12, "GPT entries and their number")
    size = reader.u32("size of a GPT entry")
    if size < _ENTRY or size % 8:
        raise reader.fail(f"{size} where 128 or more is needed", "size of a GPT entry")
    reader.seek(_HEADER, "GPT header")
    count = reader.u64("number of partitions")
    if count * size != reader.remaining:
        raise reader.fail(
            f"{count} of {size} bytes, {reader.remaining} are left", "number of partitions"
        )
    partitions = tuple(_partition(reader, size) for _ in range(count))
    return GptBody(disk, partitions)


def _partition(reader: Reader, size: int) -> Partition:
    kind, name = guid_text(reader.guid("partition type")), guid_text(reader.guid("partition GUID"))
    first, last = reader.u64("first block"), reader.u64("last block")
    attributes = reader.u64("partition attributes")
    label = bytes(reader.take(72, "partition name")).decode("utf-16-le", "replace")
    reader.take(size - _ENTRY, "rest of a GPT entry")
    return Partition(kind, name, first, last, attributes, label.partition("\0")[0])
