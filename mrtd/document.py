"""The measurement document: a derivation as JSON (schema ``mrtd.measurement/1``).

The classes are the schema; ``docs/schema/measurement.schema.json`` is generated from them. Unknown
fields are refused when a document is read.
"""

from __future__ import annotations

from typing import Final, Literal

import msgspec

from mrtd import __version__
from mrtd.derive import Derivation
from mrtd.errors import MalformedDocument
from mrtd.eventlog import Event, type_name
from mrtd.launch.spec import About, LaunchSpec
from mrtd.registers import Exact, Rule, Sha384, Unpinned

SCHEMA: Final = "mrtd.measurement/1"


class _Object(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """An object of the document."""


class Tool(_Object, frozen=True):
    """What made the document."""

    name: str
    version: str


class RuleEntry(_Object, frozen=True):
    """How a register is to be compared: ``exact``, or ``unpinned`` and why."""

    rule: Literal["exact", "unpinned"]
    reason: str | None = None


class BuildEntry(_Object, frozen=True):
    """One pass over one TDVF section: guest physical addresses and sizes in bytes."""

    section: int
    type: str
    build_pass: str
    gpa: int
    memory_size: int
    file_offset: int
    file_size: int


class EventEntry(_Object, frozen=True):
    """An event; ``digest`` is null where ``reason`` says why it cannot be predicted."""

    index: int
    register: str
    type: int
    type_name: str
    digest: str | None
    description: str
    input: str
    origin: str
    data: str = ""
    reason: str | None = None
    unconfirmed: str | None = None


class FirmwareEntry(_Object, frozen=True, kw_only=True):
    """The firmware: its event profile, and how that was chosen."""

    profile: str
    profile_source: str
    guessed: bool
    secure_boot: bool
    version: str | None = None


class KernelEntry(_Object, frozen=True, kw_only=True):
    """The kernel: what it says of itself, and with which setup header it is measured."""

    version: str
    protocol: int
    efi_stub: bool
    cc_measurement: bool
    header: Literal["patched", "plain"]
    header_source: str


class InputEntry(_Object, frozen=True):
    """An input file: key of the spec, path, size in bytes, SHA-384 of its bytes."""

    key: str
    name: str
    size: int
    sha384: str


class CoverageEntry(_Object, frozen=True):
    """What covers an input of the launch."""

    input: str
    status: str
    registers: tuple[str, ...]
    note: str


class NoteEntry(_Object, frozen=True):
    """A remark: level (alarm, warning, info), stable code, text."""

    level: str
    code: str
    text: str


class MeasurementDocument(_Object, frozen=True, kw_only=True, omit_defaults=False):
    """A measurement document."""

    schema: Literal["mrtd.measurement/1"]
    tool: Tool
    about: About | None
    target: str
    registers: dict[str, str | None]
    rules: dict[str, RuleEntry]
    page_order: str | None
    td_build: tuple[BuildEntry, ...]
    events: tuple[EventEntry, ...]
    firmware: FirmwareEntry
    kernel: KernelEntry
    inputs: tuple[InputEntry, ...]
    coverage: tuple[CoverageEntry, ...]
    notes: tuple[NoteEntry, ...]
    spec: LaunchSpec


def to_document(derivation: Derivation) -> MeasurementDocument:
    """A derivation as a measurement document."""
    build = derivation.build
    kernel = derivation.kernel
    firmware = derivation.firmware
    return MeasurementDocument(
        schema=SCHEMA,
        tool=Tool("mrtd", __version__),
        about=derivation.spec.about,
        target=str(derivation.target),
        registers={
            str(name): str(rule.value) if isinstance(rule, Exact) else None
            for name, rule in derivation.registers.rules
        },
        rules={str(name): _rule(rule) for name, rule in derivation.registers.rules},
        page_order=None if build is None else str(build.page_order),
        td_build=tuple(
            BuildEntry(
                section=step.section.index,
                type=step.section.type.name,
                build_pass=str(step.build_pass),
                gpa=step.section.gpa,
                memory_size=step.section.memory_size,
                file_offset=step.section.data_offset,
                file_size=step.section.raw_size,
            )
            for step in (build.steps if build else ())
        ),
        events=tuple(_event(index, event) for index, event in enumerate(derivation.log)),
        firmware=FirmwareEntry(
            profile=firmware.profile.name,
            profile_source=firmware.profile.source,
            guessed=firmware.guessed,
            secure_boot=firmware.secure_boot,
            version=(firmware.signals.version or None) if firmware.signals else None,
        ),
        kernel=KernelEntry(
            version=kernel.version,
            protocol=kernel.protocol,
            efi_stub=kernel.efi_stub,
            cc_measurement=kernel.cc_measurement,
            header="patched" if derivation.header.patched else "plain",
            header_source=derivation.header.source,
        ),
        inputs=tuple(
            InputEntry(file.key, file.name, file.size, str(file.digest))
            for file in derivation.inputs
        ),
        coverage=tuple(
            CoverageEntry(line.input, str(line.status), tuple(map(str, line.registers)), line.note)
            for line in derivation.coverage
        ),
        notes=tuple(NoteEntry(str(n.level), n.code, n.text) for n in derivation.notes),
        spec=derivation.spec,
    )


def encode(document: object) -> bytes:
    """JSON of a document (or of anything made of its parts), indented, with a final newline."""
    return msgspec.json.format(msgspec.json.encode(document), indent=2) + b"\n"


def read_document(data: bytes, *, origin: str) -> MeasurementDocument:
    """Read a measurement document.

    Raises:
        MalformedDocument: not JSON, not this schema, or digests that are none.
    """
    try:
        document = msgspec.json.decode(data, type=MeasurementDocument)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise MalformedDocument(f"no measurement document: {error}", origin=origin) from error
    values = [*document.registers.values(), *(event.digest for event in document.events)]
    for value in values:
        if value is not None:
            Sha384.fromhex(value, origin=origin)
    return document


def _rule(rule: Rule) -> RuleEntry:
    if isinstance(rule, Exact):
        return RuleEntry("exact")
    return RuleEntry("unpinned", rule.reason)


def _event(index: int, event: Event) -> EventEntry:
    known = not isinstance(event.digest, Unpinned)
    return EventEntry(
        index=index,
        register=str(event.register),
        type=int(event.type),
        type_name=type_name(event.type),
        digest=str(event.digest) if known else None,
        description=event.description,
        input=str(event.origin.input),
        origin=event.origin.where,
        data=event.data.hex(),
        reason=event.digest.reason if isinstance(event.digest, Unpinned) else None,
        unconfirmed=event.unconfirmed or None,
    )
