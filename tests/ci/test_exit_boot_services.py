"""The pair "Exit Boot Services Invocation", "... Returned with Failure" of facts/qemu.md 0.6.

With ``-bios`` OVMF keeps its variables in memory, and saves them to a file NvVars on the first FAT
file system that it can write (OvmfPkg, PlatformBdsRestoreNvVarsFromHardDisk, EmuVariableFvbLib).
With one, ExitBootServices of edk2 202605's build fails once: the memory map is another one by then.
A kernel given by QEMU does it as well as a UKI; what counts is the file system.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from ci.launch import boot_plain
from mrtd.eventlog.tcg2 import read_log
from mrtd.launch.spec import Disk
from mrtd.registers import Target
from tests.boots import BOOT_TIMEOUT, Scenario, scenario_spec
from tests.conftest import DebianParts, require_tool
from tests.lab.fat import empty_fat16

pytestmark = pytest.mark.boot

CALLED = b"Exit Boot Services Invocation"
FAILED = b"Exit Boot Services Returned with Failure"
SUCCEEDED = b"Exit Boot Services Returned with Success"
FAT = empty_fat16()


@pytest.mark.parametrize(
    ("release", "disk", "expected"),
    [
        ("sid", FAT, (CALLED, FAILED, CALLED, SUCCEEDED)),
        ("sid", bytes(len(FAT)), (CALLED, SUCCEEDED)),
        ("trixie", FAT, (CALLED, SUCCEEDED)),
    ],
    ids=["2026.08, FAT", "2026.08, no file system", "2025.02, FAT"],
)
def test_a_file_system_to_write_makes_the_first_call_fail(
    *,
    release: str,
    disk: bytes,
    expected: tuple[bytes, ...],
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
        devices=("virtio-blk-pci,drive=disk0",),
        disks=(Disk(name="disk0", path=str(image), format="raw"),),
    )
    result = boot_plain(scenario_spec(scenario), folder=tmp_path, timeout=BOOT_TIMEOUT)
    log = read_log(result.log, origin="guest", target=Target.TPM)
    seen = tuple(event.data for event in log if event.data in {CALLED, FAILED, SUCCEEDED})
    assert seen == expected
    # the firmware's file is in the overlay
    assert image.read_bytes() == disk
