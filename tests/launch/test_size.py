"""Memory sizes as people write them."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mrtd.errors import SpecError
from mrtd.launch.size import format_bytes, memory_bytes
from tests.strategies import refused

MIB, GIB, TIB = 1 << 20, 1 << 30, 1 << 40


def read(text: str) -> int:
    return memory_bytes(text, origin="launch.toml", field="machine.memory")


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("2 GiB", 2 * GIB),
        ("3.5 GiB", 3584 * MIB),
        ("2.75GiB", 2816 * MIB),
        ("4G", 4 * GIB),
        ("4096M", 4 * GIB),
        ("4096 MiB", 4 * GIB),
        ("1048576K", GIB),
        ("1 TiB", TIB),
        ("0.5 TiB", 512 * GIB),
        ("0.0009765625 TiB", None),
        ("0.000001 TiB", None),
        ("  2 GiB  ", 2 * GIB),
        ("2\tGiB", 2 * GIB),
        ("4096 TiB", 1 << 52),
    ],
)
def test_binary_units_are_read(text: str, size: int | None) -> None:
    if size is None:
        with pytest.raises(SpecError):
            read(text)
    else:
        assert read(text) == size


@pytest.mark.parametrize(
    "text",
    ["", "2", "2048", "GiB", "2 GB", "2GB", "2 gib", "2 g", "-2 GiB", "+2 GiB", "2,5 GiB", "2. GiB",
     ".5 GiB", "1e3 MiB", "0x10 MiB", "2 GiB 3", "2 PiB", "٢ GiB", "2 G B", "∞ GiB", "2 GiB\0",
     "9" * 5000 + " GiB"],
)  # fmt: skip
def test_what_is_no_size_with_a_binary_unit_is_refused(text: str) -> None:
    with pytest.raises(SpecError, match="is not a memory size") as caught:
        read(text)
    assert "write a number with a binary unit, such as 2 GiB" in str(caught.value)
    assert caught.value.field == "machine.memory"


@pytest.mark.parametrize("text", ["0 GiB", "0.0 GiB", "1 KiB", "1.5 MiB", "1025 KiB", "0.3 GiB"])
def test_no_whole_number_of_mib_is_refused(text: str) -> None:
    with pytest.raises(SpecError, match="is not a whole number of MiB"):
        read(text)


@pytest.mark.parametrize("text", ["4097 TiB", "999999999999999 TiB"])
def test_more_than_a_guest_can_address_is_refused(text: str) -> None:
    with pytest.raises(SpecError, match="is more than 4 PiB"):
        read(text)


@given(st.integers(1, 1 << 32))
def test_a_shown_size_reads_back(mib: int) -> None:
    size = mib * MIB
    assert read(format_bytes(size)) == size


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 B"), (1, "1 B"), (1024, "1 KiB"), (3584 * MIB, "3584 MiB"), (2 * TIB, "2 TiB")],
)
def test_sizes_are_shown_in_the_largest_whole_unit(size: int, text: str) -> None:
    assert format_bytes(size) == text


@given(st.one_of(st.text(max_size=20), st.from_regex(r"[0-9.]{1,20} ?[KMGT](iB)?", fullmatch=True)))
def test_any_text_is_a_size_or_refused(text: str) -> None:
    error = refused(lambda: read(text))
    if error is not None:
        assert error.field == "machine.memory"
    else:
        assert read(text) % MIB == 0
        assert 0 < read(text) <= 1 << 52
        assert re.search(r"[KMGT]", text)
