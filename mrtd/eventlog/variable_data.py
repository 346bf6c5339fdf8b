"""Bodies of variable events: UEFI_VARIABLE_DATA, and what is in the variables that matter.

Sources: TCG PC Client Platform Firmware Profile 1.06, 10.2.5 (GUID 16 B, name length u64 in
characters, data length u64, name, data); UEFI 2.10, 3.1 (BootOrder, EFI_LOAD_OPTION) and 3.3.
"""

from __future__ import annotations

import re
from typing import Final

import msgspec

from mrtd.errors import MalformedEventLog
from mrtd.eventlog.device_path import DevicePath, read_device_path
from mrtd.eventlog.guid_names import guid_text
from mrtd.eventlog.signatures import Authority, SignatureLists, read_authority, read_signature_lists
from mrtd.eventlog.text import decoded, is_text, printable, wide_text
from mrtd.reader import Reader

_DATABASES: Final = frozenset({"PK", "KEK", "db", "dbx", "dbt", "dbr", "MokList", "MokListX"})
_OPTION: Final = re.compile(r"(?:Boot|Driver|SysPrep|OsRecovery|PlatformRecovery)[0-9A-F]{4}")
_ORDER: Final = re.compile(r"(?:Boot|Driver|SysPrep)Order")
_MAX_OPTIONS: Final = 1024
_MAX_PATHS: Final = 16
_ACTIVE: Final = 0x1


class Flag(msgspec.Struct, frozen=True):
    """A variable of one byte, such as SecureBoot."""

    value: int

    def __str__(self) -> str:
        return {0: "off", 1: "on"}.get(self.value, f"{self.value:#04x}")


class Absent(msgspec.Struct, frozen=True):
    """Measured without data: the variable does not exist, or is empty."""

    def __str__(self) -> str:
        return "empty"


class TextValue(msgspec.Struct, frozen=True):
    """A variable with text, such as SbatLevel."""

    text: str

    def __str__(self) -> str:
        return printable(self.text)


class BootOrder(msgspec.Struct, frozen=True):
    """Numbers of the Boot#### options to try, in order."""

    options: tuple[int, ...]

    def __str__(self) -> str:
        return ", ".join(f"{n:04X}" for n in self.options[:16]) or "empty"


class LoadOption(msgspec.Struct, frozen=True):
    """EFI_LOAD_OPTION.

    Attributes:
        attributes: bit 0 active, bit 3 hidden, bits 8-12 category (1: application).
        description: its name in a boot menu.
        paths: the device paths; the first is that of the image.
        optional_data: what is passed to the image.
    """

    attributes: int
    description: str
    paths: tuple[DevicePath, ...]
    optional_data: bytes

    def __str__(self) -> str:
        where = f" at {self.paths[0]}" if self.paths else ""
        inactive = "" if self.attributes & _ACTIVE else ", inactive"
        return f"{printable(self.description)!r}{where}{inactive}"


VariableValue = (
    Flag | Absent | TextValue | BootOrder | LoadOption | SignatureLists | Authority | None
)


class VariableBody(msgspec.Struct, frozen=True):
    """UEFI_VARIABLE_DATA.

    Attributes:
        vendor: GUID of the name space, as text.
        name: the variable's name.
        data: its value as it is measured.
        value: what the data means; None if that is not known.
        remark: why data of a variable that is known has no value; else empty.
    """

    vendor: str
    name: str
    data: bytes
    value: VariableValue
    remark: str = ""

    def __str__(self) -> str:
        shown = f"{len(self.data)} bytes" if self.value is None else str(self.value)
        return f"{printable(self.name)}: {shown}"


def read_variable_data(body: bytes) -> VariableBody:
    """Read UEFI_VARIABLE_DATA; data that breaks its own format is kept, with a remark.

    Raises:
        MalformedEventLog: the lengths do not fit the body.
    """
    reader = Reader(body, origin="variable", error=MalformedEventLog)
    vendor = guid_text(reader.guid("vendor GUID"))
    length, size = reader.u64("name length"), reader.u64("data length")
    name = bytes(reader.take(2 * length, "name")).decode("utf-16-le", "replace")
    data = bytes(reader.take(size, "data"))
    reader.expect_end("UEFI_VARIABLE_DATA")
    try:
        return VariableBody(vendor, name, data, _value(name, data))
    except MalformedEventLog as error:
        return VariableBody(vendor, name, data, None, str(error))


def _value(name: str, data: bytes) -> VariableValue:
    if not data:
        return Absent()
    if _ORDER.fullmatch(name):
        return _order(data)
    if _OPTION.fullmatch(name):
        return read_load_option(data)
    authority = read_authority(data)
    if authority is None and name in _DATABASES:
        return read_signature_lists(data)
    return authority or _plain(data)


def _plain(data: bytes) -> Flag | TextValue | None:
    if len(data) == 1:
        return Flag(data[0])
    return TextValue(decoded(data)) if is_text(data) else None


def _order(data: bytes) -> BootOrder:
    reader = Reader(data, origin="BootOrder", error=MalformedEventLog)
    count = len(data) // 2
    if count > _MAX_OPTIONS:
        raise reader.fail(f"{count} options where {_MAX_OPTIONS} are plenty", "BootOrder")
    numbers = tuple(reader.u16("option number") for _ in range(count))
    reader.expect_end("BootOrder")
    return BootOrder(numbers)


def read_load_option(data: bytes) -> LoadOption:
    """Read an EFI_LOAD_OPTION. Raises `MalformedEventLog`."""
    reader = Reader(data, origin="load option", error=MalformedEventLog)
    attributes, size = reader.u32("attributes"), reader.u16("length of device paths")
    description = wide_text(reader, "description")
    rest = bytes(reader.take(size, "device paths"))
    paths: list[DevicePath] = []
    while rest:
        path = read_device_path(rest, origin="load option", error=MalformedEventLog)
        if len(paths) == _MAX_PATHS:
            raise reader.fail(f"more than {_MAX_PATHS} device paths", "device paths")
        paths.append(path)
        rest = rest[len(rest) - path.rest :] if path.rest else b""
    return LoadOption(
        attributes, description, tuple(paths), bytes(reader.take(reader.remaining, "optional data"))
    )
