"""Runs the programs that make file systems and disks, each with the same times and locale."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from ci.system import TOOLS, find_program
from mrtd.errors import ToolFailed, ToolMissing

EPOCH: Final = 1_700_000_000
"""The time of every file, second of 1970: even, as FAT counts in steps of two seconds."""

_SECONDS: Final = 120
_ENVIRONMENT: Final = {
    "LC_ALL": "C.UTF-8",
    "TZ": "UTC",
    "SOURCE_DATE_EPOCH": str(EPOCH),  # mtools, mkfs.vfat, mksquashfs
    "E2FSPROGS_FAKE_TIME": str(EPOCH),
    "MTOOLS_SKIP_CHECK": "1",
}
_PACKAGES: Final = {tool.program: tool.package for tool in TOOLS.values()} | {
    "mmd": "mtools",
    "mdir": "mtools",
}


def run(
    program: str,
    *arguments: str | Path,
    stdin: bytes = b"",
    more: Mapping[str, str] | None = None,
) -> str:
    """What a program prints.

    Args:
        program: its name, also where only administrators' paths have it.
        arguments: of the program.
        stdin: what it reads.
        more: further environment variables.

    Raises:
        ToolMissing: it is not installed.
        ToolFailed: it did not succeed.
    """
    found = find_program(program)
    if found is None:
        raise ToolMissing(
            f"{program} is not installed", hint=f"apt-get install {_PACKAGES[program]}"
        )
    command: Sequence[str] = [str(found), *map(str, arguments)]
    environment = {"PATH": os.environ.get("PATH", os.defpath), **_ENVIRONMENT, **(more or {})}
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            check=False,
            env=environment,
            input=stdin,
            timeout=_SECONDS,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ToolFailed(f"cannot be run: {error}", origin=program) from error
    if done.returncode:
        said = (done.stderr or done.stdout).decode("utf-8", "replace").strip()[-300:]
        raise ToolFailed(f"exit status {done.returncode}: {said}", origin=program)
    return done.stdout.decode("utf-8", "replace")
