"""Running ``gh``: with a time limit, little environment, bounded output, and no orphans."""

from __future__ import annotations

import os
import re
import selectors
import shutil
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from typing import IO, Final

from mrtd.errors import VerificationError
from mrtd.verifier.verdict import Reason

# What a gh says that is too old for this; it exits as if it had refused
_TOO_OLD: Final = re.compile(r"^unknown (command|flag|shorthand flag)\b", re.MULTILINE)
_REFUSED: Final = 1  # gh help exit-codes: 0 done, 1 failed, 2 cancelled, 4 not logged in
_NOT_LOGGED_IN: Final = 4


class GhUnknown(Exception):
    """gh could not be asked, or had no answer: neither yes nor no."""

    def __init__(self, message: str, reason: Reason = Reason.TOOL_MISSING) -> None:
        super().__init__(message)
        self.reason = reason


def run_gh(
    gh: str, arguments: tuple[str, ...], *, folder: Path, host: str, seconds: float, limit: int
) -> bytes:
    """What gh prints.

    Args:
        gh: the program, looked for in PATH.
        arguments: for it.
        folder: where it runs, and all that it has for a home.
        host: which GitHub it is.
        seconds: until it is killed, with all that it has started.
        limit: largest output, bytes; the same for its messages.

    Raises:
        VerificationError: it says no, or too much.
        GhUnknown: it is missing, too old, too slow or not logged in.
    """
    program, killer = shutil.which(gh), shutil.which("setpriv")
    if program is None:
        raise GhUnknown(f"{gh} is not installed: https://cli.github.com")
    prefix = [killer, "--pdeathsig", "KILL", "--"] if killer else []  # it dies with us
    with subprocess.Popen(
        [*prefix, str(Path(program).absolute()), *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        bufsize=0,
        env=_environment(folder, host),
        cwd=folder,
        start_new_session=True,
    ) as child:
        try:
            answer, messages = _output(child, seconds, limit)
        finally:  # it is not reaped yet, so this is the number of its group and of nobody else's
            with suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
    if child.returncode == 0:
        return answer
    told = messages[-1000:].decode("utf-8", "replace").strip()
    text = "".join(c if c.isprintable() else " " for c in told)[-200:] or "no reason given"
    if child.returncode == _REFUSED and not _TOO_OLD.search(told):
        raise VerificationError(f"gh refuses it: {text}")
    why = "is not logged in (GH_TOKEN)" if child.returncode == _NOT_LOGGED_IN else "cannot tell"
    raise GhUnknown(f"gh {why}, exit code {child.returncode}: {text}")


def _environment(folder: Path, host: str) -> dict[str, str]:
    """Nothing of ours but PATH and GH_TOKEN; which GitHub it is, the policy says."""
    token = os.environ.get("GH_TOKEN")
    return {
        "PATH": os.environ.get("PATH", os.defpath), "HOME": str(folder), "TMPDIR": str(folder),
        "GH_CONFIG_DIR": str(folder / "gh"), "GH_HOST": host,
        "GH_PROMPT_DISABLED": "1", "GH_NO_UPDATE_NOTIFIER": "1", "NO_COLOR": "1", "LC_ALL": "C",
    } | ({"GH_TOKEN": token} if token else {})  # fmt: skip


def _output(child: subprocess.Popen[bytes], seconds: float, limit: int) -> tuple[bytes, bytes]:
    """All that a program says until it has ended, which is not reaped here."""
    deadline, ended = time.monotonic() + seconds, os.pidfd_open(child.pid)
    streams: list[IO[bytes]] = [s for s in (child.stdout, child.stderr) if s is not None]
    found = {stream.fileno(): bytearray() for stream in streams}
    try:
        with selectors.DefaultSelector() as selector:
            for number in (*found, ended):
                selector.register(number, selectors.EVENT_READ)
            while selector.get_map():
                ready = selector.select(max(0.0, deadline - time.monotonic()))
                if not ready or time.monotonic() > deadline:
                    # all that it waits for is the network, where GitHub's root of trust is
                    text = f"gh gave no answer in {seconds:g} s"
                    raise GhUnknown(text, Reason.TRUST_ROOT_UNUSABLE)
                for number in (key.fd for key, _ in ready):
                    chunk = b"" if number == ended else os.read(number, 1 << 16)
                    if not chunk:
                        selector.unregister(number)
                        continue
                    found[number] += chunk
                    if len(found[number]) > limit:
                        raise VerificationError(f"gh says more than {limit} bytes")
    finally:
        os.close(ended)
    answer, messages = (bytes(data) for data in found.values())
    return answer, messages
