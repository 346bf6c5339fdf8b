"""fw_cfg items: the directory of files, and reading an item by DMA.

Source: QEMU docs/specs/fw_cfg.rst ("Guest-side DMA Interface", "File Directory").
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

from mrtd.errors import ToolFailed
from mrtd.qemu.qtest import Qtest
from mrtd.reader import Reader

_ORIGIN: Final = "fw_cfg directory"
SIGNATURE: Final = 0
DIRECTORY: Final = 0x19
BOOT_MENU: Final = 0x0E
_MAX_FILES: Final = 1024
_MAX_BLOB: Final = 64 << 20
_DMA_PORT: Final = 0x514
_DMA_SELECT: Final = 8
_DMA_READ: Final = 2
_REQUEST_AT: Final = 0x10000  # in the first 640 KiB, which every machine has as RAM
_BUFFER_AT: Final = 0x20000
_BUFFER_SIZE: Final = 0x40000


@dataclass(frozen=True, slots=True)
class DirectoryEntry:
    """A file of the fw_cfg directory: its name, size in bytes and selector key."""

    name: str
    size: int
    key: int


def parse_directory(blob: bytes) -> tuple[DirectoryEntry, ...]:
    """The fw_cfg file directory (item 0x19): a count, then 64 bytes per file, all big-endian.

    Raises:
        ToolFailed: it breaks its format, names a file twice or has bytes left over.
    """
    reader = Reader(blob, origin=_ORIGIN, error=ToolFailed)
    count = int.from_bytes(reader.take(4, "count"), "big")
    if count > _MAX_FILES:
        raise reader.fail(f"{count} files, at most {_MAX_FILES} are believed", "count")
    entries: dict[str, DirectoryEntry] = {}
    for _ in range(count):
        size, key, _, raw = struct.unpack(">IHH56s", reader.take(64, "file"))
        name, _, padding = raw.partition(b"\0")
        if not name or any(padding) or not all(0x20 <= byte < 0x7F for byte in name):
            raise reader.fail(f"{raw!r} is no file name", "name")
        if name.decode() in entries:
            raise reader.fail(f"{name.decode()} is there twice", "name")
        if size > _MAX_BLOB:
            raise reader.fail(f"{name.decode()} has {size} bytes", "size")
        entries[name.decode()] = DirectoryEntry(name.decode(), size, key)
    reader.expect_end("directory")
    return tuple(entries.values())


def read_directory(qtest: Qtest) -> dict[str, DirectoryEntry]:
    """The files that a machine's fw_cfg has, by name. Raises `ToolFailed`."""
    count = int.from_bytes(read_item(qtest, DIRECTORY, 4), "big")
    blob = read_item(qtest, DIRECTORY, 4 + 64 * min(count, _MAX_FILES + 1))
    return {entry.name: entry for entry in parse_directory(blob)}


def read_item(qtest: Qtest, key: int, size: int) -> bytes:
    """Select an item and read its first bytes, by DMA. Raises `ToolFailed`."""
    blob = bytearray()
    control = key << 16 | _DMA_SELECT | _DMA_READ
    while len(blob) < size:
        length = min(size - len(blob), _BUFFER_SIZE)
        qtest.write(_REQUEST_AT, struct.pack(">IIQ", control, length, _BUFFER_AT))
        qtest.outl(_DMA_PORT, 0)
        qtest.outl(_DMA_PORT + 4, int.from_bytes(struct.pack(">I", _REQUEST_AT), "little"))
        left = int.from_bytes(qtest.read(_REQUEST_AT, 4), "big")
        if left:
            raise ToolFailed(f"DMA of item {key:#x} ended with {left:#x}", origin="fw_cfg")
        blob += qtest.read(_BUFFER_AT, length)
        control = _DMA_READ
    return bytes(blob)
