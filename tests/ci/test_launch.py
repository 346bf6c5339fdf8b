"""The harness against programs that misbehave on purpose: tests/lab/fake_qemu.py, a fake swtpm."""

from __future__ import annotations

import sys
from typing import Any
from unittest.mock import Mock

import pytest

import ci.launch
from ci.errors import LaunchFailed
from ci.launch import BootResult
from ci.outcome import Outcome
from ci.progress import Progress, Stage
from ci.session import Guest
from mrtd.errors import SpecError, ToolFailed, ToolMissing
from mrtd.registers import Sha384
from tests.lab.bench import FILES, GOOD, SLEEP, SPEC, STOP, Bench, payload, shutdown


def test_an_orderly_boot(bench: Bench) -> None:
    result = bench.boot(GOOD | {"serial": "hello\n"})
    assert result.log == b"log"
    assert result.pcrs[23] == Sha384.fromhex(f"{23:096x}")
    assert result.cmdline == "console=ttyS0"
    assert result.serial == "hello\n"
    assert result.qemu_version == "11.1.3"
    assert result.files == FILES
    assert result.arguments[0] == str(bench.qemu)


def test_the_command_line(bench: Bench) -> None:
    line = " ".join(bench.boot(GOOD).arguments)
    assert "-accel tcg" in line
    assert "-machine q35" in line
    assert "-device tpm-crb,tpmdev=tpm0" in line
    assert f"-bios {bench.folder}/OVMF.fd -kernel {bench.folder}/vmlinuz" in line
    assert line.endswith(f"-initrd {bench.folder}/initrd -append console=ttyS0")


def test_code_and_variables_are_joined(bench: Bench) -> None:
    (bench.folder / "VARS.fd").write_bytes(b"vars")
    bench.boot(GOOD, spec=SPEC.replace('path = "OVMF.fd"', 'path = "OVMF.fd"\nvars = "VARS.fd"'))
    assert (bench.bin / "bios").read_bytes() == b"varsOVMF.fd"


RESET = GOOD | {"events": [shutdown("guest-reset")]}
PANIC = "x\n[ 1.0] Kernel panic - not syncing: no init\r\n"
SHORT = b"mrtd.payload/1 2048\nx".hex()
HUGE = b"mrtd.payload/1 9999999999\nx".hex()


@pytest.mark.parametrize(
    ("scenario", "code", "reason"),
    [
        ({"refuses": True, "exit": 1}, Outcome.QEMU_REFUSED, r"did not start \(exit status 1\)"),
        ({"exit": 0}, Outcome.GUEST_ENDED, "ended with no SHUTDOWN event"),
        (
            {"exit": 0, "events": [{"event": "SHUTDOWN"}]},
            Outcome.GUEST_ENDED,
            "ended with an unknown reason",
        ),
        (GOOD | {"events": [shutdown("host-signal")]}, Outcome.GUEST_ENDED, "host-signal"),
        (RESET, Outcome.GUEST_RESET, "ended with guest-reset"),
        (GOOD | {"exit": 4}, Outcome.QEMU_DIED, r"guest-shutdown \(exit status 4\)"),
        (
            {"events": [STOP], "answers": {"query-status": {"status": "internal-error"}}},
            Outcome.EMULATION_FAILED,
            "internal-error",
        ),
        (
            {"events": [{"event": "GUEST_PANICKED", "data": {"action": "pause"}}]},
            Outcome.GUEST_PANICKED,
            "the guest panicked",
        ),
        ({"serial": PANIC}, Outcome.KERNEL_PANIC, "go on: 'Kernel panic - not syncing: no init'"),
        (
            {"serial": "BdsDxe: No bootable option or device was found.\n"},
            Outcome.NOTHING_TO_BOOT,
            "No bootable",
        ),
        (
            {"serial": "Secure boot image verification failed\n"},
            Outcome.IMAGE_REFUSED,
            "verification failed",
        ),
        (GOOD | {"payload": ""}, Outcome.NO_PAYLOAD, "the guest sent no payload"),
        (
            GOOD | {"payload": "", "asks": True},
            Outcome.PAYLOAD_TRUNCATED,
            "greeted and sent no payload",
        ),
        (GOOD | {"payload": SHORT}, Outcome.PAYLOAD_TRUNCATED, "1 bytes where 2048"),
        (GOOD | {"payload": HUGE}, Outcome.PAYLOAD_TOO_LARGE, "1 bytes where 9999999999"),
        (GOOD | {"payload": b"?".hex()}, Outcome.PAYLOAD_MALFORMED, "it starts with"),
        (GOOD | {"payload": payload({})}, Outcome.NO_EVENT_LOG, "event log is missing or empty"),
        (
            GOOD | {"payload": payload(FILES | {"log/binary_bios_measurements": b""})},
            Outcome.NO_EVENT_LOG,
            "event log is missing or empty",
        ),
        (
            GOOD | {"payload": payload(FILES | {"pcr-sha384/7": b"?"})},
            Outcome.PAYLOAD_MALFORMED,
            "pcr-sha384/7: not 96 hex",
        ),
    ],
)
def test_everything_else_is_a_failure(
    bench: Bench, scenario: dict[str, Any], code: Outcome, reason: str
) -> None:
    with pytest.raises(LaunchFailed, match=reason) as failure:
        bench.boot(scenario)
    assert failure.value.code is code
    assert f"[{code}]" in str(failure.value)


@pytest.mark.parametrize("name", sorted(FILES))
def test_a_file_is_missing(name: str) -> None:
    files = {other: body for other, body in FILES.items() if other != name}
    with pytest.raises(LaunchFailed):
        BootResult.of(files, serial=b"", qemu_version="", arguments=())


def test_the_deadline(bench: Bench) -> None:
    # A stop that is no end: somebody else's business, so the deadline decides.
    with pytest.raises(LaunchFailed, match="no end after 3 seconds") as failure:
        bench.boot({"events": [STOP], "stderr": "\x1b[31mwarning\n"}, timeout=3)
    assert "  \\x1b[31mwarning" in str(failure.value)


@pytest.mark.parametrize(
    ("stage", "code"),
    [
        (Stage.PREPARE, Outcome.MONITOR_SILENT),
        (Stage.QEMU, Outcome.MONITOR_SILENT),
        (Stage.MONITOR, Outcome.FIRMWARE_SILENT),
        (Stage.FIRMWARE, Outcome.FIRMWARE_STUCK),
        (Stage.KERNEL, Outcome.NO_PAYLOAD),
        (Stage.AGENT, Outcome.PAYLOAD_TRUNCATED),
        (Stage.PAYLOAD, Outcome.PAYLOAD_TRUNCATED),
    ],
)
def test_the_deadline_says_how_far_it_came(stage: Stage, code: Outcome) -> None:
    progress = Progress()
    progress.reached(stage)
    qemu = Mock(origin="qemu", output=lambda _: "")
    guest = Guest(
        qemu=qemu,
        tpm=None,
        monitor=Mock(),
        serial=Mock(kept=b""),
        payload=Mock(),
        progress=progress,
    )
    failure = guest.overdue(7)
    assert (failure.code, failure.stage) == (code, stage)
    assert f"no end after 7 seconds (stage {stage})" in str(failure)


def test_silent_firmware_is_not_waited_for(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ci.launch, "FIRMWARE_TIMEOUT", 0.5)
    with pytest.raises(LaunchFailed, match=r"nothing on the console after 0\.5 s") as failure:
        bench.boot({})
    assert failure.value.code is Outcome.FIRMWARE_SILENT


def test_firmware_without_a_console_may_be_silent(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ci.launch, "FIRMWARE_TIMEOUT", 0)
    bench.boot(GOOD, spec=SPEC.replace('"isa-serial,chardev=serial",', ""))


def test_a_machine_without_the_port_is_refused(bench: Bench) -> None:
    with pytest.raises(SpecError, match=r"no device is the port org\.mrtd\.payload"):
        bench.boot(GOOD, spec=SPEC.replace("org.mrtd.payload", "org.example"))


def test_qemu_says_nothing(bench: Bench) -> None:
    bench.program("qemu-system-x86_64", f"#!/usr/bin/env python3\n{SLEEP} # {bench.folder}\n")
    with pytest.raises(LaunchFailed, match="no end after 2 seconds") as failure:
        bench.boot({}, timeout=2)
    assert failure.value.code is Outcome.MONITOR_SILENT


def test_stages_are_told_once_and_in_order(bench: Bench) -> None:
    told: list[tuple[Stage, str]] = []
    bench.boot(
        GOOD | {"serial": "BdsDxe\nLinux version 6\n", "asks": True},
        progress=lambda stage, detail: told.append((stage, detail)),
    )
    assert [stage for stage, _ in told] == sorted(
        {stage for stage, _ in told}, key=list(Stage).index
    )
    assert {Stage.PREPARE, Stage.QEMU, Stage.MONITOR, Stage.SHUTDOWN, Stage.DONE} <= dict(
        told
    ).keys()
    assert dict(told)[Stage.MONITOR] == "QEMU 11.1.3"


@pytest.mark.parametrize("name", ["swtpm", "swtpm_setup"])
def test_no_tpm_installed(bench: Bench, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    (bench.bin / name).unlink()
    monkeypatch.setenv("PATH", str(bench.bin))
    with pytest.raises(ToolMissing, match=f"{name} is not installed .*apt-get install swtpm"):
        bench.boot(GOOD)


def test_no_qemu_installed(bench: Bench) -> None:
    bench.qemu.unlink()
    with pytest.raises(ToolMissing, match="qemu-system-x86_64 is not installed"):
        bench.boot(GOOD)


def test_the_tpm_cannot_be_set_up(bench: Bench) -> None:
    bench.program("swtpm_setup", "#!/bin/sh\necho no entropy >&2\nexit 1\n")
    with pytest.raises(ToolFailed, match="swtpm_setup: ended with status 1: no entropy"):
        bench.boot(GOOD)


def test_setting_up_the_tpm_hangs(bench: Bench) -> None:
    bench.program("swtpm_setup", f"#!{sys.executable}\n{SLEEP} # {bench.folder}\n")
    with pytest.raises(ToolFailed, match="swtpm_setup: no end after 1 seconds"):
        bench.boot(GOOD, timeout=1)


@pytest.mark.parametrize("name", ["OVMF.fd", "vmlinuz", "initrd"])
def test_a_file_of_the_spec_is_missing(bench: Bench, name: str) -> None:
    (bench.folder / name).unlink()
    with pytest.raises(SpecError, match=f"{name} is not a file"):
        bench.boot(GOOD)
