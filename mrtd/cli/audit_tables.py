"""An audit for people: tables that fit 80 columns."""

from __future__ import annotations

from typing import Final

from rich.console import Console
from rich.table import Table
from rich.text import Text

from mrtd.audit.findings import Audit, Finding
from mrtd.audit.rules import RULES, Rule
from mrtd.cli.tables import console
from mrtd.coverage import CoverageStatus
from mrtd.notes import Level
from mrtd.printable import printable

_LEVELS: Final = {Level.ALARM: "bold red", Level.WARNING: "yellow", Level.INFO: "dim"}
_STATUSES: Final = {
    CoverageStatus.MEASURED: "green",
    CoverageStatus.UNPINNED: "yellow",
    CoverageStatus.NOT_MEASURED: "bold red",
    CoverageStatus.ABSENT: "dim",
}


def print_audit(audit: Audit, *, quiet: bool) -> None:
    """Inputs and findings; ``quiet``: the findings only."""
    out = console()
    if not quiet:
        _inputs(out, audit)
    told: set[str] = set()
    for one in audit.findings:
        _finding(out, one, again=one.rule in told)
        told.add(one.rule)
    counts = [(level, sum(one.level is level for one in audit.findings)) for level in Level]
    text = ", ".join(f"{count} {level}" for level, count in counts if count) or "nothing found"
    accepted = sum(one.accepted is not None for one in audit.findings)
    out.print(Text(f"\n{text}{f' ({accepted} accepted)' if accepted else ''}", style="bold"))


def print_rules(rules: tuple[Rule, ...]) -> None:
    """The rules, with risk, remedy and source."""
    out = console()
    for rule in rules:
        out.print(Text(f"{rule.id} ({rule.level}): {rule.title}", style=_LEVELS[rule.level]))
        _rows(out, [("risk", rule.risk), ("remedy", rule.remedy), ("source", rule.source)])


def _inputs(out: Console, audit: Audit) -> None:
    table = Table(box=None, pad_edge=False, expand=True)
    table.add_column("input", ratio=2, overflow="fold")
    table.add_column("status", no_wrap=True)
    table.add_column("where", no_wrap=True)
    table.add_column("by what", ratio=3, overflow="fold")
    for row in audit.inputs:
        status = Text(row.status, style=_STATUSES[row.status])
        registers = " ".join(sorted(row.registers)).upper()
        text = Text(printable(row.event or row.note))
        table.add_row(Text(printable(row.name)), status, registers, text)
    out.print(table)


def _finding(out: Console, finding: Finding, *, again: bool) -> None:
    rule = RULES[finding.rule]
    style = "dim" if finding.accepted is not None else _LEVELS[rule.level]
    head = f"\n{rule.level.upper()} {rule.id}: {printable(finding.input)}"
    out.print(Text(head, style=style))
    rows = [("", f"{rule.title}: {printable(finding.detail)}")]
    if finding.accepted is not None:
        rows.append(("accepted", printable(finding.accepted)))
    elif not again:  # what follows and what to do is the same for all of a rule
        rows += [("risk", rule.risk), ("remedy", rule.remedy)]
    _rows(out, rows)


def _rows(out: Console, rows: list[tuple[str, str]]) -> None:
    table = Table(box=None, show_header=False, pad_edge=False, expand=True)
    table.add_column(no_wrap=True, min_width=8)
    table.add_column(ratio=1, overflow="fold")
    for head, text in rows:
        table.add_row(Text(f"  {head}", style="dim"), Text(text))
    out.print(table)
