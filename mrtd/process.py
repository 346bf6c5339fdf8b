"""Starting an external program and certainly ending it, whatever happens in between."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import FrameType, MappingProxyType
from typing import Final

from mrtd.errors import ToolFailed, ToolMissing

_KEPT_OUTPUT: Final = 64 * 1024
_KEPT_LINES: Final = 6
_POLL_SECONDS: Final = 0.005
# Of QEMU. Says nothing about the launch: one without accel-qtest (Debian bookworm) uses TCG.
_NOISE: Final = re.compile(r"invalid accelerator qtest|GLib: |^\[[IRS] [+.0-9]+\]|: warning: ")
_NOTHING: Final[Mapping[str, str]] = MappingProxyType({})


class Process:
    """A running program with its own session, output files and temporary folder.

    Attributes:
        origin: the program, for messages.
        folder: its temporary folder, removed when it ends.
    """

    def __init__(self, child: subprocess.Popen[bytes], folder: Path, origin: str) -> None:
        self._child = child
        self.folder = folder
        self.origin = origin

    @property
    def pid(self) -> int:
        """Process id, which is its session and process group too."""
        return self._child.pid

    def exited(self) -> bool:
        """Whether it has ended. It stays unreaped, so that its group's number is not reused."""
        if self._child.returncode is not None:
            return True
        options = os.WEXITED | os.WNOHANG | os.WNOWAIT
        return os.waitid(os.P_PID, self._child.pid, options) is not None

    def wait(self, seconds: float) -> bool:
        """Wait for its end, at most so long; whether it has ended."""
        deadline = time.monotonic() + seconds
        while not self.exited():
            if time.monotonic() >= deadline:
                return False
            time.sleep(_POLL_SECONDS)
        return True

    def kill(self) -> int:
        """End it and everything in its process group; its exit status (negative: the signal)."""
        if self._child.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._child.pid, signal.SIGKILL)
        return self._child.wait()

    def output(self, name: str) -> str:
        """The last 64 KiB of ``stdout`` or ``stderr``, decoded leniently."""
        with (self.folder / name).open("rb") as stream:
            size = stream.seek(0, os.SEEK_END)
            stream.seek(max(0, size - _KEPT_OUTPUT))
            return stream.read(_KEPT_OUTPUT).decode("utf-8", "replace")

    def whole_output(self, name: str, limit: int) -> bytes:
        """All of ``stdout`` or ``stderr``. Raises `ToolFailed`: more than ``limit`` bytes."""
        with (self.folder / name).open("rb") as stream:
            data = stream.read(limit + 1)
        if len(data) > limit:
            raise ToolFailed(f"{name} has more than {limit} bytes", origin=self.origin)
        return data

    def failure(self, message: str, *, hint: str | None = None) -> ToolFailed:
        """A `ToolFailed` that ends with the last lines of the program's stderr."""
        lines = [line.strip() for line in self.output("stderr").splitlines()]
        told = [line[:400] for line in lines if line and not _NOISE.search(line)][-_KEPT_LINES:]
        text = "; ".join("".join(c if c.isprintable() else "?" for c in line) for line in told)
        return ToolFailed(
            f"{message}: {text}" if text else f"{message}, and said nothing",
            origin=self.origin,
            hint=hint,
        )


@contextlib.contextmanager
def running(
    argv: Sequence[str],
    *,
    pass_fds: Sequence[int] = (),
    files: Mapping[str, bytes] = MappingProxyType({}),
    environment: Mapping[str, str] = _NOTHING,
) -> Iterator[Process]:
    """Run a program for as long as the context lasts, then kill it and its process group.

    It gets a scrubbed environment, no standard input and files of its own for its output: an
    inherited pipe would keep a reader of ours waiting for as long as the program lives. Through
    ``setpriv`` (util-linux), where there is one, the kernel kills it when this thread's process is
    killed without a chance to clean up. SIGTERM ends the context like Ctrl-C does, when nobody else
    handles it.

    Args:
        argv: the program and its arguments.
        pass_fds: descriptors that the program inherits.
        files: files to make in its temporary folder, where it runs.
        environment: variables besides ``PATH``, ``LC_ALL`` and ``TMPDIR``.

    Raises:
        ToolMissing: the program cannot be started.
    """
    with sigterm_unwinds(), tempfile.TemporaryDirectory(prefix="mrtd-") as name:
        folder = Path(name)
        for file, contents in files.items():
            (folder / file).write_bytes(contents)
        setpriv = shutil.which("setpriv")
        prefix = [setpriv, "--pdeathsig", "KILL", "--"] if setpriv else []
        program = shutil.which(argv[0])
        if program is None:
            raise ToolMissing(f"{argv[0]} cannot be executed", hint="is it there, and a program?")
        with (folder / "stdout").open("wb") as out, (folder / "stderr").open("wb") as err:
            try:
                child = subprocess.Popen(
                    [*prefix, str(Path(program).absolute()), *argv[1:]],
                    stdin=subprocess.DEVNULL,
                    stdout=out,
                    stderr=err,
                    env={**_environment(folder), **environment},
                    cwd=folder,
                    pass_fds=tuple(pass_fds),
                    start_new_session=True,
                )
            except OSError as error:
                raise ToolMissing(f"{argv[0]}: cannot be started: {error}") from error
        process = Process(child, folder, Path(argv[0]).name)
        try:
            yield process
        finally:
            process.kill()


def _environment(folder: Path) -> Mapping[str, str]:
    """What a program may know: where programs are, and where to put temporary files."""
    return {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C", "TMPDIR": str(folder)}


@contextlib.contextmanager
def sigterm_unwinds() -> Iterator[None]:
    """Turn SIGTERM, whose default ends Python at once, into an exception that cleans up."""
    mine = threading.current_thread() is threading.main_thread()
    if not mine or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return

    def unwind(number: int, _frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    signal.signal(signal.SIGTERM, unwind)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
