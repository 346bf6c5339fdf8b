"""Compare derived measurements with expected ones, and name the first event that differs."""

from __future__ import annotations

import re
from typing import Final

import msgspec

from mrtd.compare import Outcome
from mrtd.document import EventEntry, MeasurementDocument, read_document
from mrtd.errors import MalformedDocument
from mrtd.registers import RegisterName, Sha384

_HEX: Final = re.compile(r"(?:(mrtd|rtmr[0-3]|pcr[0-9]{1,2})=)?([0-9a-fA-F]{96})")


class Expectation(msgspec.Struct, frozen=True):
    """What measurements are expected to be.

    Attributes:
        origin: where it was read from.
        registers: expected value per register; None is an unpinned one.
        anonymous: a value of which it is not said which register it is.
        events: expected events, if they are known.
    """

    origin: str
    registers: dict[str, str | None]
    anonymous: str | None = None
    events: tuple[EventEntry, ...] = ()


class Comparison(msgspec.Struct, frozen=True):
    """Derived against expected.

    Attributes:
        expected: where the expectation was read from.
        matches: at least one register matches, and none differs.
        registers: outcome per register.
        reasons: why, for those that are no match.
        first_difference: the first event that differs, as a sentence; empty if none does.
    """

    expected: str
    matches: bool
    registers: dict[str, Outcome]
    reasons: dict[str, str]
    first_difference: str = ""


class _Loose(msgspec.Struct):
    """Any JSON object with registers: a quote's or a colleague's note."""

    registers: dict[str, str | None]


def is_value(text: str) -> bool:
    """Whether the text is a value, or ``register=value``, and no file name."""
    return _HEX.fullmatch(text) is not None


def expectation_of_value(text: str) -> Expectation:
    """``HEX`` or ``REGISTER=HEX``, 96 hex digits. Raises `MalformedDocument`."""
    match = _HEX.fullmatch(text)
    if match is None:
        raise MalformedDocument("not 96 hex digits", origin=text[:100])
    name, value = match[1], match[2].lower()
    if Sha384.fromhex(value).is_zero:
        raise MalformedDocument(
            "48 zero bytes are what a register holds that nothing extended: evidence of nothing",
            origin=text[:16],
        )
    if name is None:
        return Expectation("--expect", {}, anonymous=value)
    return Expectation("--expect", {name: value})


def read_expectation(data: bytes, *, origin: str) -> Expectation:
    """A measurement document, or any JSON object with ``registers``.

    Raises:
        MalformedDocument: neither.
    """
    try:
        loose = msgspec.json.decode(data, type=_Loose)
        schema = msgspec.json.decode(data, type=dict[str, msgspec.Raw]).get("schema")
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise MalformedDocument(
            f"no JSON object with registers: {error}",
            origin=origin,
            hint="give a measurement document (mrtd measure --json) or 96 hex digits",
        ) from error
    if schema is not None:
        document = read_document(data, origin=origin)
        return Expectation(origin, dict(document.registers), events=document.events)
    known = {str(name) for name in RegisterName}
    for name, value in loose.registers.items():
        if name not in known:
            raise MalformedDocument(f"{name!r} is no register", origin=origin, field="registers")
        if value is not None:
            Sha384.fromhex(value, origin=f"{origin}: registers.{name}")
    return Expectation(origin, loose.registers)


def compare(expected: Expectation, derived: MeasurementDocument) -> Comparison:
    """Compare register by register; fails closed where one side is not known and the other is."""
    if expected.anonymous is not None:
        return _compare_anonymous(expected, expected.anonymous, derived)
    outcomes: dict[str, Outcome] = {}
    reasons: dict[str, str] = {}
    for name, wanted in expected.registers.items():
        value = derived.registers.get(name)
        if wanted is None:
            outcomes[name], reasons[name] = Outcome.NOT_COMPARED, "unpinned in the expectation"
        elif value is None:
            rule = derived.rules.get(name)
            outcomes[name] = Outcome.DIFFERS
            reasons[name] = f"not derived: {rule.reason if rule else 'no such register here'}"
        elif Sha384.fromhex(wanted) == Sha384.fromhex(value):
            outcomes[name] = Outcome.MATCH
        else:
            outcomes[name], reasons[name] = Outcome.DIFFERS, f"expected {wanted}, derived {value}"
    found = set(outcomes.values())
    matches = Outcome.MATCH in found and Outcome.DIFFERS not in found
    first = "" if matches else _first_difference(expected, derived, outcomes)
    return Comparison(expected.origin, matches, outcomes, reasons, first)


def _compare_anonymous(
    expected: Expectation, value: str, derived: MeasurementDocument
) -> Comparison:
    outcomes = {
        name: Outcome.MATCH if value == found else Outcome.DIFFERS
        for name, found in derived.registers.items()
    }
    matching = {name: outcome for name, outcome in outcomes.items() if outcome == "match"}
    if matching:
        return Comparison(expected.origin, True, matching, {})
    reasons = dict.fromkeys(outcomes, f"is not {value}")
    return Comparison(expected.origin, False, outcomes, reasons)


def _first_difference(
    expected: Expectation, derived: MeasurementDocument, outcomes: dict[str, Outcome]
) -> str:
    """The first event, register by register, whose digest or absence makes the difference."""
    if not expected.events:
        return ""
    for register, outcome in outcomes.items():
        if outcome is not Outcome.DIFFERS:
            continue
        theirs = [event for event in expected.events if event.register == register]
        ours = [event for event in derived.events if event.register == register]
        for index in range(max(len(theirs), len(ours))):
            there = theirs[index] if index < len(theirs) else None
            here = ours[index] if index < len(ours) else None
            if there is None or here is None or there.digest != here.digest:
                return f"{register} event {index}: expected {_shown(there)}, derived {_shown(here)}"
    return "" if Outcome.DIFFERS not in outcomes.values() else "MRTD: page order or firmware"


def _shown(event: EventEntry | None) -> str:
    if event is None:
        return "none"
    digest = "unknown" if event.digest is None else event.digest[:16]
    return f"{event.type_name} {event.description!r} ({digest}) from {event.origin}"
