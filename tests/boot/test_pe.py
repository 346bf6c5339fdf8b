"""Authenticode SHA-384 of PE images: what is hashed, what is skipped, what is refused."""

from __future__ import annotations

import hashlib
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fixtures.bzimage import (
    CHECKSUM_OFFSET,
    HEADERS_SIZE,
    PE_OFFSET,
    Section,
    build_bzimage,
    default_sections,
    win_certificate,
)
from mrtd.boot.pe import authenticode, pe_layout
from mrtd.errors import MalformedKernel
from tests.strategies import hostile, refused

SECURITY_PE32_PLUS = PE_OFFSET + 24 + 112 + 32
SECURITY_PE32 = PE_OFFSET + 24 + 96 + 32
CERTIFICATE = win_certificate(b"signature")


def digest(image: bytes, header: bytes = b"") -> str:
    return str(authenticode(memoryview(image), origin="vmlinuz", header=header))


def refusal(image: bytes) -> str:
    with pytest.raises(MalformedKernel) as caught:
        digest(image)
    assert caught.value.offset is not None
    assert caught.value.field is not None
    return str(caught.value)


def slow(image: bytes, *, pe32: bool = False, certificate: int = 0, directory: bool = True) -> str:
    """Facts 4.2 for an image whose sections fill it, in order: a hash with two or three holes."""
    entry = SECURITY_PE32 if pe32 else SECURITY_PE32_PLUS
    state = hashlib.sha384(image[:CHECKSUM_OFFSET])
    if directory:
        state.update(image[CHECKSUM_OFFSET + 4 : entry])
        state.update(image[entry + 8 : len(image) - certificate])
    else:
        state.update(image[CHECKSUM_OFFSET + 4 :])
    return state.hexdigest()


@pytest.mark.parametrize("pe32", [False, True], ids=["PE32+", "PE32"])
@pytest.mark.parametrize("certificate", [b"", CERTIFICATE], ids=["unsigned", "signed"])
@pytest.mark.parametrize("trailing", [b"", b"x", b"12345678", bytes(13)])
def test_everything_is_hashed_but_checksum_and_certificates(
    pe32: bool,  # noqa: FBT001 - parametrised
    certificate: bytes,
    trailing: bytes,
) -> None:
    image = build_bzimage(pe32=pe32, certificate=certificate, trailing=trailing)
    assert digest(image) == slow(image, pe32=pe32, certificate=len(certificate))


def test_checksum_is_not_measured() -> None:
    assert digest(build_bzimage(checksum=0)) == digest(build_bzimage(checksum=0xFFFFFFFF))


def test_signing_does_not_change_the_digest() -> None:
    assert digest(build_bzimage()) == digest(build_bzimage(certificate=CERTIFICATE))
    other = win_certificate(b"another signature, longer")
    assert digest(build_bzimage(certificate=CERTIFICATE)) == digest(
        build_bzimage(certificate=other)
    )


def test_trailing_bytes_of_an_unsigned_image_are_measured_without_padding() -> None:
    # facts 4.2: dstack-mr and virtee ignore or pad them, edk2 does not
    assert len({digest(build_bzimage(trailing=bytes(n))) for n in range(10)}) == 10


def test_every_byte_but_the_skipped_ones_counts() -> None:
    image = build_bzimage(certificate=CERTIFICATE)
    skipped = {
        *range(CHECKSUM_OFFSET, CHECKSUM_OFFSET + 4),
        *range(SECURITY_PE32_PLUS, SECURITY_PE32_PLUS + 8),
        *range(len(image) - len(CERTIFICATE), len(image)),
    }
    layout = pe_layout(memoryview(image), origin="vmlinuz")
    hashed = {at for start, end in layout.hashed for at in range(start, end)}
    assert hashed == set(range(len(image))) - skipped
    assert sum(end - start for start, end in layout.hashed) == len(hashed)
    assert layout.certificates == len(CERTIFICATE)


@pytest.mark.parametrize("directories", [0, 4])
def test_an_image_without_certificate_directory_has_nothing_to_skip_there(
    directories: int,
) -> None:
    image = build_bzimage(directories=directories)
    assert digest(image) == slow(image, directory=False)


def test_sections_are_hashed_in_the_order_of_their_data() -> None:
    data = [b"A" * 0x200, b"B" * 0x200, b"C" * 0x200]
    inside = [HEADERS_SIZE + 0x200 * n for n in range(3)]
    turned = [
        Section(name, data[place], raw_offset=inside[source])
        for name, place, source in ((b".a", 0, 2), (b".b", 1, 0), (b".c", 2, 1))
    ]
    image = build_bzimage(sections=turned)
    layout = pe_layout(memoryview(image), origin="vmlinuz")
    assert layout.hashed[-3:] == tuple((at, at + 0x200) for at in inside)


def test_sections_at_the_same_place_are_hashed_in_file_order() -> None:
    # edk2's insertion sort is stable: the longer one stays first
    body = b"A" * 0x400
    sections = [
        Section(b".long", body),
        Section(b".short", b"", raw_size=0x100, raw_offset=HEADERS_SIZE),
    ]
    image = build_bzimage(sections=sections, trailing=bytes(0x100))
    layout = pe_layout(memoryview(image), origin="vmlinuz")
    ends = [end for start, end in layout.hashed if start == HEADERS_SIZE]
    assert ends == [HEADERS_SIZE + 0x400, HEADERS_SIZE + 0x100]


def test_empty_sections_are_not_hashed() -> None:
    empty = Section(b".bss", b"", raw_size=0, raw_offset=0xFFFFFFFF)
    image = build_bzimage(sections=[*default_sections(), empty])
    assert digest(image) == slow(image)


@given(st.integers(0, HEADERS_SIZE + 0x400), st.binary(max_size=8))
def test_a_patched_header_is_hashed_in_place_of_the_file_s(length: int, patch: bytes) -> None:
    image = build_bzimage(certificate=CERTIFICATE)
    header = bytearray(image[:length])
    at = 0x200
    if length >= at + len(patch):
        header[at : at + len(patch)] = patch
    whole = bytes(header) + image[length:]
    assert digest(image, bytes(header)) == digest(whole)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (b"", "DOS header: needs 2 bytes, 0 are left"),
        (b"\x7fELF" + bytes(100), "no 'MZ'): the firmware cannot start it"),
        (b"MZ", "PE header offset: points to 0x3c, past the end (0x2)"),
        (b"MZ" + bytes(0x3C), "PE header offset: needs 4 bytes, 2 are left"),
        (b"MZ" + bytes(0x3E), "PE signature: not 'PE'"),
        (build_bzimage(pe_offset=0xFFFFFFFF), "+0x3c: PE header offset: points to 0xffffffff"),
        (build_bzimage(pe_offset=0), "+0x0: PE signature: not 'PE'"),
        (build_bzimage()[: PE_OFFSET + 20], "size of optional header: needs 2 bytes, 0"),
        (build_bzimage()[: PE_OFFSET + 24 + 30], "SizeOfHeaders"),
        (build_bzimage()[: PE_OFFSET + 24 + 100], "NumberOfRvaAndSizes"),
        (build_bzimage()[: PE_OFFSET + 24 + 120], "certificate table size"),
        (build_bzimage(headers_size=0), "SizeOfHeaders: 0x0 does not hold the headers"),
        (build_bzimage(headers_size=0x90), "SizeOfHeaders: 0x90 does not hold the headers"),
        (build_bzimage(headers_size=0xFFFFFFFF), "SizeOfHeaders: 0xffffffff does not hold"),
        (
            build_bzimage(certificate_entry=(0x2000, 0xFFFFFFFF)),
            "headers, sections and certificates need",
        ),
        (build_bzimage(sections=[Section(b".a", b"", raw_size=8)]), "section 0: raw data ends"),
        (
            build_bzimage(sections=[Section(b".a", bytes(8), raw_offset=0xFFFFFFFF)]),
            "section 0: raw data ends at 0x100000007, after the file",
        ),
        (
            build_bzimage(sections=[Section(b".a", bytes(16))] * 3 + [
                Section(b".b", b"", raw_size=16, raw_offset=HEADERS_SIZE)]),
            "headers, sections and certificates need",
        ),
        (build_bzimage()[:-1], "raw data ends"),
    ],
)  # fmt: skip
def test_a_broken_image_is_refused_by_field(image: bytes, message: str) -> None:
    text = refusal(image)
    assert text.startswith("vmlinuz+0x")
    assert message in text


def test_an_elf_kernel_is_refused_with_the_remedy() -> None:
    assert "give a bzImage with EFI stub" in refusal(b"\x7fELF" + bytes(100))


@pytest.mark.parametrize("magic", [0, 0x107, 0xFFFF])
def test_another_optional_header_is_refused(magic: int) -> None:
    image = bytearray(build_bzimage())
    image[PE_OFFSET + 24 : PE_OFFSET + 26] = magic.to_bytes(2, "little")
    assert "neither PE32 nor PE32+" in refusal(bytes(image))


def test_65535_sections_over_the_same_bytes_are_refused() -> None:
    sections = struct.pack("<8xIIIIIIHHI", 0, 0, 0x1000, 0, 0, 0, 0, 0, 0) * 0xFFFF
    image = bytearray(build_bzimage())
    image[PE_OFFSET + 6 : PE_OFFSET + 8] = b"\xff\xff"
    table = PE_OFFSET + 24 + 112 + 6 * 8
    image[table : table + len(sections)] = sections
    image[PE_OFFSET + 24 + 60 : PE_OFFSET + 24 + 64] = len(image).to_bytes(4, "little")
    assert "headers, sections and certificates need" in refusal(bytes(image))


@given(hostile(build_bzimage(certificate=CERTIFICATE), build_bzimage(pe32=True)))
def test_any_bytes_have_a_digest_or_an_error_of_ours(data: bytes) -> None:
    error = refused(lambda: digest(data))
    assert error is None or error.origin == "vmlinuz"
