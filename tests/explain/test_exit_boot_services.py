"""A first call of ExitBootServices that failed: one pair of events more, and its own hypothesis."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec.structs import replace

from mrtd.eventlog import EventLog, replay
from mrtd.explain.explanation import explain
from mrtd.registers import Sha384
from tests.launches import Launch
from tests.sides import edited, known_of, without_facts

CALLED = b"Exit Boot Services Invocation"
FAILED = b"Exit Boot Services Returned with Failure"


def failing_first(log: EventLog) -> EventLog:
    """The log of the same launch, where that pair comes before the last one."""
    place = next(i for i, event in enumerate(log) if event.data == CALLED)
    pair = [replace(log[place], digest=Sha384.of(data), data=data) for data in (CALLED, FAILED)]
    return (*log[:place], *pair, *log[place:])


@pytest.mark.parametrize("evidence", ["log", "quote"])
def test_a_failed_call_is_found(evidence: str, tmp_path: Path) -> None:
    expected, known = known_of(edited(tmp_path / "a", Launch()))
    assert expected.log is not None
    log = failing_first(expected.log)
    registers = expected.registers | dict(replay(log))
    observed = replace(expected, log=log, registers=registers, facts={}, spec=None)
    observed = observed if evidence == "log" else without_facts(observed)
    found = explain(observed, expected, known=known)
    assert found.explained, [finding.text for finding in found.findings]
    if evidence == "quote":  # with a log, the two events are named by their digests
        (change,) = found.changes
        assert change.text == "ExitBootServices failed once first"
        assert "memory map" in change.meaning
