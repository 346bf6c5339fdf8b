"""A GPT disk and what is on it: FAT, ext4, squashfs with a verity tree. No root, no mounting.

Everything that tools would draw at random or take from the clock is given: GUIDs, serial numbers,
salts, times. So the same contents give the same bytes.
"""

from __future__ import annotations

import os
import re
import tempfile
import uuid
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

from ci.images.run import EPOCH, run
from mrtd.errors import SpecError

ESP: Final = "c12a7328-f81f-11d2-ba4b-00a0c93ec93b"
LINUX_DATA: Final = "0fc63daf-8483-4772-8e79-3d69d8477de4"
# UAPI Group, Discoverable Partitions Specification: root and its verity tree, x86-64
ROOT: Final = "4f68bce3-e8cd-4db1-96e7-fbcaf984b709"
ROOT_VERITY: Final = "2c7357ed-ebd2-46d9-aec1-23d437ec2bf5"

_NAMES: Final = uuid.UUID("6f5b0c64-5d0e-4c3e-9b4e-2f6a8c1d7e90")
_SECTOR: Final = 512
_ALIGNMENT: Final = 1 << 20
_SERIAL: Final = "4d524454"  # "MRDT": FAT's volume serial number
_VERITY_BLOCK: Final = 4096


@dataclass(frozen=True, slots=True)
class Partition:
    """A partition of a disk.

    Attributes:
        type_guid: what it is for.
        name: its name in the table.
        content: the file with its content, whose size it has.
        unique_guid: its own GUID; by default made of the disk's and its own name.
    """

    type_guid: str
    name: str
    content: Path
    unique_guid: str = ""


@dataclass(frozen=True, slots=True)
class Verity:
    """A file system with its hash tree.

    Attributes:
        data: the file system.
        tree: superblock and hash tree (format 1, SHA-256).
        root_hash: 32 bytes as hex digits.
    """

    data: Path
    tree: Path
    root_hash: str

    @property
    def guids(self) -> tuple[str, str]:
        """Unique GUIDs that tell which partitions these are: both halves of the root hash."""
        halves = self.root_hash[:32], self.root_hash[32:]
        first, second = (str(uuid.UUID(half)) for half in halves)
        return first, second


def name_guid(*names: str) -> str:
    """The GUID that belongs to a name, the same everywhere."""
    return str(uuid.uuid5(_NAMES, "/".join(names)))


def write_disk(path: Path, name: str, partitions: Sequence[Partition]) -> None:
    """Write a raw, sparse disk image with a GPT.

    Raises:
        ToolMissing, ToolFailed: of sgdisk.
    """
    sizes = [_aligned(part.content.stat().st_size) for part in partitions]
    starts = [_ALIGNMENT + sum(sizes[:index]) for index in range(len(sizes))]
    with path.open("wb") as disk:
        disk.truncate(_ALIGNMENT + sum(sizes) + _ALIGNMENT)
    arguments = ["--clear", f"--set-alignment={_ALIGNMENT // _SECTOR}"]
    for number, (part, start) in enumerate(zip(partitions, starts, strict=True), start=1):
        last = (start + part.content.stat().st_size) // _SECTOR - 1
        arguments += [
            f"--new={number}:{start // _SECTOR}:{last}",
            f"--typecode={number}:{part.type_guid}",
            f"--change-name={number}:{part.name}",
            f"--partition-guid={number}:{part.unique_guid or name_guid(name, part.name)}",
        ]
    run("sgdisk", *arguments, f"--disk-guid={name_guid(name)}", path)
    with path.open("r+b") as disk:
        for part, start in zip(partitions, starts, strict=True):
            _copy(part.content, disk.fileno(), start)


def write_fat(path: Path, files: Mapping[str, bytes], *, size: int, label: str = "ESP") -> None:
    """Write a FAT32 volume (FAT16 below 40 MiB) with files by their path, such as ``EFI/BOOT/X``.

    Raises:
        ToolMissing, ToolFailed: of mkfs.vfat, mmd, mcopy.
    """
    with path.open("wb") as volume:
        volume.truncate(size)
    kind = "32" if size >= 40 << 20 else "16"
    run("mkfs.vfat", "--invariant", "-F", kind, "-s", "1", "-i", _SERIAL, "-n", label, path)
    add_to_fat(path, files, made=set())


def add_to_fat(
    path: Path, files: Mapping[str, bytes], *, offset: int = 0, made: set[str] | None = None
) -> None:
    """Write files into a FAT volume, at an offset in a file; ``made``: folders that it has.

    Raises:
        ToolMissing, ToolFailed: of mmd, mcopy.
    """
    volume = f"{path}@@{offset}"
    have = made if made is not None else _fat_folders(volume)
    with tempfile.TemporaryDirectory(prefix="mrtd-fat-") as temporary:
        staged = Path(temporary, "file")
        for name in sorted(files):
            parents = [str(parent) for parent in PurePosixPath(name).parents][:-1]
            for folder in reversed(parents):
                if folder.lower() not in have:
                    run("mmd", "-i", volume, f"::/{folder}")
                    have.add(folder.lower())
            staged.write_bytes(files[name])
            os.utime(staged, (EPOCH, EPOCH))
            run("mcopy", "-m", "-o", "-i", volume, staged, f"::/{name}")


def _fat_folders(volume: str) -> set[str]:
    listed = run("mdir", "-/", "-b", "-i", volume, "::/")
    return {line[3:].rstrip("/").lower() for line in listed.splitlines() if line.endswith("/")}


def write_ext4(
    path: Path,
    files: Mapping[str, bytes],
    *,
    size: int,
    label: str,
    executable: Collection[str] = (),
) -> None:
    """Write an ext4 file system with files, root's, by their path, such as ``etc/os-release``.

    Raises:
        ToolMissing, ToolFailed: of mkfs.ext4, debugfs.
    """
    with path.open("wb") as volume:
        volume.truncate(size)
    seed = name_guid("ext4", label)
    run(
        "mkfs.ext4",
        *("-q", "-F", "-L", label, "-U", seed, "-m", "0"),
        *("-E", f"hash_seed={seed},root_owner=0:0,lazy_itable_init=0,lazy_journal_init=0", path),
    )
    add_to_ext4(path, files, executable=executable)


def add_to_ext4(
    path: Path, files: Mapping[str, bytes], *, offset: int = 0, executable: Collection[str] = ()
) -> None:
    """Write files into an ext4 file system at an offset in a file; older ones are replaced.

    debugfs and not ``mkfs.ext4 -d``: that one copies the change times of the host's inodes.

    Raises:
        ToolMissing, ToolFailed: of debugfs.
        SpecError: debugfs did not do what it was told.
    """
    with tempfile.TemporaryDirectory(prefix="mrtd-ext4-") as temporary:
        commands, made = [], set()
        for number, name in enumerate(sorted(files)):
            staged = Path(temporary, str(number))
            staged.write_bytes(files[name])
            parents = [str(parent) for parent in PurePosixPath(name).parents][:-1]
            for folder in reversed(parents):
                if folder not in made:
                    commands.append(f"mkdir /{folder}")  # says so if there is one, and goes on
                    made.add(folder)
            mode = "0100755" if name in executable else "0100644"
            commands += [
                f"rm /{name}",
                f"write {staged} /{name}",
                f"sif /{name} mode {mode}",
                f"sif /{name} uid 0",
                f"sif /{name} gid 0",
            ]
        script = "\n".join([*commands, ""]).encode()
        run("debugfs", "-w", "-f", "-", _at(path, offset), stdin=script)
    for name in sorted(files):
        if read_from_ext4(path, name, offset=offset) != files[name]:
            raise SpecError("debugfs did not write it", origin=str(path), field=f"/{name}")


def read_from_ext4(path: Path, name: str, *, offset: int = 0) -> bytes | None:
    """A file of an ext4 file system at an offset in a file; None if there is none.

    Raises:
        ToolMissing, ToolFailed: of debugfs.
    """
    with tempfile.TemporaryDirectory(prefix="mrtd-ext4-") as temporary:
        copy = Path(temporary, "copy")
        run("debugfs", "-R", f"dump /{name} {copy}", _at(path, offset))
        return copy.read_bytes() if copy.exists() else None


def _at(path: Path, offset: int) -> str:
    return f"{path}?offset={offset}" if offset else str(path)


def write_squashfs(path: Path, files: Mapping[str, bytes]) -> None:
    """Write a squashfs with files by their path. Raises `ToolMissing`, `ToolFailed`."""
    with tempfile.TemporaryDirectory(prefix="mrtd-squashfs-") as temporary:
        tree = Path(temporary)
        for name, content in files.items():
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            (tree / name).write_bytes(content)
            (tree / name).chmod(0o644)
        for found in (tree, *tree.rglob("*")):
            if found.is_dir():
                found.chmod(0o755)
            os.utime(found, (EPOCH, EPOCH))
        options = ("-quiet", "-no-progress", "-all-root", "-noappend", "-no-xattrs")
        run("mksquashfs", tree, path, *options)


def write_verity(data: Path, tree: Path) -> Verity:
    """Write the hash tree of a file system, whose file grows to whole blocks.

    Raises:
        ToolMissing, ToolFailed: of veritysetup.
    """
    with data.open("r+b") as file:
        file.truncate(-(-data.stat().st_size // _VERITY_BLOCK) * _VERITY_BLOCK)
    tree.write_bytes(b"")
    said = run(
        "veritysetup",
        *("format", data, tree, f"--uuid={name_guid('verity', data.name)}"),
        f"--salt={name_guid('salt').replace('-', '') * 2}",
    )
    found = re.search(r"^Root hash:\s+([0-9a-f]{64})$", said, re.MULTILINE)
    if found is None:
        raise SpecError("veritysetup printed no root hash", origin=str(data))
    return Verity(data, tree, found[1])


def write_qcow2(raw: Path, path: Path) -> None:
    """Write the same disk as qcow2. Raises `ToolMissing`, `ToolFailed`."""
    run("qemu-img", "convert", "-f", "raw", "-O", "qcow2", raw, path)


def _aligned(size: int) -> int:
    return -(-size // _ALIGNMENT) * _ALIGNMENT


def _copy(source: Path, target: int, offset: int) -> None:
    """Copy a file into another, leaving holes where it has only zeros."""
    with source.open("rb") as file:
        while block := file.read(_ALIGNMENT):
            if block.strip(b"\0"):
                os.pwrite(target, block, offset)
            offset += len(block)
