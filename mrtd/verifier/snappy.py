"""Snappy, as GitHub's attestation blobs are packed; a decoder only.

Sources: google/snappy ``format_description.txt`` (raw blocks) and ``framing_format.txt`` (streams).
The blobs are raw blocks (``Content-Type: application/x-snappy``); the other two forms are read
because the type does not tell them apart.
"""

from __future__ import annotations

from typing import Final

from mrtd.errors import InputError

_STREAM: Final = b"\xff\x06\x00\x00sNaPpY"  # framing_format.txt 4.1: chunk type, length, name
_CHUNK_LIMIT: Final = 1 << 16  # framing_format.txt 4.2: data of a chunk, unpacked
_MASK: Final = 0xA282EAD8  # framing_format.txt 3
_SPACE: Final = b" \t\r\n"


class MalformedSnappy(InputError):
    """Snappy data breaks its format, or unpacks to more than is allowed."""


def decode_bundle_body(body: bytes, *, limit: int) -> bytes:
    """The JSON of a bundle: from a framed stream, from a raw block, or as it is.

    A raw block that begins like JSON would be one of 123 bytes or less, which is no bundle.

    Args:
        body: of the answer.
        limit: largest size unpacked, in bytes.

    Raises:
        MalformedSnappy: see there.
    """
    if body.startswith(_STREAM):
        return decode_frames(body, limit=limit)
    if body.lstrip(_SPACE).startswith(b"{"):
        if len(body) > limit:
            raise MalformedSnappy(f"{len(body)} bytes, more than {limit}", origin="bundle")
        return body
    return decode_block(body, limit=limit)


def decode_block(data: bytes, *, limit: int) -> bytes:
    """Unpack a raw block (format_description.txt). Raises `MalformedSnappy`."""
    size, at = _preamble(data)
    if size > limit:
        raise _malformed(f"declares {size} bytes, more than {limit}", 0)
    found = bytearray()
    while at < len(data):
        start, tag = at, data[at]
        at += 1 + _EXTRA[tag]
        number = int.from_bytes(data[start + 1 : at], "little")
        if tag & 3 == 0:  # 2.1: a literal; its length is less by one
            length, offset = 1 + (number if _EXTRA[tag] else tag >> 2), 0
            piece = data[at : at + length]
            at += length
        elif tag & 3 == 1:  # 2.2.1: a copy with 3 bits of length, 3 upper bits of the offset
            length, offset = 4 + (tag >> 2 & 7), (tag >> 5) << 8 | number
        else:  # 2.2.2, 2.2.3: a copy with 6 bits of length
            length, offset = 1 + (tag >> 2), number
        if at > len(data):
            raise _malformed("ends inside an element", start)
        if length > size - len(found):
            raise _malformed("is longer than it declares", start)
        found += _copy(found, length, offset, start) if tag & 3 else piece
    if len(found) != size:
        raise _malformed(f"has {len(found)} bytes and declares {size}", len(data))
    return bytes(found)


def _copy(found: bytearray, length: int, offset: int, start: int) -> bytes:
    """``length`` bytes from ``offset`` back; it may overlap what it makes, which repeats it."""
    if not 0 < offset <= len(found):
        raise _malformed(f"copies from {offset} bytes back, at {len(found)}", start)
    end = len(found) - offset + length
    pattern = bytes(found[len(found) - offset : end])
    return (pattern * -(-length // len(pattern)))[:length]


def decode_frames(data: bytes, *, limit: int) -> bytes:
    """Unpack a stream (framing_format.txt). Raises `MalformedSnappy`."""
    if not data.startswith(_STREAM):
        raise _malformed("does not begin with a stream identifier", 0)
    found, at = bytearray(), 0
    while at < len(data):
        start, kind = at, data[at]
        at += 4 + int.from_bytes(data[at + 1 : at + 4], "little")
        if at > len(data) or at < start + 4 or len(data) < start + 4:
            raise _malformed("ends inside a chunk", start)
        chunk = data[start + 4 : at]
        if kind == 0xFF:
            if data[start:at] != _STREAM:
                raise _malformed("is another stream identifier", start)
        elif kind <= 1:
            found += _chunk(chunk, kind, min(_CHUNK_LIMIT, limit - len(found)), start)
        elif kind < 0x80:  # 4.5: reserved, must not be skipped; 4.4, 4.6: the others are
            raise _malformed(f"has a chunk of unknown type {kind:#x}", start)
    return bytes(found)


def _chunk(chunk: bytes, kind: int, limit: int, start: int) -> bytes:
    """Data of a chunk: 0, compressed (4.2), or 1, not (4.3)."""
    if len(chunk) < 4:
        raise _malformed("has a chunk without checksum", start)
    found = decode_block(chunk[4:], limit=limit) if kind == 0 else chunk[4:]
    if len(found) > limit:
        raise _malformed(f"has more than {limit} bytes left", start)
    if masked_crc32c(found) != int.from_bytes(chunk[:4], "little"):
        raise _malformed("has a chunk with a wrong checksum", start)
    return found


def masked_crc32c(data: bytes) -> int:
    """The checksum of a chunk (framing_format.txt 3): CRC-32C of RFC 3720, rotated and added to."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = crc >> 8 ^ _CRC32C[(crc ^ byte) & 0xFF]
    crc ^= 0xFFFFFFFF
    return ((crc >> 15 | crc << 17) + _MASK) & 0xFFFFFFFF


def _preamble(data: bytes) -> tuple[int, int]:
    """The unpacked length, and where it ends (format_description.txt 1: varint, below 2**32)."""
    size = 0
    for at, byte in enumerate(data[:5]):
        size |= (byte & 0x7F) << 7 * at
        if byte < 0x80:
            if size >> 32:
                break
            return size, at + 1
    raise _malformed("has no length below 2**32", 0)


def _extra(tag: int) -> int:
    """How many bytes of length or offset follow a tag."""
    if tag & 3 == 0:
        return max(0, (tag >> 2) - 59)
    return (0, 1, 2, 4)[tag & 3]


def _table_entry(value: int) -> int:
    for _ in range(8):
        value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)  # Castagnoli, reversed
    return value


_EXTRA: Final = tuple(_extra(tag) for tag in range(256))
_CRC32C: Final = tuple(_table_entry(byte) for byte in range(256))


def _malformed(message: str, offset: int) -> MalformedSnappy:
    return MalformedSnappy(message, origin="snappy", offset=offset)
