"""A matrix of shapes for people: tables that fit 80 columns."""

from __future__ import annotations

from typing import Final

from rich.console import Console
from rich.table import Table
from rich.text import Text

from mrtd.cli.tables import console
from mrtd.matrix import Matrix
from mrtd.registers import LAUNCH_REGISTERS, RegisterName

_DIGITS: Final = 8
_MEANINGS: Final = {"alarm": "bold red", "warning": "yellow"}


def print_matrix(matrix: Matrix, *, quiet: bool) -> None:
    """Registers of every shape, and which axis moves which; ``quiet``: the latter only."""
    out = console()
    if not quiet:
        _shapes(out, matrix)
        _notes(out, matrix)
    _touched(out, matrix)


def _shapes(out: Console, matrix: Matrix) -> None:
    table = Table(box=None, pad_edge=False, expand=True)
    table.add_column("shape", ratio=1, overflow="fold")
    for name in LAUNCH_REGISTERS:
        table.add_column(name.upper(), no_wrap=True)
    for one in matrix.results:
        values = [_value(one.document.registers[name]) for name in LAUNCH_REGISTERS]
        table.add_row(Text(one.shape.name), *values)
    out.print(table)


def _value(value: str | None) -> Text:
    if value is None:
        return Text("unpinned", style="yellow")
    return Text(value[:_DIGITS], style="bold red" if value == "00" * 48 else "")


def _notes(out: Console, matrix: Matrix) -> None:
    """Alarms and warnings, each once, with how many shapes have it."""
    found: dict[tuple[str, str], int] = {}
    for one in matrix.results:
        for note in one.document.notes:
            if note.level in _MEANINGS:
                key = (note.level, note.text)
                found[key] = found.get(key, 0) + 1
    table = Table(box=None, pad_edge=False, show_header=False, expand=True)
    table.add_column(no_wrap=True)
    table.add_column(ratio=1, overflow="fold")
    for (level, text), count in found.items():
        some = "" if count == len(matrix.results) else f" ({count} shapes)"
        style = _MEANINGS[level]
        table.add_row(Text(level.upper(), style=style), Text(text + some, style=style))
    if found:
        out.print()
        out.print(table)


def _touched(out: Console, matrix: Matrix) -> None:
    out.print(Text(f"\n{len(matrix.results)} shapes", style="bold"))
    for name, axes in matrix.touched().items():
        out.print(Text(f"  {name.upper():<7}{_sentence(matrix, name, axes)}"))


def _sentence(matrix: Matrix, name: RegisterName, axes: tuple[str, ...]) -> str:
    values = [value for value in matrix.values(name) if value is not None]
    if not values:
        return "is not pinned on any shape"
    if axes:
        return f"{len(values)} values: moves with {', '.join(axes)}"
    return "the same on every shape" if len(values) == 1 else f"{len(values)} values"
