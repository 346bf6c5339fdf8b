"""Replaying a log: which events extend which register, and what cannot be predicted."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mrtd.eventlog.event import Event, EventType, InputName, Origin, register_of_pcr, type_name
from mrtd.eventlog.replay import replay
from mrtd.eventlog.tcg2 import read_log
from mrtd.registers import ZERO, Exact, RegisterName, Sha384, Target, Unpinned

ORIGIN = Origin(InputName.LOG, "test")


def event(
    register: RegisterName, digest: Sha384 | Unpinned, kind: int = EventType.EV_SEPARATOR
) -> Event:
    return Event(register, kind, digest, "test", ORIGIN)


def test_an_empty_log_extends_nothing() -> None:
    assert replay([]) == {}


@given(st.lists(st.binary(min_size=48, max_size=48), min_size=1, max_size=6))
def test_a_register_is_the_fold_of_its_digests(digests: list[bytes]) -> None:
    value = bytes(48)
    for digest in digests:
        value = hashlib.sha384(value + digest).digest()
    log = [event(RegisterName.RTMR1, Sha384(digest)) for digest in digests]
    assert replay(log) == {RegisterName.RTMR1: Exact(Sha384(value))}


def test_registers_do_not_mix() -> None:
    one, two = Sha384.of(b"1"), Sha384.of(b"2")
    mixed = [
        event(RegisterName.RTMR0, one),
        event(RegisterName.RTMR1, two),
        event(RegisterName.RTMR0, two),
    ]
    apart = replay([mixed[0], mixed[2]]) | replay([mixed[1]])
    assert replay(mixed) == apart


def test_order_matters() -> None:
    log = [event(RegisterName.RTMR0, Sha384.of(text)) for text in (b"1", b"2")]
    assert replay(log) != replay(log[::-1])


def test_informative_events_extend_nothing() -> None:
    log = [
        event(RegisterName.RTMR0, ZERO, EventType.EV_NO_ACTION),
        event(RegisterName.MRTD, Sha384.of(b"firmware")),
    ]
    assert replay(log) == {}


def test_an_informative_event_without_digest_unpins_nothing() -> None:
    log = [event(RegisterName.RTMR0, Unpinned("unknown"), EventType.EV_NO_ACTION)]
    assert replay(log) == {}


def test_one_unpredictable_event_unpins_its_register_only() -> None:
    log = [
        event(RegisterName.RTMR0, Sha384.of(b"1")),
        event(RegisterName.RTMR0, Unpinned("SMBIOS")),
        event(RegisterName.RTMR0, Sha384.of(b"2")),
        event(RegisterName.RTMR1, Sha384.of(b"3")),
    ]
    rules = replay(log)
    assert rules[RegisterName.RTMR0] == Unpinned("SMBIOS")
    assert isinstance(rules[RegisterName.RTMR1], Exact)


def test_reasons_are_joined_and_not_repeated() -> None:
    reasons = ["SMBIOS", "phys-bits", "SMBIOS"]
    log = [event(RegisterName.RTMR0, Unpinned(reason)) for reason in reasons]
    assert replay(log) == {RegisterName.RTMR0: Unpinned("SMBIOS; phys-bits")}


@pytest.mark.parametrize(
    ("pcr", "name"),
    [
        (1, "rtmr0"),
        (7, "rtmr0"),
        *((n, "rtmr1") for n in range(2, 7)),
        *((n, "rtmr2") for n in range(8, 16)),
    ],
)
def test_a_pcr_in_a_td_is_a_run_time_register(pcr: int, name: str) -> None:
    # facts 0: PCR1,7 -> RTMR0; PCR2-6 -> RTMR1; PCR8-15 -> RTMR2 (edk2 >= stable202302)
    assert register_of_pcr(pcr, Target.CC) is RegisterName(name)
    assert register_of_pcr(pcr, Target.TPM) is RegisterName(f"pcr{pcr}")


def test_event_types_have_their_tcg_names() -> None:
    assert type_name(0x8000000B) == "EV_EFI_HANDOFF_TABLES2"
    assert type_name(0xDEAD) == "0x0000dead"


def rtmrs(log: tuple[Event, ...]) -> dict[str, str]:
    return {
        str(name): str(rule.value) for name, rule in replay(log).items() if isinstance(rule, Exact)
    }


@pytest.mark.parametrize(
    ("name", "prefixes"),
    [  # shared/corpus/README.md
        ("gce-cos-113", ("3fa2f61f", "f62dbc07", "4969684d")),
        ("gce-cos-113-dupe-separator", ("a4de2df2", "0ee9366c")),
        ("ovmf-direct-2gib", ("8566f998", "775b9f6b", "94eaf7a7")),
        ("ovmf-shim-grub", ("cec0a104", "6c289e0c", "08919d01")),
    ],
)
def test_logs_of_real_machines_replay_to_their_registers(
    corpus: Path, name: str, prefixes: tuple[str, ...]
) -> None:
    data = (corpus / "eventlogs" / f"{name}.ccel").read_bytes()
    values = rtmrs(read_log(data, origin=name, target=Target.CC))
    for index, prefix in enumerate(prefixes):
        assert values[f"rtmr{index}"].startswith(prefix)
    assert "rtmr3" not in values


def test_a_log_in_json_replays_to_its_quote(corpus: Path) -> None:
    report = json.loads((corpus / "quotes" / "dstack-quote-report.json").read_text())
    records = json.loads(report["event_log"])
    quote = bytes.fromhex(report["quote"])
    log = [
        event(RegisterName(f"rtmr{record['imr']}"), Sha384.fromhex(record["digest"]))
        for record in records
    ]
    # TDREPORT 1.0 in a v4 quote: 48-byte header, RTMR0 at body offset 328
    start = 48 + 328
    quoted = [quote[start + 48 * n : start + 48 * (n + 1)].hex() for n in range(4)]
    values = replay(log)
    assert [f"{values[RegisterName(f'rtmr{n}')]}" for n in range(4)] == [
        f"{Exact(Sha384.fromhex(value))}" for value in quoted
    ]
