"""A layer: a tar archive of which every byte follows from its files, compressed likewise.

Format: POSIX.1-2017, pax (ustar headers, with an extended header for what does not fit), RFC 1952.
Owner is root, times are zero, entries are sorted by name. The compressed bytes depend on zlib's
version, too (the archive's do not): an image names both digests.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from mrtd.errors import InputError

_BLOCK: Final = 512
_RECORD: Final = 20 * _BLOCK
_LONGEST_NAME: Final = 100
_GZIP_HEAD: Final = bytes.fromhex("1f8b08000000000000ff")
"""Deflate, no name, no time, of no known system."""
_FILE: Final = b"0"
_FOLDER: Final = b"5"
_EXTENDED: Final = b"x"


class MalformedLayer(InputError):
    """A file cannot be in a layer."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A regular file.

    Attributes:
        executable: mode 0755 instead of 0644.
    """

    data: bytes
    executable: bool = False


@dataclass(frozen=True, slots=True)
class Layer:
    """A layer's bytes.

    Attributes:
        compressed: gzip.
        diff_id: digest of the archive, ``sha256:...``.
        size: of the archive.
    """

    compressed: bytes
    diff_id: str
    size: int


def layer(files: Mapping[str, Entry], *, root: str) -> Layer:
    """A layer with files.

    Args:
        files: by absolute path.
        root: folders from here on are entries of their own; those above are the base image's.

    Raises:
        MalformedLayer: a path is relative or has parts that mean something else.
    """
    packer = zlib.compressobj(6, zlib.DEFLATED, -zlib.MAX_WBITS, 9)
    out = [_GZIP_HEAD]
    digest, crc, size = hashlib.sha256(), 0, 0
    for block in _archive(files, root):
        digest.update(block)
        crc = zlib.crc32(block, crc)
        size += len(block)
        out.append(packer.compress(block))
    out.append(packer.flush())
    out.append(crc.to_bytes(4, "little") + (size % 2**32).to_bytes(4, "little"))
    return Layer(b"".join(out), f"sha256:{digest.hexdigest()}", size)


def _archive(files: Mapping[str, Entry], root: str) -> Iterator[bytes]:
    size = 0
    for name, entry in sorted(_with_folders(files, root).items()):
        for block in _member(name, entry):
            size += len(block)
            yield block
    yield bytes(2 * _BLOCK + -(size + 2 * _BLOCK) % _RECORD)


def _with_folders(files: Mapping[str, Entry], root: str) -> dict[str, Entry | None]:
    """All entries by name, folders with a slash at the end."""
    found: dict[str, Entry | None] = {}
    for path, entry in files.items():
        parts = path.split("/")
        if parts[0] or len(parts) < 2 or set(parts[1:]) & {"", ".", ".."} or "\0" in path:
            raise MalformedLayer("is no absolute path of a file", origin=repr(path[:200]))
        if any(part.startswith(".wh.") for part in parts):  # a folder of that name does so, too
            raise MalformedLayer("would delete a file of the base", origin=repr(path[:200]))
        found[path[1:]] = entry
        for count in range(2, len(parts)):
            folder = "/".join(parts[:count])
            if folder == root or folder.startswith(f"{root}/"):
                found[f"{folder[1:]}/"] = None
    if both := [name for name in found if name.endswith("/") and name[:-1] in found]:
        raise MalformedLayer("is a file and a folder", origin=repr(both[0][:200]))
    return found


def _member(name: str, entry: Entry | None) -> Iterable[bytes]:
    encoded = name.encode("utf-8", "surrogateescape")
    if len(encoded) > _LONGEST_NAME or not encoded.isascii():
        record = _record(encoded)
        yield _header(b"PaxHeader", len(record), _EXTENDED, 0o644)
        yield _padded(record)
        encoded = encoded[:_LONGEST_NAME]
    if entry is None:
        yield _header(encoded, 0, _FOLDER, 0o755)
        return
    yield _header(encoded, len(entry.data), _FILE, 0o755 if entry.executable else 0o644)
    yield _padded(entry.data)


def _record(path: bytes) -> bytes:
    """``LENGTH path=VALUE`` and a newline, where the length counts its own digits, too."""
    rest = b" path=" + path + b"\n"
    length = len(rest) + len(str(len(rest)))
    length = len(rest) + len(str(length))
    return str(length).encode() + rest


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % _BLOCK)


def _header(name: bytes, size: int, kind: bytes, mode: int) -> bytes:
    """A ustar header: owner 0 without a name, time 0."""
    if size >= 8**11:
        raise MalformedLayer("is larger than 8 GiB", origin=repr(name))
    fields = (
        name.ljust(100, b"\0"),
        b"%07o\0" % mode,
        b"%07o\0" % 0,
        b"%07o\0" % 0,
        b"%011o\0" % size,
        b"%011o\0" % 0,
        b" " * 8,  # where the checksum will be
        kind,
        bytes(100),
        b"ustar\x0000",
        bytes(32),
        bytes(32),
        b"%07o\0" % 0,
        b"%07o\0" % 0,
        bytes(167),
    )
    head = b"".join(fields)
    return head[:148] + b"%06o\0 " % sum(head) + head[156:]
