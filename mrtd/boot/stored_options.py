"""Boot options of a variable store: which application of which partition they start.

Sources: UEFI 2.10, 3.1.3 (EFI_LOAD_OPTION), 3.3 (variables), 10.3.5.1 (hard drive) and 10.3.5.4
(file path); edk2 MdeModulePkg/Universal/BdsDxe/BdsEntry.c (what is started before BootOrder).
"""

from __future__ import annotations

import re
from typing import Final

import msgspec

from mrtd.errors import MalformedFirmware
from mrtd.firmware.guids import GLOBAL_VARIABLE, guid_text
from mrtd.firmware.variables import Variable
from mrtd.reader import Reader

_ACTIVE: Final = 1
_CATEGORY: Final = 0x1F00  # other than 0: an application, which is started only by hand
_INDICATIONS: Final = "OsIndications"
_BEFORE: Final = ("BootNext", "DriverOrder", "SysPrepOrder", _INDICATIONS)
_MEDIA: Final = 4
_HARD_DRIVE: Final = 1
_FILE: Final = 4
_END: Final = 0x7F
_SIGNATURE_GUID: Final = 2
_OPTION: Final = re.compile(r"Boot[0-9A-F]{4}\Z")


class StoredOption(msgspec.Struct, frozen=True):
    """A boot option.

    Attributes:
        number: its number, as in ``Boot0001``.
        active: whether the firmware tries it.
        description: its name in the boot menu.
        partition: GUID of the partition that its path begins with; empty if it does not.
        path: the file on it; empty if there is none.
        options: load options as text; None where they are no text.
        data: the whole variable.
    """

    number: int
    active: bool
    description: str
    partition: str
    path: str
    options: str | None
    data: bytes


def stored_options(
    variables: tuple[Variable, ...], *, origin: str
) -> tuple[tuple[int, ...], dict[int, StoredOption]]:
    """BootOrder and the boot options of a variable store.

    Raises:
        MalformedFirmware: an option breaks its format.
    """
    order: tuple[int, ...] = ()
    options: dict[int, StoredOption] = {}
    for variable in variables:
        if variable.vendor != GLOBAL_VARIABLE:
            continue
        if variable.name == "BootOrder":
            data = variable.data
            order = tuple(
                int.from_bytes(data[at : at + 2], "little") for at in range(0, len(data) - 1, 2)
            )
        elif _OPTION.match(variable.name):
            number = int(variable.name[4:], 16)
            options[number] = read_option(variable.data, number, origin=origin)
    return order, options


def started_before(variables: tuple[Variable, ...]) -> tuple[str, ...]:
    """Variables that make the firmware start something before, or instead of, BootOrder's."""
    found = {v.name: v.data for v in variables if v.vendor == GLOBAL_VARIABLE}
    if not any(found.get(_INDICATIONS, b"")):
        found.pop(_INDICATIONS, None)  # flags, none of which is set
    return tuple(name for name in _BEFORE if name in found)


def read_option(data: bytes, number: int, *, origin: str) -> StoredOption:
    """Read an EFI_LOAD_OPTION. Raises `MalformedFirmware`."""
    field = f"Boot{number:04X}"
    reader = Reader(data, origin=origin, error=MalformedFirmware)
    attributes = reader.u32(f"{field} attributes")
    length = reader.u16(f"{field} path length")
    units = bytearray()
    while (unit := bytes(reader.take(2, f"{field} description"))) != b"\0\0":
        units += unit
    nodes = Reader(reader.take(length, f"{field} path"), origin=origin, error=MalformedFirmware)
    partition = path = ""
    first = True
    while nodes.remaining:
        kind, subkind = nodes.u8("node type"), nodes.u8("node subtype")
        size = nodes.u16("node length")
        content = bytes(nodes.take(size - 4, f"{field} path node"))
        if kind == _END:
            break
        is_partition = (kind, subkind) == (_MEDIA, _HARD_DRIVE) and len(content) == 38
        if first and is_partition and content[37] == _SIGNATURE_GUID:
            partition = guid_text(content[20:36])
        elif (kind, subkind) == (_MEDIA, _FILE):
            path += content.decode("utf-16-le", "replace").rstrip("\0")
        else:
            partition = ""  # a whole path, which names a device
        first = False
    return StoredOption(
        number=number,
        active=bool(attributes & _ACTIVE) and not attributes & _CATEGORY,
        description=units.decode("utf-16-le", "replace"),
        partition=partition,
        path=path.replace("\\", "/"),
        options=_text(bytes(reader.take(reader.remaining, f"{field} optional data"))),
        data=data,
    )


def _text(data: bytes) -> str | None:
    """Optional data as text; None if it is not text."""
    try:
        text = data.decode("utf-16-le").split("\0", 1)[0]
    except UnicodeDecodeError:
        return None
    return text if text.isprintable() else None
