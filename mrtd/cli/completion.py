"""``mrtd completion``: a script that makes a shell complete verbs, options and files."""

from __future__ import annotations

import argparse
import sys
from typing import Final

_EPILOG: Final = """\
examples:
  bash  mrtd completion bash > ~/.local/share/bash-completion/completions/mrtd
  zsh   mrtd completion zsh > ~/.zfunc/_mrtd       (a folder of $fpath)
  tcsh  mrtd completion tcsh > ~/.mrtd.tcsh        (and source it)
"""


def add_to(verbs: argparse._SubParsersAction[argparse.ArgumentParser], summary: str) -> None:
    """Add the verb, with its line in the list of verbs."""
    verb = verbs.add_parser(
        "completion",
        help=summary,
        description="Print a completion script; it calls nothing when it completes.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    verb.add_argument("shell", choices=("bash", "zsh", "tcsh"), help="the shell")
    verb.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Print the script; the exit code."""
    import shtab  # noqa: PLC0415 - only for this

    from mrtd.cli.main import VERBS, parser  # noqa: PLC0415 - which imports this

    top = parser(*VERBS)
    _complete_files(top)
    script = shtab.complete(top, shell=arguments.shell)
    sys.stdout.write(script if script.endswith("\n") else f"{script}\n")
    return 0


def _complete_files(parser: argparse.ArgumentParser) -> None:
    """What takes a path is completed with paths."""
    import shtab  # noqa: PLC0415

    for action in parser._actions:  # noqa: SLF001 - argparse shows its options in no other way
        if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001
            for below in action.choices.values():
                _complete_files(below)
        elif action.choices is None and action.nargs != 0:
            action.complete = shtab.FILE  # type: ignore[attr-defined]
