"""qcow2 images that nobody should make, and backing files that lead elsewhere."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fixtures import qcow2 as fixture
from fixtures.qcow2 import Image, build_qcow2
from mrtd.disk import open_disk
from mrtd.disk.host_file import HostFile
from mrtd.disk.qcow2 import Qcow2Disk, read_file_header
from mrtd.errors import MalformedDisk
from tests.strategies import hostile, refused

SIZE = 1 << 16
FILES = Path("/proc/self/fd")
CLUSTERS = {0: b"first", 5: b"fifth" * 90, 6: None, 70: b"packed" * 80, 71: b"more" * 100, 72: b"x"}
IMAGE = Image(CLUSTERS, SIZE, packed=frozenset({70, 71}))


def content(clusters: dict[int, bytes | None], size: int = SIZE, cluster: int = 512) -> bytes:
    data = bytearray(size)
    for number, given_data in clusters.items():
        data[number * cluster : (number + 1) * cluster] = (given_data or b"").ljust(cluster, b"\0")
    return bytes(data)


def read_all(data: bytes, *, most: int = 1 << 20) -> bytes:
    """Read an image that is in memory."""
    descriptor = os.memfd_create("image")
    try:
        os.write(descriptor, data)
        file = HostFile(descriptor, len(data), Path("image"), (0, 0))
        disk = Qcow2Disk(file, read_file_header(file), None)
        return disk.read(0, min(disk.size, most))
    finally:
        os.close(descriptor)


@pytest.mark.parametrize("version", [2, 3])
def test_what_is_built_is_read(version: int) -> None:
    clusters = {k: v for k, v in CLUSTERS.items() if v is not None}
    image = replace(IMAGE, clusters=clusters, version=version)
    assert read_all(bytes(build_qcow2(image))) == content({**clusters})


@given(
    st.dictionaries(st.integers(0, 127), st.none() | st.binary(max_size=512), max_size=20),
    st.sets(st.integers(0, 127)),
)
def test_any_clusters_are_read(clusters: dict[int, bytes | None], packed: set[int]) -> None:
    made = build_qcow2(Image(clusters, SIZE, packed=frozenset(packed)))
    assert read_all(bytes(made)) == content(clusters)


@pytest.mark.parametrize(
    ("image", "said"),
    [
        (replace(IMAGE, version=1), "1 is not 2 or 3"),
        (replace(IMAGE, version=4), "4 is not 2 or 3"),
        (replace(IMAGE, version=2), "version 2 has not"),
        (replace(IMAGE, encryption=1), "encrypted"),
        (replace(IMAGE, encryption=2), "encrypted"),
        (replace(IMAGE, features=fixture.CORRUPT), "marked as corrupt"),
        (replace(IMAGE, features=fixture.DATA_FILE), "another file"),
        (replace(IMAGE, features=1 << 5 | 1 << 63), "bits 5, 63 are not known"),
        (replace(IMAGE, features=fixture.COMPRESSION), "compression type"),
        (replace(IMAGE, compression=1), "compression type"),
        (replace(IMAGE, features=fixture.COMPRESSION, compression=2), "compression type"),
        (replace(IMAGE, features=fixture.EXTENDED_L2), "too few for subclusters"),
        (replace(IMAGE, features=fixture.COMPRESSION, compression=1), "is not zstd of 512"),
    ],
)
def test_what_cannot_be_read_is_refused(image: Image, said: str) -> None:
    with pytest.raises(MalformedDisk, match=said):
        read_all(bytes(build_qcow2(image)))


@pytest.mark.parametrize(
    ("at", "value", "said"),
    [
        (0, b"QFI\0", "qcow2 magic"),
        (20, (8).to_bytes(4, "big"), "8 is not 9 to 21"),
        (20, (64).to_bytes(4, "big"), "64 is not 9 to 21"),
        (24, (1 << 63).to_bytes(8, "big"), "more than clusters"),
        (24, (513).to_bytes(8, "big"), "not a multiple"),
        (24, (1 << 32).to_bytes(8, "big"), "entries"),
        (36, bytes(4), "0 entries"),
        (40, (513).to_bytes(8, "big"), "not that of another cluster"),
        (40, bytes(8), "not that of another cluster"),
        (40, (1 << 62).to_bytes(8, "big"), "is it cut off"),
        (96, (7).to_bytes(4, "big"), "refcount order"),
        (100, (96).to_bytes(4, "big"), "header length"),
        (100, (1 << 31).to_bytes(4, "big"), "header length"),
        (8, (500).to_bytes(8, "big") + (99).to_bytes(4, "big"), "backing file"),
        (8, (120).to_bytes(8, "big") + (1024).to_bytes(4, "big"), "backing file"),
        (112, (7).to_bytes(4, "big") + (1 << 31).to_bytes(4, "big"), "header extension"),
    ],
)
def test_figures_of_the_header_are_bounded(at: int, value: bytes, said: str) -> None:
    made = build_qcow2(IMAGE)
    made[at : at + len(value)] = value
    with pytest.raises(MalformedDisk, match=said):
        read_all(bytes(made))


@pytest.mark.parametrize(
    ("table", "value", "said"),
    [
        ("l1", 512, "within the L1 table"),
        ("l1", 1 << 50, "cut off"),
        ("l1", 1 << 63 | 1, "reserved bits"),
        ("l1", 0x600 | 0x100, "reserved bits"),
        ("l2", 1 << 50, "cut off"),
        ("l2", 1 << 63 | 0x202, "reserved bits"),
        ("l2", 1 << 62 | 1 << 61 | 0x400, "is not zlib"),
        ("l2", 1 << 62 | 1 << 50, "cut off"),
    ],
)
def test_tables_lead_to_clusters_of_the_file(table: str, value: int, said: str) -> None:
    made = build_qcow2(IMAGE)
    at = 512 if table == "l1" else 1024
    made[at : at + 8] = value.to_bytes(8, "big")
    with pytest.raises(MalformedDisk, match=said):
        read_all(bytes(made))


@pytest.mark.parametrize(
    ("entry", "bitmap", "said"),
    [
        (1 << 63 | 1 << 17, 1 << 32 | 1, "both zero and not"),
        (0, 1, "or nowhere"),
        (1 << 63 | 1 << 17 | 1, 1, "both zero and not"),
        (1 << 62 | 1 << 17, 1, "subclusters of a compressed cluster"),
    ],
)
def test_subclusters_that_contradict_themselves_are_refused(
    entry: int, bitmap: int, said: str
) -> None:
    features = fixture.EXTENDED_L2
    made = build_qcow2(Image({0: bytes(16384)}, 1 << 21, bits=14, features=features))
    made[32768:32784] = entry.to_bytes(8, "big") + bitmap.to_bytes(8, "big")
    with pytest.raises(MalformedDisk, match=said):
        read_all(bytes(made))


def test_a_table_that_is_its_own_data_ends() -> None:
    made = build_qcow2(IMAGE)
    made[1024:1032] = (1 << 63 | 1024).to_bytes(8, "big")
    assert read_all(bytes(made))[:512] == made[1024:1536]


def test_an_image_that_was_not_closed_is_told(tmp_path: Path) -> None:
    path = tmp_path / "image"
    path.write_bytes(build_qcow2(replace(IMAGE, features=fixture.DIRTY)))
    with open_disk(path, "qcow2") as disk:
        assert disk.notes == (f"{path} was not closed: is it in use?",)
        assert disk.read(0, 5) == b"first"


def backed(name: bytes, kind: bytes = b"raw") -> bytes:
    return bytes(build_qcow2(Image({1: b"top"}, SIZE, bits=12, backing=(name, kind))))


def test_what_a_backing_file_has_not_is_zero(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "base").write_bytes(b"b" * 700)
    (tmp_path / "top").write_bytes(backed(b"in/base"))
    with open_disk(tmp_path / "top", "qcow2") as disk:
        expected = (b"b" * 700).ljust(4096, b"\0") + b"top".ljust(4096, b"\0")
        assert disk.read(0, 8192) == expected
        assert disk.files == (tmp_path / "top", tmp_path / "in" / "base")


@pytest.mark.parametrize(
    "name", ["../secret", "{folder}/secret", "link", "in/../../secret", "linked/secret"]
)
def test_backing_files_elsewhere_are_refused_unless_allowed(tmp_path: Path, name: str) -> None:
    (tmp_path / "images" / "in").mkdir(parents=True)
    (tmp_path / "secret").write_bytes(b"secret")
    (tmp_path / "images" / "link").symlink_to(tmp_path / "secret")
    (tmp_path / "images" / "linked").symlink_to(tmp_path)
    top = tmp_path / "images" / "top"
    top.write_bytes(backed(name.format(folder=tmp_path).encode()))
    with pytest.raises(MalformedDisk, match="not in the image's folder"), open_disk(top, "qcow2"):
        pass
    with open_disk(top, "qcow2", allow_backing_outside=True) as disk:
        assert disk.read(0, 6) == b"secret"


@pytest.mark.parametrize(
    ("name", "kind", "said"),
    [
        (b"nbd://host/x", b"raw", "not the name of a file"),
        (b'json:{"driver":"raw"}', b"raw", "not the name of a file"),
        (b"file:base", b"raw", "not the name of a file"),
        (b"base\0x", b"raw", "not the name of a file"),
        (b"base", b"", "does not say which format"),
        (b"base", b"vmdk", "'vmdk' is not read"),
        (b"none", b"raw", "cannot be opened"),
        (b"in", b"raw", "neither a file"),
        (b"pipe", b"raw", "neither a file"),
        (b"top", b"qcow2", "lead back to it"),
        (b"base", b"qcow2", "qcow2 magic"),
        (b"loop", b"raw", "cannot be opened|no such folder"),
    ],
)
@pytest.mark.parametrize("outside", [False, True])
def test_backing_files_are_files_of_a_declared_format(
    tmp_path: Path, name: bytes, kind: bytes, said: str, outside: bool  # noqa: FBT001 - a case
) -> None:  # fmt: skip
    (tmp_path / "base").write_bytes(bytes(512))
    (tmp_path / "in").mkdir()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to("loop")
    top = tmp_path / "top"
    top.write_bytes(backed(name, kind))
    with (
        pytest.raises(MalformedDisk, match=said),
        open_disk(top, "qcow2", allow_backing_outside=outside),
    ):
        pass


def test_chains_are_bounded(tmp_path: Path) -> None:
    (tmp_path / "0").write_bytes(bytes(512))
    for number in range(1, 40):
        behind = str(number - 1).encode()
        (tmp_path / str(number)).write_bytes(backed(behind, b"qcow2" if number > 1 else b"raw"))
    with open_disk(tmp_path / "31", "qcow2") as disk:
        assert len(disk.files) == 32
    with pytest.raises(MalformedDisk, match="more than 32"), open_disk(tmp_path / "32", "qcow2"):
        pass


def test_files_of_an_image_are_closed(tmp_path: Path) -> None:
    (tmp_path / "base").write_bytes(bytes(512))
    (tmp_path / "top").write_bytes(backed(b"base"))
    (tmp_path / "bad").write_bytes(backed(b"top", b"vmdk"))
    before = list(FILES.iterdir())
    with open_disk(tmp_path / "top", "qcow2"):
        assert len(list(FILES.iterdir())) == len(before) + 2
    with pytest.raises(MalformedDisk), open_disk(tmp_path / "bad", "qcow2"):
        pass
    assert len(list(FILES.iterdir())) == len(before)


@pytest.mark.parametrize("kind", ["raw", "qcow2"])
@pytest.mark.parametrize("name", ["none", ".", "a\0b"])
def test_what_is_no_file_is_refused(tmp_path: Path, name: str, kind: str) -> None:
    assert kind in {"raw", "qcow2"}
    with (
        pytest.raises(MalformedDisk),
        open_disk(tmp_path / name, "raw" if kind == "raw" else "qcow2"),
    ):
        pass


def test_a_raw_disk_has_whole_sectors(tmp_path: Path) -> None:
    (tmp_path / "disk").write_bytes(b"x" * 700)
    with open_disk(tmp_path / "disk", "raw") as disk:
        assert disk.size == 1024
        assert disk.read(600, 424) == (b"x" * 100).ljust(424, b"\0")
        for offset, length in ((-1, 1), (0, 1025), (1024, 1), (0, -1), (1 << 63, 1)):
            with pytest.raises(MalformedDisk, match="past the end"):
                disk.read(offset, length)


@given(hostile(bytes(build_qcow2(IMAGE)), bytes(build_qcow2(replace(IMAGE, version=2)))))
def test_whatever_the_image_only_our_errors_leave(data: bytes) -> None:
    refused(lambda: read_all(data))


@given(st.integers(0, len(build_qcow2(IMAGE)) - 2))
def test_a_cut_image_is_refused(size: int) -> None:
    assert refused(lambda: read_all(bytes(build_qcow2(IMAGE))[:size]))
