"""Run a verb and say how it ended: every command line of the project ends the same way."""

from __future__ import annotations

import argparse
import os
import sys
from contextlib import suppress
from typing import Final

from mrtd.errors import InputError, MrtdError

BROKEN_PIPE: Final = 128 + 13
"""Exit code when nobody reads the output: neither yes nor no (as of a shell, 128 + SIGPIPE)."""


def run_verb(program: str, arguments: argparse.Namespace) -> int:
    """Run ``arguments.run``; the exit code.

    Only a verb that has said all it had to say ends with 0 or 1: these are answers.

    Args:
        program: what messages begin with.
        arguments: the command line; ``json`` asks for errors as JSON too.
    """
    try:
        code: int = arguments.run(arguments)
        sys.stdout.flush()
    except MrtdError as error:
        _report(program, error, as_json=getattr(arguments, "json", False))
        return error.exit_code
    except BrokenPipeError:
        _discard_output()
        return BROKEN_PIPE
    except KeyboardInterrupt:
        sys.stderr.write(f"{program}: interrupted\n")
        return 130
    except Exception as error:  # noqa: BLE001 - a defect is no refusal, which Python's 1 would be
        _discard_output()
        if isinstance(error, OSError) and error.filename is None:  # no file of ours: the output
            sys.stderr.write(f"{program}: error: cannot write the output: {error.strerror}\n")
        else:
            sys.excepthook(type(error), error, error.__traceback__)
        return MrtdError.exit_code
    return code


def _discard_output() -> None:
    """What is left in the buffer must not fail again when the interpreter ends."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _report(program: str, error: MrtdError, *, as_json: bool) -> None:
    """Say what is wrong, if somebody reads it."""
    try:
        sys.stderr.write(f"{program}: error: {error.message}\n")
        if error.hint:
            sys.stderr.write(f"{program}: hint: {error.hint}\n")
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
