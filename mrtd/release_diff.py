"""Two releases: which input moved which register, shape by shape.

    before + after --diff_releases--> ReleaseDiff

The comparison is that of `mrtd.compare`; here its rows become what a release note says.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from mrtd.compare import DIFFERENCES, Comparison, Outcome, RegisterComparison, compare_sides
from mrtd.depends import TEXTS
from mrtd.registers import Exact, RegisterName
from mrtd.releases import ReleaseSide, ShapeSide
from mrtd.side import Side


class Input(msgspec.Struct, frozen=True):
    """An input that changed, or that may have.

    Attributes:
        code: a key of `mrtd.depends.TEXTS`.
        text: what it is.
        before: what it was; None if that is not said.
        after: what it is now; None if that is not said.
    """

    code: str
    text: str
    before: str | None = None
    after: str | None = None


class Moved(msgspec.Struct, frozen=True):
    """A register with another value.

    Attributes:
        register: the register.
        before: its value before, hex; None if unpinned.
        after: its value now, hex; None if unpinned.
        causes: inputs that are known to have changed and that it depends on.
        possible: inputs it can come from, where no known change explains it.
        events: the events that differ, where both sides have a log.
    """

    register: RegisterName
    before: str | None
    after: str | None
    causes: tuple[Input, ...]
    possible: tuple[Input, ...]
    events: tuple[str, ...]


class CoverageChange(msgspec.Struct, frozen=True):
    """An input that is covered otherwise than before; None: was not spoken of."""

    input: str
    before: str | None
    after: str | None


class ShapeDiff(msgspec.Struct, frozen=True):
    """A shape that both have.

    Attributes:
        moved: registers with another value.
        unseen: inputs that changed, and that no register compared here depends on.
        coverage: inputs that are covered otherwise.
        not_compared: registers that are not pinned on one side, and why.
    """

    moved: tuple[Moved, ...]
    unseen: tuple[Input, ...]
    coverage: tuple[CoverageChange, ...]
    not_compared: tuple[tuple[RegisterName, str], ...]

    @property
    def same(self) -> bool:
        """Nothing differs, as far as it was compared."""
        return not (self.moved or self.unseen or self.coverage)


class ReleaseDiff(msgspec.Struct, frozen=True):
    """Two releases, compared.

    Attributes:
        before: the older one.
        after: the newer one.
        shapes: those that both have.
        added: shapes that only the newer one has.
        removed: shapes that only the older one has.
        artifacts: names of files of the release that are new, gone or otherwise, and which.
        lifecycle: what the newer one takes back or brings in, one sentence each.
    """

    before: ReleaseSide
    after: ReleaseSide
    shapes: dict[str, ShapeDiff]
    added: tuple[str, ...]
    removed: tuple[str, ...]
    artifacts: dict[str, str]
    lifecycle: tuple[str, ...]

    @property
    def same(self) -> bool:
        """Both say the same of the same shapes and files; their names are not looked at."""
        shapes = all(shape.same for shape in self.shapes.values())
        return shapes and not (self.added or self.removed or self.artifacts)


def diff_releases(before: ReleaseSide, after: ReleaseSide) -> ReleaseDiff:
    """Compare two releases, shape by shape.

    Two that have one shape each are compared whatever the shapes are called.

    Raises:
        MalformedDocument: one is of a TD, the other of a VM with a TPM.
    """
    pairs = {name: name for name in before.shapes if name in after.shapes}
    if len(before.shapes) == len(after.shapes) == 1:
        pairs = {next(iter(after.shapes)): next(iter(before.shapes))}
    return ReleaseDiff(
        before=before,
        after=after,
        shapes={new: _shape(before.shapes[old], after.shapes[new]) for new, old in pairs.items()},
        added=tuple(name for name in after.shapes if name not in pairs),
        removed=tuple(name for name in before.shapes if name not in pairs.values()),
        artifacts=dict(_artifacts(before, after)),
        lifecycle=tuple(_lifecycle(before, after)),
    )


def _shape(before: ShapeSide, after: ShapeSide) -> ShapeDiff:
    comparison = compare_sides(before.side, after.side)
    moved = tuple(
        _moved(register, comparison)
        for register in comparison.registers
        if register.outcome is Outcome.DIFFERS
    )
    seen = {cause.code for one in moved for cause in one.causes}
    outcomes = {register.name: register.outcome for register in comparison.registers}
    if outcomes.get(RegisterName.RTMR0) is Outcome.MATCH:
        # given as files, or asked of QEMU: where RTMR0 is the same, so are the measured bytes
        seen |= {"acpi"} if _other_smbios(before.side, after.side) else {"acpi", "smbios"}
    return ShapeDiff(
        moved=moved,
        unseen=tuple(one for one in _changed(before.side, after.side) if one.code not in seen),
        coverage=tuple(_coverage(before, after)),
        not_compared=tuple(
            (register.name, register.reason)
            for register in comparison.registers
            if register.outcome is Outcome.NOT_COMPARED
        ),
    )


def _other_smbios(before: Side, after: Side) -> bool:
    """Whether SMBIOS fields differ, not all of which are measured."""
    specs = [side.spec for side in (before, after) if side.spec is not None]
    return len({spec.machine.smbios for spec in specs}) > 1


def _moved(register: RegisterComparison, comparison: Comparison) -> Moved:
    rows = [row for row in register.rows if row.outcome in DIFFERENCES]
    found = [*register.depends, *(d for row in rows for d in row.depends)]
    codes = {known: dict.fromkeys(d.code for d in found if d.known is known)
             for known in (True, False)}  # fmt: skip
    before, after = comparison.expected, comparison.observed
    causes = tuple(_input(code, before, after) for code in codes[True])
    events = [row.observed or row.expected for row in rows]
    return Moved(
        register=register.name,
        before=_hex(register.expected),
        after=_hex(register.observed),
        causes=causes,
        possible=() if causes else tuple(_input(code, before, after) for code in codes[False]),
        events=tuple(dict.fromkeys(event.description for event in events if event)),
    )


def _hex(rule: object) -> str | None:
    return str(rule.value) if isinstance(rule, Exact) else None


def _input(code: str, before: Side, after: Side) -> Input:
    return Input(code, TEXTS[code], before.facts.get(code), after.facts.get(code))


def _changed(before: Side, after: Side) -> Iterator[Input]:
    for code in TEXTS:
        old, new = before.facts.get(code), after.facts.get(code)
        if old is not None and new is not None and old != new:
            yield _input(code, before, after)


def _coverage(before: ShapeSide, after: ShapeSide) -> Iterator[CoverageChange]:
    old, new = ({row.input: row.status for row in one.coverage} for one in (before, after))
    if not old or not new:
        return
    for name in dict.fromkeys((*old, *new)):
        if old.get(name) != new.get(name):
            yield CoverageChange(name, old.get(name), new.get(name))


def _artifacts(before: ReleaseSide, after: ReleaseSide) -> Iterator[tuple[str, str]]:
    if before.values is None or after.values is None:
        return
    old, new = ({one.name: one.sha256 for one in side.artifacts}
                for side in (before.values, after.values))  # fmt: skip
    for name in dict.fromkeys((*old, *new)):
        if name not in old:
            yield name, "new"
        elif name not in new:
            yield name, "gone"
        elif old[name] != new[name]:
            yield name, "changed"


def _lifecycle(before: ReleaseSide, after: ReleaseSide) -> Iterator[str]:
    if before.values is None or after.values is None:
        return
    old, new = before.values.lifecycle, after.values.lifecycle
    retired = {one.tag for one in old.retired}
    yield from (f"{one.tag} is retired" for one in new.retired if one.tag not in retired)
    revoked = {(one.kind, one.value) for one in old.revoked}
    for row in new.revoked:
        if (row.kind, row.value) not in revoked:
            yield f"{row.kind} {row.value} is revoked: {row.reason}"
