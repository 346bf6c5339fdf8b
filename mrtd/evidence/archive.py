"""Zip files, read strictly and written so that the same files give the same bytes.

Only what a bundle needs: plain files, stored or deflated. Everything that readers of zip files
disagree about is refused: bytes before, between or after the parts, comments, names that come
twice, local headers that differ from the central directory, encryption, zip64, links.

Source: PKWARE APPNOTE 6.3.10, sections 4.3.7 (local header), 4.3.12 (central directory header) and
4.3.16 (end of central directory record).
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping
from typing import Final

import msgspec

from mrtd.errors import MalformedBundle
from mrtd.reader import Reader

SIZE_LIMIT: Final = 64 << 20
"""The files of an archive have no more bytes than this, all together."""
FILES_LIMIT: Final = 128

_LOCAL: Final = b"PK\x03\x04"
_CENTRAL: Final = b"PK\x01\x02"
_END: Final = b"PK\x05\x06"
_END_SIZE: Final = 22
_STORED: Final = 0
_DEFLATED: Final = 8
_UTF8: Final = 1 << 11
_SIZES_FOLLOW: Final = 1 << 3  # sizes are in a data descriptor behind the data, too
_LEVEL: Final = 0b110
_FLAGS: Final = _UTF8 | _SIZES_FOLLOW | _LEVEL
_UNIX: Final = 3
_FILE_TYPE: Final = 0o170000
_REGULAR: Final = (0, 0o100000)
_NAME_LIMIT: Final = 255

_VERSION: Final = 20
_DATE: Final = 0x21  # 1980-01-01, the first day of the format
_MODE: Final = 0o100644


class _Entry(msgspec.Struct, frozen=True):
    """An entry of the central directory; ``offset`` is its local header's."""

    name: str
    flags: int
    method: int
    crc: int
    packed: int
    size: int
    offset: int


def read_archive(data: bytes | memoryview, *, origin: str) -> dict[str, bytes]:
    """The files of a zip archive by name.

    Raises:
        MalformedBundle: the archive breaks the format, or holds more than plain files of at most
            `SIZE_LIMIT` bytes together.
    """
    view = memoryview(data)
    entries = list(_directory(view, origin))
    if (total := sum(entry.size for entry in entries)) > SIZE_LIMIT:
        raise MalformedBundle(f"unpacks to {total} bytes, more than {SIZE_LIMIT}", origin=origin)
    files: dict[str, bytes] = {}
    position = 0
    for entry in sorted(entries, key=lambda entry: entry.offset):
        if entry.name in files:
            raise MalformedBundle(f"{entry.name!r} comes twice", origin=origin)
        files[entry.name], position = _file(view, entry, position, origin)
    directory = _end(view, origin)[1]
    if position != directory:
        raise MalformedBundle("bytes that belong to no file", origin=origin, offset=position)
    return {entry.name: files[entry.name] for entry in entries}


def _end(view: memoryview, origin: str) -> tuple[int, int]:
    """Number of entries, and offset of the central directory."""
    start = len(view) - _END_SIZE
    if start < 0 or bytes(view[start : start + 4]) != _END:
        raise MalformedBundle(
            "no zip archive, or cut off, or with something behind its end", origin=origin
        )
    reader = Reader(view[start + 4 :], origin=origin, error=MalformedBundle, base=start + 4)
    disks = reader.u16("disk"), reader.u16("disk of the directory")
    count = reader.u16("entries on this disk")
    if disks != (0, 0) or reader.u16("entries") != count:
        raise reader.fail("is one of several disks", "end of central directory")
    if count > FILES_LIMIT:
        raise reader.fail(f"{count} files, more than {FILES_LIMIT}", "entries")
    size, offset = reader.u32("directory size"), reader.u32("directory offset")
    if offset + size != start:
        raise reader.fail("the directory does not end where its end record starts", "directory")
    if reader.u16("comment length"):
        raise reader.fail("has a comment", "comment length")
    return count, offset


def _directory(view: memoryview, origin: str) -> Iterator[_Entry]:
    count, offset = _end(view, origin)
    data = view[offset : len(view) - _END_SIZE]
    reader = Reader(data, origin=origin, error=MalformedBundle, base=offset)
    for _ in range(count):
        if bytes(reader.take(4, "signature")) != _CENTRAL:
            raise reader.fail("no central directory header", "signature")
        system = reader.u16("version made by") >> 8
        reader.u16("version needed")
        flags, method = reader.u16("flags"), reader.u16("method")
        if flags & ~_FLAGS:
            raise reader.fail(f"{flags:#x}: encrypted, or of an unknown kind", "flags")
        if method not in {_STORED, _DEFLATED}:
            raise reader.fail(f"{method} is neither stored (0) nor deflated (8)", "method")
        reader.u32("time and date")
        crc, packed, size = reader.u32("CRC-32"), reader.u32("packed size"), reader.u32("size")
        name_size, extra, comment = (
            reader.u16(f"length of {w}") for w in ("name", "extra", "comment")
        )
        if reader.u16("disk"):
            raise reader.fail("is on another disk", "disk")
        reader.u16("internal attributes")
        mode = reader.u32("external attributes") >> 16
        if system == _UNIX and mode & _FILE_TYPE not in _REGULAR:
            raise reader.fail(f"{mode:o} is no plain file", "external attributes")
        start = reader.u32("offset of local header")
        name = _name(reader, name_size)
        reader.take(extra + comment, "extra field and comment")
        yield _Entry(name, flags, method, crc, packed, size, start)
    reader.expect_end("central directory")


def _name(reader: Reader, size: int) -> str:
    if size > _NAME_LIMIT:
        raise reader.fail(f"{size} bytes, more than {_NAME_LIMIT}", "name")
    try:
        return bytes(reader.take(size, "name")).decode("ascii")
    except UnicodeDecodeError as error:
        raise reader.fail("is not ASCII", "name") from error


def _file(view: memoryview, entry: _Entry, position: int, origin: str) -> tuple[bytes, int]:
    """Content of a file whose local header has to be at ``position``, and where it ends."""
    if entry.offset != position:
        raise MalformedBundle(
            f"{entry.name!r}: files overlap, or have bytes between them",
            origin=origin,
            offset=position,
        )
    reader = Reader(view[position:], origin=origin, error=MalformedBundle, base=position)
    if bytes(reader.take(4, "signature")) != _LOCAL:
        raise reader.fail("no local header", "signature")
    reader.u16("version needed")
    same = reader.u16("flags") == entry.flags and reader.u16("method") == entry.method
    reader.u32("time and date")
    sums = reader.u32("CRC-32"), reader.u32("packed size"), reader.u32("size")
    lengths = reader.u16("length of name"), reader.u16("length of extra")
    name = bytes(reader.take(lengths[0], "name"))
    follow = bool(entry.flags & _SIZES_FOLLOW)
    expected = (entry.crc, entry.packed, entry.size)
    if not same or name != entry.name.encode() or sums not in {expected, *([(0, 0, 0)] * follow)}:
        raise reader.fail("differs from the central directory", "local header")
    reader.take(lengths[1], "extra field")
    body = _unpacked(reader.take(entry.packed, entry.name), entry, origin)
    if follow:
        _descriptor(reader, expected)
    return body, position + reader.offset


def _descriptor(reader: Reader, expected: tuple[int, int, int]) -> None:
    """The data descriptor, whose signature is optional (4.3.9.3)."""
    first = reader.u32("data descriptor")
    if first == int.from_bytes(b"PK\x07\x08", "little"):
        first = reader.u32("CRC-32")
    if (first, reader.u32("packed size"), reader.u32("size")) != expected:
        raise reader.fail("differs from the central directory", "data descriptor")


def _unpacked(packed: memoryview, entry: _Entry, origin: str) -> bytes:
    def refuse(why: str) -> MalformedBundle:
        return MalformedBundle(why, origin=origin, field=entry.name)

    body = bytes(packed)
    if entry.method == _DEFLATED:
        inflate = zlib.decompressobj(-zlib.MAX_WBITS)
        try:
            # one byte more than announced, so that more is noticed and never unpacked
            body = inflate.decompress(packed, entry.size + 1)
        except zlib.error as error:
            raise refuse(f"cannot be unpacked: {error}") from error
        if not inflate.eof or inflate.unused_data:
            raise refuse("does not unpack to the size that is announced")
    if len(body) != entry.size:
        raise refuse(f"{len(body)} bytes where {entry.size} are announced")
    if zlib.crc32(body) != entry.crc:
        raise refuse("is damaged: wrong CRC-32")
    return body


def write_archive(files: Mapping[str, bytes]) -> bytes:
    """A zip archive: files in the given order, stored, of 1980-01-01, mode 0644.

    They are not compressed, since what deflate gives depends on the library's version.
    """
    parts: list[bytes] = []
    directory: list[bytes] = []
    offset = 0
    for path, body in files.items():
        name = path.encode("ascii")
        common = b"".join(
            (
                _le(2, _VERSION, 0, _STORED, 0, _DATE),
                _le(4, zlib.crc32(body), len(body), len(body)),
                _le(2, len(name), 0),
            )
        )
        # comment length, disk, internal attributes; external attributes, offset
        rest = _le(2, 0, 0, 0) + _le(4, _MODE << 16, offset)
        directory += [_CENTRAL, _le(2, _UNIX << 8 | _VERSION), common, rest, name]
        local = (_LOCAL, common, name, body)
        parts += local
        offset += sum(map(len, local))
    size = sum(map(len, directory))
    count = len(files)
    end = _END + _le(2, 0, 0, count, count) + _le(4, size, offset) + _le(2, 0)
    return b"".join((*parts, *directory, end))


def _le(size: int, *values: int) -> bytes:
    return b"".join(value.to_bytes(size, "little") for value in values)
