"""Logs in JSON, as dstack's agent reports them."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mrtd.errors import MalformedEventLog
from mrtd.eventlog import EventType, replay
from mrtd.eventlog.digest_check import DigestStatus, check_digest
from mrtd.eventlog.json_log import read_json_log
from mrtd.registers import Exact, RegisterName, Sha384

RECORD = {"imr": 0, "event_type": 4, "digest": "00" * 48, "event": "", "event_payload": "00000000"}


def test_a_report_replays_to_its_quote(corpus: Path) -> None:
    data = (corpus / "quotes" / "dstack-quote-report.json").read_bytes()
    log = read_json_log(data, origin="report")
    quote = bytes.fromhex(json.loads(data)["quote"])
    # TDX quote v4: header 48 B; RTMR0 behind 16 + 2 * 48 + 3 * 8 + 4 * 48 B of the TD report
    start = 48 + 328
    assert replay(log) == {
        RegisterName(f"rtmr{n}"): Exact(Sha384(quote[start + 48 * n : start + 48 * (n + 1)]))
        for n in range(4)
    }
    told = {event.description for event in log}
    assert {"compose-hash", "BootOrder: 0000", "separator"} <= told
    found = [check_digest(event).status for event in log]
    assert (found.count(DigestStatus.MATCHES), found.count(DigestStatus.DIFFERS)) == (12, 0)


def test_an_agents_event_that_was_changed_is_refused(corpus: Path) -> None:
    report = json.loads((corpus / "quotes" / "dstack-quote-report.json").read_text())
    records = json.loads(report["event_log"])
    records[-1]["event_payload"] = "00"
    with pytest.raises(MalformedEventLog, match="name and payload are not what"):
        read_json_log(json.dumps(records), origin="report")


@pytest.mark.parametrize("wrap", [0, 1, 2])
def test_the_list_may_be_wrapped(wrap: int) -> None:
    document: Any = [RECORD]
    if wrap:
        document = {"event_log": document if wrap == 1 else json.dumps(document)}
    (event,) = read_json_log(json.dumps(document), origin="log")
    assert event.type is EventType.EV_SEPARATOR
    assert event.origin.where == "log: event_log[0]"


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ("{}", "no list of events"),
        (b'["\xd0"]', "no list of events"),
        ("[", "no list of events"),
        ("[1]", "no list of events"),
        ("[" * 100_000, "no list of events"),
        (json.dumps([RECORD | {"imr": 4}]), "no event of RTMR0 to 3"),
        (json.dumps([RECORD | {"event_type": -1}]), "no event of RTMR0 to 3"),
        (json.dumps([RECORD | {"digest": "00"}]), "not hex"),
        (json.dumps([RECORD | {"event_payload": "xx"}]), "not hex"),
    ],
)
def test_broken_logs(document: str | bytes, message: str) -> None:
    with pytest.raises(MalformedEventLog, match=message):
        read_json_log(document, origin="log")


@given(st.text(max_size=60) | st.binary(max_size=60))
def test_nothing_foreign_from_any_text(document: str | bytes) -> None:
    with contextlib.suppress(MalformedEventLog):
        read_json_log(document, origin="log")
