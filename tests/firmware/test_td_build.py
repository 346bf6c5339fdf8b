"""MRTD: golden figures of real images, and a slow second implementation from the records' text."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given, settings

from fixtures import tdvf
from fixtures.tdvf import Section, build_tdvf, default_sections
from mrtd.errors import MalformedFirmware
from mrtd.firmware.td_build import BuildPass, TdBuild, fold, td_build
from mrtd.firmware.tdvf import Tdvf, read_tdvf
from mrtd.launch.spec import PageOrder
from tests.conftest import DebianParts
from tests.strategies import PAGE, tdvf_layouts

ORDERS = list(PageOrder)


def add_record(address: int) -> bytes:
    """PAGE.ADD of one page (facts 2.1)."""
    record = bytearray(128)
    record[0:12] = b"MEM.PAGE.ADD"
    record[16:24] = address.to_bytes(8, "little")
    return bytes(record)


def extend_records(address: int, page: bytes) -> bytes:
    """MR.EXTEND of one page: 16 chunks of 256 bytes (facts 2.1)."""
    records = b""
    for chunk in range(16):
        record = bytearray(128)
        record[0:9] = b"MR.EXTEND"
        record[16:24] = (address + 256 * chunk).to_bytes(8, "little")
        records += bytes(record) + page[256 * chunk : 256 * chunk + 256]
    return records


def slow_mrtd(sections: tuple[Section, ...], image: bytes, order: PageOrder) -> str:
    """MRTD straight from facts 2.1 and 2.2: one record after the other."""
    stream: list[bytes] = []
    for section in sections:
        if section.attributes & tdvf.PAGE_AUG or section.type == tdvf.TD_INFO:
            continue  # added at run time; information for the VMM
        memory = image[section.data_offset : section.data_offset + section.raw_size]
        memory += bytes(section.memory_size - len(memory))
        pages = range(0, section.memory_size, PAGE)
        added = [add_record(section.address + at) for at in pages]
        extended = [b""] * len(pages)
        if section.attributes & tdvf.MR_EXTEND:
            extended = [
                extend_records(section.address + at, memory[at : at + PAGE]) for at in pages
            ]
        if order is PageOrder.PER_PAGE:
            stream += [part for page in zip(added, extended, strict=True) for part in page]
        else:
            stream += [*added, *extended]
    return hashlib.sha384(b"".join(stream)).hexdigest()


def read(image: bytes) -> Tdvf:
    return read_tdvf(memoryview(image), origin="OVMF.fd")


def mrtd(image: bytes, order: PageOrder) -> str:
    return str(fold(td_build(read(image), order), memoryview(image)))


# shared/corpus/README.md: three independent programs agree on bookworm's, two on trixie's
GOLDEN = [
    (
        "ovmf_2022_11", PageOrder.PER_PAGE,
        ("4c7206f0f483c524f12c366c711e9049030a8d47c471ee5aa9c4999a08de4057"
         "fb887fed0744d5631a212967fb231c47"),
    ),
    (
        "ovmf_2022_11", PageOrder.TWO_PASS,
        ("acccbcc870a381adab0d3919d90a7f268ac3b0364771f202ed4bb4e892d045b3"
         "3db3b32e6924cba830a724eed443f7e1"),
    ),
    (
        "ovmf_2025_02", PageOrder.PER_PAGE,
        ("bdc6fb145880f06f30c8b346b8dce2a99d9351b56892df22f80fcf6574caa9f9"
         "c31df8e8576d53b4d0cd1c3f28910e11"),
    ),
    (
        "ovmf_2025_02", PageOrder.TWO_PASS,
        ("456f07902150d008bb913c3e1e84e9297f735a6c83cd2a957a1f0a8bbedb06df"
         "188e3837ae48d32c73d473d097dc0db2"),
    ),
]  # fmt: skip


@pytest.mark.parametrize(("part", "order", "expected"), GOLDEN)
def test_mrtd_of_debian_firmware(
    debian: DebianParts, part: str, order: PageOrder, expected: str
) -> None:
    assert mrtd(getattr(debian, part).read_bytes(), order) == expected


@pytest.mark.parametrize("part", ["ovmf_2026_08", "inteltdx_2026_08"])
@pytest.mark.parametrize("order", ORDERS)
def test_mrtd_of_other_firmware_is_that_of_the_slow_implementation(
    debian: DebianParts, part: str, order: PageOrder
) -> None:
    image = getattr(debian, part).read_bytes()
    sections = tuple(
        Section(s.type, s.data_offset, s.raw_size, s.gpa, s.memory_size, s.attributes)
        for s in read(image).sections
    )
    assert mrtd(image, order) == slow_mrtd(sections, image, order)


@settings(max_examples=60)
@given(tdvf_layouts())
def test_mrtd_of_any_layout_is_that_of_the_slow_implementation(
    layout: tuple[tuple[Section, ...], bytes],
) -> None:
    sections, content = layout
    image = content[:0x4000] + build_tdvf(sections=sections, cfv=b"")
    for order in ORDERS:
        assert mrtd(image, order) == slow_mrtd(sections, image, order)


CASES = {
    "BFV of a whole page": Section(tdvf.BFV, 0, PAGE, 0x10000, PAGE, 1),
    "raw size smaller than memory": Section(tdvf.BFV, 0, PAGE, 0x10000, 3 * PAGE, 1),
    "raw size of no whole page": Section(tdvf.BFV, 3, PAGE + 0x123, 0x10000, 2 * PAGE, 1),
    "raw size of no whole chunk": Section(tdvf.BFV, 1, 0x101, 0x10000, PAGE, 1),
    "BFV that is not extended": Section(tdvf.BFV, 0, PAGE, 0x10000, PAGE, 0),
    "payload with content": Section(tdvf.PAYLOAD, 0x100, 0x1800, 0x10000, 2 * PAGE, 1),
    "payload without content": Section(tdvf.PAYLOAD, 0, 0, 0x10000, 2 * PAGE, 0),
    "payload given later, extended": Section(tdvf.PAYLOAD, 0, 0, 0x10000, PAGE, 1),
    "payload parameters": Section(tdvf.PAYLOAD_PARAM, 0, 0, 0x10000, PAGE, 0),
    "memory added at run time": Section(tdvf.PERM_MEM, 0, 0, 0x10000, PAGE, 2),
    "extended memory added at run time": Section(tdvf.PERM_MEM, 0, 0, 0x10000, PAGE, 3),
    "permanent memory": Section(tdvf.PERM_MEM, 0, 0, 0x10000, PAGE, 0),
    "TD_INFO without memory": Section(tdvf.TD_INFO, 0, PAGE, 0, 0, 0),
    "TD_PARAMS": Section(tdvf.TD_PARAMS, 0, 0, 0x10000, PAGE, 0),
    "extended memory": Section(tdvf.TEMP_MEM, 0, 0, 0x10000, PAGE, 1),
}


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize(
    ("pages", "raw"),
    [(63, 63 * PAGE), (64, 64 * PAGE), (65, 64 * PAGE + 1), (130, 100 * PAGE + 0x7FF), (200, 1)],
)
@pytest.mark.parametrize(
    "address", [0, 0xFF000, 0xFFFFF000 - 63 * PAGE, 0xFFFFFFFF0000, (1 << 52) - 200 * PAGE]
)
def test_mrtd_of_long_sections_at_any_address(
    order: PageOrder, pages: int, raw: int, address: int
) -> None:
    content = hashlib.shake_128(b"long").digest(raw)
    section = Section(tdvf.BFV, 0, raw, address, pages * PAGE, 1)
    image = content + build_tdvf(sections=[section], cfv=b"")
    assert mrtd(image, order) == slow_mrtd((section,), image, order)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("case", CASES)
def test_mrtd_of_each_kind_of_section(case: str, order: PageOrder) -> None:
    sections = (CASES[case], *default_sections(0x4000, 0x8000))
    image = build_tdvf(sections=sections)
    assert mrtd(image, order) == slow_mrtd(sections, image, order)
    assert mrtd(image[:0x100] + b"\x55" + image[0x101:], order) == slow_mrtd(
        sections, image[:0x100] + b"\x55" + image[0x101:], order
    )


def test_the_log_has_one_step_per_section_and_pass() -> None:
    image = build_tdvf()

    def steps(build: TdBuild) -> list[tuple[str, BuildPass]]:
        return [(step.section.type.name, step.build_pass) for step in build.steps]

    rest = [(name, BuildPass.ADD) for name in ("CFV", "TEMP_MEM", "TEMP_MEM", "TD_HOB", "TEMP_MEM")]
    assert steps(td_build(read(image), PageOrder.PER_PAGE)) == [
        ("BFV", BuildPass.ADD_EXTEND), *rest,
    ]  # fmt: skip
    assert steps(td_build(read(image), PageOrder.TWO_PASS)) == [
        ("BFV", BuildPass.ADD), ("BFV", BuildPass.EXTEND), *rest,
    ]  # fmt: skip


def test_sections_are_built_in_metadata_order_and_not_by_address() -> None:
    sections = default_sections(0x4000, 0x8000)
    image = build_tdvf(sections=sections)
    turned = build_tdvf(sections=sections[::-1])
    assert mrtd(image, PageOrder.PER_PAGE) != mrtd(turned, PageOrder.PER_PAGE)
    assert mrtd(turned, PageOrder.PER_PAGE) == slow_mrtd(sections[::-1], turned, PageOrder.PER_PAGE)


def test_variables_are_not_in_mrtd() -> None:
    image = build_tdvf()
    other = b"\xaa" * 0x4000 + image[0x4000:]
    assert mrtd(image, PageOrder.PER_PAGE) == mrtd(other, PageOrder.PER_PAGE)


def test_a_bit_of_the_boot_volume_is_in_mrtd() -> None:
    image = build_tdvf()
    other = image[:-1] + bytes([image[-1] ^ 1])
    assert mrtd(image, PageOrder.TWO_PASS) != mrtd(other, PageOrder.TWO_PASS)


def test_a_size_field_cannot_ask_for_endless_work() -> None:
    sections = (*default_sections(0x4000, 0x8000), Section(tdvf.PAYLOAD, 0, 0, 1 << 40, 1 << 40, 1))
    with pytest.raises(MalformedFirmware, match=r"TDVF section 6 \(PAYLOAD\): asks for") as caught:
        td_build(read(build_tdvf(sections=sections)), PageOrder.PER_PAGE)
    assert "more than 0x40000000" in str(caught.value)


def test_many_sections_together_cannot_ask_for_endless_work() -> None:
    sections = (
        *default_sections(0x4000, 0x8000),
        *(Section(tdvf.PERM_MEM, 0, 0, (n + 8) << 28, 1 << 28) for n in range(8, 12)),
    )
    with pytest.raises(MalformedFirmware, match=r"PERM_MEM\): asks for 0x400"):
        td_build(read(build_tdvf(sections=sections)), PageOrder.TWO_PASS)


def test_memory_added_at_run_time_is_no_initial_memory() -> None:
    sections = (
        *default_sections(0x4000, 0x8000),
        Section(tdvf.PERM_MEM, 0, 0, 1 << 40, 1 << 40, 2),
    )
    image = build_tdvf(sections=sections)
    assert len(td_build(read(image), PageOrder.PER_PAGE).steps) == 6
