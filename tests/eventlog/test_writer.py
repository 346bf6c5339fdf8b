"""Logs written and read again."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from mrtd.errors import MalformedEventLog
from mrtd.eventlog import Event, EventType, InputName, Origin
from mrtd.eventlog.spec_id import SHA1, SHA256, SHA384, Algorithm
from mrtd.eventlog.tcg2 import read_log, read_log_file
from mrtd.eventlog.writer import write_log
from mrtd.registers import RegisterName, Sha384, Target, Unpinned

ORIGIN = Origin(InputName.LOG, "test")
CC = [RegisterName.MRTD, *(RegisterName(f"rtmr{n}") for n in range(4))]
TPM = [RegisterName(f"pcr{n}") for n in range(24)]


def events(registers: list[RegisterName]) -> st.SearchStrategy[list[Event]]:
    # no events of MRTD with a type that shows another numbering
    kinds = st.just(int(EventType.EV_IPL)) | st.integers(0x10000, 0x7FFFFFFF)
    digests = st.binary(min_size=48, max_size=48).map(Sha384)
    return st.lists(
        st.builds(
            Event, st.sampled_from(registers), kinds, digests, st.none(), st.just(ORIGIN),
            st.binary(max_size=200),
        ),
        max_size=8,
    )  # fmt: skip


def sha(event: Event, algorithm: Algorithm) -> bytes:
    return hashlib.new(str(algorithm), event.data).digest()


@given(st.data(), st.sampled_from(Target), st.sampled_from([0, 1 << 12]))
def test_what_is_written_is_read(data: st.DataObject, target: Target, area: int) -> None:
    log = data.draw(events(CC if target is Target.CC else TPM))
    algorithms = data.draw(st.permutations([SHA1, SHA256, SHA384]))
    written = write_log(log, target=target, algorithms=tuple(algorithms), digest_of=sha, area=area)
    assert len(written) >= area
    found = read_log_file(written, origin="log", target=target)
    assert found.spec_id.algorithms == tuple(algorithms)
    assert [replace(e, origin=ORIGIN) for e in found.events[1:]] == log


@pytest.mark.parametrize("name", ["gce-cos-113", "ovmf-direct-2gib", "ovmf-shim-grub"])
def test_a_real_log_is_written_as_its_firmware_wrote_it(corpus: Path, name: str) -> None:
    data = (corpus / "eventlogs" / f"{name}.ccel").read_bytes()
    found = read_log_file(data, origin=name, target=Target.CC)
    again = write_log(found.events, target=Target.CC)
    start = 4 + 4 + 20 + 4 + len(found.events[0].data)
    assert again[start:] == data[start : found.size]
    assert read_log(again, origin=name, target=Target.CC)[1:] == found.events[1:]


GOOD = Event(RegisterName.PCR1, 4, Sha384.of(b""), None, ORIGIN, b"x")


@pytest.mark.parametrize(
    ("event", "algorithms", "message"),
    [
        (GOOD, (SHA256,), "SHA-384 is needed"),
        (GOOD, (SHA256, SHA384), "SHA-384 is needed, and digest_of"),
        (
            replace(GOOD, register=RegisterName.RTMR0),
            (SHA384,),
            "is one of rtmr0, which target tpm",
        ),
        (replace(GOOD, type=-1), (SHA384,), "does not fit 32 bits"),
        (replace(GOOD, digest=Unpinned("why")), (SHA384,), "has no digest: why"),
    ],
)
def test_what_cannot_be_written(
    event: Event, algorithms: tuple[Algorithm, ...], message: str
) -> None:
    with pytest.raises(MalformedEventLog, match=message):
        write_log([event], target=Target.TPM, algorithms=algorithms)


def test_a_digest_of_another_size_is_refused() -> None:
    with pytest.raises(MalformedEventLog, match="1 bytes where sha256 has 32"):
        write_log([GOOD], target=Target.TPM, algorithms=(SHA384, SHA256), digest_of=lambda *_: b"x")
