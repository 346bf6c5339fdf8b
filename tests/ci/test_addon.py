"""The agent in real images: the registers that move are those that are named, and no others."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ci.__main__ import main
from ci.guest.addon import carry
from ci.guest.carried import Agent, Carried, Carrier
from ci.launch import boot_plain
from ci.result import BootResult
from ci.spec_text import absolute, spec_text
from mrtd.errors import SpecError
from mrtd.eventlog.tcg2 import read_log
from mrtd.launch.spec import LaunchSpec, read_spec, read_spec_file
from mrtd.registers import RegisterName, Target
from tests.boots import BOOT_TIMEOUT, Boots, Scenario, scenario_spec
from tests.conftest import DebianParts
from tests.disk_images import Images

# the kernel's IMA measures what is run, into PCR 10
COMPARED = (*range(10), *range(11, 16))


@pytest.fixture
def agent(debian: DebianParts) -> Agent:
    return Agent(debian.busybox.read_bytes(), {})


def moved(before: BootResult, after: BootResult) -> frozenset[RegisterName]:
    return frozenset(
        RegisterName(f"pcr{pcr}") for pcr in COMPARED if before.pcrs[pcr] != after.pcrs[pcr]
    )


def check_events(carried: Carried, result: BootResult) -> None:
    """Every event that was computed is in the log, where it was said to be."""
    log = read_log(result.log, origin="guest", target=Target.TPM)
    seen = {(event.register, str(event.digest)) for event in log}
    for event in carried.moved:
        if event.digest is not None:
            assert (event.register(Target.TPM), str(event.digest)) in seen


@pytest.mark.boot
@pytest.mark.parametrize(
    ("name", "carrier", "expected"),
    [
        ("uki-262", Carrier.ADDON, {"pcr4", "pcr9", "pcr12"}),
        ("easyenclave-small", Carrier.ROOT, set()),
    ],
)
def test_an_image_with_and_without(
    *,
    name: str,
    carrier: Carrier,
    expected: set[str],
    images: Images,
    boots: Boots,
    debian: DebianParts,
    agent: Agent,
    tmp_path: Path,
) -> None:
    before = boots(images.scenario(name, debian.ovmf_2025_02))
    stub = images.inputs.addon_stubs["257"]
    carried = carry(before.spec, before.folder, tmp_path, agent, stub=lambda: stub)
    assert carried.carrier is carrier
    assert carried.registers(Target.TPM) == expected
    after = boot_plain(carried.spec, folder=tmp_path, timeout=BOOT_TIMEOUT)
    assert moved(before.result, after) == expected
    check_events(carried, after)


@pytest.mark.boot
def test_a_direct_boot_with_and_without(
    boots: Boots, debian: DebianParts, agent: Agent, tmp_path: Path
) -> None:
    """QEMU 11.1 leaves the kernel's header alone: the initrd's event moves, and nothing else."""
    scenario = Scenario(
        firmware=debian.ovmf_2025_02, kernel=debian.kernel_6_12, qemu=debian.qemu_11
    )
    before = boots(scenario)
    carried = carry(before.spec, before.folder, tmp_path, agent, stub=bytes)
    assert carried.carrier is Carrier.INITRD
    after = boot_plain(carried.spec, folder=tmp_path, qemu=debian.qemu_11, timeout=BOOT_TIMEOUT)
    assert carried.registers(Target.CC) == {"rtmr2"}
    assert moved(before.result, after) == carried.registers(Target.TPM) == {"pcr9"}
    check_events(carried, after)


def test_a_patched_kernel_moves_with_the_initrd(
    debian: DebianParts, initrd: bytes, agent: Agent, tmp_path: Path
) -> None:
    """QEMU 7.2 writes the initrd's address into the kernel's header: RTMR1 moves as well."""
    (tmp_path / "initrd").write_bytes(initrd)
    spec = scenario_spec(Scenario(firmware=debian.ovmf_2025_02, kernel=debian.kernel_6_12))
    (tmp_path / "out").mkdir()
    carried = carry(spec, tmp_path, tmp_path / "out", agent, stub=bytes)
    assert carried.registers(Target.CC) == {"rtmr1", "rtmr2"}


def spec_of(images: Images, name: str, debian: DebianParts) -> LaunchSpec:
    return scenario_spec(images.scenario(name, debian.ovmf_2025_02))


@pytest.mark.parametrize(
    ("name", "carrier", "reason"),
    [
        ("verity", Carrier.ROOT, "roothash= protects the root file system"),
        ("uki-252", Carrier.ADDON, "systemd-stub 252 takes no initrd add-on"),
        ("uki-252", None, "nothing carries the agent"),
        ("uki-signed", Carrier.ADDON, "Secure Boot is on"),
        ("shim-grub", Carrier.ADDON, "is no UKI"),
        ("uki-257", Carrier.INITRD, "comes from the disk"),
        ("uki-257", Carrier.ROOT, "does not tell which partition"),
    ],
)
def test_an_image_that_takes_it_not(
    *,
    name: str,
    carrier: Carrier | None,
    reason: str,
    images: Images,
    debian: DebianParts,
    agent: Agent,
    tmp_path: Path,
) -> None:
    """The reason is said, and what is possible instead; nothing is written."""
    spec = spec_of(images, name, debian)
    with pytest.raises(SpecError, match=reason) as refused:
        carry(spec, tmp_path, tmp_path, agent, stub=bytes, carrier=carrier)
    assert refused.value.hint
    assert list(tmp_path.iterdir()) == []


def test_verity_has_an_alternative(
    images: Images, debian: DebianParts, agent: Agent, tmp_path: Path
) -> None:
    spec = spec_of(images, "verity", debian)
    stub = images.inputs.addon_stubs["257"]
    carried = carry(spec, tmp_path, tmp_path, agent, stub=lambda: stub)
    assert carried.carrier is Carrier.ADDON
    assert carried.registers(Target.CC) == {"rtmr1", "rtmr2"}


def test_the_verb(
    images: Images, debian: DebianParts, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It writes a spec that launches the copy, and leaves the image as it is."""
    spec = spec_of(images, "easyenclave-small", debian)
    (tmp_path / "launch.toml").write_text(spec_text(spec), encoding="utf-8")
    out = tmp_path / "out"
    command = ["addon", str(tmp_path / "launch.toml"), "--out", str(out)]
    command += ["--busybox", str(debian.busybox)]
    assert main(command) == 0
    assert "moves no register (no PCR)" in capsys.readouterr().out
    written = read_spec_file(out / "launch.toml")
    assert written.disks[0].path == str(out / "disk0.raw")
    assert main([*command, "--carrier", "addon", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["moves"]["rtmrs"] == ["RTMR1", "RTMR2"]
    assert main([*command, "--carrier", "initrd"]) == 2
    assert main([*command[:3], str(tmp_path)]) == 2
    assert main([*command[:3], str(out / "launch.toml")]) == 2


def test_a_spec_is_written_as_it_is_read(images: Images, debian: DebianParts) -> None:
    spec = spec_of(images, "kernel-efi", debian)
    assert read_spec(spec_text(spec), origin="written") == spec
    moved = absolute(spec, Path("/elsewhere"))
    assert read_spec(spec_text(moved), origin="written") == moved
