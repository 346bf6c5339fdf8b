"""Writes event logs in the format that `mrtd.eventlog.tcg2` reads."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from mrtd.errors import MalformedEventLog
from mrtd.eventlog.event import Event, EventType
from mrtd.eventlog.numbering import CC_REGISTERS
from mrtd.eventlog.spec_id import SHA384, SPEC_ID, Algorithm, write_spec_id
from mrtd.registers import RegisterName, Sha384, Target

_MAX_SIZE: Final = 0xFFFFFFFF
_ORIGIN: Final = "events to write"

DigestOf = Callable[[Event, Algorithm], bytes]


def write_log(
    events: Iterable[Event],
    *,
    target: Target,
    algorithms: tuple[Algorithm, ...] = (SHA384,),
    digest_of: DigestOf | None = None,
    area: int = 0,
) -> bytes:
    """A binary event log: CCEL of a TD, or a TPM's crypto-agile log.

    Args:
        events: in order. A Spec ID record at the start is replaced by one with ``algorithms``.
        target: whose log: TD (register indexes of UEFI 2.10) or TPM.
        algorithms: of each event's digests, in the order written; SHA-384 among them.
        digest_of: digests of the other algorithms, which an event does not hold; needed if there
            are any, and for events that extend nothing not called: theirs are zero.
        area: size to fill the log up to with 0xff, bytes; smaller than the log: not filled.

    Raises:
        MalformedEventLog: an event has no digest, belongs to a register that the target does not
            have, or cannot be written in this format.
    """
    indexes = _indexes(target)
    if SHA384 not in algorithms or (digest_of is None and len(algorithms) > 1):
        raise MalformedEventLog(
            "SHA-384 is needed, and digest_of for any other one", origin=_ORIGIN, field="algorithms"
        )
    body = write_spec_id(algorithms)
    spec_id_index = 1 if target is Target.CC else 0
    written = [_u32(spec_id_index) + _u32(EventType.EV_NO_ACTION) + bytes(20)]
    written.append(_u32(len(body)) + body)
    for number, event in enumerate(events):
        if number == 0 and event.data.startswith(SPEC_ID):
            continue
        if event.register not in indexes:
            raise MalformedEventLog(
                f"event {number} is one of {event.register}, which target {target} does not have",
                origin=_ORIGIN,
            )
        if len(event.data) > _MAX_SIZE or not 0 <= event.type <= _MAX_SIZE:
            raise MalformedEventLog(f"event {number} does not fit 32 bits", origin=_ORIGIN)
        head = _u32(indexes[event.register]) + _u32(event.type) + _u32(len(algorithms))
        digests = b"".join(
            a.id.to_bytes(2, "little") + _digest(number, event, a, digest_of) for a in algorithms
        )
        written += [head, digests, _u32(len(event.data)), event.data]
    log = b"".join(written)
    return log.ljust(area, b"\xff")


def _indexes(target: Target) -> dict[RegisterName, int]:
    names = CC_REGISTERS if target is Target.CC else [RegisterName(f"pcr{n}") for n in range(24)]
    return {name: index for index, name in enumerate(names)}


def _digest(number: int, event: Event, algorithm: Algorithm, digest_of: DigestOf | None) -> bytes:
    if algorithm != SHA384 and event.type == EventType.EV_NO_ACTION:
        return bytes(algorithm.size)
    if algorithm != SHA384 and digest_of is not None:
        digest = digest_of(event, algorithm)
        if len(digest) != algorithm.size:
            raise MalformedEventLog(
                f"event {number}: {len(digest)} bytes where {algorithm} has {algorithm.size}",
                origin=_ORIGIN,
            )
        return digest
    if not isinstance(event.digest, Sha384):
        raise MalformedEventLog(
            f"event {number} ({event.description}) has no digest: {event.digest.reason}",
            origin=_ORIGIN,
            hint="only a whole log can be written",
        )
    return event.digest.raw


def _u32(value: int) -> bytes:
    return value.to_bytes(4, "little")
