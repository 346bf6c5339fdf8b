"""``mrtd compare``: what is expected against what was observed."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from mrtd.cli.sides import add_options, load

if TYPE_CHECKING:
    from mrtd.compare import Comparison

_DESCRIPTION: Final = """\
Compare what is expected of a launch with what was observed, register by
register and event by event, and say of every difference what it depends on.
Each side is a launch spec, a measurement document, an event log (CCEL, or
binary_bios_measurements of a TPM), a TDX quote, or an evidence bundle; what
a file is follows from its content.
"""
_EPILOG: Final = """\
examples:
  mrtd compare launch.toml CCEL             RTMR0-2, event by event
  mrtd compare launch.toml quote.bin        the registers of a quote
  mrtd compare launch.toml quote.bin CCEL   quote and log of one boot: the log
                                            explains, if it folds to the quote
  mrtd compare old.json new.json            two measurement documents
  mrtd compare launch.toml bundle.zip --html report.html

A register matches, differs, or is not compared, which is no match. An event
log has no MRTD. Where something differs, `mrtd explain` looks for the reason.

exit codes: 0 everything that was compared matches; 1 something differs, or
(--strict) was not compared; 2 bad input; 3 nothing could be compared
"""


def add_to(verbs: argparse._SubParsersAction[argparse.ArgumentParser], summary: str) -> None:
    """Add the verb, with its line in the list of verbs."""
    verb = verbs.add_parser(
        "compare",
        help=summary,
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    verb.add_argument("expected", metavar="EXPECTED", type=Path, help="what is expected")
    verb.add_argument(
        "observed",
        metavar="OBSERVED",
        type=Path,
        nargs="+",
        help="what was observed; quote and event log of one boot may be two files",
    )
    verb.add_argument("--html", metavar="FILE", type=Path, help="write a report to FILE, too")
    verb.add_argument(
        "--strict",
        action="store_true",
        help="exit 1 unless MRTD and RTMR0-2 (or all registers of a TPM) were compared and match",
    )
    add_options(verb)
    verb.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Compare and print; the exit code."""
    from mrtd.cli.output import Progress, write_whole  # noqa: PLC0415
    from mrtd.compare import compare_sides  # noqa: PLC0415

    progress = Progress(quiet=arguments.quiet)
    try:
        expected = load([arguments.expected], arguments, progress)
        observed = load(arguments.observed, arguments, progress)
    finally:
        progress.clear()
    comparison = compare_sides(expected, observed)
    if arguments.html is not None:
        from mrtd.report import write_html  # noqa: PLC0415

        write_whole(arguments.html, write_html(comparison).encode())
    if arguments.json:
        from mrtd.comparison_document import comparison_document  # noqa: PLC0415
        from mrtd.document import encode  # noqa: PLC0415

        sys.stdout.write(encode(comparison_document(comparison)).decode())
    else:
        from mrtd.cli.compare_tables import print_comparison  # noqa: PLC0415

        print_comparison(comparison, quiet=arguments.quiet)
    return _verdict(comparison, strict=arguments.strict)


def _verdict(comparison: Comparison, *, strict: bool) -> int:
    from mrtd.compare import Outcome  # noqa: PLC0415
    from mrtd.registers import LAUNCH_REGISTERS, Target  # noqa: PLC0415

    by_outcome = {
        outcome: [r.name for r in comparison.registers if r.outcome is outcome]
        for outcome in Outcome
    }
    skipped = by_outcome[Outcome.NOT_COMPARED]
    if comparison.target is Target.CC:
        # one that no side names was not compared either
        compared = by_outcome[Outcome.MATCH] + by_outcome[Outcome.DIFFERS]
        skipped = [name for name in LAUNCH_REGISTERS if name not in compared]
    failures = [f"{name.upper()} differs" for name in by_outcome[Outcome.DIFFERS]]
    if strict and skipped:
        failures.append(f"--strict: {', '.join(name.upper() for name in skipped)} not compared")
    for line in failures:
        sys.stderr.write(f"mrtd: {line}\n")
    if failures:
        return 1
    if not comparison.matches:
        sys.stderr.write("mrtd: nothing could be compared\n")
        return 3
    return 0
