"""A cross-check for people: 80 columns; and for programs: ``mrtd.crosscheck/1``."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.table import Table
from rich.text import Text

from ci.crosscheck import CrossCheck, Line, Mark
from mrtd import __version__
from mrtd.cli.tables import console
from mrtd.comparison_document import comparison_document
from mrtd.printable import printable
from mrtd.registers import Target

SCHEMA: Final = "mrtd.crosscheck/1"
_STYLES: Final = {Mark.MATCH: "green", Mark.DIFFERS: "bold red", Mark.NOT_CHECKED: "yellow"}
_MODES: Final = {Target.TPM: "plain mode: TPM, no TDX", Target.CC: "TDX mode"}
_VERDICTS: Final = {
    0: ("all that this mode can check matches", "bold green"),
    1: ("the launch is not what was derived", "bold red"),
    3: ("something could not be checked", "bold yellow"),
}


def print_crosscheck(check: CrossCheck, out: Console | None = None) -> None:
    """Every line, its details below it, and the verdict."""
    out = out or console()
    out.print(Text(f"cross-check, {_MODES[check.target]}", style="bold"))
    for change in check.changes:
        out.print(Text(f"  launched machine: {change}", style="dim"))
    table = Table(box=None, show_header=False, pad_edge=False, expand=True)
    table.add_column(no_wrap=True, width=15)
    table.add_column(no_wrap=True, width=11)
    table.add_column(ratio=1, overflow="fold")
    for line in check.lines:
        style = "dim" if line.beyond and not line.details else _STYLES[line.mark]
        table.add_row(
            Text(shown_name(line)), Text(line.mark, style=style), Text(printable(line.text))
        )
        for detail in line.details:
            table.add_row("", "", Text(printable(detail), style="yellow"))
    out.print(table)
    text, style = _VERDICTS[check.exit_code]
    out.print(Text(text, style=style))


def shown_name(line: Line) -> str:
    """``PCR0``, ``MRTD``, ``log replays``."""
    return line.name if " " in line.name or line.name == "events" else line.name.upper()


def crosscheck_json(check: CrossCheck, written: Mapping[str, Path]) -> dict[str, Any]:
    """The outcome as JSON values."""
    bundle = check.evidence.bundle
    return {
        "schema": SCHEMA,
        "tool": {"name": "mrtd", "version": __version__},
        "mode": "tpm" if check.target is Target.TPM else "tdx",
        "exit_code": check.exit_code,
        "lines": [
            {
                "name": line.name,
                "mark": str(line.mark),
                "text": line.text,
                "details": list(line.details),
                "beyond_this_mode": line.beyond,
            }
            for line in check.lines
        ],
        "machine_changes": list(check.changes),
        "evidence": {name: hashlib.sha256(data).hexdigest() for name, data in bundle.files.items()},
        "results": {
            kind: {"path": str(path), "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
            for kind, path in written.items()
        },
        "comparison": comparison_document(check.comparison),
    }
