"""The fw_cfg directory: `mrtd.qemu.items`."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mrtd.errors import ToolFailed
from mrtd.qemu.items import DirectoryEntry, parse_directory


def directory(*files: tuple[bytes, int, int], count: int | None = None) -> bytes:
    head = struct.pack(">I", len(files) if count is None else count)
    return head + b"".join(struct.pack(">IHH56s", size, key, 0, name) for name, size, key in files)


def test_entries_in_order() -> None:
    blob = directory((b"etc/e820", 20, 0x21), (b"bootorder", 0, 0x20))
    assert parse_directory(blob) == (
        DirectoryEntry("etc/e820", 20, 0x21),
        DirectoryEntry("bootorder", 0, 0x20),
    )
    assert parse_directory(bytes(4)) == ()


@pytest.mark.parametrize(
    ("blob", "message"),
    [
        (b"", "needs 4 bytes"),
        (directory((b"a", 1, 32))[:-1], "needs 64 bytes"),
        (directory((b"a", 1, 32)) + b"\0", "left over"),
        (directory((b"a", 1, 32), (b"a", 1, 33)), "twice"),
        (directory((b"", 1, 32)), "no file name"),
        (directory((b"a\0b", 1, 32)), "no file name"),
        (directory((b"\xff", 1, 32)), "no file name"),
        (directory((b"a", 1 << 31, 32)), "bytes"),
        (directory(count=1 << 31), "at most"),
    ],
)
def test_what_is_refused(blob: bytes, message: str) -> None:
    with pytest.raises(ToolFailed, match=message):
        parse_directory(blob)


@given(st.binary(max_size=300))
def test_only_our_errors(blob: bytes) -> None:
    try:
        entries = parse_directory(blob)
    except ToolFailed:
        return
    assert len(blob) == 4 + 64 * len(entries)
