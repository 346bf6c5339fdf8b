"""``mrtd``: the command line. One module per verb; heavy imports happen when a verb runs."""

from __future__ import annotations

import argparse
import os
import sys
from typing import Final

from mrtd import __version__
from mrtd.cli import inspect, measure
from mrtd.errors import InputError, MrtdError

_EPILOG: Final = """\
exit codes:
  0  done                          2  wrong usage or bad input
  1  mismatch, or --strict failed  3  could not be checked (tool or network)

An MRTD names the firmware only. What identifies an image is MRTD, RTMR0, RTMR1 and RTMR2
together; `mrtd measure` shows which input ends up in which.
"""


def parser() -> argparse.ArgumentParser:
    """The whole command line."""
    top = argparse.ArgumentParser(
        prog="mrtd",
        description="Derive, explain and compare the launch measurements of Intel TDX guests.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    top.add_argument("--version", action="version", version=f"mrtd {__version__}")
    verbs = top.add_subparsers(dest="verb", metavar="VERB", required=True)
    measure.add_to(verbs)
    inspect.add_to(verbs)
    return top


def main(argv: list[str] | None = None) -> int:
    """Run a command line; the exit code."""
    arguments = parser().parse_args(argv)
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
