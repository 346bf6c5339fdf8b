"""libvirt domains as launch specs: `mrtd.launch.libvirt`."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fixtures.domains import HOST_DEVICE, MANY, VSOCK, build_domain, pci
from mrtd.errors import SpecError
from mrtd.launch.arguments import MachineReading
from mrtd.launch.domain_tree import MAX_BYTES
from mrtd.launch.machines import HostFacts, read_domain
from mrtd.launch.spec import DirectBoot, Disk, DiskBoot
from tests.strategies import mutated, refused

HOST = HostFacts(version="11.1.3", phys_bits=46)


def read(data: bytes) -> MachineReading:
    return read_domain(data, origin="td.xml", host=HOST)


def drivers(reading: MachineReading) -> list[str]:
    return [json.loads(text)["driver"] for text in reading.spec.machine.devices]


def test_a_td_as_virt_install_makes_it() -> None:
    found = read(build_domain())
    assert found.warnings == ()
    machine = found.spec.machine
    assert (machine.type, machine.memory, machine.vcpus) == ("pc-q35-11.1", "16384 MiB", 4)
    assert (machine.cpu, machine.phys_bits) == ("host,migratable=on", 46)
    assert machine.options == {
        "usb": False, "smm": False, "kernel_irqchip": "split", "hpet": False, "acpi": True,
    }  # fmt: skip
    assert machine.topology == {"maxcpus": 4, "sockets": 4, "cores": 1, "threads": 1}
    assert machine.globals == ("ICH9-LPC.disable_s3=1", "ICH9-LPC.disable_s4=1")
    assert machine.boot_options == "strict=on"
    assert drivers(found) == [
        *["pcie-root-port"] * 14,
        *("ich9-usb-ehci1", "ich9-usb-uhci1", "ich9-usb-uhci2", "ich9-usb-uhci3"),
        *("virtio-blk-pci", "virtio-blk-pci", "virtio-net-pci", "isa-serial"),
        "virtio-balloon-pci",
    ]
    assert found.spec.disks == (
        Disk(name="vda", path="root.qcow2", format="qcow2"),
        Disk(name="vdb", path="config.iso", format="raw", readonly=True),
    )
    assert found.spec.boot == DiskBoot(disk="vda")
    first = json.loads(machine.devices[0])
    assert first == {
        "driver": "pcie-root-port", "port": 8, "chassis": 1, "id": "pci.1", "bus": "pcie.0",
        "addr": "0x1", "multifunction": True,
    }  # fmt: skip


def test_many_devices_in_libvirt_s_order() -> None:
    found = read(build_domain(devices=MANY + VSOCK, direct=True))
    assert found.warnings == ()
    assert drivers(found)[18:] == [
        *("virtio-scsi-pci", "virtio-serial-pci", "virtio-blk-pci", "virtio-blk-pci", "scsi-hd"),
        *("ide-cd", "virtio-9p-pci", "virtio-net-pci", "e1000e", "isa-serial"),
        *("virtserialport", "virtconsole", "usb-tablet", "virtio-vga", "ich9-intel-hda"),
        *("virtio-balloon-pci", "virtio-rng-pci", "pvpanic", "vhost-vsock-pci"),
    ]
    assert found.spec.boot == DirectBoot(
        kernel="vmlinuz", initrd="initrd.img", cmdline="console=ttyS0 a,b"
    )


@pytest.mark.parametrize(
    ("data", "field", "value"),
    [
        (build_domain(memory="<memory unit='GiB'>4</memory>"), "memory", "4096 MiB"),
        (build_domain(memory="<memory>2097152</memory>"), "memory", "2048 MiB"),
        (build_domain(vcpu="<vcpu current='2'>4</vcpu>"), "vcpus", 2),
        (build_domain(cpu="<cpu mode='host-passthrough'><topology sockets='1' dies='1' "
                      "cores='2' threads='2'/><maxphysaddr mode='emulate' bits='52'/>"
                      "<feature policy='disable' name='avx'/></cpu>"), "cpu", "host,avx=off"),
        (build_domain(cpu="<cpu mode='host-passthrough'><maxphysaddr mode='emulate' bits='52'/>"
                      "</cpu>"), "phys_bits", 52),
        (build_domain(features="<vmport state='off'/><ps2 state='off'/>"), "options",
         {"usb": False, "vmport": False, "i8042": False, "hpet": False, "acpi": False}),
        (build_domain(boot="<bootmenu enable='yes' timeout='3000'/><boot dev='hd'/>"),
         "boot_options", "menu=on,splash-time=3000,strict=on"),
        (build_domain(arguments=["-fw_cfg", "name=opt/x,string=y"]), "fw_cfg", {"opt/x": "y"}),
        (build_domain(boot="<boot dev='hd'/><smbios mode='sysinfo'/>",
                      more="<sysinfo type='smbios'><system><entry name='manufacturer'>M, x"
                      "</entry></system><oemStrings><entry>a</entry></oemStrings></sysinfo>"),
         "smbios", ("type=1,manufacturer=M,, x", "type=11,value=a")),
    ],
)  # fmt: skip
def test_what_moves_a_measurement(data: bytes, field: str, value: object) -> None:
    found = read(data)
    assert found.warnings == ()
    assert getattr(found.spec.machine, field) == value


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (build_domain(devices=HOST_DEVICE), "passthrough_device"),
        (build_domain(more="<frobnicate/>"), "domain_part_unknown"),
        (build_domain(devices="<frobnicator/>"), "domain_part_unknown"),
        (build_domain(features="<acpi/><frob state='on'/>"), "domain_part_unknown"),
        (build_domain(boot="<boot dev='hd'/><smbios mode='host'/>"), "smbios_file"),
        (build_domain(cpu="<cpu mode='host-passthrough'><numa><cell id='0' cpus='0-3'/></numa>"
                      "</cpu>"), "numa_nodes"),
        (build_domain(more="<maxMemory slots='2' unit='GiB'>32</maxMemory>"), "memory_hotplug"),
        (build_domain(arguments=["-acpitable", "file=x"]), "acpi_table_added"),
    ],
)  # fmt: skip
def test_what_cannot_be_said_is_a_warning(data: bytes, code: str) -> None:
    found = read(data)
    assert [warning.code for warning in found.warnings] == [code]
    assert [item.code for item in found.spec.machine.not_modelled] == [code]


def test_what_is_without_influence_says_why() -> None:
    silent = {a.text: a.reason for a in read(build_domain()).arguments}
    assert "zeroes" in silent["uuid"]
    assert silent["launchSecurity/quoteGenerationService"]
    assert silent["devices/emulator"].endswith("not run from here")


NO_ADDRESS = "<memballoon model='virtio'/>"
PFLASH = "<loader readonly='yes' type='pflash'>OVMF_CODE.fd</loader>"


@pytest.mark.parametrize(
    ("data", "match"),
    [
        (build_domain(devices=NO_ADDRESS), "virsh define"),
        (build_domain(loader=PFLASH), "type='rom'"),
        (build_domain(loader="").replace(b"<os>", b"<os firmware='efi'>"), "chooses the firmware"),
        (build_domain(loader=""), "-bios"),
        (build_domain(machine="pc-i440fx-9.0"), "machine.type"),
        (build_domain(cpu="<cpu mode='host-model'/>"), "host-passthrough"),
        (build_domain().replace(b"'x86_64'", b"'aarch64'"), "x86_64"),
        (build_domain().replace(b"type='kvm'", b"type='xen'"), "QEMU"),
        (build_domain().replace(b"type='tdx'", b"type='sev'"), "TDX"),
        (build_domain(memory="<memory unit='furlong'>1</memory>"), "unit"),
        (build_domain(memory="<memory>x</memory>"), "number"),
        (build_domain(memory="<memory>" + "9" * 30 + "</memory>"), "number"),
        (build_domain(devices="<rng model='virtio'><address type='ccw'/></rng>"), "PCI"),
        (b"<domstatus/>", "dumpxml"),
        (b"<network/>", "dumpxml"),
        (b"", "well-formed"),
        (b"<domain", "well-formed"),
        (b"<?xml version='1.0' encoding='martian'?><domain/>", "well-formed"),
        (b"<!DOCTYPE domain SYSTEM 'file:///etc/passwd'><domain/>", "document type"),
        (b"<!DOCTYPE d [<!ENTITY a 'aaaa'><!ENTITY b '&a;&a;&a;'>]><domain>&b;</domain>",
         "document type"),
        (b"<domain>&undefined;</domain>", "well-formed"),
        (b"<domain type='kvm'>" + b"<a>" * 100, "deeply"),
        (b"<domain type='kvm'>" + b"<a/>" * 60_000 + b"</domain>", "too many"),
        (b" " * (MAX_BYTES + 1), "larger"),
    ],
)  # fmt: skip
def test_what_is_no_td_is_refused(data: bytes, match: str) -> None:
    with pytest.raises(SpecError, match=match):
        read(data)


def test_an_error_names_its_line() -> None:
    with pytest.raises(SpecError) as caught:
        read(build_domain(memory="<memory>x</memory>"))
    assert caught.value.origin == "td.xml:4"


def test_the_device_s_own_boot_order_goes_first() -> None:
    data = build_domain(boot="").replace(
        b"<target dev='vdb' bus='virtio'/>", b"<target dev='vdb' bus='virtio'/><boot order='1'/>"
    )
    assert read(data).spec.boot == DiskBoot(disk="vdb")


@pytest.mark.parametrize("kind", ["virtio-transitional", "virtio-non-transitional"])
def test_generations_of_virtio(kind: str) -> None:
    rng = f"<rng model='{kind}'><backend model='builtin'/>{pci(9, 0)}</rng>"
    suffix = kind.removeprefix("virtio")
    assert drivers(read(build_domain(devices=rng)))[-1] == f"virtio-rng-pci{suffix}"


_TAGS = ["disk", "controller", "memory", "cpu", "os", "interface", "hostdev", "video", "iommu"]
_ATTRIBUTES = st.dictionaries(
    st.sampled_from(["type", "model", "mode", "unit", "bus", "slot", "index", "dev"]),
    st.sampled_from(["", "pci", "virtio", "usb", "0x0", "-1", "x", "scsi", "nvme", "fdc"]),
    max_size=3,
)


@st.composite
def elements(draw: st.DrawFn, depth: int = 3) -> str:
    tag = draw(st.sampled_from([*_TAGS, "address", "model", "target", "source", "driver"]))
    attributes = "".join(f" {k}='{v}'" for k, v in draw(_ATTRIBUTES).items())
    inner = "".join(draw(st.lists(elements(depth - 1), max_size=2))) if depth else "7"
    return f"<{tag}{attributes}>{inner}</{tag}>"


@given(st.lists(elements(), max_size=3), st.lists(elements(), max_size=2))
def test_any_elements_are_a_launch_or_a_spec_error(devices: list[str], more: list[str]) -> None:
    refused(lambda: read(build_domain(devices="".join(devices), more="".join(more))))


@given(mutated(build_domain(devices=MANY)))
def test_mutated_domains_are_a_launch_or_a_spec_error(data: bytes) -> None:
    refused(lambda: read(data))
