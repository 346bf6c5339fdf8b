"""Nobody reads the output, or it cannot be written: that is neither yes nor no."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from mrtd.cli import run as command_line
from mrtd.cli.main import main
from mrtd.cli.run import BROKEN_PIPE
from tests.cli.test_verify import OFFLINE, Desk
from tests.lab.instance import default_instance
from tests.launches import Launch

FULL: Final = Path("/dev/full")
PATIENCE: Final = 120
VERBS: Final = ["verify", "refuse", "trust", "measure", "error"]


@pytest.fixture
def commands(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> dict[str, tuple[str, ...]]:
    """Command lines that end with 0, 1, 0, 0 and 2 where their output is read."""
    desk = Desk(tmp_path, capsys)
    given = ("--policy", str(desk.policy), "--now", desk.now.isoformat())
    token = (str(desk.token()), *OFFLINE, "--jwks", str(desk.jwks()), *given)
    root = tmp_path / "shown.json"
    root.write_bytes(default_instance().trusted_root_json())
    return {
        "verify": ("verify", *token, "--bundle", str(desk.bundle())),
        "refuse": ("verify", *token),
        "trust": ("trust", "show", "--file", str(root)),
        "measure": ("measure", str(Launch().write(tmp_path))),
        "error": ("verify", str(tmp_path / "nofile"), *given),
    }


def run(*words: str, stdout: int) -> tuple[int, str]:
    """Exit code and standard error."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("DD_", "GITHUB_"))}
    done = subprocess.run(
        [sys.executable, "-m", "mrtd.cli.main", *words],
        check=False,
        env=clean,
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
        timeout=PATIENCE,
    )
    return done.returncode, done.stderr


@pytest.mark.parametrize("form", [(), ("--json",)])
@pytest.mark.parametrize("verb", VERBS)
def test_the_codes_when_somebody_reads(
    commands: dict[str, tuple[str, ...]], verb: str, form: tuple[str, ...]
) -> None:
    """The control of the tests below."""
    expected = {"refuse": 1, "error": 2}.get(verb, 0)
    assert run(*commands[verb], *form, stdout=subprocess.DEVNULL)[0] == expected


@pytest.mark.parametrize("form", [(), ("--json",)])
@pytest.mark.parametrize("verb", VERBS)
def test_a_reader_that_has_gone_is_no_answer(
    commands: dict[str, tuple[str, ...]], verb: str, form: tuple[str, ...]
) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    try:
        code, said = run(*commands[verb], *form, stdout=writer)
    finally:
        os.close(writer)
    assert code == (2 if verb == "error" else BROKEN_PIPE)  # an error had been said on stderr
    assert "Traceback" not in said
    assert "Exception ignored" not in said


@pytest.mark.parametrize("form", [(), ("--json",)])
@pytest.mark.parametrize("verb", VERBS)
def test_a_full_disk_is_not_checked_in_one_line(
    commands: dict[str, tuple[str, ...]], verb: str, form: tuple[str, ...]
) -> None:
    with FULL.open("wb") as full:
        code, said = run(*commands[verb], *form, stdout=full.fileno())
    assert code == (2 if verb == "error" else 3)
    if verb != "error":
        assert said == "mrtd: error: cannot write the output: No space left on device\n"


def test_a_closed_output_leaves_the_exit_code(commands: dict[str, tuple[str, ...]]) -> None:
    command = ["sh", "-c", 'exec "$@" >&-', "sh", sys.executable, "-m", "mrtd.cli.main"]
    for verb, code in (("refuse", 1), ("verify", 0)):
        words = [*command, *commands[verb]]
        done = subprocess.run(words, check=False, capture_output=True, timeout=PATIENCE)
        assert (done.returncode, done.stderr) == (code, b"")


@pytest.mark.parametrize("error", [RuntimeError("a defect"), FileNotFoundError(2, "no", "file")])
def test_a_defect_is_no_refusal(
    error: Exception, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def fail(_: object) -> int:
        raise error

    monkeypatch.setattr("mrtd.cli.measure.run", fail)
    monkeypatch.setattr(command_line, "_discard_output", lambda: None)
    assert main(["measure", "launch.toml"]) == 3
    assert "Traceback" in capfd.readouterr().err
