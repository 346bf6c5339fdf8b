"""The machine of a launch spec as it can run without TDX, and what had to be changed for it.

What is changed is changed before the derivation too: what is compared is always derived from the
machine that was launched. The changes are said, since they move PCR 1 (the ACPI tables).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Final

from msgspec.structs import replace

from ci.payload import CHANNEL_DEVICES, PORT_NAME
from mrtd.errors import SpecError
from mrtd.launch.spec import LaunchSpec
from mrtd.qemu.devices import parse_device

*_CHANNEL, _CONSOLE = CHANNEL_DEVICES
# `host` and `max` are what the host has: a named model is the same everywhere
_CPU: Final = "qemu64"
_HOST_CPUS: Final = frozenset({"host", "max"})
# What a device names of its host, and the launch does not give it in this mode
_HOST_RESOURCES: Final = frozenset({"drive", "netdev", "chardev", "guest-cid", "vhostfd"})
_OURS: Final = frozenset({"payload", "serial"})
_STAND_IN: Final = "virtio-rng-pci"
# They name a place in the machine, which the stand-in takes
_SWITCHES: Final = frozenset({"multifunction", "disable-modern"})
_KEPT: Final = ("id", "bus", "addr", "multifunction", "disable-legacy", "disable-modern")


@dataclass(frozen=True, slots=True)
class PlainMachine:
    """A spec that runs without TDX.

    Attributes:
        spec: what is launched, and derived from.
        changes: what is not as in the original, one sentence each.
    """

    spec: LaunchSpec
    changes: tuple[str, ...]


def plain_machine(spec: LaunchSpec, *, accel: str = "tcg") -> PlainMachine:
    """The spec with what the plain mode needs, and without what only a TDX host has.

    Args:
        spec: the launch.
        accel: QEMU's accelerator; a host's CPU cannot be had under ``tcg``.

    Raises:
        SpecError: a device needs something of the host and has no stand-in.
    """
    machine, changes = spec.machine, []
    model = machine.cpu.partition(",")[0]
    if accel == "tcg" and model in _HOST_CPUS:
        machine = replace(machine, cpu=_CPU, phys_bits=None)
        changes.append(f"cpu {spec.machine.cpu} is {_CPU}: TCG has no host CPU")
    devices = []
    console = _console_of(machine.devices)
    for number, text in enumerate(machine.devices):
        if number == console:
            devices.append(_with_our_console(text))
            continue
        found = _without_host(text, given={disk.name for disk in spec.disks})
        devices.append(found)
        if found != text:
            changes.append(f"{parse_device(text).driver} is {_STAND_IN} in the same slot")
    added = [] if any(_name_of(text) == PORT_NAME for text in devices) else list(_CHANNEL)
    if not any(dict(parse_device(text).properties).get("chardev") == "serial" for text in devices):
        added.append(_CONSOLE)
    if any(text.startswith("{") for text in devices):
        parsed = [parse_device(text) for text in added]
        added = [_as_json(device.driver, dict(device.properties)) for device in parsed]
    if added:
        changes.append("the ports for payload and console are added at the end")
    machine = replace(machine, devices=(*devices, *added))
    return PlainMachine(replace(spec, machine=machine), tuple(changes))


def _console_of(devices: Sequence[str]) -> int | None:
    """Which device is the first serial port, unless one of them is our console already."""
    parsed = [parse_device(text) for text in devices]
    if any(("chardev", "serial") in device.properties for device in parsed):
        return None
    return next((n for n, device in enumerate(parsed) if device.driver == "isa-serial"), None)


def _with_our_console(text: str) -> str:
    """The serial port with our console behind it, which ACPI does not see."""
    if text.startswith("{"):
        return json.dumps(json.loads(text) | {"chardev": "serial"})
    return re.sub(r"(?<=,chardev=)[^,]*", "serial", text)


def _name_of(text: str) -> str | None:
    return dict(parse_device(text).properties).get("name")


def _without_host(text: str, *, given: AbstractSet[str]) -> str:
    """The device, or its stand-in: to ACPI every virtio device in a slot looks the same.

    ``given``: the disks of the spec, which a launch has.
    """
    device = parse_device(text)
    pairs = dict(device.properties)
    needs = {
        name
        for name, value in pairs.items()
        if name in _HOST_RESOURCES
        and not (name == "chardev" and value in _OURS)
        and not (name == "drive" and value in given)
    }
    if not needs:
        return text
    if not device.driver.startswith(("virtio-", "vhost-")) or "-pci" not in device.driver:
        raise SpecError(
            f"{device.driver} needs {', '.join(sorted(needs))} of the host, which the plain mode "
            "does not give",
            origin="launch spec",
            field="machine.devices",
            hint="launch it in TDX mode, or take evidence of a launch (--evidence)",
        )
    kept: dict[str, str] = {name: pairs[name] for name in _KEPT if name in pairs}
    if text.startswith("{"):
        return _as_json(_STAND_IN, kept)
    return ",".join([_STAND_IN, *(f"{name}={value}" for name, value in kept.items())])


def _as_json(driver: str, properties: Mapping[str, str]) -> str:
    """A device in QEMU's JSON form: it makes those after all in the other form."""
    values = {name: value == "on" if name in _SWITCHES else value
              for name, value in properties.items()}  # fmt: skip
    return json.dumps({"driver": driver, **values})
