"""Where the service listens: a Unix socket for its owner only, or a loopback address."""

from __future__ import annotations

import errno
import fcntl
import ipaddress
import os
import re
import socket
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from mrtd.errors import SpecError

_BACKLOG: Final = 1024
_TRIES: Final = 20  # with 50 ms between them; another one that starts needs less than one
_ADDRESS: Final = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([0-9.]+)):([0-9]{1,5})")


def listen_tcp(text: str, *, allow_remote: bool) -> socket.socket:
    """Listen on ``ADDRESS:PORT`` (``[ADDRESS]:PORT`` for IPv6); port 0 for any free one.

    Raises:
        SpecError: no such address, one that others can reach, or one that is in use.
    """
    match = _ADDRESS.fullmatch(text)
    try:
        address = ipaddress.ip_address(match[1] or match[2] if match else "")
        port = int(match[3] if match else "")
        if port > 65535:
            raise ValueError("no port")  # noqa: TRY301 - one way out
    except ValueError as error:
        raise SpecError(
            "is no address with a port", origin=text, field="--listen",
            hint="such as 127.0.0.1:8081 or [::1]:8081; names are not looked up",
        ) from error  # fmt: skip
    if not address.is_loopback and not allow_remote:
        raise SpecError(
            "others can reach this address", origin=text, field="--listen",
            hint="requests are neither encrypted nor authenticated: put TLS before it, and say "
            "--allow-remote",
        )  # fmt: skip
    family = socket.AF_INET6 if address.version == 6 else socket.AF_INET
    # asyncio turns Nagle's algorithm off only where it reads that this is TCP: 44 ms an answer
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((str(address), port))
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        raise SpecError(
            f"cannot listen: {error.strerror}", origin=text, field="--listen"
        ) from error
    return listener


@contextmanager
def listening_unix(path: Path) -> Iterator[socket.socket]:
    """Listen on a Unix socket of mode 0600, which is removed at the end.

    What a process that was killed left there is replaced, if nobody listens on it.

    Raises:
        SpecError: somebody listens there, it is no socket of ours, or others may write to its
            folder: who can put a socket of theirs there would admit VMs in our place.
    """
    _check_folder(path)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with _alone_in(path):
            _remove_stale(path)
            identity = _bind(listener, path)
    except BaseException:
        listener.close()
        raise
    try:
        yield listener
    finally:
        listener.close()
        with suppress(OSError):  # gone already, or another one's by now
            if _identity(path) == identity:
                path.unlink()


def _bind(listener: socket.socket, path: Path) -> tuple[int, int]:
    before = os.umask(0o177)  # not chmod afterwards: there would be a moment between
    try:
        listener.bind(str(path))
        listener.listen(_BACKLOG)
        return _identity(path)
    except OSError as error:  # among others, of a path that is longer than 107 bytes
        raise _unusable(path, f"cannot listen: {error.strerror or error}") from error
    finally:
        os.umask(before)


def _identity(path: Path) -> tuple[int, int]:
    status = path.lstat()
    return status.st_dev, status.st_ino


def _check_folder(path: Path) -> None:
    try:
        status = path.parent.stat()
    except OSError as error:
        hint = f"mkdir -m 700 {path.parent}" if isinstance(error, FileNotFoundError) else None
        raise _unusable(path, f"no such folder: {error.strerror}", hint) from error
    if not stat.S_ISDIR(status.st_mode):
        raise _unusable(path, "no such folder: it is a file")
    if status.st_uid not in {0, os.geteuid()} or status.st_mode & 0o022:
        raise _unusable(
            path, "others may write to its folder", f"mkdir -m 700 {path.parent}/mrtd, and use that"
        )


@contextmanager
def _alone_in(path: Path) -> Iterator[None]:
    """So that of two that start together only one finds the old socket stale."""
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for pause in (*([0.05] * _TRIES), None):
            try:
                fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError as error:
                if pause is None:
                    raise _unusable(path, "its folder is locked by another process") from error
                time.sleep(pause)
        yield
    finally:
        os.close(folder)


def _remove_stale(path: Path) -> None:
    try:
        status = path.lstat()
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(status.st_mode) or status.st_uid != os.geteuid():
        raise _unusable(path, "is there already, and is no socket of this user")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(str(path))
        except OSError as error:
            # everything else (such as EAGAIN of a full queue) may be somebody who listens
            if error.errno == errno.ECONNREFUSED:
                path.unlink()
                return
    raise _unusable(path, "somebody listens there already")


def _unusable(path: Path, problem: str, hint: str | None = None) -> SpecError:
    return SpecError(problem, origin=str(path), field="--socket", hint=hint)
