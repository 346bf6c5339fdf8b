"""QEMU's patch of the setup header: field by field, against memory, protocol and command line."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fixtures.bzimage import SetupHeader, build_bzimage
from mrtd.boot.pe import authenticode
from mrtd.boot.qemu_header import patched_header
from mrtd.errors import InputError, MalformedKernel
from tests.strategies import hostile, refused

MIB, GIB = 1 << 20, 1 << 30
KERNEL = build_bzimage(setup=SetupHeader(xloadflags=2))
BELOW = build_bzimage(setup=SetupHeader(xloadflags=0, initrd_addr_max=0x7FFFFFFF))
MARGIN = 0x28000  # facts 4.1: acpi_data_size of pc-q35


def patch(
    kernel: bytes = KERNEL,
    *,
    memory: int = 2 * GIB,
    initrd: int | None = None,
    cmdline: str = "",
) -> bytes:
    head = patched_header(
        memoryview(kernel), memory=memory, initrd_size=initrd, cmdline=cmdline, origin="vmlinuz"
    )
    assert len(head) == 0x268
    return head


def u16(head: bytes, at: int) -> int:
    return int.from_bytes(head[at : at + 2], "little")


def u32(head: bytes, at: int) -> int:
    return int.from_bytes(head[at : at + 4], "little")


def changed(kernel: bytes, head: bytes) -> set[int]:
    return {at for at in range(len(head)) if head[at] != kernel[at]}


def test_fields_of_a_recent_kernel_without_initrd() -> None:
    head = patch()
    assert head[0x210] == 0xB0
    assert head[0x211] == 0x81
    assert u16(head, 0x224) == 0xFE00
    assert u32(head, 0x228) == 0x20000
    assert changed(KERNEL, head) <= {0x210, 0x211, 0x224, 0x225, 0x228, 0x229, 0x22A, 0x22B}


def test_fields_of_a_recent_kernel_with_initrd() -> None:
    head = patch(initrd=5 * MIB + 1)
    assert u32(head, 0x21C) == 5 * MIB + 1
    limit = 2 * GIB - MARGIN - 1
    assert u32(head, 0x218) == (limit - 5 * MIB - 1) & ~4095
    assert u32(head, 0x218) % 4096 == 0


def test_heap_end_is_two_bytes_wide() -> None:
    # facts 4.4: others write four and clobber ext_loader_ver and ext_loader_type
    kernel = bytearray(KERNEL)
    kernel[0x226:0x228] = b"\xaa\xbb"
    assert patch(bytes(kernel))[0x226:0x228] == b"\xaa\xbb"


@pytest.mark.parametrize(
    ("memory", "below"),
    [
        (GIB, GIB),
        (2 * GIB, 2 * GIB),
        (5 * GIB // 2, 5 * GIB // 2),
        (11 * GIB // 4, 2 * GIB),
        (16 * GIB, 2 * GIB),
    ],
)
def test_the_initrd_lies_below_the_memory_under_4_gib(memory: int, below: int) -> None:
    address = u32(patch(memory=memory, initrd=MIB), 0x218)
    assert address == (below - MARGIN - 1 - MIB) & ~4095


def test_memory_of_2_gib_and_from_2816_mib_on_gives_the_same_header() -> None:
    same = {patch(memory=size, initrd=MIB) for size in (2 * GIB, 11 * GIB // 4, 64 * GIB)}
    assert len(same) == 1
    other = {patch(memory=size, initrd=MIB) for size in (GIB, 2 * GIB, 5 * GIB // 2)}
    assert len(other) == 3  # facts 4.1


def test_memory_does_not_matter_without_initrd() -> None:
    assert len({patch(memory=size) for size in (GIB, 5 * GIB // 2, 64 * GIB)}) == 1


@pytest.mark.parametrize(
    ("setup", "limit"),
    [
        (SetupHeader(protocol=0x20C, xloadflags=2, initrd_addr_max=0x1FFFFFFF), 0xFFFFFFFF),
        (SetupHeader(protocol=0x20C, xloadflags=0x7D, initrd_addr_max=0x1FFFFFFF), 0x1FFFFFFF),
        (SetupHeader(protocol=0x20B, xloadflags=2, initrd_addr_max=0x1FFFFFFF), 0x1FFFFFFF),
        (SetupHeader(protocol=0x203, initrd_addr_max=0x1FFFFFFF), 0x1FFFFFFF),
        (SetupHeader(protocol=0x202, initrd_addr_max=0x1FFFFFFF), 0x37FFFFFF),
        (SetupHeader(protocol=0x200, initrd_addr_max=0x1FFFFFFF), 0x37FFFFFF),
    ],
)
def test_the_highest_address_comes_from_the_protocol(setup: SetupHeader, limit: int) -> None:
    # facts 4.1: bit 1 of xloadflags, not bit 6 (0x40)
    head = patch(build_bzimage(setup=setup), memory=2 * GIB, initrd=MIB)
    limit = min(limit, 2 * GIB - MARGIN - 1)
    assert u32(head, 0x218) == (limit - MIB) & ~4095


@pytest.mark.parametrize("size", [2 * GIB - MARGIN - 1, 2 * GIB, 1 << 40])
def test_an_initrd_that_does_not_fit_is_refused(size: int) -> None:
    with pytest.raises(InputError, match=f"boot.initrd: an initrd of {size} bytes") as caught:
        patch(initrd=size)
    assert "give the machine more memory" in str(caught.value)


def test_the_largest_initrd_that_fits_is_placed() -> None:
    assert u32(patch(initrd=2 * GIB - MARGIN - 2), 0x218) == 0


def test_an_empty_initrd_is_placed() -> None:
    head = patch(initrd=0)
    assert u32(head, 0x21C) == 0
    assert u32(head, 0x218) == (2 * GIB - MARGIN - 1) & ~4095


@pytest.mark.parametrize(
    ("length", "address"),
    [(0, 0x99FF0), (1, 0x99FF0), (15, 0x99FF0), (16, 0x99FE0), (200, 0x9A000 - 208)],
)
def test_a_low_kernel_has_its_command_line_below_0x9a000(length: int, address: int) -> None:
    low = bytearray(build_bzimage(setup=SetupHeader(protocol=0x202)))
    low[0x211] = 0  # not loaded high
    head = patch(bytes(low), cmdline="x" * length)
    assert u32(head, 0x228) == address
    assert u16(head, 0x224) == address - 0x90000 - 0x200


def test_a_kernel_before_2_02_gets_the_old_command_line_pointer() -> None:
    head = patch(build_bzimage(setup=SetupHeader(protocol=0x201)), cmdline="quiet")
    assert u16(head, 0x20) == 0xA33F
    assert u16(head, 0x22) == 0x9A000 - 16 - 0x90000
    assert head[0x210] == 0xB0
    assert head[0x211] == 0x81
    assert u32(head, 0x228) == 0


def test_a_kernel_of_2_00_has_no_heap() -> None:
    head = patch(build_bzimage(setup=SetupHeader(protocol=0x200)))
    assert head[0x210] == 0xB0
    assert head[0x211] == 0x01
    assert u16(head, 0x224) == 0


def test_a_file_without_setup_header_is_patched_in_its_dos_header() -> None:
    # facts 4.4: a UKI's digest depends on the length of the command line, QEMU < 10.0
    uki = build_bzimage(setup=SetupHeader(magic=bytes(4)))
    head = patch(uki, cmdline="quiet")
    assert changed(uki, head) == {0x20, 0x21, 0x22, 0x23}
    digests = {
        str(authenticode(memoryview(uki), origin="uki", header=patch(uki, cmdline="x" * length)))
        for length in (0, 15, 16, 40)
    }
    assert len(digests) == 3


def test_a_file_without_setup_header_takes_no_initrd() -> None:
    uki = build_bzimage(setup=SetupHeader(magic=bytes(4)))
    with pytest.raises(MalformedKernel, match="too old to load an initrd"):
        patch(uki, initrd=1)


def test_a_command_line_longer_than_low_memory_wraps_as_in_qemu() -> None:
    uki = build_bzimage(setup=SetupHeader(magic=bytes(4)))
    head = patch(uki, cmdline="x" * 60_000)
    assert u16(head, 0x22) == (0x9A000 - (60_016 & ~15) - 0x90000) % 0x10000
    low = bytearray(build_bzimage(setup=SetupHeader(protocol=0x202)))
    low[0x211] = 0
    head = patch(bytes(low), cmdline="x" * 700_000)
    assert u32(head, 0x228) == (0x9A000 - (700_016 & ~15)) % (1 << 32)


def test_the_command_line_is_counted_in_bytes() -> None:
    uki = build_bzimage(setup=SetupHeader(magic=bytes(4)))
    assert patch(uki, cmdline="é" * 8) == patch(uki, cmdline="x" * 16)


@pytest.mark.parametrize(
    ("cmdline", "mode"),
    [
        ("quiet", None),
        ("vga=normal", 0xFFFF),
        ("quiet vga=ext quiet", 0xFFFE),
        ("vga=ask", 0xFFFD),
        ("vga=791", 791),
        ("vga=0x317 quiet", 0x317),
        ("vga=0X1F", 0x1F),
        ("vga=0", 0),
        ("vga=010", 8),
        ("vga=65537", 1),
        ("vga=0xffffffff", 0xFFFF),
        ("vga=normalised", 0xFFFF),  # strncmp
        ("vga=1 vga=2", 1),
        ("video=vga=5", 5),  # strstr
    ],
)
def test_vga_sets_the_video_mode(cmdline: str, mode: int | None) -> None:
    head = patch(cmdline=cmdline)
    if mode is None:
        assert head[0x1FA:0x1FC] == KERNEL[0x1FA:0x1FC]
    else:
        assert u16(head, 0x1FA) == mode


@pytest.mark.parametrize(
    "value",
    ["", "x", "12x", "0x", "0xg", "09", "4294967296", "0x100000000", "037777777777777", "9" * 5000],
)
def test_a_vga_value_that_qemu_refuses_is_refused(value: str) -> None:
    with pytest.raises(InputError, match="is no video mode: QEMU refuses to start") as caught:
        patch(cmdline=f"vga={value}")
    assert caught.value.field == "vga="
    assert len(str(caught.value)) < 200


def test_a_file_that_ends_in_the_header_is_refused() -> None:
    with pytest.raises(MalformedKernel, match="inside the header"):
        patch(KERNEL[:0x250])


@given(
    hostile(KERNEL[:0x300]),
    st.integers(8 * MIB, 1 << 50),
    st.none() | st.integers(0, 1 << 40),
    st.text(st.characters(blacklist_categories=["Cs"]), max_size=40),
)
def test_any_kernel_is_patched_or_refused(
    data: bytes, memory: int, initrd: int | None, cmdline: str
) -> None:
    error = refused(
        lambda: patched_header(
            memoryview(data), memory=memory, initrd_size=initrd, cmdline=cmdline, origin="vmlinuz"
        )
    )
    assert error is None or error.field is not None
