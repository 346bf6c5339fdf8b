"""The log: one JSON object a line, written by a thread of its own, without secrets.

Nothing of a request enters it but what is named in `LogLine`: no bodies, no headers, no queries, no
paths that the service does not have.
"""

from __future__ import annotations

import logging
import queue
import threading
from datetime import UTC, datetime
from typing import BinaryIO, Final

import msgspec

_PENDING: Final = 10_000


class LogLine(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One line.

    Attributes:
        time: UTC.
        level: ``info``, ``warning`` or ``error``.
        event: ``request``, or what happened.
        method: HTTP method.
        path: of the service; ``(unknown)`` if it has no such path.
        status: HTTP status; 499 if the client had gone.
        reason: code of the verdict or error.
        duration_ms: milliseconds from the request's head to the end of the answer.
        request_id: also in the answer's ``X-Request-Id``.
        vm: name of the VM, if it gave one that can be logged.
        labels: of the verdict.
        check: name of the check that decided.
        policy: SHA-256 of the policy, hex.
        mode: of the policy.
        detail: for a person: the verdict's message, or what happened.
    """

    time: str
    level: str
    event: str
    method: str | None = None
    path: str | None = None
    status: int | None = None
    reason: str | None = None
    duration_ms: float | None = None
    request_id: str | None = None
    vm: str | None = None
    labels: tuple[str, ...] = ()
    check: str | None = None
    policy: str | None = None
    mode: str | None = None
    detail: str | None = None


class Log:
    """Writes lines without ever making a request wait. Thread-safe.

    Who reads the log may be slow or stuck: then lines are dropped and counted, and VMs are
    registered all the same.

    Attributes:
        dropped: lines that were not written, since start.
    """

    def __init__(self, stream: BinaryIO) -> None:
        self.dropped = 0
        self._stream = stream
        self._lines: queue.Queue[LogLine | None] = queue.Queue(_PENDING)
        self._thread = threading.Thread(target=self._write_all, name="mrtd-log", daemon=True)
        self._thread.start()

    def write(self, event: str, *, level: str = "info", **fields: object) -> None:
        """Write a line; ``fields`` are those of `LogLine`."""
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        line = msgspec.convert({"time": now, "level": level, "event": event, **fields}, LogLine)
        try:
            self._lines.put_nowait(line)
        except queue.Full:
            self.dropped += 1

    def close(self, seconds: float = 2.0) -> None:
        """Write what is left, within a limit."""
        try:
            self._lines.put(None, timeout=seconds)
        except queue.Full:
            return
        self._thread.join(seconds)

    def _write_all(self) -> None:
        while (line := self._lines.get()) is not None:
            try:
                self._stream.write(msgspec.json.encode(line) + b"\n")
                self._stream.flush()
            except (OSError, ValueError):
                self.dropped += 1


class LibraryRecords(logging.Handler):
    """Takes what libraries log: who, how bad, and which exception; not their words.

    Their messages can quote what they were given, and that is tokens.
    """

    def __init__(self, log: Log) -> None:
        super().__init__(logging.WARNING)
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        kind = record.exc_info[0] if record.exc_info else None
        detail = f"{record.module}:{record.lineno}"
        detail += "" if kind is None else f": {kind.__name__}"
        level = "error" if record.levelno >= logging.ERROR else "warning"
        self._log.write(f"library {record.name}", level=level, detail=detail)
