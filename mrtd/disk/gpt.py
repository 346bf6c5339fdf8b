"""The GUID partition table of a disk, and the event that the firmware measures it with.

Sources: UEFI 2.10, 5.2.3 (protective MBR), 5.3.2 (header), 5.3.3 (entries); TCG PC Client
Platform Firmware Profile 1.06, 10.2.6 (event); edk2 ``MdeModulePkg/Universal/Disk/PartitionDxe/
Gpt.c`` (which header is used, when the other one is repaired), ``SecurityPkg/Library/
DxeTpm2MeasureBootLib`` (what is in the event: the block at LBA 1 and the used entries).
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import Final

import msgspec

from mrtd.disk.image import Disk
from mrtd.errors import MalformedDisk
from mrtd.eventlog.guid_names import guid_text
from mrtd.reader import Reader

SECTOR_SIZES: Final = (512, 4096)

_SIGNATURE: Final = b"EFI PART"
_HEADER: Final = 92
_CRC_AT: Final = 16
_ENTRY: Final = 128
_MAX_ARRAY: Final = 1 << 20
"""Bytes; the usual array has 16 KiB. Ours, not the specification's."""
_REVISION: Final = 0x00010000
_MBR_TABLE: Final = 446
_PROTECTIVE: Final = 0xEE
_UNUSED: Final = guid_text(bytes(16))


class GptEntry(msgspec.Struct, frozen=True):
    """A used entry of the table.

    Attributes:
        raw: its bytes.
        number: its place in the table, from 1: N of ``/dev/vdaN``.
        type_guid: what it is for, as text.
        unique_guid: its own GUID (``PARTUUID``), as text.
        first_lba: first block.
        last_lba: last block, inclusive.
        attributes: UEFI 2.10, table 5.8.
        name: its label (``PARTLABEL``).
    """

    raw: bytes
    number: int
    type_guid: str
    unique_guid: str
    first_lba: int
    last_lba: int
    attributes: int
    name: str


class Gpt(msgspec.Struct, frozen=True):
    """A table.

    Attributes:
        header: 92 bytes of the header that is used.
        entries: used entries in table order.
        sector_size: bytes of a block.
        disk_guid: the disk's GUID, as text.
        from_backup: whether the primary header or array is damaged and the backup was used.
        notes: what is odd about it, a sentence each.
        origin: the disk, for messages.
    """

    header: bytes
    entries: tuple[GptEntry, ...]
    sector_size: int
    disk_guid: str
    from_backup: bool
    notes: tuple[str, ...]
    origin: str

    def event_data(self) -> bytes:
        """Body of the EV_EFI_GPT_EVENT that the firmware measures when it boots this disk.

        Raises:
            MalformedDisk: the firmware would first repair the primary table from the backup, and
                what it writes then is not on this disk yet.
        """
        if self.from_backup:
            raise MalformedDisk(
                "the primary partition table is damaged: firmware repairs it while it boots",
                origin=self.origin,
                field="GPT header",
                hint="repair the image first: gdisk IMAGE, then r, b, c, w",
            )
        used = b"".join(entry.raw for entry in self.entries)
        return self.header + len(self.entries).to_bytes(8, "little") + used

    def extent(self, entry: GptEntry) -> tuple[int, int]:
        """Offset and size of a partition in bytes."""
        blocks = entry.last_lba - entry.first_lba + 1
        return entry.first_lba * self.sector_size, blocks * self.sector_size

    def of_type(self, type_guid: str) -> tuple[GptEntry, ...]:
        """The partitions of a type."""
        return tuple(entry for entry in self.entries if entry.type_guid == type_guid)


@dataclass(frozen=True, slots=True)
class _Header:
    raw: bytes
    alternate_lba: int
    first_usable: int
    last_usable: int
    disk_guid: str
    entries_lba: int
    count: int
    entry_size: int
    entries_crc: int


def has_gpt(disk: Disk) -> bool:
    """Whether there is a header where the primary or the backup would be, damaged or not."""
    return any(_signed(disk, size) or _signed_at_end(disk, size) for size in SECTOR_SIZES)


def read_gpt(disk: Disk, sector_size: int | None = None) -> Gpt:
    """Read the table of a disk.

    Args:
        disk: the whole disk.
        sector_size: the logical block size that the machine gives it, 512 or 4096; by default the
            one at which there is a header.

    Raises:
        MalformedDisk: there is no table, both copies are damaged, or partitions overlap.
    """
    size = sector_size or next((s for s in SECTOR_SIZES if _signed(disk, s)), None)
    if size is None:
        size = next((s for s in SECTOR_SIZES if _signed_at_end(disk, s)), SECTOR_SIZES[0])
    elif size not in SECTOR_SIZES:
        raise MalformedDisk(f"{size} is neither 512 nor 4096", origin=disk.origin, field="sector")
    _check_mbr(disk, size)
    last = disk.size // size - 1
    primary, why = _attempt(disk, 1, size)
    if primary is None:
        backup, _ = _attempt(disk, last, size)
        if backup is None:
            raise why
        note = f"the primary table is damaged ({why.message}); the backup at block {last} is used"
        return _table(disk, *backup, size, notes=(note,), from_backup=True)
    return _table(disk, *primary, size, notes=_backup_notes(disk, primary[0], size, last))


def _backup_notes(disk: Disk, header: _Header, size: int, last: int) -> tuple[str, ...]:
    notes = []
    if header.alternate_lba != last:
        notes.append(
            f"the backup table is at block {header.alternate_lba}, not at the disk's end ({last})"
        )
    backup, why = _attempt(disk, header.alternate_lba, size)
    if backup is None:
        notes.append(f"the backup table is damaged ({why.message}); firmware repairs it")
    return tuple(notes)


def _signed(disk: Disk, size: int) -> bool:
    return disk.size >= 2 * size and disk.read(size, 8) == _SIGNATURE


def _signed_at_end(disk: Disk, size: int) -> bool:
    last = disk.size // size - 1
    return last > 1 and disk.read(last * size, 8) == _SIGNATURE


def _check_mbr(disk: Disk, size: int) -> None:
    """Firmware looks for a GPT only behind a protective MBR (edk2 Gpt.c)."""
    if disk.size < size:
        raise MalformedDisk("has no partition table: it is empty", origin=disk.origin)
    block = disk.read(0, 512)
    kinds = [block[at + 4] for at in range(_MBR_TABLE, 510, 16)]
    if block[510:512] != b"\x55\xaa" or _PROTECTIVE not in kinds:
        raise MalformedDisk(
            "no protective MBR, without which firmware does not look for a GPT",
            origin=disk.origin, offset=_MBR_TABLE, field="MBR",
            hint="is the format right, and is this a whole disk?",
        )  # fmt: skip


def _attempt(disk: Disk, lba: int, size: int) -> tuple[tuple[_Header, bytes] | None, MalformedDisk]:
    """The header at a block and its array; or why it is not valid."""
    try:
        header = _read_header(disk, lba, size)
        return (header, _read_array(disk, header, size)), MalformedDisk("", origin=disk.origin)
    except MalformedDisk as error:
        return None, error


def _read_header(disk: Disk, lba: int, size: int) -> _Header:
    if not 0 < lba < disk.size // size:
        raise MalformedDisk(f"block {lba} is not on the disk", origin=disk.origin, field="GPT")
    block = disk.read(lba * size, size)
    reader = Reader(block, origin=disk.origin, error=MalformedDisk, base=lba * size)
    if bytes(reader.take(8, "GPT signature")) != _SIGNATURE:
        raise reader.fail("is not 'EFI PART'", "GPT signature")
    if reader.u32("GPT revision") < _REVISION:
        raise reader.fail("is older than 1.0", "GPT revision")
    length = reader.u32("GPT header size")
    if not _HEADER <= length <= size:
        raise reader.fail(f"{length} is not within {_HEADER} and {size}", "GPT header size")
    crc = reader.u32("GPT header CRC")
    blank = block[:_CRC_AT] + bytes(4) + block[_CRC_AT + 4 : length]
    if zlib.crc32(blank) != crc:
        raise reader.fail(f"is {crc:#010x}, not {zlib.crc32(blank):#010x}", "GPT header CRC")
    return _read_places(reader, block[:_HEADER], lba)


def _read_places(reader: Reader, raw: bytes, lba: int) -> _Header:
    reader.take(4, "reserved")
    if (own := reader.u64("GPT header's own block")) != lba:
        raise reader.fail(f"is {own}, not {lba}", "GPT header's own block")
    alternate = reader.u64("block of the other GPT header")
    first, last = reader.u64("first usable block"), reader.u64("last usable block")
    disk_guid = guid_text(reader.guid("disk GUID"))
    array = reader.u64("block of the GPT entries")
    count, entry = reader.u32("number of GPT entries"), reader.u32("size of a GPT entry")
    if entry < _ENTRY or entry & (entry - 1):
        raise reader.fail(f"{entry} is not 128 times a power of two", "size of a GPT entry")
    if not 0 < count * entry <= _MAX_ARRAY:
        raise reader.fail(f"{count} of {entry} bytes", "number of GPT entries")
    crc = reader.u32("CRC of the GPT entries")
    return _Header(raw, alternate, first, last, disk_guid, array, count, entry, crc
    )  # fmt: skip


def _read_array(disk: Disk, header: _Header, size: int) -> bytes:
    offset, length = header.entries_lba * size, header.count * header.entry_size
    if not 2 * size <= offset <= disk.size - length:
        raise MalformedDisk(
            f"block {header.entries_lba} with {length} bytes is not on the disk",
            origin=disk.origin, field="GPT entries",
        )  # fmt: skip
    array = disk.read(offset, length)
    if zlib.crc32(array) != header.entries_crc:
        raise MalformedDisk(
            f"their CRC is {zlib.crc32(array):#010x}, not {header.entries_crc:#010x}",
            origin=disk.origin, offset=offset, field="GPT entries",
        )  # fmt: skip
    return array


def _table(
    disk: Disk,
    header: _Header,
    array: bytes,
    size: int,
    *,
    notes: tuple[str, ...],
    from_backup: bool = False,
) -> Gpt:
    raws = [
        (number, array[(number - 1) * header.entry_size :][: header.entry_size])
        for number in range(1, header.count + 1)
    ]
    entries = tuple(_entry(raw, number) for number, raw in raws if any(raw[:16]))
    _check_places(disk, header, entries, size)
    return Gpt(
        header.raw, entries, size, header.disk_guid, from_backup, notes, disk.origin
    )  # fmt: skip


def _entry(raw: bytes, number: int) -> GptEntry:
    first, last, attributes = (int.from_bytes(raw[at : at + 8], "little") for at in (32, 40, 48))
    name = raw[56:128].decode("utf-16-le", "replace").partition("\0")[0]
    return GptEntry(
        raw, number, guid_text(raw[:16]), guid_text(raw[16:32]), first, last, attributes, name
    )


def _check_places(disk: Disk, header: _Header, entries: tuple[GptEntry, ...], size: int) -> None:
    """Refuse partitions that are not on the disk, or that share a block."""
    blocks = disk.size // size
    end, before = 0, 0
    for entry in sorted(entries, key=lambda e: e.first_lba):
        first, last, number = entry.first_lba, entry.last_lba, entry.number
        if not (header.first_usable <= first <= last <= header.last_usable) or last >= blocks:
            raise MalformedDisk(
                f"blocks {first} to {last} are not within the usable ones "
                f"({header.first_usable} to {header.last_usable}) of a disk of {blocks}",
                origin=disk.origin, field=f"partition {number}",
            )  # fmt: skip
        if first < end:
            raise MalformedDisk(
                f"overlaps partition {before} at block {first}",
                origin=disk.origin, field=f"partition {number}",
            )  # fmt: skip
        end, before = last + 1, number
