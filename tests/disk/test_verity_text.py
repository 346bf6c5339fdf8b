"""Command lines and superblocks that nobody should write."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mrtd.disk.root import check_root
from mrtd.disk.verity import read_superblock
from mrtd.disk.verity_cmdline import parameters, verity_arguments
from mrtd.errors import MalformedDisk
from tests.disk.images import MemoryDisk
from tests.strategies import hostile, refused

HASH, SALT = "6105d6cc76af4003" * 4, "ab" * 32
TABLE = f"0 8 verity 1 254:0 254:1 4096 4096 1 1 sha256 {HASH} {SALT}"
SUPERBLOCK = struct.pack(
    "<8sII16s32sIIQH6x32s", b"verity", 1, 1, bytes(16), b"sha256", 4096, 4096, 10, 32, b"salt"
).ljust(512, b"\0")


def test_parameters_are_those_of_the_kernel() -> None:
    text = 'a=1 b-c="x y" "d=e f" quiet g="" -- h=1'
    assert parameters(text) == (("a", "1"), ("b_c", "x y"), ("d", "e f"), ("quiet", ""), ("g", ""))
    assert parameters('a="open quote') == (("a", "open quote"),)


@pytest.mark.parametrize(
    ("table", "problem"),
    [
        (TABLE, None),
        (TABLE.replace(SALT, "-"), None),
        (TABLE + " 1 restart_on_corruption", None),
        (TABLE + " 2 use_fec_from_device 254:2", "not followed"),
        (TABLE + " 1 ignore_corruption", "read all the same"),
        (TABLE + ",8 8 linear 254:0 0", "several targets"),
        (TABLE.replace("verity 1", "verity 0"), "format 0"),
        (TABLE.replace("sha256", "sha1"), "with sha1"),
        (TABLE.replace(HASH, HASH[2:]), "not one of sha256"),
        (TABLE.replace(SALT, "xy"), "salt"),
        (TABLE.replace(" 4096 4096", " x 4096"), "not complete"),
        ("0 8 verity 1 a b", "not complete"),
        ("0 8 verity", None),
    ],
)
def test_tables_of_the_command_line(table: str, problem: str | None) -> None:
    found = verity_arguments(f'dm-mod.create="root,,,ro,{table}" root=/dev/dm-0')
    if not found:
        assert table == "0 8 verity"
        return
    assert (found[0].problem is None) == (problem is None)
    assert (problem or "") in (found[0].problem or "")


def test_of_several_devices_each_counts() -> None:
    text = f'dm-mod.create="a,,,ro,{TABLE};b,,,ro,0 8 linear 254:0 0;c,,,ro,{TABLE}"'
    assert [argument.device for argument in verity_arguments(text)] == [
        "/dev/mapper/a", "/dev/mapper/c",
    ]  # fmt: skip
    again = verity_arguments(f'dm-mod.create="a,,,ro,{TABLE}" dm_mod.create="b,,,ro,{TABLE}"')
    assert [(a.device, a.problem) for a in again] == [
        ("/dev/mapper/b", "several values of dm-mod.create")
    ]


def test_notes_of_options() -> None:
    options = "systemd.verity_root_options=check-at-most-once,hash-offset=4096"
    (argument,) = verity_arguments(f"roothash={HASH} {options}")
    assert argument.offset == 4096
    assert argument.notes == ("blocks are checked when they are first read, and not again",)
    assert argument.problem is None


@pytest.mark.parametrize(
    ("at", "value", "said"),
    [
        (0, b"x", "signature"),
        (8, b"\2", "2 is not 1"),
        (12, b"\0", "0 is not 1"),
        (32, b"md5\0", "'md5' is none of"),
        (32, b"\xff", "is none of"),
        (64, b"\1", "not a power of two"),
        (68, bytes(4), "not a power of two"),
        (68, b"\0\0\0\x80", "not a power of two"),
        (72, bytes(8), "are none"),
        (80, b"\1\1", "257 is more than 256"),
    ],
)
def test_superblocks_are_bounded(at: int, value: bytes, said: str) -> None:
    raw = bytearray(SUPERBLOCK)
    raw[at : at + len(value)] = value
    with pytest.raises(MalformedDisk, match=said):
        read_superblock(MemoryDisk(bytes(raw)))


@given(hostile(SUPERBLOCK))
def test_whatever_the_superblock_only_our_errors_leave(data: bytes) -> None:
    refused(lambda: read_superblock(MemoryDisk(data)).levels())


WORDS = st.sampled_from([
    "roothash=", HASH, "usrhash=", "systemd.verity_root_data=", "/dev/vda", "dm-mod.create=", '"',
    TABLE, ",", ";", " ", "root=", "--", "systemd.verity_root_options=hash-offset=", "9" * 30,
    "LABEL=x", "r,,,ro,", "verity", "²", "0", "systemd.verity=no",
])  # fmt: skip


@given(st.lists(WORDS | st.text(max_size=6), max_size=12).map("".join))
def test_any_command_line_has_an_answer(cmdline: str) -> None:
    assert check_root(MemoryDisk(SUPERBLOCK + bytes(1 << 14)), cmdline, workers=1).reason
