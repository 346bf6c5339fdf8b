"""Speed of checking a dm-verity root, as a ratio to sha256sum of the same data in the same run.

``python -m benchmarks.disk [MIB]`` makes data of so many MiB (default: 512) and their hash tree,
and prints: the throughput of a check with one process, and with one for each core, against
one ``sha256sum`` for each of them; and for hashlib alone, which tells how much of the difference
is the program and how much its SHA-256. Nothing here is a test: a busy machine is no bug.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from mrtd.disk import open_disk
from mrtd.disk.verity import VerityTable
from mrtd.disk.verity_tree import VerityTree, verify_tree

_MIB: Final = 1 << 20
_BLOCK: Final = 4096
_ROUNDS: Final = 3
_BOUND: Final = 0.8
_SALT: Final = bytes(range(32))


def build_tree(data: Path) -> tuple[bytes, bytes]:
    """The hash tree over a file, level by level from the root, and the root hash."""

    def digests(content: bytes) -> bytes:
        return b"".join(
            hashlib.sha256(_SALT + content[at : at + _BLOCK]).digest()
            for at in range(0, len(content), _BLOCK)
        )

    with data.open("rb") as file:
        level = b"".join(digests(piece) for piece in iter(lambda: file.read(64 * _MIB), b""))
    levels = []
    while len(level) > 32:
        levels.append(level.ljust(-(-len(level) // _BLOCK) * _BLOCK, b"\0"))
        level = digests(levels[-1])
    return b"".join(reversed(levels)), level


def best(action: Callable[[], object]) -> float:
    """The shortest of some runs, in seconds: what else the machine did disturbs it least."""
    times = []
    for _ in range(_ROUNDS):
        start = time.perf_counter()
        action()
        times.append(time.perf_counter() - start)
    return min(times)


def check(data: Path, tree: Path, root: bytes, workers: int) -> None:
    """One check of all of it."""
    table = VerityTable("sha256", _BLOCK, _BLOCK, data.stat().st_size // _BLOCK, 0, _SALT)
    with open_disk(data, "raw") as content, open_disk(tree, "raw") as hashes:
        if verify_tree(VerityTree(content, hashes, table), root, workers=workers) is not None:
            raise SystemExit("the tree does not fit")


def sum_files(data: Path, count: int) -> None:
    """So many runs of sha256sum at once."""
    running = [
        subprocess.Popen(["sha256sum", data], stdout=subprocess.DEVNULL) for _ in range(count)
    ]
    if any(process.wait() for process in running):
        raise SystemExit("sha256sum failed")


def hash_file(data: Path) -> None:
    """What hashing takes without any tree."""
    with data.open("rb") as file:
        hashlib.file_digest(file, "sha256")


def main(arguments: list[str]) -> int:
    """Run all of it; the exit code."""
    size = (int(arguments[0]) if arguments else 512) * _MIB
    cores = len(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory() as folder:
        data, tree = Path(folder, "data"), Path(folder, "tree")
        with data.open("wb") as file:
            for _ in range(size // _MIB):
                file.write(os.urandom(_MIB))
        content, root = build_tree(data)
        tree.write_bytes(content)
        alone = size / _MIB / best(lambda: hash_file(data))
        for workers in sorted({1, cores}):
            rate = size / _MIB / best(lambda n=workers: check(data, tree, root, n))  # type: ignore[misc]
            floor = workers * size / _MIB / best(lambda n=workers: sum_files(data, n))  # type: ignore[misc]
            verdict = "within" if rate >= _BOUND * floor else "UNDER"
            print(
                f"disk: dm-verity, processes: {workers}: {rate:.0f} MiB/s, as many sha256sum: "
                f"{floor:.0f} MiB/s, ratio {rate / floor:.2f}, {verdict} the bound of {_BOUND}; "
                f"to hashlib on so many cores {rate / workers / alone:.2f}"
            )
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
