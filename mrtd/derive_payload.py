"""Derive the measurements of a td-shim launch: firmware, kernel and command line, without UEFI."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from msgspec.structs import replace

from mrtd.boot.bzimage import KernelFacts, read_kernel_facts
from mrtd.boot.elf import read_elf
from mrtd.boot.td_shim import Region, filled, td_shim_events
from mrtd.coverage import Coverage, CoverageStatus
from mrtd.derive import Derivation, check_firmware
from mrtd.errors import SpecError
from mrtd.eventlog import EventLog, InputName, replay
from mrtd.firmware.identify import Firmware
from mrtd.firmware.profiles import PROFILES, Row, Step
from mrtd.firmware.td_build import TdBuild, fold, td_build
from mrtd.firmware.tdvf import Section, SectionType, Tdvf, read_tdvf
from mrtd.launch.inputs import LoadedFile, read_file
from mrtd.launch.spec import LaunchSpec, PayloadBoot
from mrtd.notes import notes_of
from mrtd.qemu.vmm import HeaderRow
from mrtd.qemu.vmm_profiles import page_order_row, vmm_profile
from mrtd.registers import (
    LAUNCH_REGISTERS,
    ZERO,
    Exact,
    RegisterName,
    Registers,
    Rule,
    Target,
    Unpinned,
)

_HINT: Final = "paths are relative to the spec's folder"
_ELF: Final = b"\x7fELF"
# What a row says of UEFI (variables, boot options, load options) does not apply to it.
TD_SHIM: Final = replace(
    PROFILES[0],
    name="td-shim",
    cc=(Row(Step.TD_HOB), Row(Step.SEPARATOR_RTMR0), Row(Step.SEPARATOR_RTMR1)),
    tpm=(),
    boot_apps=(),
    source="td-shim doc/tdshim_spec.md",
)
"""What td-shim measures besides the payload; it has neither variables nor boot options."""
_PLAIN: Final = HeaderRow((0,), (0,), True, None, False, "td-shim gets the file as it is")
_OTHER_HOB: Final = "td-shim hashes the whole TD HOB list of its VMM, which is not modelled"


def derive_payload(spec: LaunchSpec, boot: PayloadBoot, folder: Path) -> Derivation:
    """Derive the measurements of a TD that td-shim starts.

    Args:
        spec: the launch.
        boot: its ``boot``.
        folder: what its paths are relative to.

    Raises:
        InputError: an input is malformed, or does not fit the others.
    """
    firmware = _load(folder, "firmware.path", spec.firmware.path)
    payload = _load(folder, "boot.payload", boot.payload)
    image = memoryview(firmware.data)
    tdvf = read_tdvf(image, origin=firmware.name)
    shim = Firmware(
        image, tdvf, (), TD_SHIM, guessed=False, secure_boot=False, signals=None,
        contradictions=(), volumes=None,
    )  # fmt: skip
    check_firmware(spec, shim, Target.CC)
    memory = _memory(spec, boot, tdvf, payload)
    order = spec.vmm.page_order or page_order_row(spec.vmm).order
    build = td_build(tdvf, order)
    log = _log(spec, tdvf, memory, payload)
    rules: dict[RegisterName, Rule] = dict(replay(log))
    supplied = {s.index: data for s, data in memory.items() if not s.raw_size}
    rules[RegisterName.MRTD] = Exact(fold(build, image, supplied=supplied))
    for name in LAUNCH_REGISTERS:
        rules.setdefault(name, Exact(ZERO))
    derivation = Derivation(
        spec=spec,
        target=Target.CC,
        firmware=shim,
        kernel=_facts(payload),
        header=_PLAIN,
        build=build,
        log=log,
        registers=Registers(tuple((name, rules[name]) for name in RegisterName if name in rules)),
        inputs=(firmware.described(), payload.described()),
        coverage=_coverage(boot, build, log),
        notes=(),
    )
    return replace(derivation, notes=notes_of(derivation))


def _load(folder: Path, key: str, name: str) -> LoadedFile:
    return LoadedFile(key, name, read_file(folder / name, key=key, hint=_HINT))


def _memory(
    spec: LaunchSpec, boot: PayloadBoot, tdvf: Tdvf, payload: LoadedFile
) -> Mapping[Section, bytes]:
    """What the VMM puts into the payload sections."""
    if not tdvf.of_type(SectionType.PAYLOAD):
        raise SpecError(
            "has no PAYLOAD section: what it starts is part of its BFV, and so of MRTD",
            origin=tdvf.origin,
            field="boot.kind",
            hint="boot.kind = 'payload' is for an image that starts a kernel of the VMM's",
        )
    if spec.firmware.vars is not None:
        raise SpecError("td-shim has no variable store", origin="launch spec",
                        field="firmware.vars")  # fmt: skip
    contents = {
        SectionType.PAYLOAD: (payload.data, payload.name, "boot.payload"),
        SectionType.PAYLOAD_PARAM: (boot.cmdline.encode(), "launch spec", "boot.cmdline"),
    }
    memory: dict[Section, bytes] = {}
    for kind, (content, origin, field) in contents.items():
        for section in tdvf.of_type(kind)[:1]:
            if section.raw_size:
                raise SpecError(
                    f"TDVF section {section.index} ({kind.name}) has content of its own",
                    origin=tdvf.origin,
                    field=field,
                    hint="an image with its kernel inside is measured by MRTD as it is",
                )
            memory[section] = filled(content, _region(section), origin=origin, field=field)
    if boot.cmdline and not tdvf.of_type(SectionType.PAYLOAD_PARAM):
        raise SpecError("the image has no PAYLOAD_PARAM section for a command line",
                        origin=tdvf.origin, field="boot.cmdline")  # fmt: skip
    return memory


def _region(section: Section) -> Region:
    return Region(section.gpa, section.memory_size, section.extended)


def _log(
    spec: LaunchSpec, tdvf: Tdvf, memory: Mapping[Section, bytes], payload: LoadedFile
) -> EventLog:
    by_type = {section.type: (_region(section), data) for section, data in memory.items()}
    hob = Unpinned(vmm_profile(spec.vmm).hob or _OTHER_HOB)
    return td_shim_events(
        hob if tdvf.of_type(SectionType.TD_HOB) else None,
        by_type[SectionType.PAYLOAD],
        by_type.get(SectionType.PAYLOAD_PARAM),
        names={InputName.KERNEL: payload.name, InputName.CMDLINE: "boot.cmdline"},
    )


def _facts(payload: LoadedFile) -> KernelFacts:
    """What the kernel says of itself; an ELF kernel is no PE image and has no EFI stub."""
    image = memoryview(payload.data)
    if payload.data[:4] == _ELF:
        found = read_elf(image, origin=payload.name)
        return KernelFacts(0, found.version, None, efi_stub=False, cc_measurement=False)
    facts = read_kernel_facts(image, origin=payload.name)
    if not facts.protocol:
        raise SpecError("is neither a bzImage nor an ELF kernel", origin=payload.name,
                        field="boot.payload")  # fmt: skip
    return facts


def _coverage(boot: PayloadBoot, build: TdBuild, log: EventLog) -> tuple[Coverage, ...]:
    in_mrtd = {step.section.type for step in build.steps if step.section.extended}

    def covered(name: InputName, kind: SectionType, note: str) -> Coverage:
        places = [RegisterName.MRTD] if kind in in_mrtd else []
        places += [event.register for event in log if event.origin.input is name]
        status = CoverageStatus.MEASURED if places else CoverageStatus.NOT_MEASURED
        return Coverage(name, status, tuple(places), note)

    nothing = "the launch has none"
    return (
        covered(InputName.FIRMWARE, SectionType.BFV, "the shim, and addresses of initial pages"),
        covered(InputName.KERNEL, SectionType.PAYLOAD, "its bytes, and zeros behind them"),
        covered(InputName.CMDLINE, SectionType.PAYLOAD_PARAM, "its bytes, and zeros behind them")
        if boot.cmdline
        else Coverage(InputName.CMDLINE, CoverageStatus.ABSENT, (), nothing),
        Coverage("initrd", CoverageStatus.ABSENT, (), nothing),
        Coverage("rootfs", CoverageStatus.NOT_MEASURED, (),
                 "in no register: td-shim measures the kernel and its command line only"),
    )  # fmt: skip
