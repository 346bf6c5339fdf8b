"""Launch specs for the tests of `mrtd.qemu`."""

from __future__ import annotations

from typing import Any

from mrtd.launch.spec import DirectBoot, Firmware, LaunchSpec, Machine, Vmm


def launch(memory: str = "1 GiB", vcpus: int = 1, **machine: Any) -> LaunchSpec:
    """A spec of this machine, whose files do not exist."""
    return LaunchSpec(
        schema="mrtd.launch/1",
        vmm=Vmm(kind="qemu", version="7.2"),
        machine=Machine(memory=memory, vcpus=vcpus, **machine),
        firmware=Firmware(path="OVMF.fd"),
        boot=DirectBoot(kernel="vmlinuz"),
    )
