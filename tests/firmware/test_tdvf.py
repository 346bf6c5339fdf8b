"""TDX metadata of a firmware image: found by table or legacy offset, checked field by field."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fixtures import tdvf
from fixtures.tdvf import Faults, Section, build_tdvf, default_sections, replace_section
from mrtd.errors import MalformedFirmware
from mrtd.firmware.tdvf import SectionType, Tdvf, read_tdvf
from tests.strategies import EDGES, PAGE, hostile, refused, tdvf_layouts

CFV, BFV = 0x4000, 0x8000
IMAGE = build_tdvf()
SECTIONS = default_sections(CFV, BFV)


def read(image: bytes) -> Tdvf:
    return read_tdvf(memoryview(image), origin="OVMF.fd")


def refusal(image: bytes) -> str:
    with pytest.raises(MalformedFirmware) as caught:
        read(image)
    assert caught.value.origin == "OVMF.fd"
    return str(caught.value)


def fields(section: Section) -> tuple[int, ...]:
    return (
        section.type,
        section.data_offset,
        section.raw_size,
        section.address,
        section.memory_size,
        section.attributes,
    )


def test_sections_are_read_in_metadata_order() -> None:
    found = read(IMAGE).sections
    assert [s.type.name for s in found] == [
        "BFV", "CFV", "TEMP_MEM", "TEMP_MEM", "TD_HOB", "TEMP_MEM",
    ]  # fmt: skip
    assert [s.index for s in found] == list(range(6))


@given(tdvf_layouts())
def test_every_layout_reads_back(layout: tuple[tuple[Section, ...], bytes]) -> None:
    sections, _ = layout
    found = read(build_tdvf(sections=sections)).sections
    assert [
        (s.type, s.data_offset, s.raw_size, s.gpa, s.memory_size, s.attributes) for s in found
    ] == [fields(section) for section in sections]
    assert [s.extended for s in found] == [bool(s.attributes & 1) for s in sections]
    assert [s.augmented for s in found] == [bool(s.attributes & 2) for s in sections]


def test_the_legacy_absolute_offset_is_followed_without_a_table() -> None:
    assert read(build_tdvf(table=False, legacy=True)) == read(IMAGE)


def test_the_legacy_absolute_offset_is_followed_without_a_tdx_entry() -> None:
    assert read(build_tdvf(tdx_entry=False, legacy=True)) == read(IMAGE)


def test_the_table_wins_over_the_legacy_offset() -> None:
    image = bytearray(build_tdvf(legacy=True))
    image[-0x20:-0x1C] = (16).to_bytes(4, "little")
    assert read(bytes(image)) == read(IMAGE)


def test_other_table_entries_are_skipped() -> None:
    entries = [(bytes([n]) * 16, bytes(n)) for n in range(8)]
    assert read(build_tdvf(other_entries=entries)) == read(IMAGE)


@pytest.mark.parametrize(
    "image",
    [b"", b"\0", bytes(0x1F), bytes(0x20), bytes(0x31), bytes(PAGE), build_tdvf(table=False)],
    ids=["empty", "1 byte", "0x1f", "0x20", "0x31", "page", "no table"],
)
def test_a_file_without_metadata_cannot_launch_a_td(image: bytes) -> None:
    assert "no TDX metadata: this file cannot launch a TD" in refusal(image)
    assert "not a VARS file" in refusal(image)


@pytest.mark.parametrize(
    ("faults", "message"),
    [
        (Faults(signature=b"XDVF"), "TDX metadata signature: b'XDVF' is not 'TDVF'"),
        (Faults(version=2), "TDX metadata version: 2 is not 1"),
        (Faults(count=0), "number of TDVF sections: 0 is not in 1..256"),
        (Faults(count=257), "number of TDVF sections: 257 is not in 1..256"),
        (Faults(count=0xFFFFFFFF), "number of TDVF sections: 4294967295 is not in 1..256"),
        (Faults(count=5), "TDX metadata length: 208 does not fit 5 sections"),
        (Faults(length=0), "TDX metadata length: 0 does not fit 6 sections"),
        (Faults(offset_from_end=0), "TDX metadata offset: 0x0 before the end is outside"),
        (Faults(offset_from_end=0xFFFFFFFF), "TDX metadata offset: 0xffffffff before the end"),
        (Faults(offset_from_end=0x10), "TDX metadata signature"),
        (Faults(entry_size=3), "TDX table entry: 3 bytes, not 4"),
        (Faults(entry_size=8), "TDX table entry: 8 bytes, not 4"),
        (Faults(entry_length=0), "GUIDed table entry length: 0 bytes where"),
        (Faults(entry_length=17), "GUIDed table entry length: 17 bytes where"),
        (Faults(entry_length=0xFFFF), "GUIDed table entry length: 65535 bytes where"),
        (Faults(table_length=0), "GUIDed table length: 0 bytes do not fit"),
        (Faults(table_length=17), "GUIDed table length: 17 bytes do not fit"),
        (Faults(table_length=0xFFFF), "GUIDed table length: 65535 bytes do not fit"),
        (Faults(table_length=30), "GUIDed table entry length: 0 bytes where 12 are left"),
        (Faults(footer=bytes(16)), "no TDX metadata"),
    ],
)  # fmt: skip
def test_a_broken_header_is_refused_by_field(faults: Faults, message: str) -> None:
    text = refusal(build_tdvf(faults=faults))
    assert message in text
    if "no TDX metadata" not in message:
        assert text.startswith("OVMF.fd+0x")  # where it is


def test_a_descriptor_that_ends_with_the_file_is_refused() -> None:
    image = bytearray(0x100)
    image[-0x1C:-0xC] = b"TDVF" + struct.pack("<III", 16 + 32, 1, 1)
    image[-0x20:-0x1C] = (0x100 - 0x1C).to_bytes(4, "little")
    assert refusal(bytes(image)) == (
        "OVMF.fd+0xfc: TDVF section 0 memory address: needs 8 bytes, 4 are left"
    )


@pytest.mark.parametrize(
    ("index", "changes", "message"),
    [
        (0, {"type": 9}, "TDVF section 0 type: 9 is not a known section type"),
        (1, {"type": 0xFFFFFFFF}, "TDVF section 1 type: 4294967295 is not a known"),
        (0, {"attributes": 4}, "TDVF section 0 (BFV) attributes: unknown bits in 0x4"),
        (0, {"address": 0xFFFF0001}, "TDVF section 0 (BFV): 0xffff0001+0x8000 is not 4 KiB"),
        (0, {"memory_size": 0x8001}, "is not 4 KiB aligned"),
        (0, {"memory_size": 0x7000}, "0x8000 bytes do not fit its memory (0x7000)"),
        (0, {"raw_size": 0}, "TDVF section 0 (BFV): has no content"),
        (1, {"raw_size": 0}, "TDVF section 1 (CFV): has no content"),
        (2, {"raw_size": 1}, "TDVF section 2 (TEMP_MEM): must have memory and no content"),
        (2, {"memory_size": 0}, "TDVF section 2 (TEMP_MEM): must have memory and no content"),
        (4, {"memory_size": 0}, "TDVF section 4 (TD_HOB): must have memory and no content"),
        (2, {"address": (1 << 52) - PAGE, "memory_size": 2 * PAGE}, "no guest physical address"),
        (2, {"address": (1 << 64) - PAGE, "memory_size": PAGE}, "no guest physical address"),
        (2, {"memory_size": (1 << 64) - PAGE}, "no guest physical address"),
        (2, {"type": tdvf.TD_HOB}, "TDVF sections: more than one TD_HOB"),
        (3, {"address": 0x811000}, "overlaps section"),
        (3, {"address": 0x80A000}, "0x80a000 overlaps section 4 (TD_HOB), which ends at 0x80b000"),
        (1, {"address": (1 << 32) - BFV}, "overlaps section"),
    ],
)  # fmt: skip
def test_a_broken_section_is_refused_by_name(
    index: int, changes: dict[str, int], message: str
) -> None:
    assert message in refusal(build_tdvf(sections=replace_section(SECTIONS, index, **changes)))


def test_sections_that_cover_the_same_memory_are_refused() -> None:
    assert "overlaps section 2" in refusal(build_tdvf(sections=[*SECTIONS, SECTIONS[2]]))


def test_neighbours_do_not_overlap() -> None:
    sections = [*SECTIONS, Section(tdvf.TEMP_MEM, 0, 0, 0x820000, PAGE)]
    assert read(build_tdvf(sections=sections)).sections[-1].gpa == 0x820000


def test_an_image_without_boot_firmware_volume_is_refused() -> None:
    assert "no boot firmware volume (BFV)" in refusal(build_tdvf(sections=SECTIONS[1:]))


def test_code_without_its_variables_is_refused_with_the_remedy() -> None:
    code = IMAGE[CFV:]
    text = refusal(code)
    assert "content ends at 0xc000, after the file (0x8000)" in text
    assert "put its VARS file in front of it" in text
    assert "firmware.vars" in text


def test_variables_in_front_of_their_code_are_the_whole_image() -> None:
    cfv, code = IMAGE[:CFV], IMAGE[CFV:]
    assert read(cfv + code) == read(IMAGE)


def test_code_in_front_of_its_variables_is_refused() -> None:
    cfv, code = IMAGE[:CFV], IMAGE[CFV:]
    refusal(code + cfv)


def test_td_info_may_have_content_and_no_memory() -> None:
    # td-shim images: TD_INFO with raw size 0x1000, memory address and size 0 (facts 6)
    sections = [*SECTIONS, Section(tdvf.TD_INFO, 0, 0x1000, 0, 0)]
    assert read(build_tdvf(sections=sections)).of_type(SectionType.TD_INFO)[0].memory_size == 0


def test_a_hundred_sections_are_read() -> None:
    many = [Section(tdvf.TEMP_MEM, 0, 0, 0x100000 + n * PAGE, PAGE) for n in range(100)]
    assert len(read(build_tdvf(sections=[SECTIONS[0], *many])).sections) == 101


@given(hostile(IMAGE, build_tdvf(table=False, legacy=True)[-PAGE:]))
def test_any_bytes_are_metadata_or_an_error_of_ours(data: bytes) -> None:
    error = refused(lambda: read(data))
    assert error is None or error.origin == "OVMF.fd"


@given(st.integers(0, 5), st.integers(0, 7), st.sampled_from([*EDGES, 0xFFFFF000]))
def test_any_section_field_is_read_or_refused(section: int, word: int, value: int) -> None:
    image = bytearray(IMAGE)
    at = image.index(b"TDVF") + 16 + 32 * section + 4 * word
    image[at : at + 4] = value.to_bytes(4, "little")
    error = refused(lambda: read(bytes(image)))
    assert error is None or error.field is not None


@pytest.mark.parametrize("length", [*range(0, 0x60, 7), CFV, CFV + BFV - 1])
def test_a_cut_image_is_refused(length: int) -> None:
    refusal(IMAGE[:length])
