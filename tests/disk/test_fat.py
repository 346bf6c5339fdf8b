"""FAT file systems of mkfs.vfat and mtools, of our own, and broken ones."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fixtures.fat import FatImage, build_fat
from fixtures.gpt import ESP, Partition, build_gpt
from mrtd.disk import FatVolume, open_disk, open_esp, open_fat
from mrtd.errors import MalformedDisk
from tests.disk.images import MIB, MemoryDisk, made_data, run
from tests.strategies import hostile, refused

LOADER = "EFI/BOOT/BOOTX64.EFI"
LONG = "loader/entries/a name of more than twenty-six letters, größer.conf"
FILES = {LOADER: made_data(5000), LONG: b"title x\n", "empty": b""}
LIMIT = MIB


def opened(image: FatImage) -> FatVolume:
    return open_fat(MemoryDisk(bytes(image.data)))


def everything(volume: FatVolume) -> dict[str, bytes]:
    return {path: volume.read(path, LIMIT) for path, entry in volume.walk() if not entry.directory}


@pytest.mark.parametrize("bits", [12, 16, 32])
def test_files_are_read_whatever_the_case(bits: int) -> None:
    volume = opened(build_fat(FILES, bits=bits))
    assert (volume.kind, volume.label, volume.volume_id) == (f"FAT{bits}", "LABEL", "1234-5678")
    assert everything(volume) == FILES
    assert volume.read("\\efi\\boot\\BootX64.efi", LIMIT) == FILES[LOADER]
    assert volume.exists("/EFI/")
    assert volume.exists("")
    assert not volume.exists("EFI/BOOT/BOOTX64.EFI/x")
    assert not volume.exists("EFI/none")
    assert [entry.name for entry in volume.listdir("efi")] == ["BOOT"]


@pytest.mark.parametrize(
    ("bits", "size", "options"),
    [(12, 4, ()), (16, 32, ()), (32, 40, ()), (32, 300, ("-s", "8")), (16, 64, ("-S", "4096")),
     (12, 4, ("-f", "1")), (32, 48, ("-R", "64"))],
)  # fmt: skip
def test_a_volume_of_mkfs_and_mtools(
    tmp_path: Path, bits: int, size: int, options: tuple[str, ...]
) -> None:
    image, loader = tmp_path / "fat.img", tmp_path / "loader"
    with image.open("wb") as file:
        file.truncate(size * MIB)
    loader.write_bytes(made_data(300_000))
    run("mkfs.vfat", "-F", str(bits), "-n", "MY ESP", "-i", "cafe0123", *options, image)
    for folder in ("EFI", "EFI/BOOT", "loader", "loader/entries"):
        run("mtools", "-i", image, f"::{folder}", program="mmd")
    run("mtools", "-i", image, loader, "::EFI/BOOT/BOOTX64.EFI")
    run("mtools", "-i", image, loader, "::loader/entries/Debian GNU Linux with a long name.conf")
    run("mtools", "-i", image, loader, "::loader/gone")
    run("mtools", "-i", image, "::loader/gone", program="mdel")
    with open_disk(image, "raw") as disk:
        volume = open_esp(disk)
        assert (volume.kind, volume.label, volume.volume_id) == (
            f"FAT{bits}", "MY ESP", "CAFE-0123",
        )  # fmt: skip
        assert everything(volume) == {
            LOADER: loader.read_bytes(),
            "loader/entries/Debian GNU Linux with a long name.conf": loader.read_bytes(),
        }


def test_many_files_in_a_folder() -> None:
    files = {f"folder/file number {number}": b"%d" % number for number in range(300)}
    assert everything(opened(build_fat(files, bits=32))) == files


def test_the_esp_of_a_disk_is_found_by_any_table() -> None:
    volume = bytes(build_fat(FILES).data)
    blocks = len(volume) // 512
    made = build_gpt([Partition(16, 15 + blocks, ESP)], blocks=blocks + 64)
    made[16 * 512 : (16 + blocks) * 512] = volume
    assert everything(open_esp(MemoryDisk(bytes(made)))) == FILES
    mbr = bytearray(512 * 4)
    mbr[450] = 0xEF
    mbr[454:462] = (4).to_bytes(4, "little") + blocks.to_bytes(4, "little")
    mbr[510:512] = b"\x55\xaa"
    mbr[:3] = b"\xeb\x63\x90"  # as GRUB's boot code begins
    assert everything(open_esp(MemoryDisk(bytes(mbr) + volume))) == FILES
    assert everything(open_esp(MemoryDisk(volume))) == FILES
    mbr[450] = 0x83
    with pytest.raises(MalformedDisk, match="MBR"):
        open_esp(MemoryDisk(bytes(mbr) + volume))


@pytest.mark.parametrize("bits", [12, 16, 32])
def test_a_chain_that_comes_back_is_refused(bits: int) -> None:
    image = build_fat(FILES, bits=bits)
    chain = image.chains[LOADER]
    image.link(chain[3], chain[1])
    with pytest.raises(MalformedDisk, match="comes back to cluster"):
        opened(image).read(LOADER, LIMIT)


@pytest.mark.parametrize("bits", [12, 16, 32])
def test_folders_that_contain_themselves_are_refused(bits: int) -> None:
    image = build_fat(FILES, bits=bits)
    image.link(image.chains["EFI"][0], image.chains["EFI"][0])
    with pytest.raises(MalformedDisk, match="comes back"):
        opened(image).exists(LOADER)
    image = build_fat({"a/b/c": b"x"}, bits=bits)
    inner, outer = image.chains["a/b"][0], image.chains["a"][0]
    at = image.place(outer) + 64 + 32 + 26  # behind ".", ".." and a long name of one entry
    assert image.data[at] == inner
    image.data[at] = outer
    with pytest.raises(MalformedDisk, match="belongs to"):
        list(opened(image).walk())


@pytest.mark.parametrize("value", [0, 1, 0xFF0])
def test_a_chain_that_leads_out_of_the_volume_is_refused(value: int) -> None:
    image = build_fat(FILES)
    image.link(image.chains[LOADER][2], value)
    with pytest.raises(MalformedDisk, match=f"cluster {value} is not in use or not on"):
        opened(image).read(LOADER, LIMIT)


def test_a_chain_that_ends_before_the_file_is_refused() -> None:
    image = build_fat(FILES)
    image.link(image.chains[LOADER][2], 0xFFF)
    with pytest.raises(MalformedDisk, match="its chain ends before"):
        opened(image).read(LOADER, LIMIT)


def test_clusters_that_two_files_share_are_told() -> None:
    image = build_fat({"a": bytes(1000), "b": bytes(1000)})
    image.link(image.chains["a"][0], image.chains["b"][1])
    with pytest.raises(MalformedDisk, match="belongs to 'a' as well"):
        list(opened(image).walk())


def test_a_name_that_two_files_have_is_refused() -> None:
    image = build_fat({"same": b"1", "SAME": b"2"})
    with pytest.raises(MalformedDisk, match="2 entries are named"):
        opened(image).read("same", LIMIT)


def test_a_long_name_that_is_not_its_own_does_not_count() -> None:
    image = build_fat({"a rather long name": b"1"})
    image.data[image.root + 13] ^= 1  # the checksum
    assert [entry.name for entry in opened(image).listdir()] == ["F0000000.TXT"]


def test_files_are_read_up_to_a_limit() -> None:
    with pytest.raises(MalformedDisk, match="5000 bytes, more than 4999"):
        opened(build_fat(FILES)).read(LOADER, 4999)
    with pytest.raises(MalformedDisk, match="is a folder"):
        opened(build_fat(FILES)).read("EFI", LIMIT)
    with pytest.raises(MalformedDisk, match="not a folder"):
        opened(build_fat(FILES)).listdir(LOADER)
    with pytest.raises(MalformedDisk, match="no such file"):
        opened(build_fat(FILES)).read("none", LIMIT)


@pytest.mark.parametrize(
    ("at", "value"),
    [(0, b"\0"), (11, b"\1\2"), (13, b"\3"), (13, b"\0"), (14, b"\0\0"), (16, b"\0"),
     (17, b"\0\0"), (22, b"\0\0"), (22, b"\1\0"), (32, b"\xff\xff\xff\xff"), (32, bytes(4)),
     (510, b"\0\0")],
)  # fmt: skip
def test_boot_sectors_that_contradict_themselves_are_refused(at: int, value: bytes) -> None:
    image = build_fat({"x": bytes(400 * 512)})
    image.data[at : at + len(value)] = value
    with pytest.raises(MalformedDisk):
        opened(image)


NAMES = st.text(
    st.characters(codec="utf-16-le", exclude_characters='/\\\0:*?"<>|', exclude_categories=["Cc"]),
    min_size=1,
    max_size=60,
).filter(lambda name: name.strip(". ") == name and "\ufffd" not in name)


@given(
    st.dictionaries(NAMES, st.binary(max_size=3000), max_size=12).filter(
        lambda files: len({name.upper() for name in files}) == len(files)
    ),
    st.sampled_from([12, 16, 32]),
)
@settings(max_examples=50)
def test_what_is_written_is_read(files: dict[str, bytes], bits: int) -> None:
    assert everything(opened(build_fat({f"d/{n}": c for n, c in files.items()}, bits=bits))) == {
        f"d/{name}": content for name, content in files.items()
    }


def explore(data: bytes) -> None:
    volume = open_fat(MemoryDisk(data))
    for path, entry in volume.walk():
        if not entry.directory:
            volume.read(path, LIMIT)


@given(hostile(bytes(build_fat(FILES).data), bytes(build_fat(FILES, bits=32).data)))
def test_whatever_the_volume_only_our_errors_leave(data: bytes) -> None:
    refused(lambda: explore(data))
