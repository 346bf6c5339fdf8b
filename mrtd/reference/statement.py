"""The in-toto statement that a release signs: subjects, and reference values as its predicate.

Reading is strict, because everything behind the signature is decided from it; a reader that is
given a statement by an attacker raises `MalformedStatement` and nothing else.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

import msgspec

from mrtd.errors import MalformedStatement
from mrtd.reference.consistency import contradictions
from mrtd.reference.document import ReferenceValues
from mrtd.reference.fields import Object
from mrtd.reference.strict_json import SIZE_LIMIT, canonical, convert, read_json
from mrtd.reference.subjects import SUBJECT_LIMIT, Subject, subjects

PREDICATE_TYPE: Final = "https://devopsdefender.com/attestations/tdx-reference-values/v1"
STATEMENT_TYPE: Final = "https://in-toto.io/Statement/v1"
PAYLOAD_TYPE: Final = "application/vnd.in-toto+json"
"""Payload type of the DSSE envelope that the statement is signed in."""

_ORIGIN: Final = "reference values"


class Statement(Object, frozen=True):
    """An in-toto statement v1 with our predicate."""

    type: Literal["https://in-toto.io/Statement/v1"] = msgspec.field(name="_type")
    subject: Annotated[tuple[Subject, ...], msgspec.Meta(min_length=1, max_length=SUBJECT_LIMIT)]
    predicate_type: Literal["https://devopsdefender.com/attestations/tdx-reference-values/v1"] = (
        msgspec.field(name="predicateType")
    )
    predicate: ReferenceValues


def read_reference_values(
    data: bytes, *, origin: str = _ORIGIN, limit: int = SIZE_LIMIT
) -> ReferenceValues:
    """Read a document, without a statement around it. Raises `MalformedStatement`."""
    values = convert(read_json(data, origin=origin, limit=limit), ReferenceValues, origin=origin)
    _check(values, origin, "")
    return values


def encode_reference_values(values: ReferenceValues) -> bytes:
    """Canonical JSON (RFC 8785) of a document.

    Raises:
        MalformedStatement: no reader would take it: it contradicts itself or breaks the schema.
    """
    data = canonical(values, origin=_ORIGIN)
    read_reference_values(data)
    return data


def read_statement(payload: bytes, *, origin: str, limit: int = SIZE_LIMIT) -> ReferenceValues:
    """Read the payload of a signed envelope.

    Args:
        payload: the in-toto statement, JSON.
        origin: what it is, for messages.
        limit: largest size, in bytes.

    Raises:
        MalformedStatement: not strict JSON, of another type, not this schema, contradicts itself,
            or its subjects are not exactly those that the document implies.
    """
    statement = convert(read_json(payload, origin=origin, limit=limit), Statement, origin=origin)
    _check(statement.predicate, origin, "predicate.")
    _check_subjects(statement, origin)
    return statement.predicate


def encode_statement(values: ReferenceValues) -> bytes:
    """The statement to sign: canonical JSON (RFC 8785). Raises `MalformedStatement`."""
    checked = read_reference_values(canonical(values, origin=_ORIGIN))
    return canonical(
        Statement(
            type=STATEMENT_TYPE,
            subject=subjects(checked),
            predicate_type=PREDICATE_TYPE,
            predicate=checked,
        ),
        origin=_ORIGIN,
    )


def _check(values: ReferenceValues, origin: str, prefix: str) -> None:
    for field, problem in contradictions(values):
        raise MalformedStatement(problem, origin=origin, field=f"{prefix}{field}")


def _check_subjects(statement: Statement, origin: str) -> None:
    """Every implied subject is there once, and no other."""
    missing = list(subjects(statement.predicate))
    for index, subject in enumerate(statement.subject):
        if subject not in missing:
            raise MalformedStatement(
                f"{subject.name[:100]!r}: the document implies no such subject, or it comes twice",
                origin=origin,
                field=f"subject[{index}]",
            )
        missing.remove(subject)
    if missing:
        raise MalformedStatement(
            f"has no {missing[0].name!r} with SHA-256 {missing[0].digest['sha256']}, which the "
            "document implies",
            origin=origin,
            field="subject",
        )
