"""QEMU command lines as launch specs: `mrtd.launch.qemu_cmdline`."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from ci.backends import boot_arguments, host_resources
from mrtd.errors import SpecError
from mrtd.launch.arguments import MachineReading, Treatment
from mrtd.launch.machine import HostFacts
from mrtd.launch.qemu_cmdline import read_command_line, read_words
from mrtd.launch.qemu_handlers import HANDLERS
from mrtd.launch.qemu_options import LOUD, MODELLED, REFUSED, SILENT
from mrtd.launch.spec import DirectBoot, Disk, DiskBoot, Firmware, LaunchSpec, Machine, Vmm
from mrtd.qemu.argv import machine_arguments
from mrtd.registers import Target
from tests.strategies import refused

HOST = HostFacts(version="10.1")
BOOT = "-nodefaults -bios OVMF.fd -kernel k"
# an EasyEnclave image's smoke test, as its description has it
SMOKE = """\
qemu-system-x86_64 -enable-kvm -cpu host -smp 2 -m size=4194304k \\
  -machine q35,usb=off,dump-guest-core=off,memory-backend=pc.ram,\
confidential-guest-support=lsec0,hpet=off,acpi=on \\
  -object memory-backend-ram,id=pc.ram,size=4294967296 -object tdx-guest,id=lsec0 \\
  -bios OVMF.inteltdx.fd -drive file=overlay.qcow2,if=none,id=rootdrv \\
  -device virtio-blk-pci,drive=rootdrv -drive file=config.iso,if=none,id=cfgdrv,readonly=on \\
  -device virtio-blk-pci,drive=cfgdrv -netdev user,id=n0,hostfwd=tcp::2222-:22 \\
  -device virtio-net-pci,netdev=n0 -serial file:serial.log -display none -no-reboot \\
  -no-user-config -nodefaults
"""


def read(text: str, host: HostFacts = HOST) -> MachineReading:
    return read_command_line(f"qemu {text}".encode(), origin="line", host=host)


def machine(text: str) -> Machine:
    found = read(f"{BOOT} {text}")
    assert not found.warnings
    return found.spec.machine


def codes(text: str) -> list[str]:
    return [item.code for item in read(f"{BOOT} {text}").spec.machine.not_modelled]


def test_a_smoke_test_of_an_image() -> None:
    host = HostFacts(version="10.1.0", phys_bits=46, boot_disk="rootdrv",
                     disk_formats={"rootdrv": "qcow2", "cfgdrv": "raw"})  # fmt: skip
    found = read_command_line(SMOKE.encode(), origin="line", host=host)
    assert found.warnings == ()
    assert found.spec == LaunchSpec(
        schema="mrtd.launch/1",
        vmm=Vmm(kind="qemu", version="10.1.0"),
        machine=Machine(
            memory="4096 MiB", vcpus=2, phys_bits=46,
            options={"usb": False, "hpet": False, "acpi": True},
            devices=("virtio-blk-pci,drive=rootdrv", "virtio-blk-pci,drive=cfgdrv",
                     "virtio-net-pci,netdev=n0"),
            serial_ports=1,
        ),
        firmware=Firmware(path="OVMF.inteltdx.fd"),
        disks=(Disk(name="rootdrv", path="overlay.qcow2", format="qcow2"),
               Disk(name="cfgdrv", path="config.iso", format="raw", readonly=True)),
        boot=DiskBoot(disk="rootdrv"),
    )  # fmt: skip


def test_a_format_is_never_guessed() -> None:
    with pytest.raises(SpecError, match="--disk-format"):
        read_command_line(SMOKE.encode(), origin="line", host=HOST)


def test_every_argument_is_accounted_for() -> None:
    text = f"X=1 {BOOT} -name td -S -zzz y -device vfio-pci,host=1:0.0 -numa node -object zzz,id=z"
    found = read_command_line(f"A=b C= qemu {text.removeprefix('X=1 ')}".encode(), origin="l",
                              host=HOST)  # fmt: skip
    seen = {a.text: (a.treatment, a.code) for a in found.arguments}
    warning = Treatment.WARNING
    assert seen == {
        "-nodefaults": (Treatment.MODELLED, ""),
        "-bios OVMF.fd": (Treatment.MODELLED, ""),
        "-kernel k": (Treatment.MODELLED, ""),
        "-name td": (Treatment.NO_INFLUENCE, ""),
        "-S": (Treatment.NO_INFLUENCE, ""),
        "-zzz y": (warning, "option_unknown"),
        "-device vfio-pci,host=1:0.0": (warning, "passthrough_device"),
        "-numa node": (warning, "numa_nodes"),
        "-object zzz,id=z": (warning, "object_unknown"),
    }
    assert all(a.reason for a in found.arguments)
    moved = {item.code: item.registers for item in found.spec.machine.not_modelled}
    assert moved["passthrough_device"] == ("rtmr0", "rtmr1"), "its option ROM may run"
    assert moved["numa_nodes"] == ("rtmr0",)


def test_each_option_is_in_one_table() -> None:
    tables = [set(MODELLED), set(SILENT), set(LOUD), set(REFUSED)]
    assert len(set.union(*tables)) == sum(map(len, tables))
    assert set(HANDLERS) == set(MODELLED)
    assert all(row.reason for row in SILENT.values())
    assert all(row.code and row.reason for row in LOUD.values())


@pytest.mark.parametrize(
    ("text", "field", "value"),
    [
        ("-m 2G", "memory", "2048 MiB"),
        ("-m 3584", "memory", "3584 MiB"),
        ("-smp 4,sockets=2,cores=2,threads=1,maxcpus=4", "topology",
         {"sockets": 2, "cores": 2, "threads": 1, "maxcpus": 4}),
        ("--smp cpus=3", "vcpus", 3),
        ("-cpu host,migratable=on,phys-bits=46,-avx", "cpu", "host,migratable=on,-avx"),
        ("-cpu host,phys-bits=46", "phys_bits", 46),
        ("-M pc-q35-10.1,smm=off -machine accel=kvm", "type", "pc-q35-10.1"),
        ("-machine q35,smm=off,kernel-irqchip=split", "options",
         {"smm": False, "kernel-irqchip": "split"}),
        ("-no-hpet", "options", {"hpet": False}),
        ("-fw_cfg name=opt/a,string=x,,y", "fw_cfg", {"opt/a": "x,y"}),
        ("-smbios type=1,serial=x -global a.b=c", "smbios", ("type=1,serial=x",)),
        ("-boot menu=on,strict=on,order=c", "boot_options", "menu=on,strict=on"),
        ("-serial stdio -serial none", "serial_ports", 1),
        ("-vga std -device a -nic user,model=virtio", "devices",
         ("VGA", "virtio-net-pci,netdev=nic0", "a")),
        # QEMU makes devices in key=value form first, whatever their place
        ("-device '{\"driver\":\"b\"}' -device a -drive if=virtio,file=f,format=raw,id=d",
         "devices", ("a", "virtio-blk-pci,drive=d", '{"driver":"b"}')),
        ("-cdrom x.iso", "devices", ("ide-cd,drive=sata2,bus=ide.2",)),
    ],
)  # fmt: skip
def test_what_is_modelled(text: str, field: str, value: object) -> None:
    assert getattr(machine(text), field) == value


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("-m 2G,slots=2,maxmem=8G", "memory_hotplug"),
        ("-numa node,nodeid=0", "numa_nodes"),
        ("-acpitable file=x", "acpi_table_added"),
        ("-fw_cfg name=opt/a,file=x", "fw_cfg_file"),
        ("-smbios file=x", "smbios_file"),
        ("-smbios type=11,path=x", "smbios_file"),
        ("-option-rom x.rom", "option_rom"),
        ("-object acpi-generic-initiator,id=g", "generic_initiator"),
        ("-device pxb-pcie,bus_nr=20", "pci_expander"),
        ("-device pc-dimm,memdev=m", "memory_device"),
        ("-drive if=floppy,file=x,format=raw", "drive_interface"),
        ("-machine q35,smp.cpus=2", "machine_property"),
        ("-virtfs local,path=x", "shared_folder"),
    ],
)
def test_what_cannot_be_said_is_a_warning(text: str, code: str) -> None:
    assert codes(text) == [code]


def test_without_nodefaults_the_board_has_more() -> None:
    found = read("-bios OVMF.fd -kernel k")
    assert [a.code for a in found.warnings] == ["default_devices"]


@pytest.mark.parametrize(
    "text",
    [
        "-bios f", "-kernel k", "-bios f -append x", f"{BOOT} -pflash x", f"{BOOT} -readconfig x",
        f"{BOOT} -shim x", f"{BOOT} -dtb x", f"{BOOT} -incoming tcp:0:1", f"{BOOT} disk.img",
        f"{BOOT} -m", f"{BOOT} -m 1x", f"{BOOT} -m 0", f"{BOOT} -m 1500K", f"{BOOT} -smp x",
        f"{BOOT} -smp 4,x=2", f"{BOOT} -smp 5000", f"{BOOT} -M pc", f"{BOOT} -M microvm",
        f"{BOOT} -object sev-guest,id=s", f"{BOOT} -drive if=pflash,file=x", f"{BOOT} -device ''",
        f"{BOOT} -device id=x", f"{BOOT} -boot x=y", f"{BOOT} -vga tcx",
        f"{BOOT} -machine q35,pflash0=x", f"{BOOT} -cpu host,phys-bits=x",
        f"{BOOT} -blockdev driver=raw", f"{BOOT} -machine max-ram-below-4g=1G",
    ],
)  # fmt: skip
def test_what_no_td_can_be_is_refused(text: str) -> None:
    with pytest.raises(SpecError, match="line"):
        read(text)


INLINE = '{"driver":"qcow2","node-name":"d","file":{"driver":"file","filename":"a.img"}}'
NAMED = "-blockdev driver=file,node-name=f,filename=a.img -blockdev driver=qcow2,node-name=d,file=f"


@pytest.mark.parametrize(
    "blocks",
    [
        "-blockdev driver=qcow2,node-name=d,file.driver=file,file.filename=a.img",
        NAMED,
        f"-blockdev '{INLINE}'",
        "-drive if=none,id=d,file=a.img,format=qcow2",
    ],
)
def test_disks_behind_devices(blocks: str) -> None:
    found = read(f"-nodefaults -bios f {blocks} -device virtio-blk-pci,drive=d,bootindex=1").spec
    assert found.disks == (Disk(name="d", path="a.img", format="qcow2"),)
    assert found.boot == DiskBoot(disk="d")


def test_nodes_that_run_in_circles_are_no_disk() -> None:
    circle = ("-blockdev driver=qcow2,node-name=a,file=b -blockdev driver=raw,node-name=b,file=a "
              "-device virtio-blk-pci,drive=a")  # fmt: skip
    assert read(f"{BOOT} {circle}").spec.disks == ()


def test_the_lowest_bootindex_boots() -> None:
    disks = " ".join(
        f"-drive if=none,id={name},file={name},format=raw "
        f"-device virtio-blk-pci,drive={name},bootindex={index}"
        for name, index in (("a", 10), ("b", 9))
    )
    assert read(f"-nodefaults -bios f {disks}").spec.boot == DiskBoot(disk="b")
    network = "-netdev user,id=n -device virtio-net-pci,netdev=n,bootindex=1"
    with pytest.raises(SpecError, match="--boot-disk"):
        read(f"-nodefaults -bios f {disks} {network}")


EXAMPLE = LaunchSpec(
    schema="mrtd.launch/1",
    vmm=Vmm(kind="qemu", version="10.1"),
    machine=Machine(
        type="pc-q35-10.1", memory="3584 MiB", vcpus=4, cpu="qemu64,+smep", phys_bits=46,
        options={"hpet": False, "kernel_irqchip": "split", "smm": False, "pic": False},
        devices=("virtio-net-pci,netdev=net0", "virtio-blk-pci,drive=disk0,serial=a,,b",
                 '{"driver": "virtio-rng-pci", "rng": "r", "addr": "0x9"}'),
        topology={"maxcpus": 8, "sockets": 2, "cores": 4}, serial_ports=2,
        globals=("ICH9-LPC.disable_s3=1",), smbios=("type=1,manufacturer=M,, x",),
        boot_options="menu=on,strict=on", fw_cfg={"opt/a,b": "x, y"},
    ),
    firmware=Firmware(path="OVMF.fd"),
    boot=DirectBoot(kernel="vmlinuz", initrd="initrd.img", cmdline="console=ttyS0 a,b 'c'"),
)  # fmt: skip


def test_our_own_command_line_reads_back(tmp_path: Path) -> None:
    for name in ("OVMF.fd", "vmlinuz", "initrd.img", "disk.img"):
        (tmp_path / name).write_bytes(b"")
    disk = Disk(name="disk0", path=str(tmp_path / "disk.img"), format="raw")
    words = [
        "qemu-system-x86_64",
        *machine_arguments(EXAMPLE, target=Target.CC, dump=False),
        *host_resources(replace(EXAMPLE, disks=(disk,)), tmp_path),
        *boot_arguments(EXAMPLE, tmp_path, tmp_path),
    ]
    boot = DirectBoot(kernel=str(tmp_path / "vmlinuz"), initrd=str(tmp_path / "initrd.img"),
                      cmdline=EXAMPLE.direct.cmdline)  # fmt: skip
    expected = replace(
        EXAMPLE, firmware=Firmware(path=str(tmp_path / "OVMF.fd")), boot=boot,
        disks=(disk,),
    )  # fmt: skip
    for data in (shlex.join(words).encode(), "".join(f"{w}\0" for w in words).encode()):
        found = read_command_line(data, origin="line", host=HOST)
        assert found.warnings == ()
        assert found.spec == expected


_WORDS = [f"-{name}" for name in (*MODELLED, *SILENT, *LOUD, *REFUSED)] + ["-zzz", "--m"]
_VALUES = [
    '{"driver":["x"],"node-name":"a","file":{"driver":[]},"read-only":[]}',
    '{"qom-type":{},"id":[]}',
    "", "q35", "1G", "4", "{", '{"driver":"x"}', "x,y=z", "none", "node-name=a,driver=raw,file=a",
    "type=1", "file=x,if=virtio,format=raw", "driver=x", "on", "name=a,string=b", "tdx-guest",
]  # fmt: skip


@given(st.lists(st.sampled_from(_WORDS) | st.sampled_from(_VALUES) | st.text(max_size=12)))
def test_any_words_are_a_launch_or_a_spec_error(words: list[str]) -> None:
    def call() -> None:
        read_words(["-nodefaults", "-bios", "f", "-kernel", "k", *words], origin="x", host=HOST)

    refused(call)
