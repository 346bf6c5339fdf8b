"""Where libvirt has put the devices of a domain, and in which order they boot."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Final

from mrtd.launch.domain_tree import Node

Properties = dict[str, object]
TRANSITION: Final = {"virtio-transitional": "-transitional",
                     "virtio-non-transitional": "-non-transitional"}  # fmt: skip
"""What a virtio device's model says of the generations that it serves."""
DEFINE_FIRST: Final = "`virsh define` it, and give what `virsh dumpxml` prints then"


class BootOrder:
    """The ``bootindex`` of each device.

    A device's own ``<boot order=.../>`` counts; otherwise the first device of each kind that
    ``<os>`` lists has that kind's place in the list.

    Args:
        kinds: the kinds that ``<os>`` lists (``hd``, ``cdrom``, ``network``, ``fd``).
    """

    def __init__(self, kinds: list[str]) -> None:
        self._left = {kind: place for place, kind in reversed(list(enumerate(kinds, 1)))}

    def of(self, device: Node, kind: str) -> dict[str, object]:
        """The property, for a device of a kind that ``<os>`` may list."""
        place = self._left.pop(kind, None)
        return self.explicit(device) or ({} if place is None else {"bootindex": place})

    @staticmethod
    def explicit(device: Node) -> dict[str, object]:
        """The property, for a device that has an order of its own or none."""
        boot = device.child("boot")
        return {"bootindex": boot.number("order")} if boot.get("order") else {}


def device_option(driver: str, properties: Mapping[str, object] | None = None) -> list[str]:
    """A device in QEMU's JSON form, which libvirt uses."""
    return ["-device", json.dumps({"driver": driver, **(properties or {})})]


def pci_place(device: Node) -> Properties:
    """``bus`` and ``addr`` of a PCI device, and its other properties that ACPI tables show.

    Raises:
        SpecError: libvirt has not assigned an address yet.
    """
    if not device.has("address"):
        raise device.fail("has no PCI address yet", hint=DEFINE_FIRST)
    address = device.child("address")
    if address.get("type") != "pci":
        raise address.fail(f"type {address.get('type')!r} is no PCI address", "@type")
    bus, slot = address.number("bus"), address.number("slot")
    function = address.number("function")
    place: Properties = {
        "bus": f"pci.{bus}" if bus else "pcie.0",
        "addr": f"{slot:#x}.{function:#x}" if function else f"{slot:#x}",
    }
    if address.get("multifunction") == "on":
        place["multifunction"] = True
    if index := device.child("acpi").number("index"):
        place["acpi-index"] = index
    rom = device.child("rom")
    if rom.get("enabled") == "no":
        place["romfile"] = ""
    elif file := rom.get("file"):
        place["romfile"] = file
    if bar := rom.get("bar"):
        place["rombar"] = int(bar == "on")
    return place


def usb_place(device: Node) -> Properties:
    """``bus`` and ``port`` of a USB device. Raises `SpecError`."""
    address = device.child("address")
    bus = address.number("bus")
    port = {"port": address.get("port")} if address.get("port") else {}
    return {"bus": "usb.0" if bus == 0 else f"usb{bus}.0", **port}


def known_model(device: Node, known: Mapping[str, str], model: str) -> str:
    """QEMU's name for a model of libvirt's. Raises `SpecError`."""
    if model not in known:
        raise device.fail(f"model {model!r} is not translated", "@model", hint=DEFINE_FIRST)
    return known[model]
