"""A difference of releases for people: lines that fit 80 columns."""

from __future__ import annotations

from typing import Final

from rich.console import Console
from rich.table import Table
from rich.text import Text

from mrtd.cli.tables import console
from mrtd.printable import printable
from mrtd.release_diff import Input, ReleaseDiff
from mrtd.release_notes import Told, counted, named, told, upper

_HEX_DIGITS: Final = 16


def print_diff(diff: ReleaseDiff) -> None:
    """What moved, told once for all shapes of which it is true."""
    out = console()
    _rows(out, [("before", named(diff.before)), ("after", named(diff.after))])
    for one in told(diff):
        out.print(Text(f"\n{counted(one, diff)}", style="bold"))
        _told(out, one)
    rows = [("new shape", name) for name in diff.added]
    rows += [("gone", name) for name in diff.removed]
    rows += [(what, name) for name, what in diff.artifacts.items()]
    rows += [("life cycle", printable(text)) for text in diff.lifecycle]
    if rows:
        out.print()
        _rows(out, rows)
    if diff.same:
        out.print(Text("\nnothing differs", style="green"))


def _told(out: Console, one: Told) -> None:
    rows: list[tuple[str, str]] = []
    for cause, registers in one.causes:
        rows.append((upper(registers), cause.text))
        rows += _change(cause)
    for register, possible in one.unexplained:
        rows.append((register.upper(), "moves, by one of:"))
        rows += [("", f"* {choice.text}") for choice in possible]
    for name, values in one.values.items():
        before, after = ("unpinned" if v is None else v[:_HEX_DIGITS] for v in values)
        rows.append((name.upper(), f"{before} -> {after}"))
    for cause in one.unseen:
        rows.append(("in none", f"{cause.text}; no register that was compared moves with it"))
        rows += _change(cause)
    for row in one.coverage:
        before, after = (what or "not spoken of" for what in (row.before, row.after))
        rows.append(("coverage", f"{row.input}: {before} -> {after}"))
    rows += [(name.upper(), f"not compared: {printable(why)}") for name, why in one.not_compared]
    _rows(out, rows or [("", "nothing moves")])


def _change(cause: Input) -> list[tuple[str, str]]:
    values = [("-", cause.before), ("+", cause.after)]
    return [("", f"{sign} {printable(value) or '(empty)'}") for sign, value in values
            if value is not None]  # fmt: skip


def _rows(out: Console, rows: list[tuple[str, str]]) -> None:
    table = Table(box=None, show_header=False, pad_edge=False, expand=True)
    table.add_column(no_wrap=True, min_width=12)
    table.add_column(ratio=1, overflow="fold")
    for head, text in rows:
        style = {"-": "red", "+": "green"}.get(text[:2].strip(), "") if not head else ""
        table.add_row(Text(head, style="bold yellow"), Text(text, style=style))
    out.print(table)
