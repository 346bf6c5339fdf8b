"""``mrtd``: the command line. One module per verb; heavy imports happen when a verb runs."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from contextlib import suppress
from functools import partial
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
    "workloads": "containers that run here, and who signed their images",
    "trust": "show the root of trust for signatures, or fetch it anew",
    "serve": "answer control planes over HTTP: may this VM in?",
}
_EPILOG: Final = """\
exit codes:
  0  done                          2  wrong usage or bad input
  1  mismatch, or --strict failed  3  could not be checked (tool or network)
  130  interrupted                 141  whoever reads the output has gone

An MRTD names the firmware only. What identifies an image is MRTD, RTMR0, RTMR1
and RTMR2 together; `mrtd measure` shows which input ends up in which.
"""
BROKEN_PIPE: Final = 128 + 13
"""Exit code when nobody reads the output: neither yes nor no (as of a shell, 128 + SIGPIPE)."""


def parser(verb: str | None) -> argparse.ArgumentParser:
    """The command line; of the verbs only the named one is imported and knows its options."""
    top = argparse.ArgumentParser(
        prog="mrtd",
        description="Derive, explain and compare the launch measurements of Intel TDX guests.",
        epilog=_EPILOG,
        # with an indent of 2, names of nine letters would stand alone in their lines
        formatter_class=partial(argparse.RawDescriptionHelpFormatter, indent_increment=1),
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
    """Run a command line; the exit code.

    Only a verb that has said all it had to say ends with 0 or 1: these are answers.
    """
    words = sys.argv[1:] if argv is None else argv
    if sys.stdout is None:  # closed by who started us: the exit code is still an answer
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123, SIM115
    if not words:
        top = parser(None)
        top.print_help(sys.stderr)
        top.exit(2)
    arguments = parser(words[0]).parse_args(words)
    try:
        code: int = arguments.run(arguments)
        sys.stdout.flush()
    except MrtdError as error:
        _report(error, as_json=arguments.json)
        return error.exit_code
    except BrokenPipeError:
        _discard_output()
        return BROKEN_PIPE
    except KeyboardInterrupt:
        sys.stderr.write("mrtd: interrupted\n")
        return 130
    except Exception as error:  # noqa: BLE001 - a defect is no refusal, which Python's 1 would be
        _discard_output()
        if isinstance(error, OSError) and error.filename is None:  # no file of ours: the output
            sys.stderr.write(f"mrtd: error: cannot write the output: {error.strerror}\n")
        else:
            sys.excepthook(type(error), error, error.__traceback__)
        return MrtdError.exit_code
    return code


def _discard_output() -> None:
    """What is left in the buffer must not fail again when the interpreter ends."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _report(error: MrtdError, *, as_json: bool) -> None:
    """Say what is wrong, if somebody reads it."""
    try:
        sys.stderr.write(f"mrtd: error: {error.message}\n")
        if error.hint:
            sys.stderr.write(f"mrtd: hint: {error.hint}\n")
        if as_json:
            _report_json(error)
        sys.stdout.flush()
    except OSError:
        _discard_output()


def _report_json(error: MrtdError) -> None:
    from mrtd.document import encode  # noqa: PLC0415 - only on failure

    found = {"type": type(error).__name__, "message": error.message, "hint": error.hint}
    if isinstance(error, InputError):
        found |= {"origin": error.origin, "field": error.field}
        found |= {"offset": None if error.offset is None else str(error.offset)}
    sys.stdout.write(encode({"error": found}).decode())


if __name__ == "__main__":
    sys.exit(main())
