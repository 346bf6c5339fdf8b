"""Comparisons and explanations for people: tables that fit 80 columns."""

from __future__ import annotations

from typing import Final

from rich.console import Console
from rich.table import Table
from rich.text import Text

from mrtd.cli.tables import console
from mrtd.compare import Comparison, EventRow, Outcome, RegisterComparison, RowOutcome
from mrtd.eventlog import Event
from mrtd.explain.findings import Explanation, Finding, FindingKind
from mrtd.registers import Exact, Rule, Unpinned

_DIGITS: Final = 16
_OUTCOMES: Final = {
    Outcome.MATCH: "green",
    Outcome.DIFFERS: "bold red",
    Outcome.NOT_COMPARED: "yellow",
}
_ROWS: Final = {
    RowOutcome.MATCH: ("=", "green"),
    RowOutcome.DIFFERS: ("!", "bold red"),
    RowOutcome.ONLY_EXPECTED: ("-", "bold red"),
    RowOutcome.ONLY_OBSERVED: ("+", "bold red"),
    RowOutcome.NOT_PREDICTED: ("?", "yellow"),
}
_KINDS: Final = {
    FindingKind.FITS: "green",
    FindingKind.EXPLAINED: "cyan",
    FindingKind.RECOGNISED: "cyan",
    FindingKind.UNEXPLAINED: "bold red",
    FindingKind.NOT_TRIED: "yellow",
}


def print_comparison(comparison: Comparison, *, quiet: bool) -> None:
    """Both sides; with ``quiet`` the outcome per register only."""
    out = console()
    if not quiet:
        _sides(out, comparison)
        for register in comparison.registers:
            _register(out, register)
    _outcomes(out, comparison)
    for caution in comparison.cautions:
        out.print(Text(f"! {caution.text}", style="yellow"))


def print_explanation(explanation: Explanation, *, quiet: bool) -> None:
    """What was found; with ``quiet`` without the events."""
    out = console()
    for caution in explanation.comparison.cautions if explanation.comparison else ():
        out.print(Text(f"! {caution.text}", style="yellow"))
    for finding in explanation.findings:
        if finding.event_index is None or not quiet:
            _finding(out, finding)
    if explanation.changes:
        _changes(out, explanation)
    if explanation.next_steps:
        out.print(Text("\nnext", style="bold"))
        for step in explanation.next_steps:
            _indented(out, "*", step, "")
    out.print(Text(f"\n{explanation.tried} hypotheses tried", style="dim"))


def _changes(out: Console, explanation: Explanation) -> None:
    fits = "changes that make it fit" if explanation.explained else "changes that bring it nearer"
    out.print(Text(f"\n{fits}", style="bold"))
    for change in explanation.changes:
        out.print(Text(f"  {change.text}"))
        if change.setting:
            out.print(Text(f"    {change.setting}", style="cyan"))
        if change.meaning:
            out.print(Text(f"    {change.meaning}", style="dim"))


def _sides(out: Console, comparison: Comparison) -> None:
    for title, side in (("expected", comparison.expected), ("observed", comparison.observed)):
        log = "" if side.log is None else f", {len(side.log)} events"
        out.print(Text(f"{title}  {side.origin} ({side.kind}{log})"))


def _register(out: Console, register: RegisterComparison) -> None:
    if register.outcome is Outcome.MATCH and not register.rows:
        return
    style = _OUTCOMES[register.outcome]
    out.print()
    out.print(Text(f"{register.name.upper()}: {register.outcome}", style=style))
    if register.reason:
        out.print(Text(f"  {register.reason}"))
    if register.outcome is not Outcome.MATCH:
        _values(out, register)
    for dependence in register.depends:
        _indented(out, "  depends on", dependence.text, "yellow")
    if register.rows:
        _rows(out, register.rows)


def _values(out: Console, register: RegisterComparison) -> None:
    for title, rule in (("expected", register.expected), ("observed", register.observed)):
        text = _value(rule)
        if isinstance(rule, Exact):
            text = f"{text[:48]}\n            {text[48:]}"
        out.print(Text(f"  {title}  {text}"))


def _rows(out: Console, rows: tuple[EventRow, ...]) -> None:
    table = Table(box=None, pad_edge=False, expand=True)
    for name in ("", "exp", "obs"):
        table.add_column(name, no_wrap=True, justify="right")
    table.add_column("event", ratio=1, overflow="fold")
    table.add_column("expected", no_wrap=True)
    table.add_column("observed", no_wrap=True)
    for row in rows:
        sign, style = _ROWS[row.outcome]
        event = row.expected or row.observed
        table.add_row(
            sign,
            "" if row.expected_index is None else str(row.expected_index),
            "" if row.observed_index is None else str(row.observed_index),
            Text(event.description if event else ""),
            _digest(row.expected),
            _digest(row.observed),
            style=style if row.outcome is not RowOutcome.MATCH else "",
        )
        for dependence in row.depends:
            table.add_row("", "", "", Text(f"  {dependence.text}", style="yellow"), "", "")
    out.print(table)


def _outcomes(out: Console, comparison: Comparison) -> None:
    out.print()
    for register in comparison.registers:
        style = _OUTCOMES[register.outcome]
        out.print(Text(f"{register.name.upper():<7}{register.outcome.upper()}", style=style))


def _finding(out: Console, finding: Finding) -> None:
    indent = "" if finding.event_index is None else "  "
    if not indent:
        out.print()
    _indented(out, f"{indent}{finding.kind}", finding.text, _KINDS[finding.kind])


def _indented(out: Console, head: str, text: str, style: str) -> None:
    table = Table(box=None, show_header=False, pad_edge=False, expand=True)
    table.add_column(no_wrap=True, width=14 if len(head) > 2 else 2)
    table.add_column(ratio=1, overflow="fold")
    table.add_row(Text(head, style=style), Text(text))
    out.print(table)


def _value(rule: Rule | None) -> str:
    if rule is None:
        return "nothing said"
    return str(rule.value) if isinstance(rule, Exact) else f"not pinned: {rule.reason}"


def _digest(event: Event | None) -> str:
    if event is None:
        return ""
    return "?" if isinstance(event.digest, Unpinned) else str(event.digest)[:_DIGITS]
