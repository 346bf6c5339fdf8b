"""``mrtd``: the command line. One module per verb; heavy imports happen when a verb runs."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from typing import Final

from mrtd import __version__
from mrtd.errors import InputError, MrtdError

VERBS: Final = {
    "measure": "derive MRTD and RTMR0-2 of a launch spec",
    "inspect": "show what a firmware or kernel file is",
    "evidence": "collect, pack, show and redact evidence of a boot",
    "compare": "compare expected and observed measurements, event by event",
    "explain": "say why evidence is not what was expected",
    "verify": "may this VM in? a token, quote or bundle in, a verdict out",
    "trust": "show the root of trust for signatures, or fetch it anew",
    "serve": "answer control planes over HTTP: may this VM in?",
}
_EPILOG: Final = """\
exit codes:
  0  done                          2  wrong usage or bad input
  1  mismatch, or --strict failed  3  could not be checked (tool or network)

An MRTD names the firmware only. What identifies an image is MRTD, RTMR0, RTMR1 and RTMR2
together; `mrtd measure` shows which input ends up in which.
"""


def parser(verb: str | None) -> argparse.ArgumentParser:
    """The command line; of the verbs only the named one is imported and knows its options."""
    top = argparse.ArgumentParser(
        prog="mrtd",
        description="Derive, explain and compare the launch measurements of Intel TDX guests.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    top.add_argument("--version", action="version", version=f"mrtd {__version__}")
    verbs = top.add_subparsers(dest="verb", metavar="VERB", required=True)
    for name, summary in VERBS.items():
        if name == verb:
            importlib.import_module(f"mrtd.cli.{name}").add_to(verbs, summary)
        else:
            verbs.add_parser(name, help=summary)
    return top


def main(argv: list[str] | None = None) -> int:
    """Run a command line; the exit code."""
    words = sys.argv[1:] if argv is None else argv
    arguments = parser(words[0] if words else None).parse_args(words)
    try:
        code: int = arguments.run(arguments)
        sys.stdout.flush()
    except MrtdError as error:
        _report(error, as_json=arguments.json)
        return error.exit_code
    except BrokenPipeError:
        # whoever read the output has gone; the interpreter's own flush at exit must not complain
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        sys.stderr.write("mrtd: interrupted\n")
        return 130
    return code


def _report(error: MrtdError, *, as_json: bool) -> None:
    sys.stderr.write(f"mrtd: error: {error.message}\n")
    if error.hint:
        sys.stderr.write(f"mrtd: hint: {error.hint}\n")
    if as_json:
        from mrtd.document import encode  # noqa: PLC0415 - only on failure

        found = {"type": type(error).__name__, "message": error.message, "hint": error.hint}
        if isinstance(error, InputError):
            found |= {"origin": error.origin, "field": error.field}
            found |= {"offset": None if error.offset is None else str(error.offset)}
        sys.stdout.write(encode({"error": found}).decode())


if __name__ == "__main__":
    sys.exit(main())
