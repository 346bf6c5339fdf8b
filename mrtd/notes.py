"""Notes: what the reader of a derivation has to know, most urgent first, with stable codes."""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum
from typing import TYPE_CHECKING

import msgspec

from mrtd.coverage import CoverageStatus
from mrtd.firmware.tdvf import SectionType
from mrtd.firmware.variables import SecureBoot, secure_boot_state
from mrtd.launch.spec import PayloadBoot
from mrtd.qemu.vmm import (
    FIRST_UPSTREAM_TDX,
    OTHER_VERSION,
    version_tuple,
)
from mrtd.qemu.vmm_profiles import page_order_row, vmm_profile
from mrtd.registers import Target, Unpinned

if TYPE_CHECKING:
    from mrtd.derive import Derivation


class Level(StrEnum):
    """How urgent a note is."""

    ALARM = "alarm"
    """The measurements do not identify what they seem to."""
    WARNING = "warning"
    """A register is not pinned, or rests on an assumption."""
    INFO = "info"
    """Where a choice came from."""


class Note(msgspec.Struct, frozen=True):
    """A remark: its level, a stable code for programs, and a text for people."""

    level: Level
    code: str
    text: str


def notes_of(derivation: Derivation) -> tuple[Note, ...]:
    """All notes of a derivation, alarms first."""
    notes = [
        *_firmware(derivation),
        *(() if isinstance(derivation.spec.boot, PayloadBoot) else _kernel(derivation)),
        *_registers(derivation),
        *_vmm(derivation),
        *_machine(derivation),
        *_coverage(derivation),
    ]
    return tuple(sorted(notes, key=lambda note: list(Level).index(note.level)))


def _firmware(d: Derivation) -> Iterator[Note]:
    profile = d.firmware.profile
    if d.target is Target.CC and not profile.cc:
        yield Note(
            Level.ALARM,
            "rtmr_not_extended",
            f"this firmware ({profile.name}) extends no RTMR: MRTD is all there is, and MRTD "
            "names the firmware only; any kernel, command line and initrd give the same registers",
        )
    if d.firmware.guessed:
        yield Note(Level.INFO, "profile_guessed", f"firmware profile {profile.name}, from signals "
                   "in the image; set firmware.profile to pin it")  # fmt: skip
    for text in d.firmware.contradictions:
        yield Note(Level.WARNING, "profile_contradicted", f"profile {profile.name}: {text}")
    unconfirmed = {event.unconfirmed for event in d.log if event.unconfirmed}
    for text in sorted(unconfirmed):
        count = sum(event.unconfirmed == text for event in d.log)
        yield Note(Level.WARNING, "unconfirmed_events", f"{count} events marked '?': {text}")
    state = secure_boot_state(d.firmware.variables, supported=d.firmware.secure_boot)
    if state is SecureBoot.ON:
        yield Note(Level.INFO, "secure_boot_on", "Secure Boot is on: a kernel that no db entry "
                   "signed does not start")  # fmt: skip


def _kernel(d: Derivation) -> Iterator[Note]:
    kernel = d.kernel
    boots_linux = bool(kernel.protocol)  # else what boots is not known, which the registers say
    silent = boots_linux and not kernel.cc_measurement
    if d.target is Target.CC and d.firmware.profile.cc and silent:
        version = kernel.version.split(" ", 1)[0] or "of unknown version"
        reason = ", though its version should" if kernel.expected_cc else "; Linux >= 6.9 does"
        yield Note(
            Level.ALARM,
            "rtmr2_not_extended",
            f"kernel {version} cannot extend RTMR2 (its EFI stub does not know the CC measurement "
            f"protocol{reason}): command line and initrd are measured nowhere",
        )
    how = "as QEMU patches it" if d.header.patched else "as in the file"
    yield Note(Level.INFO, "kernel_header", f"kernel setup header {how}: {d.header.source}")


def _registers(d: Derivation) -> Iterator[Note]:
    for name, rule in d.registers.rules:
        if isinstance(rule, Unpinned):
            yield Note(Level.WARNING, f"{name}_unpinned", f"{name.upper()} is not pinned: "
                       f"{rule.reason}")  # fmt: skip
            if OTHER_VERSION in rule.reason:
                yield Note(Level.WARNING, "qemu_version_differs", rule.reason)
    if d.target is Target.CC and not vmm_profile(d.spec.vmm).tables:
        yield Note(
            Level.INFO,
            "rtmr0_floats",
            "RTMR0 moves with memory, vCPUs, devices and their order, machine type and options, "
            "QEMU version and the host's physical address width; MRTD, RTMR1 and RTMR2 do not, "
            "except that a patched kernel header moves with memory below 2.75 GiB",
        )
    in_mrtd = (
        {step.section.type for step in d.build.steps if step.section.extended} if d.build else ()
    )
    if d.target is Target.CC and SectionType.PAYLOAD not in in_mrtd:
        yield Note(Level.INFO, "mrtd_is_firmware", "MRTD identifies the firmware only; the image "
                   "is MRTD + RTMR0 + RTMR1 + RTMR2")  # fmt: skip
    machine = d.spec.machine
    host_cpu = machine.cpu.split(",")[0] in {"host", "max"}
    asked = d.spec.acpi.tables is None and not vmm_profile(d.spec.vmm).tables
    if host_cpu and machine.phys_bits is None and asked:
        yield Note(Level.WARNING, "phys_bits_unknown", "cpu = 'host' without machine.phys_bits: "
                   "the 64-bit PCI window in the ACPI tables is the host's")  # fmt: skip


def _vmm(d: Derivation) -> Iterator[Note]:
    if d.target is not Target.CC:
        return
    version = d.spec.vmm.version
    row = page_order_row(d.spec.vmm) if d.spec.vmm.page_order is None else None
    vmm = vmm_profile(d.spec.vmm)
    if row is not None:
        level = Level.INFO if row.upstream else Level.WARNING
        yield Note(level, "page_order_default", f"page order {row.order}, the default for "
                   f"{vmm.name} {version}: {row.source}")  # fmt: skip
    for text in filter(None, (vmm.hob, vmm.tables)):
        yield Note(Level.WARNING, "vmm_not_modelled", text)
    if vmm.kind == "qemu" and version_tuple(version) < FIRST_UPSTREAM_TDX:
        yield Note(Level.WARNING, "not_upstream_tdx", f"upstream QEMU {version} cannot launch a "
                   "TD (10.1 is the first that can): this describes a patched host")  # fmt: skip


def _machine(d: Derivation) -> Iterator[Note]:
    for item in d.spec.machine.not_modelled:
        yield Note(Level.WARNING, item.code, f"{item.argument}: {item.reason}")


def _coverage(d: Derivation) -> Iterator[Note]:
    for line in d.coverage:
        if line.status is CoverageStatus.NOT_MEASURED:
            yield Note(Level.WARNING, f"{line.input}_not_measured", f"{line.input}: {line.note}")
