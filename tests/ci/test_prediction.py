"""What is derived for target ``tpm`` equals what a booted guest's firmware and kernel measured.

No TDX hardware is needed for this: the same firmware, kernel, QEMU tables and rules are at work,
the software TPM's log is the witness. Each scenario is a real boot under TCG.
"""

from __future__ import annotations

from dataclasses import replace

import msgspec
import pytest

from mrtd.derive import Derivation
from mrtd.eventlog import Event, EventType
from mrtd.eventlog.tcg2 import read_log
from mrtd.measure import MeasureOptions, measure
from mrtd.registers import Exact, RegisterName, Target, Unpinned
from tests.boots import Booted, Boots, Scenario
from tests.conftest import DebianParts
from tests.disk_images import Images

pytestmark = pytest.mark.boot

PEI_VOLUME = "PEI firmware volume"
# IMA extends PCR 10 after the firmware's log has ended.
FIRMWARE_PCRS = [RegisterName(f"pcr{n}") for n in (*range(10), *range(11, 16))]
VIRTIO = ("virtio-scsi-pci", "virtio-rng-pci")


def scenarios(debian: DebianParts) -> dict[str, tuple[Scenario, frozenset[str]]]:
    """Scenario and the events that cannot be predicted, by name."""
    kernel, qemu = debian.kernel_6_12, debian.qemu_11
    old = Scenario(firmware=debian.ovmf_2022_11, kernel=kernel)
    mid = Scenario(firmware=debian.ovmf_2025_02, kernel=kernel)
    new = Scenario(firmware=debian.ovmf_2026_08, kernel=kernel)
    larger = replace(
        mid,
        memory="4 GiB",
        vcpus=2,
        cmdline="console=ttyS0 quiet vga=0x317",
        options={"hpet": False},
        devices=VIRTIO,
    )
    pei: frozenset[str] = frozenset({PEI_VOLUME})
    none: frozenset[str] = frozenset()
    return {
        "edk2-202211": (old, pei),
        "edk2-202502": (mid, pei),
        "edk2-202502, larger machine": (larger, pei),
        "edk2-202608": (new, none),
        "edk2-202502, QEMU 11": (replace(mid, qemu=qemu, devices=VIRTIO), pei),
        "edk2-202608, QEMU 11": (replace(larger, firmware=new.firmware, qemu=qemu), none),
        "edk2-202211, QEMU 11": (replace(old, qemu=qemu), pei),
        # the first QEMU with named blobs: read by edk2 >= 202502, and not by older ones
        "edk2-202211, QEMU 10": (replace(old, qemu=debian.qemu_10), pei),
        "edk2-202502, QEMU 10": (replace(mid, qemu=debian.qemu_10), pei),
    }


NAMES = (
    "edk2-202211",
    "edk2-202502",
    "edk2-202502, larger machine",
    "edk2-202608",
    "edk2-202502, QEMU 11",
    "edk2-202608, QEMU 11",
    "edk2-202211, QEMU 11",
    "edk2-202211, QEMU 10",
    "edk2-202502, QEMU 10",
)


def predicted(booted: Booted, scenario: Scenario) -> Derivation:
    options = MeasureOptions(target=Target.TPM, qemu=scenario.qemu)
    return measure(booted.spec, booted.folder, options)


def logged(booted: Booted) -> list[Event]:
    log = read_log(booted.result.log, origin="guest", target=Target.TPM)
    return [event for event in log if event.type != EventType.EV_NO_ACTION]


def line(event: Event) -> tuple[str, int, str]:
    digest = "unknown" if isinstance(event.digest, Unpinned) else str(event.digest)
    return str(event.register), int(event.type), digest


@pytest.mark.parametrize("name", NAMES)
def test_every_event_is_predicted(boots: Boots, debian: DebianParts, name: str) -> None:
    scenario, unpredicted = scenarios(debian)[name]
    booted = boots(scenario)
    check_events(booted, predicted(booted, scenario), unpredicted)


def check_events(booted: Booted, derivation: Derivation, unpredicted: frozenset[str]) -> None:
    """Every event of the log is the derived one, in order; all but the named ones are known."""
    seen, derived = logged(booted), derivation.log
    assert len(seen) == len(derived)
    unknown = {event.description for event in derived if isinstance(event.digest, Unpinned)}
    assert unknown == unpredicted
    compared = [
        (line(theirs), line(ours))
        for theirs, ours in zip(seen, derived, strict=True)
        if not isinstance(ours.digest, Unpinned)
    ]
    assert [ours for _, ours in compared] == [theirs for theirs, _ in compared]
    # the event bodies that the derivation writes are the ones the firmware logs
    bodies = [(theirs, ours) for theirs, ours in zip(seen, derived, strict=True) if ours.data]
    assert [ours.data for _, ours in bodies] == [theirs.data for theirs, _ in bodies]
    assert len(bodies) > len(derived) // 2


@pytest.mark.parametrize("name", NAMES)
def test_derived_registers_are_the_guests(boots: Boots, debian: DebianParts, name: str) -> None:
    scenario, _ = scenarios(debian)[name]
    booted = boots(scenario)
    check_registers(booted, predicted(booted, scenario))


def check_registers(booted: Booted, derivation: Derivation) -> None:
    derived = dict(derivation.registers.rules)
    compared = 0
    for register in FIRMWARE_PCRS:
        rule = derived.get(register)
        if isinstance(rule, Exact):
            assert rule.value == booted.result.pcrs[int(register[3:])], register
            compared += 1
    assert compared >= 8


def test_bookworms_kernel_is_predicted_too(
    boots: Boots, debian: DebianParts, images: Images, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Debian 12 as it is: Linux 6.1, edk2 2022.11, QEMU 7.2."""
    kernel = images.inputs.kernels["6.1"]
    folder = tmp_path_factory.mktemp("bookworm")
    (folder / "vmlinuz").write_bytes(kernel.image)
    (folder / "initrd").write_bytes(kernel.initrd)
    scenario = Scenario(
        firmware=debian.ovmf_2022_11, kernel=folder / "vmlinuz", initrd=folder / "initrd"
    )
    booted = boots(scenario)
    derivation = predicted(booted, scenario)
    assert derivation.kernel.version.startswith("6.1.")
    check_events(booted, derivation, frozenset({PEI_VOLUME}))
    check_registers(booted, derivation)


def test_one_wrong_input_is_noticed(boots: Boots, debian: DebianParts) -> None:
    """The comparison above can fail: another command line moves PCR 9 and nothing else."""
    scenario, _ = scenarios(debian)["edk2-202502"]
    booted = boots(scenario)
    boot = msgspec.structs.replace(booted.spec.boot, cmdline="console=ttyS1")
    spec = msgspec.structs.replace(booted.spec, boot=boot)
    other = measure(spec, booted.folder, MeasureOptions(target=Target.TPM))
    moved = {
        str(name)
        for name, rule in other.registers.rules
        if isinstance(rule, Exact) and rule.value != booted.result.pcrs[int(name[3:])]
    }
    assert moved == {"pcr9"}
