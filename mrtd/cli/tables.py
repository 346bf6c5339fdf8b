"""Measurements for people: tables that fit 80 columns, colour only on a terminal."""

from __future__ import annotations

from typing import Final

from rich.console import Console
from rich.table import Table
from rich.text import Text

from mrtd.compare import Outcome
from mrtd.document import EventEntry, MeasurementDocument
from mrtd.expectation import Comparison

_WIDTH: Final = 80
_DIGEST_DIGITS: Final = 16
_NOTHING: Final = "00" * 48  # what a register holds that nothing extended
_LEVEL_STYLES: Final = {"alarm": "bold red", "warning": "yellow", "info": "dim"}
_STATUS_STYLES: Final = {"measured": "green", "unpinned": "yellow", "not measured": "bold red"}
_OUTCOME_STYLES: Final = {
    Outcome.MATCH: "green",
    Outcome.DIFFERS: "bold red",
    Outcome.NOT_COMPARED: "yellow",
}


class _Console(Console):
    """Does not end the process with 1, which means "no", when nobody reads the output."""

    def on_broken_pipe(self) -> None:
        """Let the `BrokenPipeError` through, which is being handled."""
        raise  # noqa: PLE0704


def console() -> Console:
    """Standard output; 80 columns where it is no terminal, so that pipes get stable text."""
    out = _Console(highlight=False, emoji=False, soft_wrap=False)
    return out if out.is_terminal else _Console(width=_WIDTH, highlight=False, emoji=False)


def print_measurement(document: MeasurementDocument, *, quiet: bool) -> None:
    """The whole derivation; ``quiet``: the registers only."""
    out = console()
    if not quiet:
        _head(out, document)
        _build(out, document)
        for register in document.registers:
            events = [e for e in document.events if e.register == register]
            if register != "mrtd":
                _events(out, register, events)
        _coverage(out, document)
        _notes(out, document)
    _registers(out, document)


def print_comparison(comparison: Comparison) -> None:
    """The outcome per register."""
    out = console()
    out.print(Text(f"\nCompared with {comparison.expected}", style="bold"))
    for name, outcome in comparison.registers.items():
        out.print(Text(f"  {name:<6} {outcome.upper()}", style=_OUTCOME_STYLES[outcome]))


def _head(out: Console, document: MeasurementDocument) -> None:
    table = Table(box=None, show_header=False, pad_edge=False, expand=True)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(ratio=1, overflow="fold")
    about = document.about
    if about is not None:
        table.add_row("launch", Text(about.name))
        table.add_row("", Text("\n".join(f"{k} {v}" for k, v in about.packages.items())))
    kernel, machine = document.kernel, document.spec.machine
    table.add_row("firmware", Text(_firmware_line(document)))
    version = kernel.version.split(" ", 1)[0] or "version unknown"
    stub = "measures through CC" if kernel.cc_measurement else "no CC measurement"
    table.add_row("kernel", Text(f"{version}, EFI stub: {stub}, {kernel.header} header"))
    table.add_row(
        "machine",
        Text(f"{machine.type}, {machine.memory}, {machine.vcpus} vCPUs, cpu {machine.cpu}"),
    )
    table.add_row("VMM", Text(f"{document.spec.vmm.kind} {document.spec.vmm.version}"))
    out.print(table)


def _firmware_line(document: MeasurementDocument) -> str:
    firmware = document.firmware
    how = "guessed from the image" if firmware.guessed else "named in the spec"
    version = f", version {firmware.version}" if firmware.version else ""
    return f"{firmware.profile} ({how}){version}"


def _heading(out: Console, text: str) -> None:
    out.print()
    out.print(Text(text, style="bold"))


def _build(out: Console, document: MeasurementDocument) -> None:
    if not document.td_build:
        return
    _heading(out, f"MRTD: TD build, {document.page_order}")
    table = Table(box=None, pad_edge=False)
    table.add_column("#", justify="right")
    for name in ("section", "pass", "address", "size", "content"):
        table.add_column(name, no_wrap=True)
    for index, step in enumerate(document.td_build):
        content = "address only"
        if "extend" in step.build_pass:
            content = f"file {step.file_offset:#x}..{step.file_offset + step.file_size:#x}"
            if not step.file_size:
                content = "from the VMM"
        table.add_row(
            str(index), step.type, step.build_pass, f"{step.gpa:#x}", f"{step.memory_size:#x}",
            content,
        )  # fmt: skip
    out.print(table)


def _events(out: Console, register: str, events: list[EventEntry]) -> None:
    _heading(out, f"{register.upper()}: {len(events)} events")
    if not events:
        return
    table = Table(box=None, pad_edge=False, expand=True)
    table.add_column("#", justify="right", no_wrap=True)
    table.add_column("event", no_wrap=True)
    table.add_column("what, and from where", ratio=1, overflow="fold")
    table.add_column("digest", no_wrap=True)
    for index, event in enumerate(events):
        kind = event.type_name.removeprefix("EV_").removeprefix("EFI_")
        mark = " ?" if event.unconfirmed else ""
        what = Text(event.description)
        what.append(f"\n{event.input}: {event.origin}", style="dim")
        digest = Text(event.digest[:_DIGEST_DIGITS] if event.digest else "not known")
        if event.digest is None:
            digest.stylize("yellow")
        table.add_row(str(index), Text(kind + mark), what, digest)
    out.print(table)


def _coverage(out: Console, document: MeasurementDocument) -> None:
    _heading(out, "Coverage")
    table = Table(box=None, pad_edge=False, expand=True)
    table.add_column("input", no_wrap=True)
    table.add_column("status", no_wrap=True)
    table.add_column("where", no_wrap=True)
    table.add_column("by what", ratio=1, overflow="fold")
    for line in document.coverage:
        status = Text(line.status, style=_STATUS_STYLES.get(line.status, "dim"))
        table.add_row(line.input, status, " ".join(line.registers).upper(), Text(line.note))
    out.print(table)


def _notes(out: Console, document: MeasurementDocument) -> None:
    _heading(out, "Notes")
    table = Table(box=None, pad_edge=False, show_header=False, expand=True)
    table.add_column(no_wrap=True)
    table.add_column(ratio=1, overflow="fold")
    for note in document.notes:
        style = _LEVEL_STYLES[note.level]
        table.add_row(Text(note.level.upper(), style=style), Text(note.text, style=style))
    out.print(table)


def _registers(out: Console, document: MeasurementDocument) -> None:
    """Values whole: on one line where it fits or nobody watches, else in two halves."""
    _heading(out, "Registers")
    whole = not out.is_terminal or out.width >= len("RTMR0  ") + 96
    for name, value in document.registers.items():
        label = f"{name.upper():<7}"
        if value is None:
            reason = document.rules[name].reason or ""
            out.print(Text(f"{label}unpinned: {reason}", style="yellow"))
            continue
        style = "bold red" if value == _NOTHING else ""
        if whole:
            out.print(Text(label + value, style=style), soft_wrap=True)
        else:
            out.print(Text(f"{label}{value[:48]}\n{'':<7}{value[48:]}", style=style))
