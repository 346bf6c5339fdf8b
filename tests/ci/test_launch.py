"""The harness against programs that misbehave on purpose: fake_qemu.py and a fake swtpm."""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest

import ci.agent
import ci.session
from ci.errors import LaunchFailed
from ci.launch import BootResult, boot_plain
from mrtd.errors import SpecError, ToolFailed, ToolMissing
from mrtd.launch.spec import LaunchSpec, read_spec
from mrtd.registers import Sha384
from tests.conftest import unavailable

ROOT = Path(__file__).resolve().parents[2]
SPEC = """
schema = "mrtd.launch/1"
[vmm]
kind = "qemu"
version = "10.1"
[machine]
memory = "1 GiB"
vcpus = 1
cpu = "qemu64"
devices = [
  "virtio-serial-pci,id=channel",
  "virtserialport,bus=channel.0,chardev=payload,name=org.mrtd.payload",
  "isa-serial,chardev=serial",
]
[firmware]
path = "OVMF.fd"
[boot]
kind = "direct"
kernel = "vmlinuz"
initrd = "initrd"
cmdline = "console=ttyS0"
"""
GREETING = {"QMP": {"version": {"qemu": {}, "package": ""}, "capabilities": []}}
RUNS = {
    "greeting": GREETING,
    "version": {"qemu": {"major": 10, "minor": 1, "micro": 2}, "package": ""},
}
SHUTDOWN = {"event": "SHUTDOWN", "data": {"guest": True, "reason": "guest-shutdown"}}
STOP = {"event": "STOP"}
FILES = {
    "log/binary_bios_measurements": b"log",
    "proc/cmdline": b"console=ttyS0\n",
    **{f"pcr-sha384/{index}": b"%096X\n" % index for index in range(24)},
}


def payload(files: Mapping[str, bytes]) -> str:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        for name, body in files.items():
            member = tarfile.TarInfo(f"./{name}")
            member.size = len(body)
            tar.addfile(member, io.BytesIO(body))
    archive = stream.getvalue()
    return (b"mrtd.payload/1 %d\n" % len(archive) + archive).hex()


GOOD = RUNS | {"payload": payload(FILES), "events": [SHUTDOWN], "exit": 0}


def processes_about(text: str) -> list[str]:
    """Command lines of the running processes that mention a text."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            line = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue  # it ended just now
        if text in line:
            found.append(line)
    return found


class Bench:
    """A spec, its files, and fake programs that do as they are told."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.bin = folder / "bin"
        self.bin.mkdir()
        for name in ("OVMF.fd", "vmlinuz", "initrd"):
            (folder / name).write_bytes(name.encode())
        body = (ROOT / "tests/ci/fake_qemu.py").read_text(encoding="utf-8")
        self.qemu = self.program("qemu-system-x86_64", f"#!{sys.executable}\n{body}")
        self.program("swtpm_setup", "#!/bin/sh\nexit 0\n")
        # The argument makes it findable if it were left behind.
        self.program("swtpm", f"#!/bin/sh\nexec {sys.executable} -c {SLEEP!r} {folder}\n")

    def program(self, name: str, text: str) -> Path:
        path = self.bin / name
        path.write_text(text, encoding="utf-8")
        path.chmod(0o755)
        return path

    def scenario(self, scenario: Mapping[str, Any]) -> None:
        (self.bin / "scenario.json").write_text(json.dumps(scenario), encoding="utf-8")

    def boot(
        self, scenario: Mapping[str, Any], *, timeout: float = 120, spec: str = SPEC
    ) -> BootResult:
        self.scenario(scenario)
        launch = read_spec(spec, origin="test")
        return boot_plain(launch, folder=self.folder, qemu=self.qemu, timeout=timeout)


SLEEP = "import time; time.sleep(600)"


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    """A bench, and the check that a launch left nothing of itself behind."""
    bench = Bench(tmp_path)
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    monkeypatch.setenv("PATH", f"{bench.bin}{os.pathsep}{os.environ['PATH']}")
    descriptors = len(list(Path("/proc/self/fd").iterdir()))
    yield bench
    assert not list(temporary.iterdir())
    assert not processes_about(str(tmp_path))
    assert len(list(Path("/proc/self/fd").iterdir())) == descriptors


def test_an_orderly_boot(bench: Bench) -> None:
    result = bench.boot(GOOD | {"serial": "hello\n"})
    assert result.log == b"log"
    assert result.pcrs[23] == Sha384.fromhex(f"{23:096x}")
    assert result.cmdline == "console=ttyS0"
    assert result.serial == "hello\n"
    assert result.qemu_version == "10.1.2"
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


@pytest.mark.parametrize(
    ("scenario", "reason"),
    [
        ({"exit": 1}, r"QEMU did not start \(exit status 1\)"),
        (RUNS | {"exit": 0}, "ended with no SHUTDOWN event"),
        (RUNS | {"exit": 0, "events": [{"event": "SHUTDOWN"}]}, "ended with an unknown reason"),
        (
            RUNS
            | {"exit": 0, "events": [{"event": "SHUTDOWN", "data": {"reason": "guest-reset"}}]},
            "ended with guest-reset",
        ),
        (RUNS | {"exit": 4, "events": [SHUTDOWN]}, r"guest-shutdown \(exit status 4\)"),
        (RUNS | {"events": [STOP], "status": {"status": "internal-error"}}, "internal-error"),
        (RUNS | {"events": [{"event": "GUEST_PANICKED", "data": {}}]}, "the guest panicked"),
        (
            RUNS | {"serial": "x\n[ 1.0] Kernel panic - not syncing: no init\r\n"},
            "cannot go on: 'Kernel panic - not syncing: no init'",
        ),
        (RUNS | {"serial": "BdsDxe: No bootable option or device was found.\n"}, "No bootable"),
        (GOOD | {"payload": ""}, "the guest sent no payload"),
        (GOOD | {"payload": payload({})}, "event log is missing or empty"),
        (
            GOOD | {"payload": payload(FILES | {"log/binary_bios_measurements": b""})},
            "event log is missing or empty",
        ),
        (GOOD | {"payload": payload(FILES | {"pcr-sha384/7": b"?"})}, "pcr-sha384/7: not 96 hex"),
    ],
)
def test_everything_else_is_a_failure(bench: Bench, scenario: dict[str, Any], reason: str) -> None:
    with pytest.raises(LaunchFailed, match=reason):
        bench.boot(scenario)


@pytest.mark.parametrize("name", sorted(FILES))
def test_a_file_is_missing(name: str) -> None:
    files = {other: body for other, body in FILES.items() if other != name}
    with pytest.raises(LaunchFailed):
        BootResult.of(files, serial=b"", qemu_version="", arguments=())


def test_the_deadline(bench: Bench) -> None:
    # A stop that is no end: somebody else's business, so the deadline decides.
    waits = RUNS | {"events": [STOP], "status": {"status": "paused"}, "stderr": "\x1b[31mwarning\n"}
    with pytest.raises(LaunchFailed, match="no end after 3 seconds") as failure:
        bench.boot(waits, timeout=3)
    assert "  \\x1b[31mwarning" in str(failure.value)


def test_qemu_says_nothing(bench: Bench) -> None:
    bench.program("qemu-system-x86_64", f"#!{sys.executable}\n{SLEEP} # {bench.folder}\n")
    with pytest.raises(LaunchFailed, match="no end after 2 seconds"):
        bench.boot({}, timeout=2)


def test_the_monitor_talks_nonsense(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ci.session, "_GRACE_SECONDS", 0.5)
    with pytest.raises(LaunchFailed, match="QEMU's monitor cannot be used"):
        bench.boot({"greeting": "hello"})


def test_a_payload_without_end(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ci.agent, "_KEPT", 64)
    with pytest.raises(LaunchFailed, match="too many for a payload"):
        bench.boot(GOOD)


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


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_killed_harness_leaves_no_guest(bench: Bench, number: signal.Signals) -> None:
    if number == signal.SIGKILL and shutil.which("setpriv") is None:
        unavailable("setpriv (util-linux) is not installed")
    bench.scenario(RUNS)
    (bench.folder / "spec.json").write_bytes(msgspec.json.encode(read_spec(SPEC, origin="test")))
    temporary = Path(tempfile.gettempdir())
    harness = subprocess.Popen(
        [sys.executable, __file__, str(bench.folder)],
        env=os.environ | {"PYTHONPATH": str(ROOT), "TMPDIR": str(temporary)},
        stderr=subprocess.DEVNULL,
    )
    try:
        _until((bench.bin / "running").exists)
        harness.send_signal(number)
        _until(lambda: harness.poll() is not None)
    finally:
        harness.kill()
        harness.wait()
    _until(lambda: not processes_about(str(bench.folder)))
    if number == signal.SIGKILL:
        # Nobody was left to remove these.
        for folder in temporary.iterdir():
            shutil.rmtree(folder)


def _until(condition: Any) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


if __name__ == "__main__":
    HERE = Path(sys.argv[1])
    boot_plain(
        msgspec.json.decode((HERE / "spec.json").read_bytes(), type=LaunchSpec),
        folder=HERE,
        qemu=HERE / "bin/qemu-system-x86_64",
    )
