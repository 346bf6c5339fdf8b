"""qcow2 images that qemu-img makes."""

from __future__ import annotations

from pathlib import Path

import pytest

from mrtd.disk import OpenDisk, open_disk
from mrtd.errors import MalformedDisk
from tests.disk.images import MIB, counted_reads, made_data, run

SIZE = 5 * MIB + 512


def whole(disk: OpenDisk, step: int) -> bytes:
    """All of a disk, read in steps that fit no cluster."""
    return b"".join(disk.read(at, min(step, disk.size - at)) for at in range(0, disk.size, step))


def convert(folder: Path, data: bytes, *options: str) -> Path:
    raw, made = folder / "disk.raw", folder / "disk.qcow2"
    raw.write_bytes(data)
    run("qemu-img", "convert", "-f", "raw", "-O", "qcow2", *options, raw, made)
    return made


@pytest.mark.parametrize(
    "options",
    [
        (),
        ("-o", "compat=0.10"),
        ("-c",),
        ("-c", "-o", "compat=0.10"),
        ("-c", "-o", "compression_type=zstd"),
        ("-c", "-o", "compression_type=zstd,cluster_size=2M"),
        ("-c", "-o", "cluster_size=512"),
        ("-o", "cluster_size=512"),
        ("-o", "cluster_size=4k"),
        ("-o", "cluster_size=2M"),
        ("-o", "extended_l2=on"),
        ("-c", "-o", "extended_l2=on"),
        ("-o", "extended_l2=on,cluster_size=16k"),
        ("-o", "preallocation=metadata"),
        ("-S", "0"),
    ],
    ids=" ".join,
)
def test_an_image_has_the_bytes_that_went_into_it(tmp_path: Path, options: tuple[str, ...]) -> None:
    data = made_data(SIZE)
    with open_disk(convert(tmp_path, data, *options), "qcow2") as disk:
        assert disk.size == SIZE
        assert whole(disk, 100_003) == data
        assert disk.read(3 * MIB - 5, 10) == data[3 * MIB - 5 :][:10]
        assert disk.read(SIZE, 0) == b""
        assert disk.notes == ()


@pytest.mark.parametrize("extended", ["off", "on"])
@pytest.mark.parametrize("kind", ["raw", "qcow2"])
def test_a_backing_file_shows_through(tmp_path: Path, kind: str, extended: str) -> None:
    base, top = tmp_path / "base", tmp_path / "top.qcow2"
    data = bytearray(made_data(SIZE))
    (tmp_path / "raw").write_bytes(data)
    run("qemu-img", "convert", "-f", "raw", "-O", kind, tmp_path / "raw", base)
    options = ["-o", f"extended_l2={extended}", "-F", kind, "-b", "base"]
    run("qemu-img", "create", "-f", "qcow2", *options, top, str(SIZE + MIB))
    writes = [("write -P 7", 70_000, 5000), ("write -z", MIB, 200_000), ("write -P 9", SIZE, 4096)]
    for what, at, size in writes:
        run("qemu-img", "-f", "qcow2", "-c", f"{what} {at} {size}", top, program="qemu-io")
    data += bytes(MIB)
    data[70_000:75_000] = b"\7" * 5000
    data[MIB : MIB + 200_000] = bytes(200_000)
    data[SIZE : SIZE + 4096] = b"\x09" * 4096
    with open_disk(top, "qcow2") as disk:
        assert whole(disk, 77_777) == data
        assert disk.files == (top, base)


def test_internal_snapshots_do_not_count(tmp_path: Path) -> None:
    data = bytearray(made_data(SIZE))
    image = convert(tmp_path, bytes(data))
    run("qemu-img", "snapshot", "-c", "before", image)
    run("qemu-img", "-f", "qcow2", "-c", "write -P 1 0 65536", image, program="qemu-io")
    data[:65536] = b"\1" * 65536
    with open_disk(image, "qcow2") as disk:
        assert whole(disk, MIB) == data


def test_a_large_image_is_not_read_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image = tmp_path / "large.qcow2"
    run("qemu-img", "create", "-f", "qcow2", image, "10G")
    run("qemu-img", "-f", "qcow2", "-c", "write -P 5 9G 1M", image, program="qemu-io")
    sizes = counted_reads(monkeypatch)
    with open_disk(image, "qcow2") as disk:
        assert disk.size == 10 << 30
        assert disk.read(9 << 30, 4096) == b"\5" * 4096
        assert disk.read(1 << 30, MIB) == bytes(MIB)
    assert 4096 < sum(sizes) <= 3 * 65536  # the header, one L2 table, the block


def test_an_image_whose_data_are_elsewhere_is_refused(tmp_path: Path) -> None:
    image, data = tmp_path / "image.qcow2", tmp_path / "data.raw"
    run("qemu-img", "create", "-f", "qcow2", "-o", f"data_file={data}", image, "1M")
    with pytest.raises(MalformedDisk, match="another file"), open_disk(image, "qcow2"):
        pass
