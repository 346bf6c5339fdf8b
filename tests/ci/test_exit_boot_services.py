"""The pair "Exit Boot Services Invocation", "... Returned with Failure" of facts/qemu.md 0.6.

Firmware of 2026.08 flushes FAT volumes when boot services are left; where that is a request to a
virtio-blk device, the memory map changes and the call fails once (`mrtd.qemu.exit_flush`). A
kernel given by QEMU does it as well as a UKI; what counts is the machine and its file systems.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from ci.launch import boot_plain
from mrtd.eventlog.tcg2 import read_log
from mrtd.launch.spec import Disk
from mrtd.qemu.exit_flush import flushed_disks
from mrtd.registers import Target
from tests.boots import BOOT_TIMEOUT, Scenario, scenario_spec
from tests.conftest import DebianParts, require_tool
from tests.lab.fat import empty_fat16

pytestmark = pytest.mark.boot

CALLED = b"Exit Boot Services Invocation"
FAILED = b"Exit Boot Services Returned with Failure"
SUCCEEDED = b"Exit Boot Services Returned with Success"
FAT = empty_fat16()
VIRTIO = "virtio-blk-pci,drive=disk0"


@pytest.mark.parametrize(
    ("release", "disk", "device", "fails"),
    [
        ("sid", FAT, VIRTIO, True),
        ("sid", bytes(len(FAT)), VIRTIO, False),
        ("sid", FAT, f"{VIRTIO},write-cache=off,config-wce=off", False),
        ("sid", FAT, "ide-hd,drive=disk0", False),
        ("trixie", FAT, VIRTIO, False),
    ],
    ids=["2026.08, FAT", "no file system", "no write cache", "AHCI", "2025.02, FAT"],
)
def test_a_flush_makes_the_first_call_fail(
    *,
    release: str,
    disk: bytes,
    device: str,
    fails: bool,
    debian: DebianParts,
    initrd: bytes,
    tmp_path: Path,
) -> None:
    require_tool("swtpm")
    (tmp_path / "initrd").write_bytes(initrd)
    image = tmp_path / "disk.img"
    image.write_bytes(disk)
    firmware = {"sid": debian.ovmf_2026_08, "trixie": debian.ovmf_2025_02}[release]
    scenario = Scenario(
        firmware=firmware,
        kernel=debian.kernel_6_12,
        devices=(device,),
        disks=(Disk(name="disk0", path=str(image), format="raw"),),
    )
    spec = scenario_spec(scenario)
    result = boot_plain(spec, folder=tmp_path, timeout=BOOT_TIMEOUT)
    log = read_log(result.log, origin="guest", target=Target.TPM)
    seen = tuple(event.data for event in log if event.data in {CALLED, FAILED, SUCCEEDED})
    assert seen == ((CALLED, FAILED) if fails else ()) + (CALLED, SUCCEEDED)
    if release == "sid":
        assert bool(flushed_disks(spec, {"disk0"} if disk == FAT else set())) is fails
    # the firmware's file is in the overlay
    assert image.read_bytes() == disk
