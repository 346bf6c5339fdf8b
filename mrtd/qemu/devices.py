"""``-device`` options, and inert stand-ins for what the host of a table dump need not have.

A dump runs nothing, so disks, networks and consoles may be empty: the ACPI tables say that a
device is in a slot, not what is behind it.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from mrtd.errors import SpecError
from mrtd.launch.spec import LaunchSpec

# The slot of a vhost device looks to ACPI like that of any virtio device (build_append_pcihp_slots
# in QEMU's hw/acpi; compared with the real device in QEMU 7.2 and 11.1, its ioctls answered by a
# stub), but the device itself needs /dev/vhost-vsock of the host.
_VHOST_VSOCK: Final = "vhost-vsock-pci"
_STAND_IN: Final = "virtio-rng-pci"
_VSOCK_ONLY: Final = frozenset(("guest-cid", "vhostfd", "seqpacket"))

_BACKENDS: Final[dict[str, Callable[[str], tuple[str, str]]]] = {
    "drive": lambda name: (
        "-blockdev",
        f"driver=null-co,node-name={name},size=1073741824,read-zeroes=on",
    ),
    "netdev": lambda name: ("-netdev", f"hubport,id={name},hubid=0"),
    "chardev": lambda name: ("-chardev", f"null,id={name}"),
    "iothread": lambda name: ("-object", f"iothread,id={name}"),
    "rng": lambda name: ("-object", f"rng-builtin,id={name}"),
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


def escape(text: str) -> str:
    """Text as the value of a QEMU option: a comma is written twice (QEMU util/qemu-option.c)."""
    return text.replace(",", ",,")


def parse_device(text: str, *, replace: bool = False) -> DeviceOption:
    """Read a ``-device`` option, in its key=value or its JSON form.

    Args:
        text: the option.
        replace: whether ``vhost-vsock-pci`` becomes a virtio device that needs no host.

    Raises:
        SpecError: no driver, or broken JSON.
    """
    pairs = _json_pairs(text) if text.startswith("{") else _pairs(text)
    driver = dict(pairs).get("driver", "")
    rest = tuple((name, value) for name, value in pairs if name != "driver")
    if not driver:
        raise _refused(text, "names no driver")
    if not replace or not driver.startswith(_VHOST_VSOCK):
        return DeviceOption(driver, rest, text)
    driver = _STAND_IN + driver.removeprefix(_VHOST_VSOCK)
    rest = tuple((name, value) for name, value in rest if name not in _VSOCK_ONLY)
    option = ",".join([driver, *(f"{name}={escape(value)}" for name, value in rest)])
    return DeviceOption(driver, rest, option)


def stand_ins(spec: LaunchSpec) -> tuple[str, ...]:
    """QEMU arguments for an inert back end per host resource that the spec's devices name.

    Covers ``drive``, ``netdev``, ``chardev``, ``iothread`` and ``rng``; a TPM's is
    `mrtd.qemu.tpm`. Raises `SpecError`.
    """
    arguments: list[str] = []
    seen: set[tuple[str, str]] = set()
    for text in spec.machine.devices:
        for pair in parse_device(text).properties:
            if pair[0] in _BACKENDS and pair not in seen:
                seen.add(pair)
                arguments += _BACKENDS[pair[0]](escape(pair[1]))
    return tuple(arguments)


def tpm_ids(arguments: tuple[str, ...]) -> tuple[str, ...]:
    """The TPM back ends that the devices among QEMU arguments name, each once."""
    devices = [text for option, text in itertools.pairwise(arguments) if option == "-device"]
    pairs = [pair for text in devices for pair in parse_device(text).properties]
    return tuple(dict.fromkeys(value for name, value in pairs if name == "tpmdev"))


def _pairs(text: str) -> list[tuple[str, str]]:
    parts = [part.replace("\0", ",") for part in text.replace(",,", "\0").split(",")]
    first, equals, _ = parts[0].partition("=")
    if not equals:
        parts[0] = f"driver={first}"
    pairs = []
    for part in parts:
        name, equals, value = part.partition("=")
        pairs.append((name, value if equals else "on"))
    return pairs


def _json_pairs(text: str) -> list[tuple[str, str]]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _refused(text, "is broken JSON") from error
    return [
        (str(name), item if isinstance(item, str) else json.dumps(item).strip('"'))
        for name, item in value.items()
    ]


def _refused(text: str, message: str) -> SpecError:
    return SpecError(f"{text[:80]!r} {message}", origin="launch spec", field="machine.devices")
