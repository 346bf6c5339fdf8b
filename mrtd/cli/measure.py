"""``mrtd measure``: derive the measurements of a launch."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from mrtd.document import MeasurementDocument
    from mrtd.expectation import Comparison, Expectation

_DESCRIPTION: Final = """\
Derive MRTD and RTMR0-2 of the TD that a launch spec describes, event by event,
from its firmware, kernel, initrd, command line and machine. Nothing is launched
and no TDX hardware is needed; where the spec gives no ACPI tables, the
installed QEMU is started stopped and asked for them.
"""
_EPILOG: Final = """\
examples:
  mrtd measure launch.toml                  the tables, for people
  mrtd measure launch.toml --json           the measurement document
  mrtd measure launch.toml --expect r.json  exit 1 and the first differing event
  mrtd measure launch.toml --expect mrtd=bdc6fb14...
                                            compare one register (96 hex digits)
  mrtd measure launch.toml --strict         exit 1 if a register says nothing
  mrtd measure launch.toml --qemu none      do not ask QEMU: RTMR0 is unpinned
  virsh dumpxml td | mrtd measure --libvirt - --vmm-version 10.1.0
                                            a libvirt domain
  mrtd measure --qemu-cmdline /proc/4711/cmdline --vmm-version 10.1.0 \\
      --print-spec                          a running QEMU, as a launch spec

docs/launch-spec.md describes the spec; docs/machines.md domains and command
lines.
"""


def add_to(verbs: argparse._SubParsersAction[argparse.ArgumentParser], summary: str) -> None:
    """Add the verb, with its line in the list of verbs."""
    verb = verbs.add_parser(
        "measure",
        help=summary,
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    from mrtd.cli.machines import add_machine_options  # noqa: PLC0415

    add_machine_options(verb)
    verb.add_argument(
        "--print-spec",
        action="store_true",
        help="print the launch as a spec and measure nothing; with --json: and what became of "
        "each argument",
    )
    verb.add_argument("--json", action="store_true", help="print the measurement document")
    verb.add_argument("--output", metavar="FILE", type=Path, help="write the document to FILE, too")
    verb.add_argument(
        "--expect",
        metavar="FILE|HEX",
        help="compare with a document, with REGISTER=HEX, or with a value of any register",
    )
    verb.add_argument(
        "--strict", action="store_true", help="exit 1 if a register is unpinned or empty"
    )
    verb.add_argument("--quiet", action="store_true", help="print the registers only")
    verb.add_argument(
        "--target",
        choices=("cc", "tpm"),
        default="cc",
        help="cc: what a TD extends (default); tpm: what the firmware extends into a TPM "
        "of a VM without TDX",
    )
    verb.add_argument(
        "--qemu",
        metavar="PATH|none",
        help="the QEMU to ask for ACPI tables (default: qemu-system-x86_64); none: do not ask",
    )
    verb.add_argument(
        "--vars",
        metavar="FILE",
        type=Path,
        help="variable store to put in front of a firmware that holds the code only",
    )
    verb.add_argument(
        "--timeout", metavar="SECONDS", type=float, default=120.0, help="for QEMU (default: 120)"
    )
    verb.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Measure, print, compare; the exit code."""
    from mrtd.cli.machines import print_spec, read_machine  # noqa: PLC0415
    from mrtd.cli.output import Progress, write_whole  # noqa: PLC0415
    from mrtd.measure import MeasureOptions, measure  # noqa: PLC0415
    from mrtd.registers import Target  # noqa: PLC0415

    expected = None if arguments.expect is None else _expectation(arguments.expect)
    progress = Progress(quiet=arguments.quiet)
    ask = arguments.qemu != "none"
    options = MeasureOptions(
        target=Target(arguments.target),
        qemu=Path(arguments.qemu) if ask and arguments.qemu else None,
        ask_qemu=ask,
        vars=arguments.vars,
        timeout=arguments.timeout,
    )
    try:
        reading, folder = read_machine(arguments)
        if arguments.print_spec:
            print_spec(reading, as_json=arguments.json)
            return 0
        derivation = measure(reading.spec, folder, options, progress=progress)
    finally:
        progress.clear()
    from mrtd.document import encode, to_document  # noqa: PLC0415

    document = to_document(derivation)
    comparison = None if expected is None else _compare(expected, document)
    if arguments.output is not None:
        write_whole(arguments.output, encode(document))
    if arguments.json:
        sys.stdout.write(encode(_with_comparison(document, comparison)).decode())
    else:
        from mrtd.cli.tables import print_comparison, print_measurement  # noqa: PLC0415

        print_measurement(document, quiet=arguments.quiet)
        if comparison is not None:
            print_comparison(comparison)
    return _verdict(document, comparison, strict=arguments.strict)


def _expectation(text: str) -> Expectation:
    from mrtd.expectation import expectation_of_value, is_value, read_expectation  # noqa: PLC0415
    from mrtd.launch.inputs import read_file  # noqa: PLC0415

    if is_value(text):
        return expectation_of_value(text)
    hint = "a measurement document, or REGISTER=VALUE or VALUE, which has 96 hex digits"
    return read_expectation(read_file(Path(text), key="--expect", hint=hint), origin=text)


def _compare(expected: Expectation, document: MeasurementDocument) -> Comparison:
    from mrtd.expectation import compare  # noqa: PLC0415

    return compare(expected, document)


def _with_comparison(document: MeasurementDocument, comparison: Comparison | None) -> object:
    if comparison is None:
        return document
    import msgspec  # noqa: PLC0415

    fields: dict[str, Any] = msgspec.to_builtins(document)
    return {**fields, "comparison": comparison}


def _verdict(document: MeasurementDocument, comparison: Comparison | None, *, strict: bool) -> int:
    failures: list[str] = []
    if comparison is not None and not comparison.matches:
        failures.append(f"does not match {comparison.expected}")
        if comparison.first_difference:
            failures.append(f"first difference: {comparison.first_difference}")
        failures.extend(f"{name}: {reason}" for name, reason in comparison.reasons.items())
    unpinned = [name for name, value in document.registers.items() if value is None]
    empty = [name for name, value in document.registers.items() if value == "00" * 48]
    if strict and unpinned:
        failures.append(f"--strict: {', '.join(unpinned)} not pinned")
    if strict and empty:
        failures.append(f"--strict: nothing is extended into {', '.join(empty)}")
    for line in failures:
        sys.stderr.write(f"mrtd: {line}\n")
    return 1 if failures else 0
