"""From measurement documents to the launches of a reference-values document.

Nothing is decided here: what may not be signed is said by the jobs that sign.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from mrtd import __version__
from mrtd.coverage import root_hash
from mrtd.document import CoverageEntry, EventEntry, MeasurementDocument
from mrtd.errors import MalformedDocument
from mrtd.eventlog import EventType
from mrtd.launch.spec import LaunchSpec
from mrtd.reference import (
    BitRule,
    Components,
    Confirmation,
    CoverageRow,
    Expectations,
    Input,
    Launch,
    LaunchRegisters,
    RegisterRule,
    Tool,
)
from mrtd.registers import LAUNCH_REGISTERS, ZERO, RegisterName, Sha384, extend
from mrtd.verifier.policy import TdPolicy

NOTHING_MEASURED: Final = "derived as zero: nothing is measured into it, evidence of nothing"
_TEXT_LIMIT: Final = 4096
_NOT_PLAIN: Final = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]+")
_NOT_NAME: Final = re.compile("[^A-Za-z0-9._+~:@-]+")
_NAME: Final = re.compile("[A-Za-z0-9][A-Za-z0-9._+~:@-]{0,199}")
_STATUSES: Final = ("measured", "unpinned", "not measured", "absent")


class Measured(msgspec.Struct, frozen=True):
    """A measurement document and the shape that it is of.

    Attributes:
        shape: name of the launch.
        document: what was measured.
        origin: the file, for messages.
    """

    shape: str
    document: MeasurementDocument
    origin: str


def line(text: str) -> str:
    """A text for a person as one line of the document."""
    return _NOT_PLAIN.sub(" ", text).strip()[:_TEXT_LIMIT] or "-"


def is_name(text: str) -> bool:
    """Whether a shape or file can have this name in the document."""
    return _NAME.fullmatch(text) is not None


def shape_of(spec: LaunchSpec) -> str:
    """The name of a launch that was given none: machine, vCPUs and memory."""
    machine = spec.machine
    memory = machine.memory.replace(" ", "").lower()
    return _NOT_NAME.sub("-", f"{machine.type}-{machine.vcpus}cpu-{memory}")[:200]


def launch_of(
    measured: Measured,
    *,
    accepted: Mapping[str, str] | None = None,
    xfam: BitRule | None = None,
    confirmations: tuple[Confirmation, ...] = (),
) -> Launch:
    """The launch of a measurement document of a TD.

    Args:
        measured: the document.
        accepted: why inputs are accepted that no exact register covers, by input.
        xfam: demanded bits of XFAM; none by default.
        confirmations: what cross-checks say of it.

    Raises:
        MalformedDocument: the document contradicts itself.
    """
    document = measured.document
    registers = _registers(document, measured.origin)
    bits, free = TdPolicy().td_attributes, TdPolicy().xfam
    return Launch(
        shape=measured.shape,
        registers=registers,
        components=_components(document),
        inputs=tuple(
            Input(
                key=line(file.key),
                name=line(file.name),
                size=file.size,
                sha384=Sha384.fromhex(file.sha384, origin=measured.origin),
            )
            for file in document.inputs
        ),
        coverage=tuple(_row(row, registers, accepted or {}) for row in document.coverage),
        expectations=Expectations(
            td_attributes=BitRule(value=bits.value, mask=bits.mask),
            xfam=xfam or BitRule(value=free.value, mask=free.mask),
        ),
        confirmations=confirmations,
        spec=_json(document.spec),
    )


def tool() -> Tool:
    """Us, with the SHA-256 of the wheel that was installed.

    Installers note it (PEP 610) for a wheel from a file or address; for one from an index, and for
    a checkout, nobody knows it and it is null.
    """
    from importlib.metadata import (  # noqa: PLC0415 - slow, for one document
        PackageNotFoundError,
        distribution,
    )

    digest = None
    try:
        noted = json.loads(distribution("mrtd").read_text("direct_url.json") or "{}")
        digest = noted.get("archive_info", {}).get("hashes", {}).get("sha256")
    except (PackageNotFoundError, ValueError, AttributeError):
        pass
    known = isinstance(digest, str) and re.fullmatch("[0-9a-f]{64}", digest)
    return Tool(name="mrtd", version=__version__, sha256=digest if known else None)


def _registers(document: MeasurementDocument, origin: str) -> LaunchRegisters:
    folded = _fold(document)
    rules: dict[str, RegisterRule] = {}
    for name in LAUNCH_REGISTERS:
        entry, value = document.rules.get(name), document.registers.get(name)
        if entry is None:
            rules[name] = RegisterRule.unpinned("the measurement document does not have it")
            continue
        if (entry.rule == "exact") != (value is not None):
            raise MalformedDocument(
                f"{name} is {entry.rule!r}, and its value is {value}", origin=origin
            )
        if value is None:
            rules[name] = RegisterRule.unpinned(line(entry.reason or "no reason given"))
            continue
        exact = Sha384.fromhex(value, origin=origin)
        if name is not RegisterName.MRTD and folded[name] != exact:
            raise MalformedDocument(
                f"{name} is not what its events fold to", origin=origin, hint="measure again"
            )
        rules[name] = (
            RegisterRule.unpinned(NOTHING_MEASURED) if exact.is_zero else RegisterRule.exact(exact)
        )
    return LaunchRegisters(**rules)


def _fold(document: MeasurementDocument) -> dict[str, Sha384 | None]:
    """What the events of a document fold to; None for a register that they do not determine."""
    found: dict[str, Sha384 | None] = dict.fromkeys(LAUNCH_REGISTERS, ZERO)
    for event in document.events:
        before = found.get(event.register)
        if event.type == EventType.EV_NO_ACTION or before is None:
            continue
        digest = event.digest
        found[event.register] = extend(before, Sha384.fromhex(digest)) if digest else None
    return found


def _components(document: MeasurementDocument) -> Components:
    files = {file.key: file for file in document.inputs}
    firmware = files.get("firmware.path")
    if "firmware.vars" in files:
        firmware = None  # two files are mapped as one image, of which nobody kept a digest
    cmdline = _digest_of(document, RegisterName.RTMR2, "cmdline")
    return Components(
        firmware=Sha384.fromhex(firmware.sha384) if firmware else None,
        kernel_authenticode=_digest_of(
            document, RegisterName.RTMR1, "kernel", EventType.EV_EFI_BOOT_SERVICES_APPLICATION
        ),
        initrd=_digest_of(document, RegisterName.RTMR2, "initrd"),
        cmdline=cmdline,
        root_hash=root_hash(document.spec.boot.cmdline or "") if cmdline else None,
        acpi=_acpi(document),
    )


def _events(document: MeasurementDocument, register: RegisterName, of: str) -> list[EventEntry]:
    return [e for e in document.events if e.register == register and e.input == of]


def _digest_of(
    document: MeasurementDocument, register: RegisterName, of: str, kind: EventType | None = None
) -> Sha384 | None:
    """The digest of an input's event; None unless there is exactly one."""
    found = [e for e in _events(document, register, of) if kind is None or e.type == kind]
    if len(found) != 1 or found[0].digest is None:
        return None
    return Sha384.fromhex(found[0].digest)


def _acpi(document: MeasurementDocument) -> Sha384 | None:
    digests = [e.digest for e in _events(document, RegisterName.RTMR0, "acpi")]
    known = [Sha384.fromhex(digest).raw for digest in digests if digest is not None]
    return Sha384.of(*known) if known and len(known) == len(digests) else None


def _row(
    entry: CoverageEntry, registers: LaunchRegisters, accepted: Mapping[str, str]
) -> CoverageRow:
    """The row again, by the rules that are signed: a zero register has become unpinned."""
    places = tuple(name for name in LAUNCH_REGISTERS if name in entry.registers)
    status = "not measured"
    if entry.status == "absent":
        status, places = "absent", ()
    elif places:
        unpinned = any(registers.value(name) is None for name in places)
        status = "unpinned" if unpinned else "measured"
    why = accepted.get(entry.input) if status in {"unpinned", "not measured"} else None
    fields: dict[str, Any] = {
        "input": _NOT_NAME.sub("-", entry.input),
        "status": status,
        "registers": tuple(str(name) for name in places),
        "note": line(entry.note),
        "accepted": None if why is None else line(why),
    }
    return CoverageRow(**fields)


def _json(spec: object) -> dict[str, Any]:
    """The launch spec as JSON, for people and for deriving again."""
    # there and back: what a reader of the document will have, so that both are equal
    found: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(spec))
    return found
