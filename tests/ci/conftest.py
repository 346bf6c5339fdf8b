"""Fixtures of the harness's tests."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.boots import boots, initrd
from tests.disk_images import images
from tests.lab.bench import Bench, processes_about

__all__ = ["bench", "boots", "images", "initrd"]


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    """A bench, and the check that a launch left nothing of itself behind."""
    bench = Bench(tmp_path)
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    monkeypatch.setenv("PATH", f"{bench.bin}{os.pathsep}{os.environ['PATH']}")
    descriptors = len(list(Path("/proc/self/fd").iterdir()))
    yield bench
    assert not list(temporary.iterdir())
    assert not processes_about(str(tmp_path))
    assert len(list(Path("/proc/self/fd").iterdir())) == descriptors
