"""``python -m ci``: the jobs of this repository that have a command line.

One module per verb, imported when it is named; it has ``add_to(verbs, summary)`` like the verbs of
`mrtd.cli`. A further job is one more line of `VERBS`.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from typing import Final

from mrtd.errors import MrtdError

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
"""


def parser(verb: str | None) -> argparse.ArgumentParser:
    """The command line; of the verbs only the named one is imported and knows its options."""
    top = argparse.ArgumentParser(
        prog="python -m ci",
        description="Jobs of this repository.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    verbs = top.add_subparsers(dest="verb", metavar="VERB", required=True)
    for name, (module, summary) in VERBS.items():
        if name == verb:
            importlib.import_module(module).add_to(verbs, summary)
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
        _report(error, as_json=getattr(arguments, "json", False))
        return error.exit_code
    except BrokenPipeError:
        # whoever read the output has gone; the interpreter's own flush at exit must not complain
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        sys.stderr.write("ci: interrupted\n")
        return 130
    return code


def _report(error: MrtdError, *, as_json: bool) -> None:
    sys.stderr.write(f"ci: error: {error.message}\n")
    if error.hint:
        sys.stderr.write(f"ci: hint: {error.hint}\n")
    if as_json:
        from mrtd.document import encode  # noqa: PLC0415 - only on failure

        found = {"type": type(error).__name__, "message": error.message, "hint": error.hint}
        sys.stdout.write(encode({"error": found}).decode())


if __name__ == "__main__":
    sys.exit(main())
