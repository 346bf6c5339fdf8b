"""The events of a firmware: golden RTMR0, order and number per profile, real logs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from fixtures.guid import guid
from fixtures.tdvf import build_tdvf
from fixtures.varstore import build_varstore
from mrtd.boot.efi_stub import load_options, stub_events
from mrtd.eventlog.event import Event, EventLog, EventType, InputName, Origin
from mrtd.eventlog.replay import replay
from mrtd.eventlog.tcg2 import read_log
from mrtd.firmware.acpi import derive_loader, derive_rsdp
from mrtd.firmware.profiles import PROFILES, FirmwareProfile, Step, profile_named
from mrtd.firmware.sequence import (
    MEASURED_FW_CFG,
    FirmwareInputs,
    NamedBlob,
    exit_boot_services,
    firmware_events,
)
from mrtd.firmware.tdvf import read_tdvf
from mrtd.firmware.variables import SecureBoot, Variable, read_variables, variable_data
from mrtd.registers import Exact, RegisterName, Sha384, Target, Unpinned
from tests.conftest import DebianParts

GIB = 1 << 30
# facts 1.2: H of Debian's blank 4M variable store, 0x84000 bytes; the same in dstack's TDs
BLANK_CFV = (
    "344bc51c980ba621aaa00da3ed7436f7d6e549197dfe699515dfa2c6583d95e6"
    "412af21c097d473155875ffd561d6790"
)
BOOT_ORDER = b"/rom@genroms/linuxboot_dma.bin\0"
KERNEL = Sha384.of(b"kernel")


def inputs(image: bytes, **changes: Any) -> FirmwareInputs:
    """What a direct boot on 2 GiB without Secure Boot measures, with changes."""
    view = memoryview(image)
    given: dict[str, Any] = {
        "image": view,
        "tdvf": read_tdvf(view, origin="OVMF.fd"),
        "memory": 2 * GIB,
        "variables": (),
        "secure_boot": SecureBoot.ABSENT,
        "acpi": tuple(
            NamedBlob(name, name.encode(), "test")
            for name in ("etc/table-loader", "etc/acpi/rsdp", "etc/acpi/tables")
        ),
        "fw_cfg": (
            NamedBlob("BootMenu", bytes(2), "test"), NamedBlob("bootorder", BOOT_ORDER, "test"),
        ),
        "smbios": NamedBlob("SMBIOS tables", b"smbios", "test"),
        "boot_image": kernel_event(Target.CC),
    }  # fmt: skip
    return FirmwareInputs(**(given | changes))


def kernel_event(target: Target) -> Event:
    register = RegisterName.RTMR1 if target is Target.CC else RegisterName.PCR4
    return Event(
        register,
        EventType.EV_EFI_BOOT_SERVICES_APPLICATION,
        KERNEL,
        "kernel",
        Origin(InputName.KERNEL, "vmlinuz"),
    )


def named(name: str) -> FirmwareProfile:
    return profile_named(name, origin="test")


def events(name: str, target: Target = Target.CC, **changes: Any) -> EventLog:
    profile = named(name)
    changes.setdefault("boot_image", kernel_event(target))
    log = firmware_events(profile, inputs(build_tdvf(), **changes), target)
    return (*log, *exit_boot_services(target, profile))


def of(log: EventLog, register: str) -> list[tuple[str, str]]:
    """Type and first digest bytes of the events of one register."""
    return [
        (EventType(event.type).name.removeprefix("EV_"), str(event.digest)[:8])
        for event in log
        if event.register == register
    ]


def test_rtmr0_of_a_real_machine_from_its_tables_alone(corpus: Path, debian: DebianParts) -> None:
    # shared/corpus/README.md: q35-with-hpet, blank 4M CFV, 0x811000 layout, edk2 2025.02, 4 GiB
    tables = (corpus / "acpi" / "q35-with-hpet.tables").read_bytes()
    acpi = (
        NamedBlob("etc/table-loader", derive_loader(tables, origin="tables"), "derived"),
        NamedBlob("etc/acpi/rsdp", derive_rsdp(tables, origin="tables"), "derived"),
        NamedBlob("etc/acpi/tables", tables, "tables"),
    )
    image = debian.ovmf_2025_02.read_bytes()
    given = inputs(image, memory=4096 << 20, acpi=acpi)
    log = firmware_events(named("edk2-202502"), given, Target.CC)
    assert replay(log)[RegisterName.RTMR0] == Exact(
        Sha384.fromhex(
            "507b21ccfe504463c9a324a440e19707ef84e03663cf6c6013540ce79131f967"
            "5a7852cfa65303d931c2a79389ffff49"
        )
    )


@pytest.mark.parametrize(
    ("name", "count"),
    [  # facts 3.2: 14 until 202408, 13 in 202411 and 202502, 17 from 202505 on
        ("edk2-202302", 14),
        ("edk2-202411", 13),
        ("edk2-202502", 13),
        ("edk2-202505", 17),
        ("edk2-202508", 17),
        ("edk2-202605", 17),
        ("edk2-202302-inteltdx", 14),
        ("edk2-202411-inteltdx", 13),
        ("edk2-202502-inteltdx", 13),
        ("edk2-202505-inteltdx", 17),
        ("edk2-202508-inteltdx", 17),
        ("edk2-202605-inteltdx", 15),  # no boot option is left
        ("edk2-202608-inteltdx", 16),  # BootManagerMenuApp alone
    ],
)
def test_number_of_events_in_rtmr0(name: str, count: int) -> None:
    assert len(of(events(name), "rtmr0")) == count


def test_firmware_without_td_measurement_extends_nothing() -> None:
    profile = named("edk2-202211")
    assert firmware_events(profile, inputs(build_tdvf()), Target.CC) == ()


def test_events_of_rtmr0_in_202502() -> None:
    log = of(events("edk2-202502"), "rtmr0")
    assert [kind for kind, _ in log] == [
        "EFI_HANDOFF_TABLES2",
        "EFI_PLATFORM_FIRMWARE_BLOB2",
        *["EFI_VARIABLE_DRIVER_CONFIG"] * 5,
        "SEPARATOR",
        *["PLATFORM_CONFIG_FLAGS"] * 3,
        *["EFI_VARIABLE_BOOT"] * 2,
    ]
    # facts 3.2, 3.3, 3.5
    assert [digest for _, digest in log[2:8]] == [
        "9dc3a1f8", "6f2e3cbc", "d607c0ef", "08a74f89", "18cc6e01", "394341b7",
    ]  # fmt: skip
    assert [digest for _, digest in log[11:]] == ["1dd6f7b4", "23ada07f"]


def test_events_of_rtmr0_in_202505() -> None:
    log = of(events("edk2-202505"), "rtmr0")
    assert [kind for kind, _ in log] == [
        "EFI_HANDOFF_TABLES2",
        "EFI_PLATFORM_FIRMWARE_BLOB2",
        *["PLATFORM_CONFIG_FLAGS"] * 2,
        *["EFI_VARIABLE_DRIVER_CONFIG"] * 5,
        "SEPARATOR",
        *["PLATFORM_CONFIG_FLAGS"] * 3,
        "EFI_HANDOFF_TABLES",
        *["EFI_VARIABLE_BOOT"] * 3,
    ]
    # facts 3.5: BootMenu u16 0, bootorder of -kernel, BootOrder 0000,0001 and its options
    assert [digest for _, digest in log[2:4]] == ["1dd6f7b4", "53d3dbc0"]
    assert [digest for _, digest in log[14:]] == ["52b9a02d", "5068e6a9", "dd424f2e"]


@pytest.mark.parametrize("name", ["edk2-202411", "edk2-202502", "edk2-202508"])
def test_events_of_rtmr1_since_202411(name: str) -> None:
    # facts 4.3
    assert of(events(name), "rtmr1") == [
        ("EFI_BOOT_SERVICES_APPLICATION", str(KERNEL)[:8]),
        ("EFI_ACTION", "77a0dab2"),
        ("SEPARATOR", "394341b7"),
        ("EFI_ACTION", "214b0bef"),
        ("EFI_ACTION", "0a2e01c8"),
    ]


def test_events_of_rtmr1_before_202411() -> None:
    log = events("edk2-202302")
    assert [kind for kind, _ in of(log, "rtmr1")] == [
        "EFI_BOOT_SERVICES_APPLICATION", "EFI_ACTION", "EFI_ACTION", "EFI_ACTION",
    ]  # fmt: skip
    assert of(log, "rtmr0")[-1] == ("SEPARATOR", "394341b7")


def test_firmware_extends_nothing_into_rtmr2() -> None:
    assert of(events("edk2-202605"), "rtmr2") == []


def test_where_older_inteltdx_builds_put_boot_variables_is_not_known() -> None:
    rules = replay(events("edk2-202211-inteltdx"))
    for register in (RegisterName.RTMR0, RegisterName.RTMR1):
        rule = rules[register]
        assert isinstance(rule, Unpinned)
        assert "is not known" in rule.reason


@pytest.mark.parametrize("profile", PROFILES, ids=lambda p: p.name)
@pytest.mark.parametrize("target", list(Target))
def test_every_profile_gives_events_of_its_target(profile: FirmwareProfile, target: Target) -> None:
    log = firmware_events(profile, inputs(build_tdvf(), boot_image=kernel_event(target)), target)
    rows = profile.cc if target is Target.CC else profile.tpm
    assert bool(log) is bool(rows)
    prefix = "rtmr" if target is Target.CC else "pcr"
    assert all(event.register.startswith(prefix) for event in log)
    unconfirmed = {row.unconfirmed for row in rows} if target is Target.CC else {""}
    assert {event.unconfirmed for event in log} <= unconfirmed | {""}


def test_unpredictable_smbios_tables_unpin_rtmr0_only() -> None:
    reason = Unpinned("SMBIOS tables are not predicted")
    rules = replay(events("edk2-202605", smbios=NamedBlob("SMBIOS tables", reason, "QEMU")))
    assert rules[RegisterName.RTMR0] == reason
    assert isinstance(rules[RegisterName.RTMR1], Exact)


def test_smbios_tables_do_not_matter_before_202505() -> None:
    reason = Unpinned("SMBIOS tables are not predicted")
    rules = replay(events("edk2-202502", smbios=NamedBlob("SMBIOS tables", reason, "QEMU")))
    assert isinstance(rules[RegisterName.RTMR0], Exact)


def test_what_verifies_the_kernel_is_measured_before_it() -> None:
    authority = replace(kernel_event(Target.CC), type=EventType.EV_EFI_VARIABLE_AUTHORITY)
    kinds = [event.type for event in events("edk2-202502", before_image=(authority,))]
    at = kinds.index(EventType.EV_EFI_VARIABLE_AUTHORITY)
    assert kinds[at + 1] == EventType.EV_EFI_BOOT_SERVICES_APPLICATION


def test_measured_fw_cfg_items_are_in_edk2_s_order() -> None:
    assert MEASURED_FW_CFG == (  # facts 3.2, row 2a
        "etc/extra-pci-roots", "BootMenu", "etc/boot-menu-wait", "etc/reserved-memory-end",
        "opt/ovmf/X-PciMmio64Mb", "bootorder",
    )  # fmt: skip


def test_fw_cfg_events_name_their_item_in_56_bytes() -> None:
    found = [e for e in events("edk2-202505") if e.origin.input is InputName.FW_CFG]
    assert [e.data for e in found] == [
        b"QEMU FW CFG\0" + b"BootMenu".ljust(56, b"\0"),
        b"QEMU FW CFG\0" + b"bootorder".ljust(56, b"\0"),
    ]


def test_every_event_says_which_input_it_came_from() -> None:
    for event in events("edk2-202605", secure_boot=SecureBoot.OFF):
        assert event.description
        assert event.origin.where


def test_rows_without_a_real_log_mark_their_events() -> None:
    marked = {e.type for e in events("edk2-202605") if e.unconfirmed}
    assert marked == {
        EventType.EV_PLATFORM_CONFIG_FLAGS,
        EventType.EV_EFI_HANDOFF_TABLES,
        EventType.EV_EFI_VARIABLE_BOOT,
    }
    assert not any(e.unconfirmed for e in events("edk2-202502"))
    assert not any(e.unconfirmed for e in events("edk2-202605", Target.TPM))


def test_steps_without_a_row_in_a_td_are_those_of_a_tpm() -> None:
    only_tpm = {row.step for p in PROFILES for row in p.tpm} - {
        row.step for p in PROFILES for row in p.cc
    }
    assert only_tpm == {Step.CRTM_VERSION, Step.FIRMWARE_VOLUMES, Step.SEPARATORS}


def test_events_of_a_tpm_in_202502() -> None:
    # facts/qemu.md A: log of a software TPM
    log = events("edk2-202502", Target.TPM, version="2025.02-8+deb13u1")
    assert [(str(e.register), EventType(e.type).name.removeprefix("EV_")) for e in log] == [
        ("pcr0", "S_CRTM_VERSION"),
        ("pcr0", "EFI_PLATFORM_FIRMWARE_BLOB"),
        ("pcr0", "EFI_PLATFORM_FIRMWARE_BLOB"),
        *[("pcr7", "EFI_VARIABLE_DRIVER_CONFIG")] * 5,
        ("pcr7", "SEPARATOR"),
        *[("pcr1", "PLATFORM_CONFIG_FLAGS")] * 3,
        ("pcr4", "EFI_BOOT_SERVICES_APPLICATION"),
        *[("pcr1", "EFI_VARIABLE_BOOT")] * 2,
        ("pcr4", "EFI_ACTION"),
        *[(f"pcr{n}", "SEPARATOR") for n in range(7)],
        *[("pcr5", "EFI_ACTION")] * 2,
    ]
    assert log[0].data == "2025.02-8+deb13u1\0".encode("utf-16-le")


def test_unpacked_volumes_are_measured_into_a_tpm() -> None:
    volumes = (memoryview(b"pei"), memoryview(b"dxe"))
    as_built = events("edk2-202605", Target.TPM, volumes=volumes)
    assert [e.digest for e in as_built[1:3]] == [Sha384.of(b"pei"), Sha384.of(b"dxe")]
    written = events("edk2-202502", Target.TPM, volumes=volumes)
    assert isinstance(written[1].digest, Unpinned)
    assert written[2].digest == Sha384.of(b"dxe")
    unknown = events("edk2-202605", Target.TPM)
    assert all(isinstance(e.digest, Unpinned) for e in unknown[1:3])


def test_cfv_is_measured_as_it_is_in_the_image() -> None:
    cfv = build_varstore(size=0x5000)
    given = inputs(build_tdvf(cfv=cfv))
    log = firmware_events(named("edk2-202502"), given, Target.CC)
    assert log[1].digest == Sha384.of(cfv)
    assert log[1].origin.where == "OVMF.fd+0x0, 0x5000 bytes"


def test_sbat_level_is_measured_like_the_policy() -> None:
    # facts 3.5: f143e294 in logs of shim, which measures it as EV_EFI_VARIABLE_AUTHORITY
    shim = guid("605dab50-e046-4300-abb6-3dd810dd8b23")
    variable = Variable(shim, "SbatLevel", b"sbat,1,2021030218\n")
    assert str(Sha384.of(variable_data(variable))).startswith("f143e294")


def known(log: EventLog) -> list[tuple[str, int, str]]:
    """Register, type and digest of events; the digest unless it is of the machine's files."""
    own = {
        EventType.EV_PLATFORM_CONFIG_FLAGS,
        EventType.EV_EFI_BOOT_SERVICES_APPLICATION,
        EventType.EV_EVENT_TAG,
    }
    return [
        (str(e.register), e.type, "" if e.type in own else str(e.digest))
        for e in log
        if e.type != EventType.EV_NO_ACTION and e.register != "rtmr3"
    ]


def predicted(name: str, memory: int, debian: DebianParts, layout: str) -> EventLog:
    """A whole direct boot of Debian's firmware with another layout of its memory."""
    profile = named(name)
    image = bytearray(debian.ovmf_2025_02.read_bytes())
    if layout == "0x810000":  # facts 1.2: the first TEMP_MEM is the only difference
        at = image.index(b"TDVF") + 16 + 2 * 32
        image[at + 8 : at + 24] = (0x810000).to_bytes(8, "little") + (0x10000).to_bytes(8, "little")
    given = inputs(bytes(image), memory=memory)
    options = load_options("console", initrd=True, argument=profile.initrd_argument)
    stub = stub_events(options, Sha384.of(b""), target=Target.CC, initrd_where="initrd")
    firmware = firmware_events(profile, given, Target.CC)
    return (*firmware, *stub, *exit_boot_services(Target.CC, profile))


def test_a_real_log_of_edk2_before_202411_has_the_predicted_events(
    corpus: Path, debian: DebianParts
) -> None:
    data = (corpus / "eventlogs" / "ovmf-direct-2gib.ccel").read_bytes()
    observed = read_log(data, origin="ovmf-direct-2gib", target=Target.CC)
    assert known(predicted("edk2-202302", 2 * GIB, debian, "0x810000")) == known(observed)


def test_a_real_log_of_edk2_202411_has_the_predicted_events(
    corpus: Path, debian: DebianParts
) -> None:
    report = json.loads((corpus / "quotes" / "dstack-quote-report.json").read_text())
    observed = tuple(
        Event(
            RegisterName(f"rtmr{record['imr']}"),
            record["event_type"],
            Sha384.fromhex(record["digest"]),
            "",
            Origin(InputName.LOG, ""),
        )
        for record in json.loads(report["event_log"])
    )
    assert known(predicted("edk2-202411", 64 * GIB, debian, "0x810000")) == known(observed)


def test_debian_s_blank_variables_are_those_of_real_tds(debian: DebianParts) -> None:
    image = memoryview(debian.ovmf_2025_02.read_bytes())
    log = firmware_events(named("edk2-202502"), inputs(bytes(image)), Target.CC)
    assert str(log[1].digest) == BLANK_CFV
    assert read_variables(image[:0x84000], origin="OVMF.fd") == ()
