"""Disks of a libvirt domain.

Source: libvirt src/qemu/qemu_command.c (qemuBuildDisksCommandLine, qemuBuildDiskDeviceProps).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Final

from mrtd.launch.domain_tree import Node
from mrtd.launch.libvirt_places import BootOrder, Properties, device_option, pci_place, usb_place

_FILES: Final = {"file": "file", "block": "dev"}
_DRIVERS: Final = {"file": "file", "block": "host_device"}
_BOOT_KINDS: Final = {"disk": "hd", "lun": "hd", "cdrom": "cdrom", "floppy": "fd"}


def disk_words(disk: Node, _: int, order: BootOrder) -> Iterator[str]:
    """The options for a disk: its image, if it has one, and its device. Raises `SpecError`."""
    device, target = disk.get("device", "disk"), disk.child("target")
    name, bus = target.get("dev"), target.get("bus")
    boot = order.of(disk, _BOOT_KINDS.get(device, ""))
    if disk.get("type") == "vhostuser":
        yield from ("-chardev", f"null,id=chr-vu-{name}")
        yield from device_option("vhost-user-blk-pci", {"chardev": f"chr-vu-{name}", "id": name,
                           **boot, **pci_place(disk)})  # fmt: skip
        return
    drive: dict[str, object] = {}
    read_only = disk.has("readonly") or device == "cdrom"
    if disk.child("source").children or any(disk.child("source").unread()):
        yield from _image(disk, name, read_only=read_only)
        drive["drive"] = name
    own = {**drive, "id": f"{bus}-{name}", **boot}
    suffix = "cd" if device == "cdrom" else "hd"
    if bus == "virtio":
        model = disk.get("model", "virtio").removeprefix("virtio")
        yield from device_option(f"virtio-blk-pci{model}", {**own, **pci_place(disk)})
    elif bus == "usb":
        yield from device_option("usb-storage", {**own, **usb_place(disk)})
    elif bus in _ON_CONTROLLER:
        driver, place = _ON_CONTROLLER[bus]
        yield from device_option(driver.format(suffix), {**own, **place(disk.child("address"))})
    else:
        raise disk.fail(f"bus {bus!r} is not translated", "/target@bus")


def _sata(address: Node) -> Properties:
    controller = address.number("controller")
    where = f"sata{controller}" if controller else "ide"
    return {"bus": f"{where}.{address.number('unit')}"}


def _scsi(address: Node) -> Properties:
    return {
        "bus": f"scsi{address.number('controller')}.0",
        "channel": address.number("bus"),
        "scsi-id": address.number("target"),
        "lun": address.number("unit"),
    }


def _nvme(address: Node) -> Properties:
    return {"bus": f"nvme{address.number('controller')}", "nsid": address.number("unit") + 1}


def _floppy(address: Node) -> Properties:
    return {"bus": "fdc0.0", "unit": address.number("unit")}


_ON_CONTROLLER: Final = {
    "sata": ("ide-{}", _sata),
    "scsi": ("scsi-{}", _scsi),
    "nvme": ("nvme-ns", _nvme),
    "fdc": ("floppy", _floppy),
}


def _image(disk: Node, name: str, *, read_only: bool) -> Iterator[str]:
    kind, source = disk.get("type"), disk.child("source")
    path = source.get(_FILES.get(kind, "file"))
    format_ = disk.child("driver").get("type", "raw")
    file: dict[str, object] = {"driver": _DRIVERS.get(kind, kind), "node-name": f"{name}-storage"}
    if path:
        file["filename"] = path
    yield from ("-blockdev", json.dumps(file))
    node = {"driver": format_, "node-name": name, "read-only": read_only,
            "file": f"{name}-storage"}  # fmt: skip
    yield from ("-blockdev", json.dumps(node))
