"""Files that images are in: what changes while they are read, and other processes."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import pytest

from mrtd.disk import open_disk
from mrtd.disk.host_file import open_file
from mrtd.errors import MalformedDisk


def test_another_process_opens_the_same_file(tmp_path: Path) -> None:
    path = tmp_path / "disk"
    path.write_bytes(b"x" * 1024)
    with open_disk(path, "raw") as disk:
        sent = pickle.dumps(disk)
        again = pickle.loads(sent)  # noqa: S301 - our own
        assert again.read(0, 4) == b"xxxx"
        os.close(again.file.descriptor)
        path.rename(tmp_path / "old")
        path.write_bytes(b"y" * 1024)
        with pytest.raises(MalformedDisk, match="not the file that it was"):
            pickle.loads(sent)  # noqa: S301
        path.unlink()
        with pytest.raises(MalformedDisk, match="cannot be opened"):
            pickle.loads(sent)  # noqa: S301


def test_a_file_that_is_cut_while_it_is_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "disk"
    path.write_bytes(b"x" * 1024)
    with open_file(path) as file:
        os.truncate(path, 100)
        with pytest.raises(MalformedDisk, match="became shorter"):
            file.read(0, 1024, "disk")


def test_what_the_system_cannot_read_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "disk"
    path.write_bytes(b"x" * 1024)

    def broken(*_: int) -> bytes:
        raise OSError(5, "Input/output error")

    with open_file(path) as file:
        monkeypatch.setattr(os, "pread", broken)
        with pytest.raises(MalformedDisk, match="cannot be read: Input/output error"):
            file.read(0, 1, "disk")


def test_short_reads_are_put_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "disk"
    path.write_bytes(bytes(range(200)))
    pread = os.pread
    with open_file(path) as file:
        monkeypatch.setattr(os, "pread", lambda fd, size, at: pread(fd, min(size, 7), at))
        assert file.read(3, 100, "disk") == bytes(range(3, 103))
