"""Partition tables: those of sgdisk, and those that nobody should make."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fixtures import gpt as fixture
from fixtures.fat import build_fat
from fixtures.gpt import ESP, LINUX, Partition, build_gpt, seal
from mrtd.disk import find_esp, open_disk, open_esp, read_gpt
from mrtd.disk.volumes import list_volumes
from mrtd.errors import MalformedDisk
from mrtd.eventlog.gpt import read_gpt as read_event
from tests.disk.images import MIB, MemoryDisk, Piece, counted_reads, gpt_image, run
from tests.strategies import hostile, refused

TWO = (Partition(8, 20, ESP, "ESP"), None, Partition(21, 40, LINUX, "größe", attributes=5))


def test_the_event_is_the_header_and_the_used_entries() -> None:
    made = bytes(build_gpt(TWO))
    gpt = read_gpt(MemoryDisk(made))
    used = made[1024 : 1024 + 128] + made[1024 + 256 : 1024 + 384]
    assert gpt.event_data() == made[512 : 512 + 92] + (2).to_bytes(8, "little") + used
    assert [(e.number, e.name, e.attributes) for e in gpt.entries] == [
        (1, "ESP", 0),
        (3, "größe", 5),
    ]
    assert gpt.extent(gpt.entries[0]) == (8 * 512, 13 * 512)
    assert gpt.disk_guid == fixture.DISK
    assert find_esp(gpt).number == 1
    event = read_event(gpt.event_data())
    assert [(p.type, p.first_block, p.last_block) for p in event.partitions] == [
        (ESP, 8, 20), (LINUX, 21, 40),
    ]  # fmt: skip


@pytest.mark.parametrize(("sector", "entry_size"), [(512, 128), (512, 256), (4096, 128)])
def test_blocks_and_entries_have_any_size(sector: int, entry_size: int) -> None:
    made = build_gpt(TWO, sector=sector, entry_size=entry_size)
    gpt = read_gpt(MemoryDisk(bytes(made)))
    assert gpt.sector_size == sector
    assert len(gpt.event_data()) == 92 + 8 + 2 * entry_size
    assert read_gpt(MemoryDisk(bytes(made)), sector) == gpt


def test_a_table_of_sgdisk(tmp_path: Path) -> None:
    pieces = (
        Piece(bytes(MIB), "ef00", "boot", "aaaaaaaa-0000-4000-8000-000000000001"),
        Piece(bytes(2 * MIB), "8304", "root"),
    )
    image = gpt_image(tmp_path / "disk.raw", *pieces)
    with open_disk(image, "raw") as disk:
        gpt = read_gpt(disk)
        assert gpt.notes == ()
        assert find_esp(gpt).unique_guid == "aaaaaaaa-0000-4000-8000-000000000001"
        assert gpt.extent(gpt.entries[1]) == (2 * MIB, 2 * MIB)
        with image.open("rb") as file:
            file.seek(512)
            assert gpt.event_data()[:92] == file.read(92)
        assert [str(v) for v in list_volumes(disk)] == [
            "partition 1 'boot' (unknown content)", "partition 2 'root' (unknown content)",
        ]  # fmt: skip


def test_a_large_disk_is_not_read_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    volume = bytes(build_fat({"EFI/BOOT/BOOTX64.EFI": b"loader" * 900}, bits=16).data)
    image = gpt_image(tmp_path / "disk.raw", Piece(volume, "ef00"))
    with image.open("r+b") as file:
        file.truncate(10 << 30)
    run("sgdisk", "--move-second-header", image)
    sizes = counted_reads(monkeypatch)
    with open_disk(image, "raw") as disk:
        assert read_gpt(disk).notes == ()
        assert open_esp(disk).read("efi/boot/bootx64.efi", MIB) == b"loader" * 900
        assert [str(volume) for volume in list_volumes(disk)] == ["partition 1 (vfat)"]
    assert 0 < sum(sizes) < MIB


def test_a_disk_that_grew_is_told(tmp_path: Path) -> None:
    image = gpt_image(tmp_path / "disk.raw", Piece(bytes(MIB), "ef00"))
    with image.open("r+b") as file:
        file.truncate(8 * MIB)
    with open_disk(image, "raw") as disk:
        assert "not at the disk's end" in " ".join(read_gpt(disk).notes)
    run("sgdisk", "--move-second-header", image)
    with open_disk(image, "raw") as disk:
        assert read_gpt(disk).notes == ()


@pytest.mark.parametrize("at", [512, 512 + 24, 1024], ids=["signature", "block", "entries"])
def test_the_backup_is_used_and_told_but_never_measured(at: int) -> None:
    made = build_gpt(TWO)
    made[at] ^= 1
    gpt = read_gpt(MemoryDisk(bytes(made)))
    assert gpt.from_backup
    assert "primary table is damaged" in gpt.notes[0]
    assert [entry.number for entry in gpt.entries] == [1, 3]
    with pytest.raises(MalformedDisk, match="repairs"):
        gpt.event_data()
    assert [volume.number for volume in list_volumes(MemoryDisk(bytes(made)))] == [1, 3]


def test_a_damaged_backup_is_told() -> None:
    made = build_gpt(TWO)
    made[-500] ^= 1
    gpt = read_gpt(MemoryDisk(bytes(made)))
    assert not gpt.from_backup
    assert "backup table is damaged" in gpt.notes[0]


def test_two_damaged_tables_are_refused() -> None:
    made = build_gpt(TWO)
    made[530] ^= 1
    made[-500] ^= 1
    with pytest.raises(MalformedDisk, match="CRC"):
        read_gpt(MemoryDisk(bytes(made)))


@pytest.mark.parametrize(
    ("partitions", "said"),
    [
        ((Partition(8, 20), Partition(20, 30)), "partition 2: overlaps partition 1 at block 20"),
        ((Partition(8, 40), Partition(9, 10)), "overlaps"),
        ((Partition(2, 20),), "not within the usable"),
        ((Partition(8, 63),), "not within the usable"),
        ((Partition(20, 8),), "not within the usable"),
        ((Partition(8, (1 << 64) - 1),), "not within the usable"),
        ((Partition((1 << 63) - 1, 1 << 63),), "not within the usable"),
    ],
)
def test_partitions_are_on_the_disk_and_share_nothing(
    partitions: tuple[Partition, ...], said: str
) -> None:
    with pytest.raises(MalformedDisk, match=said):
        read_gpt(MemoryDisk(bytes(build_gpt(partitions))))


@pytest.mark.parametrize(
    ("at", "size", "value"),
    [(8, 4, 0xFFFF), (12, 4, 91), (12, 4, 513), (24, 8, 2), (72, 8, 1 << 63), (72, 8, 1),
     (80, 4, 0), (80, 4, 1 << 31), (84, 4, 64), (84, 4, 192), (84, 4, 1 << 31)],
)  # fmt: skip
def test_figures_of_the_header_are_bounded(at: int, size: int, value: int) -> None:
    made = build_gpt(TWO)
    for start in (512, len(made) - 512):
        made[start + at : start + at + size] = value.to_bytes(size, "little")
        seal(made, start)
    with pytest.raises(MalformedDisk):
        read_gpt(MemoryDisk(bytes(made)))


def test_a_table_without_a_protective_mbr_is_none() -> None:
    made = build_gpt(TWO)
    made[450] = 0x83
    with pytest.raises(MalformedDisk, match="protective MBR"):
        read_gpt(MemoryDisk(bytes(made)))


@pytest.mark.parametrize("types", [(), (LINUX,), (ESP, ESP)])
def test_there_is_one_esp_or_none(types: tuple[str, ...]) -> None:
    made = build_gpt([Partition(8 + at, 8 + at, kind) for at, kind in enumerate(types)])
    disk = MemoryDisk(bytes(made))
    with pytest.raises(MalformedDisk, match="EFI system partition"):
        open_esp(disk)


@given(hostile(bytes(build_gpt(TWO))), st.booleans())
def test_whatever_the_table_only_our_errors_leave(data: bytes, reseal: bool) -> None:  # noqa: FBT001
    disk = MemoryDisk(bytes(seal(bytearray(data))) if reseal else data)
    if refused(lambda: read_gpt(disk)) is None:
        gpt = read_gpt(disk)
        assert len(gpt.entries) <= 8192
        for entry in gpt.entries:
            offset, size = gpt.extent(entry)
            assert 0 < size <= disk.size - offset
    refused(lambda: list_volumes(disk))
    refused(lambda: open_esp(disk))


@given(st.integers(0, 600))
def test_a_cut_table_is_refused(size: int) -> None:
    assert refused(lambda: read_gpt(MemoryDisk(bytes(build_gpt(TWO))[:size])))
