"""Plans of matrices, and documents of several jobs as one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mrtd import reference
from mrtd.errors import SpecError
from mrtd.launch.spec import read_spec_file
from mrtd.matrix import derive_shapes, reference_values
from mrtd.measure import MeasureOptions
from mrtd.merge import Document, Merged, merge
from mrtd.plan import JOB_LIMIT, Plan, encode_plan, part_of, plan, read_part, read_plan
from mrtd.reference import ReferenceValues, RegisterRule, Release
from mrtd.registers import Sha384
from mrtd.shapes import MEMORY, VCPUS, Axis, Shape, shapes
from tests.launches import Launch

RELEASE = Release(
    repository="a/b", channel="refs/heads/main", tag="v1", commit="0" * 40, sequence=1,
    created="2026-11-24T00:00:00Z",
)  # fmt: skip
AXES = (Axis(VCPUS, ("1", "2", "4")), Axis(MEMORY, ("2G", "8G")))


def shapes_in(folder: Path) -> tuple[Shape, ...]:
    path = Launch().write(folder)
    return shapes(read_spec_file(path), AXES, origin="spec")


def derived(found: tuple[Shape, ...], folder: Path) -> ReferenceValues:
    return reference_values(derive_shapes(found, folder, MeasureOptions(ask_qemu=False)), RELEASE)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> ReferenceValues:
    folder = tmp_path_factory.mktemp("launch")
    return derived(shapes_in(folder), folder)


@pytest.fixture(scope="module")
def planned(tmp_path_factory: pytest.TempPathFactory) -> Plan:
    return plan(shapes_in(tmp_path_factory.mktemp("plan")), 2)


def halves(whole: ReferenceValues) -> tuple[ReferenceValues, ReferenceValues]:
    return (
        msgspec.structs.replace(whole, launches=whole.launches[:3]),
        msgspec.structs.replace(whole, launches=whole.launches[3:]),
    )


def merged(*values: ReferenceValues, of: Plan | None = None) -> Merged:
    names = (Document(one, f"{number}.json") for number, one in enumerate(values, 1))
    return merge(tuple(names), of)


@given(count=st.integers(1, 1024), jobs=st.integers(1, JOB_LIMIT))
def test_every_shape_is_of_one_job_and_jobs_are_alike(count: int, jobs: int) -> None:
    spec: Any = None
    found = tuple(Shape(f"shape-{number}", {}, spec) for number in range(count))
    made = plan(found, jobs)
    assert made.shapes == tuple(one.name for one in found)
    sizes = {len(one.shapes) for one in made.include}
    assert min(sizes) >= 1
    assert max(sizes) - min(sizes) <= 1
    assert len(made.include) == min(jobs, count) <= JOB_LIMIT
    for part in made.include:
        assert tuple(s.name for s in part_of(found, read_part(part.part))) == part.shapes
    data = encode_plan(made)
    assert b"\n" not in data
    assert read_plan(data, origin="plan") == made


def test_parts_merge_into_what_one_job_derives(
    tmp_path: Path, whole: ReferenceValues, planned: Plan
) -> None:
    found = shapes_in(tmp_path)
    parts = [derived(part_of(found, read_part(p.part)), tmp_path) for p in planned.include]
    assert merged(*parts, of=planned) == Merged(whole, ())
    assert merged(*reversed(parts), of=planned).values == whole  # the plan has the order
    assert merged(*parts, parts[0], of=planned).values == whole  # the same twice is no other


def test_each_job_has_a_time_of_its_own_and_the_latest_counts(whole: ReferenceValues) -> None:
    first, second = halves(whole)
    release = msgspec.structs.replace(RELEASE, created="2026-11-24T00:07:00Z")
    values = merged(msgspec.structs.replace(first, release=release), second).values
    assert values is not None
    assert values == msgspec.structs.replace(whole, release=release)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("repository", "a/c"),
        ("channel", "refs/heads/next"),
        ("tag", "v2"),
        ("sequence", 2),
        ("commit", "1" * 40),
    ],
)
def test_another_release_is_refused(whole: ReferenceValues, field: str, value: object) -> None:
    first, second = halves(whole)
    release = msgspec.structs.replace(second.release, **{field: value})
    said = merged(first, msgspec.structs.replace(second, release=release))
    assert said.values is None
    (line,) = said.contradictions
    assert line.startswith(f"release.{field}: ")
    assert line.endswith(f"{value} in 2.json")


def test_another_version_of_ours_is_refused(whole: ReferenceValues) -> None:
    first, second = halves(whole)
    tool = msgspec.structs.replace(second.tool, version="99.0")
    said = merged(first, msgspec.structs.replace(second, tool=tool))
    assert said.values is None
    assert said.contradictions[0].endswith("99.0 in 2.json")


def test_other_figures_for_a_shape_are_refused(whole: ReferenceValues) -> None:
    launch = whole.launches[0]
    rule = RegisterRule.exact(Sha384.of(b"another"))
    registers = msgspec.structs.replace(launch.registers, rtmr0=rule)
    other = msgspec.structs.replace(launch, registers=registers)
    said = merged(whole, msgspec.structs.replace(whole, launches=(other,)))
    assert said.values is None
    (line,) = said.contradictions
    assert line.startswith(f"{launch.shape}: RTMR0 is ")
    assert line.endswith("1.json and 2.json differ")


def other_file(launch: reference.Launch, key: str) -> reference.Launch:
    files = (
        msgspec.structs.replace(file, sha384=Sha384.of(b"x")) if file.key == key else file
        for file in launch.inputs
    )
    return msgspec.structs.replace(launch, inputs=tuple(files))


def other_spec(launch: reference.Launch, key: str) -> reference.Launch:
    section, _, name = key.partition(".")
    table = {**launch.spec[section], name: "another"}
    return msgspec.structs.replace(launch, spec={**launch.spec, section: table})


@pytest.mark.parametrize("key", ["firmware.path", "boot.kernel", "boot.initrd"])
def test_launches_of_other_files_are_refused(whole: ReferenceValues, key: str) -> None:
    first, second = halves(whole)
    launches = tuple(other_file(launch, key) for launch in second.launches)
    said = merged(first, msgspec.structs.replace(second, launches=launches))
    assert said.values is None
    assert {line.partition(":")[0] for line in said.contradictions} == {key}


@pytest.mark.parametrize(
    ("key", "said"),
    [
        ("boot.cmdline", "spec.boot"),
        ("machine.serial_ports", "spec.machine.serial_ports"),
        ("vmm.kind", "spec.vmm.kind"),
    ],
)
def test_launches_differ_in_what_is_an_axis_only(
    whole: ReferenceValues, key: str, said: str
) -> None:
    first, second = halves(whole)
    launches = tuple(other_spec(launch, key) for launch in second.launches)
    found = merged(first, msgspec.structs.replace(second, launches=launches))
    assert found.values is None
    assert {line.partition(":")[0] for line in found.contradictions} == {said}


def test_gaps_and_strangers_are_refused_by_the_plan(whole: ReferenceValues, planned: Plan) -> None:
    first, second = halves(whole)
    missing = merged(first, of=planned)
    assert missing.values is None
    assert [line.split(":")[0] for line in missing.contradictions] == [
        launch.shape for launch in second.launches
    ]
    assert all("part 2/2" in line for line in missing.contradictions)
    less = Plan(planned.include[:1])
    strangers = merged(first, second, of=less)
    assert strangers.values is None
    assert all("is not in the plan, and in 2.json" in line for line in strangers.contradictions)


def test_documents_without_launches_make_none(whole: ReferenceValues) -> None:
    empty = msgspec.structs.replace(whole, launches=())
    assert merged(empty).contradictions == ("there is no launch in any document",)


@pytest.mark.parametrize(
    "data",
    [
        b"", b"[]", b"{}", b'{"include":[]}', b"[" * 100_000, b"\xff",
        b'{"include":[{"part":"1/2","shapes":["a"]}]}',
        b'{"include":[{"part":"2/2","shapes":["a"]},{"part":"1/2","shapes":["b"]}]}',
        b'{"include":[{"part":"1/1","shapes":["a","a"]}]}',
        b'{"include":[{"part":"1/1","shapes":[]}]}',
        b'{"include":[{"part":"1/1","shapes":["a"]}],"os":["x"]}',
        b" " * ((1 << 20) + 1),
    ],
)  # fmt: skip
def test_what_is_no_plan(data: bytes) -> None:
    with pytest.raises(SpecError, match="plan"):
        read_plan(data, origin="plan.json")


@pytest.mark.parametrize("text", ["", "1", "0/1", "2/1", "1/0", "1/2/3", "a/b", "-1/2", "1/99999"])
def test_what_is_no_part(text: str) -> None:
    with pytest.raises(ValueError, match="is no part"):
        read_part(text)


@pytest.mark.parametrize("part", [(1, 7), (7, 7), (3, 2)])
def test_a_part_of_another_plan(tmp_path: Path, part: tuple[int, int]) -> None:
    with pytest.raises(SpecError, match="is no job of 6 shapes"):
        part_of(shapes_in(tmp_path), part)
