"""Make a `Side` of a file, whatever it is: what it is follows from its content, not its name."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec

from mrtd.document import MeasurementDocument, read_document
from mrtd.errors import MalformedDocument, MalformedEventLog
from mrtd.eventlog import Event, EventLog, EventType, InputName, Origin, replay
from mrtd.eventlog.describe import describe
from mrtd.eventlog.tcg2 import read_log
from mrtd.facts import facts_of_derivation, facts_of_document
from mrtd.launch.inputs import read_file
from mrtd.launch.spec import PageOrder
from mrtd.registers import ZERO, Exact, RegisterName, Rule, Sha384, Target, Unpinned
from mrtd.side import Side, SideKind

if TYPE_CHECKING:
    from mrtd.derive import Derivation
    from mrtd.measure import MeasureOptions, Progress

_ZIP: Final = b"PK\x03\x04"
_QUOTE_TEE: Final = (0x81).to_bytes(4, "little")
_QUOTE_VERSIONS: Final = (4, 5)
_SPEC_SCHEMA: Final = "mrtd.launch/"
_SPEC_ID: Final = b"Spec ID Event0"
_CC_INDEXES: Final = 5
_TRIED: Final = (
    "launch spec (TOML with schema), measurement document (JSON with schema), event log (CCEL or "
    "TCG2 with a Spec ID record), TDX quote (version 4 or 5, binary, hex, or JSON with quote), "
    "evidence bundle (zip or directory)"
)


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


def load_side(
    path: Path,
    *,
    target: Target | None = None,
    options: MeasureOptions | None = None,
    progress: Progress = lambda _: None,
) -> Side:
    """Read what is known of a launch from a file.

    Args:
        path: launch spec, measurement document, event log, quote or evidence bundle.
        target: whose registers they are, where the file does not say it: a launch spec can be
            derived for either (default cc), and so can the rare log that has no telling event.
        options: how a launch spec is measured; its target is replaced by ``target``.
        progress: told what is being done, in a few words.

    Raises:
        InputError: the file cannot be read, or is none of them.
    """
    origin = str(path)
    data = _ZIP if path.is_dir() else read_file(path, key="file")
    if data.startswith(_ZIP):
        return side_of_bundle(path)
    if is_quote(data):
        return side_of_quote(data, origin=origin)
    if is_event_log(data):
        return side_of_log(data, origin=origin, target=target)
    return _side_of_text(path, data, target, options, progress)


def _side_of_text(
    path: Path,
    data: bytes,
    target: Target | None,
    options: MeasureOptions | None,
    progress: Progress,
) -> Side:
    origin = str(path)
    text = _text(data)
    raw = _unhex(text)
    if text.lstrip().startswith("{"):
        return _side_of_json(data, origin)
    if raw is not None and is_quote(raw):
        return side_of_quote(raw, origin=origin)
    if _SPEC_SCHEMA in text:
        return _side_of_spec(path, target, options, progress)
    raise MalformedDocument(f"is none of these: {_TRIED}", origin=origin, field="content")


def is_quote(data: bytes) -> bool:
    """Whether data starts like a TDX quote: u16 version 4 or 5, u16 key type, u32 TEE 0x81."""
    return int.from_bytes(data[:2], "little") in _QUOTE_VERSIONS and data[4:8] == _QUOTE_TEE


def is_event_log(data: bytes) -> bool:
    """Whether data starts with the Spec ID record of a TCG crypto-agile log (see `read_log`)."""
    return data[4:8] == (3).to_bytes(4, "little") and data[32:46] == _SPEC_ID


def is_spec_file(path: Path) -> bool:
    """Whether a file is a launch spec. Raises `SpecError` if it cannot be read."""
    return not path.is_dir() and _SPEC_SCHEMA in _text(read_file(path, key="file"))


def side_of_derivation(derivation: Derivation, *, origin: str) -> Side:
    """A side of what was derived."""
    return Side(
        origin=origin,
        kind=SideKind.SPEC,
        target=derivation.target,
        registers=dict(derivation.registers.rules),
        log=derivation.log,
        page_order=derivation.build.page_order if derivation.build else None,
        spec=derivation.spec,
        facts=facts_of_derivation(derivation),
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


def side_of_log(data: bytes, *, origin: str, target: Target | None = None) -> Side:
    """A side of a binary event log.

    Raises:
        MalformedEventLog: the log breaks its format, or does not show whose it is.
    """
    if target is None:
        target = _target_of_log(data, origin)
    log = read_log(data, origin=origin, target=target)
    return Side(
        origin=origin,
        kind=SideKind.EVENT_LOG,
        target=target,
        registers=replayed(log, target),
        log=log,
    )


def side_of_quote(data: bytes, *, origin: str, log: EventLog | None = None) -> Side:
    """A side of a binary TDX quote, with the event log of the same boot if there is one."""
    from mrtd.evidence.quote import read_quote  # noqa: PLC0415 - few sides are quotes

    quote = read_quote(data, origin=origin)
    return Side(
        origin=origin,
        kind=SideKind.QUOTE,
        target=Target.CC,
        registers={name: Exact(value) for name, value in quote.registers.items()},
        log=log,
        replayed={} if log is None else replayed(log, Target.CC),
    )


def side_of_bundle(path: Path) -> Side:
    """A side of an evidence bundle: its quote, and the event log of the same boot.

    Without a quote, its registers are those that the kernel showed, which nobody signed.

    Raises:
        MalformedBundle: it is not what its manifest says.
        InputError: a member of it breaks its format.
    """
    from mrtd.evidence.bundle import read_bundle  # noqa: PLC0415 - few sides are bundles
    from mrtd.launch.spec import read_spec  # noqa: PLC0415 - few bundles hold one

    bundle, origin = read_bundle(path), str(path)
    tpm = bundle.quote is None and bundle.ccel is None and bundle.tpm_log is not None
    target = Target.TPM if tpm else Target.CC
    raw = bundle.tpm_log if tpm else bundle.ccel
    log = None if raw is None else read_log(raw, origin=f"{origin}: event log", target=target)
    found: dict[RegisterName, Rule] = {}
    notes: tuple[str, ...] = ()
    if bundle.quote is not None:
        found = dict(side_of_quote(bundle.quote, origin=f"{origin}: quote").registers)
    elif bundle.registers:
        found = {
            name: Exact(value)
            for name, value in bundle.registers.items()
            if str(name).startswith("pcr") is tpm
        }
        notes = (f"{origin} has no quote: its registers are what the kernel showed, unsigned",)
    folded = {} if log is None else replayed(log, target)
    return Side(
        origin=origin,
        kind=SideKind.BUNDLE,
        target=target,
        registers=found or folded,
        log=log,
        replayed=folded if found else {},
        spec=None if bundle.spec is None else read_spec(bundle.spec, origin=f"{origin}: spec"),
        notes=notes,
    )


def combined(sides: list[Side]) -> Side:
    """One side of several files of one boot, such as a quote and its event log.

    Raises:
        MalformedDocument: they are of different targets, or two of them say the same thing.
    """
    if len(sides) == 1:
        return sides[0]
    origin = " + ".join(side.origin for side in sides)
    if len({side.target for side in sides}) > 1:
        raise MalformedDocument("are of different targets", origin=origin)
    logs = [side for side in sides if side.log is not None]
    quotes = [side for side in sides if side.kind in {SideKind.QUOTE, SideKind.BUNDLE}]
    if len(logs) > 1 or len(quotes) > 1 or len(logs) + len(quotes) < len(sides):
        raise MalformedDocument(
            "say the same thing twice",
            origin=origin,
            hint="give one launch spec, document or bundle, or one quote with one event log",
        )
    quote, log = quotes[0], logs[0]
    return msgspec.structs.replace(
        quote,
        origin=origin,
        kind=SideKind.COMBINED,
        log=log.log,
        replayed=log.registers,
        spec=quote.spec or log.spec,
        facts={**log.facts, **quote.facts},
        notes=(*quote.notes, *log.notes),
    )


def replayed(log: EventLog, target: Target) -> dict[RegisterName, Rule]:
    """What a whole log folds to; in a TD, RTMR0-2 without an event are known to be zero."""
    rules = replay(log)
    if target is Target.CC:
        for name in (RegisterName.RTMR0, RegisterName.RTMR1, RegisterName.RTMR2):
            rules.setdefault(name, Exact(ZERO))
    return {name: rules[name] for name in RegisterName if name in rules}


def _target_of_log(data: bytes, origin: str) -> Target:
    """A TPM's log names PCR 7 (its Secure Boot policy and separator); CCEL has 0 to 4 only."""
    log = read_log(data, origin=origin, target=Target.TPM)
    extends = [event for event in log if event.type != EventType.EV_NO_ACTION]
    if not extends:
        raise MalformedEventLog(
            "has no event that tells a TD's log from a TPM's",
            origin=origin,
            hint="say which it is with --target cc or --target tpm",
        )
    names = {f"pcr{index}" for index in range(_CC_INDEXES)}
    return Target.CC if all(str(event.register) in names for event in log) else Target.TPM


def _side_of_spec(
    path: Path, target: Target | None, options: MeasureOptions | None, progress: Progress
) -> Side:
    from mrtd.launch.spec import read_spec_file  # noqa: PLC0415 - only specs are measured
    from mrtd.measure import DEFAULT_OPTIONS, measure  # noqa: PLC0415 - only specs are measured

    chosen = DEFAULT_OPTIONS if options is None else options
    if target is not None:
        chosen = msgspec.structs.replace(chosen, target=target)
    derivation = measure(read_spec_file(path), path.parent, chosen, progress=progress)
    return side_of_derivation(derivation, origin=str(path))


def _side_of_json(data: bytes, origin: str) -> Side:
    try:
        fields = msgspec.json.decode(data, type=dict[str, msgspec.Raw])
        if "schema" in fields:
            return side_of_document(read_document(data, origin=origin), origin=origin)
        if "quote" in fields:
            return _side_of_report(msgspec.json.decode(data, type=_QuoteReport), origin)
        if "registers" in fields:
            return _side_of_registers(msgspec.json.decode(data, type=_Registers), origin)
    except (msgspec.DecodeError, RecursionError) as error:
        raise MalformedDocument(f"JSON that cannot be read: {error}", origin=origin) from error
    raise MalformedDocument(
        "JSON with neither schema, quote nor registers", origin=origin, hint=f"known: {_TRIED}"
    )


def _side_of_report(report: _QuoteReport, origin: str) -> Side:
    raw = _unhex(report.quote)
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
    body = _unhex(entry.event_payload)
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


def _text(data: bytes) -> str:
    """The data as text; empty if it is none."""
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return ""


def _unhex(text: str) -> bytes | None:
    try:
        return bytes.fromhex(text.strip().removeprefix("0x"))
    except ValueError:
        return None
