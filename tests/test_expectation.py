"""``--expect``: comparing derived with expected measurements."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

import hypothesis
import hypothesis.strategies as st
import pytest

from mrtd.cli.main import main
from mrtd.compare import Outcome
from mrtd.document import MeasurementDocument, encode, read_document, to_document
from mrtd.errors import InputError, MalformedDocument
from mrtd.expectation import (
    compare,
    expectation_of_value,
    read_expectation,
)
from mrtd.launch.spec import read_spec_file
from mrtd.measure import MeasureOptions, measure
from tests.launches import Launch


def derived(folder: Path, launch: Launch, *, ask_qemu: bool = True) -> MeasurementDocument:
    folder.mkdir(exist_ok=True)
    spec = read_spec_file(launch.write(folder))
    return to_document(measure(spec, folder, MeasureOptions(ask_qemu=ask_qemu)))


@pytest.fixture
def document(tmp_path: Path) -> MeasurementDocument:
    return derived(tmp_path / "ours", Launch())


def test_the_same_launch_matches(document: MeasurementDocument) -> None:
    result = compare(read_expectation(encode(document), origin="ref.json"), document)
    assert result.matches
    assert set(result.registers.values()) == {Outcome.MATCH}
    assert result.first_difference == ""


def test_other_command_line_is_named_as_the_first_difference(
    tmp_path: Path, document: MeasurementDocument
) -> None:
    other = derived(tmp_path / "other", Launch(boot="", files={"initrd.img": b"another\n"}))
    result = compare(read_expectation(encode(other), origin="ref.json"), document)
    assert not result.matches
    assert result.registers["rtmr1"] is Outcome.MATCH
    assert result.registers["rtmr2"] is Outcome.DIFFERS
    assert result.first_difference.startswith("rtmr2 event 1: expected EV_EVENT_TAG 'initrd'")
    assert "initrd.img" in result.first_difference


def test_another_firmware_is_named_by_its_mrtd(
    tmp_path: Path, document: MeasurementDocument
) -> None:
    other = derived(tmp_path / "other", Launch(firmware='profile = "edk2-202411"'))
    only = {**json.loads(encode(other)), "registers": {"mrtd": "ab" * 48}}
    result = compare(read_expectation(json.dumps(only).encode(), origin="ref.json"), document)
    assert result.first_difference == "MRTD: page order or firmware"


def test_missing_event_is_named(tmp_path: Path, document: MeasurementDocument) -> None:
    other = derived(tmp_path / "other", Launch(firmware='profile = "edk2-202302"'))
    result = compare(read_expectation(encode(other), origin="ref.json"), document)
    assert result.registers["rtmr0"] is Outcome.DIFFERS
    assert "EV_SEPARATOR" in result.first_difference
    assert "derived none" in result.first_difference


def test_expected_value_that_could_not_be_derived_differs(
    tmp_path: Path, document: MeasurementDocument
) -> None:
    unknown = derived(tmp_path / "other", Launch(acpi=""), ask_qemu=False)
    result = compare(read_expectation(encode(document), origin="ref.json"), unknown)
    assert not result.matches
    assert result.registers["rtmr0"] is Outcome.DIFFERS
    assert "--qemu none" in result.reasons["rtmr0"]


def test_unpinned_expectation_is_not_compared(
    tmp_path: Path, document: MeasurementDocument
) -> None:
    unknown = derived(tmp_path / "other", Launch(acpi=""), ask_qemu=False)
    result = compare(read_expectation(encode(unknown), origin="ref.json"), document)
    assert result.matches
    assert result.registers["rtmr0"] is Outcome.NOT_COMPARED


def test_nothing_compared_is_no_match(document: MeasurementDocument) -> None:
    empty = read_expectation(b'{"registers": {"mrtd": null}}', origin="ref.json")
    assert not compare(empty, document).matches


def test_values_by_register_and_without(document: MeasurementDocument) -> None:
    rtmr1 = document.registers["rtmr1"]
    assert rtmr1 is not None
    assert compare(expectation_of_value(f"rtmr1={rtmr1}"), document).matches
    assert not compare(expectation_of_value(f"rtmr2={rtmr1}"), document).matches
    anywhere = compare(expectation_of_value(rtmr1.upper()), document)
    assert anywhere.matches
    assert anywhere.registers == {"rtmr1": Outcome.MATCH}
    assert not compare(expectation_of_value("ab" * 48), document).matches
    assert not compare(expectation_of_value("rtmr3=" + "ab" * 48), document).matches


def test_zeros_are_no_expectation() -> None:
    with pytest.raises(MalformedDocument, match="evidence of nothing"):
        expectation_of_value("mrtd=" + "00" * 48)


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"[]",
        b"{}",
        b'{"registers": []}',
        b'{"registers": {"mrtd": "abc"}}',
        b'{"registers": {"mrdt": null}}',
        b'{"schema": "mrtd.measurement/1", "registers": {}}',
        b'{"schema": "mrtd.measurement/2", "registers": {}}',
        b"[" * 100_000,
    ],
)
def test_what_is_no_expectation_is_refused(text: bytes) -> None:
    with pytest.raises(MalformedDocument):
        read_expectation(text, origin="ref.json")


@hypothesis.given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_any_bytes_raise_only_our_errors(data: bytes) -> None:
    with contextlib.suppress(InputError):
        read_expectation(data, origin="ref.json")


def test_documents_round_trip(document: MeasurementDocument) -> None:
    assert read_document(encode(document), origin="ref.json") == document


def test_unknown_fields_of_a_document_are_refused(document: MeasurementDocument) -> None:
    fields = json.loads(encode(document)) | {"extra": 1}
    with pytest.raises(MalformedDocument, match="extra"):
        read_document(json.dumps(fields).encode(), origin="ref.json")


def test_cli_says_what_differs_and_exits_with_1(
    tmp_path: Path, document: MeasurementDocument, capsys: pytest.CaptureFixture[str]
) -> None:
    reference = tmp_path / "ref.json"
    reference.write_bytes(encode(document))
    spec = Launch(files={"initrd.img": b"another\n"}).write(tmp_path)
    assert main(["measure", str(spec), "--expect", str(reference)]) == 1
    captured = capsys.readouterr()
    assert "RTMR2  DIFFERS" in captured.out.replace("rtmr2", "RTMR2")
    assert "first difference: rtmr2 event 1" in captured.err
    assert main(["measure", str(spec), "--json", "--expect", str(reference)]) == 1
    comparison = json.loads(capsys.readouterr().out)["comparison"]
    assert comparison["matches"] is False
    assert comparison["registers"]["rtmr2"] == "differs"
    assert main(["measure", str(Launch().write(tmp_path)), "--expect", str(reference)]) == 0
    assert main(["measure", str(spec), "--expect", "no-such-file"]) == 2
