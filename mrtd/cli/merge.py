"""``mrtd merge``: the documents of several jobs as one."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from mrtd.merge import Merged

_DESCRIPTION: Final = """\
Join reference-values documents of one release, such as the jobs of a matrix
make (`mrtd matrix --part`), into one. Documents that contradict each other are
refused, with all that is wrong: another release, commit or version of mrtd;
other firmware, kernel, initrd, command line or disks; other figures for the
same shape; and shapes that the plan has and no document, or the other way.
"""
_EPILOG: Final = """\
examples:
  mrtd matrix launch.toml --vcpus 2,4 --plan > plan.json
  mrtd matrix launch.toml --vcpus 2,4 --part 1/2 --output 1.json
  mrtd matrix launch.toml --vcpus 2,4 --part 2/2 --output 2.json
  mrtd merge 1.json 2.json --plan plan.json --out reference.json

Without --plan nobody knows which shapes are missing, and it is said so.
Each job writes its own time; the document has the latest. docs/matrix.md

exit codes: 0 merged; 1 they contradict each other, nothing is written; 2 bad
input
"""


def add_to(verbs: argparse._SubParsersAction[argparse.ArgumentParser], summary: str) -> None:
    """Add the verb, with its line in the list of verbs."""
    verb = verbs.add_parser(
        "merge",
        help=summary,
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    verb.add_argument(
        "documents", metavar="DOCUMENT", type=Path, nargs="+", help="of mrtd matrix --output"
    )
    verb.add_argument("--out", metavar="FILE", type=Path, required=True, help="what is written")
    verb.add_argument("--plan", metavar="FILE", type=Path, help="of mrtd matrix --plan")
    verb.add_argument("--json", action="store_true", help="print what came of it as JSON")
    verb.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Read, join, write; the exit code."""
    from mrtd.cli.output import write_whole  # noqa: PLC0415
    from mrtd.launch.inputs import read_file  # noqa: PLC0415
    from mrtd.merge import Document, merge  # noqa: PLC0415
    from mrtd.plan import read_plan  # noqa: PLC0415
    from mrtd.reference import encode_reference_values, read_reference_values  # noqa: PLC0415

    plan = None
    if arguments.plan is not None:
        plan = read_plan(read_file(arguments.plan, key="--plan"), origin=str(arguments.plan))
    documents = tuple(
        Document(
            read_reference_values(read_file(path, key="DOCUMENT"), origin=str(path)), str(path)
        )
        for path in arguments.documents
    )
    merged = merge(documents, plan)
    if merged.values is not None:
        write_whole(arguments.out, encode_reference_values(merged.values))
    _print(merged, arguments)
    return 1 if merged.values is None else 0


def _print(merged: Merged, arguments: argparse.Namespace) -> None:
    launches = () if merged.values is None else merged.values.launches
    count = len(arguments.documents)
    if arguments.json:
        from mrtd.document import encode  # noqa: PLC0415

        found: dict[str, Any] = {
            "schema": "mrtd.merge/1",
            "documents": [str(path) for path in arguments.documents],
            "plan": None if arguments.plan is None else str(arguments.plan),
            "shapes": [launch.shape for launch in launches],
            "contradictions": list(merged.contradictions),
        }
        sys.stdout.write(encode(found).decode())
    elif merged.values is None:
        for line in merged.contradictions:
            sys.stderr.write(f"mrtd: {line}\n")
        sys.stderr.write(f"mrtd: refused: {count} documents, nothing is written\n")
    else:
        all_of = "no plan: what is missing is not known"
        if arguments.plan is not None:
            all_of = "all that the plan has"
        sys.stdout.write(f"{len(launches)} shapes of {count} documents: {all_of}\n")
