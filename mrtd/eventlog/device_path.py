"""Device paths: where a boot option, or an image that was started, comes from.

Source: UEFI 2.10, chapter 10; the text form follows its table "Device Node Text Definitions".
A node is ``type u8, subtype u8, length u16 (with these four bytes), data``; a path ends with an
"end entire" node.
"""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Address
from typing import Final

import msgspec

from mrtd.errors import InputError
from mrtd.eventlog.guid_names import guid_name, guid_text
from mrtd.eventlog.text import printable
from mrtd.reader import Reader

_HEADER: Final = 4
_END_TYPE: Final = 0x7F
_END_ENTIRE: Final = 0xFF
_END_INSTANCE: Final = 0x01
_GPT: Final = 2
_PNP: Final = 0x41D0  # EISA "PNP": three letters of five bits
_PATH_LIMIT: Final = 300
_MAX_NODES: Final = 128  # real ones have ten; without a bound, nodes of 4 bytes fill the memory


class DeviceNode(msgspec.Struct, frozen=True):
    """One node of a device path.

    Attributes:
        type: 1 hardware, 2 ACPI, 3 messaging, 4 media, 5 BIOS boot, 0x7f end.
        subtype: meaning depends on the type.
        text: as UEFI writes it, such as ``Pci(0x1,0x0)``; ``Path(type,subtype,hex)`` for a node of
            an unknown kind or with a content that breaks its format.
        data: its content.
    """

    type: int
    subtype: int
    text: str
    data: bytes


class DevicePath(msgspec.Struct, frozen=True):
    """A device path without its end node.

    Attributes:
        nodes: its nodes in order.
        rest: number of bytes behind the end node.
    """

    nodes: tuple[DeviceNode, ...]
    rest: int = 0

    def __str__(self) -> str:
        return printable("/".join(node.text for node in self.nodes), _PATH_LIMIT)


def read_device_path(data: bytes, *, origin: str, error: type[InputError]) -> DevicePath:
    """Read a device path; unknown nodes are shown generically.

    Args:
        data: the path, up to its end; empty is the path without nodes.
        origin: what it is in, for messages.
        error: what is raised.

    Raises:
        InputError: of the class given: a node breaks the format, or the path has no end.
    """
    reader = Reader(data, origin=origin, error=error)
    nodes: list[DeviceNode] = []
    while reader.remaining:
        kind = reader.u8("device path node type")
        subtype = reader.u8("device path node subtype")
        length = reader.u16("device path node length")
        if length < _HEADER:
            raise reader.fail(f"{length} is less than its header", "device path node length")
        content = bytes(reader.take(length - _HEADER, "device path node"))
        if (kind, subtype) == (_END_TYPE, _END_ENTIRE):
            return DevicePath(tuple(nodes), reader.remaining)
        if len(nodes) == _MAX_NODES:
            raise reader.fail(f"more than {_MAX_NODES} nodes", "device path")
        nodes.append(DeviceNode(kind, subtype, _text(kind, subtype, content), content))
    if nodes:
        raise reader.fail("no end node", "device path")
    return DevicePath(())


def _text(kind: int, subtype: int, content: bytes) -> str:
    read = _NODES.get((kind, subtype))
    if read is not None:
        try:
            return read(Reader(content, origin="node", error=InputError))
        except InputError:
            pass
    return f"Path({kind},{subtype},{content[:32].hex()})"


def _pci(node: Reader) -> str:
    function, device = node.u8("function"), node.u8("device")
    return f"Pci({device:#x},{function:#x})"


def _memory_mapped(node: Reader) -> str:
    kind, start, end = node.u32("memory type"), node.u64("start"), node.u64("end")
    return f"MemoryMapped({kind:#x},{start:#x},{end:#x})"


def _vendor(name: str) -> Callable[[Reader], str]:
    def read(node: Reader) -> str:
        vendor = guid_name(guid_text(node.guid("vendor")))
        data = bytes(node.take(min(node.remaining, 32), "vendor data")).hex()
        return f"{name}({vendor},{data})" if data else f"{name}({vendor})"

    return read


def _guid(name: str) -> Callable[[Reader], str]:
    return lambda node: f"{name}({guid_name(guid_text(node.guid('name')))})"


def _acpi(node: Reader) -> str:
    hid, uid = node.u32("HID"), node.u32("UID")
    if hid & 0xFFFF != _PNP:
        return f"Acpi({hid:#010x},{uid:#x})"
    known = {0x0A03: "PciRoot", 0x0A08: "PcieRoot"}.get(hid >> 16)
    return f"{known}({uid:#x})" if known else f"Acpi(PNP{hid >> 16:04X},{uid:#x})"


def _numbers(name: str, *sizes: int) -> Callable[[Reader], str]:
    def read(node: Reader) -> str:
        return f"{name}({','.join(f'{node.uint(size, name):#x}' for size in sizes)})"

    return read


def _mac(node: Reader) -> str:
    address = bytes(node.take(32, "MAC address"))
    kind = node.u8("interface type")
    # 6 bytes for Ethernet (types 0 and 1 of RFC 1700)
    return f"MAC({address[: 6 if kind <= 1 else 32].hex()},{kind:#x})"


def _ipv4(node: Reader) -> str:
    local, remote = (IPv4Address(bytes(node.take(4, "IPv4 address"))) for _ in range(2))
    return f"IPv4({remote},local {local})"


def _ipv6(node: Reader) -> str:
    local, remote = (IPv6Address(bytes(node.take(16, "IPv6 address"))) for _ in range(2))
    return f"IPv6({remote},local {local})"


def _nvme(node: Reader) -> str:
    namespace = node.u32("namespace")
    identifier = bytes(node.take(8, "EUI-64"))[::-1]
    return f"NVMe({namespace:#x},{identifier.hex('-').upper()})"


def _uri(node: Reader) -> str:
    return f"Uri({printable(bytes(node.take(node.remaining, 'URI')).decode('utf-8', 'replace'))})"


def _hard_drive(node: Reader) -> str:
    number, start, size = node.u32("partition"), node.u64("start"), node.u64("size")
    signature = bytes(node.take(16, "signature"))
    node.u8("format")
    if node.u8("signature type") == _GPT:
        return f"HD({number},GPT,{guid_text(signature)},{start:#x},{size:#x})"
    return f"HD({number},MBR,{signature[3::-1].hex()},{start:#x},{size:#x})"


def _file(node: Reader) -> str:
    raw = bytes(node.take(node.remaining & ~1, "path name"))
    return printable(raw.decode("utf-16-le", "replace").partition("\0")[0], _PATH_LIMIT)


_NODES: Final[dict[tuple[int, int], Callable[[Reader], str]]] = {
    (1, 1): _pci,
    (1, 3): _memory_mapped,
    (1, 4): _vendor("VenHw"),
    (1, 5): _numbers("Ctrl", 4),
    (2, 1): _acpi,
    (2, 3): _numbers("AcpiAdr", 4),
    (3, 1): _numbers("Ata", 1, 1, 2),
    (3, 2): _numbers("Scsi", 2, 2),
    (3, 5): _numbers("USB", 1, 1),
    (3, 10): _vendor("VenMsg"),
    (3, 11): _mac,
    (3, 12): _ipv4,
    (3, 13): _ipv6,
    (3, 15): _numbers("UsbClass", 2, 2, 1, 1, 1),
    (3, 17): _numbers("Unit", 1),
    (3, 18): _numbers("Sata", 2, 2, 2),
    (3, 20): _numbers("Vlan", 2),
    (3, 23): _nvme,
    (3, 24): _uri,
    (4, 1): _hard_drive,
    (4, 2): _numbers("CDROM", 4, 8, 8),
    (4, 3): _vendor("VenMedia"),
    (4, 4): _file,
    (4, 6): _guid("FvFile"),
    (4, 7): _guid("Fv"),
    (4, 8): _numbers("Offset", 4, 8, 8),
    (4, 9): _numbers("RamDisk", 8, 8),
    (_END_TYPE, _END_INSTANCE): lambda _: ",",
}
