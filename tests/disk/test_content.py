"""What is in a partition."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fixtures.fat import build_fat
from mrtd.disk.content import Content, recognise
from mrtd.disk.volumes import Volume, list_volumes, named
from tests.disk.images import MIB, MemoryDisk, Piece, gpt_image, run, squashfs, verity_pair

UUID = "01234567-89ab-4def-8123-456789abcdef"


def at(*places: tuple[int, bytes]) -> bytes:
    data = bytearray(1 << 17)
    for offset, raw in places:
        data[offset : offset + len(raw)] = raw
    return bytes(data)


RAW_UUID = bytes.fromhex(UUID.replace("-", ""))


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (at((0, b"hsqs")), Content("squashfs")),
        (
            at((1024, b"\xe2\xe1\xf5\xe0"), (1072, RAW_UUID), (1088, b"name")),
            Content("erofs", "name", UUID),
        ),
        (at((1080, b"\x53\xef")), Content("ext2", "", "00000000-0000-0000-0000-000000000000")),
        (
            at((1080, b"\x53\xef"), (1116, b"\4"), (1128, RAW_UUID)),
            Content("ext3", "", UUID),
        ),
        (at((0, b"XFSB"), (32, RAW_UUID), (108, b"data")), Content("xfs", "data", UUID)),
        (
            at((0x10040, b"_BHRfS_M"), (0x10020, RAW_UUID), (0x1012B, b"pool")),
            Content("btrfs", "pool", UUID),
        ),
        (at((0x8001, b"CD001"), (0x8028, b"cidata".ljust(32))), Content("iso9660", "cidata")),
        (
            at((4086, b"SWAPSPACE2"), (1036, RAW_UUID), (1052, b"s")),
            Content("swap", "s", UUID),
        ),
        (
            at((0, b"LUKS\xba\xbe\0\2"), (24, b"secret"), (168, UUID.encode())),
            Content("crypto_LUKS", "secret", UUID),
        ),
        (at((0, b"LUKS\xba\xbe\0\1"), (168, UUID.encode())), Content("crypto_LUKS", "", UUID)),
        (at((512, b"LABELONE")), Content("LVM2_member")),
        (bytes(build_fat({}).data), Content("vfat", "LABEL", "1234-5678")),
        (at((510, b"\x55\xaa")), None),
        (bytes(4096), None),
        (b"", None),
    ],
)
def test_superblocks_are_recognised(data: bytes, expected: Content | None) -> None:
    assert recognise(MemoryDisk(data)) == expected


@given(st.binary(max_size=600))
def test_anything_may_be_in_a_partition(data: bytes) -> None:
    recognise(MemoryDisk(data))


def test_contents_of_real_tools(tmp_path: Path) -> None:
    ext4 = tmp_path / "ext4"
    with ext4.open("wb") as file:
        file.truncate(4 * MIB)
    run("mkfs.ext4", "-q", "-L", "root", "-U", UUID, ext4)
    assert recognise(MemoryDisk(ext4.read_bytes())) == Content("ext4", "root", UUID)
    assert recognise(MemoryDisk(squashfs(tmp_path / "s"))) == Content("squashfs")
    pair = verity_pair(tmp_path / "v", bytes(MIB), f"--uuid={UUID}")
    assert recognise(MemoryDisk(pair.hashes.read_bytes())) == Content("DM_verity_hash", "", UUID)
    image = gpt_image(tmp_path / "disk", Piece(ext4.read_bytes(), "8300", "a b", UUID))
    assert [str(volume) for volume in list_volumes(MemoryDisk(image.read_bytes()))] == [
        "partition 1 'a b' (ext4)"
    ]


VOLUMES = (
    Volume(1, 0, 1, "aa-01", "root", content=Content("ext4", "r", UUID)),
    Volume(2, 1, 1, "aa-02", "root", content=None),
)


@pytest.mark.parametrize(
    ("device", "numbers"),
    [
        ("/dev/vda1", [1]),
        ("/dev/nvme0n1p2", [2]),
        ("/dev/mmcblk0p1", [1]),
        ("/dev/sda", []),
        ("/dev/nvme0n1", []),
        ("/dev/sda3", []),
        ("PARTUUID=AA-02", [2]),
        ("/dev/disk/by-partuuid/aa-01", [1]),
        ("PARTLABEL=root", [1, 2]),
        ("LABEL=r", [1]),
        ("LABEL=R", []),
        (f"UUID={UUID.upper()}", [1]),
        ("/dev/disk/by-label/r", [1]),
        ("254:0", None),
        ("/dev/mapper/root", None),
        ("LABEL=", None),
    ],
)
def test_device_names(device: str, numbers: list[int] | None) -> None:
    found = named(device, VOLUMES)
    assert (None if found is None else [volume.number for volume in found]) == numbers


def test_partitions_of_an_mbr_and_whole_disks() -> None:
    disk = bytearray(512 * 64)
    disk[440:444] = bytes.fromhex("efbeadde")
    disk[510:512] = b"\x55\xaa"
    for number, (kind, start, count) in enumerate([(0x83, 2, 20), (0xEF, 30, 34)]):
        entry = bytes(4) + bytes([kind]) + bytes(3) + start.to_bytes(4, "little")
        disk[446 + 16 * number : 462 + 16 * number] = entry + count.to_bytes(4, "little")
    disk[2 * 512 : 2 * 512 + 4] = b"hsqs"
    found = list_volumes(MemoryDisk(bytes(disk)))
    assert [(v.number, v.partuuid, v.type, v.offset, v.size) for v in found] == [
        (1, "deadbeef-01", "0x83", 1024, 20 * 512),
        (2, "deadbeef-02", "0xef", 30 * 512, 34 * 512),
    ]
    assert found[0].content == Content("squashfs")
    whole = list_volumes(MemoryDisk(b"hsqs" + bytes(1020)))
    assert [str(volume) for volume in whole] == ["disk (squashfs)"]
    assert [str(volume) for volume in list_volumes(MemoryDisk(b""))] == ["disk (unknown content)"]
