"""Which input moved which register, from one release to the next."""

from __future__ import annotations

import json
from base64 import b64encode
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fixtures.acpi import build_tables
from mrtd.document import encode, to_document
from mrtd.errors import InputError
from mrtd.launch.spec import read_spec_file
from mrtd.matrix import derive_shapes, reference_values
from mrtd.measure import measure
from mrtd.reference import (
    Artifact,
    ReferenceValues,
    Release,
    Revocation,
    encode_reference_values,
    encode_statement,
)
from mrtd.registers import RegisterName
from mrtd.release_diff import ReleaseDiff, diff_releases
from mrtd.release_notes import markdown, told
from mrtd.releases import ReleaseSide, load_release, read_release
from mrtd.shapes import VCPUS, Axis, shapes
from tests.launches import Launch
from tests.sides import OFFLINE, edited

RELEASE = Release(
    repository="a/b", channel="refs/heads/main", tag="v1", commit="0" * 40, sequence=1,
    created="2026-11-24T00:00:00Z",
)  # fmt: skip
# what is changed in the spec or its files, the input it is, and the registers that move
CHANGES = [
    (Launch(), '"console=ttyS0"', '"console=hvc0"', {"cmdline": {"rtmr2"}}),
    (Launch(), '"2 GiB"', '"4 GiB"', {"memory": {"rtmr0"}}),
    (Launch(files={"initrd.img": b"another\n"}), "", "", {"initrd": {"rtmr2"}}),
    (Launch(files={"acpi_tables.bin": build_tables(hpet=True)}), "", "", {"acpi": {"rtmr0"}}),
    (
        Launch(), 'version = "10.1.0"', 'version = "10.1.0"\npage_order = "two-pass"',
        {"page_order": {"mrtd"}},
    ),
]  # fmt: skip


def documents(folder: Path, launch: Launch, old: str, new: str) -> tuple[ReleaseSide, ReleaseSide]:
    found = []
    for name, path in (
        ("a", edited(folder / "a", Launch())), ("b", edited(folder / "b", launch, old, new)),
    ):  # fmt: skip
        document = to_document(measure(read_spec_file(path), path.parent, OFFLINE))
        found.append(read_release(encode(document), origin=name))
    return found[0], found[1]


def values_of(path: Path, vcpus: tuple[str, ...] = ("1", "2")) -> ReferenceValues:
    found = shapes(read_spec_file(path), (Axis(VCPUS, vcpus),), origin="spec")
    return reference_values(derive_shapes(found, path.parent, OFFLINE), RELEASE)


def causes(diff: ReleaseDiff) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for shape in diff.shapes.values():
        for moved in shape.moved:
            for cause in moved.causes:
                found.setdefault(cause.code, set()).add(str(moved.register))
    return found


@pytest.mark.parametrize(("launch", "old", "new", "moved"), CHANGES)
def test_the_input_and_the_registers_that_it_moved(
    tmp_path: Path, launch: Launch, old: str, new: str, moved: dict[str, set[str]]
) -> None:
    diff = diff_releases(*documents(tmp_path, launch, old, new))
    assert causes(diff) == moved
    assert not diff.same
    (shape,) = diff.shapes.values()
    assert shape.unseen == ()
    assert {str(one.register) for one in shape.moved} == set().union(*moved.values())


def test_an_event_says_more_than_a_register(tmp_path: Path) -> None:
    diff = diff_releases(*documents(tmp_path, Launch(), '"console=ttyS0"', '"console=hvc0"'))
    (shape,) = diff.shapes.values()
    assert len(shape.moved[0].events) == 1
    assert (shape.moved[0].causes[0].before, shape.moved[0].causes[0].after) == (
        "console=ttyS0", "console=hvc0",
    )  # fmt: skip


def test_a_change_in_no_register_is_told(tmp_path: Path) -> None:
    """The ACPI tables are given, so the number of vCPUs moves nothing."""
    diff = diff_releases(*documents(tmp_path, Launch(), "vcpus = 2", "vcpus = 3"))
    (shape,) = diff.shapes.values()
    assert shape.moved == ()
    assert [(one.code, one.before, one.after) for one in shape.unseen] == [("vcpus", "2", "3")]
    assert not diff.same


def test_releases_are_compared_shape_by_shape_and_told_once(tmp_path: Path) -> None:
    before = values_of(edited(tmp_path / "a", Launch()), ("1", "2", "4"))
    after = values_of(
        edited(tmp_path / "b", Launch(), '"console=ttyS0"', '"console=hvc0"'), ("2", "4", "8")
    )
    diff = diff_releases(*(read_release(encode_reference_values(v), origin=n)
                           for n, v in (("a", before), ("b", after))))  # fmt: skip
    assert diff.added == ("q35-8cpu-2gib",)
    assert diff.removed == ("q35-1cpu-2gib",)
    (one,) = told(diff)
    assert one.shapes == ("q35-2cpu-2gib", "q35-4cpu-2gib")
    assert [(cause.code, registers) for cause, registers in one.causes] == [
        ("cmdline", (RegisterName.RTMR2,))
    ]
    assert "**RTMR2** moves: the kernel command line: `console=ttyS0` → `console=hvc0`" in (
        markdown(diff)
    )


def test_files_and_life_cycle_of_a_release(tmp_path: Path) -> None:
    values = values_of(edited(tmp_path / "a", Launch()))
    files = [Artifact(name="a.img", sha256=digit * 64, size=1) for digit in "12"]
    row = Revocation(kind="tag", value="v0", reason="broken", sequence=1)
    cycle = msgspec.structs.replace(values.lifecycle, revoked=(row,))
    before = msgspec.structs.replace(values, artifacts=files[:1])
    after = msgspec.structs.replace(values, artifacts=files[1:], lifecycle=cycle)
    diff = diff_releases(*(read_release(encode_reference_values(v), origin="x")
                           for v in (before, after)))  # fmt: skip
    assert diff.artifacts == {"a.img": "changed"}
    assert diff.lifecycle == ("tag v0 is revoked: broken",)
    assert not diff.same


def test_coverage_that_is_lost_is_told(tmp_path: Path) -> None:
    old = f'"console=ttyS0 roothash={"ab" * 32} root=/dev/mapper/root"'
    spec = edited(tmp_path / "a", Launch(), '"console=ttyS0"', old)
    other = edited(tmp_path / "b", Launch(), '"console=ttyS0"', '"root=/dev/vda2"')
    diff = diff_releases(*(
        read_release(encode_reference_values(values_of(path, ("2",))), origin="x")
        for path in (spec, other)
    ))  # fmt: skip
    (shape,) = diff.shapes.values()
    assert [(row.input, row.before, row.after) for row in shape.coverage] == [
        ("rootfs", "measured", "not measured")
    ]


def test_every_form_of_a_release_says_the_same(tmp_path: Path) -> None:
    values = values_of(edited(tmp_path / "a", Launch()))
    statement = encode_statement(values)
    envelope = {
        "payloadType": "application/vnd.in-toto+json", "payload": b64encode(statement).decode(),
    }  # fmt: skip
    document = encode_reference_values(values)
    forms = [
        document,
        statement,
        json.dumps({"dsseEnvelope": envelope}).encode(),
        json.dumps({"schema": "mrtd.matrix/1", "reference": json.loads(document)}).encode(),
    ]
    sides = []
    for number, data in enumerate(forms):
        path = tmp_path / f"{number}.json"
        path.write_bytes(data)
        sides.append(load_release(path))
    assert all(diff_releases(sides[0], other).same for other in sides)
    assert all(side.values == values for side in sides)


@pytest.mark.parametrize(
    "data",
    [b"", b"[]", b"{}", b"\xff", b"[" * 100_000, b'{"schema": "mrtd.reference/1"}',
     b'{"dsseEnvelope": {"payloadType": "application/vnd.in-toto+json", "payload": "?"}}',
     b'{"dsseEnvelope": []}', b'{"schema": "mrtd.matrix/1"}', b'{"_type": 1}'],
)  # fmt: skip
def test_what_is_no_release_is_refused(data: bytes) -> None:
    with pytest.raises(InputError):
        read_release(data, origin="x")


@settings(max_examples=200, deadline=None)
@given(st.recursive(
    st.none() | st.text(max_size=8) | st.integers(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
        st.sampled_from(["schema", "_type", "dsseEnvelope", "payload", "payloadType", "reference",
                         "mrtd.matrix/1", "mrtd.reference/1"]), inner, max_size=4),
    max_leaves=12,
))  # fmt: skip
def test_only_our_errors_leave_the_reader(tree: object) -> None:
    with pytest.raises(InputError):
        read_release(json.dumps(tree).encode(), origin="x")


@settings(max_examples=100, deadline=None)
@given(text=st.text(max_size=60))
def test_a_text_of_a_document_stays_in_its_code_span(text: str) -> None:
    from mrtd.release_notes import _code

    code = _code(text)
    fence = code[: len(code) - len(code.lstrip("`"))]
    assert code.endswith(fence)
    inner = code[len(fence) : -len(fence)]
    assert fence not in inner
    assert inner.isprintable()
