"""Boot options that the firmware creates for the machine's devices.

Sources: edk2 MdeModulePkg/Library/UefiBootManagerLib/BmBoot.c (which devices get an option, in
which order) and BmBootDescription.c (their names); OvmfPkg/Library/QemuBootOrderLib (what
``bootindex`` makes of BootOrder); UEFI 2.10, 3.1.3 (EFI_LOAD_OPTION) and 10.3 (device paths).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
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
_DROPPED: Final = -1
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
    stored: tuple[tuple[int, ...], Mapping[int, BootOption]] = ((), {}),
) -> tuple[BootVariable, ...]:
    """BootOrder, then the options in its order, as they are measured.

    Args:
        before: applications of the firmware that get their option before the devices do.
        devices: the devices, in the order in which the firmware finds them.
        after: applications whose option comes after theirs.
        stored: BootOrder and options of the variable store, which others are added to.
    """
    options = dict(stored[1])
    order = [number for number in stored[0] if number in options]
    listed: dict[int, int] = {}

    def add(option: BootOption) -> int:
        number = next(n for n in range(len(options) + 1) if n not in options)
        options[number] = option
        order.append(number)
        return number

    for app in before:
        add(BootOption(app.description, load_option(app)))
    for device in devices:
        number = add(BootOption(device.name, device_option(device)))
        if device.bootindex is not None:
            listed[number] = device.bootindex
        elif any(other.bootindex is not None for other in devices):
            listed[number] = _DROPPED
    # edk2 OvmfPkg PlatformBootManagerAfterConsole: these are added before fw_cfg's boot order
    # takes options away, whose numbers therefore stay unused
    for app in after:
        add(BootOption(app.description, load_option(app)))
    kept = sorted((n for n in listed if listed[n] != _DROPPED), key=lambda n: listed[n])
    # indexed devices come first, in their order; other devices' options are taken away
    order = [*kept, *(n for n in order if n not in listed)]
    options = {n: option for n, option in options.items() if listed.get(n) != _DROPPED}
    return variables_of(options, tuple(order))
