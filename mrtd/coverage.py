"""Coverage: which input of a launch is measured where, and which is measured nowhere."""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import StrEnum
from typing import Final

import msgspec

from mrtd.disk.verity_cmdline import VerityArguments, protecting, verity_arguments
from mrtd.eventlog import EventLog, InputName
from mrtd.launch.spec import LaunchSpec
from mrtd.registers import RegisterName, Rule, Target, Unpinned

NOT_COMPARED: Final = "not compared with a disk"
"""What is said of a root hash as long as nobody has looked at the disk."""


class CoverageStatus(StrEnum):
    """Whether an input is measured."""

    MEASURED = "measured"
    UNPINNED = "unpinned"
    """It is measured, into a register whose value could not be derived."""
    NOT_MEASURED = "not measured"
    ABSENT = "absent"
    """The launch has no such input."""


class Coverage(msgspec.Struct, frozen=True):
    """What covers one input.

    Attributes:
        input: such as ``kernel`` or ``rootfs``.
        status: whether it is measured.
        registers: those that depend on it.
        note: what measures it, or what follows from its not being measured.
    """

    input: str
    status: CoverageStatus
    registers: tuple[RegisterName, ...]
    note: str


_ROOT: Final = re.compile(r"(?:^|\s)root=(\S*)")
_OWN_INITRD: Final = re.compile(r"(?:^|\s)initrd=\S")
_ROOT_IN_MEMORY: Final = ("/dev/ram", "ramfs", "rootfs", "tmpfs")


def boot_coverage(
    spec: LaunchSpec,
    log: EventLog,
    registers: Mapping[RegisterName, Rule],
    target: Target,
    *,
    cmdline: str | None,
    has_initrd: bool,
) -> tuple[Coverage, ...]:
    """What covers each input of a launch.

    Args:
        spec: the launch.
        log: its events.
        registers: what they fold to.
        target: who takes the measurements.
        cmdline: the kernel's command line; None if it is not known.
        has_initrd: whether the kernel has an initrd.
    """
    found: dict[InputName, list[RegisterName]] = {}
    for event in log:
        seen = found.setdefault(event.origin.input, [])
        if event.register not in seen:
            seen.append(event.register)
    if target is Target.CC:
        found.setdefault(InputName.FIRMWARE, []).insert(0, RegisterName.MRTD)

    def covered(name: InputName, note: str) -> Coverage:
        places = tuple(found.get(name, ()))
        if not places:
            return Coverage(name, CoverageStatus.NOT_MEASURED, (), "in no register")
        unpinned = [p for p in places if isinstance(registers.get(p), Unpinned)]
        status = CoverageStatus.UNPINNED if unpinned else CoverageStatus.MEASURED
        return Coverage(name, status, places, note)

    lines = [
        covered(InputName.FIRMWARE, "boot firmware volume and addresses of all initial pages"),
        covered(InputName.VARIABLES, "variable store as built, and the Secure Boot policy in it"),
        covered(InputName.ACPI, "tables, RSDP and loader script as QEMU offers them"),
        covered(InputName.KERNEL, "Authenticode digest"),
        covered(InputName.CMDLINE, "load options of the kernel"),
    ]
    if not has_initrd and _OWN_INITRD.search(cmdline or ""):
        # Linux drivers/firmware/efi/libstub/efi-stub-helper.c, efi_load_initrd: it measures what
        # LoadFile2 gives it, and not what it reads itself
        lines.append(
            Coverage(
                "initrd", CoverageStatus.NOT_MEASURED, (),
                "the kernel itself reads the file that initrd= names, and measures it nowhere",
            )
        )  # fmt: skip
    elif not has_initrd:
        lines.append(Coverage("initrd", CoverageStatus.ABSENT, (), "the launch has none"))
    else:
        lines.append(covered(InputName.INITRD, "the file, as the kernel loads it"))
    by_name = {line.input: line for line in lines}
    return (*lines, _rootfs(spec, by_name["cmdline"], by_name["initrd"], cmdline or ""))


def root_hash(cmdline: str) -> str | None:
    """The dm-verity root hash on a command line, lower-case hex; None without one."""
    found = verity_arguments(cmdline)
    return found[0].root_hash if found and found[0].problem is None else None


def _rootfs(spec: LaunchSpec, cmdline: Coverage, initrd: Coverage, text: str) -> Coverage:
    """A rootfs is covered by a verity root hash on the measured command line, or is the initrd."""
    verity = protecting(text)
    if isinstance(verity, VerityArguments) and cmdline.registers:
        return Coverage(
            "rootfs", cmdline.status, cmdline.registers,
            f"{verity.key}= on the measured command line; {NOT_COMPARED}",
        )  # fmt: skip
    root = _ROOT.search(text)
    in_memory = root is None or root[1].startswith(_ROOT_IN_MEMORY)
    if initrd.registers and in_memory:
        return Coverage(
            "rootfs", initrd.status, initrd.registers,
            "no root= on the command line: the initrd is the root, unless it mounts another",
        )  # fmt: skip
    has_disk = any("drive=" in device for device in spec.machine.devices)
    if initrd.status is CoverageStatus.ABSENT and not has_disk:
        return Coverage("rootfs", CoverageStatus.ABSENT, (), "no initrd and no disk")
    return Coverage(
        "rootfs", CoverageStatus.NOT_MEASURED, (),
        "no register depends on its content: put a dm-verity root hash on the command line",
    )  # fmt: skip
