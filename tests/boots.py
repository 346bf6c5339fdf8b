"""Real boots that tests share: every scenario boots once in a session, in whatever worker.

A ``conftest.py`` makes the fixture known with ``from tests.boots import boots``.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import msgspec
import pytest

from ci.guest.initramfs import DEFAULT_INIT, build_initramfs
from ci.launch import BootResult, boot_plain
from mrtd.launch.spec import Disk, LaunchSpec
from mrtd.qemu.process import find_qemu, qemu_version
from tests.conftest import DebianParts, require_tool

CHANNEL_DEVICES: Final = (
    "virtio-serial-pci,id=channel",
    "virtserialport,bus=channel.0,chardev=payload,name=org.mrtd.payload",
    "isa-serial,chardev=serial",
)
"""What the harness needs in every machine: the payload's port and the console."""

BOOT_TIMEOUT: Final = 240.0
"""Seconds; less than a test may take, so that a hanging guest fails with its evidence."""

FW_CFG_MODULE: Final = "kernel/drivers/firmware/qemu_fw_cfg.ko.xz"


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """A machine to boot, with defaults for what a test does not care about.

    Attributes:
        firmware: the image for ``-bios``.
        kernel: the bzImage; None: the first of the disks boots.
        memory: as in a launch spec.
        vcpus: number of virtual CPUs.
        cpu: a model that TCG has; a named one has 40 physical address bits everywhere.
        cmdline: the kernel command line.
        options: machine options.
        devices: devices after `CHANNEL_DEVICES`.
        disks: the images that they name.
        has_initrd: whether the kernel is given the measuring initramfs; a UKI has its own.
        initrd: another one instead, with the modules of another kernel.
        variables: a variable store for the front of the firmware.
        qemu: the QEMU program; the installed one by default.
    """

    firmware: Path
    kernel: Path | None = None
    memory: str = "1 GiB"
    vcpus: int = 1
    cpu: str = "qemu64"
    cmdline: str = "console=ttyS0"
    options: Mapping[str, bool | str] = field(default_factory=dict)
    devices: tuple[str, ...] = ()
    disks: tuple[Disk, ...] = ()
    has_initrd: bool = True
    initrd: Path | None = None
    variables: Path | None = None
    qemu: Path | None = None


@dataclass(frozen=True, slots=True)
class Booted:
    """A scenario that was booted.

    Attributes:
        spec: its launch spec; the paths in it are absolute, but for the initrd.
        folder: what the spec's paths are relative to.
        result: what the guest reported.
    """

    spec: LaunchSpec
    folder: Path
    result: BootResult


class _Stored(msgspec.Struct):
    files: dict[str, bytes]
    serial: bytes
    qemu_version: str
    arguments: tuple[str, ...]


class Boots:
    """Boots scenarios, each once in a session."""

    def __init__(self, folder: Path, initrd: bytes) -> None:
        self._folder = folder
        self._initrd = initrd

    def __call__(self, scenario: Scenario) -> Booted:
        """What the scenario's guest reported. Raises what `ci.launch.launch` raises."""
        spec = scenario_spec(scenario)
        about = msgspec.json.encode((spec, str(scenario.qemu)))
        folder = self._folder / hashlib.sha256(about).hexdigest()[:16]
        folder.mkdir(parents=True, exist_ok=True)
        stored = folder / "result.msgpack"
        with (folder / "lock").open("wb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not stored.exists():
                (folder / "initrd").write_bytes(self._initrd)
                self._boot(spec, folder, scenario.qemu, stored)
        found = msgspec.msgpack.decode(stored.read_bytes(), type=_Stored)
        result = BootResult.of(
            found.files,
            serial=found.serial,
            qemu_version=found.qemu_version,
            arguments=found.arguments,
        )
        return Booted(spec, folder, result)

    @staticmethod
    def _boot(spec: LaunchSpec, folder: Path, qemu: Path | None, stored: Path) -> None:
        result = boot_plain(spec, folder=folder, qemu=qemu, timeout=BOOT_TIMEOUT)
        stored.write_bytes(
            msgspec.msgpack.encode(
                _Stored(
                    dict(result.files),
                    result.serial.encode("utf-8", "backslashreplace"),
                    result.qemu_version,
                    result.arguments,
                )
            )
        )


def scenario_spec(scenario: Scenario) -> LaunchSpec:
    """The scenario as a launch spec, with an ``initrd`` beside it."""
    machine = {
        "memory": scenario.memory,
        "vcpus": scenario.vcpus,
        "cpu": scenario.cpu,
        "options": dict(scenario.options),
        "devices": [*CHANNEL_DEVICES, *scenario.devices],
    }
    boot: dict[str, object] = {"kind": "direct", "kernel": str(scenario.kernel)}
    boot |= {"initrd": str(scenario.initrd or "initrd")} if scenario.has_initrd else {}
    boot["cmdline"] = scenario.cmdline
    if scenario.kernel is None:
        boot = {"kind": "disk", "disk": scenario.disks[0].name}
    firmware = {"path": str(scenario.firmware)}
    if scenario.variables is not None:
        firmware["vars"] = str(scenario.variables)
    document = {
        "schema": "mrtd.launch/1",
        "vmm": {"kind": "qemu", "version": qemu_version(find_qemu(scenario.qemu))},
        "machine": machine,
        "firmware": firmware,
        "boot": boot,
        "disks": scenario.disks,
    }
    return msgspec.convert(document, LaunchSpec, from_attributes=True)


@pytest.fixture(scope="session")
def initrd(debian: DebianParts) -> bytes:
    """The measuring guest's initramfs, with the module that shows it fw_cfg."""
    module = debian.kernel_modules / FW_CFG_MODULE
    return build_initramfs(
        busybox=debian.busybox.read_bytes(),
        init=DEFAULT_INIT.read_bytes(),
        modules={module.name: module.read_bytes()},
    )


@pytest.fixture(scope="session")
def boots(tmp_path_factory: pytest.TempPathFactory, initrd: bytes) -> Boots:
    """Boots scenarios once in a session; pytest-xdist's workers share the results."""
    require_tool("swtpm")
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent
    return Boots(folder / "boots", initrd)
