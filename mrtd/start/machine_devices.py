"""The machine's devices that the firmware can boot from, and where on PCI they are.

Sources: QEMU hw/pci/pci.c (a device without ``addr`` gets the first free slot of its bus, in the
order of the command line) and hw/i386/pc_q35.c (slots 0 and 31 of the root bus are the chipset's).
"""

from __future__ import annotations

import re
from typing import Final

import msgspec

from mrtd.boot.device_options import BootDevice
from mrtd.errors import SpecError
from mrtd.launch.spec import LaunchSpec
from mrtd.qemu.devices import DeviceOption, parse_device
from mrtd.registers import Unpinned

_ROOT: Final = "pcie.0"
_CHIPSET: Final = frozenset({0, 31})
_SLOTS: Final = 32
_PCI: Final = re.compile(
    r"-pci(?:-|\Z)|\A(?:pcie-root-port|ioh3420|nvme|e1000e?|rtl8139|igb|vmxnet3|bochs-display|"
    r"qemu-xhci|nec-usb-xhci|usb-ehci|ich9-usb-[eu]hci\d|piix[34]-usb-uhci|edu|intel-hda|ich9-ahci|VGA|x3130-upstream|xio3130-downstream)\Z"
)
_BRIDGES: Final = frozenset(
    {"pcie-root-port", "ioh3420", "pcie-pci-bridge", "pci-bridge", "x3130-upstream",
     "xio3130-downstream"}
)  # fmt: skip
_NO_PCI: Final = re.compile(
    r"\A(?:virtserialport|virtconsole|isa-.*|tpm-.*|scsi-.*|ide-.*|usb-(?!ehci|uhci).*|sga|"
    r"vmgenid|pvpanic|vmcoreinfo|intel-iommu|pc-dimm|.*-iommu)\Z"
)
# edk2 BmBootDescription.c: what is neither USB, nor ATA, nor SCSI, nor NVMe is a "Misc Device"
_BLOCK: Final = "virtio-blk-pci"
_MISC: Final = "UEFI Misc Device"
# Devices that get a boot option whose description or number is not derived: disks of other kinds,
# which are found among the ones that are, and networks, which are found after them
_OTHER_DISK: Final = re.compile(
    r"\A(?:nvme|scsi-(?:hd|cd|block|disk)|ide-(?:hd|cd)|usb-storage|usb-mtp|sd-card|vhost-user-blk.*)"
)
_NETWORK: Final = re.compile(
    r"\A(?:virtio-net-.*|e1000.*|rtl8139|igb|vmxnet3|usb-net|vhost-user-net.*)\Z"
)


class BootDevices(msgspec.Struct, frozen=True):
    """Devices that can be booted from.

    Attributes:
        known: disks whose option is derived, in the order in which the firmware finds them.
        reason: why there may be options that are not derived; empty if there are none.
        drivers: devices whose ROM has a driver, which the firmware measures and starts.
    """

    known: tuple[BootDevice, ...]
    reason: str
    drivers: tuple[str, ...]


class _Place(msgspec.Struct, frozen=True):
    device: DeviceOption
    path: tuple[tuple[int, int], ...]


def boot_devices(spec: LaunchSpec) -> BootDevices | Unpinned:
    """The devices of a machine that the firmware gives a boot option.

    Raises:
        SpecError: a device is on a bus that is not there, or at an address that is none.
    """
    options = [parse_device(text) for text in spec.machine.devices]
    places = _places(options)
    if isinstance(places, Unpinned):
        return places
    found = [
        BootDevice(_MISC, place.path, _bootindex(place.device), _value(place.device, "drive"))
        for place in places
        if place.device.driver.startswith(_BLOCK)
    ]
    found.sort(key=lambda device: device.path)
    others = dict.fromkeys(o.driver for o in options if _OTHER_DISK.match(o.driver))
    networks = [o for o in options if _NETWORK.match(o.driver)]
    hint = ""
    if all(d.bootindex is None for d in found) or any(_bootindex(o) is not None for o in networks):
        # else bootindex takes the networks' options out of the boot order
        others |= dict.fromkeys(o.driver for o in networks)
        hint = "; a bootindex for the disk alone leaves networks without one" if networks else ""
    reason = ""
    if others:
        names = ", ".join(others)
        reason = f"the boot option that the firmware makes for {names} is not derived{hint}"
    return BootDevices(tuple(found), reason, tuple(o.driver for o in networks if _has_rom(o)))


def _has_rom(option: DeviceOption) -> bool:
    """Whether a network device has the ROM that QEMU gives it by default."""
    properties = dict(option.properties)
    return properties.get("romfile", "default") != "" and properties.get("rombar") not in {
        "0",
        "off",
    }


def _places(options: list[DeviceOption]) -> list[_Place] | Unpinned:
    """PCI devices with their paths."""
    buses: dict[str, tuple[tuple[int, int], ...]] = {_ROOT: ()}
    taken: dict[str, set[int]] = {_ROOT: set(_CHIPSET)}
    found: list[_Place] = []
    for option in options:
        if _NO_PCI.match(option.driver):
            continue
        if not _PCI.search(option.driver):
            return Unpinned(
                f"whether {option.driver} is a PCI device, and so takes a slot, is not known: "
                "the addresses of the devices behind it do not follow"
            )
        bus = _value(option, "bus") or _ROOT
        if bus not in buses:
            raise _refused(f"{option.driver} is on bus {bus!r}, which no device before it makes")
        slot, function = _address(option, taken[bus])
        taken[bus].add(slot)
        path = (*buses[bus], (slot, function))
        found.append(_Place(option, path))
        if option.driver in _BRIDGES and (name := _value(option, "id")):
            buses[name], taken[name] = path, set()
    return found


def _address(option: DeviceOption, taken: set[int]) -> tuple[int, int]:
    text = _value(option, "addr")
    if not text:
        free = [slot for slot in range(_SLOTS) if slot not in taken]
        if not free:
            raise _refused(f"no slot is free for {option.driver}")
        return free[0], 0
    # QEMU hw/core/qdev-properties-system.c, set_pci_devfn: hexadecimal, which may say so
    match = re.fullmatch(r"(?:0x)?([0-9a-fA-F]{1,2})(?:\.(?:0x)?([0-7]))?", text)
    if match is None or int(match[1], 16) >= _SLOTS:
        raise _refused(f"{text!r} is no address of {option.driver}")
    return int(match[1], 16), int(match[2] or 0)


def _value(option: DeviceOption, name: str) -> str:
    return dict(option.properties).get(name, "")


def _bootindex(option: DeviceOption) -> int | None:
    text = _value(option, "bootindex")
    if not text:
        return None
    if not re.fullmatch(r"-?\d{1,9}", text):
        raise _refused(f"{text!r} is no bootindex of {option.driver}")
    number = int(text)
    return number if number >= 0 else None


def _refused(message: str) -> SpecError:
    return SpecError(message, origin="launch spec", field="machine.devices")
