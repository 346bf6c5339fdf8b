"""What of the machine reaches the guest without being measured: devices, hot-plug, items.

What a device *is* shows in the ACPI tables; what it *says* is in no register.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

import msgspec

from mrtd.audit.findings import AuditedInput, Finding
from mrtd.coverage import CoverageStatus
from mrtd.errors import SpecError
from mrtd.firmware.profiles import Step
from mrtd.firmware.sequence import MEASURED_FW_CFG
from mrtd.launch.spec import LaunchSpec
from mrtd.qemu.devices import parse_device
from mrtd.registers import RegisterName

_DEBUG: Final = 1 << 0
_SEPT_VE_DISABLE: Final = 1 << 28
_OFF: Final = frozenset(("off", "no", "false", "n", "0"))
_AGENTS: Final = ("org.qemu.guest_agent", "com.redhat.spice", "org.libguestfs")
_PORTS: Final = frozenset(("pcie-root-port", "ioh3420", "pcie-pci-bridge"))
_CREDENTIALS: Final = "opt/io.systemd.credentials/"
_SHOWN: Final = 100


class _Device(msgspec.Struct, frozen=True):
    """Drivers of a kind: how they are called, the rule, what the kind is."""

    drivers: str
    rule: str | None
    kind: str


_DEVICES: Final = (
    _Device(r"virtio-9p-.*|vhost-user-fs-.*|virtio-fs-.*", "shared_folder", "shared folder"),
    _Device(r"ivshmem.*", "shared_memory", "shared memory"),
    _Device(r"vfio-.*|pci-assign", "host_device", "device of the host"),
    _Device(r"tpm-.*", "virtual_tpm", "TPM"),
    _Device(r"pc-dimm|nvdimm|virtio-mem-.*|virtio-pmem-.*", "hotplug_memory", "memory device"),
    _Device(r".*vsock.*", "channel", "vsock"),
    _Device(r"virtserialport|virtconsole|isa-serial|pci-serial.*|isa-debugcon|isa-parallel",
            "channel", "serial channel"),
    _Device(r"virtio-net-.*|vhost-user-net.*|e1000e?|igb|rtl8139|vmxnet3|i8255.*|ne2k_pci|"
            r"usb-net|pcnet", "channel", "network"),
    _Device(r"usb-redir|usb-host|usb-serial|ccid-.*", "channel", "USB channel"),
    _Device(r"virtio-balloon-.*", "channel", "memory balloon"),
    _Device(r"virtio-rng-.*", "channel", "random numbers of the host"),
    _Device(r"virtio-(keyboard|mouse|tablet|input)-.*|usb-(kbd|mouse|tablet)", "channel", "input"),
)  # fmt: skip


def machine_inputs(spec: LaunchSpec) -> Iterator[AuditedInput]:
    """Devices that bring something in, fw_cfg items and SMBIOS fields."""
    for driver, properties, text in _devices(spec):
        row = _row(driver)
        if row is not None:
            yield AuditedInput(
                name=f"{row.kind}: {text[:_SHOWN]}",
                status=CoverageStatus.NOT_MEASURED,
                note="its slot is in the ACPI tables; what it says is in no register",
            )
        if properties.get("romfile"):
            yield AuditedInput(
                name=f"option ROM: {properties['romfile'][:_SHOWN]}",
                status=CoverageStatus.UNPINNED,
                registers=(RegisterName.RTMR1,),
                note="a firmware that runs it measures it; which event that makes is not derived",
            )
    if spec.machine.serial_ports:
        yield AuditedInput(
            name=f"serial channel: {spec.machine.serial_ports} ports of the board",
            status=CoverageStatus.NOT_MEASURED,
            note="the ports are in the ACPI tables; what comes through them is in no register",
        )


def item_inputs(spec: LaunchSpec, steps: frozenset[Step]) -> Iterator[AuditedInput]:
    """fw_cfg items and SMBIOS fields of the spec.

    Args:
        spec: the launch.
        steps: what the firmware measures.
    """
    for name in spec.machine.fw_cfg:
        measured = name in MEASURED_FW_CFG and Step.FW_CFG in steps
        yield AuditedInput(
            name=f"fw_cfg {name}"[:_SHOWN],
            status=CoverageStatus.MEASURED if measured else CoverageStatus.NOT_MEASURED,
            registers=(RegisterName.RTMR0,) if measured else (),
            note="the item" if measured else "the firmware does not measure this item",
        )
    for text in spec.machine.smbios:
        yield AuditedInput(
            name=f"SMBIOS {text.split(',value=', 1)[0]}"[:_SHOWN],
            status=CoverageStatus.NOT_MEASURED,
            note="edk2 zeroes strings and numbers of this kind before it measures, if it does",
        )


def machine_findings(spec: LaunchSpec, arguments: tuple[str, ...]) -> Iterator[Finding]:
    """What is wrong with the machine.

    Args:
        spec: the launch.
        arguments: of a QEMU command line, where the machine was described by one.
    """
    yield from _attributes(arguments)
    machine = spec.machine
    for item in machine.not_modelled:
        yield Finding("machine_not_modelled", "machine", f"{item.argument[:_SHOWN]}: {item.reason}")
        if item.code == "memory_hotplug" or "maxmem" in item.argument:
            yield Finding("hotplug_memory", "memory", item.argument[:_SHOWN])
    most = machine.topology.get("maxcpus", machine.vcpus)
    if most > machine.vcpus:
        yield Finding("hotplug_cpu", "vCPUs", f"{machine.vcpus} of at most {most}")
    yield from _device_findings(spec)
    if machine.serial_ports:
        yield Finding("channel", "serial channel", f"{machine.serial_ports} ports of the board")
    yield from _items(spec)


def _device_findings(spec: LaunchSpec) -> Iterator[Finding]:
    ports = 0
    for driver, properties, text in _devices(spec):
        row = _row(driver)
        if row is not None and row.rule is not None:
            yield Finding(row.rule, row.kind, text[:_SHOWN])
        if properties.get("name", "").startswith(_AGENTS):
            yield Finding("guest_agent", "serial channel", properties["name"][:_SHOWN])
        if driver in _PORTS:
            ports += properties.get("hotplug", "on") not in _OFF
    if ports:
        yield Finding("hotplug_pci", "PCI", f"{ports} ports that take devices at run time")


def _attributes(arguments: tuple[str, ...]) -> Iterator[Finding]:
    """TDATTRIBUTES, as far as a command line sets them; QEMU's default has neither bit wrong."""
    for text in arguments:
        if "tdx-guest" not in text:
            continue
        _, _, option = text.partition(" ")
        try:
            pairs = dict(parse_device(option or text).properties)
        except SpecError:
            continue
        bits = _number(pairs.get("attributes", ""))
        if bits & _DEBUG or pairs.get("debug", "off") not in _OFF:
            yield Finding("debug_attribute", "TD attributes", text[:_SHOWN])
        kept = pairs.get("sept-ve-disable", "on") not in _OFF
        if not kept or ("attributes" in pairs and not bits & _SEPT_VE_DISABLE):
            yield Finding("sept_ve_enabled", "TD attributes", text[:_SHOWN])


def _number(text: str) -> int:
    try:
        return int(text, 0)
    except ValueError:
        return 0


def _items(spec: LaunchSpec) -> Iterator[Finding]:
    for name in spec.machine.fw_cfg:
        if name.startswith(_CREDENTIALS):
            yield Finding("fw_cfg_credential", "fw_cfg", name[:_SHOWN])
        elif name not in MEASURED_FW_CFG:
            yield Finding("fw_cfg_item", "fw_cfg", name[:_SHOWN])
    for text in spec.machine.smbios:
        kind = text.partition(",")[0].partition("=")[2]
        if kind == "11" and re.search(r"io\.systemd\.(credential|stub|boot)", text):
            # the value may be a secret
            yield Finding("smbios_credential", "SMBIOS", text.split(":", 1)[0][:_SHOWN])
        else:
            yield Finding("smbios_strings", "SMBIOS", f"type {kind[:_SHOWN]}")


def _devices(spec: LaunchSpec) -> Iterator[tuple[str, dict[str, str], str]]:
    """Driver, properties and text of each device; the text as key=value."""
    for text in spec.machine.devices:
        device = parse_device(text)
        shown = ",".join([device.driver, *(f"{k}={v}" for k, v in device.properties)])
        yield device.driver, dict(device.properties), shown


def _row(driver: str) -> _Device | None:
    return next((row for row in _DEVICES if re.fullmatch(row.drivers, driver)), None)
