"""The command line as a whole: help, versions, what is imported."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from mrtd import __version__
from mrtd.cli.main import VERBS, main
from tests.launches import Launch

HEAVY = {
    "asyncio",
    "concurrent.futures",
    "elftools",
    "logging",
    "multiprocessing",
    "qemu",
    "requests",
    "rich",
    "sigstore",
    "socket",
    "subprocess",
    "tempfile",
    "unittest",
}


def imported(*arguments: str) -> set[str]:
    """The modules that a fresh interpreter has after running the command line."""
    program = (
        "import sys; from mrtd.cli.main import main; code = main(sys.argv[1:]);"
        "sys.stderr.write('\\n'.join(sorted(sys.modules))); sys.exit(code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        check=True,
        capture_output=True,
        text=True,
        timeout=120,
    )
    return set(done.stderr.split())


def test_measuring_to_json_imports_nothing_heavy(tmp_path: Path) -> None:
    modules = imported("measure", str(Launch().write(tmp_path)), "--json")
    assert "mrtd.derive" in modules
    assert not HEAVY & modules


def test_tables_are_drawn_with_rich(tmp_path: Path) -> None:
    """The control of the test above: what is not imported there is imported here."""
    assert "rich" in imported("measure", str(Launch().write(tmp_path)))


@pytest.mark.parametrize("verb", [[], *([verb] for verb in VERBS)])
def test_help_teaches(
    verb: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit) as end:
        main([*verb, "--help"])
    assert end.value.code == 0
    out = capsys.readouterr().out
    assert "exit codes" in out or "examples" in out
    assert max(len(line) for line in out.splitlines()) <= 80


def test_without_a_verb_the_verbs_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main([])
    assert end.value.code == 2
    said = capsys.readouterr().err
    assert all(f"  {verb} " in said for verb in VERBS)


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--version"])
    assert capsys.readouterr().out == f"mrtd {__version__}\n"


@pytest.mark.parametrize("arguments", [[], ["nonsense"], ["measure"], ["measure", "a", "b"]])
def test_wrong_usage_exits_with_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(arguments)
    assert end.value.code == 2
    assert "usage:" in capsys.readouterr().err
