"""Archives as systemd-stub makes them: figures of facts C6, and what cpio reads of them."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from mrtd.boot.newc import archive, pad4


def test_an_os_release_as_a_stub_packs_it() -> None:
    """Facts C6: inodes from 1, modes 0555 and 0444, the trailer's name size in capitals."""
    made = archive(".extra", [("os-release", bytes(18))], folder_mode=0o555, file_mode=0o444)
    assert len(made) == 392
    assert made.startswith(b"070701" + b"00000001" + b"0000416d")
    assert b"00008124" in made
    assert made.endswith(b"0000000B" + b"00000000" + b"TRAILER!!!\0\0\0\0")


def test_parents_come_first_and_are_open_to_read() -> None:
    made = archive(".extra/credentials", [("a.cred", b"x")], folder_mode=0o500, file_mode=0o400)
    modes = [made[at + 14 : at + 22] for at in range(len(made)) if made[at : at + 6] == b"070701"]
    assert modes == [b"0000416d", b"00004140", b"00008100", b"00000000"]


@pytest.mark.parametrize("size", range(9))
def test_padding_is_to_four(size: int) -> None:
    assert len(pad4(bytes(size))) == (size + 3) // 4 * 4


def test_cpio_reads_it(tmp_path: Path) -> None:
    program = shutil.which("cpio")
    if program is None:
        pytest.skip("cpio is not installed")
    made = archive(".extra", [("a", b"one"), ("b", b"two")], folder_mode=0o755, file_mode=0o644)
    subprocess.run(
        [program, "-i", "-d", "--quiet"], input=made, cwd=tmp_path, check=True, timeout=60
    )
    assert (tmp_path / ".extra/a").read_bytes() == b"one"
    assert (tmp_path / ".extra/b").read_bytes() == b"two"
