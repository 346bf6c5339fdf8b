"""SMBIOS tables as edk2 >= 202505 measures them."""

from __future__ import annotations

import contextlib

import hypothesis
import hypothesis.strategies as st
import pytest

from mrtd.errors import InputError
from mrtd.firmware.signals import read_signals
from mrtd.firmware.smbios import (
    BIOS_TEMPLATE,
    BiosStrings,
    measured_table,
    structures,
    with_processor_id,
)
from mrtd.firmware.volumes import unpack_firmware
from tests.conftest import DebianParts

END = bytes([127, 4, 0xFF, 0xFE, 0, 0])
BIOS = BiosStrings("Vendor", "1.0", "01/02/2026")


def structure(kind: int, fields: bytes, *strings: bytes) -> bytes:
    """DSP0134 6.1: type, length, handle, fields; strings, each with its zero, and a final zero."""
    text = b"".join(string + b"\0" for string in strings) or b"\0"
    return bytes([kind, 4 + len(fields), 0, kind]) + fields + text + b"\0"


def fields(size: int, **values: int) -> bytes:
    """Fields of a structure of ``size`` bytes with single bytes set: ``x07=1`` is offset 0x07."""
    raw = bytearray(size)
    for name, value in values.items():
        raw[int(name[1:], 16)] = value
    return bytes(raw[4:])


def measured(*parts: bytes, bios: BiosStrings | None = None) -> tuple[bytes, ...]:
    table = measured_table(b"".join(parts), bios, origin="tables")
    return structures(table, origin="measured")


def test_firmware_adds_its_bios_information_and_the_end() -> None:
    system = structure(1, fields(0x1B), b"QEMU")
    found = measured(system, structure(127, b""), bios=BIOS)
    assert found == (
        system,
        BIOS_TEMPLATE + b"Vendor\x001.0\x0001/02/2026\0\0",
        END,
    )


def test_bios_information_of_qemu_is_kept() -> None:
    given = structure(0, fields(0x18), b"given")
    assert measured(given, bios=BIOS) == (given, END)


def test_serial_number_is_blanked_with_its_number() -> None:
    before = structure(1, fields(0x1B, x04=1, x07=2, x08=0xAA, x18=6), b"maker", b"12345", b"x")
    after = structure(1, fields(0x1B, x04=1), b"maker", b"     ", b"x")
    assert measured(before) == (after, END)


def test_counts_and_speed_of_a_processor_are_blanked_and_its_signature_is_not() -> None:
    set_fields = {f"x{offset:02X}": 1 for offset in range(8, 0x30)}
    before = structure(4, fields(0x30, **set_fields), b"socket")
    (after, _) = measured(before)
    blanked = {offset for offset in range(0x30) if before[offset] != after[offset]}
    assert blanked == {
        0x11, 0x16, 0x17, *range(0x20, 0x26), *range(0x2A, 0x30),
    }  # fmt: skip


def test_fields_that_a_short_structure_lacks_are_left_alone() -> None:
    short = structure(4, fields(0x1A, x19=7), b"socket")
    assert measured(short) == (short, END)


@pytest.mark.parametrize("kind", [11, 15, 18, 31, 33, 128, 221])
def test_oem_and_volatile_structures_keep_their_header_only(kind: int) -> None:
    before = structure(kind, b"\1\2\3", b"secret")
    after = measured_table(before, None, origin="tables")
    assert after == before[:4] + bytes(len(before) - 4) + END


def test_string_number_beyond_the_strings_blanks_the_last_one() -> None:
    before = structure(3, fields(0x15, x07=9), b"a", b"bc")
    assert measured(before) == (structure(3, fields(0x15), b"a", b"  "), END)


def test_what_follows_the_end_is_ignored() -> None:
    system = structure(1, fields(0x1B), b"QEMU")
    assert measured(system, END, b"rubbish") == (system, END)


def test_processor_id_replaces_that_of_every_processor() -> None:
    cpus = [structure(4, fields(0x30, x08=n), b"CPU") for n in (1, 2)]
    other = with_processor_id(b"".join(cpus), bytes(range(8)), origin="tables")
    assert [part[8:16] for part in structures(other, origin="t")] == [bytes(range(8))] * 2
    assert len(other) == sum(map(len, cpus))


@pytest.mark.parametrize("table", [b"\1", b"\1\3\0\0\0\0", b"\1\x1b\0\0", b"\1\4\0\0abc"])
def test_broken_structures_are_refused(table: bytes) -> None:
    with pytest.raises(InputError, match=r"tables\+0x0: SMBIOS structure"):
        structures(table, origin="tables")


@hypothesis.given(st.binary(max_size=300))
def test_any_bytes_raise_only_our_errors(data: bytes) -> None:
    with contextlib.suppress(InputError):
        table = measured_table(data, BIOS, origin="tables")
        assert table.endswith(END)
        assert measured_table(table, None, origin="again") == table  # nothing is left to blank


def test_strings_of_real_firmware(debian: DebianParts) -> None:
    for path in (debian.ovmf_2025_02, debian.ovmf_2026_08, debian.inteltdx_2026_08):
        image = memoryview(path.read_bytes())
        signals = read_signals(unpack_firmware(image, origin=path.name))
        assert signals.bios is not None
        assert signals.bios.vendor == "Debian distribution of EDK II"
        assert signals.bios.version == signals.version
