"""Blobs of the real QEMU: `mrtd.qemu.fw_cfg`."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest

from mrtd.errors import ToolFailed
from mrtd.qemu.fw_cfg import FwCfg, dump
from mrtd.qemu.pci import Mmio64Rule
from mrtd.qemu.process import qemu_version
from mrtd.registers import Target
from tests.conftest import DebianParts, require_tool
from tests.qemu.machines import launch

pytestmark = pytest.mark.qemu

TABLES = "etc/acpi/tables"
NET = "virtio-net-pci,netdev=net0"


@pytest.fixture(params=["installed", "backports"])
def qemu_binary(request: pytest.FixtureRequest) -> Path:
    if request.param == "installed":
        return require_tool("qemu")
    parts: DebianParts = request.getfixturevalue("debian")
    return parts.qemu_11


def blobs(binary: Path, *, target: Target = Target.CC, **machine: Any) -> FwCfg:
    kernel = machine.pop("kernel", None)
    spec = launch(**{"phys_bits": 46, **machine})
    return dump(
        spec,
        binary=binary,
        target=target,
        ecam_base=machine.pop("ecam_base", 0xE0000000),
        mmio64=Mmio64Rule(),
        kernel=kernel,
    )


def sha384(blob: bytes) -> str:
    return hashlib.sha384(blob).hexdigest()


def test_what_a_dump_holds(qemu_binary: Path) -> None:
    found = blobs(qemu_binary, fw_cfg={"opt/org.example/note": "a,b"})
    assert found.qemu_version == qemu_version(qemu_binary)
    assert found.boot_menu == bytes(2)
    assert found.files["bootorder"] == b"/rom@genroms/linuxboot_dma.bin\0"
    assert found.files["opt/org.example/note"] == b"a,b"
    assert found.files["etc/tpm/log"] == b""
    assert len(found.files["etc/acpi/rsdp"]) == 20
    assert len(found.files["etc/table-loader"]) == 4096
    assert len(found.files[TABLES]) == 128 << 10
    assert b"MCFG" in found.files[TABLES]
    assert not any(name.startswith(("etc/boot/", "etc/smi/")) for name in found.files)


def test_two_dumps_are_equal(qemu_binary: Path) -> None:
    devices = (NET, "virtio-blk-pci,drive=d", "pcie-root-port,id=r")
    assert blobs(qemu_binary, devices=devices) == blobs(qemu_binary, devices=devices)


def test_a_real_kernel_changes_nothing(qemu_binary: Path, debian: DebianParts) -> None:
    assert blobs(qemu_binary, kernel=debian.kernel_6_12) == blobs(qemu_binary)


@pytest.mark.parametrize(
    "change",
    [
        {"options": {"hpet": False}},
        {"vcpus": 2},
        {"memory": "4 GiB"},
        {"devices": ("virtio-rng-pci",)},
        {"devices": ("vmgenid",)},
        {"devices": ("pcie-root-port,id=r",)},
        {"target": Target.TPM},
        {"options": {"i8042": False}, "type": "q35"},
    ],
)
def test_the_tables_show(qemu_binary: Path, change: dict[str, Any]) -> None:
    assert blobs(qemu_binary, **change).files[TABLES] != blobs(qemu_binary).files[TABLES]


@pytest.mark.parametrize(
    "change",
    [
        {"phys_bits": 52},
        {"phys_bits": 42},
        {"cpu": "max"},
        {"cpu": "Skylake-Server"},
        {"fw_cfg": {"opt/a": "b"}},
    ],
)
def test_the_tables_do_not_show(qemu_binary: Path, change: dict[str, Any]) -> None:
    assert blobs(qemu_binary, **change).files[TABLES] == blobs(qemu_binary).files[TABLES]


def test_phys_bits_show_with_a_64_bit_bar(qemu_binary: Path) -> None:
    tables = {
        bits: blobs(qemu_binary, devices=(NET,), phys_bits=bits).files[TABLES]
        for bits in (42, 46, 52)
    }
    assert tables[42] != tables[46]
    assert tables[46] == tables[52], "the firmware cuts the width to 46"


def test_the_device_in_a_slot_does_not_show(qemu_binary: Path) -> None:
    kinds = (NET, "virtio-rng-pci", "virtio-serial-pci", "vhost-vsock-pci,guest-cid=3")
    assert len({blobs(qemu_binary, devices=(kind,)).files[TABLES] for kind in kinds}) == 1


def test_a_tpm_adds_its_table_and_log(qemu_binary: Path) -> None:
    found = blobs(qemu_binary, target=Target.TPM)
    assert b"TPM2" in found.files[TABLES]
    # What booted guests with swtpm measure too
    assert sha384(found.files["etc/tpm/log"]).startswith("69fca469")


def test_the_host_need_not_have_the_memory(qemu_binary: Path) -> None:
    found = blobs(qemu_binary, memory="512 GiB", devices=(NET,))
    assert len(found.files["etc/e820"]) == 40


def test_refusals_name_the_argument(qemu_binary: Path) -> None:
    with pytest.raises(ToolFailed, match="-device frobnicator"):
        blobs(qemu_binary, devices=("frobnicator",))
    with pytest.raises(ToolFailed, match="no-such-option"):
        blobs(qemu_binary, options={"no-such-option": True})
    with pytest.raises(ToolFailed, match="no-such-cpu"):
        blobs(qemu_binary, cpu="no-such-cpu")


def test_expander_bridges_are_refused(qemu_binary: Path) -> None:
    with pytest.raises(ToolFailed, match=r"pxb.*acpi\.tables"):
        blobs(qemu_binary, devices=("pxb-pcie,bus_nr=16,id=p,bus=pcie.0",))
