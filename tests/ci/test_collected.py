"""The collector in a real guest: what it sends makes a bundle."""

from __future__ import annotations

from pathlib import Path

import pytest

from mrtd.evidence.bundle import bundle_from_collected, read_bundle, write_bundle
from mrtd.evidence.redact import redact
from tests.boots import Boots, Scenario
from tests.conftest import DebianParts

pytestmark = pytest.mark.boot


@pytest.fixture(scope="session")
def scenario(debian: DebianParts) -> Scenario:
    return Scenario(firmware=debian.ovmf_2025_02, kernel=debian.kernel_6_12)


def test_a_guest_makes_a_bundle(boots: Boots, scenario: Scenario, tmp_path: Path) -> None:
    result = boots(scenario).result
    bundle = bundle_from_collected(result.files)
    assert bundle.tpm_log == result.log
    assert {int(n.removeprefix("pcr")): v for n, v in bundle.registers.items()} == result.pcrs
    assert bundle.cmdline == result.cmdline
    assert bundle.files["collector/version"] == b"mrtd.collect/1\n"
    write_bundle(bundle, tmp_path / "boot.zip")
    assert read_bundle(tmp_path / "boot.zip").files == bundle.files


def test_a_guest_says_what_it_could_not_get(boots: Boots, scenario: Scenario) -> None:
    result = boots(scenario).result
    messages = result.files["collector/messages"].decode()
    assert "tdx/quote: there is no /sys/kernel/config/tsm/report: not a TD" in messages
    assert "log/CCEL: there is no " in messages
    assert all(f"mrtd: {line}" in result.serial for line in messages.splitlines())


def test_redaction_leaves_the_measurements_of_a_guest(boots: Boots, scenario: Scenario) -> None:
    bundle = bundle_from_collected(boots(scenario).result.files)
    result, _ = redact(bundle)
    assert set(result.files) == set(bundle.files)
    assert result.registers == bundle.registers
    for name in ("proc/cmdline", "proc/uname", "log/binary_bios_measurements"):
        assert result.files[name] == bundle.files[name]
    assert len(result.files["dmi/DMI"]) == len(bundle.files["dmi/DMI"])
