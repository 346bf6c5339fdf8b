"""What a file says besides its events: where it ends, how registers are numbered."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import pytest
from msgspec.structs import replace

from mrtd.errors import MalformedEventLog
from mrtd.eventlog import Event, EventLog, EventType, InputName, Origin, replay
from mrtd.eventlog.numbering import RegisterNumbering, numbering_of
from mrtd.eventlog.spec_id import SHA256, SHA384
from mrtd.eventlog.tcg2 import LogFile, read_log, read_log_file
from mrtd.eventlog.writer import write_log
from mrtd.registers import Exact, RegisterName, Sha384, Target
from tests.eventlog.test_tcg2 import LOG, SIZES, TPM_BANKS, event, header

ORIGIN = Origin(InputName.LOG, "test")
SEPARATOR = Event(
    RegisterName.RTMR0, EventType.EV_SEPARATOR, Sha384.of(bytes(4)), None, ORIGIN, bytes(4)
)


def with_offset(log: EventLog, by: int) -> bytes:
    """A TD's log with every register index moved."""
    names = [RegisterName.MRTD, *(RegisterName(f"rtmr{n}") for n in range(4))]
    moved = [replace(e, register=names[names.index(e.register) + by]) for e in log[1:]]
    return write_log(moved, target=Target.CC)


def ccel(corpus: Path, name: str) -> bytes:
    return (corpus / "eventlogs" / f"{name}.ccel").read_bytes()


def cut(data: bytes, *, allow: bool = True) -> LogFile:
    return read_log_file(data, origin="log", target=Target.TPM, allow_truncated=allow)


@pytest.mark.parametrize("missing", range(1, 110))
def test_a_cut_log_is_refused_unless_it_is_allowed(missing: int) -> None:
    last = len(LOG) - len(event(7, 4, bytes(4)))
    if len(LOG) - missing == last:
        return
    data = LOG + event(4, EventType.EV_IPL, b"no zeros at its end" * 3)
    data = data[:-missing]
    with pytest.raises(MalformedEventLog, match="are left"):
        cut(data, allow=False)
    found = cut(data)
    assert found.truncated_at == len(LOG)
    assert found.size == len(LOG)
    assert found.events == read_log(LOG, origin="log", target=Target.TPM)
    assert found.remarks == (f"cut off in the record at {len(LOG):#x}: later events are missing",)


@pytest.mark.parametrize(
    "data",
    [
        LOG + event(24, 4, b""),
        LOG + event(4, 4, b"", sizes={0xC: 48, 0x99: 1}),
        LOG[:40],
    ],
)
def test_what_is_wrong_is_not_taken_for_cut(data: bytes) -> None:
    with pytest.raises(MalformedEventLog):
        cut(data)


def test_a_whole_log() -> None:
    found = cut(LOG + b"\xff" * 100)
    assert (found.size, found.truncated_at, found.remarks) == (len(LOG), None, ())
    assert found.spec_id.algorithms == (SHA256, SHA384)
    assert found.spec_id.version == (2, 0, 0)
    assert found.numbering is RegisterNumbering.MR


def test_digests_in_any_order_and_number() -> None:
    swapped = dict(reversed(TPM_BANKS.items()))
    one = {0xC: 48}
    data = header(SIZES) + event(1, 4, b"a", sizes=swapped) + event(2, 4, b"b", sizes=one)
    data += event(3, 4, b"c", sizes=SIZES)
    log = read_log(data, origin="log", target=Target.TPM)
    assert [(e.register, e.data) for e in log[1:]] == [
        ("pcr1", b"a"),
        ("pcr2", b"b"),
        ("pcr3", b"c"),
    ]


def test_an_old_numbering_is_never_read_silently(corpus: Path) -> None:
    log = read_log(ccel(corpus, "ovmf-shim-grub"), origin="ccel", target=Target.CC)
    old = with_offset(log, -1)
    with pytest.raises(MalformedEventLog, match="always an event of RTMR0, has index 0") as error:
        read_log(old, origin="old", target=Target.CC)
    assert "numbering rtmr" in str(error.value)
    said = read_log(old, origin="old", target=Target.CC, numbering=RegisterNumbering.RTMR)
    assert replay(said) == replay(log)
    found = read_log_file(old, origin="old", target=Target.CC, numbering=RegisterNumbering.DETECT)
    assert found.numbering is RegisterNumbering.RTMR
    assert "EV_EFI_HANDOFF_TABLES2" in found.remarks[0]
    assert replay(found.events) == replay(log)


def test_the_right_numbering_is_detected_and_a_wrong_one_refused(corpus: Path) -> None:
    data = ccel(corpus, "gce-cos-113")
    found = read_log_file(data, origin="ccel", target=Target.CC, numbering=RegisterNumbering.DETECT)
    assert found.numbering is RegisterNumbering.MR
    with pytest.raises(MalformedEventLog, match="are not numbered as in rtmr"):
        read_log(data, origin="ccel", target=Target.CC, numbering=RegisterNumbering.RTMR)


def test_a_log_that_shows_no_numbering() -> None:
    data = write_log([SEPARATOR, replace(SEPARATOR, register=RegisterName.MRTD)], target=Target.CC)
    found = read_log_file(data, origin="log", target=Target.CC, numbering=RegisterNumbering.DETECT)
    assert found.numbering is RegisterNumbering.MR
    assert found.remarks == (
        "registers are numbered as in mr: no event is of a type whose register is fixed",
        "1 events name MRTD, which no event can extend: not replayed",
    )


def test_contradicting_events_show_nothing() -> None:
    kinds = EventType.EV_EFI_VARIABLE_DRIVER_CONFIG
    found = numbering_of([(0, kinds), (1, kinds), (3, kinds), (1, EventType.EV_IPL)])
    assert found.numbering is None
    assert "contradict" in found.evidence


def test_an_old_numbering_has_four_registers() -> None:
    policy = Event(
        RegisterName.MRTD, EventType.EV_EFI_VARIABLE_AUTHORITY, Sha384.of(b""), None, ORIGIN
    )
    data = write_log([policy, replace(SEPARATOR, register=RegisterName.RTMR3)], target=Target.CC)
    with pytest.raises(MalformedEventLog, match="3 is RTMR3 in this log's numbering"):
        read_log(data, origin="log", target=Target.CC, numbering=RegisterNumbering.DETECT)
    with pytest.raises(MalformedEventLog, match="target cc has 0 to 3"):
        read_log(data, origin="log", target=Target.CC, numbering=RegisterNumbering.RTMR)


@pytest.mark.parametrize("locality", [0, 3, 4])
def test_a_tpm_started_from_a_locality(locality: int) -> None:
    told = b"StartupLocality\0" + bytes([locality])
    data = header() + event(0, 3, told) + event(0, EventType.EV_S_CRTM_VERSION, b"1")
    start = Sha384(bytes(47) + bytes([locality]))
    values = replay(read_log(data, origin="log", target=Target.TPM))
    digest = Sha384.of(b"one")
    assert values == {RegisterName.PCR0: Exact(Sha384.of(start.raw, digest.raw))}


def test_a_locality_told_late_or_in_another_register_changes_nothing() -> None:
    told = b"StartupLocality\0\3"
    first = header() + event(0, 8, b"1") + event(1, 8, b"1")
    plain = replay(read_log(first, origin="log", target=Target.TPM))
    late = first + event(0, 3, told) + event(1, 3, told)
    assert replay(read_log(late, origin="log", target=Target.TPM)) == plain


def test_memory_is_bounded_whatever_lengths_claim() -> None:
    """Records of the smallest size, the worst case: some 400 bytes each."""
    data = header({0xC: 48}) + event(1, 4, b"", sizes={0xC: 48}) * 20_000
    tracemalloc.start()
    log = read_log(data, origin="log", target=Target.TPM)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(log) == 20_001
    assert peak < 10 * len(data)
