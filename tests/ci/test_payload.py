"""The payload reader against archives that no measuring guest would send."""

from __future__ import annotations

import contextlib
import io
import tarfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ci import payload
from ci.errors import LaunchFailed, excerpt
from ci.payload import read_payload


def archive(*members: tuple[tarfile.TarInfo, bytes]) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for member, body in members:
            tar.addfile(member, io.BytesIO(body))
    return stream.getvalue()


def member(
    name: str, body: bytes = b"", *, kind: bytes = tarfile.REGTYPE, link: str = ""
) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.type = kind
    info.linkname = link
    info.size = len(body)
    return info, body


def framed(body: bytes) -> bytes:
    return b"mrtd.payload/1 %d\n" % len(body) + body


GOOD = framed(archive(member("./log/events", b"abc"), member("./empty")))


def test_plain_files() -> None:
    folder = member("./log", kind=tarfile.DIRTYPE)
    body = archive(folder, member("./log/events", b"abc"), member("empty"))
    assert read_payload(framed(body)) == {"log/events": b"abc", "empty": b""}


def test_busybox_announces_an_empty_archive() -> None:
    assert read_payload(framed(archive())) == {}


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (archive(member("../up", b"x")), r"a member is named '\.\./up'"),
        (archive(member("a/../../up", b"x")), "a member is named"),
        (archive(member("/etc/passwd", b"x")), "a member is named '/etc/passwd'"),
        (archive(member("./\x1b[2J", b"x")), r"a member is named '\./\\x1b\[2J'"),
        (archive(member(".", b"x")), "a member is named"),
        (archive(member("l", kind=tarfile.SYMTYPE, link="/etc")), "'l' is not a plain file"),
        (archive(member("l", kind=tarfile.LNKTYPE, link="a")), "'l' is not a plain file"),
        (archive(member("d", kind=tarfile.CHRTYPE)), "'d' is not a plain file"),
        (archive(member("f", kind=tarfile.FIFOTYPE)), "'f' is not a plain file"),
        (archive(member("a", b"1"), member("./a", b"2")), "'a' comes twice"),
        (archive(*[member(f"f{i}") for i in range(5000)]), "more than 4096 members"),
        (b"x" * 1024, "not a tar archive"),
        (archive(member("a", b"x" * 2048))[:1024], "not a tar archive|has 512 of 2048"),
    ],
)
def test_hostile_archives(body: bytes, reason: str) -> None:
    with pytest.raises(LaunchFailed, match=reason):
        read_payload(framed(body))


@pytest.mark.parametrize(
    ("sent", "reason"),
    [
        (b"", "sent no payload"),
        (b"\x1b[31mhello\n", "it starts with"),
        (b"mrtd.payload/1 -1\n", "it starts with"),
        (b"mrtd.payload/1 007\n1234567", "it starts with"),
        (b"mrtd.payload/1 99999999999\n", "it starts with"),
        (b"mrtd.payload/1 2\nx", "1 bytes where 2 were announced"),
        (b"mrtd.payload/1 2\nxxx", "3 bytes where 2 were announced"),
    ],
)
def test_bad_frames(sent: bytes, reason: str) -> None:
    with pytest.raises(LaunchFailed, match=reason):
        read_payload(sent)


def test_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(payload, "PAYLOAD_LIMIT", 1024)
    with pytest.raises(LaunchFailed, match="more than 1024"):
        read_payload(GOOD)


@given(st.integers(0, len(GOOD) - 1))
def test_every_truncation_is_noticed(length: int) -> None:
    with pytest.raises(LaunchFailed):
        read_payload(GOOD[:length])


@given(st.integers(16, len(GOOD) - 1), st.integers(1, 255))
def test_a_changed_byte_raises_nothing_foreign(offset: int, change: int) -> None:
    sent = bytearray(GOOD)
    sent[offset] ^= change
    with contextlib.suppress(LaunchFailed):
        read_payload(bytes(sent))


@given(st.binary(max_size=4096))
def test_nothing_foreign_from_any_archive(body: bytes) -> None:
    with contextlib.suppress(LaunchFailed):
        read_payload(framed(body))


@given(st.binary(max_size=2000))
def test_an_excerpt_is_safe_to_print(text: bytes) -> None:
    lines = excerpt(text)
    assert len(lines) <= 26
    assert all(line.isprintable() and len(line) <= 200 for line in lines)


def test_an_excerpt_has_the_beginning_and_the_end() -> None:
    text = b"\n".join(b"line %d" % number for number in range(50)) + b"\n\n\x1b[0m \xff\r\n"
    lines = excerpt(text)
    assert lines[:6] == (*(f"line {number}" for number in range(5)), "[26 lines left out]")
    assert lines[-2:] == ("line 49", "\\x1b[0m \\xff")
