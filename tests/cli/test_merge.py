"""``mrtd matrix --plan``, ``--part`` and ``mrtd merge`` as the jobs of a workflow type them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mrtd.cli.main import main
from mrtd.reference import read_reference_values
from tests.launches import Launch

AXES = ("--vcpus", "1,2,4", "--memory", "2G,8G")


def matrix(*arguments: object) -> int:
    return main(["matrix", *(str(argument) for argument in arguments)])


def merge(*arguments: object) -> int:
    return main(["merge", *(str(argument) for argument in arguments)])


@pytest.fixture
def jobs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> list[Path]:
    """The plan, and the documents of its jobs."""
    spec, written = Launch().write(tmp_path), [tmp_path / "plan.json"]
    assert matrix(spec, *AXES, "--plan", "--jobs", 4) == 0
    written[0].write_text(capsys.readouterr().out)
    for job in json.loads(written[0].read_text())["include"]:
        written.append(tmp_path / f"{job['part'].replace('/', '-of-')}.json")
        assert matrix(spec, *AXES, "--part", job["part"], "--output", written[-1], "--quiet") == 0
        names = [
            launch.shape for launch in read_reference_values(written[-1].read_bytes()).launches
        ]
        assert names == job["shapes"]
    capsys.readouterr()
    return written


def test_jobs_derive_together_what_one_derives(
    tmp_path: Path, jobs: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    plan, *parts = jobs
    assert len(parts) == 4
    out, alone = tmp_path / "all.json", tmp_path / "alone.json"
    assert matrix(tmp_path / "launch.toml", *AXES, "--output", alone, "--quiet") == 0
    capsys.readouterr()
    assert merge(*parts, "--plan", plan, "--out", out) == 0
    assert capsys.readouterr().out == "6 shapes of 4 documents: all that the plan has\n"
    merged, single = (read_reference_values(path.read_bytes()) for path in (out, alone))
    assert merged.launches == single.launches


def test_a_missing_job_is_noticed_and_nothing_is_written(
    tmp_path: Path, jobs: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    plan, *parts = jobs
    out = tmp_path / "all.json"
    assert merge(*parts[:-1], "--plan", plan, "--out", out) == 1
    said = capsys.readouterr().err
    assert "part 4/4 of the plan was to derive it" in said
    assert not out.exists()
    assert merge(*parts[:-1], "--plan", plan, "--out", out, "--json") == 1
    printed = json.loads(capsys.readouterr().out)
    assert printed["schema"] == "mrtd.merge/1"
    assert printed["shapes"] == []
    assert len(printed["contradictions"]) == 2
    # without a plan nobody knows, and it is said
    assert merge(*parts[:-1], "--out", out) == 0
    assert "what is missing is not known" in capsys.readouterr().out


def test_jobs_with_other_axes_do_not_fit(
    tmp_path: Path, jobs: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    plan, *parts = jobs
    other = tmp_path / "other.json"
    spec = tmp_path / "launch.toml"
    assert matrix(spec, "--vcpus", "1,2,8", "--part", "3/3", "--output", other) == 0
    assert merge(*parts, other, "--plan", plan, "--out", tmp_path / "all.json") == 1
    assert "q35-8cpu-2gib: is not in the plan" in capsys.readouterr().err


def test_what_is_no_document_is_bad_input(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text("{}")
    assert merge(tmp_path / "x.json", "--out", tmp_path / "all.json") == 2
    assert merge(tmp_path / "missing.json", "--out", tmp_path / "all.json") == 2


@pytest.mark.parametrize(
    "options",
    [
        ["--plan", "--part", "1/2"],
        ["--plan", "--output", "r.json"],
        ["--plan", "--documents", "measured"],
        ["--jobs", "3"],
        ["--part", "9/9"],
    ],
)
def test_options_that_say_nothing_together(tmp_path: Path, options: list[str]) -> None:
    assert matrix(Launch().write(tmp_path), *AXES, *options) == 2


@pytest.mark.parametrize(
    "options", [["--plan", "--jobs", "0"], ["--plan", "--jobs", "257"], ["--part", "2/1"]]
)
def test_numbers_that_are_none(tmp_path: Path, options: list[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        matrix(Launch().write(tmp_path), *AXES, *options)
    assert caught.value.code == 2
