"""Disk images that other people's programs make, and a disk in memory."""

from __future__ import annotations

import hashlib
import subprocess
from dataclasses import dataclass
from pathlib import Path

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


def made_data(size: int) -> bytes:
    """Noise, zeros, noise and text in turn, each 64 KiB long."""
    piece = 1 << 16
    parts = []
    for at in range(0, size, piece):
        noise = hashlib.shake_128(at.to_bytes(8, "big")).digest(piece)
        text = (b"text %d " % at).ljust(64, b".") * (piece // 64)
        parts.append((noise, bytes(piece), noise, text)[at // piece % 4])
    return b"".join(parts)[:size]
