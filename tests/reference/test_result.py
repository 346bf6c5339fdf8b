"""Result documents, and the confirmations that name them."""

from __future__ import annotations

import json
from typing import Any, Final

import pytest
from hypothesis import given

from fixtures import reference as made
from mrtd.errors import MalformedStatement
from mrtd.reference import (
    Launch,
    confirmation_of,
    encode_result,
    read_reference_values,
    read_result,
    result_digest,
)
from tests.strategies import hostile, refused

A: Final = made.register("firmware")
B: Final = made.register("something else")


def row(register: str, outcome: str, expected: str | None, observed: str | None) -> made.Json:
    return {
        "register": register, "outcome": outcome, "expected": expected, "observed": observed,
    }  # fmt: skip


RESULT: Final[made.Json] = {
    "schema": "mrtd.result/1",
    "kind": "launched-tdx",
    "shape": "q35-2cpu-4gib",
    "outcome": "confirmed",
    "registers": [row("mrtd", "match", A, A), row("rtmr0", "not-checked", None, B)],
    "programs": [{"name": "qemu", "version": "10.1.0 (Debian 1:10.1.0+ds-1)"}],
    "evidence": [{"name": "tdx/quote", "size": 4935, "sha256": made.sha256(b"quote")}],
    "created": "2026-11-23T21:00:00Z",
    "notes": [],
}
VALID: Final = made.encoded(RESULT)


def test_round_trip() -> None:
    assert encode_result(read_result(VALID)) == VALID


def test_confirmation_names_the_bytes() -> None:
    indented = json.dumps(RESULT, indent=2).encode()
    found = confirmation_of(indented)
    assert found.sha256 == result_digest(indented) == made.sha256(indented) != made.sha256(VALID)
    assert (found.kind, found.outcome) == ("launched-tdx", "confirmed")


def launch(**changes: Any) -> Launch:
    return read_reference_values(made.encoded(made.document(made.launch(**changes)))).launches[0]


def test_confirmation_is_of_this_launch() -> None:
    assert confirmation_of(VALID, launch=launch()) == confirmation_of(VALID)
    with pytest.raises(MalformedStatement, match="shape: 'q35-2cpu-4gib', and the launch is 'big'"):
        confirmation_of(VALID, launch=launch(shape="big"))
    other = made.changed(RESULT, "registers.0", row("mrtd", "match", B, B))
    with pytest.raises(MalformedStatement, match=r"registers\[0\].expected: is not mrtd of"):
        confirmation_of(made.encoded(other), launch=launch())


def test_crosscheck_compares_pcrs() -> None:
    pcrs = [row("pcr0", "match", A, A), row("pcr4", "match", B, B)]
    result = RESULT | {"kind": "tpm-crosscheck", "registers": pcrs}
    assert confirmation_of(made.encoded(result), launch=launch()).kind == "tpm-crosscheck"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"schema": "mrtd.result/2"}, "schema: Invalid enum value"),
        ({"more": 1}, "unknown field `more`"),
        ({"created": "2026-02-30T00:00:00Z"}, "created: .* is no time"),
        ({"registers": [row("mrtd", "match", A, B)]}, r"registers\[0\].outcome: 'match' contra"),
        ({"registers": [row("mrtd", "differs", A, A)]}, "'differs' contradicts the values"),
        ({"registers": [row("mrtd", "not-checked", A, A)]}, "'not-checked' contradicts"),
        ({"registers": [row("mrtd", "match", A, None)]}, "'match' contradicts the values"),
        ({"registers": [row("mrtd", "match", made.ZERO, made.ZERO)]}, "'match' contradicts"),
        ({"registers": [row("mrtd", "match", A, A)] * 2}, r"registers\[1\].register: .* twice"),
        ({"registers": [row("mrtd", "differs", A, B)]}, "outcome: 'confirmed', and mrtd differs"),
        ({"registers": [row("rtmr1", "match", A, A)]}, "outcome: .* MRTD does not match"),
        ({"registers": []}, "outcome: 'confirmed', and nothing says which launch"),
        ({"registers": [row("pcr0", "match", A, A)]}, "pcr0 is none of a launched-tdx check"),
        ({"kind": "tpm-crosscheck"}, "mrtd is none of a tpm-crosscheck check"),
        ({"outcome": "refuted"}, "notes: 'refuted', and nothing says why"),
        ({"outcome": "not-checked"}, "notes: 'not-checked', and nothing says why"),
        ({"registers": [row("mrtd", "match", A.upper(), A)]}, "96 lower-case hex digits"),
    ],
)
def test_contradictions(changes: made.Json, message: str) -> None:
    with pytest.raises(MalformedStatement, match=message):
        read_result(made.encoded(RESULT | changes))


@pytest.mark.parametrize(
    "changes",
    [
        {"outcome": "refuted", "registers": [row("mrtd", "differs", A, B)]},
        {"outcome": "refuted", "notes": ["the quote's signature is not valid"]},
        {"outcome": "not-checked", "registers": [], "notes": ["no TDX host"]},
        {"registers": [*RESULT["registers"], row("rtmr1", "not-checked", made.ZERO, made.ZERO)]},
    ],
)
def test_other_outcomes(changes: made.Json) -> None:
    data = made.encoded(RESULT | changes)
    assert encode_result(read_result(data)) == data


@given(hostile(VALID))
def test_bytes_are_read_or_refused(data: bytes) -> None:
    error = refused(lambda: read_result(data))
    assert error is None or type(error) is MalformedStatement
