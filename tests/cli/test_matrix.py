"""``mrtd matrix`` as a user types it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mrtd.cli.main import main
from mrtd.document import read_document
from mrtd.reference import read_reference_values
from tests.launches import Launch


def run(*arguments: object) -> int:
    return main(["matrix", *(str(argument) for argument in arguments)])


def test_the_table_says_what_the_shape_touches(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(Launch().write(tmp_path), "--vcpus", "1,2", "--memory", "2G,8G") == 0
    out = capsys.readouterr().out
    assert max(map(len, out.splitlines())) <= 80
    assert "q35-2cpu-8gib" in out
    assert "RTMR0  2 values: moves with machine.memory" in out
    assert "RTMR1  the same on every shape" in out


def test_files_are_written_for_each_shape(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spec, out, folder = Launch().write(tmp_path), tmp_path / "r.json", tmp_path / "measured"
    arguments = ["--memory", "2G,8G", "--output", out, "--documents", folder, "--json"]
    assert run(spec, *arguments, "--repository", "o/n", "--tag", "v7", "--sequence", 7) == 0
    values = read_reference_values(out.read_bytes())
    assert (values.release.repository, values.release.tag) == ("o/n", "v7")
    printed = json.loads(capsys.readouterr().out)
    assert printed["schema"] == "mrtd.matrix/1"
    assert printed["reference"] == json.loads(out.read_bytes())
    assert printed["touched"]["rtmr0"] == ["machine.memory"]
    for launch in values.launches:
        document = read_document((folder / f"{launch.shape}.json").read_bytes(), origin="file")
        assert document.registers["rtmr0"] == str(launch.registers.value("rtmr0"))


def test_further_axes_are_named_in_the_shape(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = ["--set", "machine.cpu=host", "--set", "machine.cpu=Haswell,+avx2"]
    assert run(Launch().write(tmp_path), *settings, "--json") == 0
    printed = json.loads(capsys.readouterr().out)
    assert [one["shape"] for one in printed["shapes"]] == [
        "q35-2cpu-2gib-cpu-host", "q35-2cpu-2gib-cpu-Haswell-+avx2",
    ]  # fmt: skip


def test_strict_refuses_what_is_not_pinned(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = Launch(acpi="").write(tmp_path)
    assert run(spec, "--memory", "2G,4G", "--qemu", "none", "--strict") == 1
    out, err = capsys.readouterr()
    assert "RTMR0  is not pinned on any shape" in out
    assert "q35-2cpu-4gib: RTMR0 is not pinned" in err


@pytest.mark.parametrize("option", [["--vcpus", "1,,2"], ["--set", "machine.cpu"]])
def test_options_that_are_no_axis(tmp_path: Path, option: list[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        run(Launch().write(tmp_path), *option)
    assert caught.value.code == 2
