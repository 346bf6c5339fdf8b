"""A line channel to QEMU: bounded lines, one deadline, and errors that say what QEMU said."""

from __future__ import annotations

import socket
import time
from typing import Final

from mrtd.errors import ToolFailed
from mrtd.qemu.process import Process

MAX_LINE: Final = 1 << 20
_DYING_SECONDS: Final = 2.0


class LineChannel:
    """Sends and receives lines over a connected stream socket.

    Args:
        stream: our end of the socket; the channel closes nothing.
        process: who is at the other end, for messages.
        deadline: `time.monotonic` value after which everything fails.
        name: the protocol, for messages.
    """

    def __init__(
        self, stream: socket.socket, process: Process, *, deadline: float, name: str
    ) -> None:
        self._stream = stream
        self._process = process
        self._deadline = deadline
        self._name = name
        self._buffer = bytearray()

    def fail(self, message: str) -> ToolFailed:
        """An error of this channel, with QEMU's last words; the caller raises it."""
        return self._process.failure(f"{self._name}: {message}")

    def send(self, line: bytes) -> None:
        """Send one line."""
        try:
            self._arm()
            self._stream.sendall(line + b"\n")
        except TimeoutError as error:
            raise self._late() from error
        except OSError as error:
            raise self._gone() from error

    def receive(self) -> bytes:
        """The next line without its end. Raises `ToolFailed`."""
        while (end := self._buffer.find(b"\n")) < 0:
            if len(self._buffer) > MAX_LINE:
                raise self.fail(f"a line of more than {MAX_LINE} bytes")
            try:
                self._arm()
                chunk = self._stream.recv(1 << 16)
            except TimeoutError as error:
                raise self._late() from error
            except OSError as error:
                raise self._gone() from error
            if not chunk:
                raise self._gone()
            self._buffer += chunk
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
        return line

    def _arm(self) -> None:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise self._late()
        self._stream.settimeout(left)

    def _late(self) -> ToolFailed:
        return self.fail("no answer in time")

    def _gone(self) -> ToolFailed:
        # The socket closes a moment before QEMU ends: its exit status is worth the wait.
        if not self._process.wait(_DYING_SECONDS):
            return self.fail("QEMU closed the connection")
        status = self._process.kill()
        how = f"with status {status}" if status >= 0 else f"by signal {-status}"
        return self._process.failure(f"QEMU refused the machine or died (ended {how})")
