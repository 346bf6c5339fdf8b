"""``mrtd audit`` as a user types it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mrtd.audit.rules import RULES
from mrtd.cli.main import main
from tests.launches import Launch
from tests.sides import edited

ROOT = Path(__file__).resolve().parents[2]


def test_people_read_it_in_80_columns(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spec = edited(tmp_path / "a", Launch(), "console=ttyS0", "rd.break root=/dev/vda2")
    assert main(["audit", str(spec), "--qemu", "none"]) == 0
    out = capsys.readouterr().out
    assert "ALARM cmdline_shell: cmdline" in out
    assert "ALARM rootfs_not_measured: rootfs" in out
    assert max(map(len, out.splitlines())) <= 80


def test_fail_on_and_ignore(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spec = str(edited(tmp_path / "a", Launch(), "console=ttyS0", "rd.break"))
    assert main(["audit", spec, "--fail-on", "alarm"]) == 1
    assert "1 findings: cmdline_shell" in capsys.readouterr().err
    ignored = ["--ignore", "cmdline_shell=for a demonstration"]
    assert main(["audit", spec, "--fail-on", "info", *ignored]) == 0
    assert "for a demonstration" in capsys.readouterr().out
    assert main(["audit", spec, "--fail-on", "info", "--ignore", "virtual_tpm=x", *ignored]) == 0
    assert "--ignore virtual_tpm: nothing was found" in capsys.readouterr().err
    assert main(["audit", spec, "--ignore", "nothing=x"]) == 2


def test_json_and_sarif(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spec = str(edited(tmp_path / "a", Launch(), "console=ttyS0", "rd.break"))
    accepted = ["--ignore", "cmdline_shell=for a demonstration"]
    assert main(["audit", spec, "--json", *accepted]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["schema"] == "mrtd.audit/1"
    (one,) = found["findings"]
    assert (one["rule"], one["level"], one["accepted"]) == (
        "cmdline_shell", "alarm", "for a demonstration",
    )  # fmt: skip
    assert main(["audit", spec, "--sarif", *accepted]) == 0
    (run,) = json.loads(capsys.readouterr().out)["runs"]
    (result,) = run["results"]
    named = run["tool"]["driver"]["rules"][result["ruleIndex"]]
    assert (named["id"], result["level"]) == ("cmdline_shell", "error")
    assert result["suppressions"][0]["justification"] == "for a demonstration"


def test_a_launch_that_cannot_be_derived_is_audited_all_the_same(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = Launch(files={"vmlinuz": None}).write(tmp_path)
    assert main(["audit", str(spec), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["findings"][0]["rule"] == "launch_not_derived"
    assert "vmlinuz" in found["findings"][0]["detail"]


def test_a_qemu_command_line_is_audited(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Launch().write(tmp_path)
    words = [
        "qemu-system-x86_64", "-nodefaults", "-machine", "q35,confidential-guest-support=l",
        "-m", "2G", "-smp", "2", "-cpu", "host", "-object", "tdx-guest,id=l,attributes=1",
        "-bios", str(tmp_path / "OVMF.fd"), "-kernel", str(tmp_path / "vmlinuz"),
        "-append", "quiet", "-device", "vhost-vsock-pci,guest-cid=3",
    ]  # fmt: skip
    (tmp_path / "cmdline").write_text(" ".join(words))
    command = ["audit", "--qemu-cmdline", str(tmp_path / "cmdline"), "--vmm-version", "10.1.0"]
    assert main([*command, "--json", "--qemu", "none"]) == 0
    found = {one["rule"] for one in json.loads(capsys.readouterr().out)["findings"]}
    assert {"debug_attribute", "sept_ve_enabled", "channel"} <= found


def test_the_page_of_rules_is_current(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["audit", "--rules", "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)["rules"]
    assert [rule["id"] for rule in printed] == list(RULES)
    page = (ROOT / "docs" / "audit-rules.md").read_text(encoding="utf-8")
    for rule in RULES.values():
        heading = f"### `{rule.id}` ({rule.level})\n\n{rule.title[0].upper()}{rule.title[1:]}."
        assert heading in page
        assert rule.risk in page
        assert f"**Do:** {rule.remedy}." in page
        assert rule.source in page
    assert page.count("\n### `") == len(RULES)
