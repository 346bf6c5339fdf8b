"""Statements: what is written can be read, and whatever is read raises only our error."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from typing import Any, Final

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from fixtures import reference as made
from mrtd.errors import MalformedStatement
from mrtd.reference import (
    PREDICATE_TYPE,
    STATEMENT_TYPE,
    BitRule,
    ReferenceValues,
    RegisterRule,
    encode_reference_values,
    encode_statement,
    read_reference_values,
    read_statement,
    subjects,
)
from mrtd.reference.statement import Statement
from mrtd.reference.strict_json import DEPTH_LIMIT
from mrtd.registers import ZERO, RegisterName, Sha384
from tests.strategies import hostile, refused

VALID: Final = made.encoded(made.statement(made.document()))
REVOKING: Final = made.encoded(
    made.statement(made.revoking(made.revocation("mrtd", made.register("x")), launches=()))
)


def values(document: made.Json | None = None) -> ReferenceValues:
    return read_reference_values(made.encoded(document or made.document()))


def only_ours(data: bytes) -> ReferenceValues | None:
    """What is read; None if it is refused, as it has to be."""
    found: list[ReferenceValues] = []
    error = refused(lambda: found.append(read_statement(data, origin="fuzz")))
    if error is None:
        return found[0]
    assert type(error) is MalformedStatement
    assert str(error).isprintable()
    assert len(str(error)) < 1000
    return None


@given(hostile(VALID, REVOKING))
@example(b"[" * 200_000)
@example(b'{"a":' * 200_000)
@example(b'{"predicate":' + b"[" * 900 + b"]" * 900 + b"}")
@example(b'"\\ud800"')
@example(b'{"\\udfff":1}')
@example(b"9" * 100_000)
@example(b"-" + b"9" * 17)
@example(b"1e999999999")
@example(b"")
@example(b"\xff\xfe{\x00}\x00")
def test_bytes_are_read_or_refused(data: bytes) -> None:
    found = only_ours(data)
    if found is not None:  # a mutation of a text, say; then it can be written and read again
        assert read_statement(encode_statement(found), origin="again") == found


JSON: Final = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.text()
    | st.sampled_from([made.ZERO, made.register("a"), "exact", "unpinned", "\ud800", "tdx-mrtd"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=6,
)


def paths(value: Any, path: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    """Where something stands, in objects and lists."""
    inner: Any = ()
    if isinstance(value, dict | list):
        inner = value.items() if isinstance(value, dict) else enumerate(value)
    found: list[tuple[str | int, ...]] = []
    for key, item in inner:
        found += [(*path, key), *(paths(item, (*path, key)))]
    return found


STATEMENT: Final = json.loads(VALID)
PATHS: Final = paths(STATEMENT)


@given(st.sampled_from(PATHS), JSON)
def test_any_place_may_hold_anything(path: tuple[str | int, ...], value: Any) -> None:
    changed = json.loads(VALID)
    at = changed
    for key in path[:-1]:
        at = at[key]
    at[path[-1]] = value
    only_ours(json.dumps(changed).encode())


@given(st.sampled_from(PATHS))
def test_every_field_is_needed(path: tuple[str | int, ...]) -> None:
    changed = json.loads(VALID)
    at = changed
    for key in path[:-1]:
        at = at[key]
    del at[path[-1]]
    found = only_ours(json.dumps(changed).encode())
    optional = isinstance(at, list) or "spec" in path[:-1]
    assert found is None or optional


def test_types_are_those_of_the_schema() -> None:
    fields = {field.encode_name: field for field in msgspec.structs.fields(Statement)}
    assert STATEMENT_TYPE in str(fields["_type"].type)
    assert PREDICATE_TYPE in str(fields["predicateType"].type)
    assert json.loads(VALID)["predicateType"] == PREDICATE_TYPE


def test_what_is_written_is_what_was_read() -> None:
    assert encode_statement(values()) == VALID
    assert encode_reference_values(values()) == made.encoded(made.document())


def test_size_limit() -> None:
    assert read_statement(VALID, origin="x", limit=len(VALID)) == values()
    with pytest.raises(MalformedStatement, match=rf"{len(VALID)} bytes, more than"):
        read_statement(VALID, origin="x", limit=len(VALID) - 1)


def test_depth_limit() -> None:
    def nested(depth: int) -> bytes:
        value: Any = 1
        for _ in range(depth):
            value = [value]
        return made.encoded(made.document(made.launch(spec={"x": value})))

    # document, launches, launch, spec, x: five levels above the lists, and the number below
    read_reference_values(nested(DEPTH_LIMIT - 6))
    with pytest.raises(MalformedStatement, match="nested deeper than 64"):
        read_reference_values(nested(DEPTH_LIMIT + 1))


def test_subject_limit() -> None:
    def files(count: int) -> made.Json:
        rows = [{"name": f"f{n}", "sha256": f"{n:064x}", "size": n} for n in range(count)]
        return made.document(artifacts=rows)

    full = values(files(1022))
    assert len(subjects(full)) == 1024
    assert read_statement(encode_statement(full), origin="x") == full
    with pytest.raises(MalformedStatement, match="launches: 1025 subjects, more than the 1024"):
        values(files(1023))


CHANNEL: Final = ("tdx-revocations", {"sha256": made.revocations_digest(
    "devopsdefender/dd", "refs/heads/main"
)})  # fmt: skip


@pytest.mark.parametrize("kind", ["tag", "commit"])
def test_a_revocation_of_what_is_not_measured_is_found_in_the_channel(kind: str) -> None:
    row = made.revocation(kind, "v1" if kind == "tag" else "ab" * 20)
    found = subjects(values(made.revoking(row)))
    assert [(subject.name, subject.digest) for subject in found] == [CHANNEL]


def test_older_revocations_of_tags_alone_have_no_subject() -> None:
    older = made.revocation("tag", "v1", 411)
    with pytest.raises(MalformedStatement, match="no subject, so nobody can find it"):
        values(made.revoking(older))
    both = values(made.revoking(older, made.revocation("tag", "v2", 412)))
    assert [(subject.name, subject.digest) for subject in subjects(both)] == [CHANNEL]


@pytest.mark.parametrize("kind", ["mrtd", "launch", "tag", "commit"])
def test_only_a_document_that_revokes_something_new_is_among_the_channels_revocations(
    kind: str,
) -> None:
    value = {"mrtd": made.register("old"), "launch": "34" * 32, "tag": "v1", "commit": "ab" * 20}
    for sequence, there in ((411, False), (412, True)):
        row = made.revocation(kind, value[kind], sequence)
        found = subjects(values(made.revoking(row, launches=(made.launch(),))))
        assert (CHANNEL in [(s.name, s.digest) for s in found]) is there
    assert CHANNEL[0] not in {s.name for s in subjects(values(made.document()))}


@pytest.mark.parametrize("there", [True, False])
def test_a_statement_has_the_channels_revocations_exactly_if_it_revokes_something_new(
    there: bool,  # noqa: FBT001
) -> None:
    row = made.revocation("launch", "34" * 32, 412 if there else 411)
    statement = made.statement(made.revoking(row))
    if there:
        statement["subject"] = statement["subject"][:-1]
    else:
        statement["subject"].append({"name": CHANNEL[0], "digest": CHANNEL[1]})
    with pytest.raises(MalformedStatement, match="subject"):
        read_statement(made.encoded(statement), origin="x")


def test_subjects_of_revocations_are_what_is_asked_for() -> None:
    mrtd, launch = made.register("old"), "34" * 32
    found = subjects(
        values(made.revoking(made.revocation("mrtd", mrtd), made.revocation("launch", launch)))
    )
    assert [(subject.name, subject.digest) for subject in found] == [
        ("revoked-tdx-mrtd", {"sha256": made.mrtd_digest(mrtd)}),
        ("revoked-tdx-launch", {"sha256": launch}),
        CHANNEL,
    ]


def spec_of(spec: Any) -> ReferenceValues:
    valid = values()
    launch = msgspec.structs.replace(valid.launches[0], spec=spec)
    return msgspec.structs.replace(valid, launches=(launch,))


def endless() -> dict[str, Any]:
    spec: dict[str, Any] = {}
    spec["again"] = spec
    return spec


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"x": 1.5}, "1.5 is no integer"),
        ({"x": float("nan")}, "cannot be JSON"),
        ({"x": 2**53}, "exceeds safe integer"),
        ({"x": "\ud800"}, "cannot be JSON"),
        ({"x": object()}, "cannot be JSON: object in a document"),
        ({1: 2}, "cannot be JSON"),
        ([], "Expected `object`, got `array`"),
        (endless(), "nested too deeply"),
    ],
)
def test_what_json_has_not_is_not_written(spec: Any, message: str) -> None:
    for write in (encode_statement, encode_reference_values):
        with pytest.raises(MalformedStatement, match=message):
            write(spec_of(spec))


def test_contradictions_are_not_written() -> None:
    valid = values()
    registers = msgspec.structs.replace(valid.launches[0].registers, rtmr1=RegisterRule.exact(ZERO))
    launch = msgspec.structs.replace(valid.launches[0], registers=registers)
    with pytest.raises(MalformedStatement, match=r"launches\[0\]\.registers\.rtmr1: is zero"):
        encode_statement(msgspec.structs.replace(valid, launches=(launch,)))


def test_registers_by_name() -> None:
    registers = values().launches[0].registers
    assert [str(name) for name, _ in registers.items()] == ["mrtd", "rtmr0", "rtmr1", "rtmr2"]
    assert registers["rtmr1"] is registers[RegisterName.RTMR1] is registers.rtmr1
    assert registers.value("mrtd") == Sha384.fromhex(made.register("firmware"))
    assert RegisterRule.unpinned("x").value is None


def test_launches_know_their_digests() -> None:
    launch = values().launches[0]
    digests = [subject.digest["sha256"] for subject in subjects(values())[:2]]
    assert [launch.mrtd_digest, launch.launch_digest] == digests
    open_registers = msgspec.structs.replace(
        launch.registers, rtmr2=RegisterRule.unpinned("why"), mrtd=RegisterRule.unpinned("why")
    )
    opened = msgspec.structs.replace(launch, registers=open_registers)
    assert (opened.mrtd_digest, opened.launch_digest) == (None, None)


def test_bits() -> None:
    rule = BitRule(value="0000000010000000", mask="00000000300000ff")
    # little-endian in a quote: 0000001000000000
    assert rule.allows(int.from_bytes(bytes.fromhex("0000001000000000"), "little"))
    assert rule.allows(1 << 28 | 1 << 63)
    assert not rule.allows(1 << 28 | 1)
    assert not rule.allows(0)


def test_importing_is_cheap() -> None:
    code = (
        "import sys, mrtd.reference; print(sorted(m for m in sys.modules if m.split('.')[0] in "
        "('rfc8785', 'requests', 'sigstore', 'cryptography', 'jwt') or m.startswith('mrtd.')))"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, check=True, text=True, timeout=60
    )
    allowed = ("errors", "registers", "reference")
    names = run.stdout.strip("[]\n").replace("'", "").split(", ")
    assert [name for name in names if name.split(".")[1] not in allowed] == []


def test_values_are_frozen() -> None:
    with pytest.raises(AttributeError):
        values().schema = "x"  # type: ignore[misc, assignment]
    assert not dataclasses.is_dataclass(values())
