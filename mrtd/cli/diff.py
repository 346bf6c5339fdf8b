"""``mrtd diff``: which input moved which register, from one release to the next."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from mrtd.release_diff import ReleaseDiff
    from mrtd.releases import ReleaseSide

_DESCRIPTION: Final = """\
Say what changed in the measurements from A to B, as release notes do: which
input moved which register, on which shapes of machine; what changed and is in
no register; what is covered otherwise. A and B are measurement documents
(mrtd measure --json), reference values (mrtd matrix), in-toto statements of
them, or Sigstore bundles. Signatures are not looked at: `mrtd verify` does.
"""
_EPILOG: Final = """\
examples:
  mrtd diff old.json new.json               for people
  mrtd diff v1.json v2.json --markdown      a section for release notes
  mrtd diff v1.sigstore.json v2.sigstore.json --json

Two files of one shape each are compared whatever the shapes are called; else
shapes are found by name. Measurement documents know their events, and so say
more precisely than reference values what a register moved with.

exit codes: 0 nothing differs; 1 something does; 2 bad input
"""


def add_to(verbs: argparse._SubParsersAction[argparse.ArgumentParser], summary: str) -> None:
    """Add the verb, with its line in the list of verbs."""
    verb = verbs.add_parser(
        "diff",
        help=summary,
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    verb.add_argument("before", metavar="A", type=Path, help="the older one")
    verb.add_argument("after", metavar="B", type=Path, help="the newer one")
    form = verb.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print the difference as JSON")
    form.add_argument("--markdown", action="store_true", help="print it as Markdown")
    verb.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Compare and print; the exit code."""
    from mrtd.release_diff import diff_releases  # noqa: PLC0415
    from mrtd.releases import load_release  # noqa: PLC0415

    diff = diff_releases(load_release(arguments.before), load_release(arguments.after))
    if arguments.json:
        from mrtd.document import encode  # noqa: PLC0415

        sys.stdout.write(encode(_json(diff)).decode())
    elif arguments.markdown:
        from mrtd.release_notes import markdown  # noqa: PLC0415

        sys.stdout.write(markdown(diff))
    else:
        from mrtd.cli.diff_tables import print_diff  # noqa: PLC0415

        print_diff(diff)
    return 0 if diff.same else 1


def _json(diff: ReleaseDiff) -> dict[str, Any]:
    """Schema ``mrtd.diff/1``."""
    from mrtd import __version__  # noqa: PLC0415

    return {
        "schema": "mrtd.diff/1",
        "tool": {"name": "mrtd", "version": __version__},
        "before": _side(diff.before),
        "after": _side(diff.after),
        "same": diff.same,
        "shapes": diff.shapes,
        "added": diff.added,
        "removed": diff.removed,
        "artifacts": diff.artifacts,
        "lifecycle": diff.lifecycle,
    }


def _side(side: ReleaseSide) -> dict[str, Any]:
    release = None if side.values is None else side.values.release
    return {"origin": side.origin, "shapes": list(side.shapes), "release": release}
