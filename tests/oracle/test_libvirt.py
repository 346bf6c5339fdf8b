"""Our command line of a domain against libvirt's own (``virsh domxml-to-native``, no daemon)."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import pytest

from fixtures.domains import MANY, VSOCK, build_domain
from mrtd.launch.machine import HostFacts
from mrtd.launch.machines import read_command_line, read_domain
from mrtd.launch.spec import LaunchSpec
from mrtd.qemu.fw_cfg import FwCfg, dump
from mrtd.qemu.pci import Mmio64Rule
from mrtd.registers import Target
from tests.conftest import require_tool, unavailable

pytestmark = pytest.mark.oracle

MACHINE = "pc-q35-7.2"
HOST = HostFacts(version="7.2", phys_bits=46)
# What our command line leaves out, as ACPI tables do not show it
SILENT = frozenset((
    "cad", "audiodev", "device_id", "guest-cid", "host_mtu", "id", "iothread", "mac",
    "max_outputs", "rng", "serial", "vhostfd", "write-cache", "netdev", "drive", "failover",
    "ioport", "romfile",  # domxml-to-native drops <rom> and <boot> of network cards
))  # fmt: skip
SHAPES = {
    "virt-install": build_domain(security=False, machine=MACHINE),
    "direct": build_domain(security=False, machine=MACHINE, direct=True),
    "many devices": build_domain(security=False, machine=MACHINE, devices=MANY + VSOCK),
    "topology": build_domain(
        security=False, machine=MACHINE, vcpu="<vcpu current='2'>4</vcpu>",
        cpu="<cpu mode='host-passthrough' migratable='off'><topology sockets='1' dies='1' "
        "cores='2' threads='2'/><maxphysaddr mode='emulate' bits='46'/>"
        "<feature policy='disable' name='avx'/></cpu>",
        features="<acpi/><vmport state='off'/><pmu state='off'/><vmcoreinfo state='on'/>",
    ),
    "smbios": build_domain(
        security=False, machine=MACHINE,
        boot="<bootmenu enable='yes' timeout='3000'/><boot dev='hd'/><smbios mode='sysinfo'/>",
        more="<sysinfo type='smbios'><bios><entry name='vendor'>V</entry></bios><system>"
        "<entry name='manufacturer'>M, x</entry></system><oemStrings><entry>a,b</entry>"
        "</oemStrings></sysinfo>",
    ),
}  # fmt: skip


def native(domain: bytes) -> bytes:
    """libvirt's command line. It is made in this process's own folder, and nothing is started."""
    virsh = require_tool("virsh")
    require_tool("libvirt")
    with tempfile.TemporaryDirectory(prefix="lv") as folder:  # sockets have short names
        path = Path(folder, "domain.xml")
        # which libvirt 9 does not know by that name: it is part of the machine in any case
        path.write_bytes(domain.replace(b"<watchdog model='itco' action='reset'/>", b""))
        done = subprocess.run(
            [virsh, "-q", "-c", f"qemu:///embed?root={folder}/root", "domxml-to-native",
             "qemu-argv", str(path)],
            capture_output=True, check=False, timeout=120,
            env={"HOME": folder, "XDG_RUNTIME_DIR": folder, "LC_ALL": "C",
                 "PATH": os.environ["PATH"]},
        )  # fmt: skip
    if done.returncode and b"libvirt-qemu" in done.stderr:
        unavailable("libvirt is not set up: apt-get install libvirt-daemon-system")
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


def device(text: str) -> dict[str, Any]:
    return {name: value for name, value in json.loads(text).items() if name not in SILENT}


def asked(spec: LaunchSpec) -> FwCfg:
    return dump(
        spec, binary=require_tool("qemu"), target=Target.CC, ecam_base=0xE0000000,
        mmio64=Mmio64Rule(),
    )  # fmt: skip


@pytest.mark.parametrize("shape", SHAPES)
def test_libvirt_launches_what_we_measure(shape: str) -> None:
    ours = read_domain(SHAPES[shape], origin="td.xml", host=HOST)
    theirs = read_command_line(native(SHAPES[shape]), origin="libvirt", host=HOST)
    assert ours.warnings == theirs.warnings == ()
    mine, real = ours.spec.machine, theirs.spec.machine
    assert {"acpi": True, **real.options} == mine.options  # libvirt 9 leaves the default out
    assert (mine.memory, mine.vcpus, mine.cpu) == (real.memory, real.vcpus, real.cpu)
    assert (mine.smbios, mine.boot_options) == (real.smbios, real.boot_options)
    assert {"maxcpus": real.vcpus, **real.topology} == {**mine.topology}
    codecs = [text for text in real.devices if json.loads(text)["driver"] == "hda-duplex"]
    listed = [device(text) for text in real.devices if text not in codecs]
    assert [device(text) for text in mine.devices] == listed
    assert [(d.path, d.format, d.readonly) for d in ours.spec.disks] == [
        (d.path, d.format, d.readonly) for d in theirs.spec.disks
    ]
    mine_asked, real_asked = asked(ours.spec), asked(theirs.spec)
    for name in ("etc/acpi/tables", "etc/table-loader", "bootorder", "etc/smbios/smbios-tables"):
        assert mine_asked.files[name] == real_asked.files[name], name
    assert mine_asked.boot_menu == real_asked.boot_menu
