"""What the firmware calls the disks in its boot options, which are measured with their names.

Sources: edk2 MdeModulePkg UefiBootManagerLib BmBootDescription.c: BmGetMiscDescription (a device
that itself has a file system has another name), BmMakeBootOptionDescriptionUnique (the second of a
name is numbered); FatPkg FatDxe (the one file system that OvmfPkg finds on a whole disk).
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final

from msgspec.structs import replace

from mrtd.disk import open_fat
from mrtd.disk.gpt import has_gpt
from mrtd.errors import InputError, MalformedDisk

if TYPE_CHECKING:
    from mrtd.disk import Disk
    from mrtd.launch.inputs import LaunchInputs
    from mrtd.launch.spec import LaunchSpec
    from mrtd.start.machine_devices import BootDevices

_FILE_SYSTEM: Final = "UEFI Non-Block Boot Device"


def with_names(found: BootDevices, spec: LaunchSpec, inputs: LaunchInputs) -> BootDevices:
    """The devices as the firmware names them, which depends on what is on the disks."""
    listed = {disk.name for disk in spec.disks}
    seen: Counter[str] = Counter()
    named, reason = [], found.reason
    for device in found.known:
        name = device.name
        try:
            if device.drive not in listed:
                raise MalformedDisk("is not in [[disks]]", origin=f"disk {device.drive}")
            with inputs.open_disk(device.drive) as disk:
                name = _FILE_SYSTEM if _is_fat(disk) else name
        except InputError as error:
            reason = reason or f"the name of a disk's boot option depends on what is on it: {error}"
        seen[name] += 1
        unique = name if seen[name] == 1 else f"{name} {seen[name]}"
        named.append(replace(device, name=unique))
    return replace(found, known=tuple(named), reason=reason)


def _is_fat(disk: Disk) -> bool:
    """Whether the whole disk is a FAT file system."""
    if has_gpt(disk):
        return False
    try:
        open_fat(disk)
    except MalformedDisk:
        return False
    return True
