"""Real guests and the real firmware: what only they can show of the harness."""

from __future__ import annotations

import asyncio
import hashlib
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest

from ci.errors import LaunchFailed
from ci.guest.initramfs import DEFAULT_INIT, build_initramfs
from ci.launch import AUTO, boot_plain, launch
from ci.outcome import Outcome
from ci.progress import Stage
from fixtures.bzimage import build_bzimage
from mrtd.eventlog import replay
from mrtd.eventlog.tcg2 import read_log
from mrtd.launch.spec import Disk
from mrtd.registers import Target
from tests.boots import BOOT_TIMEOUT, Boots, Scenario, scenario_spec
from tests.conftest import DebianParts, require_tool
from tests.lab.bench import processes_about

pytestmark = pytest.mark.boot

REPORT_DATA = bytes(range(0x80, 0xC0))
DISK_DEVICE = "virtio-blk-pci,drive=disk0"
WRITES = """\
insmod /modules/virtio_blk.ko
echo "disk before: $(head -c 9 /dev/vda)"
echo overwritten > /dev/vda && sync
echo "disk after: $(head -c 11 /dev/vda)"
poweroff -f
"""
MOUNTS = """\
#!/bin/busybox sh
PATH=/bin
/bin/busybox mkdir -p /proc /sys /dev
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t devtmpfs devtmpfs /dev
"""


@pytest.fixture
def scenario(debian: DebianParts) -> Scenario:
    require_tool("swtpm")
    return Scenario(firmware=debian.ovmf_2025_02, kernel=debian.kernel_6_12)


def test_report_data_reach_the_guest_and_move_no_register(
    boots: Boots, scenario: Scenario, tmp_path: Path, initrd: bytes
) -> None:
    """The same machine, asked and not asked, with KVM where that runs it."""
    plain = boots(scenario).result
    (tmp_path / "initrd").write_bytes(initrd)
    told: list[tuple[Stage, str]] = []
    result = boot_plain(
        scenario_spec(scenario),
        folder=tmp_path,
        timeout=BOOT_TIMEOUT,
        accel=AUTO,
        report_data=REPORT_DATA,
        progress=lambda stage, detail: told.append((stage, detail)),
    )
    assert result.files["tdx/report_data"] == REPORT_DATA
    assert "tdx/report_data" not in plain.files
    if result.accel == "tcg":
        assert any(detail == f"{result.accel_note}; TCG instead" for _, detail in told)
        registers = [
            replay(read_log(log, origin="guest", target=Target.TPM))
            for log in (plain.log, result.log)
        ]
        assert registers[0] == registers[1]
    stages = [stage for stage, detail in told if "TCG instead" not in detail]
    assert list(dict.fromkeys(stages[-len(Stage) :])) == list(Stage)


def test_an_image_is_not_written(scenario: Scenario, debian: DebianParts, tmp_path: Path) -> None:
    """A guest that overwrites its disk sees it overwritten; the file is as it was."""
    module = debian.kernel_modules / "kernel/drivers/block/virtio_blk.ko.xz"
    init = MOUNTS + WRITES
    initramfs = build_initramfs(
        busybox=debian.busybox.read_bytes(),
        init=init.encode(),
        modules={module.name: module.read_bytes()},
    )
    (tmp_path / "initrd").write_bytes(initramfs)
    disk = tmp_path / "disk.img"
    disk.write_bytes(b"untouched".ljust(1 << 20, b"\0"))
    before = hashlib.sha256(disk.read_bytes()).digest()
    files = sorted(tmp_path.iterdir())
    image = Disk(name="disk0", path="disk.img", format="raw")
    spec = scenario_spec(replace(scenario, devices=(DISK_DEVICE,), disks=(image,)))
    with pytest.raises(LaunchFailed) as failure:
        boot_plain(spec, folder=tmp_path, timeout=BOOT_TIMEOUT)
    assert failure.value.code is Outcome.NO_PAYLOAD
    said = "\n".join(failure.value.evidence["serial"])
    assert "disk before: untouched" in said
    assert "disk after: overwritten" in said
    assert hashlib.sha256(disk.read_bytes()).digest() == before
    assert sorted(tmp_path.iterdir()) == files


def broken_pe(kernel: bytes) -> bytes:
    """A kernel without the PE signature: QEMU takes it, and no firmware can start it."""
    offset = int.from_bytes(kernel[0x3C:0x40], "little")
    return kernel[:offset] + b"NOPE" + kernel[offset + 4 :]


@pytest.mark.parametrize(
    ("kernel", "code"),
    [
        (broken_pe(build_bzimage()), Outcome.NOTHING_TO_BOOT),
        (build_bzimage(), Outcome.FIRMWARE_CRASHED),  # its code is no code
    ],
    ids=["nothing to boot", "crash"],
)
def test_a_kernel_that_is_none(
    scenario: Scenario, tmp_path: Path, kernel: bytes, code: Outcome
) -> None:
    (tmp_path / "vmlinuz").write_bytes(kernel)
    (tmp_path / "initrd").write_bytes(b"")
    spec = scenario_spec(replace(scenario, kernel=tmp_path / "vmlinuz"))
    with pytest.raises(LaunchFailed) as failure:
        boot_plain(spec, folder=tmp_path, timeout=BOOT_TIMEOUT)
    assert failure.value.code is code


def test_firmware_refuses_an_unsigned_kernel(
    scenario: Scenario, debian: DebianParts, tmp_path: Path
) -> None:
    (tmp_path / "initrd").write_bytes(b"")
    spec = scenario_spec(replace(scenario, firmware=debian.inteltdx_2026_08))
    with pytest.raises(LaunchFailed) as failure:
        boot_plain(spec, folder=tmp_path, timeout=BOOT_TIMEOUT)
    assert failure.value.code is Outcome.IMAGE_REFUSED


def test_two_guests_at_once(
    scenario: Scenario, debian: DebianParts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They differ in their command lines, and each answers for itself."""
    initramfs = build_initramfs(busybox=debian.busybox.read_bytes(), init=DEFAULT_INIT.read_bytes())
    (tmp_path / "initrd").write_bytes(initramfs)
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    lines = [f"console=ttyS0 number={number}" for number in range(2)]
    specs = [scenario_spec(replace(scenario, cmdline=line)) for line in lines]

    async def both() -> list[str]:
        boots = [launch(spec, folder=tmp_path, timeout=BOOT_TIMEOUT) for spec in specs]
        return [result.cmdline for result in await asyncio.gather(*boots)]

    assert asyncio.run(both()) == [f"{line} initrd=initrd" for line in lines]
    assert list((tmp_path / "tmp").iterdir()) == []
    assert processes_about(str(tmp_path)) == []
