"""Facts of the machine that boot programs act upon, and so measure."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from mrtd.boot.chain import MachineFacts
from mrtd.firmware.smbios import structures
from mrtd.qemu.devices import parse_device
from mrtd.registers import Unpinned

if TYPE_CHECKING:
    from mrtd.firmware.identify import Firmware
    from mrtd.launch.spec import LaunchSpec
    from mrtd.qemu.fw_cfg import FwCfg

_SMBIOS_TABLES: Final = "etc/smbios/smbios-tables"
_SYSTEM_INFORMATION: Final = 1
_WAKE_UP_TYPE: Final = 24
_DISPLAY: Final = re.compile(
    r"(?:\A|-)(?:VGA|vga|gpu|qxl|bochs-display|ramfb)(?:-|\Z)|\A(?:VGA|ramfb)"
)
# QEMU's CPU models without RDRAND, which is what firmware has random numbers from
_NO_RDRAND: Final = frozenset({"qemu64", "kvm64", "qemu32", "kvm32", "core2duo", "Nehalem"})


def machine_facts(spec: LaunchSpec, firmware: Firmware, fw_cfg: FwCfg | Unpinned) -> MachineFacts:
    """What boot programs find out about the machine."""
    model = spec.machine.cpu.partition(",")[0]
    rng = next((d for d in spec.machine.devices if d.startswith("virtio-rng")), "")
    source = rng or ("" if model in _NO_RDRAND else f"cpu {model!r} may have RDRAND")
    stored = frozenset(variable.name for variable in firmware.variables)
    return MachineFacts(_system_information(fw_cfg), _consoles(spec), stored, source)


def _consoles(spec: LaunchSpec) -> tuple[str, ...] | Unpinned:
    """Consoles that systemd-stub 262 names to the kernel: a serial port, a virtio console.

    Of each kind only one that is alone counts (systemd src/boot/console.c). Seen with both.
    """
    drivers = [parse_device(text).driver for text in spec.machine.devices]
    unlike = [d for d in drivers if _DISPLAY.search(d)]
    if unlike:
        return Unpinned(f"which console= systemd-stub adds beside {unlike[0]} is not derived")
    serial = sum(driver == "isa-serial" for driver in drivers)
    virtio = sum(driver.startswith("virtio-serial-") for driver in drivers)
    found = ["console=uart,io,0x3f8"] if serial == 1 else []
    return (*found, *(["console=hvc0"] if virtio == 1 else []))


def _system_information(fw_cfg: FwCfg | Unpinned) -> bytes | Unpinned:
    """SMBIOS type 1 as systemd measures it, with the wake-up type zeroed."""
    if isinstance(fw_cfg, Unpinned):
        return Unpinned("QEMU was not asked for its SMBIOS tables, of which systemd measures one")
    tables = fw_cfg.files.get(_SMBIOS_TABLES, b"")
    for structure in structures(tables, origin=f"QEMU {_SMBIOS_TABLES}"):
        if structure[0] == _SYSTEM_INFORMATION and structure[1] > _WAKE_UP_TYPE:
            return structure[:_WAKE_UP_TYPE] + b"\0" + structure[_WAKE_UP_TYPE + 1 :]
    return Unpinned("QEMU has no SMBIOS structure of type 1")
