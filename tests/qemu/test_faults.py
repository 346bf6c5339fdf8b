"""QEMUs that refuse, hang, babble or die: `mrtd.qemu.process`, `mrtd.qemu.channel`.

The QEMUs here are scripts. They get the sockets of ``-chardev socket,fd=N`` like a real one.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

from mrtd.errors import ToolFailed, ToolMissing
from mrtd.qemu.fw_cfg import FwCfg, dump
from mrtd.qemu.pci import Mmio64Rule
from mrtd.qemu.process import find_qemu, qemu_version, running
from mrtd.registers import Target
from tests.conftest import unavailable
from tests.processes import gone, wait_for
from tests.qemu.machines import launch

PREAMBLE = """\
import os, re, signal, socket, sys, time
kept = []  # a socket that nobody holds would be closed
def stream(name):
    text = " ".join(sys.argv)
    kept.append(socket.socket(fileno=int(re.search(r"id=%s,fd=(\\d+)" % name, text)[1])))
    return kept[-1]
open(os.path.join(os.path.dirname(sys.argv[0]), "pid"), "w").write(str(os.getpid()))
GREETING = b'{"QMP": {"version": {"qemu": {"major": 7, "minor": 2, "micro": 0}}}}\\n'
"""
MakeQemu = Callable[[str], Path]


@pytest.fixture
def fake(tmp_path: Path) -> MakeQemu:
    def make(body: str) -> Path:
        path = tmp_path / "qemu"
        path.write_text(f"#!{sys.executable} -S\n{PREAMBLE}{textwrap.dedent(body)}")
        path.chmod(0o755)
        return path

    return make


def ask(binary: Path, *, timeout: float = 60) -> FwCfg:
    return dump(
        launch(cpu="qemu64"),
        binary=binary,
        target=Target.CC,
        ecam_base=0xE0000000,
        mmio64=Mmio64Rule(),
        timeout=timeout,
    )


def written(binary: Path) -> str:
    """What a fake QEMU has written as its pid; empty if it was ended before."""
    pid = binary.parent / "pid"
    return pid.read_text() if pid.exists() else ""


def left(binary: Path) -> bool:
    text = written(binary)
    return text != "" and not gone(int(text))


def test_refused_argument_is_named(fake: MakeQemu) -> None:
    binary = fake("""
        sys.stderr.write("qemu: warning: never mind\\n")
        sys.exit("qemu: -device frob: 'frob' is not a valid device model name")
    """)
    with pytest.raises(ToolFailed, match=r"status 1.*-device frob: 'frob' is not") as caught:
        ask(binary)
    assert "never mind" not in str(caught.value)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("time.sleep(3600)", "no answer in time"),
        ("stream('mrtd-qmp').sendall(GREETING); time.sleep(3600)", "no answer in time"),
        ("signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(3600)", "no answer in time"),
    ],
)
def test_a_qemu_that_hangs_is_ended(fake: MakeQemu, body: str, message: str) -> None:
    binary = fake(body)
    with pytest.raises(ToolFailed, match=message):
        ask(binary, timeout=2)
    assert not left(binary)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("stream('mrtd-qmp').sendall(b'garbage\\n'); time.sleep(3600)", "QMP: not JSON"),
        ("stream('mrtd-qmp').sendall(b'[]\\n'); time.sleep(3600)", "QMP: no JSON object"),
        ("stream('mrtd-qmp').sendall(b'{}\\n'); time.sleep(3600)", "QMP: greeting"),
        ("stream('mrtd-qmp').sendall(b'[' * 100000 + b'\\n'); time.sleep(3600)", "QMP: not JSON"),
        ("stream('mrtd-qmp').sendall(b'x' * 3000000); time.sleep(3600)", "QMP: a line of more"),
        ("stream('mrtd-qmp').sendall(GREETING[:20])", "died .ended with status 0"),
        ("os.kill(os.getpid(), signal.SIGABRT)", "by signal 6"),
    ],
)
def test_garbage_and_closed_sockets(fake: MakeQemu, body: str, message: str) -> None:
    binary = fake(body)
    with pytest.raises(ToolFailed, match=message):
        ask(binary)
    assert not left(binary)


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ("b'FAIL Unknown command\\n'", "qtest: .*answered b'FAIL"),
        ("b'OK OK\\n' * 9", "qtest: .*answered"),
        ("b'\\xff\\n'", "qtest: .*answered"),
        ("b'IRQ raise 4\\nOK 0x1\\n' * 99", "qtest: .*answered 0 bytes"),
    ],
)
def test_garbage_from_qtest(fake: MakeQemu, answer: str, message: str) -> None:
    binary = fake(f"""
        monitor = stream("mrtd-qmp")
        monitor.sendall(GREETING)
        monitor.recv(4096)
        monitor.sendall(b'{{"event": "RESUME"}}\\n{{"return": {{}}}}\\n')
        stream("qtest").sendall({answer})
        time.sleep(3600)
    """)
    with pytest.raises(ToolFailed, match=message):
        ask(binary)
    assert not left(binary)


def test_children_of_a_wrapper_end_too(fake: MakeQemu) -> None:
    binary = fake("""
        child = os.fork()
        if child:
            os._exit(3)
        open(os.path.join(os.path.dirname(sys.argv[0]), "pid"), "w").write(str(os.getpid()))
        time.sleep(3600)
    """)
    with running([str(binary)]) as process:
        assert process.wait(60)
        # the file is empty between the child's open and its write
        wait_for(lambda: written(binary) not in {"", str(process.pid)})
    wait_for(lambda: not left(binary))


def test_temporary_files_go_away(fake: MakeQemu) -> None:
    with running([str(fake("time.sleep(3600)"))], files={"a": b"b"}) as process:
        folder = process.folder
        assert (folder / "a").read_bytes() == b"b"
    assert not folder.exists()


def test_the_environment_is_scrubbed(fake: MakeQemu, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_TOKEN", "hunter2")
    with running([str(fake("print(sorted(os.environ))"))]) as process:
        assert process.wait(60)
        assert "SECRET_TOKEN" not in process.output("stdout")
        assert "PATH" in process.output("stdout")


def test_output_is_bounded_and_printable(fake: MakeQemu) -> None:
    binary = fake("sys.stderr.write('x' * 10**6 + '\\n' + '\\x1b[31m' * 2000); sys.exit(1)")
    with pytest.raises(ToolFailed) as caught:
        ask(binary)
    assert len(str(caught.value)) < 4000
    assert "\x1b" not in str(caught.value)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("print('hello')", "named no version"),
        ("sys.exit('no')", "status 1.*no"),
        ("time.sleep(3600)", "no answer in 2 s"),
        ("print('QEMU emulator version 7.2.22'); sys.exit(1)", "status 1"),
    ],
)
def test_versions_that_cannot_be_read(fake: MakeQemu, body: str, message: str) -> None:
    binary = fake(body)
    with pytest.raises(ToolFailed, match=message):
        qemu_version(binary, timeout=2 if "sleep" in body else 60)


def test_version(fake: MakeQemu) -> None:
    assert qemu_version(fake("print('QEMU emulator version 11.1.3 (Debian 1:11.1.3)')")) == "11.1.3"


def test_missing_qemu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ToolMissing, match="apt-get install qemu-system-x86"):
        find_qemu(tmp_path / "qemu")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ToolMissing, match=r"acpi\.tables"):
        find_qemu()
    with pytest.raises(ToolMissing):
        ask(tmp_path / "qemu")


ASKER = """\
import sys
from pathlib import Path
sys.path.insert(0, {root!r})
from tests.qemu.test_faults import ask
ask(Path({binary!r}), timeout=3600)
"""


@pytest.mark.parametrize(
    ("number", "status"),
    [(signal.SIGKILL, -9), (signal.SIGTERM, 143), (signal.SIGINT, None)],
)
def test_qemu_never_outlives_its_parent(
    fake: MakeQemu, tmp_path: Path, number: signal.Signals, status: int | None
) -> None:
    if shutil.which("setpriv") is None:
        unavailable("setpriv is not installed: apt-get install util-linux")
    binary = fake("time.sleep(3600)")
    script = ASKER.format(root=str(Path(__file__).parents[2]), binary=str(binary))
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    parent = subprocess.Popen(
        [sys.executable, "-c", script],
        env={**os.environ, "TMPDIR": str(temporary)},
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_for(lambda: (tmp_path / "pid").exists() and bool((tmp_path / "pid").read_text()))
        parent.send_signal(number)
        ended = parent.wait(60)
    finally:
        parent.kill()
        parent.wait()
    assert status is None or ended == status
    wait_for(lambda: not left(binary))
    if number != signal.SIGKILL:
        assert list(temporary.iterdir()) == []
