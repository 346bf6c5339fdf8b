"""What the inputs of a launch are, by the codes of `mrtd.depends.TEXTS`, for comparing two.

A fact is a text that is equal exactly where the input is; a file's is its digest.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mrtd.document import MeasurementDocument, to_document
from mrtd.eventlog import EventType

if TYPE_CHECKING:
    from mrtd.derive import Derivation

_NONE = "none"


def facts_of_derivation(derivation: Derivation) -> dict[str, str]:
    """The inputs of a derivation."""
    return facts_of_document(to_document(derivation))


def facts_of_document(document: MeasurementDocument) -> dict[str, str]:
    """The inputs that a measurement document records."""
    machine, files = document.spec.machine, {file.key: file for file in document.inputs}

    def digest(*keys: str) -> str:
        found = [files[key].sha384[:16] for key in keys if key in files]
        return " + ".join(found) or _NONE

    facts = {
        "memory": f"{document.spec.memory_bytes:#x} bytes",
        "vcpus": str(machine.vcpus),
        "devices": "; ".join(machine.devices) or _NONE,
        "machine_options": f"{machine.type} {_items(machine.options)}".rstrip(),
        "cpu": machine.cpu,
        "fw_cfg": _items(machine.fw_cfg) or _NONE,
        "qemu_version": document.spec.vmm.version,
        "acpi": digest("acpi.tables", "acpi.rsdp", "acpi.loader"),
        "smbios": digest("smbios.measured"),
        "firmware": digest("firmware.vars", "firmware.path"),
        "profile": document.firmware.profile,
        "kernel": digest("boot.kernel"),
        "header_patch": document.kernel.header,
        "initrd": digest("boot.initrd"),
        "cmdline": document.spec.boot.cmdline or "",
        "boot": document.spec.boot.kind,
        "vmm": document.spec.vmm.kind,
    }
    if machine.phys_bits is not None:
        facts["phys_bits"] = str(machine.phys_bits)
    if document.page_order is not None:
        facts["page_order"] = document.page_order
    for event in document.events:
        if event.type == EventType.EV_EFI_PLATFORM_FIRMWARE_BLOB2 and event.digest is not None:
            state = "built in" if document.firmware.secure_boot else "not built in"
            facts["variables"] = f"{event.digest[:16]}, Secure Boot {state}"
    return facts


def _items(values: dict[str, bool] | dict[str, str] | dict[str, bool | str]) -> str:
    return ", ".join(f"{name}={value}" for name, value in sorted(values.items()))
