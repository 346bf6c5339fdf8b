"""Facts of an ELF vmlinux, and that hostile ELF files are refused within bounds."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given, settings

from mrtd.boot.elf import ElfFacts, read_elf
from mrtd.errors import MalformedKernel
from tests.strategies import hostile, refused

EHDR, SHDR, PHDR = 64, 64, 56
BANNER = b"Linux version 6.12.117+deb13-amd64 (debian-kernel@lists.debian.org)\0"
BUILD_ID = bytes(range(20))


def note(owner: bytes, kind: int, data: bytes) -> bytes:
    """ELF note, with name and data padded to 4 bytes (System V gABI, chapter 5)."""
    name = owner + b"\0"
    head = struct.pack("<III", len(name), len(data), kind)
    return head + name + bytes(-len(name) % 4) + data + bytes(-len(data) % 4)


NOTES = note(b"GNU", 3, BUILD_ID) + note(b"Xen", 18, bytes(8))


def build_elf(
    notes: bytes = NOTES,
    *,
    sections: int = 1,
    segments: int = 0,
    machine: int = 62,
    text: bytes = BANNER,
) -> bytes:
    """A 64-bit little-endian ELF: copies of one note section or segment, then notes and text."""
    at = EHDR + SHDR * (sections + 1) + PHDR * segments
    headers = EHDR + SHDR * (sections + 1)
    ident = b"\x7fELF" + bytes([2, 1, 1]) + bytes(9)
    head = ident + struct.pack(
        "<HHIQQQIHHHHHH", 2, machine, 1, 0, headers if segments else 0, EHDR, 0, EHDR, PHDR,
        segments, SHDR, sections + 1, 0,
    )  # fmt: skip
    null = bytes(SHDR)
    section = struct.pack("<IIQQQQIIQQ", 0, 7, 0, 0, at, len(notes), 0, 0, 4, 0)
    segment = struct.pack("<IIQQQQQQ", 4, 4, at, 0, 0, len(notes), len(notes), 4)
    return head + null + section * sections + segment * segments + notes + text


def read(image: bytes) -> ElfFacts:
    return read_elf(memoryview(image), origin="vmlinux")


def test_facts_of_a_kernel() -> None:
    found = read(build_elf())
    assert found.machine == "x64"
    assert found.build_id == BUILD_ID.hex()
    assert found.version == "6.12.117+deb13-amd64"
    assert found.notes == ("GNU", "Xen")


def test_notes_of_segments_are_read_too() -> None:
    found = read(build_elf(sections=0, segments=1))
    assert found.build_id == BUILD_ID.hex()


def test_a_kernel_without_notes_and_banner_has_neither() -> None:
    found = read(build_elf(b"", text=b"Linux version unknown"))
    assert (found.build_id, found.version, found.notes) == (None, "", ())


def test_a_first_section_whose_size_is_not_the_number_of_sections_ends_the_file() -> None:
    image = bytearray(build_elf())
    image[60:62] = bytes(2)  # no number: it is the size of section 0
    image[EHDR + 32 : EHDR + 40] = (1 << 60).to_bytes(8, "little")
    with pytest.raises(MalformedKernel):
        read(bytes(image))


@pytest.mark.parametrize(
    "image",
    [b"", b"\x7fELF", b"MZ" + bytes(100), bytes(64), build_elf()[:63], build_elf()[:100]],
    ids=["empty", "magic", "PE", "zeros", "cut header", "cut sections"],
)
def test_what_is_no_elf_is_refused(image: bytes) -> None:
    with pytest.raises(MalformedKernel, match="vmlinux: malformed ELF"):
        read(image)


def test_thousands_of_sections_are_refused() -> None:
    with pytest.raises(MalformedKernel, match="more than 4096 sections and segments"):
        read(build_elf(sections=5000))


def test_thousands_of_sections_with_the_same_notes_are_refused() -> None:
    with pytest.raises(MalformedKernel, match="or 4096 notes"):
        read(build_elf(note(b"GNU", 1, b"") * 1000, sections=2000))


@settings(max_examples=200)
@given(hostile(build_elf(), build_elf(segments=2)))
def test_any_bytes_have_facts_or_an_error_of_ours(data: bytes) -> None:
    error = refused(lambda: read(data))
    assert error is None or error.origin == "vmlinux"
