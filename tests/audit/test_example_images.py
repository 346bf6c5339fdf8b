"""Audits of the example images, as they are built and derived: nothing here is a stand-in."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import msgspec

from fixtures.domains import build_domain
from fixtures.easyenclave import build_iso
from mrtd.audit.audit import audit
from mrtd.audit.findings import Audit, AuditedInput
from mrtd.coverage import CoverageStatus
from mrtd.derive import Derivation
from mrtd.launch.machine import HostFacts
from mrtd.launch.machines import read_domain
from mrtd.launch.spec import DiskBoot, LaunchSpec
from mrtd.measure import MeasureOptions, measure
from mrtd.notes import Level
from mrtd.registers import Exact, RegisterName
from tests.boots import scenario_spec
from tests.conftest import DebianParts
from tests.disk_images import Images

OFFLINE: Final = MeasureOptions(ask_qemu=False)
RTMR1, RTMR2 = RegisterName.RTMR1, RegisterName.RTMR2


def spec_of(images: Images, name: str, debian: DebianParts) -> LaunchSpec:
    """The launch of an image."""
    return scenario_spec(images.scenario(name, debian.ovmf_2025_02))


def audited(spec: LaunchSpec) -> tuple[Audit, Derivation, dict[str, AuditedInput]]:
    derivation = measure(spec, Path(), OFFLINE)
    found = audit(spec, Path(), derivation)
    return found, derivation, {row.name: row for row in found.inputs}


def test_easyenclave_s_root_and_environment_are_in_no_register(
    images: Images, debian: DebianParts
) -> None:
    found, _, rows = audited(spec_of(images, "easyenclave-small", debian))
    assert rows["cmdline"].event.endswith("root=LABEL=root console=ttyS0,115200")
    for name in ("kernel", "cmdline", "initrd", "disk disk0: partition table"):
        assert rows[name].status is CoverageStatus.MEASURED
    root, environment = "disk disk0: partition 2 'root' (ext4)", "disk disk1: disk (vfat)"
    for name in ("rootfs", root, environment):
        assert (rows[name].status, rows[name].registers) == (CoverageStatus.NOT_MEASURED, ())
    alarms = {(one.rule, one.input) for one in found.findings if one.level is Level.ALARM}
    assert alarms == {
        ("rootfs_not_measured", "rootfs"),
        ("config_disk", environment),
        ("config_environment", environment),
    }


def test_a_root_hash_covers_the_data_that_were_compared(
    images: Images, debian: DebianParts, tmp_path: Path
) -> None:
    spec = spec_of(images, "verity", debian)
    found, derivation, rows = audited(spec)
    for name in ("disk disk0: partition 2 'root' (squashfs)",
                 "disk disk0: partition 3 'root-verity' (DM_verity_hash)"):  # fmt: skip
        assert (rows[name].status, rows[name].registers) == (CoverageStatus.MEASURED, (RTMR2,))
        assert "hash tree and data fit" in rows[name].event
    assert "compared with the disk" in rows["rootfs"].note
    assert not [one for one in found.findings if one.level is Level.ALARM]
    unread = audit(spec, Path(), derivation, check_disks=False)
    assert "rootfs_not_checked" in {one.rule for one in unread.findings}
    data = bytearray((images("verity") / "disk.raw").read_bytes())
    data[data.rindex(b"hsqs") + 200] ^= 1  # in the squashfs, which comes last
    (tmp_path / "disk").write_bytes(data)
    other = msgspec.structs.replace(spec.disks[0], path=str(tmp_path / "disk"))
    found, _, rows = audited(msgspec.structs.replace(spec, disks=(other,)))
    assert "rootfs_mismatch" in {one.rule for one in found.findings}
    assert "does not fit" in rows["rootfs"].note


def test_an_initrd_that_the_kernel_reads_itself_is_in_no_register(
    images: Images, debian: DebianParts
) -> None:
    spec = spec_of(images, "kernel-efi", debian)
    firmware = msgspec.structs.replace(spec.firmware, vars=None)
    boot = DiskBoot(disk="disk0", cmdline="console=ttyS0 initrd=\\mrtd\\initrd")
    found, _, rows = audited(msgspec.structs.replace(spec, firmware=firmware, boot=boot))
    assert (rows["kernel"].status, rows["kernel"].registers) == (CoverageStatus.MEASURED, (RTMR1,))
    assert rows["initrd"].status is CoverageStatus.NOT_MEASURED
    assert "initrd_not_measured" in {one.rule for one in found.findings}


def test_grub_s_files_and_configuration_are_in_rtmr2(images: Images, debian: DebianParts) -> None:
    _, _, rows = audited(spec_of(images, "shim-grub", debian))
    assert rows["initrd"].event == "/mrtd/initrd; initrd"
    for name in ("kernel", "cmdline", "initrd", "boot loader configuration"):
        assert rows[name].registers == (RTMR2,)


def test_a_domain_that_boots_it_has_all_its_registers(
    images: Images, debian: DebianParts, tmp_path: Path
) -> None:
    """What an operator does: the domain in, every register of the image's boot out."""
    (tmp_path / "config.iso").write_bytes(build_iso(("agent.env",)))
    folder = images("easyenclave-small")
    text = build_domain().decode().replace("OVMF.fd", str(debian.ovmf_2025_02))
    text = re.sub("root.qcow2", str(folder / "disk.qcow2"), text)
    text = re.sub("config.iso", str(tmp_path / "config.iso"), text)
    host = HostFacts(version="11.1.3", phys_bits=46)
    spec = read_domain(text.encode(), origin="td.xml", host=host).spec
    found, derivation, rows = audited(spec)
    options = [e.description for e in derivation.log if e.description.startswith("Boot0")]
    # vdb's Boot0002 was taken away again: it has no place in the boot order
    assert options == ["Boot0001: UEFI Misc Device", "Boot0000: UiApp",
                       "Boot0003: EFI Internal Shell"]  # fmt: skip
    assert isinstance(derivation.registers[RTMR1], Exact)
    assert isinstance(derivation.registers[RTMR2], Exact)
    assert rows["disk vdb: disk (iso9660)"].status is CoverageStatus.NOT_MEASURED
    assert "config_environment" in {one.rule for one in found.findings}
