"""Derive a release's figures again from its inputs: the check that anyone can make.

launches + InputFolder --rederive--> Rederived per launch: match, differs, or not checked
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

import msgspec
from msgspec.structs import replace

from mrtd.compare import Comparison, Outcome, compare_sides
from mrtd.document import MeasurementDocument
from mrtd.errors import MrtdError
from mrtd.explain.findings import Explanation
from mrtd.input_folder import InputFolder
from mrtd.launch.inputs import load_inputs
from mrtd.launch.spec import DiskBoot, LaunchSpec
from mrtd.launches import Measured, launch_of
from mrtd.matrix import derive_shapes
from mrtd.measure import DEFAULT_OPTIONS, MeasureOptions, Progress, measure
from mrtd.reference import Artifact, Launch
from mrtd.releases import side_of_launch, spec_of_launch
from mrtd.shapes import Shape, with_blobs
from mrtd.side import Side
from mrtd.side_documents import side_of_document
from mrtd.sources import side_of_derivation

# Keys of the spec that name files, and go by these names in the document's inputs too
_FILES: Final = (
    "firmware.path", "firmware.vars", "acpi.tables", "acpi.rsdp", "acpi.loader",
    "smbios.measured", "boot.kernel", "boot.initrd", "boot.payload",
)  # fmt: skip


class Status(StrEnum):
    """What came out for one launch."""

    MATCH = "match"
    DIFFERS = "differs"
    NOT_CHECKED = "not checked"


class Rederived(msgspec.Struct, frozen=True, kw_only=True):
    """One launch, derived again.

    Attributes:
        shape: its name.
        status: what came out.
        reasons: why it is no match, one sentence each.
        missing: inputs that are not in the folder: key, size and SHA-384 (or SHA-256 of a disk).
        registers: outcome per register, as far as they were compared.
        explanation: which change of the inputs gives the document's values, where one differs.
    """

    shape: str
    status: Status
    reasons: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    registers: dict[str, Outcome] = {}
    explanation: Explanation | None = None


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """What is derived again, and how.

    Attributes:
        launches: what a release says.
        artifacts: its files; a disk that boots is found through them.
        origin: the document, for messages.
        options: how to measure; its target is a TD.
        acpi: folder of ACPI blobs (``mrtd matrix --save-acpi``) to take in place of asking QEMU.
    """

    launches: tuple[Launch, ...]
    artifacts: tuple[Artifact, ...]
    origin: str
    options: MeasureOptions = DEFAULT_OPTIONS
    acpi: Path | None = None


def rederive(
    request: Request, folder: InputFolder, *, progress: Progress = lambda _: None
) -> tuple[Rederived, ...]:
    """Derive every launch again and compare.

    Raises:
        MalformedDocument: a launch spec in the document cannot be read.
        SpecError: a file of the folder cannot be read.
    """
    found: dict[str, Rederived] = {}
    batches: dict[tuple[str | None, ...], list[_Ready]] = {}
    for launch in request.launches:
        progress(f"looking for the inputs of {launch.shape}")
        ready = _ready(launch, request, folder)
        if isinstance(ready, Rederived):
            found[launch.shape] = ready
        else:
            batches.setdefault(_files(ready.shape.spec), []).append(ready)
    for batch in batches.values():
        for one, document in _derived(batch, request, progress):
            found[one.launch.shape] = (
                _not_checked(one.launch, f"could not be derived: {document.message}")
                if isinstance(document, MrtdError)
                else _Check(one, document, request).result()
            )
    return tuple(found[launch.shape] for launch in request.launches)


class _Ready(msgspec.Struct, frozen=True):
    """A launch whose files are there: its shape's spec names them by absolute paths."""

    launch: Launch
    shape: Shape


def _ready(launch: Launch, request: Request, folder: InputFolder) -> _Ready | Rederived:
    spec = spec_of_launch(launch, origin=request.origin)
    known = {file.key: file for file in launch.inputs}
    fields: dict[str, Any] = msgspec.to_builtins(spec)
    missing, unknown = [], []
    for key in _FILES:
        table, _, name = key.partition(".")
        if fields[table].get(name) is None:
            continue
        file = known.get(key)
        path = None if file is None else folder.find(file.size, file.sha384)
        if file is None:
            unknown.append(key)
        elif path is None:
            missing.append(f"{key}: {file.size} bytes, SHA-384 {file.sha384}")
        else:
            fields[table][name] = str(path.absolute())
    disks = _disks(spec, request, folder)
    missing += [text for text in disks.values() if not isinstance(text, Path)]
    if missing or unknown:
        reasons = [f"the document has no digest of {', '.join(unknown)}"] if unknown else []
        reasons += ["inputs are missing"] if missing else []
        return _not_checked(launch, *reasons, missing=tuple(missing))
    found = msgspec.convert(fields, LaunchSpec)
    named = tuple(
        replace(disk, path=str(disks[disk.name])) if disk.name in disks else disk
        for disk in found.disks
    )
    shape = Shape(launch.shape, {}, replace(found, disks=named))
    if request.acpi is not None and shape.spec.acpi.tables is None:
        try:
            shape = with_blobs(shape, request.acpi.absolute(), Path("/"))
        except MrtdError as error:
            return _not_checked(launch, error.message)
    return _Ready(launch, shape)


def _disks(spec: LaunchSpec, request: Request, folder: InputFolder) -> dict[str, Path | str]:
    """Disks that are files of the release: the path of each, or which file is missing.

    The one that boots has to be; of the others only the names of their boot options depend.
    """
    if not isinstance(spec.boot, DiskBoot):
        return {}
    found: dict[str, Path | str] = {}
    for disk in spec.disks:
        name = Path(disk.path).name
        artifact = next((one for one in request.artifacts if one.name == name), None)
        if artifact is None and disk.name != spec.boot.disk:
            continue
        if artifact is None:
            found[disk.name] = (
                f"disk {disk.name}: no artifact {name!r} says its digest: take what mrtd matrix "
                f"--output writes, or a release with --artifact {name}"
            )
            continue
        path = folder.find_sha256(artifact.size, artifact.sha256)
        text = f"disk {disk.name}: {artifact.size} bytes, SHA-256 {artifact.sha256}"
        found[disk.name] = path.absolute() if path else text
    return found


def _files(spec: LaunchSpec) -> tuple[str | None, ...]:
    """What launches have to have in common to be derived together."""
    boot = msgspec.to_builtins(spec.boot)
    named = (boot.get("kernel"), boot.get("initrd"), boot.get("payload"), boot.get("cmdline"))
    return (spec.firmware.path, spec.firmware.vars, spec.firmware.profile, spec.boot.kind, *named)


def _derived(
    batch: list[_Ready], request: Request, progress: Progress
) -> Iterator[tuple[_Ready, MeasurementDocument | MrtdError]]:
    """All of a batch at once; one after the other, if one of them fails."""

    def derive(ready: list[_Ready]) -> list[MeasurementDocument]:
        shapes = tuple(one.shape for one in ready)
        matrix = derive_shapes(shapes, Path("/"), request.options, progress=progress)
        return [one.document for one in matrix.results]

    try:
        documents = derive(batch)
    except MrtdError as error:
        if len(batch) == 1:
            yield batch[0], error
            return
        for one in batch:
            yield from _derived([one], request, progress)
    else:
        yield from zip(batch, documents, strict=True)


class _Check:
    """The comparison of one launch."""

    def __init__(self, ready: _Ready, document: MeasurementDocument, request: Request) -> None:
        self.launch, self.shape = ready.launch, ready.shape
        self.document, self.request = document, request
        self.said = side_of_launch(self.launch, origin=request.origin)

    def result(self) -> Rederived:
        derived = side_of_document(self.document, origin="derived again")
        comparison = compare_sides(self.said, derived)
        # what the document does not pin is no claim of it
        claimed = [r for r in comparison.registers if self.launch.registers[r.name].value]
        outcomes = {str(register.name): register.outcome for register in claimed}
        changed = tuple(self._changed_files())
        if changed:
            return _not_checked(self.launch, *changed)
        if Outcome.DIFFERS in outcomes.values():
            return self._differs(comparison, outcomes)
        if Outcome.NOT_COMPARED in outcomes.values():
            reasons = tuple(f"{register.name.upper()}: {register.reason}" for register in claimed
                            if register.outcome is Outcome.NOT_COMPARED)  # fmt: skip
            return replace(_not_checked(self.launch, *reasons), registers=outcomes)
        contradicted = tuple(self._contradicted())
        status = Status.DIFFERS if contradicted else Status.MATCH
        return Rederived(
            shape=self.launch.shape, status=status, reasons=contradicted, registers=outcomes
        )

    def _changed_files(self) -> Iterator[str]:
        """Files that were not what they had been when they were looked for."""
        known = {file.key: file for file in self.launch.inputs}
        for file in self.document.inputs:
            if file.key in known and str(known[file.key].sha384) != file.sha384:
                yield f"{file.key} changed while it was read"

    def _differs(self, comparison: Comparison, outcomes: dict[str, Outcome]) -> Rederived:
        reasons = []
        for name in (r.name for r in comparison.registers if r.outcome is Outcome.DIFFERS):
            said, derived = self.launch.registers.value(name), self.document.registers[name]
            reasons.append(f"{name.upper()}: the document says {said}, derived {derived}")
        return Rederived(
            shape=self.launch.shape,
            status=Status.DIFFERS,
            reasons=tuple(reasons),
            registers=outcomes,
            explanation=self._explained(self.said),
        )

    def _explained(self, said: Side) -> Explanation | None:
        """Which change of the inputs gives what the document says."""
        from mrtd.explain.explanation import explain  # noqa: PLC0415 - rarely needed
        from mrtd.explain.hypotheses import known_launch  # noqa: PLC0415

        try:
            spec, root = self.shape.spec, Path("/")
            derivation = measure(spec, root, self.request.options)
            known = known_launch(derivation, load_inputs(spec, root))
            expected = side_of_derivation(derivation, origin="derived again")
            return explain(said, expected, known=known)
        except MrtdError:
            return None  # the answer is no, with or without a reason

    def _contradicted(self) -> Iterator[str]:
        """What the document says of its launch besides, and what is not so."""
        again = launch_of(Measured(self.launch.shape, self.document, "derived again"))
        for field in self.launch.components.__struct_fields__:
            said, found = (getattr(one.components, field) for one in (self.launch, again))
            if said is not None and said != found:
                yield f"components.{field}: the document says {said}, derived {found}"
        rows = {row.input: row for row in again.coverage}
        for row in self.launch.coverage:
            found = rows.get(row.input)
            if found is None or (row.status, row.registers) != (found.status, found.registers):
                status = "nothing" if found is None else found.status
                yield f"coverage of {row.input}: the document says {row.status}, derived {status}"


def _not_checked(launch: Launch, *reasons: str, missing: tuple[str, ...] = ()) -> Rederived:
    return Rederived(
        shape=launch.shape, status=Status.NOT_CHECKED, reasons=reasons, missing=missing
    )
