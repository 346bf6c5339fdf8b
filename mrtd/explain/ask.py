"""Ask the QEMU at hand for the ACPI blobs of other machines."""

from __future__ import annotations

from mrtd.errors import MrtdError
from mrtd.explain.acpi import Asked, AskQemu
from mrtd.firmware.profiles import FirmwareProfile
from mrtd.launch.spec import LaunchSpec
from mrtd.measure import MeasureOptions


def qemu_asker(profile: FirmwareProfile, options: MeasureOptions) -> AskQemu | None:
    """What asks a QEMU for a machine's fw_cfg files; None if none may be asked, or is there.

    Unlike a measurement, a hypothesis may be about another version than the spec's: what comes
    out is labelled with the version of the QEMU that answered.
    """
    if not options.ask_qemu:
        return None
    from mrtd.qemu.fw_cfg import dump  # noqa: PLC0415 - only where QEMU may be asked
    from mrtd.qemu.pci import Mmio64Rule  # noqa: PLC0415 - only where QEMU may be asked
    from mrtd.qemu.process import find_qemu, qemu_version  # noqa: PLC0415 - ditto

    try:
        binary = find_qemu(options.qemu)
        version = qemu_version(binary)
    except MrtdError:
        if options.qemu is not None:
            raise  # it was asked for by name
        return None

    def ask(spec: LaunchSpec) -> Asked:
        found = dump(
            spec,
            binary=binary,
            target=options.target,
            ecam_base=profile.ecam_base,
            mmio64=Mmio64Rule(
                max_phys_bits=profile.window_max_phys_bits,
                avoids_reserved=profile.window_avoids_reserved,
            ),
            timeout=options.timeout,
        )
        return Asked(version, dict(found.files))

    return ask
