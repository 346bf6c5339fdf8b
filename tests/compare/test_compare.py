"""Comparing sides: registers, rows, logs that do not belong to their quote."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from msgspec.structs import replace

from mrtd.compare import Outcome, RowOutcome, compare_sides
from mrtd.errors import MalformedDocument
from mrtd.eventlog import EventLog
from mrtd.registers import ZERO, Exact, RegisterName, Target, Unpinned
from mrtd.side import Side, SideKind
from mrtd.side_evidence import replayed
from mrtd.sources import combined, load_side
from tests.compare.test_align import logs
from tests.launches import Launch
from tests.sides import edited, spec_side


def side(log: EventLog) -> Side:
    folded = replayed(log, Target.CC)
    return Side(origin="x", kind=SideKind.EVENT_LOG, target=Target.CC, registers=folded, log=log)


@given(logs)
def test_a_log_compared_with_itself_has_no_difference(log: EventLog) -> None:
    found = compare_sides(side(log), side(log))
    for register in found.registers:
        assert register.outcome is not Outcome.DIFFERS
        assert {row.outcome for row in register.rows} <= {
            RowOutcome.MATCH,
            RowOutcome.NOT_PREDICTED,
        }


@given(logs, logs)
def test_rows_add_up_and_outcomes_are_those_of_the_values(a: EventLog, b: EventLog) -> None:
    found = compare_sides(side(a), side(b))
    register = next(r for r in found.registers if r.name is RegisterName.RTMR0)
    counts = dict.fromkeys(RowOutcome, 0)
    for row in register.rows:
        counts[row.outcome] += 1
    both = sum(counts.values()) - counts[RowOutcome.ONLY_EXPECTED]
    both -= counts[RowOutcome.ONLY_OBSERVED]
    assert both + counts[RowOutcome.ONLY_EXPECTED] == len(a)
    assert both + counts[RowOutcome.ONLY_OBSERVED] == len(b)
    assert compare_sides(side(a), side(b)) == found
    if isinstance(register.expected, Exact) and isinstance(register.observed, Exact):
        same = register.expected == register.observed
        assert (register.outcome is Outcome.MATCH) == same


def test_what_one_side_does_not_know_is_no_match(tmp_path: Path) -> None:
    expected = spec_side(edited(tmp_path / "a", Launch()))
    unknown = replace(
        expected, log=None, registers=dict.fromkeys(expected.registers, Unpinned("no reason"))
    )
    found = compare_sides(unknown, expected)
    assert not found.matches
    assert {r.outcome for r in found.registers} == {Outcome.NOT_COMPARED}
    assert all("no reason" in r.reason for r in found.registers)


def test_an_unpinned_register_differs_where_a_known_event_does(tmp_path: Path) -> None:
    whole = spec_side(edited(tmp_path / "a", Launch()))
    unknown = spec_side(edited(tmp_path / "b", Launch(acpi=""), '"2 GiB"', '"4 GiB"'))
    assert isinstance(unknown.registers[RegisterName.RTMR0], Unpinned)
    found = {r.name: r for r in compare_sides(unknown, whole).registers}
    assert found[RegisterName.RTMR0].outcome is Outcome.DIFFERS


def test_a_log_that_does_not_fold_to_its_quote_explains_nothing(tmp_path: Path) -> None:
    expected = spec_side(edited(tmp_path / "a", Launch()))
    registers = {**expected.registers, RegisterName.RTMR1: Exact(ZERO)}
    assert expected.log is not None
    observed = replace(
        expected, registers=registers, replayed=replayed(expected.log, Target.CC), origin="quote"
    )
    found = compare_sides(expected, observed)
    assert [c.code for c in found.cautions] == ["log_contradicts_quote"]
    register = next(r for r in found.registers if r.name is RegisterName.RTMR1)
    assert register.outcome is Outcome.DIFFERS
    assert "cannot be trusted" in register.reason


def test_two_zero_registers_match_and_say_that_it_is_nothing() -> None:
    empty = side(())
    found = compare_sides(empty, empty)
    assert {c.code for c in found.cautions} == {"register_not_measured"}


def test_targets_are_not_mixed() -> None:
    with pytest.raises(MalformedDocument, match="target tpm"):
        compare_sides(side(()), replace(side(()), target=Target.TPM))


@pytest.mark.parametrize(
    "data",
    [
        b"", b"\0" * 100, b"{}", b"[1]", b"not toml", b"\xff" * 40, b"{" * 5000,
        b'{"quote": "zz"}', b'{"registers": {"rtmr9": null}}', b'{"schema": "other/1"}',
        b'{"quote": "04000200810000", "event_log": 3}', b'schema = "mrtd.launch/1"\n[',
        b'schema = "mrtd.launch/9"', b"04000200810000", b"PK\x03\x04junk",
        b'{"registers": {"mrtd": "12"}}',
    ],
)  # fmt: skip
def test_what_is_no_side_is_refused_by_name(data: bytes, tmp_path: Path) -> None:
    from mrtd.errors import InputError

    path = tmp_path / "file"
    path.write_bytes(data)
    with pytest.raises(InputError) as refused:
        load_side(path)
    assert "file" in str(refused.value)


def test_two_launches_are_no_side(tmp_path: Path) -> None:
    one = spec_side(edited(tmp_path / "a", Launch()))
    with pytest.raises(MalformedDocument, match="twice"):
        combined([one, one])


def test_a_quote_and_its_log_are_one_side(corpus: Path) -> None:
    quote = load_side(corpus / "quotes" / "gce-cos-113.quote")
    log = load_side(corpus / "eventlogs" / "gce-cos-113.ccel")
    both = combined([quote, log])
    found = compare_sides(log, both)
    assert found.matches
    assert not found.cautions
    older = load_side(corpus / "eventlogs" / "gce-cos-113-dupe-separator.ccel")
    cautions = compare_sides(log, combined([quote, older])).cautions
    assert {c.code for c in cautions} == {"log_contradicts_quote"}


def test_a_report_with_quote_and_log_folds_to_its_registers(corpus: Path) -> None:
    found = load_side(corpus / "quotes" / "dstack-quote-report.json")
    assert found.log is not None
    assert len(found.log) == 28
    assert not compare_sides(found, found).cautions
    assert compare_sides(found, found).matches
