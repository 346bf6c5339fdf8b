"""The blobs of a dump are those that booted firmware has read.

The firmware runs under TCG with qtest beside it; once it has said on the serial port that it
boots, its registers hold what it chose and the tables are built. Without this a dump could only be
compared with itself.
"""

from __future__ import annotations

import contextlib
import socket
import time
from pathlib import Path
from typing import Any

import pytest

from mrtd.launch.spec import LaunchSpec
from mrtd.qemu.argv import machine_arguments
from mrtd.qemu.devices import stand_ins
from mrtd.qemu.fw_cfg import dump
from mrtd.qemu.items import read_directory, read_item
from mrtd.qemu.pci import Mmio64Rule
from mrtd.qemu.process import running
from mrtd.qemu.qtest import Qtest
from mrtd.registers import Target
from tests.conftest import DebianParts, require_tool
from tests.qemu.machines import launch

pytestmark = pytest.mark.boot

CURRENT = (0xE0000000, Mmio64Rule())
BY_2022 = (0xB0000000, Mmio64Rule(max_phys_bits=47, avoids_reserved=False))
SERIAL = "isa-serial,chardev=console"
PORT = "pcie-root-port,id=port1,chassis=1"
PORT2 = "pcie-root-port,id=port2,chassis=2"
NET = "virtio-net-pci,netdev=net0"


def booted(spec: LaunchSpec, *, binary: Path, firmware: Path, names: list[str]) -> dict[str, bytes]:
    """The files that fw_cfg has once the firmware of this launch boots something."""
    deadline = time.monotonic() + 200
    with contextlib.ExitStack() as stack:
        ours, theirs = socket.socketpair()
        stack.callback(ours.close)
        stack.callback(theirs.close)
        backends = ["file,id=console,path=serial" if "id=console" in text else text
                    for text in stand_ins(spec)]  # fmt: skip
        argv = [
            str(binary),
            *machine_arguments(spec, target=Target.CC, dump=True),
            *backends,
            *("-display", "none", "-accel", "tcg", "-bios", str(firmware), "-kernel", "kernel"),
            *("-chardev", f"socket,id=qtest,fd={theirs.fileno()}"),
            *("-qtest", "chardev:qtest", "-qtest-log", "none"),
        ]
        files = {"kernel": bytes(1 << 13), "serial": b""}
        process = stack.enter_context(running(argv, pass_fds=[theirs.fileno()], files=files))
        theirs.close()
        while b"BdsDxe" not in (process.folder / "serial").read_bytes():
            if process.exited():
                raise process.failure("ended")
            assert time.monotonic() < deadline, "the firmware did not get to boot"
            time.sleep(0.1)
        qtest = Qtest(ours, process, deadline=deadline)
        entries = read_directory(qtest)
        return {name: read_item(qtest, entries[name].key, entries[name].size) for name in names}


SCENARIOS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "no 64-bit BAR": ("ovmf_2025_02", "installed", {}),
    "two BARs": ("ovmf_2025_02", "installed", {"devices": (NET, "virtio-blk-pci,drive=d")}),
    "AMD hole": ("ovmf_2025_02", "installed", {"cpu": "qemu64", "devices": (NET,)}),
    "AMD hole, 2022.11": ("ovmf_2022_11", "installed", {"cpu": "qemu64", "devices": (NET,)}),
    "52 bits": ("ovmf_2025_02", "installed", {"phys_bits": 52, "devices": (NET,)}),
    "52 bits, 2022.11": ("ovmf_2022_11", "installed", {"phys_bits": 52, "devices": (NET,)}),
    "width not trusted": (
        "ovmf_2026_08", "installed", {"phys_bits": 40, "memory": "5 GiB", "devices": (NET,)},
    ),
    "hotplug ports": (
        "ovmf_2026_08",
        "installed",
        {"devices": (PORT, PORT2, f"{NET},bus=port1", "qemu-xhci")},
    ),
    "hotplug port, QEMU 11": ("ovmf_2026_08", "backports", {"devices": (PORT, PORT2, NET)}),
    "port without hotplug": (
        "ovmf_2025_02",
        "installed",
        {"devices": (f"{PORT},hotplug=off", "virtio-vga,bus=port1")},
    ),
    "non-prefetchable": (
        "ovmf_2025_02", "installed", {"devices": (f"{PORT},hotplug=off", "qemu-xhci,bus=port1")},
    ),
    "reservation hint": ("ovmf_2025_02", "installed", {"devices": (f"{PORT},pref64-reserve=8M",)}),
    "large BAR, QEMU 11": (
        "ovmf_2026_08", "backports", {"devices": (PORT, "virtio-gpu-pci,hostmem=64G,bus=port1")},
    ),
    "PCI bridge": (
        "ovmf_2025_02", "installed", {"devices": ("pcie-pci-bridge,id=b", f"{NET},bus=b,addr=1")},
    ),
    "switch": (
        "ovmf_2025_02",
        "installed",
        {
            "vcpus": 4,
            "options": {"hpet": False},
            "devices": (
                PORT,
                "x3130-upstream,id=up,bus=port1",
                "xio3130-downstream,id=down1,bus=up,chassis=5",
                "xio3130-downstream,id=down2,bus=up,chassis=6,slot=1",
                f"{NET},bus=down2",
            ),
        },
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", SCENARIOS)
def test_dumped_blobs_are_those_of_the_booted_machine(name: str, debian: DebianParts) -> None:
    part, which, machine = SCENARIOS[name]
    firmware: Path = getattr(debian, part)
    binary = debian.qemu_11 if which == "backports" else require_tool("qemu")
    if "cpu" not in machine:
        machine = {"phys_bits": 46, **machine}
    machine = {**machine, "devices": (SERIAL, *machine.get("devices", ()))}
    spec = launch(**machine)
    ecam_base, rule = BY_2022 if part == "ovmf_2022_11" else CURRENT
    expected = dump(spec, binary=binary, target=Target.CC, ecam_base=ecam_base, mmio64=rule).files
    found = booted(spec, binary=binary, firmware=firmware, names=list(expected))
    assert [blob for blob in expected if expected[blob] != found[blob]] == []
