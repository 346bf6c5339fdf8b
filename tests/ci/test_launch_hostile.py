"""Guests, and QEMUs, that mean harm: typed errors, bounded memory, nothing left behind."""

from __future__ import annotations

import asyncio
import io
import os
import resource
import tarfile
from typing import Any

import pytest

import ci.agent
import ci.session
from ci.errors import LaunchFailed
from ci.launch import BootResult, launch
from ci.outcome import Outcome
from ci.payload import read_payload
from tests.lab.bench import FILES, GOOD, SPEC, Bench, payload, spec_of

MIB = 1 << 20
HUGE_MEMBER = 10 << 30
DIES = "import atexit, os; atexit.register(os.kill, os.getpid(), 9); run_guest("


def raw(data: bytes, **more: Any) -> dict[str, Any]:
    return {"raw": data.hex(), **more}


@pytest.mark.parametrize(
    ("scenario", "reason"),
    [
        ({"greeting": "hello"}, "QEMU's monitor cannot be used"),
        ({"greeting": {"QMP": {}}}, "QEMU's monitor cannot be used: ConnectError: .*Greeting"),
        ({"answers": {"query-version": None}, "hangs_up": True}, "QEMU's monitor failed"),
        ({"hangs_up": True}, "QEMU's monitor failed: EOFError"),
        (raw(b'{"event": "SHUT', hangs_up=True), "QEMU's monitor failed: DeserializationError"),
        (raw(b"\x1b[31m garbage\r\n"), "QEMU's monitor failed: DeserializationError"),
        (raw(b"[1, 2]\r\n"), "QEMU's monitor failed: UnexpectedTypeError"),
        (raw(b"\xff\xfe\r\n"), "QEMU's monitor failed: DeserializationError"),
        (raw(b"[" * MIB + b"\r\n"), "QEMU's monitor failed: RecursionError"),
        ({"floods": "qmp"}, "QEMU's monitor failed: ValueError"),
    ],
    ids=["no greeting", "half a one", "none", "gone", "cut", "garbage", "array", "bytes", "deep",
         "endless line"],
)  # fmt: skip
def test_a_monitor_that_is_none(
    bench: Bench, scenario: dict[str, Any], reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ci.session, "_GRACE_SECONDS", 0.2)
    monkeypatch.setattr(ci.session, "_DYING_SECONDS", 0.2)
    with pytest.raises(LaunchFailed, match=reason) as failure:
        bench.boot(scenario)
    assert failure.value.code is Outcome.MONITOR_FAILED
    assert failure.value.reason.isprintable()


def test_qemu_is_killed_while_its_guest_runs(bench: Bench) -> None:
    fake = bench.qemu.read_text(encoding="utf-8")
    bench.program(
        "qemu-system-x86_64", fake.replace("            run_guest(", f"            {DIES}")
    )
    with pytest.raises(LaunchFailed, match=r"exit status -9") as failure:
        bench.boot({"raw": b'{"event": "SHUT'.hex(), "exit": 0})
    assert failure.value.code is Outcome.QEMU_DIED


def test_a_payload_without_end(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is given up as soon as it is too long, not at the deadline."""
    monkeypatch.setattr(ci.agent, "_KEPT", MIB)
    with pytest.raises(LaunchFailed, match="too many for a payload, and goes on") as failure:
        bench.boot({"floods": "payload", "asks": True}, timeout=120)
    assert failure.value.code is Outcome.PAYLOAD_TOO_LARGE


def test_a_console_without_end_is_not_kept(bench: Bench) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(LaunchFailed, match="no end after 2 seconds") as failure:
        bench.boot({"floods": "serial"}, timeout=2)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before  # KiB
    assert grown < 64 * 1024
    assert failure.value.code is Outcome.FIRMWARE_STUCK


def test_escape_sequences_do_not_reach_a_terminal(bench: Bench) -> None:
    serial = "\x1b]0;owned\x07\x1b[2J\x9b31m\u202eevil\r\nKernel panic - not syncing: \x1b[1m\n"
    with pytest.raises(LaunchFailed) as failure:
        bench.boot({"serial": serial})
    assert failure.value.code is Outcome.KERNEL_PANIC
    assert all(line.isprintable() for line in str(failure.value).splitlines())
    assert "\\x1b]0;owned\\x07" in str(failure.value)


def tar_of(size: int, name: str = "log/CCEL", kind: bytes = tarfile.REGTYPE) -> bytes:
    """A member that announces a size, and has one block."""
    member = tarfile.TarInfo(name)
    member.size, member.type, member.linkname = size, kind, "/etc/shadow"
    member.devmajor, member.devminor = 1, 3
    archive = member.tobuf(tarfile.GNU_FORMAT) + bytes(512 * 3)
    return b"mrtd.payload/1 %d\n" % len(archive) + archive


@pytest.mark.parametrize(
    "sent",
    [
        tar_of(HUGE_MEMBER),
        tar_of(1 << 62),
        tar_of(8, "/etc/passwd"),
        tar_of(8, "../../up"),
        tar_of(0, kind=tarfile.SYMTYPE),
        tar_of(0, kind=tarfile.LNKTYPE),
        tar_of(0, kind=tarfile.CHRTYPE),
        tar_of(0, kind=tarfile.BLKTYPE),
        tar_of(0, kind=tarfile.FIFOTYPE),
        tar_of(8, kind=tarfile.GNUTYPE_SPARSE),
        tar_of(HUGE_MEMBER, kind=tarfile.GNUTYPE_LONGNAME),
        tar_of(HUGE_MEMBER, kind=tarfile.XHDTYPE),
    ],
)
def test_a_tar_archive_that_means_harm(bench: Bench, sent: bytes) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(LaunchFailed) as failure:
        bench.boot(GOOD | {"payload": sent.hex()})
    assert failure.value.code is Outcome.PAYLOAD_MALFORMED
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 * 1024
    assert not (bench.folder.parent / "up").exists()


def test_a_payload_of_many_small_members_is_bounded() -> None:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        for index in range(4097):
            tar.addfile(tarfile.TarInfo(f"f{index}"))
    body = stream.getvalue()
    with pytest.raises(LaunchFailed, match="more than 4096 members"):
        read_payload(b"mrtd.payload/1 %d\n" % len(body) + body)


def test_launches_in_parallel_do_not_meet(bench: Bench) -> None:
    """Each gets its own guest's answer, in one event loop."""
    benches = [Bench(bench.folder / str(number)) for number in range(6)]
    for number, one in enumerate(benches):
        files = FILES | {"log/binary_bios_measurements": b"log %d" % number}
        one.scenario(GOOD | {"payload": payload(files), "serial": f"console {number}\n"})

    async def all_of_them() -> list[BootResult]:
        boots = [launch(spec_of(SPEC), folder=one.folder, qemu=one.qemu) for one in benches]
        return await asyncio.gather(*boots)

    results = asyncio.run(all_of_them())
    assert [result.log for result in results] == [b"log %d" % number for number in range(6)]
    assert [result.serial for result in results] == [f"console {n}\n" for n in range(6)]
    folders = {result.arguments[result.arguments.index("-bios") + 1] for result in results}
    assert len(folders) == len(benches)


def test_a_disk_is_never_written_by_its_name(bench: Bench) -> None:
    """QEMU gets it below an overlay; a real guest tries to write in test_launch_real.py.

    What it is says the spec: a guest can make a raw disk look like qcow2.
    """
    disk = bench.folder / "a, b.img"
    disk.write_bytes(b"QFI\xfb rest")
    spec = SPEC.replace('"isa-serial', '"virtio-blk-pci,drive=disk0", "isa-serial')
    listed = f'{spec}\n[[disks]]\nname = "disk0"\npath = "{disk.name}"\nformat = "raw"\n'
    result = bench.boot(GOOD, spec=listed)
    file = str(disk).replace(",", ",,")
    drive = f"if=none,id=disk0,file={file},format=raw,snapshot=on"
    assert drive in result.arguments
    # without an image, something inert takes its place
    assert "node-name=disk0" in " ".join(bench.boot(GOOD, spec=spec).arguments)


def test_a_helper_that_outlives_nobody(bench: Bench) -> None:
    """The janitor of an orderly launch ends with it, and removes nothing."""
    kept = bench.folder / "kept"
    kept.touch()
    bench.boot(GOOD)
    assert kept.exists()
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)
