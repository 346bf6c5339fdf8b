"""Removes temporary folders of a harness that was killed without a chance to do so itself.

SIGKILL runs no ``finally``. The kernel then kills QEMU and swtpm (`mrtd.qemu.process`), and closes
sockets, which have no names in a file system here; folders are what would stay. So a shell in a
session of its own waits at the other end of a pipe: when the harness is gone, it removes what it
was told of. It is gone itself afterwards. What remains possible is a folder made in the few
milliseconds before it is named here, and a kill of everything at once (a container's end).
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

# Ctrl-C is for the harness. A program that is just being killed may still add a file: once more.
_SCRIPT: Final = """\
trap '' HUP INT TERM
while IFS= read -r folder; do
    [ "$folder" != done ] || exit 0
    set -- "$@" "$folder"
done
rm -rf -- "$@" || rm -rf -- "$@"
"""


class Janitor:
    """Knows which folders are to go if this process is killed."""

    def __init__(self, pipe: int) -> None:
        self._pipe = pipe

    def remember(self, folder: Path) -> None:
        """Remove this folder if nobody else can."""
        self._say(os.fsencode(folder.absolute()))

    def finish(self) -> None:
        """Everything was removed in order."""
        self._say(b"done")

    def _say(self, line: bytes) -> None:
        # Without a janitor a launch is as good as ever.
        with suppress(BrokenPipeError):
            os.write(self._pipe, line.replace(b"\n", b"") + b"\n")


@contextmanager
def janitor() -> Iterator[Janitor]:
    """A janitor for the block."""
    theirs, ours = os.pipe()
    try:
        # Not mrtd.qemu.process.running: this one has to outlive us.
        child = subprocess.Popen(
            ["/bin/sh", "-c", _SCRIPT],
            stdin=theirs,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
            env={"PATH": os.environ.get("PATH", os.defpath)},
            start_new_session=True,
        )
    except BaseException:
        os.close(ours)
        raise
    finally:
        os.close(theirs)
    helper = Janitor(ours)
    try:
        yield helper
    finally:
        helper.finish()
        os.close(ours)
        child.wait()
