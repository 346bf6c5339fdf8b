"""A Snappy encoder for tests: google/snappy ``format_description.txt``, ``framing_format.txt``.

It shares no code with the decoder, so both would have to be wrong in the same way.
"""

from __future__ import annotations

STREAM = b"\xff\x06\x00\x00sNaPpY"


def literal(data: bytes) -> bytes:
    """Section 2.1: lengths up to 60 are in the tag, longer ones in 1 to 4 bytes behind it."""
    size = len(data) - 1
    if size < 60:
        return bytes([size << 2]) + data
    width = (size.bit_length() + 7) // 8
    return bytes([(59 + width) << 2]) + size.to_bytes(width, "little") + data


def copy(offset: int, length: int) -> bytes:
    """Section 2.2: the shortest of the three forms."""
    if 4 <= length <= 11 and offset < 1 << 11:
        return bytes([offset >> 8 << 5 | length - 4 << 2 | 1, offset & 0xFF])
    if offset < 1 << 16:
        return bytes([length - 1 << 2 | 2]) + offset.to_bytes(2, "little")
    return bytes([length - 1 << 2 | 3]) + offset.to_bytes(4, "little")


def varint(number: int) -> bytes:
    """Section 1: seven bits a byte, lowest first."""
    found = bytearray()
    while number >= 0x80:
        found.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*found, number])


def encode_block(data: bytes) -> bytes:
    """A raw block: greedy, with four bytes as the shortest match."""
    found, seen = bytearray(varint(len(data))), dict[bytes, int]()
    at = pending = 0
    while at < len(data):
        word = data[at : at + 4]
        before = seen.get(word) if len(word) == 4 else None
        seen[word] = at
        if before is None:
            at += 1
            continue
        length = 4
        while length < 64 and at + length < len(data):
            if data[before + length] != data[at + length]:
                break
            length += 1
        if pending < at:
            found += literal(data[pending:at])
        found += copy(at - before, length)
        at += length
        pending = at
    if pending < len(data):
        found += literal(data[pending:])
    return bytes(found)


def encode_frames(data: bytes, *, packed: bool = True) -> bytes:
    """A stream of chunks of 64 KiB, with a padding chunk in between."""
    found = bytearray(STREAM)
    for start in range(0, len(data), 1 << 16):
        piece = data[start : start + (1 << 16)]
        found += frame(
            0 if packed else 1, checksum(piece) + (encode_block(piece) if packed else piece)
        )
        found += frame(0xFE, bytes(3))
    return bytes(found)


def frame(kind: int, data: bytes) -> bytes:
    """A chunk: type, length, data."""
    return bytes([kind]) + len(data).to_bytes(3, "little") + data


def checksum(data: bytes) -> bytes:
    """CRC-32C, masked (framing_format.txt section 3); bit by bit."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0x82F63B78 * (crc & 1))
    crc ^= 0xFFFFFFFF
    rotated = (crc >> 15) | (crc << 17 & 0xFFFFFFFF)
    return ((rotated + 0xA282EAD8) % (1 << 32)).to_bytes(4, "little")
