"""``-device`` options, and inert stand-ins for what the host of a table dump need not have.

A dump runs nothing, so disks, networks and consoles may be empty: the ACPI tables say that a
device is in a slot, not what is behind it.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple

from mrtd.errors import SpecError
from mrtd.launch.options import escape, json_object, option_pairs
from mrtd.launch.spec import LaunchSpec

# What a stand-in keeps of the device that it stands for: where it is, not what it does.
_PLACE: Final = frozenset((
    "acpi-index", "addr", "bus", "disable-legacy", "disable-modern", "id", "multifunction",
    "rombar", "romfile",
))  # fmt: skip
_SCSI_PLACE: Final = frozenset(("bus", "channel", "drive", "id", "lun", "scsi-id", "bootindex"))
_USB_PLACE: Final = frozenset(("bus", "id", "port"))


class StandIn(NamedTuple):
    """A device that takes the place of one that needs the host.

    Attributes:
        driver: its model.
        keeps: the properties that it takes over; of others none is in an ACPI table.
        renames: properties that it has under another name.
    """

    driver: str
    keeps: frozenset[str] = _PLACE
    renames: Mapping[str, str] = {}


_SLOT: Final = StandIn("virtio-rng-pci")
_BLOCK: Final = StandIn("virtio-blk-pci", _PLACE | {"bootindex"}, {"chardev": "drive"})
_SCSI: Final = StandIn("virtio-scsi-pci")
_USB: Final = StandIn("usb-mouse", _USB_PLACE)
# The slot of a vhost device looks to ACPI like that of any virtio device (build_append_pcihp_slots
# in QEMU's hw/acpi; compared with the real devices in QEMU 7.2 and 11.1, where those run without
# the host's part: tests/qemu/test_stand_ins.py). Virtio devices have the same 64-bit BAR. USB and
# SCSI devices are in no table. A model's -transitional and -non-transitional variants follow it.
STAND_INS: Final[Mapping[str, StandIn]] = {
    "vhost-vsock-pci": _SLOT,
    "vhost-user-blk-pci": _BLOCK,
    "vhost-user-fs-pci": _SLOT,
    "vhost-user-gpio-pci": _SLOT,
    "vhost-user-gpu-pci": StandIn("virtio-gpu-pci"),
    "vhost-user-i2c-pci": _SLOT,
    "vhost-user-input-pci": _SLOT,
    "vhost-user-rng-pci": _SLOT,
    "vhost-user-scmi-pci": _SLOT,
    "vhost-user-scsi-pci": _SCSI,
    "vhost-user-snd-pci": _SLOT,
    "vhost-user-vga": StandIn("virtio-vga"),
    "vhost-user-vsock-pci": _SLOT,
    "vhost-scsi-pci": _SCSI,
    "vhost-vdpa-device-pci": _SLOT,
    "virtio-9p-pci": _SLOT,
    "virtio-gpu-gl-pci": StandIn("virtio-gpu-pci"),
    "virtio-input-host-pci": _SLOT,
    "virtio-vga-gl": StandIn("virtio-vga"),
    "scsi-block": StandIn("scsi-hd", _SCSI_PLACE),
    "scsi-generic": StandIn("scsi-hd", _SCSI_PLACE),
    "usb-host": _USB,
    "usb-redir": _USB,
    "usb-mtp": _USB,
}
_VARIANTS: Final = ("", "-transitional", "-non-transitional")
# Threads of the host; a list of them cannot name stand-ins.
_NEVER_DUMPED: Final = frozenset(("iothread-vq-mapping",))

_BACKENDS: Final[dict[str, Callable[[str], tuple[str, str]]]] = {
    "drive": lambda name: (
        "-blockdev",
        f"driver=null-co,node-name={name},size=1073741824,read-zeroes=on",
    ),
    "netdev": lambda name: ("-netdev", f"hubport,id={name},hubid=0"),
    "chardev": lambda name: ("-chardev", f"null,id={name}"),
    "iothread": lambda name: ("-object", f"iothread,id={name}"),
    "rng": lambda name: ("-object", f"rng-builtin,id={name}"),
    "audiodev": lambda name: ("-audiodev", f"none,id={name}"),
    "cryptodev": lambda name: ("-object", f"cryptodev-backend-builtin,id={name}"),
}


@dataclass(frozen=True, slots=True)
class DeviceOption:
    """A ``-device`` option.

    Attributes:
        driver: the device's model, such as ``virtio-net-pci``.
        properties: its other properties as text, in order.
        text: the option as QEMU takes it.
    """

    driver: str
    properties: tuple[tuple[str, str], ...]
    text: str


def parse_device(text: str, *, replace: bool = False) -> DeviceOption:
    """Read a ``-device`` option, in its key=value or its JSON form.

    Args:
        text: the option.
        replace: whether a device that needs the host becomes its stand-in (`STAND_INS`); the form
            stays, as QEMU makes all devices of the first form before those of the second.

    Raises:
        SpecError: no driver, broken JSON, or a stand-in would lose its place in the boot order.
    """
    pairs = option_pairs(text, implied="driver", field="machine.devices")
    driver = dict(pairs).get("driver", "")
    rest = tuple((name, value) for name, value in pairs if name != "driver")
    if not driver:
        raise _refused(text, "names no driver")
    if not replace:
        return DeviceOption(driver, rest, text)
    stand_in = _stand_in(driver)
    if stand_in is None:
        if not _NEVER_DUMPED & dict(rest).keys():
            return DeviceOption(driver, rest, text)
        stand_in = StandIn(driver, frozenset(dict(rest)) - _NEVER_DUMPED)
    if "bootindex" in dict(rest) and "bootindex" not in stand_in.keeps:
        raise _refused(text, "has a bootindex, which its stand-in cannot have")
    return _replaced(text, stand_in, rest)


def _stand_in(driver: str) -> StandIn | None:
    for variant in _VARIANTS[::-1]:
        found = STAND_INS.get(driver.removesuffix(variant))
        if variant in driver and found is not None:
            return found._replace(driver=found.driver + variant)
    return None


def _replaced(text: str, stand_in: StandIn, rest: tuple[tuple[str, str], ...]) -> DeviceOption:
    names = {name: name for name in stand_in.keeps} | dict(stand_in.renames)
    kept = tuple((names[name], value) for name, value in rest if name in names)
    if text.startswith("{"):
        own = json_object(text, field="machine.devices")
        values = {names[name]: value for name, value in own.items() if name in names}
        option = json.dumps({"driver": stand_in.driver, **values})
    else:
        option = ",".join([stand_in.driver, *(f"{name}={escape(value)}" for name, value in kept)])
    return DeviceOption(stand_in.driver, kept, option)


def stand_ins(spec: LaunchSpec, *, dump: bool = False) -> tuple[str, ...]:
    """QEMU arguments for an inert back end per host resource that the spec's devices name.

    Covers ``drive``, ``netdev``, ``chardev``, ``iothread``, ``rng``, ``audiodev`` and
    ``cryptodev``; a TPM's is `mrtd.qemu.tpm`.

    Args:
        spec: the launch.
        dump: whether devices that need the host are replaced.

    Raises:
        SpecError: a device is none.
    """
    arguments: list[str] = []
    seen: set[tuple[str, str]] = set()
    for text in spec.machine.devices:
        for pair in parse_device(text, replace=dump).properties:
            if pair[0] in _BACKENDS and pair not in seen:
                seen.add(pair)
                arguments += _BACKENDS[pair[0]](escape(pair[1]))
    return tuple(arguments)


def tpm_ids(arguments: tuple[str, ...]) -> tuple[str, ...]:
    """The TPM back ends that the devices among QEMU arguments name, each once."""
    devices = [text for option, text in itertools.pairwise(arguments) if option == "-device"]
    pairs = [pair for text in devices for pair in parse_device(text).properties]
    return tuple(dict.fromkeys(value for name, value in pairs if name == "tpmdev"))


def _refused(text: str, message: str) -> SpecError:
    return SpecError(f"{text[:80]!r} {message}", origin="launch spec", field="machine.devices")
