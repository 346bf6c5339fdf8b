"""Boot options that the firmware creates for the machine's devices.

Sources: edk2 MdeModulePkg/Library/UefiBootManagerLib/BmBoot.c (which devices get an option, in
which order) and BmBootDescription.c (their names); OvmfPkg/Library/QemuBootOrderLib (what
``bootindex`` makes of BootOrder); UEFI 2.10, 3.1.3 (EFI_LOAD_OPTION) and 10.3 (device paths).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import msgspec

from mrtd.firmware.boot_options import (
    BootOption,
    BootVariable,
    FirmwareApp,
    load_option,
    variables_of,
)
from mrtd.firmware.guids import guid

_ACTIVE: Final = 1
_ACPI_PCI_ROOT: Final = bytes.fromhex("02010c00d041030a00000000")
_END: Final = bytes([0x7F, 0xFF, 4, 0])
# edk2 BmBoot.c: mBmAutoCreateBootOptionGuid
AUTO_CREATED: Final = guid("8108ac4e-9f11-4d59-850e-e21a522c59b2")


class BootDevice(msgspec.Struct, frozen=True):
    """A device that the firmware can boot from.

    Attributes:
        name: what the boot menu calls it, such as ``UEFI Misc Device``.
        path: its PCI devices and functions from the root on, such as ``((2, 0),)``.
        bootindex: its place in the boot order; None without one.
        drive: the disk behind it, as the spec calls it.
    """

    name: str
    path: tuple[tuple[int, int], ...]
    bootindex: int | None = None
    drive: str = ""


def device_path(path: Iterable[tuple[int, int]]) -> bytes:
    """The device path of a PCI device: PciRoot(0), Pci(device, function)..., end."""
    nodes = (bytes([1, 1, 6, 0, function, device]) for device, function in path)
    return _ACPI_PCI_ROOT + b"".join(nodes) + _END


def device_option(device: BootDevice) -> bytes:
    """The EFI_LOAD_OPTION for a device."""
    path = device_path(device.path)
    return (
        _ACTIVE.to_bytes(4, "little")
        + len(path).to_bytes(2, "little")
        + (device.name + "\0").encode("utf-16-le")
        + path
        + AUTO_CREATED
    )


def disk_boot_variables(
    before: tuple[FirmwareApp, ...],
    devices: tuple[BootDevice, ...],
    after: tuple[FirmwareApp, ...],
) -> tuple[BootVariable, ...]:
    """BootOrder, then the options in its order, as they are measured.

    Args:
        before: applications of the firmware that get their option before the devices do.
        devices: the devices, in the order in which the firmware finds them.
        after: applications whose option comes after theirs.
    """
    first = len(before)
    options = (
        *(BootOption(app.description, load_option(app)) for app in before),
        *(BootOption(device.name, device_option(device)) for device in devices),
        *(BootOption(app.description, load_option(app)) for app in after),
    )
    indexed = {first + n: d.bootindex for n, d in enumerate(devices) if d.bootindex is not None}
    order = list(range(len(options)))
    if indexed:
        # listed devices come first; other options on PCI are dropped, applications are kept
        listed = sorted(indexed, key=lambda number: indexed[number])
        apps = [n for n in order if not first <= n < first + len(devices)]
        order = [*listed, *apps]
    return variables_of(options, tuple(order))
