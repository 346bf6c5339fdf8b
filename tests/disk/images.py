"""Disk images that other people's programs make, and a disk in memory."""

from __future__ import annotations

import hashlib
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from mrtd.disk.image import check_range
from tests.conftest import require_tool

MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class MemoryDisk:
    """A disk whose bytes are given."""

    data: bytes
    origin: str = "disk"

    @property
    def size(self) -> int:
        return len(self.data)

    def read(self, offset: int, length: int) -> bytes:
        check_range(self, offset, length)
        return self.data[offset : offset + length]


def run(tool: str, *arguments: str | Path, program: str = "") -> str:
    """Run a program of `ci.system.TOOLS`, or another of its package; what it prints."""
    path = require_tool(tool)
    done = subprocess.run(
        [path.with_name(program) if program else path, *arguments],
        capture_output=True,
        check=False,
        encoding="utf-8",
        stdin=subprocess.DEVNULL,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr + done.stdout
    return done.stdout


def counted_reads(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many bytes each read of a file gives, from now on."""
    sizes: list[int] = []
    pread = os.pread

    def counted(descriptor: int, length: int, offset: int) -> bytes:
        data = pread(descriptor, length, offset)
        sizes.append(len(data))
        return data

    monkeypatch.setattr(os, "pread", counted)
    return sizes


def made_data(size: int) -> bytes:
    """Noise, zeros, noise and text in turn, each 64 KiB long."""
    piece = 1 << 16
    parts = []
    for at in range(0, size, piece):
        noise = hashlib.shake_128(at.to_bytes(8, "big")).digest(piece)
        text = (b"text %d " % at).ljust(64, b".") * (piece // 64)
        parts.append((noise, bytes(piece), noise, text)[at // piece % 4])
    return b"".join(parts)[:size]


@dataclass(frozen=True, slots=True)
class VerityPair:
    """Data with the hash tree that veritysetup makes of them."""

    data: Path
    hashes: Path
    root_hash: str


def verity_pair(folder: Path, data: bytes, *options: str) -> VerityPair:
    """Files with data and hash tree."""
    folder.mkdir(parents=True, exist_ok=True)
    content, tree = folder / "data", folder / "hashes"
    content.write_bytes(data)
    printed = run("veritysetup", "format", *options, content, tree)
    root_hash = next(line for line in printed.splitlines() if line.startswith("Root hash"))
    return VerityPair(content, tree, root_hash.split()[-1])


def squashfs(folder: Path) -> bytes:
    """A file system of a few files."""
    tree = folder / "tree"
    tree.mkdir(parents=True)
    (tree / "noise").write_bytes(made_data(3 * MIB))
    run("mksquashfs", tree, folder / "root.squashfs", "-all-root", "-mkfs-time", "0", "-quiet")
    return (folder / "root.squashfs").read_bytes()


@dataclass(frozen=True, slots=True)
class Piece:
    """A partition: its content, type for sgdisk, name and GUID."""

    data: bytes
    type: str = "8300"
    name: str = ""
    guid: str = "R"


def gpt_image(path: Path, *pieces: Piece) -> Path:
    """A raw disk that sgdisk has partitioned."""
    sizes = [-(-len(piece.data) // MIB) for piece in pieces]
    with path.open("wb") as file:
        file.truncate((sum(sizes) + 2) * MIB)
    options = []
    start = 1
    for number, (piece, size) in enumerate(zip(pieces, sizes, strict=True), 1):
        options += [f"--new={number}:{start * 2048}:{(start + size) * 2048 - 1}"]
        options += [f"--typecode={number}:{piece.type}", f"--change-name={number}:{piece.name}"]
        options += [f"--partition-guid={number}:{piece.guid}"]
        start += size
    run("sgdisk", *options, path)
    at = MIB
    with path.open("r+b") as file:
        for piece, size in zip(pieces, sizes, strict=True):
            file.seek(at)
            file.write(piece.data)
            at += size * MIB
    return path
