"""The 64-bit PCI window: `mrtd.qemu.pci`. The bases were read from booted firmware."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mrtd.errors import ToolFailed
from mrtd.qemu.pci import (
    CLASSIC_SIZE,
    Cpu,
    E820Entry,
    Mmio64Rule,
    Window,
    classic_size,
    hotplug_reserve,
    parse_e820,
)

GIB = 1 << 30
LOW = E820Entry(0, 2 * GIB, 1)
AMD_HOLE = E820Entry(0xFD00000000, 0x300000000, 2)
CURRENT = Mmio64Rule()
RULE_2022_11 = Mmio64Rule(max_phys_bits=47, avoids_reserved=False)


@pytest.mark.parametrize(
    ("rule", "vendor", "bits", "base"),
    [
        (CURRENT, "AuthenticAMD", 40, 0xC000000000),
        (RULE_2022_11, "AuthenticAMD", 40, 0xE000000000),
        (CURRENT, "AuthenticAMD", 46, 0x380000000000),
        (RULE_2022_11, "AuthenticAMD", 52, 0x700000000000),
        (CURRENT, "GenuineIntel", 46, 0x380000000000),
        (CURRENT, "GenuineIntel", 52, 0x380000000000),
        (CURRENT, "GenuineIntel", 42, 0x38000000000),
        (CURRENT, "GenuineIntel", 40, 0x800000000),
        (CURRENT, "AuthenticAMD", 39, 0x800000000),
    ],
)
def test_base(rule: Mmio64Rule, vendor: str, bits: int, base: int) -> None:
    e820 = (LOW, AMD_HOLE) if vendor == "AuthenticAMD" and bits >= 40 else (LOW,)
    window = rule.window(Cpu(vendor, bits, gib_pages=True), e820)
    assert window is not None
    assert window.base == base


def test_without_gib_pages_the_width_is_40_at_most() -> None:
    window = CURRENT.window(Cpu("GenuineIntel", 46, gib_pages=False), (LOW,))
    assert window == Window(0xE000000000, 1 << 37)


def test_memory_moves_the_classic_window() -> None:
    cpu = Cpu("GenuineIntel", 40, gib_pages=True)
    above = E820Entry(4 * GIB, 40 * GIB, 1)
    assert CURRENT.window(cpu, (LOW, above)) == Window(64 * GIB, CLASSIC_SIZE)
    assert CURRENT.window(cpu, (LOW,), reserved_end=65 * GIB) == Window(96 * GIB, CLASSIC_SIZE)
    assert CURRENT.window(cpu, (LOW,), size=0) is None


def test_a_full_address_space_keeps_the_classic_window() -> None:
    above = E820Entry(4 * GIB, 900 * GIB, 1)
    window = CURRENT.window(Cpu("AuthenticAMD", 40, gib_pages=True), (LOW, above))
    assert window == Window(928 * GIB, CLASSIC_SIZE)


@pytest.mark.parametrize(
    ("window", "reserve"),
    [
        (Window(0x380000000000, 1 << 43), 32 * GIB),
        (Window(0xC000000000, 1 << 37), GIB // 2),
        (Window(0x800000000, CLASSIC_SIZE), 0),
        (None, 0),
    ],
)
def test_hotplug_reserve(window: Window | None, reserve: int) -> None:
    assert hotplug_reserve(window) == reserve


@pytest.mark.parametrize(
    ("knob", "size"),
    [
        (None, CLASSIC_SIZE),
        (b"65536", 64 * GIB),
        (b"65536\n", 64 * GIB),
        (b"0", 0),
        (b"16777217", CLASSIC_SIZE),
        (b"0x10", CLASSIC_SIZE),
        (b"", CLASSIC_SIZE),
    ],
)
def test_the_aperture_knob(knob: bytes | None, size: int) -> None:
    assert classic_size(knob) == size


def test_e820() -> None:
    blob = b"\0" * 8 + (2 * GIB).to_bytes(8, "little") + b"\1\0\0\0"
    assert parse_e820(blob) == (LOW,)
    assert parse_e820(b"") == ()
    with pytest.raises(ToolFailed, match="e820"):
        parse_e820(blob + b"\0")


@given(
    vendor=st.sampled_from(["GenuineIntel", "AuthenticAMD", "TCG"]),
    bits=st.integers(32, 57),
    gib_pages=st.booleans(),
    memory=st.integers(0, 1 << 52),
)
def test_the_window_is_above_memory_and_aligned(
    vendor: str, bits: int, memory: int, *, gib_pages: bool
) -> None:
    entries = (LOW, E820Entry(4 * GIB, memory, 1))
    window = CURRENT.window(Cpu(vendor, bits, gib_pages), entries)
    assert window is not None
    assert window.base >= 4 * GIB + memory
    assert window.base % window.size == 0
