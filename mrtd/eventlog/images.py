"""Bodies of events about firmware blobs, tables and images that were loaded.

Source: TCG PC Client Platform Firmware Profile 1.06, 10.2.2 (UEFI_PLATFORM_FIRMWARE_BLOB and
_BLOB2), 10.2.3 (UEFI_IMAGE_LOAD_EVENT) and 10.2.4 (UEFI_HANDOFF_TABLE_POINTERS and _POINTERS2).
"""

from __future__ import annotations

import re
from typing import Final

import msgspec

from mrtd.errors import MalformedEventLog
from mrtd.eventlog.device_path import DevicePath, read_device_path
from mrtd.eventlog.guid_names import guid_name, guid_text
from mrtd.eventlog.text import decoded, printable
from mrtd.reader import Reader

_SHOWN: Final = 4
_VOLUME: Final = re.compile(r"Fv\(([0-9A-Fa-f-]{36})\)")


class ImageBody(msgspec.Struct, frozen=True):
    """An image that was loaded. Addresses are guest physical, sizes bytes."""

    address: int
    size: int
    link_time_address: int
    path: DevicePath

    def __str__(self) -> str:
        where = str(self.path) or "no device path: loaded from memory"
        return f"image {where} ({self.size} bytes)"


class BlobBody(msgspec.Struct, frozen=True):
    """A firmware blob: its name (empty in the older form), address and size in bytes."""

    name: str
    address: int
    size: int

    def __str__(self) -> str:
        volume = _VOLUME.fullmatch(self.name)
        named = f" {guid_name(volume[1].lower())}" if volume else ""
        shown = f"firmware volume{named}" if volume else printable(self.name) or "firmware blob"
        return f"{shown} at {self.address:#x} ({self.size} bytes)"


class Table(msgspec.Struct, frozen=True):
    """A configuration table: GUID as text, and its address."""

    guid: str
    address: int


class TablesBody(msgspec.Struct, frozen=True):
    """Tables that firmware hands over: their description (empty in the older form)."""

    name: str
    tables: tuple[Table, ...]

    def __str__(self) -> str:
        listed = [f"{guid_name(t.guid)} at {t.address:#x}" for t in self.tables[:_SHOWN]]
        more = ["..."] if len(self.tables) > _SHOWN else []
        return f"{printable(self.name) or 'tables'}: {', '.join([*listed, *more]) or 'none'}"


def read_image(body: bytes) -> ImageBody:
    """Read UEFI_IMAGE_LOAD_EVENT. Raises `MalformedEventLog`."""
    reader = Reader(body, origin="image event", error=MalformedEventLog)
    address, size, linked = (
        reader.u64(field) for field in ("image address", "image size", "link-time address")
    )
    length = reader.u64("length of device path")
    path = bytes(reader.take(length, "device path"))
    reader.expect_end("UEFI_IMAGE_LOAD_EVENT")
    return ImageBody(
        address, size, linked, read_device_path(path, origin="image event", error=MalformedEventLog)
    )


def read_blob(body: bytes) -> BlobBody:
    """Read UEFI_PLATFORM_FIRMWARE_BLOB. Raises `MalformedEventLog`."""
    reader = Reader(body, origin="firmware blob", error=MalformedEventLog)
    return _blob(reader, "")


def read_blob2(body: bytes) -> BlobBody:
    """Read UEFI_PLATFORM_FIRMWARE_BLOB2. Raises `MalformedEventLog`."""
    reader = Reader(body, origin="firmware blob", error=MalformedEventLog)
    return _blob(reader, _described(reader))


def _blob(reader: Reader, name: str) -> BlobBody:
    blob = BlobBody(name, reader.u64("blob address"), reader.u64("blob size"))
    reader.expect_end("UEFI_PLATFORM_FIRMWARE_BLOB")
    return blob


def read_tables(body: bytes) -> TablesBody:
    """Read UEFI_HANDOFF_TABLE_POINTERS. Raises `MalformedEventLog`."""
    return _tables(Reader(body, origin="handoff tables", error=MalformedEventLog), "")


def read_tables2(body: bytes) -> TablesBody:
    """Read UEFI_HANDOFF_TABLE_POINTERS2. Raises `MalformedEventLog`."""
    reader = Reader(body, origin="handoff tables", error=MalformedEventLog)
    return _tables(reader, _described(reader))


def _tables(reader: Reader, name: str) -> TablesBody:
    count = reader.u64("number of tables")
    if count * 24 != reader.remaining:
        raise reader.fail(f"{count}, {reader.remaining} bytes are left", "number of tables")
    tables = (
        Table(guid_text(reader.guid("table GUID")), reader.u64("table address"))
        for _ in range(count)
    )
    return TablesBody(name, tuple(tables))


def _described(reader: Reader) -> str:
    return decoded(bytes(reader.take(reader.u8("description size"), "description")))
