"""Event logs in JSON, as guest agents report them beside a quote.

One shape is known, that of dstack: a list of ``{"imr": n, "event_type": t, "digest": hex, "event":
name, "event_payload": hex}``, with n for RTMRn. Its own events (type 0x08000001, RTMR3) measure
SHA-384(type u32 || ":" || name || ":" || payload) (Dstack-TEE/dstack, cc-eventlog), which is
checked here: name and payload of such an event are what was extended, or the log is refused.
"""

from __future__ import annotations

from typing import Final

import msgspec

from mrtd.errors import MalformedDocument, MalformedEventLog
from mrtd.eventlog.event import Event, EventLog, EventType, InputName, Origin
from mrtd.registers import RegisterName, Sha384

AGENT_EVENT: Final = 0x08000001
_RTMRS: Final = tuple(RegisterName(f"rtmr{n}") for n in range(4))
_MAX_TYPE: Final = 0xFFFFFFFF


class _Record(msgspec.Struct):
    imr: int
    event_type: int
    digest: str
    event: str = ""
    event_payload: str = ""


def read_json_log(data: bytes | str, *, origin: str) -> EventLog:
    """Read a log in JSON.

    Args:
        data: the list of events; or an object whose ``event_log`` is that list, or the list as a
            string.
        origin: the file that it is.

    Raises:
        MalformedEventLog: it is none of these, or an agent's event is not what its digest is of.
    """
    try:
        document = msgspec.json.decode(data)
        while isinstance(document, dict | str):
            document = (
                msgspec.json.decode(document)
                if isinstance(document, str)
                else document["event_log"]
            )
        records = msgspec.convert(document, tuple[_Record, ...])
    except (msgspec.MsgspecError, UnicodeDecodeError, KeyError, RecursionError) as error:
        raise MalformedEventLog(
            f"no list of events in JSON: {error}", origin=origin, field="event_log"
        ) from error
    return tuple(_event(number, record, origin) for number, record in enumerate(records))


def _event(number: int, record: _Record, origin: str) -> Event:
    where = f"{origin}: event_log[{number}]"
    if not 0 <= record.imr < len(_RTMRS) or not 0 <= record.event_type <= _MAX_TYPE:
        raise MalformedEventLog(
            f"imr {record.imr}, type {record.event_type:#x}: no event of RTMR0 to 3", origin=where
        )
    try:
        digest = Sha384.fromhex(record.digest, origin=where)
        data = bytes.fromhex(record.event_payload)
    except (MalformedDocument, ValueError) as error:
        raise MalformedEventLog(
            f"digest or payload is not hex: {error}", origin=where, field="event_payload"
        ) from error
    kind: int = record.event_type
    if kind == AGENT_EVENT and digest != _agent_digest(record.event, data):
        raise MalformedEventLog(
            f"{record.event!r}: name and payload are not what its digest is of",
            origin=where,
            field="digest",
            hint="the log was changed after the event was extended",
        )
    if kind in EventType.__members__.values():
        kind = EventType(kind)
    label = record.event or None
    return Event(_RTMRS[record.imr], kind, digest, label, Origin(InputName.LOG, where), data)


def _agent_digest(name: str, payload: bytes) -> Sha384:
    return Sha384.of(AGENT_EVENT.to_bytes(4, "little"), b":", name.encode(), b":", payload)
