"""TDATTRIBUTES and XFAM by the names of their bits."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mrtd.evidence.attributes import TD_ATTRIBUTE_BITS, XFAM_BITS, TdAttributes, Xfam


def test_the_attributes_of_a_usual_td() -> None:
    attributes = TdAttributes(0x10000000)
    assert attributes.describe() == "SEPT_VE_DISABLE"
    assert not attributes.debug
    assert not attributes.under_debug


@pytest.mark.parametrize(
    ("value", "debug"), [(1, True), (2, False), (1 << 4, False), (0x80, False)]
)
def test_any_bit_of_the_debug_group_makes_a_td_untrusted(value: int, debug: bool) -> None:  # noqa: FBT001
    attributes = TdAttributes(value)
    assert attributes.debug is debug
    assert attributes.under_debug


def test_no_attribute_is_said() -> None:
    assert TdAttributes(0).describe() == "none"
    assert str(TdAttributes(0)) == "0x0000000000000000"


def test_unknown_bits_are_shown_by_number() -> None:
    assert TdAttributes(1 << 30 | 1 << 2 | 1 << 61).describe() == (
        "PKS, bit 2 (unknown), bit 61 (unknown)"
    )


def test_the_xfam_of_a_td_with_amx() -> None:
    assert Xfam(0x600E7).describe() == (
        "FP, SSE, AVX, OPMASK, ZMM_HI256, HI16_ZMM, TILECFG, TILEDATA"
    )


@pytest.mark.parametrize("table", [TD_ATTRIBUTE_BITS, XFAM_BITS])
def test_tables_name_each_bit_once(table: tuple[object, ...]) -> None:
    bits = [bit for bit in (*TD_ATTRIBUTE_BITS, *XFAM_BITS) if bit in table]
    assert len({bit.number for bit in bits}) == len({bit.name for bit in bits}) == len(table)


@given(st.integers(0, 2**64 - 1))
def test_every_bit_is_said(value: int) -> None:
    for bits in (TdAttributes(value), Xfam(value)):
        assert len(bits.names) + len(bits.unknown) == value.bit_count()
