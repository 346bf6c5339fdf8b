"""What is derived of a disk boot equals, event by event, what the booted guest's log says.

The boots are those of ``test_disk_boots.py``, each done once in a session: UKIs, systemd-boot,
shim and GRUB, a kernel with a boot option, with and without Secure Boot; and UKIs that QEMU's
``-kernel`` gives to the firmware.
"""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from ci.spec_text import spec_text
from mrtd.cli.main import main
from mrtd.derive import Derivation
from mrtd.disk import open_disk, open_esp
from mrtd.document import encode, to_document
from mrtd.errors import SpecError
from mrtd.eventlog import Event, EventType
from mrtd.eventlog.tcg2 import read_log
from mrtd.launch.spec import DiskBoot
from mrtd.measure import MeasureOptions, measure
from mrtd.registers import Exact, RegisterName, Target, Unpinned
from tests.boots import Booted, Boots, Scenario, scenario_spec
from tests.ci.test_disk_boots import CASES, VARIABLES
from tests.ci.test_disk_boots import boot as boot_disk
from tests.conftest import DebianParts
from tests.disk_images import Images

pytestmark = pytest.mark.boot

PEI_VOLUME = "PEI firmware volume"  # its modules write to it before it is measured
DIRECT = {
    # (stub, recent QEMU and firmware, command line)
    "uki-257 -kernel": ("257", False, "console=ttyS0 from=outside"),
    "uki-257 -kernel, QEMU 11": ("257", True, "console=ttyS0 from=outside"),
    "uki-262 -kernel without console=": ("262", False, "panic=-1"),
}


def predicted(booted: Booted, debian: DebianParts) -> Derivation:
    recent = booted.spec.vmm.version.startswith("11.")
    options = MeasureOptions(target=Target.TPM, qemu=debian.qemu_11 if recent else None)
    return measure(booted.spec, booted.folder, options)


def logged(booted: Booted) -> list[Event]:
    log = read_log(booted.result.log, origin="guest", target=Target.TPM)
    return [event for event in log if event.type != EventType.EV_NO_ACTION]


def compare(booted: Booted, debian: DebianParts) -> None:
    derivation = predicted(booted, debian)
    found = logged(booted)
    for mine, theirs in zip(derivation.log, found, strict=True):
        assert (mine.register, mine.type) == (theirs.register, theirs.type), mine.description
        if isinstance(mine.digest, Unpinned):
            assert mine.label == PEI_VOLUME, mine.digest.reason
            continue
        assert mine.digest == theirs.digest, mine.description
        assert mine.data in {b"", theirs.data}, mine.description
    for name, rule in derivation.registers.rules:
        if name != RegisterName.PCR0:
            assert rule == Exact(booted.result.pcrs[int(name[3:])]), name
    encode(to_document(derivation))


@pytest.mark.parametrize("name", CASES)
def test_a_disk_boot_is_derived_as_it_is_logged(
    name: str, images: Images, boots: Boots, debian: DebianParts
) -> None:
    assert set(CASES) >= VARIABLES
    compare(boot_disk(name, images, boots, debian), debian)


def test_a_disk_with_a_config_disk_beside_it_is_derived_as_it_is_logged(
    images: Images, boots: Boots, debian: DebianParts
) -> None:
    """The firmware makes an option for the config disk, too, and calls it by what is on it."""
    booted = boots(images.scenario("easyenclave-small", debian.ovmf_2025_02))
    compare(booted, debian)
    log = read_log(booted.result.log, origin="guest", target=Target.TPM)
    assert any("Non-Block Boot Device" in event.description for event in log)


@pytest.mark.parametrize("name", DIRECT)
def test_a_uki_that_qemu_gives_is_derived_as_it_is_logged(
    name: str, images: Images, boots: Boots, debian: DebianParts
) -> None:
    stub, recent, cmdline = DIRECT[name]
    folder = images(f"uki-{stub}")
    with open_disk(folder / "disk.raw", "raw") as disk:
        (folder / "uki.efi").write_bytes(open_esp(disk).read("EFI/BOOT/BOOTX64.EFI", 1 << 30))
    scenario = Scenario(
        firmware=debian.ovmf_2026_08 if recent else debian.ovmf_2025_02,
        kernel=folder / "uki.efi",
        has_initrd=False,
        cmdline=cmdline,
        qemu=debian.qemu_11 if recent else None,
    )
    compare(boots(scenario), debian)


@pytest.mark.parametrize("name", ["uki-257", "uki-252"])
def test_a_td_s_boot_from_disk_is_pinned(name: str, images: Images, debian: DebianParts) -> None:
    """RTMR1 and RTMR2 need neither QEMU nor a boot; what no log of a TD confirms is marked."""
    scenario = images.scenario(name, debian.ovmf_2026_08)
    options = MeasureOptions(target=Target.CC, ask_qemu=False)
    derivation = measure(scenario_spec(scenario), debian.ovmf_2026_08.parent, options)
    for register in (RegisterName.MRTD, RegisterName.RTMR1, RegisterName.RTMR2):
        assert isinstance(derivation.registers[register], Exact)
    told = [event.label for event in derivation.log if event.register == RegisterName.RTMR1]
    assert told[:3] == ["Calling EFI Application from Boot Option", "separator",
                        "GPT of the boot disk"]  # fmt: skip
    doubtful = {event.label for event in derivation.log if event.unconfirmed}
    assert "Exit Boot Services Returned with Failure" in doubtful
    sections = [e for e in derivation.log if e.label and e.label.startswith(".linux")]
    assert len(sections) == (2 if name == "uki-257" else 0)  # 252 knows no CC protocol


def test_another_disk_than_expected_is_explained(
    images: Images, boots: Boots, debian: DebianParts, capsys: pytest.CaptureFixture[str]
) -> None:
    """A launch from disk can be expected: where nothing known explains a register, that is said."""
    booted = boot_disk("systemd-boot", images, boots, debian)
    folder = images("uki-262")
    (folder / "log").write_bytes(booted.result.log)
    spec = scenario_spec(images.scenario("uki-262", debian.ovmf_2025_02))
    (folder / "launch.toml").write_text(spec_text(spec), encoding="utf-8")
    arguments = ["explain", "--expect", str(folder / "launch.toml"), "--target", "tpm"]
    assert main([*arguments, "--qemu", "none", str(folder / "log")]) == 1
    assert "unexplained" in capsys.readouterr().out


def test_an_entry_that_no_loader_takes_is_refused(images: Images, debian: DebianParts) -> None:
    spec = scenario_spec(images.scenario("uki-257", debian.ovmf_2025_02))
    assert isinstance(spec.boot, DiskBoot)
    spec = replace(spec, boot=replace(spec.boot, entry="other"))
    options = MeasureOptions(target=Target.CC, ask_qemu=False)
    with pytest.raises(SpecError, match="none is started"):
        measure(spec, debian.ovmf_2025_02.parent, options)
