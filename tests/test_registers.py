"""Register values: 48 bytes, shown as hex, extended by the TDX module's rule."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mrtd.errors import MalformedDocument
from mrtd.registers import (
    LAUNCH_REGISTERS,
    ZERO,
    Exact,
    RegisterName,
    Registers,
    Sha384,
    Unpinned,
    extend,
)
from tests.strategies import refused

DIGEST = Sha384(bytes(range(48)))


def test_digest_of_nothing_is_sha384_of_the_empty_string() -> None:
    # FIPS 180-4, SHA-384 of the empty message
    assert str(Sha384.of()) == (
        "38b060a751ac96384cd9327eb1b1e36a21fdb71114be07434c0cc7bf63f6e1da"
        "274edebfe76f65fbd51ad2f14898b95b"
    )


@given(st.lists(st.binary(max_size=20), max_size=4))
def test_digest_of_chunks_is_that_of_the_whole(chunks: list[bytes]) -> None:
    assert Sha384.of(*chunks).raw == hashlib.sha384(b"".join(chunks)).digest()


@given(st.binary(min_size=48, max_size=48))
def test_hex_reads_back(raw: bytes) -> None:
    assert Sha384.fromhex(str(Sha384(raw))) == Sha384(raw)
    assert Sha384.fromhex(raw.hex().upper()) == Sha384(raw)


@given(st.one_of(st.text(max_size=120), st.text("0123456789abcdef \nxX_", max_size=97)))
def test_any_text_is_a_digest_or_refused(text: str) -> None:
    error = refused(lambda: Sha384.fromhex(text, origin="--expect"))
    if error is not None:
        assert str(error).startswith("--expect: not 96 hex digits")
    else:
        assert str(Sha384.fromhex(text)) == text.lower()


@pytest.mark.parametrize(
    "text",
    ["", "ab" * 47, "ab" * 49, "zz" * 48, " " + "ab" * 47 + "a", "0x" + "ab" * 47, "٣" * 96],
    ids=["empty", "short", "long", "not hex", "space", "prefix", "other digits"],
)
def test_what_is_no_96_hex_digits_is_refused(text: str) -> None:
    with pytest.raises(MalformedDocument, match="not 96 hex digits"):
        Sha384.fromhex(text)


def test_very_long_text_is_not_repeated_in_the_message() -> None:
    with pytest.raises(MalformedDocument) as caught:
        Sha384.fromhex("f" * 100_000)
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize("size", [0, 47, 49])
def test_other_sizes_than_48_bytes_are_refused(size: int) -> None:
    with pytest.raises(MalformedDocument, match=f"{size} bytes where 48 are needed"):
        Sha384(bytes(size))


def test_a_digest_is_a_value() -> None:
    assert Sha384(bytes(range(48))) == DIGEST
    assert hash(Sha384(bytes(range(48)))) == hash(DIGEST)
    assert DIGEST != ZERO
    assert DIGEST.raw != DIGEST
    assert repr(DIGEST) == f"Sha384({bytes(range(48)).hex()})"
    with pytest.raises(AttributeError, match="immutable"):
        DIGEST.raw = bytes(48)


def test_a_digest_keeps_its_own_bytes() -> None:
    buffer = bytearray(48)
    digest = Sha384(bytes(buffer))
    buffer[0] = 1
    assert digest.is_zero


def test_only_48_zero_bytes_are_zero() -> None:
    assert ZERO.is_zero
    assert not Sha384(bytes(47) + b"\1").is_zero


def test_extending_hashes_register_and_digest() -> None:
    assert extend(DIGEST, ZERO).raw == hashlib.sha384(DIGEST.raw + bytes(48)).digest()


def test_extending_matches_a_separator_alone() -> None:
    # a register that one EV_SEPARATOR was extended into: H(48 zeros || H(00000000))
    value = extend(ZERO, Sha384.of(bytes(4)))
    assert value.raw == hashlib.sha384(bytes(48) + hashlib.sha384(bytes(4)).digest()).digest()


def test_registers_say_value_or_reason() -> None:
    registers = Registers(
        ((RegisterName.MRTD, Exact(DIGEST)), (RegisterName.RTMR0, Unpinned("no tables")))
    )
    assert registers.value(RegisterName.MRTD) == DIGEST
    assert registers.value(RegisterName.RTMR0) is None
    assert registers[RegisterName.RTMR0] == Unpinned("no tables")


def test_a_launch_has_mrtd_and_three_run_time_registers() -> None:
    assert [str(name) for name in LAUNCH_REGISTERS] == ["mrtd", "rtmr0", "rtmr1", "rtmr2"]
    assert [str(name) for name in RegisterName][5:] == [f"pcr{n}" for n in range(24)]
