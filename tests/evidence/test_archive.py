"""Zip archives: what other programs write is read, what they disagree about is refused."""

from __future__ import annotations

import io
import stat
import zipfile
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mrtd.errors import MalformedBundle
from mrtd.evidence import archive
from mrtd.evidence.archive import read_archive, write_archive

FILES = {"a.txt": b"first", "folder/b.bin": bytes(range(256)) * 5, "empty": b""}
GOOD = write_archive(FILES)


def foreign(
    files: dict[str, bytes], *, method: int = zipfile.ZIP_DEFLATED, stream: bool = False
) -> bytes:
    """An archive as Python's zipfile writes it; to a stream, with data descriptors."""
    out = _Pipe() if stream else io.BytesIO()
    with zipfile.ZipFile(out, "w", compression=method) as target:
        for name, body in files.items():
            target.writestr(name, body)
    return out.getvalue()


class _Pipe(io.BytesIO):
    def seekable(self) -> bool:
        return False

    def seek(self, *_: int) -> int:
        raise io.UnsupportedOperation

    def tell(self) -> int:
        raise io.UnsupportedOperation


def test_round_trip() -> None:
    assert read_archive(GOOD, origin="zip") == FILES
    assert list(read_archive(GOOD, origin="zip")) == list(FILES)
    assert write_archive(FILES) == GOOD


def test_zipfile_reads_what_is_written() -> None:
    with zipfile.ZipFile(io.BytesIO(GOOD)) as source:
        assert source.testzip() is None
        assert {info.filename: source.read(info) for info in source.infolist()} == FILES
        for info in source.infolist():
            assert info.date_time == (1980, 1, 1, 0, 0, 0)
            assert stat.S_IMODE(info.external_attr >> 16) == 0o644


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
@pytest.mark.parametrize("stream", [False, True])
def test_what_zipfile_writes_is_read(method: int, stream: bool) -> None:  # noqa: FBT001
    assert read_archive(foreign(FILES, method=method, stream=stream), origin="zip") == FILES


def with_mode(mode: int) -> bytes:
    info = zipfile.ZipInfo("a")
    info.create_system = 3
    info.external_attr = mode << 16
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as target:
        target.writestr(info, b"target")
    return out.getvalue()


def twice() -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as target:
        target.writestr("a", b"1")
        with pytest.warns(UserWarning, match="Duplicate"):
            target.writestr("a", b"2")
    return out.getvalue()


def patched(data: bytes, signature: bytes, offset: int, value: bytes) -> bytes:
    """Bytes changed at an offset in the first record with this signature."""
    at = data.index(signature) + offset
    return data[:at] + value + data[at + len(value) :]


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "no zip archive"),
        (b"PK\x03\x04", "no zip archive"),
        (GOOD + b"x", "no zip archive"),
        (b"x" + GOOD, "directory does not end"),
        (foreign({"x.bin": b"1"}, method=zipfile.ZIP_BZIP2), "neither stored"),
        (with_mode(0o120777), "no plain file"),
        (with_mode(0o40755), "no plain file"),
        (patched(GOOD, b"PK\x01\x02", 8, b"\x01"), "encrypted"),
        (patched(GOOD, b"PK\x03\x04", 6, b"\x01"), "differs from the central directory"),
        (patched(GOOD, b"PK\x03\x04", 30, b"b"), "differs from the central directory"),
        (patched(GOOD, b"first", 0, b"other"), "damaged"),
        (patched(GOOD, b"PK\x05\x06", 4, b"\x01"), "several disks"),
        (patched(GOOD, b"PK\x05\x06", 20, b"\x01"), "comment"),
        (write_archive({f"f{n}": b"" for n in range(129)}), "129 files"),
    ],
)
def test_what_readers_disagree_about(data: bytes, reason: str) -> None:
    with pytest.raises(MalformedBundle, match=reason):
        read_archive(data, origin="zip")


def test_a_name_that_comes_twice() -> None:
    with pytest.raises(MalformedBundle, match="'a' comes twice"):
        read_archive(twice(), origin="zip")


def test_a_bomb_is_not_unpacked(monkeypatch: pytest.MonkeyPatch) -> None:
    bomb = foreign({"a": bytes(1 << 20)})
    monkeypatch.setattr(archive, "SIZE_LIMIT", 1 << 16)
    with pytest.raises(MalformedBundle, match="unpacks to 1048576 bytes"):
        read_archive(bomb, origin="zip")
    # it says that it is small
    for signature, offset in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):
        bomb = patched(bomb, signature, offset, (100).to_bytes(4, "little"))
    with pytest.raises(MalformedBundle, match="does not unpack to the size"):
        read_archive(bomb, origin="zip")


def test_bytes_between_files() -> None:
    one, two = write_archive({"a": b"1"}), write_archive({"b": b"2"})
    local = one[: one.index(b"PK\x01\x02")]
    directory = two[two.index(b"PK\x01\x02") : -22]
    shifted = patched(directory, b"PK\x01\x02", 42, (len(local)).to_bytes(4, "little"))
    body = local + two[: two.index(b"PK\x01\x02")]
    end = patched(two[-22:], b"PK\x05\x06", 16, len(body).to_bytes(4, "little"))
    with pytest.raises(MalformedBundle, match="bytes between them"):
        read_archive(body + shifted + end, origin="zip")


@given(st.integers(0, len(GOOD) - 1))
def test_every_truncation_is_noticed(length: int) -> None:
    with pytest.raises(MalformedBundle):
        read_archive(GOOD[:length], origin="zip")


@given(st.integers(0, len(GOOD) - 1), st.integers(1, 255), st.booleans())
def test_nothing_foreign_from_a_changed_byte(offset: int, change: int, packed: bool) -> None:  # noqa: FBT001
    data = bytearray(foreign(FILES) if packed else GOOD)
    data[offset % len(data)] ^= change
    with suppress(MalformedBundle):
        read_archive(bytes(data), origin="zip")


@given(st.binary(max_size=500))
def test_nothing_foreign_from_any_bytes(data: bytes) -> None:
    with suppress(MalformedBundle):
        read_archive(data + GOOD[-22:], origin="zip")
