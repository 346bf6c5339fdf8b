"""What each modelled option of QEMU adds to a machine.

Sources: QEMU qemu-options.hx, hw/core/machine-smp.c, hw/core/machine.c (``-m``, ``-boot``),
system/bootdevice.c, blockdev.c (``-drive``), net/net.c (``-nic``), hw/i386/pc_q35.c.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Final, get_args

from mrtd.launch.arguments import Argument, Influence, Treatment
from mrtd.launch.machine import MachineParts
from mrtd.launch.options import escape, option_pairs, split_option
from mrtd.launch.qemu_drives import blockdev, disk_letter, drive
from mrtd.launch.qemu_options import (
    LOUD_DEVICES,
    LOUD_OBJECTS,
    REFUSED_OBJECTS,
    SILENT_OBJECTS,
)
from mrtd.launch.spec import BOOT_OPTIONS, TopologyKey

Handler = Callable[[MachineParts, str, str], Iterator[Argument]]

_SIZE: Final = re.compile(r"([0-9]{1,15})([kKmMgGtT]?)[bB]?")
_SCALE: Final = {"": 1 << 20, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
_NUMBER: Final = re.compile(r"[0-9]{1,9}")
_LAUNCH: Final = "the launch chooses it, and nothing that is measured depends on it"
_SILENT_MACHINE: Final = {
    "accel": _LAUNCH,
    "confidential-guest-support": "a launch of a TD adds it",
    "memory-backend": "which of the host's memory it is: the guest sees the same map",
    "memory-encryption": "a launch of a TD adds it",
    "dump-guest-core": _LAUNCH,
    "mem-merge": _LAUNCH,
}
_MACHINE_FILES: Final = {"kernel": "kernel", "initrd": "initrd", "append": "cmdline",
                         "firmware": "firmware"}  # fmt: skip
_REFUSED_MACHINE: Final = frozenset({"pflash0", "pflash1", "dtb", "shim", "igvm-cfg"})
_VGA: Final = {"std": "VGA", "cirrus": "cirrus-vga", "vmware": "vmware-svga", "qxl": "qxl-vga",
               "virtio": "virtio-vga"}  # fmt: skip
_NIC_MODELS: Final = {"virtio": "virtio-net-pci", "virtio-net": "virtio-net-pci"}
_DEFAULT_NIC: Final = "e1000e"  # pc_q35_machine_options
_ORDER: Final = "a BIOS's order of drive letters; OVMF takes the order of bootindex"


def modelled(text: str, influence: Influence, reason: str) -> Iterator[Argument]:
    """One argument that the spec says."""
    yield Argument(text, Treatment.MODELLED, influence, reason)


def silent(text: str, reason: str) -> Iterator[Argument]:
    """One argument that no measurement depends on."""
    yield Argument(text, Treatment.NO_INFLUENCE, Influence.NONE, reason)


def warning(text: str, code: str, influence: Influence, reason: str) -> Iterator[Argument]:
    """One argument that a measurement depends on and the spec cannot say."""
    yield Argument(text, Treatment.WARNING, influence, reason, code)


def _machine(parts: MachineParts, value: str, text: str) -> Iterator[Argument]:
    for key, item in option_pairs(value, implied="type", origin=parts.origin, field="-machine"):
        name = key.replace("_", "-") if key != "kernel_irqchip" else "kernel-irqchip"
        part = f"-machine {key}={item}"
        if key == "type":
            parts.type = item
        elif name in _REFUSED_MACHINE:
            raise parts.refuse(part, "is not modelled", hint="a TD boots -bios and -kernel")
        elif name in _MACHINE_FILES:
            setattr(parts, _MACHINE_FILES[name], item)
        elif name in _SILENT_MACHINE:
            yield from silent(part, _SILENT_MACHINE[name])
        elif "." in key:
            yield from warning(part, "machine_property", Influence.ACPI,
                               "write it as the option of its own")  # fmt: skip
        else:
            parts.options[key] = {"on": True, "off": False}.get(item, item)
    yield from modelled(text, Influence.ACPI, "machine.type, machine.options")


def _memory(parts: MachineParts, value: str, text: str) -> Iterator[Argument]:
    hotplug: list[str] = []
    for key, item in split_option(value, implied="size"):
        if key == "size":
            parts.memory = _bytes(parts, item, text)
        elif key in {"slots", "maxmem"}:
            hotplug.append(f"{key}={item}")
        else:
            raise parts.refuse(text, f"{key!r} is no key of -m")
    if hotplug:
        yield from warning(f"-m {','.join(hotplug)}", "memory_hotplug", Influence.ACPI,
                           "SRAT and the DSDT describe memory that can be plugged")  # fmt: skip
    yield from modelled(text, Influence.TD_HOB, "machine.memory")


def _bytes(parts: MachineParts, size: str, text: str) -> int:
    match = _SIZE.fullmatch(size)
    found = int(match[1]) * _SCALE[match[2].upper()] if match else 0
    if not found or found % (1 << 20):
        raise parts.refuse(text, f"{size!r} is no whole number of MiB")
    return found


def _smp(parts: MachineParts, value: str, text: str) -> Iterator[Argument]:
    for key, item in split_option(value, implied="cpus"):
        if not _NUMBER.fullmatch(item):
            raise parts.refuse(text, f"{item!r} is no number")
        if key == "cpus":
            parts.vcpus = int(item)
        elif key in get_args(TopologyKey):
            parts.topology[key] = int(item)
        else:
            raise parts.refuse(text, f"{key!r} is no key of -smp")
    yield from modelled(text, Influence.ACPI, "machine.vcpus, machine.topology")


def _cpu(parts: MachineParts, value: str, text: str) -> Iterator[Argument]:
    kept = []
    for part in value.split(","):
        key, _, item = part.partition("=")
        if key != "phys-bits":
            kept.append(part)
        elif _NUMBER.fullmatch(item):
            parts.phys_bits = int(item) or None
        else:
            raise parts.refuse(text, f"{item!r} is no number")
    parts.cpu = ",".join(kept)
    yield from modelled(text, Influence.ACPI, "machine.cpu, machine.phys_bits")


def _device(parts: MachineParts, value: str, text: str) -> Iterator[Argument]:
    pairs = dict(option_pairs(value, implied="driver", origin=parts.origin, field="-device"))
    driver = pairs.get("driver", "")
    if not driver:
        raise parts.refuse(text, "names no driver")
    if driver in LOUD_DEVICES:
        code, reason = LOUD_DEVICES[driver]
        rom = code == "passthrough_device" and pairs.get("rombar") not in {"0", "off"}
        influence = Influence.OPTION_ROM if rom else Influence.ACPI
        yield from warning(text, code, influence, reason)
        return
    parts.devices.append(value)
    yield from modelled(text, Influence.ACPI, "machine.devices")


def _object(parts: MachineParts, value: str, text: str) -> Iterator[Argument]:
    pairs = dict(option_pairs(value, implied="qom-type", origin=parts.origin, field="-object"))
    kind = pairs.get("qom-type", "")
    if kind in REFUSED_OBJECTS:
        raise parts.refuse(text, REFUSED_OBJECTS[kind])
    if kind == "tdx-guest":
        yield Argument(text, Treatment.NO_INFLUENCE, Influence.ATTRIBUTES,
                       "in no register: the quote shows it, and policy judges it")  # fmt: skip
        return
    if kind in LOUD_OBJECTS:
        code, reason = LOUD_OBJECTS[kind]
        yield from warning(text, code, Influence.ACPI, reason)
        return
    for prefix, reason in SILENT_OBJECTS:
        if kind.startswith(prefix):
            yield from silent(text, reason)
            return
    yield from warning(text, "object_unknown", Influence.ACPI, "this reader does not know it")


def _fw_cfg(parts: MachineParts, value: str, text: str) -> Iterator[Argument]:
    pairs = dict(split_option(value, implied="name"))
    name, string = pairs.get("name", ""), pairs.get("string")
    if string is None:
        yield from warning(text, "fw_cfg_file", Influence.FW_CFG,
                           "its content is in a file of the host: give string=")  # fmt: skip
        return
    parts.fw_cfg[name] = string
    yield from modelled(text, Influence.FW_CFG, "machine.fw_cfg")


def _global(parts: MachineParts, value: str, text: str) -> Iterator[Argument]:
    parts.globals.append(value)
    yield from modelled(text, Influence.ACPI, "machine.globals")


def _smbios(parts: MachineParts, value: str, text: str) -> Iterator[Argument]:
    keys = [key for key, _ in split_option(value)]
    if keys[:1] != ["type"] or {"file", "path"} & set(keys):
        yield from warning(text, "smbios_file", Influence.SMBIOS,
                           "its content is in a file of the host")  # fmt: skip
        return
    parts.smbios.append(value)
    yield from modelled(text, Influence.SMBIOS, "machine.smbios")


def _boot(parts: MachineParts, value: str, text: str) -> Iterator[Argument]:
    for key, item in split_option(value, implied="order"):
        if key in BOOT_OPTIONS:
            parts.boot_options.append(f"{key}={escape(item)}")
        elif key in {"order", "once"}:
            yield from silent(f"-boot {key}={item}", _ORDER)
        elif key == "splash":
            yield from silent(f"-boot {key}={item}", "a picture, which TDVF does not show")
        else:
            raise parts.refuse(text, f"{key!r} is no key of -boot")
    yield from modelled(text, Influence.FW_CFG, "machine.boot_options")


def _file(name: str, influence: Influence) -> Handler:
    def handle(parts: MachineParts, value: str, text: str) -> Iterator[Argument]:
        setattr(parts, name, value)
        yield from modelled(text, influence, f"{'' if name == 'firmware' else 'boot.'}{name}")

    return handle


def _serial(parts: MachineParts, value: str, text: str) -> Iterator[Argument]:
    if value == "none":
        yield from silent(text, "no serial port")
        return
    parts.serial_ports += 1
    yield from modelled(text, Influence.ACPI, "machine.serial_ports")


def _vga(parts: MachineParts, value: str, text: str) -> Iterator[Argument]:
    if value == "none":
        yield from silent(text, "no display device")
    elif value in _VGA:
        parts.board.insert(0, _VGA[value])
        yield from modelled(text, Influence.ACPI, "machine.devices: the first one")
    else:
        raise parts.refuse(text, "is no display device of a PC")


def _nic(parts: MachineParts, value: str, text: str) -> Iterator[Argument]:
    pairs = dict(split_option(value, implied="type"))
    if pairs.get("type") == "none":
        yield from silent(text, "no network card")
        return
    yield from _network_card(parts, pairs.get("model", _DEFAULT_NIC), text)


def _net(parts: MachineParts, value: str, text: str) -> Iterator[Argument]:
    pairs = dict(split_option(value, implied="type"))
    if pairs.get("type") == "nic":
        yield from _network_card(parts, pairs.get("model", _DEFAULT_NIC), text)
    else:
        yield from silent(text, "what is behind a network card")


def _network_card(parts: MachineParts, model: str, text: str) -> Iterator[Argument]:
    number = sum("netdev=nic" in device for device in parts.board)
    parts.board.append(f"{escape(_NIC_MODELS.get(model, model))},netdev=nic{number}")
    yield from modelled(text, Influence.ACPI, "machine.devices: before those of -device")


def _switch(option: str, *, state: bool) -> Handler:
    def handle(parts: MachineParts, _: str, text: str) -> Iterator[Argument]:
        parts.options[option] = state
        yield from modelled(text, Influence.ACPI, "machine.options")

    return handle


def _nodefaults(parts: MachineParts, _: str, text: str) -> Iterator[Argument]:
    parts.nodefaults = True
    yield from modelled(text, Influence.ACPI, "a launch spec has no default devices")


def _ignored(reason: str) -> Handler:
    def handle(_parts: MachineParts, _: str, text: str) -> Iterator[Argument]:
        yield from silent(text, reason)

    return handle


_BACKEND: Final = "what is behind a device: an inert one takes its place where tables are asked for"
HANDLERS: Final[Mapping[str, Handler]] = {
    "M": _machine,
    "accel": _ignored(_LAUNCH),
    "append": _file("cmdline", Influence.KERNEL),
    "bios": _file("firmware", Influence.MRTD),
    "blockdev": blockdev,
    "boot": _boot,
    "cdrom": disk_letter(2, device="ide-cd"),
    "chardev": _ignored(_BACKEND),
    "cpu": _cpu,
    "device": _device,
    "drive": drive,
    "enable-kvm": _ignored(_LAUNCH),
    "fw_cfg": _fw_cfg,
    "global": _global,
    **{f"hd{letter}": disk_letter(n, device="ide-hd") for n, letter in enumerate("abcd")},
    "initrd": _file("initrd", Influence.KERNEL),
    "kernel": _file("kernel", Influence.KERNEL),
    "m": _memory,
    "machine": _machine,
    "net": _net,
    "netdev": _ignored(_BACKEND),
    "nic": _nic,
    "no-acpi": _switch("acpi", state=False),
    "no-hpet": _switch("hpet", state=False),
    "nodefaults": _nodefaults,
    "nodefconfig": _ignored("QEMU's configuration files of the host are not read"),
    "object": _object,
    "serial": _serial,
    "smbios": _smbios,
    "smp": _smp,
    "tpmdev": _ignored(_BACKEND),
    "usb": _switch("usb", state=True),
    "vga": _vga,
}
