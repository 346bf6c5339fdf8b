"""What the inputs of a launch are, by the codes of `mrtd.depends.TEXTS`, for comparing two.

A fact is a text that is equal exactly where the input is; a file's is its digest.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from mrtd.document import MeasurementDocument, to_document
from mrtd.eventlog import EventType
from mrtd.launch.spec import DiskBoot, LaunchSpec, Machine, TopologyKey

if TYPE_CHECKING:
    from mrtd.derive import Derivation

_NONE = "none"


def facts_of_derivation(derivation: Derivation) -> dict[str, str]:
    """The inputs of a derivation."""
    return facts_of_document(to_document(derivation))


def facts_of_document(document: MeasurementDocument) -> dict[str, str]:
    """The inputs that a measurement document records."""
    facts = facts_of_spec(document.spec, {file.key: file.sha384 for file in document.inputs})
    facts["profile"] = document.firmware.profile
    facts["header_patch"] = document.kernel.header
    if document.page_order is not None:
        facts["page_order"] = document.page_order
    for event in document.events:
        if event.type == EventType.EV_EFI_PLATFORM_FIRMWARE_BLOB2 and event.digest is not None:
            state = "built in" if document.firmware.secure_boot else "not built in"
            facts["variables"] = f"{event.digest[:16]}, Secure Boot {state}"
    return facts


def facts_of_spec(spec: LaunchSpec, files: Mapping[str, str]) -> dict[str, str]:
    """The inputs that a spec and the digests of its files say, without what is read from files.

    Args:
        spec: the launch.
        files: digest of each file in hex, by its key in the spec.
    """
    machine = spec.machine

    def digest(*keys: str) -> str:
        return " + ".join(files[key][:16] for key in keys if key in files) or _NONE

    facts = {
        "memory": f"{spec.memory_bytes:#x} bytes",
        "vcpus": f"{machine.vcpus} {_items(machine.topology)}".rstrip(),
        "devices": "; ".join(machine.devices) or _NONE,
        "machine_options": _machine_options(machine),
        "cpu": machine.cpu,
        "fw_cfg": _items(machine.fw_cfg) or _NONE,
        "qemu_version": spec.vmm.version,
        "acpi": digest("acpi.tables", "acpi.rsdp", "acpi.loader"),
        "smbios": "; ".join((digest("smbios.measured"), *machine.smbios)),
        "firmware": digest("firmware.vars", "firmware.path"),
        "boot": spec.boot.kind,
        "vmm": spec.vmm.kind,
    }
    if isinstance(spec.boot, DiskBoot):
        # kernel, initrd and command line are on the disk, of which nobody keeps a digest
        facts["header_patch"] = "not loaded by the VMM"
    else:
        facts |= {
            "kernel": digest("boot.kernel", "boot.payload"),
            "initrd": digest("boot.initrd"),
            "cmdline": spec.boot.cmdline or "",
            "disk": _NONE,
        }
    if machine.phys_bits is not None:
        facts["phys_bits"] = str(machine.phys_bits)
    return facts


def _machine_options(machine: Machine) -> str:
    """The machine's type, and what belongs to no device."""
    parts = [machine.type, _items(machine.options), *machine.globals, machine.boot_options]
    if machine.serial_ports:
        parts.append(f"serial_ports={machine.serial_ports}")
    parts += [f"not modelled: {item.argument}" for item in machine.not_modelled]
    return " ".join(part for part in parts if part)


def _items(values: Mapping[TopologyKey, int] | Mapping[str, str] | Mapping[str, bool | str]) -> str:
    return ", ".join(f"{name}={value}" for name, value in sorted(values.items()))
