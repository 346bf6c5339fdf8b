"""The names in the root folder of an ISO 9660 file system, which config disks are.

Source: ECMA-119, 8.4 (primary volume descriptor), 9.1 (directory records). Names of extensions
(Rock Ridge, Joliet) are not read: the plain name is always there.
"""

from __future__ import annotations

from typing import Final

from mrtd.disk.image import Disk
from mrtd.errors import MalformedDisk
from mrtd.reader import Reader

_SECTOR: Final = 2048
_DESCRIPTOR: Final = 16 * _SECTOR
_ROOT: Final = 156  # of the descriptor: the root's directory record
_EXTENT: Final = 2  # of a record: u32 first block, and again in the other byte order
_SIZE: Final = 10
_NAME: Final = 32
_MAX_ROOT: Final = 1 << 20


def root_names(disk: Disk) -> tuple[str, ...]:
    """Names in the root folder, in lower case, without versions. Raises `MalformedDisk`."""
    descriptor = disk.read(_DESCRIPTOR, _SECTOR)
    if descriptor[:6] != b"\x01CD001":
        raise MalformedDisk("no primary volume descriptor", origin=disk.origin, field="ISO 9660")
    root = descriptor[_ROOT:]
    start, size = (int.from_bytes(root[at : at + 4], "little") for at in (_EXTENT, _SIZE))
    if size > _MAX_ROOT or start * _SECTOR + size > disk.size:
        raise MalformedDisk(
            f"the root folder has {size} bytes at block {start}", origin=disk.origin,
            field="ISO 9660 root",
        )  # fmt: skip
    folder = disk.read(start * _SECTOR, size)
    names: list[str] = []
    for block in range(0, size, _SECTOR):
        reader = Reader(
            folder[block : block + _SECTOR], origin=disk.origin, error=MalformedDisk, base=block
        )
        while reader.remaining and folder[block + reader.offset]:
            length = reader.u8("directory record")
            record = bytes(reader.take(length - 1, "directory record"))
            if len(record) < _NAME + 1 or len(record) < _NAME + record[_NAME - 1]:
                raise reader.fail("is cut off", "directory record")
            names.append(_plain(record[_NAME : _NAME + record[_NAME - 1]]))
    return tuple(name for name in names if name)


def _plain(raw: bytes) -> str:
    """A file identifier without version; empty for the folder itself and the one above."""
    if raw in {b"\0", b"\1"}:
        return ""
    return raw.decode("ascii", "replace").partition(";")[0].rstrip(".").lower()
