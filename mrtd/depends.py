"""Which inputs a difference depends on: a table by what the event measures, and what is known.

A row names every input that the measurement is made of, likeliest first. Where both sides know an
input (`Side.facts`), those that are equal cannot be the cause and are left out.
"""

from __future__ import annotations

from typing import Final

import msgspec

from mrtd.registers import RegisterName
from mrtd.side import Side
from mrtd.subject import Subject


class Dependence(msgspec.Struct, frozen=True):
    """An input that a difference can come from.

    Attributes:
        code: stable name for programs, a key of `TEXTS`.
        text: what to look at, one sentence for people.
        known: whether both sides say what the input is, and say different things.
    """

    code: str
    text: str
    known: bool = False


TEXTS: Final = {
    "memory": "the memory size of the VM",
    "vcpus": "the number of vCPUs and their topology",
    "devices": "the devices on the PCI bus, their order and their slots",
    "machine_options": "machine type and options: hpet, smm, pic, vmport and the like",
    "phys_bits": "the physical address width of guest and host (64-bit PCI window)",
    "cpu": "the CPU model",
    "fw_cfg": "fw_cfg items: boot order, boot menu, opt/ovmf/...",
    "qemu_version": "the QEMU version",
    "acpi": "the ACPI blobs that were given, or the machine that QEMU was asked about",
    "smbios": "the SMBIOS table that was given",
    "firmware": "the firmware image",
    "profile": "the firmware's event profile: another edk2 release, or another build",
    "variables": "the variable store in the firmware image (Secure Boot state and keys)",
    "page_order": "the order in which host kernel and QEMU add and extend pages",
    "kernel": "the kernel image",
    "header_patch": "whether QEMU patches the kernel's setup header",
    "initrd": "the initrd: which file, or whether there is one",
    "cmdline": "the kernel command line",
    "boot": "what is booted: a kernel given by QEMU, or a disk with a boot loader",
    "disk": "the disk image: partition table, boot loader, UKI and what else is read from it",
    "application": "what software in the guest extends itself",
    "vmm": "another VMM: this rule is QEMU's",
}
"""The sentence for each code."""

_ACPI: Final = (
    "acpi", "vcpus", "devices", "memory", "machine_options", "phys_bits", "qemu_version", "profile",
)  # fmt: skip

_CHANGED: Final[dict[Subject, tuple[str, ...]]] = {
    Subject.TD_HOB: ("memory", "firmware", "vmm"),
    Subject.CFV: ("variables", "firmware"),
    Subject.FW_CFG: ("fw_cfg", "devices", "boot", "qemu_version"),
    Subject.SECURE_BOOT: ("variables", "profile"),
    Subject.KEYS: ("variables",),
    Subject.AUTHORITY: ("variables", "kernel", "disk"),
    Subject.SEPARATOR: ("profile",),
    Subject.ACPI_LOADER: ("acpi", "devices", "machine_options", "vcpus", "memory", "qemu_version"),
    Subject.ACPI_RSDP: ("acpi", "devices", "machine_options", "vcpus", "memory", "qemu_version"),
    Subject.ACPI_TPM_LOG: ("devices", "qemu_version"),
    Subject.ACPI_TABLES: _ACPI,
    Subject.ACPI: _ACPI,
    Subject.SMBIOS: ("smbios", "memory", "vcpus", "cpu", "qemu_version", "profile"),
    Subject.BOOT_VARIABLE: ("profile", "boot", "devices", "variables"),
    Subject.BOOT_IMAGE: (
        "kernel", "disk", "header_patch", "initrd", "cmdline", "memory", "boot", "qemu_version",
    ),
    Subject.ACTION: ("profile", "boot"),
    Subject.GPT: ("disk", "boot"),
    Subject.LOAD_OPTIONS: ("cmdline", "disk", "initrd", "profile"),
    Subject.INITRD: ("initrd", "disk"),
    Subject.LOADER: ("disk", "boot"),
    Subject.FIRMWARE: ("firmware",),
    Subject.APPLICATION: ("application",),
    Subject.OTHER: ("profile", "vmm"),
}  # fmt: skip
# An event that only one side has: first what decides whether there is one at all.
_PRESENT: Final[dict[Subject, tuple[str, ...]]] = {
    Subject.TD_HOB: ("profile", "vmm"),
    Subject.CFV: ("profile", "firmware"),
    Subject.FW_CFG: ("profile", "fw_cfg", "devices", "boot"),
    Subject.SECURE_BOOT: ("profile", "vmm"),
    Subject.KEYS: ("variables", "profile"),
    Subject.ACPI_TPM_LOG: ("devices",),
    Subject.SMBIOS: ("profile",),
    Subject.BOOT_VARIABLE: ("profile", "boot", "devices"),
    Subject.BOOT_IMAGE: ("boot", "disk", "kernel"),
    Subject.LOAD_OPTIONS: ("cmdline", "kernel", "initrd", "boot"),
    Subject.INITRD: ("initrd", "kernel", "boot"),
    Subject.GPT: ("boot", "disk"),
    Subject.LOADER: ("boot", "disk"),
    Subject.AUTHORITY: ("variables", "boot", "disk"),
}
# Without logs on both sides: all that a register holds.
_REGISTER: Final[dict[RegisterName, tuple[str, ...]]] = {
    RegisterName.MRTD: ("firmware", "page_order", "vmm"),
    RegisterName.RTMR0: (
        "memory", "vcpus", "devices", "machine_options", "phys_bits", "qemu_version", "acpi",
        "smbios", "variables", "fw_cfg", "profile", "vmm",
    ),
    RegisterName.RTMR1: (
        "kernel", "disk", "header_patch", "initrd", "cmdline", "memory", "profile", "boot",
        "qemu_version",
    ),
    RegisterName.RTMR2: ("cmdline", "initrd", "kernel", "disk", "profile", "boot"),
    RegisterName.RTMR3: ("application",),
}  # fmt: skip


def of_event(subject: Subject, *, both: bool, sides: tuple[Side, Side]) -> tuple[Dependence, ...]:
    """What a difference in an event depends on.

    Args:
        subject: what it measures.
        both: whether both sides have the event, with different digests.
        sides: expected and observed.
    """
    codes = _CHANGED[subject] if both else _PRESENT.get(subject, _CHANGED[subject])
    return _narrowed(codes, sides)


def of_register(name: RegisterName, *, sides: tuple[Side, Side]) -> tuple[Dependence, ...]:
    """What a difference in a whole register depends on, where no events explain it."""
    return _narrowed(_REGISTER.get(name, ("profile", "boot")), sides)


def _narrowed(codes: tuple[str, ...], sides: tuple[Side, Side]) -> tuple[Dependence, ...]:
    """Inputs known to differ, if there are any; else those not known to be equal."""
    expected, observed = (side.facts for side in sides)
    known, possible = [], []
    for code in codes:
        ours, theirs = expected.get(code), observed.get(code)
        if ours is None or theirs is None:
            possible.append(Dependence(code, TEXTS[code]))
        elif ours != theirs:
            text = f"{TEXTS[code]}: expected {_shown(ours)}, observed {_shown(theirs)}"
            known.append(Dependence(code, text, known=True))
    # where all facts are equal, they do not tell everything: then any input is left
    every = (Dependence(code, TEXTS[code]) for code in codes)
    return tuple(known or possible or every)


def _shown(fact: str) -> str:
    return repr(fact) if len(fact) <= 60 else f"{fact[:57]!r}..."
