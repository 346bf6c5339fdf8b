"""A difference of releases as release notes: lines for a terminal, and Markdown.

Shapes of which the same is to be said are told together.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from mrtd.printable import printable
from mrtd.registers import RegisterName
from mrtd.release_diff import CoverageChange, Input, ReleaseDiff, ShapeDiff
from mrtd.releases import ReleaseSide

_DIGITS = 16


class Told(msgspec.Struct, frozen=True):
    """What is said of some shapes.

    Attributes:
        shapes: their names.
        causes: inputs that changed, each with the registers that it moved.
        unexplained: registers that moved, each with what that can come from.
        unseen: inputs that changed and moved no register that was compared.
        coverage: inputs that are covered otherwise.
        values: registers that moved to the same value on all of these shapes: before and after.
        not_compared: registers that were not compared, and why.
    """

    shapes: tuple[str, ...]
    causes: tuple[tuple[Input, tuple[RegisterName, ...]], ...]
    unexplained: tuple[tuple[RegisterName, tuple[Input, ...]], ...]
    unseen: tuple[Input, ...]
    coverage: tuple[CoverageChange, ...]
    values: dict[RegisterName, tuple[str | None, str | None]]
    not_compared: tuple[tuple[RegisterName, str], ...]


def told(diff: ReleaseDiff) -> tuple[Told, ...]:
    """What is said of the shapes, the same only once."""
    groups: dict[bytes, list[str]] = {}
    for name, shape in diff.shapes.items():
        parts = (_causes(shape), _unexplained(shape), shape.unseen, shape.coverage,
                 shape.not_compared)  # fmt: skip
        groups.setdefault(msgspec.json.encode(parts), []).append(name)
    return tuple(_told(tuple(names), diff) for names in groups.values())


def _told(names: tuple[str, ...], diff: ReleaseDiff) -> Told:
    first = diff.shapes[names[0]]
    pairs: dict[RegisterName, set[tuple[str | None, str | None]]] = {}
    for name in names:
        for one in diff.shapes[name].moved:
            pairs.setdefault(one.register, set()).add((one.before, one.after))
    return Told(
        shapes=names,
        causes=_causes(first),
        unexplained=_unexplained(first),
        unseen=first.unseen,
        coverage=first.coverage,
        values={name: next(iter(found)) for name, found in pairs.items() if len(found) == 1},
        not_compared=first.not_compared,
    )


def _causes(shape: ShapeDiff) -> tuple[tuple[Input, tuple[RegisterName, ...]], ...]:
    found: dict[str, tuple[Input, list[RegisterName]]] = {}
    for one in shape.moved:
        for cause in one.causes:
            found.setdefault(cause.code, (cause, []))[1].append(one.register)
    return tuple((cause, tuple(registers)) for cause, registers in found.values())


def _unexplained(shape: ShapeDiff) -> tuple[tuple[RegisterName, tuple[Input, ...]], ...]:
    return tuple((one.register, one.possible) for one in shape.moved if not one.causes)


def markdown(diff: ReleaseDiff) -> str:
    """The difference as a section of release notes."""
    return "\n".join(_markdown(diff)) + "\n"


def named(side: ReleaseSide) -> str:
    """What a side is called: its release, or its file."""
    return side.origin if side.values is None else f"{side.values.release.tag} ({side.origin})"


def counted(told_of: Told, diff: ReleaseDiff) -> str:
    """Of which shapes something is said."""
    if len(told_of.shapes) == len(diff.shapes):
        return "all shapes" if len(diff.shapes) > 1 else told_of.shapes[0]
    return ", ".join(told_of.shapes)


def upper(registers: tuple[RegisterName, ...]) -> str:
    """Names of registers for people."""
    return ", ".join(name.upper() for name in registers)


def _markdown(diff: ReleaseDiff) -> Iterator[str]:
    yield "## Measurement impact"
    yield ""
    yield f"From {_code(named(diff.before))} to {_code(named(diff.after))}."
    if diff.same:
        yield ""
        yield "None: every register that was compared has the value it had."
    for one in told(diff):
        yield ""
        yield f"### {counted(one, diff)}"
        yield ""
        yield from _bullets(one)
    for title, names in (("New shapes", diff.added), ("Shapes that are gone", diff.removed)):
        if names:
            yield ""
            yield f"{title}: {', '.join(names)}."
    others = [f"{_code(name)} is {what}" for name, what in diff.artifacts.items()]
    if others or diff.lifecycle:
        yield ""
        yield from (f"* {line}" for line in (*others, *map(printable, diff.lifecycle)))


def _bullets(one: Told) -> Iterator[str]:
    for cause, registers in one.causes:
        change = f"{_value(cause.before)} → {_value(cause.after)}"
        yield f"* **{upper(registers)}** moves: {cause.text}: {change}"
    for register, possible in one.unexplained:
        yield f"* **{register.upper()}** moves, by one of: {'; '.join(p.text for p in possible)}"
    for name, (before, after) in one.values.items():
        yield f"* {name.upper()}: {_value(before)} → {_value(after)}"
    for cause in one.unseen:
        change = f"{_value(cause.before)} → {_value(cause.after)}"
        yield f"* no register that was compared moves with {cause.text}: {change}"
    for row in one.coverage:
        yield f"* {row.input}: {row.before or 'not spoken of'} → {row.after or 'not spoken of'}"
    for name, reason in one.not_compared:
        yield f"* {name.upper()} was not compared: {printable(reason)}"
    if not (one.causes or one.unexplained or one.unseen or one.coverage):
        yield "* nothing moves"


def _value(text: str | None) -> str:
    return "not known" if text is None else _code(text or "(empty)")


def _code(text: str) -> str:
    """As code, which no text from a document may leave (CommonMark 6.1)."""
    clean = printable(text)
    fence = "`" * (max((len(run) for run in clean.split("`") if not run), default=0) + 1)
    while fence in clean:
        fence += "`"
    space = " " if clean.startswith("`") or clean.endswith("`") else ""
    return f"{fence}{space}{clean}{space}{fence}"
