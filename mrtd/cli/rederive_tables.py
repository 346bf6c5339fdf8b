"""Figures derived again, for people: lines that fit 80 columns."""

from __future__ import annotations

from typing import Final

from rich.table import Table
from rich.text import Text

from mrtd.cli.tables import console
from mrtd.printable import printable
from mrtd.rederive import Rederived, Status

_STYLES: Final = {
    Status.MATCH: "green",
    Status.DIFFERS: "bold red",
    Status.NOT_CHECKED: "yellow",
}


def print_rederived(results: tuple[Rederived, ...], *, quiet: bool) -> None:
    """Each launch and what came out; ``quiet``: without those that match."""
    out = console()
    table = Table(box=None, show_header=False, pad_edge=False, expand=True)
    table.add_column(no_wrap=True)
    table.add_column(ratio=1, overflow="fold")
    for one in results:
        if quiet and one.status is Status.MATCH:
            continue
        status = Text(one.status.upper(), style=_STYLES[one.status])
        registers = ", ".join(name.upper() for name, found in one.registers.items()
                              if found == "match")  # fmt: skip
        table.add_row(status, Text(f"{one.shape}: {registers or 'nothing'} derived the same"))
        for text in (*one.reasons, *one.missing, *_explained(one)):
            table.add_row("", Text(f"  {printable(text)}"))
    out.print(table)
    counts = [(status, sum(one.status is status for one in results)) for status in Status]
    text = ", ".join(f"{count} {status}" for status, count in counts if count)
    out.print(Text(f"\n{len(results)} launches: {text}", style="bold"))


def _explained(one: Rederived) -> list[str]:
    explanation = one.explanation
    if explanation is None:
        return []
    if not explanation.changes:
        return [f"no one of {explanation.tried} hypotheses explains it"]
    some = "explained by" if explanation.explained else "nearer with"
    return [
        f"{some}: {change.text}" + (f" ({change.setting})" if change.setting else "")
        for change in explanation.changes
    ]
