"""Facts of a kernel file: protocol, version, EFI stub, CC measurement."""

from __future__ import annotations

import pytest
from hypothesis import given

from fixtures.bzimage import (
    CC_MEASUREMENT_PROTOCOL,
    KERNEL_VERSION,
    Section,
    SetupHeader,
    build_bzimage,
    default_sections,
)
from mrtd.boot.bzimage import KernelFacts, read_kernel_facts, read_setup_header
from mrtd.errors import MalformedKernel
from tests.conftest import DebianParts
from tests.strategies import hostile, refused

PAYLOAD_OFFSET, PAYLOAD_LENGTH = 0x248, 0x24C


def read(image: bytes) -> KernelFacts:
    return read_kernel_facts(memoryview(image), origin="vmlinuz")


def refusal(image: bytes) -> str:
    with pytest.raises(MalformedKernel) as caught:
        read(image)
    assert caught.value.field is not None
    return str(caught.value)


def with_text(text: bytes) -> bytes:
    return build_bzimage(sections=[Section(b".text", text.ljust(0x400, b"\xcc"))])


def test_facts_of_a_kernel() -> None:
    found = read(build_bzimage())
    assert found.protocol == 0x20F
    assert found.version == KERNEL_VERSION
    assert found.release == (6, 12)
    assert found.efi_stub
    assert found.cc_measurement
    assert found.expected_cc


def test_facts_of_debian_s_kernel(debian: DebianParts) -> None:
    found = read(debian.kernel_6_12.read_bytes())
    assert found.protocol == 0x20F
    assert found.version.startswith("6.12.")
    assert found.release == (6, 12)
    assert found.efi_stub
    assert found.cc_measurement  # two 8-byte moves in its stub
    assert found.expected_cc


def test_a_stub_without_the_cc_protocol_does_not_measure() -> None:
    found = read(build_bzimage(sections=default_sections(measures=False)))
    assert not found.cc_measurement
    assert found.expected_cc  # by its version


@pytest.mark.parametrize(
    ("text", "release", "expected"),
    [
        ("6.9.0", (6, 9), True),
        ("6.8.12-generic", (6, 8), False),
        ("7.0.1", (7, 0), True),
        ("10.2", (10, 2), True),
        ("linux", None, False),
    ],
)
def test_cc_measurement_is_expected_from_6_9_on(
    text: str,
    release: tuple[int, int] | None,
    expected: bool,  # noqa: FBT001 - parametrised
) -> None:
    found = read(build_bzimage(setup=SetupHeader(kernel_version=text)))
    assert found.release == release
    assert found.expected_cc is expected


def test_a_kernel_without_version_text_has_no_release() -> None:
    found = read(build_bzimage(setup=SetupHeader(kernel_version=None)))
    assert (found.version, found.release, found.expected_cc) == ("", None, False)


def test_control_characters_of_a_version_are_replaced() -> None:
    found = read(build_bzimage(setup=SetupHeader(kernel_version="6.12\x1b[2J\x80")))
    assert found.version.startswith("6.12?[2J?")


def test_a_file_without_setup_header_has_protocol_0() -> None:
    found = read(build_bzimage(setup=SetupHeader(magic=b"XdrS")))
    assert (found.protocol, found.version) == (0, "")
    assert found.efi_stub
    assert found.cc_measurement


def test_other_files_have_no_facts() -> None:
    for data in (b"", b"MZ", b"\x7fELF", bytes(0x206)):
        found = read(data)
        assert (found.protocol, found.cc_measurement) == (0, False)
        assert found.efi_stub is (data == b"MZ")


def test_the_protocol_as_two_immediates_is_found() -> None:
    halves = CC_MEASUREMENT_PROTOCOL[:8] + b"\x48\xb8\x90" + CC_MEASUREMENT_PROTOCOL[8:]
    assert read(with_text(halves)).cc_measurement
    turned = CC_MEASUREMENT_PROTOCOL[8:] + b"\x48\xb9" + CC_MEASUREMENT_PROTOCOL[:8]
    assert read(with_text(turned)).cc_measurement


def test_halves_of_the_protocol_far_apart_are_not_the_protocol() -> None:
    apart = CC_MEASUREMENT_PROTOCOL[:8] + bytes(200) + CC_MEASUREMENT_PROTOCOL[8:]
    assert not read(with_text(apart)).cc_measurement
    assert not read(with_text(CC_MEASUREMENT_PROTOCOL[:8] * 2)).cc_measurement


def payload(image: bytes, offset: int, length: int) -> bytes:
    """With a compressed payload at ``offset`` from the protected-mode code (at 0x1000 here)."""
    data = bytearray(image)
    data[PAYLOAD_OFFSET : PAYLOAD_OFFSET + 4] = offset.to_bytes(4, "little")
    data[PAYLOAD_LENGTH : PAYLOAD_LENGTH + 4] = length.to_bytes(4, "little")
    return bytes(data)


def test_the_protocol_in_the_compressed_payload_is_no_stub() -> None:
    image = with_text(b"\0" * 0x100 + CC_MEASUREMENT_PROTOCOL)
    assert not read(payload(image, 0x80, 0x200)).cc_measurement
    assert read(payload(image, 0x200, 0x100)).cc_measurement


def test_old_headers_have_no_payload_fields() -> None:
    old = build_bzimage(setup=SetupHeader(protocol=0x207))
    assert read(payload(old, 0xFFFFFFFF, 0xFFFFFFFF)).cc_measurement


@pytest.mark.parametrize("offset", [0, 0x1000, 0xFFFFFFFF])
def test_a_payload_outside_of_the_file_is_refused(offset: int) -> None:
    text = refusal(payload(build_bzimage(), offset, 0xFFFFFFFF))
    assert text.startswith("vmlinuz+0x24c: payload_length: payload ends at")


def test_a_version_outside_of_the_file_is_refused() -> None:
    image = bytearray(build_bzimage())
    image[0x20E:0x210] = b"\xff\xff"
    assert "vmlinuz+0x20e: kernel_version: points to 0x101ff" in refusal(bytes(image))


@pytest.mark.parametrize("length", [0x206, 0x210, 0x267])
def test_a_file_that_ends_in_the_header_is_refused(length: int) -> None:
    text = refusal(build_bzimage()[:length])
    assert f"setup header: ends at {length:#x}, inside the header" in text


def test_0_setup_sectors_mean_4() -> None:
    # Documentation/arch/x86/boot.rst: setup_sects 0 is 4, for old kernels
    image = bytearray(with_text(CC_MEASUREMENT_PROTOCOL))
    image[0x1F1] = 0
    assert not read(payload(bytes(image), 0x1000 - 5 * 512, 0x100)).cc_measurement


def test_header_fields_are_read() -> None:
    setup = SetupHeader(protocol=0x20C, xloadflags=2, initrd_addr_max=0x1234)
    header = read_setup_header(memoryview(build_bzimage(setup=setup)), origin="vmlinuz")
    assert (header.protocol, header.xloadflags, header.initrd_addr_max) == (0x20C, 2, 0x1234)
    assert header.loadflags == 1


@given(hostile(build_bzimage()[:0x400], build_bzimage()))
def test_any_bytes_have_facts_or_an_error_of_ours(data: bytes) -> None:
    error = refused(lambda: read(data))
    assert error is None or error.origin == "vmlinuz"
