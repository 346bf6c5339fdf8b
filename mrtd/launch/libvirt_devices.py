"""The devices of a libvirt domain as ``-device`` options, in libvirt's order.

Source: libvirt src/qemu/qemu_command.c (qemuBuildDevicesCommandLine and what it calls),
src/qemu/qemu_alias.c (identifiers). Only properties that place a device, size its registers or give
it a place in the boot order are translated; what is behind it becomes an inert back end.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Final

from mrtd.launch.domain_tree import Node
from mrtd.launch.libvirt_controllers import controller_words
from mrtd.launch.libvirt_disks import disk_words
from mrtd.launch.libvirt_places import (
    DEFINE_FIRST,
    TRANSITION,
    BootOrder,
    Properties,
    device_option,
    known_model,
    pci_place,
    usb_place,
)

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
_CHARACTER: Final = {"serial": "isa-serial", "parallel": "isa-parallel"}
_CHARACTER_DRIVERS: Final = {"isa-serial": "isa-serial", "isa-debug": "isa-debugcon",
                             "isa-parallel": "isa-parallel", "pci-serial": "pci-serial",
                             "usb-serial": "usb-serial"}  # fmt: skip
_USB_INPUT: Final = {"tablet": "usb-tablet", "mouse": "usb-mouse", "keyboard": "usb-kbd"}
_VIRTIO_INPUT: Final = {"tablet": "virtio-tablet-pci", "mouse": "virtio-mouse-pci",
                        "keyboard": "virtio-keyboard-pci", "passthrough": "virtio-input-host-pci",
                        "evdev": ""}  # fmt: skip


def device_words(domain: Node) -> list[str]:
    """The options for all devices. Raises `SpecError`."""
    devices = domain.child("devices")
    kinds = [boot.get("dev") for boot in domain.child("os").all("boot")]
    if not kinds and not any(device.has("boot") for device in devices.children):
        kinds = ["hd"]  # virDomainDefPostParse; `virsh dumpxml` prints it
    order = BootOrder(kinds)
    words = [word for iommu in devices.all("iommu") for word in _iommu(iommu)]
    words += controller_words(list(devices.all("controller")))
    for kind, translate in _IN_ORDER.items():
        for number, device in enumerate(devices.all(kind)):
            words += translate(device, number, order)
        if kind == "rng" and domain.child("features").has("vmcoreinfo"):
            words += _vmcoreinfo(domain.child("features").child("vmcoreinfo"))
    return words


def _vmcoreinfo(feature: Node) -> list[str]:
    return device_option("vmcoreinfo") if feature.get("state", "on") == "on" else []


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
    model = "virtio-9p-pci" + TRANSITION.get(device.get("model"), "")
    yield from device_option(model, {"id": name, "fsdev": f"fsdev-{name}",
                    "mount_tag": device.child("target").get("dir"), **boot,
                    **pci_place(device)})  # fmt: skip


def _interface(device: Node, number: int, order: BootOrder) -> Iterator[str]:
    kind, name = device.get("type"), f"net{number}"
    boot = order.of(device, "network")
    if kind == "hostdev":
        own = {"id": f"hostdev-{name}", **_host_address(device), **boot}
        yield from device_option("vfio-pci", {**own, **pci_place(device)})
        return
    model = device.child("model").get("type")
    if not model:
        raise device.fail("has no <model>", hint=DEFINE_FIRST)
    driver = _NICS.get(model, model)
    driver = f"virtio-net-pci{TRANSITION[model]}" if model in TRANSITION else driver
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
        target, name = device.child("target"), f"{prefix}{number}"
        kind = target.get("type") or _CHARACTER.get(prefix, "")
        if prefix == "console" and kind in {"serial", ""}:
            return  # the same device as the first <serial>
        place = _character_place(device, kind, prefix)
        yield from ("-chardev", f"null,id=char{name}")
        driver = {"virtio": "virtconsole" if prefix == "console" else "virtserialport"}.get(
            kind, _CHARACTER_DRIVERS.get(kind, "")
        )
        yield from device_option(driver, {"chardev": f"char{name}", "id": name, **place})

    return translate


def _character_place(device: Node, kind: str, prefix: str) -> Properties:
    target, address = device.child("target"), device.child("address")
    if kind == "isa-serial":
        return {"index": target.number("port")}
    if kind == "pci-serial":
        return pci_place(device)
    if kind == "usb-serial":
        return usb_place(device)
    if kind == "virtio":
        bus = f"virtio-serial{address.number('controller')}.{address.number('bus')}"
        # with a port number of its own, or else the next one
        place: Properties = {"bus": bus}
        if address.get("port"):
            place["nr"] = address.number("port")
        return place if prefix == "console" else {**place, "name": target.get("name")}
    if kind not in _CHARACTER_DRIVERS:
        raise device.fail(f"target {kind!r} is not translated", "/target@type")
    return {}


def _tpm(device: Node, number: int, _: BootOrder) -> Iterator[str]:
    name = f"tpm{number}"
    yield from ("-tpmdev", f"emulator,id=tpm-{name},chardev=chr{name}")
    yield from device_option(device.get("model", "tpm-crb"), {"tpmdev": f"tpm-{name}", "id": name})


def _input(device: Node, number: int, _: BootOrder) -> Iterator[str]:
    kind, bus, name = device.get("type"), device.get("bus", "ps2"), f"input{number}"
    if bus == "usb":
        yield from device_option(
            known_model(device, _USB_INPUT, kind), {"id": name, **usb_place(device)}
        )
    elif bus == "virtio":
        driver = known_model(device, _VIRTIO_INPUT, kind) + TRANSITION.get(device.get("model"), "")
        yield from device_option(driver, {"id": name, **pci_place(device)})


def _video(device: Node, number: int, _: BootOrder) -> Iterator[str]:
    model = device.child("model")
    kind = model.get("type")
    if kind == "none":
        return
    primary = model.get("primary") == "yes" or number == 0
    driver = model.get("device") or known_model(device, _PRIMARY_VIDEO if primary else _OTHER_VIDEO,
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
    driver = known_model(device, _SOUND, kind)
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
        return "" if model == "none" else stem + TRANSITION.get(model, "")

    return driver


def _panic(device: Node, _: int, _order: BootOrder) -> Iterator[str]:
    model = device.get("model", "isa")
    if model == "pvpanic":
        yield from device_option("pvpanic-pci", pci_place(device))
    elif model == "isa":
        port = device.child("address").number("iobase")
        yield from device_option("pvpanic", {"ioport": port} if port else {})


def _iommu(device: Node) -> Iterator[str]:
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
    driver = {"dimm": "pc-dimm", "": "pc-dimm"}.get(model := device.get("model"), model)
    yield from device_option(driver, {"id": f"dimm{number}"})


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
