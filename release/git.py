"""What git says of the release: its commit, and its number on the release branch."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from typing import Final

from mrtd.errors import SpecError, ToolFailed, ToolMissing

_SECONDS: Final = 60
_COMMIT: Final = re.compile("[0-9a-f]{40}")
_REMOTE: Final = re.compile(r"github\.com[:/]([A-Za-z0-9_.-]+/[A-Za-z0-9_.-]+?)(?:\.git)?/?")


def commit_of(folder: Path, name: str = "HEAD") -> str:
    """The commit behind a name. Raises `SpecError`, `ToolFailed`, `ToolMissing`."""
    try:
        found = _git(folder, "rev-parse", "--verify", "--end-of-options", f"{name}^{{commit}}")
    except SpecError as error:
        raise SpecError(
            f"{name[:80]!r} is no commit of this checkout ({error.message})",
            origin=str(folder),
            hint="git fetch it, or name one that git log shows",
        ) from error
    if _COMMIT.fullmatch(found) is None:
        raise ToolFailed(f"{found[:80]!r} is no commit", origin="git rev-parse")
    return found


def sequence_of(folder: Path, commit: str) -> int:
    """How many commits the release branch has up to one, following first parents only.

    Merging a branch adds one, however many commits it had, so that the number grows with every
    push to the branch and never goes back. A shallow clone has too few.

    Raises:
        SpecError: a shallow clone, or no such commit.
        ToolFailed: git fails.
        ToolMissing: there is no git.
    """
    if _git(folder, "rev-parse", "--is-shallow-repository") != "false":
        raise SpecError(
            "is a shallow clone, in which commits cannot be counted",
            origin=str(folder),
            hint="actions/checkout with fetch-depth: 0, or git fetch --unshallow",
        )
    count = _git(folder, "rev-list", "--first-parent", "--count", commit_of(folder, commit), "--")
    if not count.isdecimal() or int(count) == 0:
        raise ToolFailed(f"{count[:80]!r} is no count", origin="git rev-list")
    return int(count)


def branch_of(folder: Path) -> str:
    """The whole ref of the branch that is checked out. Raises `SpecError`."""
    return _git(folder, "symbolic-ref", "HEAD")


def repository_of(folder: Path) -> str:
    """``owner/name`` of the remote ``origin`` at github.com. Raises `SpecError`."""
    url = _git(folder, "remote", "get-url", "origin")
    found = _REMOTE.search(url)
    if found is None or found.end() != len(url):
        raise SpecError("origin is no repository of github.com", origin=str(folder))
    return found[1]


def _git(folder: Path, *arguments: str) -> str:
    """What git prints. Its own environment variables would lead it to another repository."""
    environment = {k: v for k, v in os.environ.items() if k in {"PATH", "HOME", "LANG"}}
    # a checkout in a container belongs to another user than the one who runs there
    command = ["git", "-c", f"safe.directory={folder.resolve()}", "-C", str(folder), *arguments]
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            check=False,
            env={**environment, "GIT_TERMINAL_PROMPT": "0"},
            stdin=subprocess.DEVNULL,
            timeout=_SECONDS,
        )
    except FileNotFoundError as error:
        raise ToolMissing("git is not installed", hint="apt-get install git") from error
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ToolFailed(f"git gave no answer: {type(error).__name__}", origin="git") from error
    if done.returncode:
        lines = done.stderr.decode("utf-8", "replace").strip().splitlines() or ["no message"]
        raise SpecError(f"git {arguments[0]}: {lines[0][:300]}", origin=str(folder))
    return done.stdout.decode("utf-8", "replace").strip()
