"""``python -m ci``: the jobs of this repository that have a command line.

One module per verb, imported when it is named; it has ``add_to(verbs, summary)`` like the verbs of
`mrtd.cli`. A further job is one more line of `VERBS`.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from typing import Final

from mrtd.cli.run import run_verb

# Verb -> module, summary
VERBS: Final[dict[str, tuple[str, str]]] = {
    "ita": ("ci.ita_command", "have a quote appraised by Intel Trust Authority"),
    "challenge": ("ci.challenge_command", "ask a runner that nobody believes for evidence"),
    "respond": ("ci.respond_command", "launch a TD for a challenge, and answer it"),
    "appraise": ("ci.appraise_command", "verify the answer to a challenge"),
    "crosscheck": ("ci.crosscheck_command", "check a derivation against a launch"),
    "addon": ("ci.addon_command", "launch a real image with the measuring agent in it"),
    "images": ("ci.images.command", "build example disk images from Debian packages"),
    "doctor": ("ci.doctor", "say what this host lacks for launching TDs"),
}
_EPILOG: Final = """\
exit codes:
  0  done                          2  wrong usage or bad input
  1  the answer is no              3  could not be checked (tool or network)
  130  interrupted                 141  whoever reads the output has gone
"""


def parser(*known: str) -> argparse.ArgumentParser:
    """The command line; of the verbs only the named ones are imported and know their options."""
    top = argparse.ArgumentParser(
        prog="python -m ci",
        description="Jobs of this repository.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    verbs = top.add_subparsers(dest="verb", metavar="VERB", required=True)
    for name, (module, summary) in VERBS.items():
        if name in known:
            importlib.import_module(module).add_to(verbs, summary)
        else:
            verbs.add_parser(name, help=summary)
    return top


def main(argv: list[str] | None = None) -> int:
    """Run a command line; the exit code."""
    words = sys.argv[1:] if argv is None else argv
    arguments = parser(*words[:1]).parse_args(words)
    return run_verb("ci", arguments)


if __name__ == "__main__":
    sys.exit(main())
