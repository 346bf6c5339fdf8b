"""Whether a machine's ExitBootServices fails once, where the firmware flushes FAT volumes in it.

edk2 since 202608 flushes every FAT volume that it can write to, also one that it never wrote to,
before it compares memory maps (FatPkg/EnhancedFatDxe, an event of the group
EFI_EVENT_GROUP_BEFORE_EXIT_BOOT_SERVICES; pull request 12704). OVMF's driver for virtio-blk
allocates and frees memory for a flush (OvmfPkg/VirtioBlkDxe, SynchronousRequest), so the memory map
is another one than the caller has read, and the first call fails. The drivers for AHCI, NVMe and
virtio-scsi allocate nothing. Each of these was booted (tests/ci/test_exit_boot_services.py).

QEMU offers a flush unless both ``write-cache`` and ``config-wce`` are off (hw/block/virtio-blk.c,
virtio_blk_get_features).
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from mrtd.launch.spec import LaunchSpec
from mrtd.qemu.devices import parse_device

_DRIVERS: Final = frozenset(
    {
        "virtio-blk",
        "virtio-blk-pci",
        "virtio-blk-pci-transitional",
        "virtio-blk-pci-non-transitional",
    }
)
_OFF: Final = frozenset({"off", "no", "false", "n"})
_CACHE: Final = ("write-cache", "config-wce")


def flushed_disks(spec: LaunchSpec, fat: Collection[str]) -> tuple[str, ...]:
    """The disks whose flush changes the memory map; with one, ExitBootServices fails once.

    Args:
        spec: the launch.
        fat: names of its disks that have a FAT volume.

    Raises:
        SpecError: a device cannot be read.
    """
    writable = {disk.name for disk in spec.disks if not disk.readonly and disk.name in fat}
    found = []
    for text in spec.machine.devices:
        device = parse_device(text)
        properties = dict(device.properties)
        cached = not all(properties.get(name, "on").lower() in _OFF for name in _CACHE)
        if device.driver in _DRIVERS and properties.get("drive") in writable and cached:
            found.append(properties["drive"])
    return tuple(found)
