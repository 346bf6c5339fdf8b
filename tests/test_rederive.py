"""A release's figures, derived again from files that are found by their digests."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fixtures.bzimage import build_bzimage
from fixtures.easyenclave import build_image
from mrtd.artifacts import artifact_of
from mrtd.cli.main import main
from mrtd.compare import Outcome
from mrtd.errors import SpecError
from mrtd.input_folder import InputFolder
from mrtd.launch.spec import read_spec_file
from mrtd.matrix import derive_shapes, reference_values
from mrtd.measure import MeasureOptions
from mrtd.rederive import Rederived, Request, Status, rederive
from mrtd.reference import ReferenceValues, Release, encode_reference_values
from mrtd.registers import Sha384
from mrtd.releases import read_launches
from mrtd.shapes import MEMORY, VCPUS, Axis, shapes
from tests.conftest import require_tool
from tests.launches import Launch

OFFLINE = MeasureOptions(ask_qemu=False)
RELEASE = Release(
    repository="a/b", channel="refs/heads/main", tag="v1", commit="0" * 40, sequence=1,
    created="2026-11-24T00:00:00Z",
)  # fmt: skip
FILES = ("OVMF.fd", "vmlinuz", "initrd.img", "acpi_tables.bin")


def released(folder: Path, *axes: Axis, launch: Launch | None = None) -> ReferenceValues:
    """What a release says; its files have other names afterwards, and no spec is beside them."""
    spec = (launch or Launch()).write(folder)
    found = shapes(read_spec_file(spec), axes, origin="spec")
    values = reference_values(derive_shapes(found, folder, OFFLINE), RELEASE)
    spec.unlink()
    (folder / "deep").mkdir()
    for number, name in enumerate(FILES):
        (folder / name).rename(folder / "deep" / f"file-{number}")
    return values


def again(values: ReferenceValues, folder: Path, **options: Any) -> dict[str, Rederived]:
    data = encode_reference_values(values)
    request = Request(
        launches=read_launches(data, origin="r"), origin="r",
        **{"options": OFFLINE, "artifacts": (), **options},
    )  # fmt: skip
    return {one.shape: one for one in rederive(request, InputFolder(folder))}


def edited(values: ReferenceValues, edit: Any) -> ReferenceValues:
    """The document with its first launch changed, as a liar would."""
    from mrtd.reference import read_reference_values

    tree = json.loads(encode_reference_values(values))
    edit(tree["launches"][0])
    return read_reference_values(json.dumps(tree).encode())


def test_every_shape_matches_whatever_its_files_are_called(tmp_path: Path) -> None:
    values = released(tmp_path, Axis(VCPUS, ("1", "2")), Axis(MEMORY, ("2G", "4G")))
    found = again(values, tmp_path)
    assert len(found) == 4
    assert {one.status for one in found.values()} == {Status.MATCH}
    for one in found.values():
        assert one.registers == dict.fromkeys(("mrtd", "rtmr0", "rtmr1", "rtmr2"), Outcome.MATCH)


def test_what_is_missing_is_named_by_its_digest(tmp_path: Path) -> None:
    values = released(tmp_path)
    initrd = tmp_path / "deep" / "file-2"
    digest = hashlib.sha384(initrd.read_bytes()).hexdigest()
    initrd.write_bytes(b"an INITRD\n")  # as large, and another
    (one,) = again(values, tmp_path).values()
    assert one.status is Status.NOT_CHECKED
    assert one.missing == (f"boot.initrd: 10 bytes, SHA-384 {digest}",)


def test_a_document_without_a_digest_cannot_be_checked(tmp_path: Path) -> None:
    def drop(launch: Any) -> None:
        launch["inputs"] = [row for row in launch["inputs"] if row["key"] != "boot.kernel"]

    (one,) = again(edited(released(tmp_path), drop), tmp_path).values()
    assert one.status is Status.NOT_CHECKED
    assert one.reasons == ("the document has no digest of boot.kernel",)


@pytest.mark.parametrize("register", ["mrtd", "rtmr0", "rtmr1", "rtmr2"])
def test_a_register_that_was_changed_differs(tmp_path: Path, register: str) -> None:
    def change(launch: Any) -> None:
        launch["registers"][register]["value"] = "ab" * 48

    (one,) = again(edited(released(tmp_path), change), tmp_path).values()
    assert one.status is Status.DIFFERS
    assert {name for name, out in one.registers.items() if out is Outcome.DIFFERS} == {register}
    assert one.explanation is not None
    assert not one.explanation.explained


def test_a_difference_is_explained_as_an_input(tmp_path: Path) -> None:
    def order(launch: Any) -> None:
        launch["spec"]["vmm"]["page_order"] = "two-pass"

    (one,) = again(edited(released(tmp_path), order), tmp_path).values()
    assert one.status is Status.DIFFERS
    assert one.explanation is not None
    assert one.explanation.explained
    assert [change.code for change in one.explanation.changes] == ["page_order"]


def test_coverage_and_components_are_claims_too(tmp_path: Path) -> None:
    def claim(launch: Any) -> None:
        launch["components"]["root_hash"] = "ab" * 32
        for row in launch["coverage"]:
            if row["input"] == "rootfs":
                row["registers"] = ["rtmr1"]

    (one,) = again(edited(released(tmp_path), claim), tmp_path).values()
    assert one.status is Status.DIFFERS
    assert [reason.partition(":")[0] for reason in one.reasons] == [
        "components.root_hash", "coverage of rootfs",
    ]  # fmt: skip


def test_a_register_that_the_document_does_not_pin_is_no_claim(tmp_path: Path) -> None:
    spec = Launch().write(tmp_path)
    text = spec.read_text().replace('tables = "acpi_tables.bin"', "")
    spec.write_text(text)
    found = shapes(read_spec_file(spec), (), origin="spec")
    values = reference_values(derive_shapes(found, tmp_path, OFFLINE), RELEASE)
    (one,) = again(values, tmp_path).values()
    assert one.status is Status.MATCH
    assert set(one.registers) == {"mrtd", "rtmr1", "rtmr2"}


@pytest.mark.qemu
def test_without_its_qemu_rtmr0_is_not_checked_unless_blobs_are_given(tmp_path: Path) -> None:
    from mrtd.qemu.process import qemu_version

    binary = require_tool("qemu")
    spec = Launch(acpi="", machine="phys_bits = 46").write(tmp_path)
    spec.write_text(spec.read_text().replace('"10.1.0"', f'"{qemu_version(binary)}"'))
    found = shapes(read_spec_file(spec), (), origin="spec")
    matrix = derive_shapes(found, tmp_path, MeasureOptions(qemu=binary))
    values = reference_values(matrix, RELEASE)
    (asked,) = again(values, tmp_path, options=MeasureOptions(qemu=binary)).values()
    assert asked.status is Status.MATCH
    (offline,) = again(values, tmp_path).values()
    assert offline.status is Status.NOT_CHECKED
    assert offline.registers["rtmr0"] is Outcome.NOT_COMPARED
    place = tmp_path / "blobs" / found[0].name
    place.mkdir(parents=True)
    for name, blob in matrix.results[0].blobs.items():
        (place / name).write_bytes(blob)
    (given_blobs,) = again(values, tmp_path, acpi=tmp_path / "blobs").values()
    assert given_blobs.status is Status.MATCH


def test_one_input_that_is_broken_leaves_the_other_launches(tmp_path: Path) -> None:
    values = released(tmp_path, Axis(VCPUS, ("1", "2")))

    def break_it(launch: Any) -> None:
        launch["spec"]["firmware"]["profile"] = "no-such-profile"

    found = again(edited(values, break_it), tmp_path)
    assert [one.status for one in found.values()] == [Status.NOT_CHECKED, Status.MATCH]


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(contents=st.lists(st.binary(max_size=3), max_size=6), wanted=st.binary(max_size=3))
def test_a_file_is_found_if_and_only_if_it_is_there(
    tmp_path_factory: pytest.TempPathFactory, contents: list[bytes], wanted: bytes
) -> None:
    folder = tmp_path_factory.mktemp("inputs")
    for number, content in enumerate(contents):
        (folder / str(number)).write_bytes(content)
    inputs = InputFolder(folder)
    found = inputs.find(len(wanted), Sha384.of(wanted))
    short = inputs.find_sha256(len(wanted), hashlib.sha256(wanted).hexdigest())
    assert (found is not None) == (short is not None) == (wanted in contents)
    if found is not None:
        assert found.read_bytes() == wanted


def test_links_out_of_the_folder_are_not_followed(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "file").write_bytes(b"secret")
    folder = tmp_path / "inputs"
    folder.mkdir()
    (folder / "link").symlink_to(outside / "file")
    (folder / "folder").symlink_to(outside)
    assert InputFolder(folder).find(6, Sha384.of(b"secret")) is None
    with pytest.raises(SpecError, match="is no folder"):
        InputFolder(outside / "file")


def test_the_verb_says_it_in_80_columns(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    inputs = tmp_path / "inputs"
    inputs.mkdir()
    values = released(inputs, Axis(VCPUS, ("1", "2")))
    document = tmp_path / "r.json"
    document.write_bytes(encode_reference_values(values))
    command = ["rederive", str(document), str(inputs), "--qemu", "none"]
    assert main(command) == 0
    out = capsys.readouterr().out
    assert "2 launches: 2 match" in out
    assert max(map(len, out.splitlines())) <= 80
    (inputs / "deep" / "file-1").unlink()
    assert main([*command, "--json", "--shape", "q35-2cpu-2gib"]) == 3
    found = json.loads(capsys.readouterr().out)
    assert found["schema"] == "mrtd.rederived/1"
    assert [one["status"] for one in found["launches"]] == ["not checked"]
    assert main([*command, "--shape", "nothing"]) == 2
    assert "q35-2cpu-2gib" in capsys.readouterr().err


def test_the_verb_says_no(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def change(launch: Any) -> None:
        launch["registers"]["rtmr2"]["value"] = "ab" * 48

    values = edited(released(tmp_path), change)
    document = tmp_path / "r.json"
    document.write_bytes(encode_reference_values(values))
    assert main(["rederive", str(document), str(tmp_path), "--qemu", "none"]) == 1
    assert "RTMR2: the document says" in capsys.readouterr().out
    assert main(["rederive", str(document), str(tmp_path), "--qemu", "none", "--json"]) == 1
    (one,) = json.loads(capsys.readouterr().out)["launches"]
    assert one["explanation"]["schema"] == "mrtd.explanation/1"


def test_a_disk_is_found_by_its_digest(tmp_path: Path) -> None:
    """A disk boot: the image is an artifact, and read under whatever name it has."""
    inputs = tmp_path / "inputs"
    inputs.mkdir()
    uki = build_bzimage()
    (tmp_path / "disk.raw").write_bytes(build_image(uki))
    launch = Launch(machine='devices = ["virtio-blk-pci,drive=d"]')
    path = launch.write(tmp_path)
    text = path.read_text(encoding="utf-8")
    path.write_text(text[: text.index("[boot]")] + (
        '[boot]\nkind = "disk"\ndisk = "d"\n'
        '[[disks]]\nname = "d"\npath = "disk.raw"\nformat = "raw"\n'
    ), encoding="utf-8")  # fmt: skip
    found = shapes(read_spec_file(path), (), origin="spec")
    matrix = derive_shapes(found, tmp_path, OFFLINE)
    artifacts = (artifact_of(tmp_path / "disk.raw"),)
    for number, name in enumerate(("OVMF.fd", "acpi_tables.bin", "disk.raw")):
        (tmp_path / name).rename(inputs / f"file-{number}")
    (one,) = again(
        reference_values(matrix, RELEASE, artifacts=artifacts), inputs, artifacts=artifacts
    ).values()
    assert one.status is Status.MATCH, one.reasons
    assert one.registers["rtmr1"] is Outcome.MATCH
    (inputs / "file-2").write_bytes(build_image(uki + b"\0"))
    (one,) = again(
        reference_values(matrix, RELEASE, artifacts=artifacts), inputs, artifacts=artifacts
    ).values()
    assert one.status is Status.NOT_CHECKED
    assert one.missing[0].startswith("disk d: ")
    (one,) = again(reference_values(matrix, RELEASE), inputs).values()
    assert "mrtd matrix --output" in one.missing[0]
