"""Derive the measurements of a launch from its inputs.

    LaunchSpec + files --derive--> TdBuild + EventLog --fold/replay--> Registers

The same code predicts what a TD extends (target ``cc``) and what the same firmware extends into a
TPM in a VM without TDX (target ``tpm``), so that a boot without TDX hardware checks it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
from msgspec.structs import replace

from mrtd.boot.bzimage import KernelFacts, read_kernel_facts
from mrtd.boot.efi_stub import load_options, stub_events
from mrtd.boot.pe import authenticode
from mrtd.boot.qemu_header import patched_header
from mrtd.coverage import Coverage, boot_coverage
from mrtd.errors import MalformedFirmware, SpecError
from mrtd.eventlog import (
    Event,
    EventLog,
    EventType,
    InputName,
    Origin,
    register_of_pcr,
    replay,
)
from mrtd.firmware.identify import Firmware
from mrtd.firmware.sequence import (
    FirmwareInputs,
    exit_boot_services,
    firmware_events,
)
from mrtd.firmware.td_build import TdBuild, fold, td_build
from mrtd.firmware.tdvf import SectionType
from mrtd.firmware.variables import SecureBoot, secure_boot_state
from mrtd.launch.background import Background
from mrtd.launch.inputs import InputFile, LaunchInputs
from mrtd.launch.once import Once
from mrtd.launch.spec import DirectBoot, DiskBoot, LaunchSpec
from mrtd.notes import Note, notes_of
from mrtd.qemu.blobs import acpi_blobs, fw_cfg_items, smbios_table
from mrtd.qemu.vmm import (
    HeaderRow,
    header_patched,
)
from mrtd.qemu.vmm_profiles import page_order_row, vmm_profile
from mrtd.registers import (
    LAUNCH_REGISTERS,
    ZERO,
    Exact,
    RegisterName,
    Registers,
    Sha384,
    Target,
    Unpinned,
)
from mrtd.start.started import Started

if TYPE_CHECKING:
    from mrtd.qemu.fw_cfg import FwCfg


class Derivation(msgspec.Struct, frozen=True):
    """What a launch measures.

    Attributes:
        spec: the launch.
        target: who takes the measurements.
        firmware: its firmware, identified.
        kernel: what its kernel says of itself.
        header: why the kernel's setup header is measured patched or plain.
        build: the log of the TD build; None for target ``tpm``.
        log: the events, in order.
        registers: what they fold to.
        inputs: the files, with their digests.
        coverage: which input is measured where.
        notes: what a reader has to know.
        cmdline: the kernel's command line; None if it is not known.
    """

    spec: LaunchSpec
    target: Target
    firmware: Firmware
    kernel: KernelFacts
    header: HeaderRow
    build: TdBuild | None
    log: EventLog
    registers: Registers
    inputs: tuple[InputFile, ...]
    coverage: tuple[Coverage, ...]
    notes: tuple[Note, ...]
    cmdline: str | None = None


def derive(
    spec: LaunchSpec,
    inputs: LaunchInputs,
    firmware: Firmware,
    *,
    target: Target,
    fw_cfg: FwCfg | Unpinned,
    once: Once | None = None,
) -> Derivation:
    """Derive the measurements of a launch.

    Args:
        spec: the launch.
        inputs: its files.
        firmware: its firmware, identified (`mrtd.firmware.identify.identify`).
        target: who takes the measurements.
        fw_cfg: what QEMU offers the firmware, or why that is not known; only looked at where
            the spec gives no blob.
        once: what launches share that have the same files, for deriving many of them.

    Raises:
        InputError: an input is malformed, or contradicts the spec.
    """
    once = once or Once()
    check_firmware(spec, firmware, target)
    build = _td_build(spec, firmware) if target is Target.CC else None
    # MRTD and the kernel's digest are most of the work: one core each
    mrtd = None
    if build is not None:
        order = build.page_order
        mrtd = once(("MRTD", order), lambda: Background(lambda: fold(build, firmware.image)))
    started = _started(spec, inputs, firmware, target, fw_cfg, once=once)
    if firmware.variables and isinstance(spec.boot, DirectBoot):
        from mrtd.start.stored_variables import with_stored_variables  # noqa: PLC0415 - few have

        started = with_stored_variables(started, firmware, target)
    cfv = once("CFV", lambda: _cfv_digest(firmware))
    log = _firmware_log(spec, inputs, firmware, target, started=started, cfv=cfv, fw_cfg=fw_cfg)
    if target is Target.TPM or firmware.profile.cc:
        log += started.events
    rules = dict(replay(log))
    if mrtd is not None:
        rules[RegisterName.MRTD] = Exact(mrtd.result())
        for name in LAUNCH_REGISTERS:
            rules.setdefault(name, Exact(ZERO))
    for item in spec.machine.not_modelled if target is Target.CC else ():
        for register in item.registers:
            rules[RegisterName(register)] = Unpinned(f"{item.argument}: {item.reason}")
    registers = Registers(tuple((name, rules[name]) for name in RegisterName if name in rules))
    derivation = Derivation(
        spec=spec,
        target=target,
        firmware=firmware,
        kernel=started.kernel,
        header=started.header,
        build=build,
        log=log,
        registers=registers,
        inputs=inputs.described(),
        coverage=boot_coverage(
            spec, log, rules, target, cmdline=started.cmdline, has_initrd=started.has_initrd
        ),
        notes=(),
        cmdline=started.cmdline,
    )
    return replace(derivation, notes=notes_of(derivation))


def _td_build(spec: LaunchSpec, firmware: Firmware) -> TdBuild:
    order = spec.vmm.page_order or page_order_row(spec.vmm).order
    return td_build(firmware.tdvf, order)


def _cfv_digest(firmware: Firmware) -> Sha384 | None:
    found = firmware.tdvf.of_type(SectionType.CFV)
    return Sha384.of(found[0].content(firmware.image)) if found else None


def check_firmware(spec: LaunchSpec, firmware: Firmware, target: Target) -> None:
    """Refuse an image that this VMM does not launch, or that its profile does not fit.

    Raises:
        SpecError: the VMM refuses a section, or the target does not fit.
        MalformedFirmware: what its profile measures is missing.
    """
    vmm = vmm_profile(spec.vmm)
    for section in firmware.tdvf.sections:
        if section.type not in vmm.sections and target is Target.CC:
            taken = ", ".join(kind.name for kind in sorted(vmm.sections))
            raise SpecError(
                f"{vmm.name} refuses TDVF section {section.index} of type {section.type.name}",
                origin=firmware.tdvf.origin,
                field="firmware.path",
                hint=f"vmm.kind = {vmm.kind!r} launches images with sections {taken}",
            )
        if section.augmented and vmm.adds_augmented and target is Target.CC:
            # qemu hw/i386/tdvf.c ignores the attribute and adds the pages
            raise SpecError(
                f"TDVF section {section.index} is PAGE.AUG, and {vmm.name} adds it at build time "
                "all the same: image and VMM disagree about its MRTD",
                origin=firmware.tdvf.origin,
                field="firmware.path",
            )
    if firmware.profile.cc and not firmware.tdvf.of_type(SectionType.CFV):
        raise MalformedFirmware(
            f"no CFV, which profile {firmware.profile.name} measures",
            origin=firmware.tdvf.origin,
            field="TDVF sections",
        )
    if target is Target.TPM and not firmware.profile.tpm:
        raise SpecError(
            f"profile {firmware.profile.name} has no TPM drivers: it measures nothing into a TPM",
            origin=firmware.tdvf.origin,
            field="firmware.profile",
            hint="use target cc, or an OvmfPkgX64 build",
        )


def _header_row(
    spec: LaunchSpec, firmware: Firmware, target: Target, kernel: KernelFacts
) -> HeaderRow:
    if not vmm_profile(spec.vmm).patches_header:
        vmm = vmm_profile(spec.vmm)
        return HeaderRow((0,), (0,), None, None, False, f"{vmm.name} hands over the file as it is")
    row = header_patched(
        spec.vmm.version,
        confidential=target is Target.CC,
        named_blobs=firmware.profile.named_blobs,
        linux=bool(kernel.protocol),
    )
    if spec.direct.kernel_header is None:
        return row
    patched = spec.direct.kernel_header == "patched"
    return replace(row, patched=patched, source="boot.kernel_header")


def _started(
    spec: LaunchSpec,
    inputs: LaunchInputs,
    firmware: Firmware,
    target: Target,
    fw_cfg: FwCfg | Unpinned,
    *,
    once: Once,
) -> Started:
    """What the launch starts, and what that measures."""
    # what boots from a disk, or is no plain kernel, is imported where there is one
    if isinstance(spec.boot, DiskBoot):
        from mrtd.start.disk_boot import disk_boot  # noqa: PLC0415

        return disk_boot(spec, inputs, firmware, boot=spec.boot, target=target, fw_cfg=fw_cfg)
    data = memoryview(inputs.kernel.data)
    kernel = once("kernel", lambda: read_kernel_facts(data, origin=inputs.kernel.name))
    header = _header_row(spec, firmware, target, kernel)
    image = _kernel_image(spec, inputs, header, target, once)
    authority: EventLog = ()
    secure_boot = secure_boot_state(firmware.variables, supported=firmware.secure_boot)
    if secure_boot is SecureBoot.ON or not kernel.protocol:
        from mrtd.start.direct_boot import direct_boot  # noqa: PLC0415

        authority, other = direct_boot(
            spec, inputs, firmware, target, fw_cfg,
            options=_load_options(spec.direct, firmware), plain=bool(kernel.protocol),
        )  # fmt: skip
        if other is not None:
            return replace(other, image=image, before_image=authority, header=header)
    return Started(
        image=image,
        before_image=authority,
        options=None,
        events=_kernel_events(spec, inputs, firmware, kernel, target),
        kernel=kernel,
        header=header,
        cmdline=spec.direct.cmdline,
        has_initrd=inputs.initrd_size is not None,
    )


def _firmware_log(
    spec: LaunchSpec,
    inputs: LaunchInputs,
    firmware: Firmware,
    target: Target,
    *,
    started: Started,
    cfv: Sha384 | None,
    fw_cfg: FwCfg | Unpinned,
) -> EventLog:
    """What the firmware measures; nothing at all in a TD if it extends nothing."""
    profile = firmware.profile
    return firmware_events(
        profile,
        FirmwareInputs(
            image=firmware.image,
            tdvf=firmware.tdvf,
            memory=spec.memory_bytes,
            hob_unknown=vmm_profile(spec.vmm).hob,
            variables=firmware.variables,
            secure_boot=secure_boot_state(firmware.variables, supported=firmware.secure_boot),
            acpi=acpi_blobs(inputs, fw_cfg, tpm=target is Target.TPM),
            fw_cfg=fw_cfg_items(spec, fw_cfg),
            smbios=smbios_table(spec, inputs, firmware, fw_cfg),
            boot_image=started.image,
            before_image=started.before_image,
            boot_options=started.options,
            version=firmware.signals.version if firmware.signals else "",
            volumes=firmware.volumes,
            cfv=cfv,
        ),
        target,
    )


def _kernel_image(
    spec: LaunchSpec, inputs: LaunchInputs, header: HeaderRow, target: Target, once: Once
) -> Event:
    """The kernel as a PE image, with the setup header that the firmware sees."""
    kernel = inputs.kernel
    image = memoryview(kernel.data)
    head = b""
    if header.patched:
        head = patched_header(
            image,
            memory=spec.memory_bytes,
            initrd_size=inputs.initrd_size,
            cmdline=spec.direct.cmdline,
            origin=kernel.name,
        )
    state = "setup header patched by QEMU" if header.patched else "file as it is"
    return Event(
        register_of_pcr(4, target),
        EventType.EV_EFI_BOOT_SERVICES_APPLICATION,
        once(
            ("Authenticode", head),
            lambda: authenticode(image, origin=kernel.name, header=head),
        ),
        f"kernel PE image: {state}",
        Origin(InputName.KERNEL, kernel.name),
    )


def _kernel_events(
    spec: LaunchSpec,
    inputs: LaunchInputs,
    firmware: Firmware,
    kernel: KernelFacts,
    target: Target,
) -> EventLog:
    """What the kernel's EFI stub measures, and the firmware when the stub leaves it."""
    initrd = inputs.initrd
    stub: EventLog = ()
    if kernel.cc_measurement or target is Target.TPM:
        stub = stub_events(
            _load_options(spec.direct, firmware),
            None if initrd is None else initrd.digest,
            target=target,
            initrd_where="" if initrd is None else initrd.name,
        )
    flushed = False
    if spec.disks:
        from mrtd.start.exit_flush import exit_flushed  # noqa: PLC0415 - reads disks

        flushed = exit_flushed(spec, inputs, firmware.profile)
    return (*stub, *exit_boot_services(target, firmware.profile, flushed=flushed))


def _load_options(boot: DirectBoot, firmware: Firmware) -> bytes:
    return load_options(
        boot.cmdline, initrd=boot.initrd is not None, argument=firmware.profile.initrd_argument
    )
