"""What a killed harness leaves behind: nothing."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import msgspec
import pytest

from ci.launch import boot_plain
from mrtd.launch.spec import LaunchSpec
from tests.conftest import unavailable
from tests.lab.bench import SPEC, Bench, processes_about, spec_of
from tests.processes import wait_for

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_killed_harness_leaves_nothing(bench: Bench, number: signal.Signals) -> None:
    if number == signal.SIGKILL and shutil.which("setpriv") is None:
        unavailable("setpriv (util-linux) is not installed")
    bench.scenario({})
    (bench.folder / "spec.json").write_bytes(msgspec.json.encode(spec_of(SPEC)))
    temporary = Path(tempfile.gettempdir())
    harness = subprocess.Popen(
        [sys.executable, __file__, str(bench.folder)],
        env=os.environ | {"PYTHONPATH": str(ROOT), "TMPDIR": str(temporary)},
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_for((bench.bin / "running").exists)
        assert list(temporary.iterdir())
        harness.send_signal(number)
        wait_for(lambda: harness.poll() is not None)
    finally:
        harness.kill()
        harness.wait()
    wait_for(lambda: not processes_about(str(bench.folder)))
    # After SIGKILL it is the janitor's work.
    wait_for(lambda: not list(temporary.iterdir()))


if __name__ == "__main__":
    HERE = Path(sys.argv[1])
    boot_plain(
        msgspec.json.decode((HERE / "spec.json").read_bytes(), type=LaunchSpec),
        folder=HERE,
        qemu=HERE / "bin/qemu-system-x86_64",
    )
