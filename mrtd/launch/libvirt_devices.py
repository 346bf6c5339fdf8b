"""The devices of a libvirt domain as ``-device`` options, in libvirt's order.

Source: libvirt src/qemu/qemu_command.c (qemuBuildDevicesCommandLine and what it calls),
src/qemu/qemu_alias.c (identifiers). Only properties that place a device, size its registers or give
it a place in the boot order are translated; what is behind it becomes an inert back end.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Final

from mrtd.launch.domain_tree import Node
from mrtd.launch.libvirt_disks import disk_words
from mrtd.launch.libvirt_places import (
    DEFINE_FIRST,
    BootOrder,
    Properties,
    device_option,
    pci_place,
    usb_place,
)

# In the order of qemuBuildControllersCommandLine: the bus comes before what is on it.
_CONTROLLERS: Final = ("pci", "usb", "scsi", "ide", "sata", "virtio-serial", "ccid")
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
_NICS: Final = {"virtio": "virtio-net-pci"}
_SOUND: Final = {
    "ich6": "intel-hda", "ich7": "ich7-intel-hda", "ich9": "ich9-intel-hda", "ac97": "AC97",
    "es1370": "ES1370", "sb16": "sb16", "usb": "usb-audio", "virtio": "virtio-sound-pci",
}  # fmt: skip
_PRIMARY_VIDEO: Final = {"virtio": "virtio-vga", "qxl": "qxl-vga", "vga": "VGA",
                         "cirrus": "cirrus-vga", "vmvga": "vmware-svga",
                         "bochs": "bochs-display", "ramfb": "ramfb"}  # fmt: skip
_OTHER_VIDEO: Final = {**_PRIMARY_VIDEO, "virtio": "virtio-gpu-pci", "qxl": "qxl",
                       "vga": "secondary-vga"}  # fmt: skip
_USB_INPUT: Final = {"tablet": "usb-tablet", "mouse": "usb-mouse", "keyboard": "usb-kbd"}
_VIRTIO_INPUT: Final = {"tablet": "virtio-tablet-pci", "mouse": "virtio-mouse-pci",
                        "keyboard": "virtio-keyboard-pci", "passthrough": "virtio-input-host-pci",
                        "evdev": ""}  # fmt: skip
_TRANSITION: Final = {"virtio-transitional": "-transitional",
                      "virtio-non-transitional": "-non-transitional"}  # fmt: skip


def device_words(domain: Node) -> list[str]:
    """The options for all devices. Raises `SpecError`."""
    devices = domain.child("devices")
    order = BootOrder([boot.get("dev") for boot in domain.child("os").all("boot")])
    words: list[str] = []
    for kind, translate in _IN_ORDER.items():
        found = list(devices.all(kind))
        if kind == "controller":
            found.sort(key=lambda c: (*_CONTROLLERS, c.get("type")).index(c.get("type")))
        for number, device in enumerate(found):
            words += translate(device, number, order)
    if domain.child("features").child("vmcoreinfo").get("state", "off") == "on":
        words += device_option("vmcoreinfo")
    return words


def _controller(device: Node, _: int, _order: BootOrder) -> Iterator[str]:
    kind, index = device.get("type"), device.number("index")
    model = device.get("model")
    if kind == "pci":
        yield from _pci_controller(device, model, index)
    elif kind == "usb" and model != "none":
        name = "usb" if index == 0 else f"usb{index}"
        ports = device.number("ports")
        extra: Properties = {"p2": ports, "p3": ports} if ports and "xhci" in model else {}
        if device.has("master"):
            # a companion: its own name is not used, it hangs on the first controller's bus
            port = device.child("master").number("startport")
            extra |= {"masterbus": f"{name}.0", "firstport": port}
        else:
            extra["id"] = name
        yield from device_option(_model(device, _USB, model), {**pci_place(device), **extra})
    elif kind == "scsi":
        driver = _model(device, _SCSI, model)
        yield from device_option(driver, {**pci_place(device), "id": f"scsi{index}"})
    elif kind == "virtio-serial":
        driver = "virtio-serial-pci" + _TRANSITION.get(model, "")
        yield from device_option(driver, {**pci_place(device), "id": f"virtio-serial{index}"})
    elif kind == "sata" and index:
        yield from device_option("ich9-ahci", {**pci_place(device), "id": f"sata{index}"})
    elif kind == "nvme":
        serial = device.child("serial").text or f"nvme{index}"
        yield from device_option(
            "nvme", {**pci_place(device), "id": f"nvme{index}", "serial": serial}
        )
    elif kind == "ccid":
        yield from device_option("usb-ccid", {"id": f"ccid{index}", **usb_place(device)})
    elif kind == "fdc":
        yield from device_option("isa-fdc", {"id": "fdc0"})
    elif kind == "sata":
        device.child("address").visited = True  # 00:1f.2, which every q35 machine has
        for name in ("bus", "slot", "function"):
            device.child("address").get(name)
    elif kind not in {"usb", "isa"}:
        raise device.fail(f"type {kind!r} is not translated", "@type")


def _model(device: Node, known: Mapping[str, str], model: str) -> str:
    if model not in known:
        raise device.fail(f"model {model!r} is not translated", "@model", hint=DEFINE_FIRST)
    return known[model]


def _pci_controller(device: Node, model: str, index: int) -> Iterator[str]:
    target = device.child("target")
    if index == 0:
        if model != "pcie-root":
            raise device.fail(f"model {model!r}: the machine is no q35", "@model")
        if device.has("pcihole64"):
            size = device.child("pcihole64")
            size.get("unit")  # KiB
            yield from ("-global", f"q35-pcihost.pci-hole64-size={size.number_text()}K")
        return
    driver = device.child("model").get("name") or _model(device, _BRIDGES, model)
    properties: Properties = {}
    if model in {"pcie-root-port", "pcie-switch-downstream-port"}:
        properties |= {"port": target.number("port"), "chassis": target.number("chassis", index)}
        if target.get("hotplug") == "off":
            properties["hotplug"] = False
    elif model == "pci-bridge":
        properties["chassis_nr"] = target.number("chassisNr", index)
    elif model == "pcie-expander-bus":
        properties["bus_nr"] = target.number("busNr")
    for name, option in (("memReserve", "mem-reserve"),):
        if target.get(name):
            properties[option] = f"{target.number(name)}K"
    yield from device_option(driver, {**properties, "id": f"pci.{index}", **pci_place(device)})


def _filesystem(device: Node, number: int, order: BootOrder) -> Iterator[str]:
    driver = device.child("driver").get("type", "path")
    name = f"fs{number}"
    boot = order.explicit(device)
    if driver == "virtiofs":
        yield from ("-chardev", f"null,id=chr-vu-{name}")
        yield from device_option("vhost-user-fs-pci", {"id": name, "chardev": f"chr-vu-{name}",
                        "tag": device.child("target").get("dir"), **boot,
                        **pci_place(device)})  # fmt: skip
        return
    yield from ("-fsdev", f"local,security_model=none,id=fsdev-{name},path=/")
    model = "virtio-9p-pci" + _TRANSITION.get(device.get("model"), "")
    yield from device_option(model, {"id": name, "fsdev": f"fsdev-{name}",
                    "mount_tag": device.child("target").get("dir"), **boot,
                    **pci_place(device)})  # fmt: skip


def _interface(device: Node, number: int, order: BootOrder) -> Iterator[str]:
    kind, name = device.get("type"), f"net{number}"
    boot = order.of(device, "network")
    if kind == "hostdev":
        yield from device_option("vfio-pci", {"id": f"hostdev-{name}", **_host_address(device), **boot,
                        **pci_place(device)})  # fmt: skip
        return
    model = device.child("model").get("type")
    if not model:
        raise device.fail("has no <model>", hint=DEFINE_FIRST)
    driver = _NICS.get(model, model)
    driver = f"virtio-net-pci{_TRANSITION[model]}" if model in _TRANSITION else driver
    if model.startswith("usb-"):
        yield from ("-netdev", f"user,id=host{name}")
        yield from device_option(driver, {"netdev": f"host{name}", "id": name, **usb_place(device)})
        return
    yield from ("-netdev", f"user,id=host{name}")
    yield from device_option(
        driver, {"netdev": f"host{name}", "id": name, **boot, **pci_place(device)}
    )


def _host_address(device: Node) -> Properties:
    address = device.child("source").child("address")
    parts = [address.number(name) for name in ("domain", "bus", "slot", "function")]
    return {"host": "{:04x}:{:02x}:{:02x}.{:x}".format(*parts)}


def _character(prefix: str) -> Callable[[Node, int, BootOrder], Iterator[str]]:
    def translate(device: Node, number: int, _: BootOrder) -> Iterator[str]:
        target = device.child("target")
        kind = target.get("type") or {"serial": "isa-serial", "parallel": "isa-parallel"}.get(
            prefix, "")  # fmt: skip
        name = f"{prefix}{number}"
        if prefix == "console" and kind in {"serial", ""}:
            return  # the same device as the first <serial>
        yield from ("-chardev", f"null,id=char{name}")
        own: Properties = {"chardev": f"char{name}", "id": name}
        if kind in {"isa-serial", "isa-debug"}:
            driver = "isa-serial" if kind == "isa-serial" else "isa-debugcon"
            place = {"index": target.number("port")} if kind == "isa-serial" else {}
            yield from device_option(driver, {**own, **place})
        elif kind == "pci-serial":
            yield from device_option("pci-serial", {**own, **pci_place(device)})
        elif kind == "usb-serial":
            yield from device_option("usb-serial", {**own, **usb_place(device)})
        elif kind == "isa-parallel":
            yield from device_option("isa-parallel", own)
        elif kind == "virtio":
            address = device.child("address")
            bus = f"virtio-serial{address.number('controller')}.{address.number('bus')}"
            # with a port number of its own, or else the next one
            port = {"nr": address.number("port")} if address.get("port") else {}
            if prefix == "console":
                yield from device_option("virtconsole", {**own, "bus": bus, **port})
            else:
                yield from device_option("virtserialport", {**own, "bus": bus, **port,
                                "name": target.get("name")})  # fmt: skip
        else:
            raise device.fail(f"target {kind!r} is not translated", "/target@type")

    return translate


def _tpm(device: Node, number: int, _: BootOrder) -> Iterator[str]:
    name = f"tpm{number}"
    yield from ("-tpmdev", f"emulator,id=tpm-{name},chardev=chr{name}")
    yield from device_option(device.get("model", "tpm-crb"), {"tpmdev": f"tpm-{name}", "id": name})


def _input(device: Node, number: int, _: BootOrder) -> Iterator[str]:
    kind, bus, name = device.get("type"), device.get("bus", "ps2"), f"input{number}"
    if bus == "usb":
        yield from device_option(
            _model(device, _USB_INPUT, kind), {"id": name, **usb_place(device)}
        )
    elif bus == "virtio":
        driver = _model(device, _VIRTIO_INPUT, kind) + _TRANSITION.get(device.get("model"), "")
        yield from device_option(driver, {"id": name, **pci_place(device)})


def _video(device: Node, number: int, _: BootOrder) -> Iterator[str]:
    model = device.child("model")
    kind = model.get("type")
    if kind == "none":
        return
    primary = model.get("primary") == "yes" or number == 0
    driver = model.get("device") or _model(device, _PRIMARY_VIDEO if primary else _OTHER_VIDEO,
                                           kind)  # fmt: skip
    memory: Properties = {}
    if size := model.number("vgamem" if kind == "qxl" else "vram"):
        if kind in {"vga", "qxl", "vmvga"}:
            memory["vgamem_mb"] = size >> 10
        elif kind == "bochs":
            memory["vgamem"] = f"{size}k"
    if kind == "qxl":
        memory |= {"ram_size": model.number("ram", 65536) << 10,
                   "vram_size": model.number("vram", 65536) << 10}  # fmt: skip
    place = {} if kind == "ramfb" else pci_place(device)
    yield from device_option(driver, {"id": f"video{number}", **memory, **place})


def _sound(device: Node, number: int, _: BootOrder) -> Iterator[str]:
    kind, name = device.get("model"), f"sound{number}"
    driver = _model(device, _SOUND, kind)
    if kind == "usb":
        yield from device_option(driver, {"id": name, **usb_place(device)})
    elif kind == "sb16":
        yield from device_option(driver, {"id": name})
    else:
        yield from device_option(driver, {"id": name, **pci_place(device)})


def _watchdog(device: Node, number: int, _: BootOrder) -> Iterator[str]:
    kind = device.get("model")
    if kind == "ib700":
        yield from device_option("ib700", {"id": f"watchdog{number}"})
    elif kind != "itco":  # every q35 machine has that one
        yield from device_option(kind, {"id": f"watchdog{number}", **pci_place(device)})


def _hostdev(device: Node, number: int, order: BootOrder) -> Iterator[str]:
    mode, kind, name = device.get("mode"), device.get("type"), f"hostdev{number}"
    boot = order.explicit(device)
    if kind == "usb":
        yield from device_option("usb-host", {"id": name, **boot, **usb_place(device)})
    elif kind in {"pci", "mdev"}:
        host = _host_address(device) if kind == "pci" else {"sysfsdev": "mediated device"}
        yield from device_option("vfio-pci", {"id": name, **host, **boot, **pci_place(device)})
    elif kind == "scsi_host":
        yield from device_option("vhost-scsi-pci", {"id": name, **boot, **pci_place(device)})
    else:
        raise device.fail(f"{mode} {kind!r} is not translated", "@type")


def _simple(
    driver: Callable[[Node], str], identity: str, *, backend: str = ""
) -> Callable[[Node, int, BootOrder], Iterator[str]]:
    """A PCI device that needs its place only."""

    def translate(device: Node, number: int, _: BootOrder) -> Iterator[str]:
        if not (name := driver(device)):
            return
        end = {backend: f"{backend}{number}"} if backend else {}
        yield from device_option(name, {"id": f"{identity}{number}", **end, **pci_place(device)})

    return translate


def _virtio(stem: str) -> Callable[[Node], str]:
    def driver(device: Node) -> str:
        model = device.get("model")
        return "" if model == "none" else stem + _TRANSITION.get(model, "")

    return driver


def _panic(device: Node, _: int, _order: BootOrder) -> Iterator[str]:
    model = device.get("model", "isa")
    if model == "pvpanic":
        yield from device_option("pvpanic-pci", pci_place(device))
    elif model == "isa":
        port = device.child("address").number("iobase")
        yield from device_option("pvpanic", {"ioport": port} if port else {})


def _iommu(device: Node, _: int, _order: BootOrder) -> Iterator[str]:
    model, driver = device.get("model"), device.child("driver")
    if model == "intel":
        switches = {option: driver.get(name) for name, option in (
            ("intremap", "intremap"), ("caching_mode", "caching-mode"), ("eim", "eim"),
            ("iotlb", "device-iotlb"),
        )}  # fmt: skip
        options = {name: value == "on" for name, value in switches.items() if value}
        width = {"aw-bits": driver.number("aw_bits")} if driver.get("aw_bits") else {}
        yield from device_option("intel-iommu", {**options, **width})
    elif model == "virtio":
        yield from device_option("virtio-iommu-pci", pci_place(device))
    else:
        raise device.fail(f"model {model!r} is not translated", "@model")


def _memory(device: Node, number: int, _: BootOrder) -> Iterator[str]:
    yield from ("-device", json.dumps({"driver": {"dimm": "pc-dimm"}.get(
        device.get("model"), device.get("model") or "pc-dimm"), "id": f"dimm{number}"}))  # fmt: skip


def _shmem(device: Node, number: int, _: BootOrder) -> Iterator[str]:
    model = device.child("model").get("type", "ivshmem-plain")
    yield from device_option(model, {"id": f"shmem{number}", **pci_place(device)})


def _hub(device: Node, number: int, _: BootOrder) -> Iterator[str]:
    yield from device_option("usb-hub", {"id": f"hub{number}", **usb_place(device)})


def _redirected(device: Node, number: int, order: BootOrder) -> Iterator[str]:
    yield from ("-chardev", f"null,id=charredir{number}")
    yield from device_option("usb-redir", {"chardev": f"charredir{number}", "id": f"redir{number}",
                    **order.explicit(device), **usb_place(device)})  # fmt: skip


# In the order of qemuBuildCommandLine.
_IN_ORDER: Final[Mapping[str, Callable[[Node, int, BootOrder], Iterator[str]]]] = {
    "iommu": _iommu,
    "controller": _controller,
    "memory": _memory,
    "hub": _hub,
    "disk": disk_words,
    "filesystem": _filesystem,
    "interface": _interface,
    "serial": _character("serial"),
    "parallel": _character("parallel"),
    "channel": _character("channel"),
    "console": _character("console"),
    "tpm": _tpm,
    "input": _input,
    "video": _video,
    "sound": _sound,
    "watchdog": _watchdog,
    "redirdev": _redirected,
    "hostdev": _hostdev,
    "memballoon": _simple(_virtio("virtio-balloon-pci"), "balloon"),
    "rng": _simple(_virtio("virtio-rng-pci"), "rng"),
    "panic": _panic,
    "shmem": _shmem,
    "vsock": _simple(_virtio("vhost-vsock-pci"), "vsock"),
    "crypto": _simple(_virtio("virtio-crypto-pci"), "crypto"),
}
