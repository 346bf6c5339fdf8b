"""``mrtd rederive``: derive a release's figures again from its inputs."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from mrtd.cli.sides import add_qemu, measure_options

if TYPE_CHECKING:
    from mrtd.rederive import Rederived

_DESCRIPTION: Final = """\
Derive everything that a reference-values document says again, from the files
that it was derived from, and compare: registers, components, coverage. The
files are found by their digests, whatever they are called, in INPUTS_DIR and
below. Anyone who has them can make this check; it needs no TDX hardware and
trusts neither the signature nor the signer. (`mrtd verify` asks who signed.)
"""
_EPILOG: Final = """\
examples:
  mrtd rederive reference.json inputs/      the document of mrtd matrix --output
  mrtd rederive mrtd-v1.sigstore.json inputs/
                                            a release's bundle or its statement
  mrtd rederive reference.json inputs/ --shape q35-2cpu-2gib
  mrtd rederive reference.json inputs/ --acpi blobs
                                            blobs of mrtd matrix --save-acpi,
                                            where that QEMU is not at hand

MATCH: derived the same. DIFFERS: did not; what would explain it is said.
NOT CHECKED: an input is missing (which digest is said), or the document's ACPI
tables come from a QEMU version that is not installed here.
The launch specs in the document tell QEMU its machine: look at documents of
strangers with `--qemu none` first.

exit codes: 0 all match; 1 something differs; 2 bad input; 3 none differs, and
something could not be checked
"""


def add_to(verbs: argparse._SubParsersAction[argparse.ArgumentParser], summary: str) -> None:
    """Add the verb, with its line in the list of verbs."""
    verb = verbs.add_parser(
        "rederive",
        help=summary,
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    verb.add_argument(
        "document", metavar="DOCUMENT", type=Path,
        help="reference values, a statement or bundle of them, or a measurement document",
    )  # fmt: skip
    verb.add_argument("inputs", metavar="INPUTS_DIR", type=Path, help="folder with the inputs")
    verb.add_argument("--json", action="store_true", help="print the result as JSON")
    verb.add_argument("--quiet", action="store_true", help="print what is no match only")
    verb.add_argument(
        "--shape", metavar="NAME", action="append", default=[], help="only this one; repeatable"
    )
    verb.add_argument(
        "--acpi", metavar="FOLDER", type=Path, help="ACPI blobs, FOLDER/SHAPE/tables; no QEMU"
    )
    add_qemu(verb)
    verb.set_defaults(run=run, target="cc")


def run(arguments: argparse.Namespace) -> int:
    """Derive, compare, print; the exit code."""
    from mrtd.cli.output import Progress  # noqa: PLC0415
    from mrtd.errors import SpecError  # noqa: PLC0415
    from mrtd.input_folder import InputFolder  # noqa: PLC0415
    from mrtd.launch.inputs import read_file  # noqa: PLC0415
    from mrtd.rederive import Request, Status, rederive  # noqa: PLC0415
    from mrtd.releases import read_artifacts, read_launches  # noqa: PLC0415

    data, origin = read_file(arguments.document, key="DOCUMENT"), str(arguments.document)
    launches = read_launches(data, origin=origin)
    wanted = tuple(one for one in launches if not arguments.shape or one.shape in arguments.shape)
    unknown = set(arguments.shape) - {one.shape for one in launches}
    if unknown or not wanted:
        raise SpecError(
            f"has no launch {min(unknown)!r}" if unknown else "has no launches",
            origin=origin, field="--shape" if unknown else None,
            hint=f"it has {', '.join(one.shape for one in launches)}" if launches else None,
        )  # fmt: skip
    request = Request(
        launches=wanted,
        artifacts=read_artifacts(data, origin=origin),
        origin=origin,
        options=measure_options(arguments),
        acpi=arguments.acpi,
    )
    progress = Progress(quiet=arguments.quiet)
    try:
        results = rederive(request, InputFolder(arguments.inputs), progress=progress)
    finally:
        progress.clear()
    if arguments.json:
        from mrtd.document import encode  # noqa: PLC0415

        sys.stdout.write(encode(_json(results, origin)).decode())
    else:
        from mrtd.cli.rederive_tables import print_rederived  # noqa: PLC0415

        print_rederived(results, quiet=arguments.quiet)
    statuses = {one.status for one in results}
    return 1 if Status.DIFFERS in statuses else 3 if Status.NOT_CHECKED in statuses else 0


def _json(results: tuple[Rederived, ...], origin: str) -> dict[str, Any]:
    """Schema ``mrtd.rederived/1``."""
    from mrtd import __version__  # noqa: PLC0415
    from mrtd.comparison_document import explanation_document  # noqa: PLC0415

    return {
        "schema": "mrtd.rederived/1",
        "tool": {"name": "mrtd", "version": __version__},
        "document": origin,
        "launches": [
            {
                "shape": one.shape,
                "status": one.status,
                "reasons": one.reasons,
                "missing": one.missing,
                "registers": one.registers,
                "explanation": None
                if one.explanation is None
                else explanation_document(one.explanation),
            }
            for one in results
        ],
    }
