"""Disk images that tests share: each is built once in a session, in whatever worker.

A ``conftest.py`` makes the fixture known with ``from tests.disk_images import images``.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import Final

import msgspec
import pytest

from ci.images.catalogue import IMAGES
from ci.images.disk import write_qcow2
from ci.images.inputs import Inputs, debian_inputs
from ci.packages import Part
from mrtd.launch.spec import Disk
from tests.boots import Scenario
from tests.conftest import debian_part, require_tool

DISK_TOOLS: Final = (
    *("mkfs.vfat", "mtools", "sgdisk", "mkfs.ext4", "debugfs", "mksquashfs", "veritysetup"),
    *("qemu-img", "sbsign"),
)


class Images:
    """Builds the images of `ci.images.catalogue`, each once in a session."""

    def __init__(self, folder: Path, inputs: Inputs) -> None:
        self.inputs = inputs
        self._folder = folder

    def __call__(self, name: str) -> Path:
        """The folder with an image's ``disk.raw`` and ``disk.qcow2``, and what else it has."""
        folder = self._folder / name
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / "lock").open("wb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not (folder / "disk.qcow2").exists():
                IMAGES[name].build(self.inputs, folder)
                write_qcow2(folder / "disk.raw", folder / "partial")
                (folder / "partial").rename(folder / "disk.qcow2")
        return folder

    def scenario(
        self, name: str, firmware: Path, *, kind: str = "raw", qemu: Path | None = None
    ) -> Scenario:
        """A machine that boots an image, with its variables and its config disk if it has them."""
        folder = self(name)
        variables = folder / "vars.fd"
        file = {"raw": "disk.raw", "qcow2": "disk.qcow2"}[kind]
        files = [folder / file, *folder.glob("config.raw")]
        disks = [
            {"name": f"disk{n}", "path": str(path), "format": kind if n == 0 else "raw"}
            for n, path in enumerate(files)
        ]
        return Scenario(
            firmware=firmware,
            devices=tuple(f"virtio-blk-pci,drive={disk['name']}" for disk in disks),
            disks=msgspec.convert(disks, tuple[Disk, ...]),
            variables=variables if variables.exists() else None,
            qemu=qemu,
        )


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory) -> Images:
    """Builds disk images once in a session; pytest-xdist's workers share them."""
    for tool in DISK_TOOLS:
        require_tool(tool)

    def parts(names: tuple[str, ...]) -> dict[str, Part]:
        return {name: debian_part(name) for name in names}

    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent
    return Images(folder / "images", debian_inputs(parts))
