"""Several reference-values documents of one release as one, unless they contradict each other.

ReferenceValues of each job + Plan --merge--> ReferenceValues | what contradicts what
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, NamedTuple

import msgspec

from mrtd.plan import Plan
from mrtd.reference import Launch, ReferenceValues
from mrtd.registers import LAUNCH_REGISTERS

# What `mrtd.shapes` lets an axis set. The spec is opaque otherwise (`mrtd.reference.Launch`).
_MACHINE: Final = ("type", "vcpus", "memory", "cpu", "phys_bits", "processor_id", "options")
_AXES: Final = {
    *(f"spec.machine.{name}" for name in _MACHINE),
    "spec.vmm.version",
    "spec.vmm.page_order",
}


class Document(NamedTuple):
    """A document and the file that it is from, for messages."""

    values: ReferenceValues
    origin: str


class Merged(NamedTuple):
    """What came of it.

    Attributes:
        values: the document of all; None if there are contradictions.
        contradictions: each a sentence that names the files.
    """

    values: ReferenceValues | None
    contradictions: tuple[str, ...]


def merge(documents: tuple[Document, ...], plan: Plan | None = None) -> Merged:
    """Join the launches of documents.

    They have to be of one release and made by one version of ours; their launches may differ in
    the machine only, not in files, command line or disks. A launch may come twice if both say
    the same.

    Args:
        documents: at least one.
        plan: the shapes that there have to be, and no others; None: whatever there is.

    Returns:
        Launches in the order of the plan, or of the documents; ``created`` is that of the latest.
    """
    found: dict[str, tuple[Launch, str]] = {}
    wrong = list(_of_documents(documents))
    for document in documents:
        for launch in document.values.launches:
            before, origin = found.setdefault(launch.shape, (launch, document.origin))
            if before != launch:
                what = _first_difference(before, launch)
                wrong.append(f"{launch.shape}: {what}: {origin} and {document.origin} differ")
    wrong += _of_launches(tuple(found.values()))
    wrong += _of_plan(found, plan)
    if wrong:
        return Merged(None, tuple(wrong))
    order = found if plan is None else plan.shapes
    first = documents[0].values
    latest = max(document.values.release.created for document in documents)
    values = msgspec.structs.replace(
        first,
        release=msgspec.structs.replace(first.release, created=latest),
        launches=tuple(found[name][0] for name in order),
    )
    return Merged(values, ())


def _of_documents(documents: tuple[Document, ...]) -> Iterator[str]:
    """What is said once for all launches."""
    first, origin = documents[0]
    same = _common(first)
    for values, other in documents[1:]:
        for name, value in _common(values).items():
            if value != same[name]:
                yield f"{name}: {same[name]} in {origin}, {value} in {other}"


def _common(values: ReferenceValues) -> dict[str, Any]:
    """What documents of one release share; each job has a time of its own."""
    found: dict[str, Any] = msgspec.to_builtins(
        {"schema": values.schema, "tool": values.tool, "release": values.release}
    )
    flat = {
        (f"{section}.{name}" if name else section): value
        for section, content in found.items()
        for name, value in (content if isinstance(content, dict) else {"": content}).items()
    }
    del flat["release.created"]
    rest = {"lifecycle": values.lifecycle, "artifacts": values.artifacts}
    return {**flat, **{name: msgspec.to_builtins(value) for name, value in rest.items()}}


def _of_launches(launches: tuple[tuple[Launch, str], ...]) -> Iterator[str]:
    """Shapes of one launch have everything in common but the machine."""
    if not launches:
        yield "there is no launch in any document"
        return
    (first, origin), *others = launches
    same = _unshaped(first)
    for launch, other in others:
        mine = _unshaped(launch)
        for name in sorted({*same, *mine}):
            if same.get(name) != mine.get(name):
                yield (
                    f"{name}: {first.shape} of {origin} and {launch.shape} of {other} differ: "
                    f"{_shown(same.get(name))}, {_shown(mine.get(name))}"
                )


def _unshaped(launch: Launch) -> dict[str, Any]:
    """What no axis of `mrtd.shapes` moves: files but QEMU's own, and the rest of the spec."""
    files = {
        file.key: str(file.sha384)
        for file in launch.inputs
        if not file.key.startswith(("acpi.", "smbios."))
    }
    spec: dict[str, Any] = {}
    for key, value in launch.spec.items():
        if key in {"machine", "vmm"} and isinstance(value, dict):
            spec |= {f"spec.{key}.{name}": inner for name, inner in value.items()}
        elif key not in {"acpi", "smbios"}:
            spec[f"spec.{key}"] = value
    return {**files, **{name: value for name, value in spec.items() if name not in _AXES}}


def _of_plan(found: dict[str, tuple[Launch, str]], plan: Plan | None) -> Iterator[str]:
    if plan is None:
        return
    for part in plan.include:
        for name in part.shapes:
            if name not in found:
                yield f"{name}: is in no document; part {part.part} of the plan was to derive it"
    for name in sorted({*found} - {*plan.shapes}):
        yield f"{name}: is not in the plan, and in {found[name][1]}"


def _first_difference(one: Launch, other: Launch) -> str:
    """Where two launches of one name differ: a register, if one does."""
    for name in LAUNCH_REGISTERS:
        if one.registers[name] != other.registers[name]:
            a, b = (_shown(launch.registers.value(name)) for launch in (one, other))
            return f"{name.upper()} is {a} and {b}"
    fields = one.__struct_fields__
    return next(name for name in fields if getattr(one, name) != getattr(other, name))


def _shown(value: object) -> str:
    text = "nothing" if value is None else str(value)
    return text if len(text) <= 24 else f"{text[:21]}..."
