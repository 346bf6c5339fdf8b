"""Whether ExitBootServices fails once: what the firmware flushes, and what is on the disks."""

from __future__ import annotations

from mrtd.disk.volumes import list_volumes
from mrtd.firmware.profiles import FirmwareProfile
from mrtd.launch.inputs import LaunchInputs
from mrtd.launch.spec import LaunchSpec
from mrtd.qemu.exit_flush import flushed_disks


def exit_flushed(spec: LaunchSpec, inputs: LaunchInputs, profile: FirmwareProfile) -> bool:
    """Whether the machine has a disk whose flush changes the memory map.

    A disk that a device names and that is not in ``[[disks]]`` counts as empty.

    Raises:
        InputError: a disk that may be such a one cannot be read.
    """
    if not profile.exit_flushes:
        return False
    perhaps = flushed_disks(spec, {disk.name for disk in spec.disks})
    return any(_has_fat(inputs, name) for name in perhaps)


def _has_fat(inputs: LaunchInputs, name: str) -> bool:
    with inputs.open_disk(name) as disk:
        kinds = [volume.content.kind for volume in list_volumes(disk) if volume.content]
    return "vfat" in kinds
