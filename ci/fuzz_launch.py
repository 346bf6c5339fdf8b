"""What fuzzes the readers of launches: specs, libvirt domains, QEMU command lines."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from ci.fuzz_target import FuzzTarget
from fixtures.domains import MANY, build_domain
from mrtd.launch.machines import HostFacts, read_command_line, read_domain
from mrtd.launch.spec import read_spec

_HOST: Final = HostFacts(version="10.1", boot_disk="d", disk_formats={"d": "raw"})
_COMMAND_LINE: Final = b"""\
qemu -nodefaults -machine q35,hpet=off -m 4G -smp 2,sockets=2 -cpu host,phys-bits=46 \\
 -bios OVMF.fd -drive if=none,id=d,file=a,format=raw -device virtio-blk-pci,drive=d,bootindex=1 \\
 -blockdev '{"driver":"raw","node-name":"e","file":{"driver":"file","filename":"b"}}' \\
 -device '{"driver":"ide-cd","drive":"e"}' -object tdx-guest,id=t -serial stdio -numa node
"""
_SPEC: Final = b"""\
schema = "mrtd.launch/1"
[vmm]
kind = "qemu"
version = "10.1.0"
[machine]
memory = "2 GiB"
vcpus = 2
[firmware]
path = "OVMF.fd"
[boot]
kind = "direct"
kernel = "vmlinuz"
"""


def _command_line(data: bytes) -> None:
    read_command_line(data, origin="fuzz", host=_HOST)


def _domain(data: bytes) -> None:
    read_domain(data, origin="fuzz", host=_HOST)


def _text(data: bytes) -> None:
    read_spec(data.decode("utf-8", "replace"), origin="fuzz")


LAUNCH_TARGETS: Final[Mapping[str, FuzzTarget]] = {
    "command-line": FuzzTarget(_command_line, (_COMMAND_LINE,)),
    "domain": FuzzTarget(
        _domain, (build_domain(direct=True), build_domain(devices=MANY, direct=True))
    ),
    "spec": FuzzTarget(_text, (_SPEC,)),
}
