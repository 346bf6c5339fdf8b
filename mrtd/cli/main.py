"""``mrtd``: the command line. One module per verb; heavy imports happen when a verb runs."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from typing import Final

from mrtd import __version__
from mrtd.cli.run import run_verb

VERBS: Final = {
    "measure": "derive MRTD and RTMR0-2 of a launch spec",
    "matrix": "derive a launch on many shapes of machine, at once",
    "inspect": "show what a firmware or kernel file is",
    "merge": "join the documents of several jobs, unless they disagree",
    "evidence": "collect, pack, show and redact evidence of a boot",
    "compare": "compare expected and observed measurements, event by event",
    "diff": "say which input moved which register, from A to B",
    "audit": "say which input of a launch no register covers, and what to do",
    "rederive": "derive a release's figures again from its inputs, and compare",
    "explain": "say why evidence is not what was expected",
    "verify": "may this VM in? a token, quote or bundle in, a verdict out",
    "workloads": "containers that run here, and who signed their images",
    "trust": "show the root of trust for signatures, or fetch it anew",
    "serve": "answer control planes over HTTP: may this VM in?",
    "completion": "print what makes a shell complete all of this",
}
_EPILOG: Final = """\
exit codes:
  0  done                          2  wrong usage or bad input
  1  mismatch, or --strict failed  3  could not be checked (tool or network)
  130  interrupted                 141  whoever reads the output has gone

An MRTD names the firmware only. What identifies an image is MRTD, RTMR0, RTMR1
and RTMR2 together; `mrtd measure` shows which input ends up in which.
"""


def parser(*known: str) -> argparse.ArgumentParser:
    """The command line; of the verbs only the named ones are imported and know their options."""
    top = argparse.ArgumentParser(
        prog="mrtd",
        description="Derive, explain and compare the launch measurements of Intel TDX guests.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    top.add_argument("-V", "--version", action="version", version=f"mrtd {__version__}")
    verbs = top.add_subparsers(dest="verb", metavar="VERB", required=True)
    for name, summary in VERBS.items():
        if name in known:
            importlib.import_module(f"mrtd.cli.{name}").add_to(verbs, summary)
        else:
            verbs.add_parser(name, help=summary)
    return top


def main(argv: list[str] | None = None) -> int:
    """Run a command line; the exit code."""
    words = sys.argv[1:] if argv is None else argv
    if sys.stdout is None:  # closed by who started us: the exit code is still an answer
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123, SIM115
    if not words:
        top = parser()
        top.print_help(sys.stderr)
        top.exit(2)
    arguments = parser(words[0]).parse_args(words)
    return run_verb("mrtd", arguments)


if __name__ == "__main__":
    sys.exit(main())
