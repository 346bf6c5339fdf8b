"""The whole way from a spec to a derivation: reads its files, asks QEMU, derives."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from mrtd.errors import SpecError
from mrtd.firmware.identify import Firmware, examine, identify, needs_examination
from mrtd.launch.background import Background
from mrtd.launch.inputs import LaunchInputs, load_inputs
from mrtd.launch.once import Once
from mrtd.launch.spec import DiskBoot, LaunchSpec, PayloadBoot
from mrtd.qemu.vmm_profiles import vmm_profile
from mrtd.registers import Target, Unpinned

if TYPE_CHECKING:
    from mrtd.derive import Derivation
    from mrtd.qemu.fw_cfg import FwCfg

Progress = Callable[[str], None]
_QEMU_SECONDS: Final = 120.0


class MeasureOptions(msgspec.Struct, frozen=True):
    """How to measure.

    Attributes:
        target: who takes the measurements.
        qemu: the QEMU to ask for blobs; None for the installed one.
        ask_qemu: whether QEMU may be asked at all.
        vars: a variable store to put in front of the firmware, as ``firmware.vars``.
        timeout: seconds for QEMU.
    """

    target: Target = Target.CC
    qemu: Path | None = None
    ask_qemu: bool = True
    vars: Path | None = None
    timeout: float = _QEMU_SECONDS


DEFAULT_OPTIONS: Final = MeasureOptions()


def measure(
    spec: LaunchSpec,
    folder: Path,
    options: MeasureOptions = DEFAULT_OPTIONS,
    *,
    progress: Progress = lambda _: None,
) -> Derivation:
    """Derive the measurements of a launch.

    Args:
        spec: the launch.
        folder: what its paths are relative to.
        options: how to measure.
        progress: told what is being done, in a few words.

    Raises:
        MrtdError: an input is wrong, or QEMU is missing, refuses the machine or fails.
    """
    if isinstance(spec.boot, PayloadBoot):
        return _measure_payload(with_options(spec, options), spec.boot, folder, options, progress)
    spec, inputs, firmware = read_launch(spec, folder, options, progress=progress)
    from mrtd.derive import derive  # noqa: PLC0415 - has been imported

    fw_cfg = ask_qemu(spec, firmware, options, progress=progress)
    progress("deriving")
    return derive(spec, inputs, firmware, target=options.target, fw_cfg=fw_cfg)


def read_launch(
    spec: LaunchSpec, folder: Path, options: MeasureOptions, *, progress: Progress
) -> tuple[LaunchSpec, LaunchInputs, Firmware]:
    """The spec as the options have it, its files, and its firmware, identified.

    Raises:
        InputError: a file cannot be read, or the firmware is not known.
    """
    spec = with_options(spec, options)
    progress("reading firmware, kernel and initrd")
    inputs = load_inputs(spec, folder)
    image = memoryview(inputs.firmware)
    name = inputs.firmware_name
    # a boot from disk depends on which applications the firmware has
    must_unpack = (
        options.target is Target.TPM
        or isinstance(spec.boot, DiskBoot)
        or needs_examination(spec.firmware.profile, spec.firmware.secure_boot, origin=name)
    )
    examined = Background(lambda: examine(image, origin=name)) if must_unpack else None
    # Importing the rules takes as long as hashing a kernel: it runs while the threads work.
    import mrtd.derive  # noqa: F401, PLC0415

    firmware = identify(
        image,
        origin=name,
        profile=spec.firmware.profile,
        secure_boot=spec.firmware.secure_boot,
        examined=examined.result if examined else None,
    )
    if inputs.variables is not None:
        from mrtd.firmware.variable_stores import read_variable_store  # noqa: PLC0415 - few have one

        store = inputs.variables
        found = read_variable_store(store.data, origin=store.name)
        firmware = msgspec.structs.replace(firmware, variables=found)
    return spec, inputs, firmware


def _measure_payload(
    spec: LaunchSpec, boot: PayloadBoot, folder: Path, options: MeasureOptions, progress: Progress
) -> Derivation:
    from mrtd.derive_payload import derive_payload  # noqa: PLC0415 - as above

    if options.target is not Target.CC:
        raise SpecError("td-shim measures nothing into a TPM", origin="launch spec",
                        field="boot.kind", hint="use target cc")  # fmt: skip
    progress("reading firmware and kernel, deriving")
    return derive_payload(spec, boot, folder)


def _not_to_be_asked(spec: LaunchSpec, firmware: Firmware, options: MeasureOptions) -> str:
    """Why no QEMU has to be asked, or can be; empty where one is."""
    codes = ", ".join(dict.fromkeys(item.code for item in spec.machine.not_modelled))
    reasons = {
        "the ACPI tables are given, so QEMU was not asked": spec.acpi.tables is not None,
        "the firmware extends no RTMR": options.target is Target.CC and not firmware.profile.cc,
        vmm_profile(spec.vmm).tables: True,
        f"the machine has what its spec cannot say: {codes}": bool(codes),
        "no acpi.tables are given, and QEMU was not to be asked (--qemu none)":
            not options.ask_qemu,
    }  # fmt: skip
    return next((reason for reason, holds in reasons.items() if holds and reason), "")


def with_options(spec: LaunchSpec, options: MeasureOptions) -> LaunchSpec:
    """The spec with what the options say in its place."""
    if options.vars is None:
        return spec
    firmware = msgspec.structs.replace(spec.firmware, vars=str(options.vars.absolute()))
    return msgspec.structs.replace(spec, firmware=firmware)


def ask_qemu(
    spec: LaunchSpec,
    firmware: Firmware,
    options: MeasureOptions,
    *,
    progress: Progress = lambda _: None,
    once: Once | None = None,
) -> FwCfg | Unpinned:
    """The blobs that the spec does not give; or why they are not known.

    Args:
        spec: the launch.
        firmware: its firmware.
        options: which QEMU is asked, and whether.
        progress: told what is being done, in a few words.
        once: what is not to be asked again for the next launch.

    Raises:
        MrtdError: QEMU is missing, refuses the machine or fails.
    """
    if reason := _not_to_be_asked(spec, firmware, options):
        return Unpinned(reason)
    # only a launch that asks QEMU pays for importing what starts it
    from mrtd.qemu.argv import phys_bits_known  # noqa: PLC0415
    from mrtd.qemu.fw_cfg import dump  # noqa: PLC0415
    from mrtd.qemu.pci import Mmio64Rule  # noqa: PLC0415
    from mrtd.qemu.process import find_qemu, qemu_version  # noqa: PLC0415
    from mrtd.qemu.vmm import OTHER_VERSION, same_version  # noqa: PLC0415

    if not phys_bits_known(spec):
        return Unpinned(
            f"cpu = {spec.machine.cpu!r} without machine.phys_bits: the ACPI tables depend on the "
            "host's physical address width"
        )
    binary = find_qemu(options.qemu)
    progress(f"asking {binary.name} for its version")
    version = (once or Once())(("QEMU", binary), lambda: qemu_version(binary))
    if not same_version(spec.vmm.version, version):
        return Unpinned(
            f"{OTHER_VERSION} {version}, the spec says {spec.vmm.version}: ACPI tables "
            "differ between versions"
        )
    progress(f"asking QEMU {version} for its ACPI tables")
    return dump(
        spec,
        binary=binary,
        target=options.target,
        ecam_base=firmware.profile.ecam_base,
        mmio64=Mmio64Rule(
            max_phys_bits=firmware.profile.window_max_phys_bits,
            avoids_reserved=firmware.profile.window_avoids_reserved,
        ),
        timeout=options.timeout,
    )
