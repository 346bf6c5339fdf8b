"""What somebody says that launches measure: one measurement document, or a release of many shapes.

    measurement document | reference values | statement | Sigstore bundle --read_release--> Release

Nothing is verified here: whether a release said it is `mrtd.verifier`'s question.
"""

from __future__ import annotations

from base64 import b64decode
from pathlib import Path
from typing import Any, Final

import msgspec

from mrtd.document import read_document
from mrtd.errors import MalformedDocument, MalformedStatement
from mrtd.facts import facts_of_spec
from mrtd.launch.inputs import read_file
from mrtd.launch.spec import LaunchSpec
from mrtd.launches import Measured, launch_of, shape_of
from mrtd.reference import (
    PAYLOAD_TYPE,
    Artifact,
    CoverageRow,
    Launch,
    ReferenceValues,
    RegisterRule,
    read_reference_values,
    read_statement,
)
from mrtd.registers import Exact, Rule, Target, Unpinned
from mrtd.side import Side, SideKind
from mrtd.side_documents import side_of_document

_MEASUREMENT: Final = "mrtd.measurement/"
_REFERENCE: Final = "mrtd.reference/"
_MATRIX: Final = "mrtd.matrix/"
_HINT: Final = (
    "a measurement document (mrtd measure --json), reference values (mrtd matrix --output), an "
    "in-toto statement of them, or its Sigstore bundle"
)


class ShapeSide(msgspec.Struct, frozen=True):
    """One launch: what is known of it, and what covers its inputs."""

    side: Side
    coverage: tuple[CoverageRow, ...]


class ReleaseSide(msgspec.Struct, frozen=True):
    """All that a file says.

    Attributes:
        origin: the file.
        shapes: its launches, by shape.
        values: the reference-values document; None for a single measurement document.
    """

    origin: str
    shapes: dict[str, ShapeSide]
    values: ReferenceValues | None = None


def load_release(path: Path) -> ReleaseSide:
    """Read a file. Raises `InputError`: it cannot be read, or is none of them."""
    return read_release(read_file(path, key="file"), origin=str(path))


def read_release(data: bytes, *, origin: str) -> ReleaseSide:
    """What a file is follows from its content.

    Raises:
        MalformedDocument: it is none of them, or a measurement document that contradicts itself.
        MalformedStatement: reference values that break their format.
    """
    schema = _schema(data, origin)
    if schema.startswith(_MEASUREMENT):
        return _of_measurement(data, origin)
    return _of_values(read_values(data, origin=origin), origin)


def read_values(data: bytes, *, origin: str) -> ReferenceValues:
    """Reference values from a document, a statement, a bundle, or ``mrtd matrix --json``.

    Raises:
        MalformedDocument: it is none of them.
        MalformedStatement: reference values that break their format.
    """
    tree = _tree(data, origin)
    schema = str(tree.get("schema", ""))
    if schema.startswith(_REFERENCE):
        return read_reference_values(data, origin=origin)
    if schema.startswith(_MATRIX):
        inner: Any = tree.get("reference")
        return read_reference_values(msgspec.json.encode(inner), origin=origin)
    if "_type" in tree:
        return read_statement(data, origin=origin)
    if "dsseEnvelope" in tree:
        return read_statement(_payload(tree["dsseEnvelope"], origin), origin=origin)
    raise MalformedDocument("holds no reference values", origin=origin, hint=_HINT)


def read_launches(data: bytes, *, origin: str) -> tuple[Launch, ...]:
    """The launches of a release, or the one of a measurement document.

    Raises:
        MalformedDocument: it is none of them, or a measurement document that contradicts itself.
        MalformedStatement: reference values that break their format.
    """
    if _schema(data, origin).startswith(_MEASUREMENT):
        document = read_document(data, origin=origin)
        return (launch_of(Measured(shape_of(document.spec), document, origin)),)
    return read_values(data, origin=origin).launches


def read_artifacts(data: bytes, *, origin: str) -> tuple[Artifact, ...]:
    """The files of a release; none for a measurement document. Raises as `read_launches`."""
    if _schema(data, origin).startswith(_MEASUREMENT):
        return ()
    return read_values(data, origin=origin).artifacts


def side_of_launch(launch: Launch, *, origin: str) -> Side:
    """What a reference-values document says of one launch; it has no event log.

    Raises:
        MalformedDocument: its launch spec is none.
    """
    spec = spec_of_launch(launch, origin=origin)
    return Side(
        origin=f"{origin}: {launch.shape}",
        kind=SideKind.REFERENCE,
        target=Target.CC,
        registers={name: _rule(rule) for name, rule in launch.registers.items()},
        page_order=spec.vmm.page_order,
        spec=spec,
        facts=facts_of_spec(spec, {file.key: str(file.sha384) for file in launch.inputs}),
    )


def spec_of_launch(launch: Launch, *, origin: str) -> LaunchSpec:
    """The launch spec in a reference-values document. Raises `MalformedDocument`."""
    try:
        return msgspec.convert(launch.spec, LaunchSpec)
    except (msgspec.ValidationError, RecursionError) as error:
        raise MalformedDocument(
            f"the launch spec of {launch.shape} cannot be read: {error}", origin=origin
        ) from error


def _of_measurement(data: bytes, origin: str) -> ReleaseSide:
    document = read_document(data, origin=origin)
    side = side_of_document(document, origin=origin)
    rows: tuple[CoverageRow, ...] = ()
    if side.target is Target.CC:
        rows = launch_of(Measured("document", document, origin)).coverage
    return ReleaseSide(origin, {shape_of(document.spec): ShapeSide(side, rows)})


def _of_values(values: ReferenceValues, origin: str) -> ReleaseSide:
    found = {
        launch.shape: ShapeSide(side_of_launch(launch, origin=origin), launch.coverage)
        for launch in values.launches
    }
    return ReleaseSide(origin, found, values)


def _rule(rule: RegisterRule) -> Rule:
    return Unpinned(rule.reason or "no reason") if rule.value is None else Exact(rule.value)


def _schema(data: bytes, origin: str) -> str:
    return str(_tree(data, origin).get("schema", ""))


def _tree(data: bytes, origin: str) -> dict[str, Any]:
    try:
        tree = msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise MalformedDocument(f"no JSON: {error}", origin=origin, hint=_HINT) from error
    if not isinstance(tree, dict):
        raise MalformedDocument("no JSON object", origin=origin, hint=_HINT)
    return tree


def _payload(envelope: object, origin: str) -> bytes:
    """The statement in a DSSE envelope, whose signature is not looked at."""
    if not isinstance(envelope, dict) or envelope.get("payloadType") != PAYLOAD_TYPE:
        raise MalformedStatement("the envelope holds no in-toto statement", origin=origin)
    try:
        return b64decode(str(envelope.get("payload")), validate=True)
    except ValueError as error:  # binascii.Error among them
        raise MalformedStatement(f"payload: {error}", origin=origin) from error
