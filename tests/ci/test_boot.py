"""Real guests: one that reports, and those that fail in ways only a real guest can."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from ci.errors import LaunchFailed
from ci.guest.initramfs import build_initramfs
from ci.launch import boot_plain
from ci.outcome import Outcome
from mrtd.eventlog import replay, type_name
from mrtd.eventlog.tcg2 import read_log
from mrtd.registers import ZERO, Exact, RegisterName, Sha384, Target
from tests.boots import BOOT_TIMEOUT, Boots, Scenario, scenario_spec
from tests.conftest import DebianParts, require_tool

pytestmark = pytest.mark.boot

# IMA extends PCR 10 after the firmware's log has ended.
LOGGED_PCRS = [*range(10), *range(11, 16)]


@pytest.fixture(scope="session")
def scenario(debian: DebianParts) -> Scenario:
    return Scenario(firmware=debian.ovmf_2025_02, kernel=debian.kernel_6_12)


def test_the_log_replays_to_the_pcrs(boots: Boots, scenario: Scenario) -> None:
    result = boots(scenario).result
    log = read_log(result.log, origin="guest", target=Target.TPM)
    values = replay(log)
    for index in LOGGED_PCRS:
        expected = values.get(RegisterName(f"pcr{index}"), Exact(ZERO))
        assert Exact(result.pcrs[index]) == expected, f"PCR {index}"


def test_the_guest_reports_what_it_saw(boots: Boots, scenario: Scenario) -> None:
    booted = boots(scenario)
    files = booted.result.files
    assert booted.result.cmdline == "console=ttyS0 initrd=initrd"
    assert "mrtd: payload sent" in booted.result.serial
    assert booted.result.qemu_version == booted.spec.vmm.version
    assert len(files["dmi/DMI"]) > 100
    # The firmware measured these very files (ACPI DATA events of PCR 1).
    log = read_log(booted.result.log, origin="guest", target=Target.TPM)
    measured = [event.digest for event in log if event.description == "ACPI DATA"]
    names = ("etc/table-loader", "etc/acpi/rsdp", "etc/tpm/log", "etc/acpi/tables")
    assert measured == [Sha384.of(files[f"fw_cfg/{name}"]) for name in names]


def test_the_initrd_is_measured(boots: Boots, scenario: Scenario, initrd: bytes) -> None:
    result = boots(scenario).result
    log = read_log(result.log, origin="guest", target=Target.TPM)
    assert Sha384.of(initrd) in [event.digest for event in log]


def test_a_scenario_boots_once(boots: Boots, scenario: Scenario) -> None:
    first = boots(scenario)
    before = (first.folder / "result.msgpack").stat()
    assert boots(scenario) == first
    assert (first.folder / "result.msgpack").stat().st_mtime_ns == before.st_mtime_ns


CUT_OFF = """\
mkdir -p /dev
mount -t devtmpfs dev /dev
echo mrtd.payload/1 9999 > /dev/vport0p1
poweroff -f
"""


@pytest.mark.parametrize(
    ("script", "code", "reason"),
    [
        ("exit 1", Outcome.KERNEL_PANIC, "go on: .*Kernel panic - not syncing"),
        ("reboot -f", Outcome.GUEST_RESET, "ended with guest-reset"),
        ("poweroff -f", Outcome.NO_PAYLOAD, "the guest sent no payload"),
        (CUT_OFF, Outcome.PAYLOAD_TRUNCATED, "payload cannot be used: 0 bytes where 9999"),
    ],
    ids=["panic", "reset", "nothing sent", "cut off"],
)
def test_a_failing_guest(
    *,
    script: str,
    code: Outcome,
    reason: str,
    scenario: Scenario,
    debian: DebianParts,
    tmp_path: Path,
) -> None:
    require_tool("swtpm")
    init = f"#!/bin/busybox sh\nPATH=/bin\n/bin/busybox --install -s /bin\n{script}\n"
    initramfs = build_initramfs(busybox=debian.busybox.read_bytes(), init=init.encode())
    (tmp_path / "initrd").write_bytes(initramfs)
    with pytest.raises(LaunchFailed, match=reason) as failure:
        boot_plain(scenario_spec(scenario), folder=tmp_path, timeout=BOOT_TIMEOUT)
    assert failure.value.code is code
    assert failure.value.evidence["serial"]
    assert str(failure.value).replace("\n", "").isprintable()


def test_firmware_of_zeros_meets_the_deadline(debian: DebianParts, tmp_path: Path) -> None:
    require_tool("swtpm")
    (tmp_path / "zeros.fd").write_bytes(bytes(debian.ovmf_2025_02.stat().st_size))
    (tmp_path / "initrd").write_bytes(b"")
    scenario = Scenario(firmware=tmp_path / "zeros.fd", kernel=debian.kernel_6_12)
    with pytest.raises(LaunchFailed, match="no end after 3 seconds") as failure:
        boot_plain(scenario_spec(scenario), folder=tmp_path, timeout=3)
    assert failure.value.code is Outcome.FIRMWARE_SILENT


def test_qemu_refuses_a_device(debian: DebianParts, tmp_path: Path) -> None:
    require_tool("swtpm")
    (tmp_path / "initrd").write_bytes(b"")
    scenario = Scenario(
        firmware=debian.ovmf_2025_02, kernel=debian.kernel_6_12, devices=("no-such-device",)
    )
    with pytest.raises(LaunchFailed, match=r"QEMU did not start \(exit status 1\)") as failure:
        boot_plain(scenario_spec(scenario), folder=tmp_path, timeout=BOOT_TIMEOUT)
    assert failure.value.code is Outcome.QEMU_REFUSED
    (line,) = failure.value.evidence["qemu-system-x86_64"]
    assert "'no-such-device' is not a valid device model name" in line


def test_tpm2_tools_read_the_same_events(boots: Boots, scenario: Scenario, tmp_path: Path) -> None:
    program = require_tool("tpm2")
    booted = boots(scenario)
    path = tmp_path / "log"
    path.write_bytes(booted.result.log)
    printed = subprocess.run([program, path], check=True, capture_output=True, text=True).stdout
    theirs = re.findall(
        r"PCRIndex: (\d+)\n  EventType: (\w+)\n  DigestCount: 2\n  Digests:\n"
        r"  - AlgorithmId: sha256\n.*\n  - AlgorithmId: sha384\n    Digest: \"(\w+)\"",
        printed,
    )
    log = read_log(booted.result.log, origin="guest", target=Target.TPM)
    # The first one is the Spec ID event, which has a SHA-1 digest only.
    ours = [
        (event.register.removeprefix("pcr"), type_name(event.type), str(event.digest))
        for event in log[1:]
    ]
    assert ours == theirs
