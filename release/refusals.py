"""What is not signed, and what to do about it. Pure; everything is found before anything is said.

A reader of the signed document trusts it for what it leaves out as much as for what it says, so
nothing is left out silently: it is measured, or it is accepted by name with a reason.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

import msgspec

from mrtd.document import MeasurementDocument
from mrtd.errors import MalformedStatement, ReleaseRefused
from mrtd.launches import NOTHING_MEASURED, Measured, is_name
from mrtd.reference import Confirmation, CoverageRow, Launch, confirmation_of, read_result
from mrtd.registers import LAUNCH_REGISTERS
from mrtd.verifier.policy import MeasurementPolicy

REQUIRED: Final = MeasurementPolicy().required_coverage
_NEVER_ABSENT: Final = frozenset({"firmware", "kernel"})
_QEMU_DIFFERS: Final = "qemu_version_differs"
_WARNED_OF: Final = frozenset({"profile_guessed", "profile_contradicted", "unconfirmed_events"})


class Refusal(msgspec.Struct, frozen=True):
    """Why something is not signed.

    Attributes:
        code: stable, for programs.
        where: the launch or file.
        text: what is wrong.
        remedy: what to do.
    """

    code: str
    where: str
    text: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.where}: {self.text}; {self.remedy}"


class ResultFile(msgspec.Struct, frozen=True):
    """A result document, byte for byte, and the file that it came from."""

    data: bytes
    origin: str


def refuse(refusals: Iterable[Refusal], *, what: str = "not signed") -> None:
    """Raise `ReleaseRefused` with all of them, if there are any; ``what`` is not done for them."""
    found = tuple(refusals)
    if found:
        count = "1 reason" if len(found) == 1 else f"{len(found)} reasons"
        raise ReleaseRefused(
            f"{what}, for {count}:\n"
            + "\n".join(f"  - [{refusal.code}] {refusal}" for refusal in found),
            refusals=tuple((refusal.code, str(refusal)) for refusal in found),
        )


def of_documents(documents: Iterable[Measured]) -> Iterator[Refusal]:
    """What is wrong with measurement documents by themselves."""
    found = tuple(documents)
    for measured in found:
        if measured.document.target != "cc":
            yield Refusal(
                "wrong_target",
                measured.origin,
                f"is of target {measured.document.target!r}, which no TD has",
                "measure with --target cc",
            )
        if not is_name(measured.shape):
            yield Refusal(
                "shape_name",
                measured.origin,
                f"{measured.shape!r} is no name of a shape",
                "name it: SHAPE=FILE",
            )
        if (text := qemu_differs(measured.document)) is not None:
            yield Refusal(
                "qemu_version_differs",
                measured.shape,
                f"RTMR0 is unpinned because {text}",
                "measure with the QEMU of the spec (--qemu PATH), or correct vmm.version",
            )
    for shape, count in Counter(measured.shape for measured in found).items():
        if count > 1:
            yield Refusal(
                "duplicate_shape",
                shape,
                f"{count} documents are of this shape",
                "name them apart: SHAPE=FILE",
            )


def qemu_differs(document: MeasurementDocument) -> str | None:
    """Why another QEMU than that of the spec was there when the launch was measured, if so."""
    return next((note.text for note in document.notes if note.code == _QEMU_DIFFERS), None)


def of_registers(launch: Launch, policy: MeasurementPolicy) -> Iterator[Refusal]:
    """Registers that a control plane demands and that are not exact."""
    for name in LAUNCH_REGISTERS:
        rule = launch.registers[name]
        if rule.value is not None or (name not in policy.required and name != "mrtd"):
            continue
        zero = rule.reason == NOTHING_MEASURED
        yield Refusal(
            "register_zero" if zero else "register_unpinned",
            launch.shape,
            f"{name.upper()} is {'zero' if zero else 'unpinned'}: {rule.reason}",
            "boot firmware and a kernel that extend it"
            if zero
            else "give the spec what pins it (docs/launch-spec.md)",
        )


def is_covered(row: CoverageRow, launch: Launch) -> bool:
    """Whether an exact register depends on the input, as a verifier decides it."""
    if row.status == "absent":
        return row.input not in _NEVER_ABSENT
    return any(launch.registers.value(name) is not None for name in row.registers)


def uncovered(launch: Launch, inputs: Iterable[str] = REQUIRED) -> tuple[str, ...]:
    """Those of the inputs that no exact register of a launch covers."""
    rows = {row.input: row for row in launch.coverage}
    return tuple(name for name in inputs if name not in rows or not is_covered(rows[name], launch))


def of_coverage(
    launches: Iterable[Launch], accepted: Mapping[str, str], policy: MeasurementPolicy
) -> Iterator[Refusal]:
    """Unmeasured inputs that nobody accepted, and acceptances of what needs none."""
    found = tuple(launches)
    required = tuple(dict.fromkeys((*REQUIRED, *policy.required_coverage)))
    for launch in found:
        rows = {row.input: row for row in launch.coverage}
        for name in uncovered(launch, required):
            if name not in rows:
                yield Refusal(
                    "coverage_unknown",
                    launch.shape,
                    f"nothing says what measures {name}",
                    "measure again with this version",
                )
            elif name not in accepted:
                yield Refusal(
                    "input_not_measured",
                    launch.shape,
                    f"{name} is {rows[name].status}: {rows[name].note}",
                    f"have it measured, or --accept-unmeasured '{name}=REASON'",
                )
    for name, reason in accepted.items():
        yield from _of_acceptance(name, reason, found)


def _of_acceptance(name: str, reason: str, launches: tuple[Launch, ...]) -> Iterator[Refusal]:
    where = f"--accept-unmeasured {name}"
    rows = [(row, launch) for launch in launches for row in launch.coverage if row.input == name]
    if not reason.strip():
        yield Refusal("acceptance_reason", where, "gives no reason", "say why: INPUT=REASON")
    if not rows:
        known = sorted({row.input for launch in launches for row in launch.coverage})
        yield Refusal(
            "acceptance_unknown",
            where,
            "no launch has such an input",
            f"the inputs are {', '.join(known)}",
        )
    elif all(row.status in {"measured", "absent"} for row, _ in rows):
        yield Refusal(
            "acceptance_superfluous", where, "every launch has it measured", "leave it out"
        )


def confirmations_of(
    launches: Iterable[Launch], results: Iterable[ResultFile], required: Iterable[str]
) -> tuple[dict[str, tuple[Confirmation, ...]], tuple[Refusal, ...]]:
    """What result documents say, by shape; and what is wrong with them, or missing."""
    by_shape = {launch.shape: launch for launch in launches}
    found: dict[str, dict[str, Confirmation]] = {shape: {} for shape in by_shape}
    refused: list[Refusal] = []
    for result in results:
        refused += _take(result, by_shape, found)
    for shape, kinds in found.items():
        for kind in dict.fromkeys(required):
            if kind not in kinds or kinds[kind].outcome == "not-checked":
                state = "could not be made" if kind in kinds else "is missing"
                refused.append(
                    Refusal(
                        "confirmation_missing",
                        shape,
                        f"the required check {kind!r} {state}",
                        "make it, and give its result document with --result",
                    )
                )
    return {shape: tuple(kinds.values()) for shape, kinds in found.items()}, tuple(refused)


def _take(
    result: ResultFile, launches: Mapping[str, Launch], found: dict[str, dict[str, Confirmation]]
) -> Iterator[Refusal]:
    """Note what one result document says of its launch."""
    try:
        shape = read_result(result.data, origin=result.origin).shape
        if shape not in launches:
            yield Refusal(
                "confirmation_of_another",
                result.origin,
                f"is of shape {shape!r}, which is not released",
                "leave it out, or name the shapes alike",
            )
            return
        confirmation = confirmation_of(result.data, launch=launches[shape], origin=result.origin)
    except MalformedStatement as error:
        yield Refusal(
            "confirmation_of_another",
            result.origin,
            error.message,
            "make the check again with these documents",
        )
        return
    if confirmation.kind in found[shape]:
        yield Refusal(
            "confirmation_twice",
            result.origin,
            f"a second result of {confirmation.kind!r} for {shape}",
            "decide for one of them",
        )
    if confirmation.outcome == "refuted":
        yield Refusal(
            "confirmation_refuted",
            shape,
            f"the check {confirmation.kind!r} refutes the figures ({result.origin})",
            "find out why with `mrtd compare` and `mrtd explain`",
        )
    found[shape][confirmation.kind] = confirmation


def warnings_of(measured: Measured) -> tuple[str, ...]:
    """What a release engineer should know of a document that is signed all the same."""
    notes = measured.document.notes
    return tuple(f"{measured.shape}: {n.text}" for n in notes if n.code in _WARNED_OF)
