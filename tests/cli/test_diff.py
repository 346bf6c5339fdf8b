"""``mrtd diff`` as a user types it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mrtd.cli.main import main
from tests.launches import Launch
from tests.sides import edited


@pytest.fixture
def pair(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> tuple[str, str]:
    old = edited(tmp_path / "a", Launch())
    new = edited(tmp_path / "b", Launch(), "console=ttyS0", "console=ttyS0 " + "quiet " * 40)
    for spec in (old, new):
        assert main(["measure", str(spec), "--json"]) == 0
        (spec.parent / "m.json").write_text(capsys.readouterr().out)
    return str(old.parent / "m.json"), str(new.parent / "m.json")


def test_people_read_it_in_80_columns(
    pair: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["diff", *pair]) == 1
    out = capsys.readouterr().out
    assert "the kernel command line" in out
    assert max(map(len, out.splitlines())) <= 80


def test_the_same_is_0(pair: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["diff", pair[0], pair[0]]) == 0
    assert "nothing differs" in capsys.readouterr().out
    assert main(["diff", pair[0], pair[0], "--markdown"]) == 0
    assert "None: every register" in capsys.readouterr().out


def test_json(pair: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["diff", *pair, "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert (found["schema"], found["same"]) == ("mrtd.diff/1", False)
    (shape,) = found["shapes"].values()
    assert [one["register"] for one in shape["moved"]] == ["rtmr2"]
    assert [one["code"] for one in shape["moved"][0]["causes"]] == ["cmdline"]


def test_what_is_no_release_is_bad_input(
    tmp_path: Path, pair: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "x").write_text("{}")
    assert main(["diff", pair[0], str(tmp_path / "x")]) == 2
    assert "holds no reference values" in capsys.readouterr().err
