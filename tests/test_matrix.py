"""Matrices of shapes: the same as each launch on its own, and what an axis moves."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fixtures.acpi import build_tables
from mrtd.boot.pe import authenticode
from mrtd.document import to_document
from mrtd.errors import MrtdError, SpecError
from mrtd.firmware.td_build import fold
from mrtd.launch.inputs import InputFile, LoadedFile
from mrtd.launch.spec import read_spec_file
from mrtd.matrix import Matrix, derive_shapes, reference_values
from mrtd.measure import MeasureOptions, measure
from mrtd.qemu.process import qemu_version
from mrtd.reference import Release, encode_reference_values, read_reference_values
from mrtd.registers import ZERO, RegisterName
from mrtd.shapes import MEMORY, SHAPE_LIMIT, VCPUS, Axis, shapes, with_blobs
from tests.conftest import require_tool
from tests.launches import Launch

OFFLINE = MeasureOptions(ask_qemu=False)
RELEASE = Release(
    repository="a/b", channel="refs/heads/main", tag="v1", commit="0" * 40, sequence=1,
    created="2026-11-24T00:00:00Z",
)  # fmt: skip
SIZES = ("512M", "1 GiB", "2 GiB", "2560M", "4 GiB", "16 GiB")


def matrix_of(path: Path, *axes: Axis) -> Matrix:
    found = shapes(read_spec_file(path), axes, origin=str(path))
    return derive_shapes(found, path.parent, OFFLINE)


def old_qemu(folder: Path) -> Path:
    """QEMU 9.2 patches the kernel's header, and so memory moves RTMR1."""
    spec = Launch().write(folder)
    spec.write_text(spec.read_text().replace('"10.1.0"', '"9.2.0"'))
    return spec


@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    memory=st.lists(st.sampled_from(SIZES), min_size=1, max_size=3, unique=True),
    vcpus=st.lists(st.integers(1, 64).map(str), min_size=1, max_size=3, unique=True),
    version=st.sampled_from(["8.2.2", "9.2.0", "10.1.0", "11.0"]),
)
def test_a_matrix_is_each_launch_on_its_own(
    tmp_path: Path, memory: list[str], vcpus: list[str], version: str
) -> None:
    spec = Launch().write(tmp_path)
    spec.write_text(spec.read_text().replace('"10.1.0"', f'"{version}"'))
    matrix = matrix_of(spec, Axis(VCPUS, tuple(vcpus)), Axis(MEMORY, tuple(memory)))
    assert len(matrix.results) == len(memory) * len(vcpus)
    for one in matrix.results:
        assert one.document == to_document(measure(one.shape.spec, tmp_path, OFFLINE))


def test_memory_moves_rtmr0_and_where_the_header_is_patched_rtmr1(tmp_path: Path) -> None:
    axes = (Axis(VCPUS, ("1", "2")), Axis(MEMORY, ("1G", "2G", "4G", "16G")))
    new, old = tmp_path / "new", tmp_path / "old"
    new.mkdir()
    old.mkdir()
    found = matrix_of(Launch().write(new), *axes).touched()
    assert found[RegisterName.MRTD] == found[RegisterName.RTMR1] == found[RegisterName.RTMR2] == ()
    # the ACPI tables are the same given file for all of them
    assert found[RegisterName.RTMR0] == (MEMORY,)
    patched = matrix_of(old_qemu(old), *axes)
    assert patched.touched()[RegisterName.RTMR1] == (MEMORY,)
    # facts 4.1: 2 GiB and all from 2.75 GiB on have 2 GiB below 4 GiB
    assert len(patched.values(RegisterName.RTMR1)) == 2


def test_page_order_moves_mrtd_only(tmp_path: Path) -> None:
    axis = Axis("vmm.page_order", ("per-page", "two-pass"))
    found = matrix_of(Launch().write(tmp_path), axis).touched()
    assert {name for name, axes in found.items() if axes} == {RegisterName.MRTD}


def test_what_does_not_change_is_read_and_hashed_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []

    def watched(name: str, original: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            done.append(name)
            return original(*arguments, **options)

        return call

    monkeypatch.setattr("mrtd.derive.fold", watched("MRTD", fold))
    monkeypatch.setattr("mrtd.derive.authenticode", watched("kernel", authenticode))
    monkeypatch.setattr(
        LoadedFile,
        "described",
        lambda self: InputFile(*watched(self.key, lambda: (self.key, "", 0, ZERO))()),
    )
    matrix_of(Launch().write(tmp_path), Axis(VCPUS, tuple(map(str, range(1, 9)))))
    assert sorted(done) == ["MRTD", *["acpi.tables"] * 9, "boot.kernel", "firmware.path", "kernel"]


def test_the_document_is_one_that_readers_take(tmp_path: Path) -> None:
    matrix = matrix_of(Launch().write(tmp_path), Axis(MEMORY, SIZES))
    values = reference_values(matrix, RELEASE)
    again = read_reference_values(encode_reference_values(values))
    assert again == values
    assert [launch.shape for launch in again.launches] == [
        "q35-2cpu-512mib", "q35-2cpu-1gib", "q35-2cpu-2gib", "q35-2cpu-2560mib", "q35-2cpu-4gib",
        "q35-2cpu-16gib",
    ]  # fmt: skip
    for launch, one in zip(again.launches, matrix.results, strict=True):
        assert str(launch.registers.value("rtmr0")) == one.document.registers["rtmr0"]


def test_blobs_of_each_shape_come_from_its_folder(tmp_path: Path) -> None:
    spec = Launch(acpi="").write(tmp_path)
    found = shapes(read_spec_file(spec), (Axis(VCPUS, ("1", "2")),), origin="spec")
    for shape, hpet in zip(found, (False, True), strict=True):
        place = tmp_path / "blobs" / shape.name
        place.mkdir(parents=True)
        (place / "tables").write_bytes(build_tables(hpet=hpet))
    given_blobs = tuple(with_blobs(shape, tmp_path / "blobs", tmp_path) for shape in found)
    matrix = derive_shapes(given_blobs, tmp_path, OFFLINE)
    assert matrix.touched()[RegisterName.RTMR0] == (VCPUS,)
    assert given_blobs[0].spec.acpi.tables == "blobs/q35-1cpu-2gib/tables"
    (tmp_path / "blobs" / "q35-2cpu-2gib" / "tables").unlink()
    with pytest.raises(SpecError, match="q35-2cpu-2gib/tables"):
        with_blobs(found[1], tmp_path / "blobs", tmp_path)


def test_unpinned_registers_move_with_nothing_that_is_known(tmp_path: Path) -> None:
    spec = Launch(acpi="").write(tmp_path)
    matrix = matrix_of(spec, Axis(MEMORY, ("2G", "4G")))
    assert matrix.values(RegisterName.RTMR0) == (None,)
    assert matrix.touched()[RegisterName.RTMR0] == ()


@pytest.mark.parametrize(
    ("axes", "said"),
    [
        ((Axis("boot.kernel", ("x",)),), "no key that a shape has"),
        ((Axis("machine.options.x.y", ("x",)),), "no key that a shape has"),
        ((Axis(MEMORY, ("4G", "4096M")),), "described twice"),
        ((Axis(MEMORY, ()),), "has no value"),
        ((Axis(MEMORY, ("4 GB",)),), "not a memory size"),
        ((Axis(VCPUS, ("two",)),), "Expected `int`"),
        ((Axis(VCPUS, ("0",)),), "`int` >= 1"),
        ((Axis(VCPUS, ("1",)), Axis(VCPUS, ("2",))), "given twice"),
        ((Axis("machine.cpu", ("a\nb",)),), "control character"),
        ((Axis(VCPUS, tuple(map(str, range(1, SHAPE_LIMIT + 2)))),), "more than 1024"),
    ],
)
def test_axes_that_are_refused(tmp_path: Path, axes: tuple[Axis, ...], said: str) -> None:
    with pytest.raises(SpecError, match=said):
        shapes(read_spec_file(Launch().write(tmp_path)), axes, origin="spec")


@settings(max_examples=50, deadline=None, suppress_health_check=list(HealthCheck))
@given(key=st.sampled_from([MEMORY, VCPUS, "machine.cpu", "machine.options.hpet"]), value=st.text())
def test_any_value_is_taken_or_refused(tmp_path: Path, key: str, value: str) -> None:
    try:
        (found,) = shapes(
            read_spec_file(Launch().write(tmp_path)), (Axis(key, (value,)),), origin="spec"
        )
    except SpecError:
        return
    assert found.settings.keys() == {key}


def test_an_error_names_the_shape(tmp_path: Path) -> None:
    spec = Launch(acpi="", machine="phys_bits = 46").write(tmp_path)
    found = shapes(read_spec_file(spec), (Axis(VCPUS, ("1", "2")),), origin="spec")
    with pytest.raises(MrtdError, match="no-qemu") as caught:
        derive_shapes(found, tmp_path, MeasureOptions(qemu=tmp_path / "no-qemu"))
    assert caught.value.message.startswith("shape q35-1cpu-2gib: ")


@pytest.mark.qemu
def test_what_qemu_said_can_be_given_instead(tmp_path: Path) -> None:
    binary = require_tool("qemu")
    spec = Launch(acpi="", machine="phys_bits = 46").write(tmp_path)
    text = spec.read_text().replace('"10.1.0"', f'"{qemu_version(binary)}"')
    spec.write_text(text)
    axes = (Axis(VCPUS, ("1", "3")), Axis(MEMORY, ("1G", "4G")))
    found = shapes(read_spec_file(spec), axes, origin="spec")
    asked = derive_shapes(found, tmp_path, MeasureOptions(qemu=binary))
    assert asked.touched()[RegisterName.RTMR0] == (VCPUS, MEMORY)
    for one in asked.results:
        place = tmp_path / "blobs" / one.shape.name
        place.mkdir(parents=True)
        for name, blob in one.blobs.items():
            (place / name).write_bytes(blob)
    given_blobs = tuple(with_blobs(shape, tmp_path / "blobs", tmp_path) for shape in found)
    again = derive_shapes(given_blobs, tmp_path, OFFLINE)
    for before, after in zip(asked.results, again.results, strict=True):
        assert before.document.registers == after.document.registers
