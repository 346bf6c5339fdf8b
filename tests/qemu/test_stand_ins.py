"""Stand-ins for devices that need the host: the tables with them are those with the real ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fixtures.domains import MANY, VSOCK, build_domain
from mrtd.errors import SpecError
from mrtd.launch.machine import HostFacts
from mrtd.launch.machines import read_domain
from mrtd.qemu import fw_cfg
from mrtd.qemu.argv import machine_arguments
from mrtd.qemu.blobs import fw_cfg_items
from mrtd.qemu.devices import STAND_INS, parse_device, stand_ins
from mrtd.qemu.pci import Mmio64Rule
from mrtd.registers import Target, Unpinned
from tests.conftest import DebianParts, require_tool
from tests.qemu.machines import launch

TABLES = "etc/acpi/tables"


@pytest.fixture(params=["installed", "backports"])
def qemu_binary(request: pytest.FixtureRequest) -> Path:
    if request.param == "installed":
        return require_tool("qemu")
    parts: DebianParts = request.getfixturevalue("debian")
    return parts.qemu_11


def dump(binary: Path, spec: Any) -> fw_cfg.FwCfg:
    return fw_cfg.dump(
        spec, binary=binary, target=Target.CC, ecam_base=0xE0000000, mmio64=Mmio64Rule()
    )


def tables(binary: Path, **machine: Any) -> bytes:
    return dump(binary, launch(phys_bits=46, **machine)).files[TABLES]


def really(
    binary: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], **machine: Any
) -> bytes:
    """The tables of a machine with further arguments, nothing replaced in them."""

    def with_them(*given: Any, **named: Any) -> tuple[str, ...]:
        return (*machine_arguments(*given, **named), *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(fw_cfg, "machine_arguments", with_them)
        return tables(binary, **machine)


# Devices that run without the host's part in a stopped machine; the others need hardware or a
# server at the other end before QEMU starts at all.
@pytest.mark.qemu
@pytest.mark.parametrize(
    ("device", "backend"),
    [
        ("virtio-9p-pci,fsdev=f,mount_tag=t", ("-fsdev", "local,id=f,path=/,security_model=none")),
        ("virtio-9p-pci-non-transitional,fsdev=f,mount_tag=t",
         ("-fsdev", "local,id=f,path=/,security_model=none")),
    ],
)  # fmt: skip
@pytest.mark.parametrize("bus", ["pcie.0", "behind"])
def test_the_real_device_has_the_tables_of_its_stand_in(
    qemu_binary: Path, monkeypatch: pytest.MonkeyPatch, device: str, backend: tuple[str, str],
    bus: str,
) -> None:  # fmt: skip
    devices = ("pcie-root-port,id=behind,addr=4",)
    place = f",bus={bus},addr={'0x0' if bus == 'behind' else '0x5'}"
    real = really(qemu_binary, monkeypatch, (*backend, "-device", device + place), devices=devices)
    assert real == tables(qemu_binary, devices=(*devices, device + place))
    if bus == "pcie.0":
        assert real != tables(qemu_binary, devices=devices), "the device shows"


@pytest.mark.qemu
def test_the_board_s_own_devices_come_first(
    qemu_binary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rest = ("virtio-rng-pci", "pvpanic")
    for arguments, same in (
        (("-vga", "std"), {"devices": ("VGA", *rest)}),
        (("-nic", "user,model=virtio"), {"devices": ("virtio-net-pci,netdev=nic0", *rest)}),
        (("-drive", "if=virtio,file=null-co://,format=raw"),
         {"devices": (*rest, "virtio-blk-pci,drive=d")}),
        (("-serial", "null"), {"devices": rest, "serial_ports": 1}),
    ):  # fmt: skip
        real = really(qemu_binary, monkeypatch, arguments, devices=rest)
        assert real == tables(qemu_binary, **same), arguments
    other = tables(qemu_binary, devices=("isa-serial,chardev=c", *rest))
    assert other != real, "which is why a spec counts the board's serial ports"


@pytest.mark.qemu
def test_every_stand_in_is_a_device_of_this_qemu(qemu_binary: Path) -> None:
    for driver in STAND_INS:
        where = ("virtio-scsi-pci", "qemu-xhci")
        device = f"{driver},chardev=c" if driver == "vhost-user-blk-pci" else driver
        if driver.startswith("scsi-"):
            device += ",drive=d"
        assert tables(qemu_binary, devices=(*where, device)), driver


@pytest.mark.qemu
def test_a_whole_domain_can_be_asked_for(qemu_binary: Path) -> None:
    machine = "pc-q35-7.2"
    data = build_domain(devices=MANY + VSOCK, direct=True, machine=machine)
    spec = read_domain(data, origin="x", host=HostFacts(version="7.2", phys_bits=46)).spec
    found = dump(qemu_binary, spec)
    # libvirt boots the first disk, which is behind the second root port (00:01.1)
    assert found.files["bootorder"] == (
        b"/rom@genroms/linuxboot_dma.bin\n/pci@i0cf8/pci-bridge@1,1/scsi@0/disk@0,0\nHALT\0"
    )
    assert found.boot_menu == bytes(2)


@pytest.mark.qemu
def test_boot_options_are_known_without_qemu(qemu_binary: Path) -> None:
    spec = launch(phys_bits=46, boot_options="menu=on,splash-time=3000,strict=on")
    asked = {b.name: b.content for b in fw_cfg_items(spec, dump(qemu_binary, spec))}
    derived = {b.name: b.content for b in fw_cfg_items(spec, Unpinned("not asked"))}
    assert asked == derived
    assert list(asked) == ["BootMenu", "etc/boot-menu-wait", "bootorder"]


def test_a_stand_in_keeps_its_place_and_its_form() -> None:
    text = "vhost-user-fs-pci,chardev=c,tag=t,id=f,bus=pci.1,addr=0x0,romfile="
    assert parse_device(text, replace=True).text == (
        "virtio-rng-pci,id=f,bus=pci.1,addr=0x0,romfile="
    )
    text = '{"driver": "vhost-vsock-pci", "guest-cid": 3, "multifunction": true, "addr": "0x2"}'
    assert parse_device(text, replace=True).text == (
        '{"driver": "virtio-rng-pci", "multifunction": true, "addr": "0x2"}'
    )
    text = '{"driver": "virtio-blk-pci", "drive": "d", "iothread-vq-mapping": [{"iothread": "t"}]}'
    assert parse_device(text, replace=True).text == '{"driver": "virtio-blk-pci", "drive": "d"}'
    text = "virtio-net-pci,netdev=n"
    assert parse_device(text, replace=True).text == text


def test_a_stand_in_keeps_its_place_in_the_boot_order_or_is_refused() -> None:
    found = parse_device("vhost-user-blk-pci,chardev=c,bootindex=1", replace=True)
    assert sorted(found.properties) == [("bootindex", "1"), ("drive", "c")]
    spec = launch(devices=("vhost-user-blk-pci,chardev=c,bootindex=1",))
    assert stand_ins(spec, dump=True)[1].startswith("driver=null-co,node-name=c,")
    assert stand_ins(spec) == ("-chardev", "null,id=c")
    with pytest.raises(SpecError, match="bootindex"):
        parse_device("vhost-user-fs-pci,chardev=c,bootindex=1", replace=True)
