"""The result document: what came out when the figures of a launch were checked (``mrtd.result/1``).

A job that derives the figures again, launches the TD, or has its quote appraised writes one. The
reference values name it by digest (`Confirmation`), so that a reader can find and read it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Final, Literal

from mrtd.errors import MalformedStatement
from mrtd.reference.consistency import Contradiction, instant, repeated
from mrtd.reference.document import Confirmation, Launch
from mrtd.reference.fields import (
    ConfirmationKind,
    ConfirmationOutcome,
    Instant,
    Name,
    Object,
    Sha256Hex,
    Size,
    Text,
)
from mrtd.reference.strict_json import canonical, convert, read_json
from mrtd.registers import LAUNCH_REGISTERS, RegisterName, Sha384

SCHEMA: Final = "mrtd.result/1"
SIZE_LIMIT: Final = 1 << 20
_ORIGIN: Final = "result document"


class RegisterResult(Object, frozen=True):
    """What a register was expected to hold, and what it held; null where that is not known."""

    register: RegisterName
    outcome: Literal["match", "differs", "not-checked"]
    expected: Sha384 | None
    observed: Sha384 | None


class Program(Object, frozen=True):
    """What derived or launched it: such as ``mrtd``, ``qemu``, ``linux`` (the host's kernel)."""

    name: Name
    version: Text


class EvidenceFile(Object, frozen=True):
    """A file that shows it, such as a quote or an event log: name, size in bytes, SHA-256."""

    name: Text
    size: Size
    sha256: Sha256Hex


class ResultDocument(Object, frozen=True):
    """The outcome of one check of one launch.

    Attributes:
        schema: ``mrtd.result/1``.
        kind: how it was checked.
        shape: name of the launch in the reference values.
        outcome: ``confirmed``: no register differs, and MRTD (a PCR, for ``tpm-crosscheck``)
            matches; ``refuted``: a register differs, or what else was wrong stands in the notes;
            ``not-checked``: the notes say why.
        registers: per register; PCRs for ``tpm-crosscheck``.
        programs: what took part, with versions.
        evidence: digests of the evidence.
        created: RFC 3339 in UTC.
        notes: for a person.
    """

    schema: Literal["mrtd.result/1"]
    kind: ConfirmationKind
    shape: Name
    outcome: ConfirmationOutcome
    registers: tuple[RegisterResult, ...]
    programs: tuple[Program, ...]
    evidence: tuple[EvidenceFile, ...]
    created: Instant
    notes: tuple[Text, ...]


def read_result(data: bytes, *, origin: str = _ORIGIN, limit: int = SIZE_LIMIT) -> ResultDocument:
    """Read a result document.

    Raises:
        MalformedStatement: not strict JSON, not this schema, or it contradicts itself.
    """
    result = convert(read_json(data, origin=origin, limit=limit), ResultDocument, origin=origin)
    for field, problem in _contradictions(result):
        raise MalformedStatement(problem, origin=origin, field=field)
    return result


def encode_result(result: ResultDocument) -> bytes:
    """Canonical JSON (RFC 8785) of a result. Raises `MalformedStatement` if no reader took it."""
    data = canonical(result, origin=_ORIGIN)
    read_result(data)
    return data


def result_digest(data: bytes) -> str:
    """SHA-256 over the bytes of a result document as they are, lower-case hex."""
    return hashlib.sha256(data).hexdigest()


def confirmation_of(
    data: bytes, *, launch: Launch | None = None, origin: str = _ORIGIN
) -> Confirmation:
    """What the reference values say of a result.

    Args:
        data: the result document, byte for byte as it is published.
        launch: the launch that it is to be a result of, if that is to be checked.
        origin: what the data are, for messages.

    Raises:
        MalformedStatement: no result document, or one of another launch.
    """
    result = read_result(data, origin=origin)
    if launch is not None:
        for field, problem in _of_another(result, launch):
            raise MalformedStatement(problem, origin=origin, field=field)
    return Confirmation(kind=result.kind, sha256=result_digest(data), outcome=result.outcome)


def _of_another(result: ResultDocument, launch: Launch) -> Iterator[Contradiction]:
    if result.shape != launch.shape:
        yield "shape", f"{result.shape!r}, and the launch is {launch.shape!r}"
    for index, row in enumerate(result.registers):
        if row.register in LAUNCH_REGISTERS and row.expected is not None:
            value = launch.registers.value(row.register)
            if value != row.expected:
                yield f"registers[{index}].expected", f"is not {row.register} of {launch.shape!r}"


def _contradictions(result: ResultDocument) -> Iterator[Contradiction]:
    tpm = result.kind == "tpm-crosscheck"
    yield from repeated("registers", "register", (row.register for row in result.registers))
    for index, row in enumerate(result.registers):
        if row.register.startswith("pcr") != tpm:
            yield f"registers[{index}].register", f"{row.register} is none of a {result.kind} check"
        if row.outcome != _outcome(row.expected, row.observed):
            yield f"registers[{index}].outcome", f"{row.outcome!r} contradicts the values"
    yield from instant("created", result.created)
    yield from _overall(result)


def _outcome(expected: Sha384 | None, observed: Sha384 | None) -> str:
    """What two values say; two zeros say nothing."""
    if expected is None or observed is None or (expected.is_zero and observed.is_zero):
        return "not-checked"
    return "match" if expected == observed else "differs"


def _overall(result: ResultDocument) -> Iterator[Contradiction]:
    matching = {row.register for row in result.registers if row.outcome == "match"}
    differing = [row.register for row in result.registers if row.outcome == "differs"]
    if differing and result.outcome != "refuted":
        yield "outcome", f"{result.outcome!r}, and {differing[0]} differs"
    needed = matching if result.kind == "tpm-crosscheck" else matching & {RegisterName.MRTD}
    if result.outcome == "confirmed" and not needed:
        yield "outcome", "'confirmed', and nothing says which launch: MRTD does not match"
    if result.outcome != "confirmed" and not differing and not result.notes:
        yield "notes", f"{result.outcome!r}, and nothing says why"
