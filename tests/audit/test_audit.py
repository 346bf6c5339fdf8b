"""Audits of launches: what is in no register is said, with its rule."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fixtures.bzimage import build_bzimage, default_sections
from fixtures.easyenclave import build_ext4, build_image, build_iso
from fixtures.fat import build_fat
from fixtures.tdvf import build_tdvf
from mrtd.audit.audit import audit
from mrtd.audit.cmdline import cmdline_findings
from mrtd.audit.findings import Audit
from mrtd.audit.iso9660 import root_names
from mrtd.audit.machine import machine_findings
from mrtd.audit.rules import RULES
from mrtd.coverage import CoverageStatus
from mrtd.errors import MalformedDisk, SpecError
from mrtd.launch.spec import LaunchSpec, read_spec_file
from mrtd.measure import MeasureOptions, measure
from mrtd.notes import Level
from mrtd.registers import RegisterName
from tests.disk.images import MemoryDisk
from tests.launches import Launch

OFFLINE = MeasureOptions(ask_qemu=False)
HASH = "0123456789abcdef" * 4


def audited(folder: Path, launch: Launch | None = None, cmdline: str | None = None) -> Audit:
    path = (launch or Launch()).write(folder)
    if cmdline is not None:
        text = path.read_text(encoding="utf-8")
        path.write_text(text.replace('"console=ttyS0"', f"'{cmdline}'"), encoding="utf-8")
    spec = read_spec_file(path)
    return audit(spec, folder, measure(spec, folder, OFFLINE))


def with_disk(folder: Path, data: bytes, cmdline: str = "console=ttyS0") -> Audit:
    """A direct boot with a disk beside it."""
    (folder / "disk.img").write_bytes(data)
    boot = '[[disks]]\nname = "d"\npath = "disk.img"\nformat = "raw"'
    machine = 'devices = ["virtio-blk-pci,drive=d"]'
    return audited(folder, Launch(machine=machine, boot=boot), cmdline)


def rules(found: Audit) -> set[str]:
    return {one.rule for one in found.findings}


def machine(**fields: Any) -> LaunchSpec:
    from mrtd.launch.spec import DirectBoot, Firmware, Machine, Vmm

    return LaunchSpec(
        schema="mrtd.launch/1",
        vmm=Vmm(kind="qemu", version="10.1"),
        machine=Machine(**{"memory": "2 GiB", "vcpus": 2, **fields}),
        firmware=Firmware(path="OVMF.fd"),
        boot=DirectBoot(kernel="vmlinuz"),
    )


def test_a_direct_boot_is_covered_by_register_and_event(tmp_path: Path) -> None:
    found = audited(tmp_path)
    rows = {row.name: row for row in found.inputs}
    assert {row.status for row in found.inputs} == {CoverageStatus.MEASURED}
    assert rows["firmware"].registers == (RegisterName.MRTD,)
    assert rows["kernel"].registers == (RegisterName.RTMR1,)
    assert rows["kernel"].event.startswith("kernel PE image")
    assert rows["cmdline"].event.startswith("load options: console=ttyS0")
    assert rows["memory"].registers == (RegisterName.RTMR0,)
    assert rules(found) == {"console_on_host"}


def test_a_firmware_or_kernel_that_measures_nothing_is_an_alarm(tmp_path: Path) -> None:
    old = build_bzimage(sections=default_sections(measures=False))
    for number, launch in enumerate((
        Launch(firmware='profile = "edk2-202211"', files={"OVMF.fd": build_tdvf()}),
        Launch(files={"vmlinuz": old}),
    )):  # fmt: skip
        folder = tmp_path / str(number)
        folder.mkdir()
        found = audited(folder, launch)
        rule = ("firmware_measures_nothing", "kernel_measures_nothing")[number]
        assert {rule, "cmdline_not_measured", "rootfs_not_measured"} <= rules(found)
        assert RULES[rule].level is Level.ALARM


def test_registers_that_are_not_pinned_say_why(tmp_path: Path) -> None:
    found = audited(tmp_path, Launch(acpi=""))
    (one,) = [one for one in found.findings if one.rule == "register_unpinned"]
    assert one.input == "RTMR0"
    assert "QEMU" in one.detail


@pytest.mark.parametrize(
    ("cmdline", "expected"),
    [
        ("quiet ro", set()),
        ("root=/dev/vda2 root=/dev/vdb2", {"cmdline_duplicate_key"}),
        ("root=/dev/vda2 root=/dev/vda2", set()),
        ("console=ttyS0 console=tty0", {"console_on_host"}),
        ("console=tty0", set()),
        ("init=/bin/sh", {"cmdline_init"}),
        ("rdinit=/x", {"cmdline_init"}),
        ("rd.break", {"cmdline_shell"}),
        ("rd.break=pre-mount", {"cmdline_shell"}),
        ("systemd.unit=rescue.target", {"cmdline_shell"}),
        ("systemd.unit=other.target", {"cmdline_unit"}),
        ("systemd.debug-shell", {"cmdline_shell"}),
        ("systemd.debug_shell=0", set()),
        ("single", {"cmdline_shell"}),
        ("module_blacklist=dm_verity", {"cmdline_modules"}),
        ("mitigations=off", {"cmdline_protection_off"}),
        ("mitigations=auto", set()),
        ("selinux=0", {"cmdline_protection_off"}),
        ("systemd.set_credential=a:hunter2", {"cmdline_credential"}),
        ("app.password=hunter2", {"cmdline_secret"}),
        ("rd.luks.key=/dev/x", set()),
        (f"roothash={HASH} systemd.verity=no", {"verity_weakened"}),
        (f"roothash={HASH}", set()),
        ("-- init=/bin/sh rd.break", set()),  # arguments of init, which the kernel leaves alone
    ],
)
def test_switches_of_a_command_line(cmdline: str, expected: set[str]) -> None:
    assert {one.rule for one in cmdline_findings(cmdline)} == expected


def test_secrets_are_not_repeated() -> None:
    text = "systemd.set_credential=a:hunter2 app.password=hunter2 app.password=hunter3"
    assert "hunter" not in repr(list(cmdline_findings(text)))


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=200) | st.lists(st.sampled_from(
    ["init=", "a=1", "a=2", '"', "dm-mod.create=x,,,ro,0 1 verity", "--", "console=ttyS0", "="]
)).map(" ".join))  # fmt: skip
def test_any_command_line_can_be_audited(cmdline: str) -> None:
    for one in cmdline_findings(cmdline):
        assert one.rule in RULES


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, set()),
        ({"topology": {"maxcpus": 8}}, {"hotplug_cpu"}),
        ({"topology": {"maxcpus": 2}}, set()),
        ({"devices": ("pcie-root-port,id=r",)}, {"hotplug_pci"}),
        ({"devices": ("pcie-root-port,id=r,hotplug=off",)}, set()),
        ({"devices": ("virtio-9p-pci,fsdev=f,mount_tag=t",)}, {"shared_folder"}),
        ({"devices": ("vhost-user-fs-pci,chardev=c,tag=t",)}, {"shared_folder"}),
        ({"devices": ("virtserialport,chardev=c,name=org.qemu.guest_agent.0",)},
         {"channel", "guest_agent"}),
        ({"devices": ("vhost-vsock-pci,guest-cid=3",)}, {"channel"}),
        ({"devices": ("tpm-crb,tpmdev=t",)}, {"virtual_tpm"}),
        ({"devices": ("vfio-pci,host=01:00.0",)}, {"host_device"}),
        ({"devices": ("pc-dimm,memdev=m",)}, {"hotplug_memory"}),
        ({"devices": ("ivshmem-plain,memdev=m",)}, {"shared_memory"}),
        ({"devices": ('{"driver": "virtio-net-pci", "netdev": "n"}',)}, {"channel"}),
        ({"serial_ports": 1}, {"channel"}),
        ({"fw_cfg": {"opt/org.example/x": "1"}}, {"fw_cfg_item"}),
        ({"fw_cfg": {"opt/io.systemd.credentials/x": "1"}}, {"fw_cfg_credential"}),
        ({"fw_cfg": {"opt/ovmf/X-PciMmio64Mb": "1"}}, set()),
        ({"smbios": ("type=11,value=io.systemd.credential:a=b",)}, {"smbios_credential"}),
        ({"smbios": ("type=1,serial=1",)}, {"smbios_strings"}),
        ({"not_modelled": ({"code": "numa_nodes", "argument": "-numa", "reason": "r"},)},
         {"machine_not_modelled"}),
    ],
)  # fmt: skip
def test_machines(fields: dict[str, Any], expected: set[str]) -> None:
    import msgspec

    spec = machine()
    tree = msgspec.to_builtins(spec)
    tree["machine"] |= fields
    found = list(machine_findings(msgspec.convert(tree, LaunchSpec), ()))
    assert {one.rule for one in found} == expected


@pytest.mark.parametrize(
    ("argument", "expected"),
    [
        ("-object tdx-guest,id=lsec0", set()),
        ("-object tdx-guest,id=lsec0,attributes=0x10000000", set()),
        ("-object tdx-guest,id=lsec0,attributes=0x10000001", {"debug_attribute"}),
        ("-object tdx-guest,id=lsec0,attributes=0", {"sept_ve_enabled"}),
        ("-object tdx-guest,id=lsec0,sept-ve-disable=off", {"sept_ve_enabled"}),
        ('-object {"qom-type": "tdx-guest", "id": "l", "attributes": 1, "driver": "tdx-guest"}',
         {"debug_attribute", "sept_ve_enabled"}),
        ("-object {tdx-guest", set()),
    ],
)  # fmt: skip
def test_td_attributes(argument: str, expected: set[str]) -> None:
    assert {one.rule for one in machine_findings(machine(), (argument,))} == expected


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (build_ext4("data"), {"partition_not_measured"}),
        (build_iso(("user-data", "meta-data"), label="cidata"), {"config_disk"}),
        (build_iso(("agent.env",)), {"config_disk", "config_environment"}),
        (build_iso(("films",), label="FILMS"), {"partition_not_measured"}),
        (bytes(build_fat({"AGENT.ENV": b"A=B"}).data), {"config_disk", "config_environment"}),
        (b"LUKS\xba\xbe\0\2" + bytes(4096), {"partition_encrypted"}),
        (bytes(4086) + b"SWAPSPACE2", {"swap_on_disk"}),
        (bytes(1 << 16), {"partition_not_measured"}),
    ],
)
def test_what_is_on_a_disk(tmp_path: Path, data: bytes, expected: set[str]) -> None:
    found = with_disk(tmp_path, data)
    assert rules(found) - {"console_on_host"} == expected
    (row,) = [row for row in found.inputs if row.name.startswith("disk d")]
    assert row.status is CoverageStatus.NOT_MEASURED


def test_a_disk_that_is_not_there_or_not_described(tmp_path: Path) -> None:
    spec = 'devices = ["virtio-blk-pci,drive=other"]'
    found = audited(tmp_path, Launch(machine=spec))
    first = found.findings[0]
    assert (first.rule, first.input) == ("disk_unreadable", "disk other")


def test_a_root_hash_without_its_disk_is_not_checked(tmp_path: Path) -> None:
    text = f"root=/dev/mapper/root roothash={HASH}"
    assert "rootfs_not_checked" in rules(audited(tmp_path, cmdline=text))
    (tmp_path / "d").mkdir()
    found = with_disk(tmp_path / "d", build_ext4("root"), text)
    assert {"rootfs_not_checked", "partition_not_measured"} <= rules(found)


def test_an_easyenclave_image_has_its_root_and_its_environment_in_no_register(
    tmp_path: Path,
) -> None:
    (tmp_path / "root.img").write_bytes(build_image(b"MZ" + bytes(3000)))
    (tmp_path / "config.iso").write_bytes(build_iso(("agent.env",)))
    path = Launch(machine='devices = ["virtio-blk-pci,drive=rootdrv", '
                          '"virtio-blk-pci,drive=cfgdrv"]').write(tmp_path)  # fmt: skip
    text = path.read_text()
    text = text[: text.index("[boot]")] + (
        '[[disks]]\nname = "rootdrv"\npath = "root.img"\nformat = "raw"\n'
        '[[disks]]\nname = "cfgdrv"\npath = "config.iso"\nformat = "raw"\nreadonly = true\n'
        '[boot]\nkind = "disk"\ndisk = "rootdrv"\n'
    )
    path.write_text(text)
    found = audit(read_spec_file(path), tmp_path, "the UKI is none that boots")
    rows = {row.name: row for row in found.inputs}
    for name in ("disk rootdrv: partition 2 'root' (ext4)", "disk cfgdrv: disk (iso9660)"):
        assert rows[name].status is CoverageStatus.NOT_MEASURED
        assert rows[name].registers == ()
    alarms = {(one.rule, one.input, one.detail) for one in found.findings
              if one.level is Level.ALARM}  # fmt: skip
    assert {rule for rule, _, _ in alarms} == {
        "launch_not_derived", "rootfs_not_measured", "config_disk", "config_environment",
    }  # fmt: skip
    assert ("config_environment", "disk cfgdrv: disk (iso9660)", "agent.env") in alarms
    partition = [one for one in found.findings if one.rule == "partition_not_measured"]
    assert [one.input for one in partition] == ["disk rootdrv: partition 2 'root' (ext4)"]
    assert {"cmdline_not_known", "cmdline_override"} <= rules(found)


def test_findings_are_accepted_by_rule_or_by_input(tmp_path: Path) -> None:
    (tmp_path / "d").write_bytes(b"")
    path = Launch().write(tmp_path)
    spec = read_spec_file(path)
    derivation = measure(spec, tmp_path, OFFLINE)
    reasons = {"console_on_host:cmdline": "nothing listens", "virtual_tpm": "not used"}
    found = audit(spec, tmp_path, derivation, accepted=reasons)
    assert [(one.rule, one.accepted) for one in found.findings] == [
        ("console_on_host", "nothing listens")
    ]
    assert found.at_least(Level.INFO) == ()
    assert found.ignored == ("virtual_tpm",)
    with pytest.raises(SpecError, match="no rule"):
        audit(spec, tmp_path, derivation, accepted={"no_such_rule": "x"})


def test_rules_are_whole() -> None:
    for rule in RULES.values():
        assert rule.id.replace("_", "").isalpha()
        assert rule.risk.endswith(".")
        assert all((rule.title, rule.remedy, rule.source))


@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(at=st.integers(0, 4 * 2048 - 1), junk=st.binary(min_size=1, max_size=64))
def test_broken_iso_images_raise_only_our_error(at: int, junk: bytes) -> None:
    data = bytearray(build_iso(("agent.env", "user-data")))
    start = 16 * 2048 + at
    data[start : start + len(junk)] = junk
    data = data[: len(build_iso(("agent.env", "user-data")))]
    try:
        names = root_names(MemoryDisk(bytes(data)))
    except MalformedDisk:
        return
    assert all(isinstance(name, str) for name in names)
