"""The controllers of a libvirt domain, its PCI topology above all.

Source: libvirt src/qemu/qemu_command.c (qemuBuildControllersCommandLine).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from mrtd.launch.domain_tree import Node
from mrtd.launch.libvirt_places import (
    TRANSITION,
    Properties,
    device_option,
    known_model,
    pci_place,
    usb_place,
)

# <controller type='pci' model=...> to QEMU's device, where <model name=...> does not say
_BRIDGES: Final = {
    "pcie-root-port": "pcie-root-port",
    "pcie-to-pci-bridge": "pcie-pci-bridge",
    "pci-bridge": "pci-bridge",
    "dmi-to-pci-bridge": "i82801b11-bridge",
    "pcie-switch-upstream-port": "x3130-upstream",
    "pcie-switch-downstream-port": "xio3130-downstream",
    "pcie-expander-bus": "pxb-pcie",
}
_USB: Final = {
    "qemu-xhci": "qemu-xhci", "nec-xhci": "nec-usb-xhci", "piix3-uhci": "piix3-usb-uhci",
    "piix4-uhci": "piix4-usb-uhci", "ehci": "usb-ehci", "ich9-ehci1": "ich9-usb-ehci1",
    "ich9-uhci1": "ich9-usb-uhci1", "ich9-uhci2": "ich9-usb-uhci2",
    "ich9-uhci3": "ich9-usb-uhci3", "vt82c686b-uhci": "vt82c686b-usb-uhci",
    "pci-ohci": "pci-ohci",
}  # fmt: skip
_SCSI: Final = {
    "virtio-scsi": "virtio-scsi-pci", "virtio-transitional": "virtio-scsi-pci-transitional",
    "virtio-non-transitional": "virtio-scsi-pci-non-transitional", "lsilogic": "lsi",
    "lsisas1068": "mptsas1068", "lsisas1078": "megasas", "vmpvscsi": "pvscsi",
}  # fmt: skip


def controller_words(controllers: list[Node]) -> list[str]:
    """The options for all controllers: a bus before what is on it. Raises `SpecError`."""
    known = [c for kind in _TRANSLATED for c in controllers if c.get("type") == kind]
    for controller in controllers:
        if (kind := controller.get("type")) not in {*_TRANSLATED, "isa"}:
            raise controller.fail(f"type {kind!r} is not translated", "@type")
    return [word for c in known for word in _TRANSLATED[c.get("type")](c, c.number("index"))]


def _pci(device: Node, index: int) -> Iterator[str]:
    model = device.get("model")
    if index == 0:
        if model != "pcie-root":
            raise device.fail(f"model {model!r}: the machine is no q35", "@model")
        if device.has("pcihole64"):
            size = device.child("pcihole64")
            size.get("unit")  # KiB
            yield from ("-global", f"q35-pcihost.pci-hole64-size={size.number_text()}K")
        return
    driver = device.child("model").get("name") or known_model(device, _BRIDGES, model)
    yield from device_option(
        driver, {**_port(device, model, index), "id": f"pci.{index}", **pci_place(device)}
    )


def _port(device: Node, model: str, index: int) -> Properties:
    target = device.child("target")
    properties: Properties = {}
    if model in {"pcie-root-port", "pcie-switch-downstream-port"}:
        properties |= {"port": target.number("port"), "chassis": target.number("chassis", index)}
        if target.get("hotplug") == "off":
            properties["hotplug"] = False
    elif model == "pci-bridge":
        properties["chassis_nr"] = target.number("chassisNr", index)
    elif model == "pcie-expander-bus":
        properties["bus_nr"] = target.number("busNr")
    if target.get("memReserve"):
        properties["mem-reserve"] = f"{target.number('memReserve')}K"
    return properties


def _usb(device: Node, index: int) -> Iterator[str]:
    model, name = device.get("model"), f"usb{index or ''}"
    if model == "none":
        return
    extra: Properties = {"id": name}
    if "xhci" in model and (ports := device.number("ports")):
        extra |= {"p2": ports, "p3": ports}
    if device.has("master"):
        # a companion hangs on the first controller's bus, and has no bus of its own
        port = device.child("master").number("startport")
        extra = {"masterbus": f"{name}.0", "firstport": port}
    yield from device_option(known_model(device, _USB, model), {**pci_place(device), **extra})


def _scsi(device: Node, index: int) -> Iterator[str]:
    driver = known_model(device, _SCSI, device.get("model"))
    yield from device_option(driver, {**pci_place(device), "id": f"scsi{index}"})


def _sata(device: Node, index: int) -> Iterator[str]:
    place = pci_place(device)
    if index:  # the first one, 00:1f.2, is part of every q35 machine
        yield from device_option("ich9-ahci", {**place, "id": f"sata{index}"})


def _virtio_serial(device: Node, index: int) -> Iterator[str]:
    driver = "virtio-serial-pci" + TRANSITION.get(device.get("model"), "")
    yield from device_option(driver, {**pci_place(device), "id": f"virtio-serial{index}"})


def _nvme(device: Node, index: int) -> Iterator[str]:
    serial = device.child("serial").text or f"nvme{index}"
    own = {"id": f"nvme{index}", "serial": serial}
    yield from device_option("nvme", {**own, **pci_place(device)})


def _ccid(device: Node, index: int) -> Iterator[str]:
    yield from device_option("usb-ccid", {"id": f"ccid{index}", **usb_place(device)})


def _floppy(_device: Node, index: int) -> Iterator[str]:
    yield from device_option("isa-fdc", {"id": f"fdc{index}"})


_TRANSLATED: Final = {
    "pci": _pci,
    "fdc": _floppy,
    "usb": _usb,
    "scsi": _scsi,
    "sata": _sata,
    "virtio-serial": _virtio_serial,
    "nvme": _nvme,
    "ccid": _ccid,
}
