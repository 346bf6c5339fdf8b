"""The audit of a launch: what covers each of its inputs, and what follows where nothing does.

spec + Derivation (or why there is none) + disks --audit--> Audit
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

from msgspec.structs import replace

from mrtd.audit.cmdline import cmdline_findings
from mrtd.audit.disks import Covered, audit_disks
from mrtd.audit.findings import Audit, AuditedInput, Finding
from mrtd.audit.machine import item_inputs, machine_findings, machine_inputs
from mrtd.audit.rules import RULES
from mrtd.coverage import NOT_COMPARED, CoverageStatus
from mrtd.disk.root import RootCheck, RootStatus
from mrtd.errors import SpecError
from mrtd.eventlog import Event, EventType, InputName
from mrtd.launch.spec import DiskBoot, LaunchSpec
from mrtd.notes import Level
from mrtd.registers import Unpinned

if TYPE_CHECKING:
    from mrtd.derive import Derivation

_EVENTS_SHOWN: Final = 3
# Notes of a derivation that are findings, by code
_NOTES: Final = {
    "rtmr_not_extended": ("firmware_measures_nothing", "firmware"),
    "rtmr2_not_extended": ("kernel_measures_nothing", "kernel"),
}
# Other inputs that events name, in the order of the launch
_OTHERS: Final = (
    InputName.MEMORY, InputName.FW_CFG, InputName.SMBIOS, InputName.PARTITIONS,
    InputName.BOOT_LOADER, InputName.LOADER_CONFIG, InputName.UKI,
)  # fmt: skip
_ACCEPTANCE: Final = re.compile(r"([a-z_]+)(?::(.+))?")


def audit(
    spec: LaunchSpec,
    folder: Path,
    derivation: Derivation | str,
    *,
    arguments: tuple[str, ...] = (),
    accepted: Mapping[str, str] | None = None,
    check_disks: bool = True,
    progress: Callable[[str], None] = lambda _: None,
) -> Audit:
    """Audit a launch.

    Args:
        spec: the launch.
        folder: what its paths are relative to.
        derivation: what it measures, for a TD; or why that could not be derived.
        arguments: of the QEMU command line that it was read from, if it was.
        accepted: reasons by rule, or by ``rule:input``, for findings that are accepted.
        check_disks: whether root file systems are compared with their hashes.
        progress: told what is being done.

    Raises:
        SpecError: something is accepted that is no rule.
    """
    cmdline = _cmdline(spec, derivation)
    rows = [] if isinstance(derivation, str) else list(_derived_inputs(derivation))
    by_name = {row.name: row for row in rows}

    def covered(name: str) -> Covered | None:
        row = by_name.get(name)
        measured = row is not None and row.status in {
            CoverageStatus.MEASURED, CoverageStatus.UNPINNED,
        }  # fmt: skip
        return (row.status, row.registers, row.event) if row and measured else None

    disks = audit_disks(
        spec, folder, cmdline=cmdline, covered=covered, check=check_disks, progress=progress
    )
    steps = (
        frozenset() if isinstance(derivation, str)
        else frozenset(row.step for row in derivation.firmware.profile.cc)
    )  # fmt: skip
    by_name |= {"rootfs": _compared(by_name["rootfs"], disks.root)} if rows else {}
    inputs = (*by_name.values(), *item_inputs(spec, steps), *machine_inputs(spec), *disks.inputs)
    findings = [
        *_launch_findings(spec, derivation, by_name, cmdline),
        *_rootfs_findings(by_name.get("rootfs")),
        *(cmdline_findings(cmdline) if cmdline else ()),
        *machine_findings(spec, arguments),
        *disks.findings,
    ]
    return _accepted(inputs, list(dict.fromkeys(findings)), accepted or {})


def _cmdline(spec: LaunchSpec, derivation: Derivation | str) -> str | None:
    if isinstance(spec.boot, DiskBoot):
        return None if isinstance(derivation, str) else derivation.cmdline
    return spec.boot.cmdline


def _derived_inputs(derivation: Derivation) -> Iterator[AuditedInput]:
    """The inputs that a derivation covers, with the events that do."""
    events: dict[str, list[Event]] = {}
    for event in derivation.log:
        if event.type != EventType.EV_NO_ACTION:
            events.setdefault(str(event.origin.input), []).append(event)
    for line in derivation.coverage:
        # a root file system has no event of its own: the command line, or the initrd, covers it
        shown = [] if line.input == "rootfs" else events.get(line.input, [])
        yield AuditedInput(
            name=line.input, status=line.status, registers=line.registers, event=_events(shown),
            note=line.note,
        )  # fmt: skip
    known = {line.input for line in derivation.coverage}
    for name in _OTHERS:
        found = events.get(name, [])
        if not found or name in known:
            continue
        registers = tuple(dict.fromkeys(event.register for event in found))
        unpinned = any(isinstance(derivation.registers[r], Unpinned) for r in registers)
        status = CoverageStatus.UNPINNED if unpinned else CoverageStatus.MEASURED
        yield AuditedInput(name=name, status=status, registers=registers, event=_events(found))


def _events(events: list[Event]) -> str:
    texts = list(dict.fromkeys(event.description for event in events))
    # a stub measures a section's name and then its content: once is enough to read
    names = [one for one in texts if not any(other.startswith(f"{one}: ") for other in texts)]
    rest = f" and {len(names) - _EVENTS_SHOWN} more" if len(names) > _EVENTS_SHOWN else ""
    return "; ".join(names[:_EVENTS_SHOWN]) + rest


def _launch_findings(
    spec: LaunchSpec,
    derivation: Derivation | str,
    rows: Mapping[str, AuditedInput],
    cmdline: str | None,
) -> Iterator[Finding]:
    if isinstance(derivation, str):
        yield Finding("launch_not_derived", "launch", derivation)
    else:
        yield from _derivation_findings(derivation)
        if rows["cmdline"].status is CoverageStatus.NOT_MEASURED and cmdline:
            yield Finding("cmdline_not_measured", "cmdline", rows["cmdline"].note)
        if rows["initrd"].status is CoverageStatus.NOT_MEASURED:
            yield Finding("initrd_not_measured", "initrd", rows["initrd"].note)
    if isinstance(spec.boot, DiskBoot):
        if cmdline is None:
            yield Finding("cmdline_not_known", "cmdline", "what boots does not say it")
        if isinstance(derivation, str) or not _secure_boot(derivation):
            off = "Secure Boot is off, or not known to be on"
            yield Finding("cmdline_override", "cmdline", off)


def _compared(rootfs: AuditedInput, root: RootCheck | None) -> AuditedInput:
    """The root file system's row, with what the comparison with a disk found."""
    if root is None or NOT_COMPARED not in rootfs.note:
        return rootfs
    found = "compared with the disk: " if root.status is RootStatus.VERIFIED else ""
    return replace(rootfs, note=rootfs.note.replace(NOT_COMPARED, found + root.reason))


def _rootfs_findings(rootfs: AuditedInput | None) -> Iterator[Finding]:
    if rootfs is None:
        yield Finding("rootfs_not_measured", "rootfs", "what covers it could not be derived")
    elif rootfs.status is CoverageStatus.NOT_MEASURED:
        yield Finding("rootfs_not_measured", "rootfs", rootfs.note)
    elif NOT_COMPARED in rootfs.note:
        yield Finding("rootfs_not_checked", "rootfs", rootfs.note)


def _derivation_findings(derivation: Derivation) -> Iterator[Finding]:
    for note in derivation.notes:
        if note.code in _NOTES:
            rule, name = _NOTES[note.code]
            yield Finding(rule, name, note.text)
    for name, value in derivation.registers.rules:
        if isinstance(value, Unpinned):
            yield Finding("register_unpinned", name.upper(), value.reason)


def _secure_boot(derivation: Derivation) -> bool:
    from mrtd.firmware.variables import SecureBoot, secure_boot_state  # noqa: PLC0415

    firmware = derivation.firmware
    state = secure_boot_state(firmware.variables, supported=firmware.secure_boot)
    return state is SecureBoot.ON


def _accepted(
    inputs: tuple[AuditedInput, ...], findings: list[Finding], accepted: Mapping[str, str]
) -> Audit:
    for name in accepted:
        match = _ACCEPTANCE.fullmatch(name)
        if match is None or match[1] not in RULES:
            raise SpecError(
                f"{name!r} is no rule", origin="command line", field="--ignore",
                hint="docs/audit-rules.md lists them; or: mrtd audit --rules",
            )  # fmt: skip
    used: set[str] = set()
    told: list[Finding] = []
    for one in findings:
        names = (f"{one.rule}:{one.input}", one.rule)
        found = next((name for name in names if name in accepted), None)
        used |= {found} if found else set()
        told.append(replace(one, accepted=accepted[found]) if found else one)
    order = list(Level)
    told.sort(key=lambda one: (one.accepted is not None, order.index(one.level)))
    return Audit(inputs, tuple(told), tuple(name for name in accepted if name not in used))
