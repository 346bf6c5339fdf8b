"""An evidence bundle as one side of a comparison."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mrtd.cli.main import main


def test_bundle_of_a_real_boot_compares_with_its_own_log(
    tmp_path: Path, corpus: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """gce-cos-113: quote and event log of one boot, packed, against that event log."""
    quote = corpus / "quotes" / "gce-cos-113.quote"
    log = corpus / "eventlogs" / "gce-cos-113.ccel"
    bundle = tmp_path / "boot.zip"
    pack = ["evidence", "pack", "--quote", quote, "--log", log, "--output", bundle]
    assert main([str(word) for word in pack]) == 0
    capsys.readouterr()
    assert main(["compare", str(log), str(bundle), "--json"]) == 0
    registers = json.loads(capsys.readouterr().out)["registers"]
    outcomes = {name: entry["outcome"].lower() for name, entry in registers.items()}
    assert {outcomes[f"rtmr{n}"] for n in range(3)} == {"match"}
    assert outcomes["mrtd"] == "not compared"
