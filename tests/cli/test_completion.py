"""Completion scripts are accepted by their shells, and complete what there is."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from mrtd.cli.main import VERBS, main


def script(shell: str, capsys: pytest.CaptureFixture[str]) -> str:
    assert main(["completion", shell]) == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("shell", ["bash", "zsh", "tcsh"])
def test_every_verb_is_in_the_script(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    text = script(shell, capsys)
    assert [verb for verb in VERBS if verb not in text] == []


def complete(text: str, *words: str) -> list[str]:
    """What bash offers for the last word."""
    typed = " ".join(f"'{word}'" for word in words)
    test = f"""{text}
COMP_WORDS=({typed}) COMP_CWORD={len(words) - 1} COMP_LINE="{" ".join(words)}"
function=$(complete -p mrtd | sed -E 's/.*-F ([^ ]+) .*/\\1/')
$function mrtd '{words[-1]}' '{words[-2]}'
printf '%s\\n' "${{COMPREPLY[@]}}"
"""
    done = subprocess.run(
        [shutil.which("bash") or "bash", "--norc"],
        input=test, capture_output=True, check=True, encoding="utf-8", timeout=60,
    )  # fmt: skip
    assert done.stderr == ""
    return done.stdout.split()


def test_bash_completes_verbs_and_options(capsys: pytest.CaptureFixture[str]) -> None:
    text = script("bash", capsys)
    assert complete(text, "mrtd", "mea") == ["measure"]
    assert "--target" in complete(text, "mrtd", "measure", "--ta")
    assert complete(text, "mrtd", "measure", "x.toml", "--target", "c") == ["cc"]


def test_an_unknown_shell_is_refused() -> None:
    with pytest.raises(SystemExit) as ended:
        main(["completion", "cmd.exe"])
    assert ended.value.code == 2


def test_the_script_holds_no_path_of_this_machine(capsys: pytest.CaptureFixture[str]) -> None:
    assert str(Path.home()) not in script("bash", capsys)
