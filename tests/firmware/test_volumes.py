"""Firmware volumes: what is unpacked, and that hostile images are refused within bounds."""

from __future__ import annotations

import lzma
import struct
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fixtures import volumes as build
from fixtures.guid import guid
from fixtures.tdvf import build_tdvf
from fixtures.volumes import FFS2, LZMA, VOLUME_HEADER, Module
from mrtd.errors import MalformedFirmware
from mrtd.firmware.volumes import Contents, unpack_firmware
from tests.conftest import DebianParts
from tests.strategies import hostile, refused

DRIVER, RAW_FILE, PAD = 0x07, 0x01, 0xF0
NAME, VOLUME_IMAGE, RAW_SECTION = 0x15, 0x17, 0x19
FILE_GUID = bytes(range(16))
FFS3 = guid("5473c07a-3dcb-4dca-bd6f-1e9689e7349a")


def unpack(image: bytes) -> Contents:
    return unpack_firmware(memoryview(image), origin="OVMF.fd")


def refusal(image: bytes) -> str:
    with pytest.raises(MalformedFirmware) as caught:
        unpack(image)
    assert caught.value.offset is not None
    assert caught.value.field is not None
    return str(caught.value)


def name_section(name: str) -> bytes:
    return build.section(NAME, (name + "\0").encode("utf-16-le"))


def volume_of(*sections: bytes, kind: int = DRIVER, size: int = 0x2000) -> bytes:
    """A volume with one file of these sections."""
    return build.volume(build.file(kind, FILE_GUID, b"".join(sections)), size)


@pytest.mark.parametrize("compressed", [True, False])
def test_modules_are_found_by_name(compressed: bool) -> None:  # noqa: FBT001 - parametrised
    modules = [Module("TdTcg2Dxe", b"strings"), Module("BdsDxe"), Module("", b"nameless")]
    contents = unpack(build_tdvf(modules=modules, compressed=compressed))
    assert contents.names() >= {"TdTcg2Dxe", "BdsDxe", ""}
    assert len(contents.unpacked) == int(compressed)
    inner = {m.name: m.volume for m in contents.modules}
    assert inner["TdTcg2Dxe"] == inner["BdsDxe"] == len(contents.volumes) - 1


@given(
    st.lists(
        st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\0"), max_size=20),
        max_size=5,
    )
)
def test_any_module_names_read_back(names: list[str]) -> None:
    image = build_tdvf(modules=[Module(name) for name in names])
    found = unpack(image)
    last = len(found.volumes) - 1
    expected = [name.rstrip("\0") for name in names]
    if expected:
        assert [m.name for m in found.modules if m.volume == last] == expected


def test_strings_are_found_in_plain_volumes_and_in_unpacked_ones() -> None:
    image = build_tdvf(modules=[Module("A", b"inside" * 50)])
    contents = unpack(image)
    assert b"insideinside" not in image
    assert contents.holds(b"insideinside")
    assert contents.holds(b"_FVH")  # of the CFV
    assert not contents.holds(b"nowhere")
    plain = unpack(build_tdvf(modules=[Module("A", b"inside" * 50)], compressed=False))
    assert plain.unpacked == ()
    assert plain.holds(b"insideinside")


def test_file_guids_are_kept() -> None:
    module = Module("A", file_guid=FILE_GUID)
    assert FILE_GUID in {m.guid for m in unpack(build_tdvf(modules=[module])).modules}


def test_an_image_without_volumes_has_no_contents() -> None:
    assert unpack(b"") == unpack(bytes(100)) == Contents((), (), (), ())


@pytest.mark.parametrize("kind", [RAW_FILE, PAD])
def test_raw_and_pad_files_are_not_searched_for_sections(kind: int) -> None:
    (module,) = unpack(volume_of(b"\xff" * 8, kind=kind)).modules
    assert module.name == ""


def test_the_signature_alone_is_no_volume() -> None:
    for image in (b"_FVH", bytes(40) + b"_FVH", bytes(40) + b"_FVH" + bytes(100), b"_FVH" * 100):
        assert unpack(image).modules == ()


def test_a_volume_of_an_unknown_file_system_is_not_walked() -> None:
    inner = volume_of(name_section("A"))
    outer = build.volume(bytes(0x1000 - VOLUME_HEADER) + inner, 0x4000, file_system=bytes(16))
    found = unpack(outer)
    assert [len(v) for v in found.volumes] == [0x4000, 0x2000]  # but what stands in it is found
    assert found.names() == {"A"}


def test_volumes_follow_each_other() -> None:
    image = volume_of(name_section("A")) + volume_of(name_section("B"))
    assert [m.name for m in unpack(image).modules] == ["A", "B"]


def test_files_begin_after_an_extended_header() -> None:
    volume = bytearray(
        build.volume(bytes(0x38) + build.file(DRIVER, FILE_GUID, name_section("A")), 0x1000)
    )
    volume[52:54] = (0x60).to_bytes(2, "little")  # extended header right after the name space
    volume[0x60 + 16 : 0x60 + 20] = (0x20).to_bytes(4, "little")
    assert [m.name for m in unpack(bytes(volume)).modules] == ["A"]


def test_an_extended_header_outside_of_its_volume_is_refused() -> None:
    volume = bytearray(volume_of(name_section("A"), size=0x1000))
    volume[52:54] = (0xFF0).to_bytes(2, "little")
    assert "OVMF.fd+0x0: extended header offset: 0xff0 is outside" in refusal(bytes(volume))


def test_large_files_have_a_64_bit_size() -> None:
    body = name_section("Large")
    size = 32 + len(body)
    head = bytearray(build.file(DRIVER, FILE_GUID, b""))
    head[19] |= 1
    head[20:23] = bytes(3)
    large = bytes(head[:24]) + struct.pack("<Q", size) + body
    volume = build.volume(large, 0x1000, file_system=FFS3)
    assert unpack(volume).names() == {"Large"}
    broken = volume.replace(struct.pack("<Q", size), struct.pack("<Q", 1 << 63))
    assert "+0x48: firmware file size: 0x8000000000000000 bytes do not fit" in refusal(broken)


def test_large_sections_have_a_32_bit_size() -> None:
    text = "Large\0".encode("utf-16-le")
    section = b"\xff\xff\xff" + bytes([NAME]) + struct.pack("<I", 8 + len(text)) + text
    assert unpack(volume_of(section)).names() == {"Large"}
    endless = b"\xff\xff\xff" + bytes([NAME]) + b"\xff\xff\xff\xff" + text
    assert "firmware section size: 0xffffffff bytes do not fit" in refusal(volume_of(endless))


@pytest.mark.parametrize("size", [0, 23, 0xFFFFFF])
def test_a_file_size_that_cannot_be_is_refused(size: int) -> None:
    volume = bytearray(volume_of(name_section("A")))
    volume[VOLUME_HEADER + 20 : VOLUME_HEADER + 23] = size.to_bytes(3, "little")
    text = refusal(bytes(volume))
    assert f"OVMF.fd+0x48: firmware file size: {size:#x} bytes do not fit" in text


@pytest.mark.parametrize("size", [0, 3, 0x1000])
def test_a_section_size_that_cannot_be_is_refused(size: int) -> None:
    section = size.to_bytes(3, "little") + bytes([RAW_SECTION]) + bytes(12)
    text = refusal(volume_of(section))
    assert f"OVMF.fd+0x0: firmware section size: {size:#x} bytes do not fit" in text


def nested_volumes(depth: int) -> bytes:
    inner = build.volume(b"", 0x1000)
    for _ in range(depth):
        body = build.file(DRIVER, FILE_GUID, build.section(VOLUME_IMAGE, inner))
        size = -(-(len(body) + VOLUME_HEADER) // 0x1000) * 0x1000
        inner = build.volume(body, size)
    return inner


def nested_lzma(depth: int) -> bytes:
    inner = name_section("A")
    for _ in range(depth):
        inner = build.lzma_section(inner)
    return volume_of(inner, size=0x4000)


@pytest.mark.parametrize(
    ("nest", "field"), [(nested_volumes, "firmware volume"), (nested_lzma, "LZMA section")]
)
def test_nesting_ends_at_a_depth(nest: Callable[[int], bytes], field: str) -> None:
    assert unpack(nest(10)).modules
    assert f"{field}: nested too deeply" in refusal(nest(20))


def test_a_volume_section_that_is_too_short_for_a_volume_is_skipped_or_refused() -> None:
    assert unpack(volume_of(build.section(VOLUME_IMAGE, bytes(20)))).names() == {""}
    assert "firmware volume" in refusal(volume_of(build.section(VOLUME_IMAGE, bytes(4))))


def guided(stream: bytes) -> bytes:
    return build.section(0x02, LZMA + struct.pack("<HH", 24, 1) + stream)


def lzma_stream(content: bytes, *, size: int | None = None) -> bytes:
    stream = bytearray(lzma.compress(content, lzma.FORMAT_ALONE, preset=1))
    stream[5:13] = (len(content) if size is None else size).to_bytes(8, "little")
    return bytes(stream)


def test_a_decompression_bomb_is_refused() -> None:
    bomb = lzma_stream(bytes(1 << 28))
    assert len(bomb) < 1 << 16
    text = refusal(volume_of(guided(bomb), size=0x20000))
    assert "LZMA section: unpacks to more than 0x8000000 bytes" in text


def test_bombs_side_by_side_are_refused() -> None:
    half = guided(lzma_stream(name_section("A") + large_section(80 << 20)))
    assert unpack(volume_of(half, size=0x20000)).names() == {"A"}
    assert "unpacks to more than" in refusal(volume_of(half, half, size=0x20000))


def large_section(size: int) -> bytes:
    return b"\xff\xff\xff" + bytes([RAW_SECTION]) + struct.pack("<I", size) + bytes(size - 8)


def test_an_lzma_dictionary_of_4_gib_is_refused() -> None:
    stream = bytearray(lzma_stream(name_section("A")))
    stream[1:5] = b"\xff\xff\xff\xff"
    text = refusal(volume_of(guided(bytes(stream))))
    assert "LZMA section: cannot be unpacked: Memory usage limit" in text


@pytest.mark.parametrize("cut", [14, 20, 60])
def test_an_lzma_stream_that_ends_early_is_refused(cut: int) -> None:
    content = name_section("A") + build.section(RAW_SECTION, bytes(range(256)))
    text = refusal(volume_of(guided(lzma_stream(content)[:cut])))
    assert "LZMA section: ends after" in text


@pytest.mark.parametrize("stream", [b"", b"\xff" * 40, b"\x5d\0\0\x10"])
def test_what_is_no_lzma_stream_is_refused(stream: bytes) -> None:
    assert "LZMA section" in refusal(volume_of(guided(stream)))


def test_a_guided_section_of_another_kind_is_skipped() -> None:
    section = build.section(0x02, bytes(16) + struct.pack("<HH", 24, 1) + b"CRC32")
    assert unpack(volume_of(section, name_section("A"))).names() == {"A"}


def test_a_guided_section_that_ends_in_its_header_is_refused_or_skipped() -> None:
    assert unpack(volume_of(build.section(0x02, b"short"))).names() == {""}
    assert "LZMA section" in refusal(volume_of(build.section(0x02, LZMA)))


def test_millions_of_empty_sections_are_refused() -> None:
    text = refusal(volume_of(guided(lzma_stream(b"\x04\0\0\x19" * (1 << 18))), size=0x4000))
    assert "more than 65536 volumes, files and sections" in text


def test_millions_of_empty_files_are_refused() -> None:
    files = build.file(PAD, FILE_GUID, b"") * (1 << 17)
    size = -(-(len(files) + VOLUME_HEADER) // 0x1000) * 0x1000
    volume = build.volume(files, size)
    inner = b"\xff\xff\xff" + bytes([VOLUME_IMAGE]) + struct.pack("<I", 8 + size) + volume
    text = refusal(volume_of(guided(lzma_stream(inner)), size=0x10000))
    assert "firmware file: more than 65536" in text


def test_a_volume_s_length_cannot_lead_out_of_the_image() -> None:
    volume = bytearray(volume_of(name_section("A")))
    volume[32:40] = (0xFFFFFFFFFFFFFFFF).to_bytes(8, "little")
    assert unpack(bytes(volume)) == Contents((), (), (), ())


def test_a_volume_shorter_than_its_header_is_none() -> None:
    head = struct.pack("<16x16sQ4sIHHHBB", FFS2, 20, b"_FVH", 0, 72, 0, 0, 0, 2)
    assert unpack(head + bytes(100)) == Contents((), (), (), ())


@given(
    hostile(volume_of(name_section("A"), size=0x1000), nested_volumes(2), nested_lzma(2)[:0x400])
)
def test_any_bytes_unpack_or_are_an_error_of_ours(data: bytes) -> None:
    error = refused(lambda: unpack(data))
    assert error is None or error.offset is not None


@pytest.mark.parametrize(
    ("part", "count"),
    [("ovmf_2022_11", 142), ("ovmf_2025_02", 150), ("ovmf_2026_08", 155), ("inteltdx_2026_08", 91)],
)
def test_debian_firmware_unpacks_whole(debian: DebianParts, part: str, count: int) -> None:
    # bounds, not figures: packages of the same release are rebuilt now and then
    contents = unpack(getattr(debian, part).read_bytes())
    assert count - 20 < len(contents.modules) < count + 20
    assert "DxeCore" in contents.names()
