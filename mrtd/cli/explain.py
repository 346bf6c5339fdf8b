"""``mrtd explain``: why evidence is not what was expected."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from mrtd.cli.sides import add_options, load, measure_options

if TYPE_CHECKING:
    from mrtd.explain.acpi import AcpiCandidate, AskQemu
    from mrtd.explain.hypotheses import Known
    from mrtd.measure import Progress
    from mrtd.side import Side

_DESCRIPTION: Final = """\
Say why evidence is what it is. With --expect, look for the fewest changes of
the expectation that make every register fit: page order, firmware profile,
patched or plain kernel header, memory size, Secure Boot, command line and
initrd, ACPI tables. Without it, name what can be recognised by its digest.
"""
_EPILOG: Final = """\
examples:
  mrtd explain CCEL                              what is in an event log
  mrtd explain quote.bin CCEL --expect launch.toml
                                                 which hypothesis makes it fit
  mrtd explain quote.bin --expect launch.toml    the same without a log: whole
                                                 registers, slower, says less
  mrtd explain CCEL --expect launch.toml --acpi DIR
                                       try every etc/acpi/tables in DIR

An event log lets each event be explained on its own. The installed QEMU is
asked for the ACPI tables of other machines (hpet, phys-bits, vCPUs, ...) only
where RTMR0 does not fit otherwise; --qemu none forbids it.

exit codes: 0 explained, or nothing was expected; 1 something fits no
hypothesis; 2 bad input
"""


def add_to(verbs: argparse._SubParsersAction[argparse.ArgumentParser], summary: str) -> None:
    """Add the verb, with its line in the list of verbs."""
    verb = verbs.add_parser(
        "explain",
        help=summary,
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    verb.add_argument(
        "observed",
        metavar="OBSERVED",
        type=Path,
        nargs="+",
        help="event log, quote, quote and event log of one boot, or evidence bundle",
    )
    verb.add_argument(
        "--expect",
        metavar="FILE",
        type=Path,
        help="what was expected: a launch spec with its files, or any other side of a comparison",
    )
    verb.add_argument(
        "--acpi",
        metavar="DIR",
        type=Path,
        help="folder of copies of etc/acpi/tables, each named for what made it",
    )
    add_options(verb)
    verb.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Explain and print; the exit code."""
    from mrtd.cli.output import Progress  # noqa: PLC0415
    from mrtd.explain.acpi import candidates_of_folder  # noqa: PLC0415
    from mrtd.explain.explanation import explain  # noqa: PLC0415

    progress = Progress(quiet=arguments.quiet)
    try:
        acpi = () if arguments.acpi is None else candidates_of_folder(arguments.acpi)
        observed = load(arguments.observed, arguments, progress)
        expected, known, ask = _expected(arguments, acpi, progress)
        progress("trying hypotheses")
        explanation = explain(observed, expected, known=known, acpi=acpi, ask=ask)
    finally:
        progress.clear()
    if arguments.json:
        from mrtd.comparison_document import explanation_document  # noqa: PLC0415
        from mrtd.document import encode  # noqa: PLC0415

        sys.stdout.write(encode(explanation_document(explanation)).decode())
    else:
        from mrtd.cli.compare_tables import print_explanation  # noqa: PLC0415

        print_explanation(explanation, quiet=arguments.quiet)
    return 0 if explanation.explained or arguments.expect is None else 1


def _expected(
    arguments: argparse.Namespace, acpi: tuple[AcpiCandidate, ...], progress: Progress
) -> tuple[Side | None, Known | None, AskQemu | None]:
    """The expectation; with a launch spec also its files, and the QEMU for other machines."""
    path: Path | None = arguments.expect
    if path is None:
        return None, None, None
    from mrtd.sources import is_spec_file, side_of_derivation  # noqa: PLC0415

    if not is_spec_file(path):
        return load([path], arguments, progress), None, None
    from mrtd.explain.ask import qemu_asker  # noqa: PLC0415
    from mrtd.explain.hypotheses import known_launch  # noqa: PLC0415
    from mrtd.launch.inputs import load_inputs  # noqa: PLC0415
    from mrtd.launch.spec import read_spec_file  # noqa: PLC0415
    from mrtd.measure import measure  # noqa: PLC0415

    options = measure_options(arguments)
    spec = read_spec_file(path)
    derivation = measure(spec, path.parent, options, progress=progress)
    known = known_launch(derivation, load_inputs(spec, path.parent), acpi)
    side = side_of_derivation(derivation, origin=str(path))
    return side, known, qemu_asker(derivation.firmware.profile, options)
