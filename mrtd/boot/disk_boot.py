"""Boots from a disk: boot options, and the chain that starts on its EFI system partition."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from mrtd.boot.chain import Chain, MachineFacts
from mrtd.boot.device_options import disk_boot_variables
from mrtd.boot.machine_devices import BootDevices, boot_devices
from mrtd.boot.secure_boot import policy_of
from mrtd.boot.started import PLAIN_HEADER, UNKNOWN_KERNEL, Started
from mrtd.disk import find_esp, open_esp, open_fat, read_gpt
from mrtd.disk.gpt import has_gpt
from mrtd.errors import SpecError
from mrtd.eventlog import EventLog, InputName
from mrtd.firmware.boot_options import BootVariable
from mrtd.firmware.guids import GLOBAL_VARIABLE
from mrtd.firmware.sequence import exit_boot_services
from mrtd.firmware.smbios import structures
from mrtd.qemu.devices import parse_device
from mrtd.registers import Target, Unpinned

if TYPE_CHECKING:
    from mrtd.disk import Disk, FatVolume
    from mrtd.firmware.identify import Firmware
    from mrtd.launch.inputs import LaunchInputs
    from mrtd.launch.spec import DiskBoot, LaunchSpec
    from mrtd.qemu.fw_cfg import FwCfg

REMOVABLE_MEDIA: Final = "/EFI/BOOT/BOOTX64.EFI"
"""UEFI 2.10, 3.5.1.1: what firmware starts from a disk that no boot option says more of."""

_SMBIOS_TABLES: Final = "etc/smbios/smbios-tables"
_SYSTEM_INFORMATION: Final = 1
_WAKE_UP_TYPE: Final = 24
_DISPLAY: Final = re.compile(r"(?:\A|-)(?:VGA|vga|gpu|qxl|bochs-display|ramfb)(?:-|\Z)|\A(?:VGA|ramfb)")
# QEMU's CPU models without RDRAND, which is what firmware has random numbers from
_NO_RDRAND: Final = frozenset({"qemu64", "kvm64", "qemu32", "kvm32", "core2duo", "Nehalem"})


def machine_facts(
    spec: LaunchSpec, firmware: Firmware, fw_cfg: FwCfg | Unpinned
) -> MachineFacts:
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


def disk_boot(
    spec: LaunchSpec,
    boot: DiskBoot,
    inputs: LaunchInputs,
    firmware: Firmware,
    target: Target,
    fw_cfg: FwCfg | Unpinned,
) -> Started:
    """What a launch measures that boots from a disk.

    Raises:
        InputError: the disk, or a program on it, is malformed; or Secure Boot refuses it.
    """
    with inputs.open_boot_disk() as disk:
        where = f"disk {boot.disk}"
        files, partitions = _esp(disk, where)
        chain = Chain(
            target,
            machine_facts(spec, firmware, fw_cfg),
            policy=policy_of(firmware),
            partitions=partitions,
            entry=boot.entry,
        )
        chain.run_file(
            files, boot.path or REMOVABLE_MEDIA, InputName.BOOT_LOADER, boot.cmdline or ""
        )
    events = chain.recorder.log
    return Started(
        image=None,
        authority=(),
        options=_options(spec, boot, firmware),
        events=(*events, *exit_boot_services(target, firmware.profile, from_disk=True)),
        kernel=chain.kernel or UNKNOWN_KERNEL,
        header=PLAIN_HEADER,
        cmdline=chain.cmdline,
        has_initrd=_has_initrd(events),
    )


def _esp(disk: Disk, where: str) -> tuple[FatVolume, tuple[bytes, str] | None]:
    """The ESP, and the body of the event that its partition table makes."""
    if not has_gpt(disk):
        return open_esp(disk), None  # an MBR is not measured
    gpt = read_gpt(disk)
    return open_fat(disk, *gpt.extent(find_esp(gpt))), (gpt.event_data(), where)


def _options(
    spec: LaunchSpec, boot: DiskBoot, firmware: Firmware
) -> tuple[BootVariable, ...] | Unpinned:
    """The boot variables of a machine that boots from a disk."""
    found = boot_devices(spec)
    if isinstance(found, Unpinned):
        return found
    _check_drive(spec, boot, found)
    if boot.path is not None or boot.cmdline is not None:
        return Unpinned(
            "boot.path and boot.cmdline are those of a boot option that the firmware does not make "
            "itself, and which one it is is not derived"
        )
    stored = any(
        v.vendor == GLOBAL_VARIABLE and (v.name == "BootOrder" or _is_option(v.name))
        for v in firmware.variables
    )
    if stored:
        return Unpinned("the variable store has boot options of its own, which are not derived")
    if found.reason:
        return Unpinned(found.reason)
    profile = firmware.profile
    return disk_boot_variables(profile.boot_apps, found.known, profile.late_apps)


def _check_drive(spec: LaunchSpec, boot: DiskBoot, found: BootDevices) -> None:
    if any(f"drive={boot.disk}" in text.split(",") for text in spec.machine.devices):
        return
    raise SpecError(
        f"no device has drive={boot.disk}",
        origin="launch spec",
        field="machine.devices",
        hint=f'add "virtio-blk-pci,drive={boot.disk}"',
    )


def _is_option(name: str) -> bool:
    return len(name) == 8 and name.startswith("Boot") and name[4:].isalnum()


def _has_initrd(events: EventLog) -> bool:
    return any(event.origin.input is InputName.INITRD for event in events)
