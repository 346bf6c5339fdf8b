"""Tests run without a network: a test that needs one fails here, not on somebody's train."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import pytest

import ci.offline
from tests.conftest import unavailable

ROOT = Path(__file__).resolve().parents[2]
PROBE = """\
import socket
print(sorted(name for _, name in socket.if_nameindex()))
server = socket.create_server(("127.0.0.1", 0))
socket.create_connection(server.getsockname(), timeout=5).close()
"""


def test_only_loopback_is_left_and_works() -> None:
    if ci.offline.namespace_command() is None:
        unavailable("this system lets nobody make network namespaces")
    command = [sys.executable, "-m", "ci.offline", sys.executable, "-c", PROBE]
    done = subprocess.run(
        command, capture_output=True, check=True, cwd=ROOT, encoding="utf-8", timeout=60
    )
    first, *said = done.stdout.splitlines()
    assert first.startswith("network: none")
    assert said == ["['lo']"]


def test_ci_insists_on_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ci.offline, "namespace_command", lambda: None)
    monkeypatch.setenv("CI", "true")
    with pytest.raises(SystemExit, match="CI must have one"):
        ci.offline.main(["true"])


def test_others_are_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    started = []
    monkeypatch.setattr(ci.offline, "namespace_command", lambda: None)
    monkeypatch.setattr("os.execvp", lambda *command: started.append(command))
    monkeypatch.delenv("CI", raising=False)
    ci.offline.main(["true", "x"])
    assert started == [("true", ["true", "x"])]
    assert "THERE IS ONE" in capsys.readouterr().out


def test_a_network_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "if_nameindex", lambda: [(1, "lo"), (2, "eth0")])
    with pytest.raises(SystemExit, match="eth0"):
        ci.offline.main(["--in-namespace", "true"])
