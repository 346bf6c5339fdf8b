"""Workloads for people: a table of 80 columns."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Final

from rich.table import Table
from rich.text import Text

from mrtd.cli.tables import console
from mrtd.images.status import Colour, DeploymentStatus
from mrtd.printable import printable

_SIGNS: Final = {
    Colour.GREEN: ("+", "green"),
    Colour.YELLOW: ("!", "yellow"),
    Colour.RED: ("x", "bold red"),
    Colour.UNKNOWN: ("?", "magenta"),
}
_DIGITS: Final = 12


def print_workloads(records: Sequence[DeploymentStatus]) -> None:
    """The table, and a line that counts."""
    out = console()
    if not records:
        out.print("no containers run here")
        return
    table = Table(box=None, pad_edge=False, expand=True)
    table.add_column("status", no_wrap=True)
    table.add_column("deployment", overflow="fold", max_width=18)
    table.add_column("image, its digest, and why", ratio=1, overflow="fold")
    for record in records:
        sign, style = _SIGNS[record.attestation_status]
        what = Text(printable(record.image.partition("@")[0]) or "no image is told")
        if record.image_digest:
            digest = printable(record.image_digest)
            what.append(f"\n{digest[: len('sha256:') + _DIGITS]}...", style="dim")
        what.append(f"\n{record.reason}", style="" if style == "green" else style)
        status = Text(f"{sign} {record.attestation_status}", style=style)
        table.add_row(status, Text(printable(record.app_name)), what)
    out.print(table)
    counts = Counter(record.attestation_status for record in records)
    found = ", ".join(f"{counts[colour]} {colour}" for colour in Colour if counts[colour])
    plural = "" if len(records) == 1 else "s"
    out.print(Text(f"\n{len(records)} deployment{plural}: {found}"))
