"""``mrtd compare`` and ``mrtd explain`` on the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mrtd.cli.main import main
from tests.launches import Launch
from tests.sides import ccel, edited, spec_side


@pytest.fixture
def sides(tmp_path: Path) -> tuple[str, str, str]:
    expected = edited(tmp_path / "a", Launch())
    other = edited(tmp_path / "b", Launch(), '"2 GiB"', '"4 GiB"')
    log = tmp_path / "CCEL"
    log.write_bytes(ccel(spec_side(other).log or ()))
    return str(expected), str(other), str(log)


def test_equal_launches_match(
    sides: tuple[str, str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["compare", sides[0], sides[0], "--strict"]) == 0
    assert "DIFFERS" not in capsys.readouterr().out


def test_a_difference_is_told_in_80_columns(
    sides: tuple[str, str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["compare", sides[0], sides[2]]) == 1
    out, err = capsys.readouterr()
    assert "memory size" in out
    assert err == "mrtd: RTMR0 differs\n"
    assert max(len(line) for line in out.splitlines() if str(Path(sides[0]).parent) not in line
               and sides[2] not in line) <= 80  # fmt: skip


def test_json_has_outcome_rows_and_reasons(
    sides: tuple[str, str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["compare", sides[0], sides[1], "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert found["schema"] == "mrtd.comparison/1"
    row = found["registers"]["rtmr0"]["events"][0]
    assert row["outcome"] == "differs"
    assert [d["code"] for d in row["depends"]] == ["memory"]


def test_a_log_alone_is_not_enough_for_strict(
    sides: tuple[str, str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["compare", sides[1], sides[2]]) == 0
    assert main(["compare", sides[1], sides[2], "--strict"]) == 1
    assert "MRTD not compared" in capsys.readouterr().err


def test_explain_finds_and_says_the_setting(
    sides: tuple[str, str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["explain", sides[2], "--expect", sides[0], "--qemu", "none"]) == 0
    assert 'machine.memory = "4 GiB"' in capsys.readouterr().out
    assert main(["explain", sides[2], "--expect", sides[0], "--qemu", "none", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [change["code"] for change in found["changes"]] == ["memory"]


def test_what_is_nothing_is_bad_input(
    tmp_path: Path, sides: tuple[str, str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    nothing = tmp_path / "nothing"
    nothing.write_bytes(b"nothing")
    assert main(["compare", sides[0], str(nothing)]) == 2
    assert "event log" in capsys.readouterr().err


@pytest.mark.parametrize("verb", ["compare", "explain"])
def test_help_teaches(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main([verb, "--help"])
    out = capsys.readouterr().out
    assert "examples" in out
    assert max(len(line) for line in out.splitlines()) <= 80


def test_a_report_is_written(sides: tuple[str, str, str], tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    assert main(["compare", sides[0], sides[2], "--html", str(page)]) == 1
    assert page.read_text(encoding="utf-8").startswith("<!doctype html>")
