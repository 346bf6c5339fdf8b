"""The example images: the same bytes every time, and sound to the tools that know their formats."""

from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path

import pytest

from ci.__main__ import main
from ci.images.catalogue import IMAGES
from ci.images.disk import Partition, add_to_fat, name_guid, write_disk, write_fat
from ci.images.pe import Section, add_sections, section_content
from ci.system import find_program
from fixtures.bzimage import build_bzimage
from mrtd.cli.main import main as mrtd
from mrtd.errors import MalformedKernel
from mrtd.launch.spec import DiskBoot, read_spec_file
from tests.conftest import require_tool
from tests.disk_images import Images

# Between them they take every tool: FAT, GPT, ext4, squashfs, verity.
EVERY_TOOL = ("verity", "easyenclave-small")


def tool(*arguments: str | Path) -> str:
    found = find_program(str(arguments[0]))
    assert found is not None
    done = subprocess.run(
        [found, *arguments[1:]], capture_output=True, check=True, encoding="utf-8", timeout=120
    )
    return done.stdout


def digests(folder: Path) -> dict[str, str]:
    names = ("disk.raw", "disk.qcow2", "config.raw", "vars.fd")
    found = [folder / name for name in names if (folder / name).exists()]
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in found}


@pytest.mark.parametrize("name", EVERY_TOOL)
def test_the_same_bytes_every_time(name: str, images: Images, tmp_path: Path) -> None:
    again = Images(tmp_path, images.inputs)
    assert digests(again(name)) == digests(images(name))


def part(image: Path, number: int, path: Path) -> Path:
    """A partition of a disk, cut out where sgdisk says that it is."""
    said = dict(
        line.split(": ", 1)
        for line in tool("sgdisk", f"-i={number}", image).splitlines()
        if ": " in line
    )
    first, last = (int(said[key].split()[0]) for key in ("First sector", "Last sector"))
    with image.open("rb") as disk:
        disk.seek(first * 512)
        path.write_bytes(disk.read((last - first + 1) * 512))
    return path


def test_tools_take_what_is_written(images: Images, tmp_path: Path) -> None:
    """Partition table, file systems, hash tree; the guest's own code reads none of them."""
    verity, easyenclave = (images(name) for name in EVERY_TOOL)
    for folder in (verity, easyenclave):
        assert "No problems found" in tool("sgdisk", "--verify", folder / "disk.raw")
        tool("fsck.vfat", "-n", part(folder / "disk.raw", 1, tmp_path / "esp"))
        tool("qemu-img", "compare", folder / "disk.raw", folder / "disk.qcow2")
    tool("e2fsck", "-fn", part(easyenclave / "disk.raw", 2, tmp_path / "ext4"))
    root = part(verity / "disk.raw", 2, tmp_path / "root")
    tree = part(verity / "disk.raw", 3, tmp_path / "tree")
    tool("mcopy", "-i", tmp_path / "esp", "::/EFI/BOOT/BOOTX64.EFI", tmp_path / "uki")
    tool("mcopy", "-n", "-i", part(verity / "disk.raw", 1, tmp_path / "esp"),
         "::/EFI/BOOT/BOOTX64.EFI", tmp_path / "verity.efi")  # fmt: skip
    cmdline = section_content((tmp_path / "verity.efi").read_bytes(), ".cmdline").decode()
    root_hash = cmdline.partition("roothash=")[2]
    tool("veritysetup", "verify", root, tree, root_hash)


def test_files_are_replaced_and_added(tmp_path: Path) -> None:
    """What carriers do: at an offset in a disk, without touching anything else."""
    write_fat(tmp_path / "fat", {"EFI/old.txt": b"old"}, size=16 << 20)
    partition = Partition("0fc63daf-8483-4772-8e79-3d69d8477de4", "fat", tmp_path / "fat")
    write_disk(tmp_path / "disk", "example", [partition])
    add_to_fat(tmp_path / "disk", {"efi/NEW.txt": b"new", "a/b/c.cred": b"c"}, offset=1 << 20)
    volume = f"{tmp_path / 'disk'}@@1M"
    assert tool("mtype", "-i", volume, "::/EFI/old.txt") == "old"
    assert tool("mtype", "-i", volume, "::/EFI/new.txt") == "new"
    assert tool("mtype", "-i", volume, "::/a/b/c.cred") == "c"


def test_a_name_has_one_guid() -> None:
    assert name_guid("a") == name_guid("a") != name_guid("b")
    assert name_guid("a", "b") == name_guid("a/b")


def test_sections_need_room() -> None:
    stub = build_bzimage()
    with pytest.raises(MalformedKernel, match="room"):
        add_sections(stub, [Section(f".s{number}", b"x") for number in range(99)])
    with pytest.raises(MalformedKernel, match="not a PE image"):
        add_sections(b"nothing of the kind" * 9, [])


@pytest.mark.usefixtures("images")  # so that its tools and parts are there
def test_the_verb_lists_and_builds(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """``ci images``: a spec that can be read, beside disks that it names."""
    assert main(["images"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert {line.split()[0] for line in lines} == set(IMAGES)
    assert max(map(len, lines)) <= 80
    built = ["images", "easyenclave-small", "kernel-efi", "--out", str(tmp_path)]
    assert main([*built, "--format", "qcow2"]) == 0
    spec = read_spec_file(tmp_path / "easyenclave-small" / "launch.toml")
    assert isinstance(spec.boot, DiskBoot)
    assert [(disk.path, disk.format) for disk in spec.disks] == [
        ("disk.qcow2", "qcow2"),
        ("config.qcow2", "qcow2"),
    ]
    for disk in spec.disks:
        assert (tmp_path / "easyenclave-small" / disk.path).exists()
    other = read_spec_file(tmp_path / "kernel-efi" / "launch.toml")
    assert other.firmware.vars == "vars.fd"
    assert main(["images", "nonsense", "--out", str(tmp_path)]) == 2
    assert main(["images", "kernel-efi", "--out", str(Path(__file__))]) == 2


@pytest.mark.qemu
@pytest.mark.usefixtures("images")
def test_a_disk_on_many_machines_is_derived_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """``mrtd matrix`` keeps what QEMU said and names the disk, so that ``rederive`` can check."""
    qemu, spec = require_tool("qemu"), tmp_path / "uki-257" / "launch.toml"
    built = ["images", "uki-257", "--out", tmp_path, "--format", "qcow2", "--qemu", qemu]
    assert main([str(word) for word in built]) == 0
    written = ["--output", tmp_path / "r.json", "--save-acpi", tmp_path / "blobs"]
    asked = ["matrix", spec, "--vcpus", "1,2", "--qemu", qemu, *written]
    assert mrtd([str(word) for word in asked]) == 0
    spec.unlink()
    (tmp_path / "uki-257" / "disk.qcow2").rename(tmp_path / "another-name")
    capsys.readouterr()
    checked = ["rederive", tmp_path / "r.json", tmp_path, "--acpi", tmp_path / "blobs"]
    assert mrtd([str(word) for word in checked]) == 0
    assert "2 launches: 2 match" in capsys.readouterr().out
