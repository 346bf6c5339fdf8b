"""Sides from JSON: measurement documents, reports of guest agents, and plain registers."""

from __future__ import annotations

from typing import Any

import msgspec

from mrtd.document import MeasurementDocument, read_document
from mrtd.errors import MalformedDocument, MalformedEventLog
from mrtd.eventlog import Event, InputName, Origin
from mrtd.eventlog.describe import describe
from mrtd.facts import facts_of_document
from mrtd.launch.spec import PageOrder
from mrtd.registers import Exact, RegisterName, Rule, Sha384, Target, Unpinned
from mrtd.side import Side, SideKind
from mrtd.side_evidence import side_of_quote


class _QuoteReport(msgspec.Struct):
    """JSON with a quote in hex, as guest agents report it, perhaps with its event log."""

    quote: str
    event_log: Any = None


class _Imr(msgspec.Struct):
    """An event of a guest agent's JSON log; ``imr`` n is RTMRn."""

    imr: int
    event_type: int
    digest: str
    event: str = ""
    event_payload: str = ""


class _Registers(msgspec.Struct):
    """Any JSON object with registers."""

    registers: dict[str, str | None]


def side_of_json(data: bytes, origin: str) -> Side:
    """A side of a JSON object with ``schema``, ``quote`` or ``registers``.

    Raises:
        InputError: it has none of them, or what it has breaks its format.
    """
    try:
        fields = msgspec.json.decode(data, type=dict[str, msgspec.Raw])
        if "schema" in fields:
            return side_of_document(read_document(data, origin=origin), origin=origin)
        if "quote" in fields:
            return _side_of_report(msgspec.json.decode(data, type=_QuoteReport), origin)
        if "registers" in fields:
            return _side_of_registers(msgspec.json.decode(data, type=_Registers), origin)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise MalformedDocument(f"JSON that cannot be read: {error}", origin=origin) from error
    raise MalformedDocument(
        "JSON with neither schema, quote nor registers",
        origin=origin,
        hint="a measurement document has a schema, a guest agent's report a quote",
    )


def side_of_document(document: MeasurementDocument, *, origin: str) -> Side:
    """A side of a measurement document. Raises `MalformedDocument` for unknown registers."""
    try:
        registers = {
            RegisterName(name): _rule(
                value, document.rules[name].reason if name in document.rules else None, origin
            )
            for name, value in document.registers.items()
        }
        log = tuple(
            Event(
                RegisterName(entry.register),
                entry.type,
                _digest(entry.digest, entry.reason, origin),
                entry.description,
                Origin(InputName(entry.input), entry.origin),
                bytes.fromhex(entry.data),
                entry.unconfirmed or "",
            )
            for entry in document.events
        )
        order = None if document.page_order is None else PageOrder(document.page_order)
        target = Target(document.target)
    except ValueError as error:
        raise MalformedDocument(str(error), origin=origin) from error
    return Side(
        origin=origin,
        kind=SideKind.DOCUMENT,
        target=target,
        registers=registers,
        log=log,
        page_order=order,
        spec=document.spec,
        facts=facts_of_document(document),
    )


def _side_of_report(report: _QuoteReport, origin: str) -> Side:
    raw = unhex(report.quote)
    if raw is None:
        raise MalformedDocument("not hex digits", origin=origin, field="quote")
    events = report.event_log
    if isinstance(events, str):
        events = msgspec.json.decode(events) if events else None
    log = None
    if events is not None:
        entries = msgspec.convert(events, tuple[_Imr, ...], strict=False)
        log = tuple(_imr_event(index, entry, origin) for index, entry in enumerate(entries))
    return side_of_quote(raw, origin=origin, log=log)


def _imr_event(index: int, entry: _Imr, origin: str) -> Event:
    where = f"{origin}: event_log[{index}]"
    if not 0 <= entry.imr <= 3:
        raise MalformedEventLog(f"imr {entry.imr} is not 0 to 3", origin=where)
    body = unhex(entry.event_payload)
    data = entry.event_payload.encode() if body is None else body
    return Event(
        RegisterName(f"rtmr{entry.imr}"),
        entry.event_type,
        Sha384.fromhex(entry.digest, origin=where),
        entry.event or describe(entry.event_type, data),
        Origin(InputName.LOG, where),
        data,
    )


def _side_of_registers(loose: _Registers, origin: str) -> Side:
    registers: dict[RegisterName, Rule] = {}
    for name, value in loose.registers.items():
        try:
            register = RegisterName(name.lower())
        except ValueError as error:
            raise MalformedDocument(
                f"{name!r} is no register", origin=origin, field="registers"
            ) from error
        registers[register] = _rule(value, "unpinned in this file", origin)
    tpm = any(str(name).startswith("pcr") for name in registers)
    return Side(
        origin=origin,
        kind=SideKind.DOCUMENT,
        target=Target.TPM if tpm else Target.CC,
        registers=registers,
    )


def _rule(value: str | None, reason: str | None, origin: str) -> Rule:
    if value is None:
        return Unpinned(reason or "no reason given")
    return Exact(Sha384.fromhex(value, origin=origin))


def _digest(value: str | None, reason: str | None, origin: str) -> Sha384 | Unpinned:
    rule = _rule(value, reason, origin)
    return rule.value if isinstance(rule, Exact) else rule


def unhex(text: str) -> bytes | None:
    """The bytes behind hex digits; None if it is something else."""
    try:
        return bytes.fromhex(text.strip().removeprefix("0x"))
    except ValueError:
        return None
