"""The header of a qcow2 image, and what is refused by it.

Source: QEMU ``docs/interop/qcow2.rst`` ("Header", "Additional fields", "Header extensions").
All integers are big-endian. Limits that the format leaves open are those of ``block/qcow2.h``.
"""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass
from typing import Final, Literal

from mrtd.errors import MalformedDisk

HEADER_V3: Final = 104
_HEADER_V2: Final = 72
_FIELDS: Final = struct.Struct(">4sIQIIQIIQQIIQ")
_MAGIC: Final = b"QFI\xfb"
_CLUSTER_BITS: Final = range(9, 22)
_MAX_L1: Final = 32 << 20
_MAX_NAME: Final = 1023
_MAX_REFCOUNT_ORDER: Final = 6
_SECTOR: Final = 512

_DIRTY, _CORRUPT, _DATA_FILE, _COMPRESSION, _EXTENDED_L2 = (1 << bit for bit in range(5))
_KNOWN: Final = _DIRTY | _CORRUPT | _DATA_FILE | _COMPRESSION | _EXTENDED_L2
_EXTENDED_MIN_BITS: Final = 14

_BACKING_FORMAT: Final = 0xE2792ACA

_COMPRESSIONS: Final[dict[int, Literal["zlib", "zstd"]]] = {0: "zlib", 1: "zstd"}


@dataclass(frozen=True, slots=True)
class Qcow2Header:
    """What reading an image needs.

    Attributes:
        version: 2 or 3.
        cluster_bits: two to their power is the size of a cluster.
        size: bytes that the guest sees.
        l1_offset: where the active L1 table is.
        l1_size: entries of it that the size needs.
        compression: how compressed clusters are packed.
        extended_l2: whether L2 entries have 16 bytes, with a bitmap of subclusters.
        backing: file name, as it stands in the header; None without one.
        backing_format: its format, as it is declared; None if it is not.
        dirty: whether the image was not closed; its reference counts may be wrong, its data not.
    """

    version: int
    cluster_bits: int
    size: int
    l1_offset: int
    l1_size: int
    compression: Literal["zlib", "zstd"]
    extended_l2: bool
    backing: str | None
    backing_format: str | None
    dirty: bool


def cluster_size(start: bytes, *, origin: str) -> int:
    """Bytes of the first cluster, which holds all of the header, by its first 24 bytes.

    Raises:
        MalformedDisk: it is no qcow2 image.
    """
    if start[:4] != _MAGIC:
        raise MalformedDisk("is not 'QFI\\xfb'", origin=origin, offset=0, field="qcow2 magic")
    bits = int.from_bytes(start[20:24], "big")
    if bits not in _CLUSTER_BITS:
        raise MalformedDisk(
            f"{bits} is not 9 to 21", origin=origin, offset=20, field="cluster bits"
        )
    return 1 << bits


def read_header(data: bytes, *, origin: str) -> Qcow2Header:
    """Read a header.

    Args:
        data: the first cluster of the file, or all of a file that is shorter.
        origin: the file, for messages.

    Raises:
        MalformedDisk: it breaks the format; or the image is encrypted, keeps its data in another
            file, is marked as corrupt or needs a feature that is not known here.
    """
    cluster = cluster_size(data, origin=origin)
    if len(data) < _HEADER_V2:
        raise MalformedDisk("the header is cut off", origin=origin, offset=len(data))
    fields = _FIELDS.unpack_from(data)
    version, name_at, name_size, bits, size, crypt, l1_count, l1_offset = fields[1:9]
    if version not in {2, 3}:
        raise _fail(origin, 4, "version", f"{version} is not 2 or 3")
    if crypt:
        raise _fail(origin, 32, "encryption", "encrypted images are not read", "decrypt it first")
    features, length, packed = _read_v3(data, cluster, origin) if version == 3 else (0, 72, 0)
    _check_features(features, packed, bits, origin)
    extended = bool(features & _EXTENDED_L2)
    l1_size = _check_sizes(size, bits, extended=extended, origin=origin)
    if l1_count < l1_size:
        raise _fail(origin, 36, "L1 size", f"{l1_count} entries, {size:#x} bytes need {l1_size}")
    if l1_offset % cluster or (l1_size and l1_offset < cluster):
        raise _fail(origin, 40, "L1 offset", f"{l1_offset:#x} is not that of another cluster")
    return Qcow2Header(
        version,
        bits,
        size,
        l1_offset,
        l1_size,
        _COMPRESSIONS[packed],
        extended,
        _backing_name(data, name_at, name_size, length, origin) if name_at else None,
        _backing_format(data, length, name_at or len(data), origin),
        bool(features & _DIRTY),
    )


def _fail(origin: str, at: int, field: str, message: str, hint: str | None = None) -> MalformedDisk:
    return MalformedDisk(message, origin=origin, offset=at, field=field, hint=hint)


def _read_v3(data: bytes, cluster: int, origin: str) -> tuple[int, int, int]:
    """Incompatible features, length of the header, compression type."""
    if len(data) < HEADER_V3:
        raise _fail(origin, len(data), "header", "is cut off")
    features = int.from_bytes(data[72:80], "big")
    order, length = struct.unpack_from(">II", data, 96)
    if order > _MAX_REFCOUNT_ORDER:
        raise _fail(origin, 96, "refcount order", f"{order} is more than {_MAX_REFCOUNT_ORDER}")
    if not HEADER_V3 <= length <= min(cluster, len(data)) or length % 8:
        raise _fail(origin, 100, "header length", f"{length} is less than 104, or odd, or too long")
    return features, length, data[104] if length > HEADER_V3 else 0


def _check_features(features: int, packed: int, bits: int, origin: str) -> None:
    """Refuse what would make the data other than what the tables say."""
    if unknown := features & ~_KNOWN:
        names = ", ".join(str(bit) for bit in range(64) if unknown >> bit & 1)
        raise _fail(origin, 72, "incompatible features", f"bits {names} are not known")
    if features & _CORRUPT:
        hint = "qemu-img check -r all"
        raise _fail(origin, 72, "incompatible features", "the image is marked as corrupt", hint)
    if features & _DATA_FILE:
        hint = "qemu-img convert makes one file of it"
        raise _fail(origin, 72, "incompatible features", "the data are in another file", hint)
    if bool(features & _COMPRESSION) != bool(packed) or packed not in _COMPRESSIONS:
        raise _fail(origin, 104, "compression type", f"{packed} is not known, or not announced")
    if features & _EXTENDED_L2 and bits < _EXTENDED_MIN_BITS:
        raise _fail(origin, 20, "cluster bits", f"{bits} are too few for subclusters")


def _check_sizes(size: int, bits: int, *, extended: bool, origin: str) -> int:
    """How many L1 entries a disk needs: L2 tables have one cluster."""
    if size % _SECTOR:
        raise _fail(origin, 24, "size", f"{size:#x} is not a multiple of {_SECTOR}")
    per_table = 1 << bits - (4 if extended else 3)
    needed = -(-size // (per_table << bits))
    if needed * 8 > _MAX_L1:
        raise _fail(origin, 24, "size", f"{size:#x} is more than clusters of {1 << bits} allow")
    return needed


def _backing_name(data: bytes, at: int, size: int, length: int, origin: str) -> str:
    if not 0 < size <= _MAX_NAME or not length <= at <= len(data) - size:
        raise _fail(origin, 8, "backing file", f"{size} bytes at {at:#x} are not in the header")
    return os.fsdecode(data[at : at + size])


def _backing_format(data: bytes, at: int, end: int, origin: str) -> str | None:
    """The declared format of the backing file, from the header extensions."""
    end = min(end, len(data))
    while at + 8 <= end:
        kind, size = struct.unpack_from(">II", data, at)
        at += 8
        if not kind:
            break
        if size > end - at:
            raise _fail(origin, at, "header extension", f"{size} bytes, {end - at} are left")
        if kind == _BACKING_FORMAT:
            return data[at : at + size].decode("ascii", "replace")
        at += -(-size // 8) * 8
    return None
