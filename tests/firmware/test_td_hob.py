"""The TD HOB: golden digests of every layout and memory size, and what is refused."""

from __future__ import annotations

import itertools
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fixtures import tdvf
from fixtures.tdvf import Section, build_tdvf, default_sections
from mrtd.errors import InputError, MalformedFirmware
from mrtd.firmware.td_hob import MemoryRange, below_4g, memory_map, td_hob
from mrtd.firmware.tdvf import Tdvf, read_tdvf
from mrtd.registers import Sha384
from tests.conftest import DebianParts

MIB, GIB = 1 << 20, 1 << 30
PAGE_SIZE = 0x1000

# facts 1.2: TEMP_MEM and TD_HOB sections; only the first TEMP_MEM ("tail") differs
COMMON = (
    (tdvf.TEMP_MEM, 0x80B000, 0x2000),
    (tdvf.TD_HOB, 0x809000, 0x2000),
    (tdvf.TEMP_MEM, 0x800000, 0x6000),
)
LAYOUTS = {
    "0x810000": ((tdvf.TEMP_MEM, 0x810000, 0x10000), *COMMON),
    "0x811000": ((tdvf.TEMP_MEM, 0x811000, 0xF000), *COMMON),
    "0x814000": (
        (tdvf.TEMP_MEM, 0x814000, 0xC000), *COMMON, (tdvf.TEMP_MEM, 0x820000, 0x10000),
    ),
}  # fmt: skip
SIZES = [GIB, 2 * GIB, 11 * GIB // 4, 4 * GIB, 8 * GIB, 16 * GIB]
# facts 3.1, table of derived digests (first 16 hex digits)
DIGESTS = {
    "0x810000": (
        "1055c9b9a1fc534e", "0b8772e5b0b41b83", "8eb1a02074362aa0",
        "5b684faf8d02a733", "2e070cda358b5aa0", "cd2312a0d87ef3c4",
    ),
    "0x811000": (
        "2b630fa1d8fa9b6e", "0e35f1b315ba6c91", "3d4bd514230f6978",
        "02a008e63d55a778", "68b713c6461d5af8", "794385a0fd4ad193",
    ),
    "0x814000": (
        "c345d1e192c8bc1e", "c699e77fc2ed3ed6", "801a8e92286ccc2f",
        "fb456039be3ba170", "59bd2eaa3615bd3e", "91441ab666b5f35d",
    ),
}  # fmt: skip
# facts 3.1: digests of real logs, quotes and fixtures
VERIFIED = [
    ("0x810000", 2 * GIB, "0b8772e5"),
    ("0x810000", 8 * GIB, "2e070cda"),
    ("0x810000", 10 * GIB, "05dc148f"),
    ("0x810000", 64 * GIB, "8ae1e425"),
    ("0x811000", 1 * GIB, "2b630fa1"),
    ("0x811000", 2 * GIB, "0e35f1b3"),
    ("0x811000", 4 * GIB, "02a008e6"),
    ("0x811000", 16 * GIB, "794385a0"),
]


def layout(ram: tuple[tuple[int, int, int], ...]) -> Tdvf:
    sections = default_sections(0x4000, 0x8000, ram=ram)
    return read_tdvf(memoryview(build_tdvf(sections=sections)), origin="OVMF.fd")


def digest(ram: tuple[tuple[int, int, int], ...], memory: int) -> str:
    return str(Sha384.of(td_hob(layout(ram), memory)))


@pytest.mark.parametrize("name", LAYOUTS)
@pytest.mark.parametrize("column", range(6))
def test_digest_of_each_layout_and_size(name: str, column: int) -> None:
    assert digest(LAYOUTS[name], SIZES[column]).startswith(DIGESTS[name][column])


@pytest.mark.parametrize(("name", "memory", "prefix"), VERIFIED)
def test_digest_that_a_machine_or_another_program_gave(name: str, memory: int, prefix: str) -> None:
    assert digest(LAYOUTS[name], memory).startswith(prefix)


@pytest.mark.parametrize(
    ("part", "name"),
    [
        ("ovmf_2022_11", "0x810000"),
        ("ovmf_2025_02", "0x811000"),
        ("ovmf_2026_08", "0x814000"),
        ("inteltdx_2026_08", "0x810000"),
    ],
)
def test_layout_of_debian_firmware(debian: DebianParts, part: str, name: str) -> None:
    image = memoryview(getattr(debian, part).read_bytes())
    hob = td_hob(read_tdvf(image, origin=part), 4 * GIB)
    assert str(Sha384.of(hob)).startswith(DIGESTS[name][3])


def test_the_list_is_laid_out_as_the_platform_initialization_standard_says() -> None:
    hob = td_hob(layout(LAYOUTS["0x811000"]), 2 * GIB)
    kind, size, _, version, mode, *_, end = struct.unpack_from("<HHIII4QQ", hob)
    assert (kind, size, version, mode) == (1, 56, 9, 0)
    count = (len(hob) - 56) // 48
    assert end == 0x809000 + 56 + 48 * count + 8
    ranges = [struct.unpack_from("<HHI16xIIQQ", hob, 56 + 48 * n) for n in range(count)]
    assert {(r[0], r[1], r[2], r[4]) for r in ranges} == {(3, 48, 0, 7)}
    assert [(r[3], r[5], r[6]) for r in ranges] == [
        (7, 0, 0x800000),
        (0, 0x800000, 0x6000),
        (7, 0x806000, 0x3000),
        (0, 0x809000, 0x2000),  # the TD HOB and its neighbour are not merged
        (0, 0x80B000, 0x2000),
        (7, 0x80D000, 0x4000),
        (0, 0x811000, 0xF000),
        (7, 0x820000, 2 * GIB - 0x820000),
    ]


@pytest.mark.parametrize(
    ("memory", "low"),
    [
        (GIB, GIB),
        (2 * GIB, 2 * GIB),
        (5 * GIB // 2, 5 * GIB // 2),
        (11 * GIB // 4 - MIB, 11 * GIB // 4 - MIB),
        (11 * GIB // 4, 2 * GIB),
        (16 * GIB, 2 * GIB),
    ],
)
def test_q35_splits_memory_from_2816_mib_on(memory: int, low: int) -> None:
    assert below_4g(memory) == low  # facts 3.1: mem >= 0xB0000000 -> below4g = 0x80000000


@given(st.sampled_from(sorted(LAYOUTS)), st.integers(9 * MIB // PAGE_SIZE, 1 << 22))
def test_ranges_are_the_whole_memory_without_gaps(name: str, pages: int) -> None:
    memory = pages * PAGE_SIZE
    ranges = memory_map(layout(LAYOUTS[name]), memory)
    assert sum(r.end - r.start for r in ranges) == memory
    assert ranges[0].start == 0
    for before, after in itertools.pairwise(ranges):
        assert before.end == after.start or after.start == 4 * GIB
    accepted = {(r.start, r.end) for r in ranges if r.accepted}
    assert accepted == {(at, at + size) for _, at, size in LAYOUTS[name]}


def test_memory_that_ends_with_a_section_has_no_empty_range() -> None:
    ranges = memory_map(layout(LAYOUTS["0x811000"]), 0x820000)
    assert ranges[-1] == MemoryRange(0x811000, 0x820000, accepted=True)


def test_memory_that_starts_with_a_section_has_no_empty_range() -> None:
    ranges = memory_map(layout(((tdvf.TD_HOB, 0, 0x1000),)), 2 * GIB)
    assert ranges == (
        MemoryRange(0, 0x1000, accepted=True), MemoryRange(0x1000, 2 * GIB, accepted=False),
    )  # fmt: skip


def test_too_little_memory_for_the_firmware_is_refused_by_section() -> None:
    with pytest.raises(InputError, match=r"do not reach TDVF section 2 \(TEMP_MEM\)") as caught:
        td_hob(layout(LAYOUTS["0x811000"]), 0x81F000)
    assert caught.value.field == "machine.memory"


def test_firmware_without_td_hob_section_is_refused() -> None:
    with pytest.raises(MalformedFirmware, match="no TD_HOB section"):
        td_hob(layout(((tdvf.TEMP_MEM, 0x811000, 0xF000),)), GIB)


def test_more_ranges_than_the_td_hob_has_room_for_are_refused() -> None:
    many = [(tdvf.TEMP_MEM, 0x10000 + 0x2000 * n, 0x1000) for n in range(60)]
    with pytest.raises(MalformedFirmware, match=r"section 62 \(TD_HOB\): \d+ bytes of HOBs do"):
        td_hob(layout((*many, (tdvf.TD_HOB, 0x809000, 0x1000))), GIB)


def test_boot_volumes_are_no_memory() -> None:
    inside = Section(tdvf.BFV, 0, 0x1000, 0x100000, 0x1000, 1)
    sections = (*default_sections(0x4000, 0x8000, ram=LAYOUTS["0x811000"]), inside)
    tdx = read_tdvf(memoryview(build_tdvf(sections=sections)), origin="OVMF.fd")
    assert td_hob(tdx, 2 * GIB) == td_hob(layout(LAYOUTS["0x811000"]), 2 * GIB)
