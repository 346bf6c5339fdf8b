"""An evidence bundle for people and for programs."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

from mrtd.errors import MalformedBundle, MalformedQuote
from mrtd.evidence.bundle import Bundle
from mrtd.evidence.manifest import MEMBERS, MESSAGES
from mrtd.printable import printable


def to_json(bundle: Bundle) -> dict[str, Any]:
    """The bundle as JSON types, without the members' content."""
    registers, _ = _registers(bundle)
    return {
        "schema": "mrtd.evidence-summary/1",
        "tool": bundle.tool,
        "redacted": bundle.redacted,
        "members": [
            {"name": name, "size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
            for name, data in bundle.files.items()
        ],
        "registers": {source: dict(values) for source, values in registers.items()},
        "messages": _messages(bundle),
    }


def print_bundle(bundle: Bundle) -> None:
    """The bundle as tables of 80 columns."""
    from rich.table import Table  # noqa: PLC0415 - only for people
    from rich.text import Text  # noqa: PLC0415 - ditto

    from mrtd.cli.tables import console  # noqa: PLC0415 - ditto

    out = console()
    table = Table(box=None, pad_edge=False, title="Members", title_justify="left")
    table.add_column("size", justify="right", no_wrap=True)
    table.add_column("name", no_wrap=True)
    table.add_column("what", ratio=1, overflow="fold")
    for size, name, what in _rows(bundle):
        table.add_row(size, name, Text(what))
    out.print(table)
    registers, problems = _registers(bundle)
    for source, values in registers.items():
        out.print(Text(f"\nRegisters, {source}", style="bold"))
        for register, value in values:
            out.print(Text(f"  {register:<6} {value}"), soft_wrap=True)
    sections = (
        ("Not collected", _messages(bundle)),
        ("Cannot be read", problems),
        ("Redacted", list(bundle.redacted)),
    )
    for title, lines in sections:
        if lines:
            out.print(Text(f"\n{title}", style="bold"))
            for line in lines:
                out.print(Text(f"  {printable(line)}"))


def _rows(bundle: Bundle) -> Iterator[tuple[str, str, str]]:
    pcrs = [name for name in bundle.files if name.startswith("pcr-")]
    for name, data in bundle.files.items():
        if name not in pcrs:
            yield str(len(data)), name, MEMBERS[name]
    if pcrs:
        yield "", "pcr-sha384/", f"{len(pcrs)} PCRs of the SHA-384 bank"


def _messages(bundle: Bundle) -> list[str]:
    return bundle.files.get(MESSAGES, b"").decode("utf-8", "replace").splitlines()


def _registers(bundle: Bundle) -> tuple[dict[str, list[tuple[str, str]]], list[str]]:
    """Registers by who says so, and what could not be read."""
    from mrtd.evidence.quote import read_quote  # noqa: PLC0415 - most bundles of TPMs have none

    found: dict[str, list[tuple[str, str]]] = {}
    problems: list[str] = []
    if bundle.quote is not None:
        try:
            quote = read_quote(bundle.quote, origin="tdx/quote")
            found["in the quote (not verified here)"] = [
                (str(name), str(value)) for name, value in quote.registers.items()
            ]
        except MalformedQuote as error:
            problems.append(error.message)
    try:
        shown = [(str(name), str(value)) for name, value in bundle.registers.items()]
    except MalformedBundle as error:
        problems.append(error.message)
    else:
        if shown:
            found["as the kernel shows them"] = shown
    return found, problems
