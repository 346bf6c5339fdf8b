"""Reads event logs as firmware writes them: a TPM's crypto-agile log, and CCEL of a TD.

Both have one format (TCG PC Client Platform Firmware Profile 1.06, chapter 10.2; a TD's log differs
in the meaning of the register index only, UEFI 2.10 38.4.1). Little-endian, packed:

* the first record is a TCG_PCR_EVENT, ``register u32, type u32, SHA-1 digest 20 B, size u32,
  body``, whose body is a TCG_EfiSpecIDEvent that lists the digest algorithms and their sizes;
* every other one is a TCG_PCR_EVENT2, ``register u32, type u32, count u32, count x (algorithm u16,
  digest), size u32, body``;
* the log ends with the data, at a register index 0xffffffff, or where only zero bytes follow (an
  ACPI log area is filled up with 0xff or zero bytes).

The reader is strict: what it does not understand is refused, never skipped. Bodies are not looked
into (`mrtd.eventlog.bodies` does that): one that breaks its format does not make a log unreadable.
"""

from __future__ import annotations

from struct import Struct
from typing import Final

import msgspec

from mrtd.errors import MalformedEventLog
from mrtd.eventlog.event import Event, EventLog, EventType, InputName, Origin
from mrtd.eventlog.numbering import CC_REGISTERS, RegisterNumbering, numbering_of
from mrtd.eventlog.spec_id import NEEDS_TPM_2, SHA384, Algorithm, SpecId, read_spec_id
from mrtd.reader import Reader
from mrtd.registers import ZERO, RegisterName, Sha384, Target

_COUNT_OFFSET: Final = 8
_NO_ACTION: Final = int(EventType.EV_NO_ACTION)
_PCRS: Final = tuple(RegisterName(f"pcr{index}") for index in range(24))
_CC_REGISTERS: Final = {
    RegisterNumbering.MR: CC_REGISTERS,
    RegisterNumbering.DETECT: CC_REGISTERS,
    RegisterNumbering.RTMR: CC_REGISTERS[1:],
}
_TYPES: Final = {int(kind): kind for kind in EventType}
_SET_DIGEST: Final = Sha384.__dict__["raw"].__set__


class LogFile(msgspec.Struct, frozen=True):
    """A log as it was read.

    Attributes:
        events: every record in order; the first one is the Spec ID record itself, EV_NO_ACTION,
            so it extends nothing, with the zero digest that TCG prescribes for such events.
        spec_id: algorithms and version that the log declares.
        size: bytes up to the end of the last whole record.
        truncated_at: offset of the record that the data ends in; None if the log is whole.
        numbering: what its register indexes mean; `RegisterNumbering.MR` for a TPM's log.
        remarks: what a reader of the log has to know, for a person.
    """

    events: EventLog
    spec_id: SpecId
    size: int
    truncated_at: int | None
    numbering: RegisterNumbering
    remarks: tuple[str, ...]


def read_log(
    data: bytes,
    *,
    origin: str,
    target: Target,
    numbering: RegisterNumbering = RegisterNumbering.MR,
) -> EventLog:
    """Read a whole binary event log: CCEL of a TD, or a TPM's ``binary_bios_measurements``.

    Args:
        data: the log, with or without the unused rest of its area.
        origin: the file that it is, for messages and for the events' origins.
        target: what a register index means: ``cc``: see ``numbering``; ``tpm``: PCR.
        numbering: how a TD's firmware numbers registers.

    Returns:
        Every record in order, with its SHA-384 digest and its body (see `LogFile.events`).

    Raises:
        MalformedEventLog: the data breaks the format, the log has no SHA-384 digests, or its
            events show that registers are numbered in another way than was said.
    """
    return read_log_file(data, origin=origin, target=target, numbering=numbering).events


def read_log_file(
    data: bytes,
    *,
    origin: str,
    target: Target,
    numbering: RegisterNumbering = RegisterNumbering.MR,
    allow_truncated: bool = False,
) -> LogFile:
    """Read a binary event log and what there is to know about the file.

    Args:
        data: see `read_log`.
        origin: see `read_log`.
        target: see `read_log`.
        numbering: see `read_log`.
        allow_truncated: whether a log that ends in the middle of a record is read up to there.

    Raises:
        MalformedEventLog: see `read_log`; also a truncated log that was not allowed.
    """
    reader = _Records(data, origin=origin, error=MalformedEventLog)
    file = _File(origin, target, _PCRS if target is Target.TPM else _CC_REGISTERS[numbering])
    register, spec_id, body = _read_header(reader, file)
    first = Origin(InputName.LOG, origin, 0)
    events = [Event(register, EventType.EV_NO_ACTION, ZERO, None, first, body)]
    layout = _layout(spec_id.algorithms)
    # One pass for all records: whether only padding follows is then a comparison.
    content_end = len(data.rstrip(b"\0"))
    truncated_at = None
    while reader.offset < content_end:
        _read_usual(reader, data, layout, file, events)
        start = reader.offset
        if start >= content_end or _is_end(reader, data):
            break
        try:
            events.append(_read_record(reader, spec_id.algorithms, file))
        except MalformedEventLog:
            if not (allow_truncated and reader.cut_off):
                raise
            truncated_at = start
            reader.seek(start, "register index")
            break
    remarks: list[str] = []
    if truncated_at is not None:
        remarks.append(f"cut off in the record at {truncated_at:#x}: later events are missing")
    if target is Target.CC:
        numbering = _checked_numbering(events, numbering, origin, remarks)
    else:
        numbering = RegisterNumbering.MR
    return LogFile(tuple(events), spec_id, reader.offset, truncated_at, numbering, tuple(remarks))


_Layout = tuple[Struct, bytes, list[tuple[int, bytes]]]


class _File(msgspec.Struct, frozen=True):
    """What a record's register index means, and what its origin says."""

    origin: str
    target: Target
    names: tuple[RegisterName, ...]


class _Records(Reader):
    """A reader that knows whether it failed because the data ends."""

    __slots__ = ("cut_off",)

    cut_off: bool

    def take(self, size: int, field: str) -> memoryview:
        self.cut_off = size > self.remaining
        return super().take(size, field)


def _read_header(reader: Reader, file: _File) -> tuple[RegisterName, SpecId, bytes]:
    """The TCG_PCR_EVENT with the TCG_EfiSpecIDEvent: its register, its content, its body."""
    register = _register(reader, reader.u32("Spec ID register index"), file)
    if (kind := reader.u32("Spec ID event type")) != EventType.EV_NO_ACTION:
        raise reader.fail(
            f"{kind:#x} where EV_NO_ACTION (3) starts every log",
            "Spec ID event type",
            hint=f"this reads TCG2 crypto-agile logs and CCEL; {NEEDS_TPM_2}",
        )
    if any(reader.take(20, "Spec ID digest")):
        raise reader.fail("not zero", "Spec ID digest")
    size = reader.u32("Spec ID size")
    body = bytes(reader.take(size, "Spec ID body"))
    spec_id = read_spec_id(body, origin=file.origin, base=reader.offset - size)
    if SHA384 not in spec_id.algorithms:
        listed = ", ".join(f"{a.id:#06x}" for a in spec_id.algorithms) or "none"
        raise reader.fail(
            f"the log has no SHA-384 digests (algorithms: {listed})",
            "algorithm",
            hint="activate the TPM's SHA-384 bank",
        )
    return register, spec_id, body


def _layout(algorithms: tuple[Algorithm, ...]) -> _Layout:
    """How a record begins that has all algorithms in their order.

    Returns:
        Its fields register index, type, SHA-384 digest and body size; digest count and first
        algorithm as bytes; the other algorithms, each with its offset in the record.
    """
    fields, tags = "<II4x", []
    offset = _COUNT_OFFSET + 4
    for algorithm in algorithms:
        tags.append((offset, algorithm.id.to_bytes(2, "little")))
        fields += f"2x{algorithm.size}{'s' if algorithm == SHA384 else 'x'}"
        offset += 2 + algorithm.size
    count = len(algorithms).to_bytes(4, "little")
    return Struct(f"{fields}I"), count + tags[0][1], tags[1:]


def _read_usual(
    reader: Reader,
    data: bytes,
    layout: _Layout,
    file: _File,
    events: list[Event],
) -> None:
    """Read records that have every algorithm in the declared order, as firmware writes them.

    Stops, without an error, before the first one that is not so or not whole: `_read_record` reads
    that one, or says what is wrong with it.
    """
    record, first, others = layout
    # This loop is what reading costs: names are local, and a digest of the right size by
    # construction is neither checked nor copied.
    names, unpack, fixed = file.names, record.unpack_from, record.size
    end, limit = len(data), len(names)
    new, set_digest, get_type, starts = object.__new__, _SET_DIGEST, _TYPES.get, data.startswith
    append, offset, log, name = events.append, reader.offset, InputName.LOG, file.origin
    while starts(first, offset + _COUNT_OFFSET):
        start = offset + fixed
        if start > end:
            break
        index, kind, raw, size = unpack(data, offset)
        stop = start + size
        for place, tag in others:
            if not starts(tag, offset + place):
                index = limit
        if index >= limit or stop > end:
            break
        digest = new(Sha384)
        set_digest(digest, raw)
        where = Origin(log, name, offset)
        body = data[start:stop]
        append(Event(names[index], get_type(kind, kind), digest, None, where, body))
        offset = stop
    reader.seek(offset, "register index")


def _read_record(reader: Reader, algorithms: tuple[Algorithm, ...], file: _File) -> Event:
    """A TCG_PCR_EVENT2, with its algorithms in any order."""
    start = reader.offset
    register = _register(reader, reader.u32("register index"), file)
    kind = reader.u32("event type")
    count = reader.u32("digest count")
    if count > len(algorithms):
        raise reader.fail(f"{count} digests, of {len(algorithms)} algorithms", "digest count")
    sizes = {a.id: a.size for a in algorithms}
    digests: dict[int, bytes] = {}
    for _ in range(count):
        algorithm = reader.u16("digest algorithm")
        if algorithm not in sizes:
            raise reader.fail(f"{algorithm:#06x} is not in the Spec ID event", "digest algorithm")
        if algorithm in digests:
            raise reader.fail(f"{algorithm:#06x} comes twice", "digest algorithm")
        digests[algorithm] = bytes(reader.take(sizes[algorithm], "digest"))
    if SHA384.id not in digests:
        raise reader.fail("the event has no SHA-384 digest", "digest")
    body = bytes(reader.take(reader.u32("event size"), "event body"))
    digest = Sha384(digests[SHA384.id])
    where = Origin(InputName.LOG, file.origin, start)
    return Event(register, _TYPES.get(kind, kind), digest, None, where, body)


def _register(reader: Reader, index: int, file: _File) -> RegisterName:
    if index >= len(file.names):
        raise reader.fail(
            f"{index:#x}, while target {file.target} has 0 to {len(file.names) - 1}",
            "register index",
            hint="a TPM's log is read as target tpm, CCEL as target cc",
        )
    return file.names[index]


def _is_end(reader: Reader, data: bytes) -> bool:
    """Whether the log ends here; what follows must be the fill bytes of its area, and no event."""
    start = reader.offset
    if data[start : start + 4].strip(b"\xff"):
        return False
    rest = bytes(reader.take(reader.remaining, "padding"))
    strange = rest.lstrip(b"\xff").lstrip(b"\0")
    reader.seek(reader.offset - len(strange), "padding")
    reader.expect_end("padding after the end of the log")
    reader.seek(start, "end of the log")
    return True


def _checked_numbering(
    events: list[Event], numbering: RegisterNumbering, origin: str, remarks: list[str]
) -> RegisterNumbering:
    """The numbering that a TD's events follow; renames their registers if it was to be detected.

    With `MR`, which nearly every log has, only events of MRTD are a reason to look closer.
    """
    mrtd, no_action = RegisterName.MRTD, _NO_ACTION
    of_mrtd = len([1 for e in events if e.register is mrtd and e.type != no_action])
    if numbering is RegisterNumbering.MR and not of_mrtd:
        return numbering
    shift = int(numbering is RegisterNumbering.RTMR)
    shown = numbering_of((CC_REGISTERS.index(e.register) - shift, e.type) for e in events)
    if numbering is RegisterNumbering.DETECT:
        numbering = shown.numbering or RegisterNumbering.MR
        remarks.append(f"registers are numbered as in {numbering}: {shown.evidence}")
        if numbering is RegisterNumbering.RTMR:
            _rename(events, origin)
            return numbering
    elif shown.numbering not in {None, numbering}:
        raise MalformedEventLog(
            f"registers are not numbered as in {numbering}: {shown.evidence}",
            origin=origin,
            field="register index",
            hint=f"read it with register numbering {shown.numbering} (edk2 before 202302: rtmr)",
        )
    if of_mrtd:
        remarks.append(f"{of_mrtd} events name MRTD, which no event can extend: not replayed")
    return numbering


def _rename(events: list[Event], origin: str) -> None:
    """Read each register index, so far as MR, as that of an RTMR."""
    for place, event in enumerate(events):
        index = CC_REGISTERS.index(event.register)
        if index == len(_CC_REGISTERS[RegisterNumbering.RTMR]):
            raise MalformedEventLog(
                f"{index:#x}, while 3 is RTMR3 in this log's numbering",
                origin=origin,
                offset=event.origin.offset,
                field="register index",
            )
        events[place] = msgspec.structs.replace(event, register=CC_REGISTERS[index + 1])
