"""The example that a newcomer measures first."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import ci.example
import mrtd.cli.main
from ci.apt import PackagesUnavailable
from ci.example import main, probe_qemu
from ci.packages import DEFAULT_CACHE
from mrtd.launch.spec import read_spec_file
from tests.conftest import DebianParts


def about(folder: Path) -> dict[str, object]:
    text = (folder / "example.json").read_text(encoding="utf-8")
    found: dict[str, object] = json.loads(text)
    return found


def test_without_a_mirror_it_is_the_embedded_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def unreachable(*_: object, **__: object) -> None:
        raise PackagesUnavailable("no mirror")

    monkeypatch.setattr(ci.example, "fetch", unreachable)
    assert main(["--out", str(tmp_path / "example")]) == 0
    assert about(tmp_path / "example")["kind"] == "embedded"
    output = capsys.readouterr()
    assert "no mirror" in output.err
    assert "embedded minimal example" in output.err
    assert output.out == ""


def test_embedded_example_is_a_valid_spec_with_its_files(tmp_path: Path) -> None:
    out = tmp_path / "example"
    assert main(["--out", str(out), "--embedded"]) == 0
    spec = read_spec_file(out / "launch.toml")
    files = (spec.firmware.path, spec.direct.kernel, spec.direct.initrd, spec.acpi.tables)
    assert [name for name in files if name is None or not (out / name).is_file()] == []
    assert (out / "options.txt").read_text(encoding="utf-8") == "--qemu\nnone\n"
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    assert main(["--out", str(out), "--embedded"]) == 0
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    assert [path.name for path in tmp_path.iterdir()] == ["example"]


def test_embedded_example_needs_no_help(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "example"
    assert main(["--out", str(out), "--embedded"]) == 0
    command = ["measure", str(out / "launch.toml"), "--json", "--strict", "--qemu", "none"]
    assert mrtd.cli.main.main(command) == 0
    document = json.loads(capsys.readouterr().out)
    assert {entry["rule"] for entry in document["rules"].values()} == {"exact"}
    assert document["about"]["name"] == "embedded minimal example"
    assert [note for note in document["notes"] if note["level"] != "info"] == []


def test_real_example_says_what_it_is_made_of(tmp_path: Path, debian: DebianParts) -> None:
    out = tmp_path / "example"
    assert main(["--out", str(out), "--cache", str(DEFAULT_CACHE)]) == 0
    found = about(out)
    assert found["kind"] == "debian"
    label = str(found["label"])
    assert debian.versions["ovmf-trixie"] in label
    assert debian.versions["kernel-trixie"] in label
    spec = read_spec_file(out / "launch.toml")
    assert f"QEMU {spec.vmm.version}" in label
    assert (out / spec.firmware.path).read_bytes() == debian.ovmf_2025_02.read_bytes()
    options = (out / "options.txt").read_text(encoding="utf-8").splitlines()
    assert options == ["--qemu", str(debian.qemu_11)]


def test_without_any_qemu_the_parts_are_still_real(
    tmp_path: Path,
    debian: DebianParts,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(ci.example, "probe_qemu", lambda _: None)
    out = tmp_path / "example"
    assert main(["--out", str(out), "--cache", str(DEFAULT_CACHE)]) == 0
    assert "apt-get install qemu-system-x86" in capsys.readouterr().err
    assert about(out)["kind"] == "debian"
    options = (out / "options.txt").read_text(encoding="utf-8").split()
    assert mrtd.cli.main.main(["measure", str(out / "launch.toml"), "--json", *options]) == 0
    document = json.loads(capsys.readouterr().out)
    rules = {name: entry["rule"] for name, entry in document["rules"].items()}
    assert rules == {"mrtd": "exact", "rtmr0": "unpinned", "rtmr1": "exact", "rtmr2": "exact"}
    assert debian.versions["ovmf-trixie"] in str(document["about"]["packages"])


def test_what_does_not_run_is_no_qemu(tmp_path: Path) -> None:
    assert probe_qemu(tmp_path / "missing") is None
    assert probe_qemu(Path("/bin/true")) is None
