"""Deriving whole launches: rules that involve more than one input."""

from __future__ import annotations

from pathlib import Path

import pytest

from fixtures.tdvf import BFV, MR_EXTEND, PAGE_AUG, PAYLOAD, TEMP_MEM, Section, build_tdvf
from fixtures.varstore import GLOBAL, Variable
from mrtd.derive import Derivation
from mrtd.errors import InputError, SpecError
from mrtd.eventlog import EventType
from mrtd.launch.spec import read_spec_file
from mrtd.measure import MeasureOptions, measure
from mrtd.registers import ZERO, Exact, RegisterName, Target, Unpinned
from tests.conftest import DebianParts
from tests.launches import MODULES, Launch


def derived(
    folder: Path, launch: Launch, *, target: Target = Target.CC, edit: tuple[str, str] = ("", "")
) -> Derivation:
    spec = launch.write(folder)
    spec.write_text(spec.read_text(encoding="utf-8").replace(*edit), encoding="utf-8")
    options = MeasureOptions(target=target, ask_qemu=False)
    return measure(read_spec_file(spec), folder, options)


def codes(derivation: Derivation) -> set[str]:
    return {note.code for note in derivation.notes}


def moved(before: Derivation, after: Derivation) -> set[str]:
    return {str(name) for name, rule in before.registers.rules if after.registers[name] != rule}


@pytest.mark.parametrize(
    ("edit", "registers"),
    [
        (("2 GiB", "4 GiB"), {"rtmr0"}),
        (("2 GiB", "1 GiB"), {"rtmr0"}),
        (("vcpus = 2", "vcpus = 4"), set()),  # tables are given
        (("console=ttyS0", "quiet"), {"rtmr2"}),
        (('initrd = "initrd.img"', ""), {"rtmr2"}),
        (("[vmm]", '[vmm]\npage_order = "two-pass"'), {"mrtd"}),
        (("edk2-202502", "edk2-202411"), {"rtmr1"}),  # reads the patched kernel
        (("edk2-202502", "edk2-202302"), {"rtmr0", "rtmr1"}),
        (("edk2-202502", "edk2-202508"), {"rtmr0", "rtmr2"}),
        (('version = "10.1.0"', 'version = "9.2.1"'), {"rtmr1"}),
        (('version = "10.1.0"', 'version = "8.2.2"'), {"mrtd", "rtmr1"}),
    ],
)
def test_an_input_moves_its_registers_and_no_other(
    tmp_path: Path, edit: tuple[str, str], registers: set[str]
) -> None:
    before = derived(tmp_path, Launch())
    assert moved(before, derived(tmp_path, Launch(), edit=edit)) == registers


def test_patched_header_depends_on_low_memory_only(tmp_path: Path) -> None:
    """Facts 4.1: the same at 2 GiB and from 2.75 GiB on, other values in between and below."""
    patched = Launch(boot='kernel_header = "patched"')
    by_size = {
        size: derived(tmp_path, patched, edit=("2 GiB", size)).registers[RegisterName.RTMR1]
        for size in ("1 GiB", "2 GiB", "2.5 GiB", "2.75 GiB", "16 GiB")
    }
    assert by_size["2 GiB"] == by_size["2.75 GiB"] == by_size["16 GiB"]
    assert len(set(map(str, by_size.values()))) == 3


def test_plain_header_does_not_depend_on_memory(tmp_path: Path) -> None:
    plain = Launch(boot='kernel_header = "plain"')
    values = [
        derived(tmp_path, plain, edit=("2 GiB", size)).registers[RegisterName.RTMR1]
        for size in ("1 GiB", "2 GiB", "2.5 GiB")
    ]
    assert values[0] == values[1] == values[2]


def test_default_page_order_of_a_patched_host_is_a_warning(tmp_path: Path) -> None:
    old = derived(tmp_path, Launch(), edit=('version = "10.1.0"', 'version = "8.2.2"'))
    warnings = {note.code for note in old.notes if note.level == "warning"}
    assert {"page_order_default", "not_upstream_tdx"} <= warnings
    new = derived(tmp_path, Launch())
    assert not any(note.level == "warning" for note in new.notes)


def test_secure_boot_that_is_on_leaves_rtmr0_unpinned(tmp_path: Path) -> None:
    image = build_tdvf(
        modules=[*MODULES], variables=[Variable(GLOBAL, "PK", b"key")], bfv_size=0x8000
    )
    launch = Launch(
        firmware='profile = "edk2-202502"\nsecure_boot = true', files={"OVMF.fd": image}
    )
    found = derived(tmp_path, launch)
    rule = found.registers[RegisterName.RTMR0]
    assert isinstance(rule, Unpinned)
    assert "Secure Boot" in rule.reason
    assert "secure_boot_on" in codes(found)
    assert [e.description for e in found.log if e.description.startswith("SecureBoot")] == [
        "SecureBoot: on"
    ]


def test_profile_that_the_image_contradicts_is_a_warning(tmp_path: Path) -> None:
    assert "profile_contradicted" in codes(
        derived(tmp_path, Launch(firmware='profile = "edk2-202505-inteltdx"'))
    )


def test_unknown_place_of_events_unpins_both_registers(tmp_path: Path) -> None:
    found = derived(tmp_path, Launch(firmware='profile = "edk2-202211-inteltdx"'))
    assert isinstance(found.registers[RegisterName.RTMR0], Unpinned)
    assert isinstance(found.registers[RegisterName.RTMR1], Unpinned)
    assert isinstance(found.registers[RegisterName.RTMR2], Exact)


def test_firmware_that_extends_nothing_leaves_zeros(tmp_path: Path) -> None:
    found = derived(tmp_path, Launch(firmware='profile = "edk2-202211"'))
    assert found.log == ()
    values = [found.registers[name] for name in list(RegisterName)[1:4]]
    assert values == [Exact(ZERO)] * 3


def test_section_that_qemu_refuses_is_refused(tmp_path: Path) -> None:
    image = build_tdvf(
        sections=[
            Section(BFV, 0, 0x1000, 0xFFFFF000, 0x1000, MR_EXTEND),
            Section(PAYLOAD, 0, 0, 0x1000000, 0x1000),
        ]
    )
    launch = Launch(firmware='profile = "edk2-202211"', files={"OVMF.fd": image})
    with pytest.raises(SpecError, match="PAYLOAD"):
        derived(tmp_path, launch)


def test_section_that_vmm_and_image_disagree_about_is_refused(tmp_path: Path) -> None:
    """Facts 2.4: QEMU ignores PAGE.AUG and adds the pages; by the specification they are not."""
    sections = [
        Section(BFV, 0, 0x1000, 0xFFFFF000, 0x1000, MR_EXTEND),
        Section(TEMP_MEM, 0, 0, 0x800000, 0x1000, PAGE_AUG),
    ]
    launch = Launch(
        firmware='profile = "edk2-202211"', files={"OVMF.fd": build_tdvf(sections=sections)}
    )
    with pytest.raises(SpecError, match="disagree about its MRTD"):
        derived(tmp_path, launch)


def test_moved_memory_split_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="max-ram-below-4g"):
        derived(tmp_path, Launch(machine='options = { max-ram-below-4g = "1G" }'))


def test_firmware_without_cfv_cannot_have_measured_one(tmp_path: Path) -> None:
    image = build_tdvf(sections=[Section(BFV, 0, 0x1000, 0xFFFFF000, 0x1000, MR_EXTEND)])
    with pytest.raises(InputError, match="no CFV"):
        derived(tmp_path, Launch(files={"OVMF.fd": image}))


def test_inteltdx_builds_measure_nothing_into_a_tpm(tmp_path: Path) -> None:
    launch = Launch(firmware='profile = "edk2-202508-inteltdx"')
    with pytest.raises(SpecError, match="no TPM drivers"):
        derived(tmp_path, launch, target=Target.TPM)


def test_memory_that_ends_below_the_firmware_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="do not reach"):
        derived(tmp_path, Launch(), edit=("2 GiB", "8 MiB"))


def test_fw_cfg_items_are_measured_in_the_firmwares_order(tmp_path: Path) -> None:
    launch = Launch(
        firmware='profile = "edk2-202505"',
        machine='fw_cfg = { "opt/ovmf/X-PciMmio64Mb" = "65536", "opt/other" = "x" }',
    )
    found = derived(tmp_path, launch)
    items = [
        event.description
        for event in found.log
        if event.type == EventType.EV_PLATFORM_CONFIG_FLAGS and event.origin.input == "fw_cfg"
    ]
    assert items == ["BootMenu", "opt/ovmf/X-PciMmio64Mb", "bootorder"]


def test_boot_order_of_devices_is_not_guessed(tmp_path: Path) -> None:
    launch = Launch(
        firmware='profile = "edk2-202505"',
        machine='devices = ["virtio-blk-pci,drive=d,bootindex=1"]',
    )
    unknown = {
        e.description for e in derived(tmp_path, launch).log if isinstance(e.digest, Unpinned)
    }
    assert unknown == {"bootorder", "SMBIOS tables"}


def test_given_loader_and_rsdp_win_over_derived_ones(tmp_path: Path) -> None:
    first = derived(tmp_path, Launch())
    loader = next(e for e in first.log if e.description == "etc/table-loader")
    assert loader.origin.where == "derived from acpi_tables.bin"
    given = Launch(
        acpi='tables = "acpi_tables.bin"\nrsdp = "rsdp.bin"',
        files={"rsdp.bin": b"RSD PTR \0BOCHS \0" + bytes(4)},
    )
    second = derived(tmp_path, given)
    assert moved(first, second) == {"rtmr0"}
    rsdp = next(e for e in second.log if e.description == "etc/acpi/rsdp")
    assert rsdp.origin.where == "rsdp.bin"


@pytest.mark.qemu
def test_real_parts_and_real_qemu_pin_every_register(tmp_path: Path, debian: DebianParts) -> None:
    """What `nox -s measure` shows: OVMF 2025.02, Linux 6.12, QEMU 11's own tables."""
    launch = Launch(
        machine='phys_bits = 46\ndevices = ["virtio-net-pci,netdev=n", "virtio-blk-pci,drive=d"]',
        firmware="",
        acpi="",
        files={
            "OVMF.fd": debian.ovmf_2025_02.read_bytes(),
            "vmlinuz": debian.kernel_6_12.read_bytes(),
        },
    )
    spec = launch.write(tmp_path)
    version = debian.versions["qemu-backports"].split(":")[-1].split("+")[0]
    text = spec.read_text(encoding="utf-8").replace("10.1.0", version)
    spec.write_text(text, encoding="utf-8")
    found = measure(read_spec_file(spec), tmp_path, MeasureOptions(qemu=debian.qemu_11))
    assert all(isinstance(rule, Exact) for _, rule in found.registers.rules)
    assert found.firmware.guessed
    assert found.firmware.profile.name == "edk2-202502"
    assert sum(event.register is RegisterName.RTMR0 for event in found.log) == 13
    assert not any(note.level == "alarm" for note in found.notes)


@pytest.mark.qemu
def test_cpu_signature_pins_rtmr0_of_new_firmware(tmp_path: Path, debian: DebianParts) -> None:
    """edk2 >= 202505 measures the host's CPU signature, which a dump elsewhere does not have."""
    version = debian.versions["qemu-backports"].split(":")[-1].split("+")[0]
    files: dict[str, bytes | None] = {"OVMF.fd": debian.ovmf_2026_08.read_bytes()}

    def rtmr0(processor_id: str) -> object:
        machine = f"phys_bits = 46\n{processor_id}"
        spec = Launch(machine=machine, firmware="", acpi="", files=files).write(tmp_path)
        text = spec.read_text(encoding="utf-8").replace("10.1.0", version)
        spec.write_text(text, encoding="utf-8")
        found = measure(read_spec_file(spec), tmp_path, MeasureOptions(qemu=debian.qemu_11))
        assert sum(event.register is RegisterName.RTMR0 for event in found.log) == 17
        return found.registers[RegisterName.RTMR0]

    unknown = rtmr0("")
    assert isinstance(unknown, Unpinned)
    assert "machine.processor_id" in unknown.reason
    one = rtmr0('processor_id = "F8 06 08 00 FF FB EB BF"')
    other = rtmr0('processor_id = "f2060c00fffbebbf"')
    assert isinstance(one, Exact)
    assert isinstance(other, Exact)
    assert one != other


def with_stored(folder: Path, *variables: Variable) -> Derivation:
    firmware = build_tdvf(modules=[*MODULES], variables=[*variables], bfv_size=0x8000)
    return derived(folder, Launch(files={"OVMF.fd": firmware}))


def unpinned(derivation: Derivation) -> set[str]:
    return {str(name) for name, rule in derivation.registers.rules if isinstance(rule, Unpinned)}


@pytest.mark.parametrize("name", ["DriverOrder", "BootNext", "SysPrepOrder"])
def test_what_the_store_starts_before_the_kernel_is_not_derived(tmp_path: Path, name: str) -> None:
    found = with_stored(tmp_path, Variable(GLOBAL, name, b"\x01\0"))
    assert unpinned(found) == {"rtmr0", "rtmr1", "rtmr2"}
    rule = found.registers[RegisterName.RTMR2]
    assert isinstance(rule, Unpinned)
    assert name in rule.reason


def test_stored_boot_options_beside_a_kernel_are_not_derived(tmp_path: Path) -> None:
    found = with_stored(tmp_path, Variable(GLOBAL, "BootOrder", b"\x01\0"))
    assert unpinned(found) == {"rtmr0"}


def test_other_stored_variables_leave_a_direct_boot_as_it_is(tmp_path: Path) -> None:
    assert unpinned(with_stored(tmp_path, Variable(GLOBAL, "PK", b""))) == set()
