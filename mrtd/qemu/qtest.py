"""The qtest protocol: port and memory access to a machine whose CPUs do not run.

Source: QEMU docs/devel/testing/qtest (system/qtest.c). A command is a line; the answer is a line
that begins with ``OK`` or ``FAIL``; ``IRQ`` lines may come in between.
"""

from __future__ import annotations

import base64
import binascii
import socket

from mrtd.qemu.channel import MAX_LINE, LineChannel
from mrtd.qemu.process import Process

_MAX_READ = MAX_LINE // 2


def parse_answer(line: bytes) -> tuple[str, ...] | None:
    """The words after ``OK``, or None if the line is no ``OK`` answer."""
    try:
        words = line.decode("ascii").split()
    except UnicodeDecodeError:
        return None
    return tuple(words[1:]) if words[:1] == ["OK"] else None


class Qtest:
    """A synchronous qtest client.

    Args:
        stream: a connected socket, QEMU's ``-qtest`` channel at its other end.
        process: that QEMU.
        deadline: `time.monotonic` value after which everything fails.

    Every method raises `ToolFailed` when QEMU answers anything but ``OK``.
    """

    def __init__(self, stream: socket.socket, process: Process, *, deadline: float) -> None:
        self._channel = LineChannel(stream, process, deadline=deadline, name="qtest")

    def outb(self, port: int, value: int) -> None:
        """Write 8 bits to an I/O port."""
        self._ask(f"outb {port:#x} {value:#x}")

    def outw(self, port: int, value: int) -> None:
        """Write 16 bits to an I/O port."""
        self._ask(f"outw {port:#x} {value:#x}")

    def outl(self, port: int, value: int) -> None:
        """Write 32 bits to an I/O port."""
        self._ask(f"outl {port:#x} {value:#x}")

    def inb(self, port: int) -> int:
        """Read 8 bits from an I/O port."""
        return self._number(f"inb {port:#x}", 8)

    def inl(self, port: int) -> int:
        """Read 32 bits from an I/O port."""
        return self._number(f"inl {port:#x}", 32)

    def read(self, address: int, size: int) -> bytes:
        """Read guest memory; at most 512 KiB."""
        if not 0 < size <= _MAX_READ:
            raise ValueError(f"{size} bytes in one read")
        command = f"b64read {address:#x} {size:#x}"
        words = self._ask(command)
        try:
            data = base64.b64decode(words[0] if len(words) == 1 else "", validate=True)
        except binascii.Error:
            data = b""
        if len(data) != size:
            raise self._channel.fail(f"{command!r} answered {len(data)} bytes")
        return data

    def write(self, address: int, data: bytes) -> None:
        """Write guest memory."""
        self._ask(f"write {address:#x} {len(data):#x} 0x{data.hex()}")

    def _number(self, command: str, bits: int) -> int:
        words = self._ask(command)
        try:
            value = int(words[0], 16) if len(words) == 1 and len(words[0]) <= 18 else -1
        except ValueError:
            value = -1
        if not 0 <= value < 1 << bits:
            raise self._channel.fail(f"{command!r} answered {' '.join(words)[:80]!r}")
        return value

    def _ask(self, command: str) -> tuple[str, ...]:
        self._channel.send(command.encode("ascii"))
        while (line := self._channel.receive()).startswith(b"IRQ "):
            pass
        words = parse_answer(line)
        if words is None:
            raise self._channel.fail(f"{command[:80]!r} answered {line[:80]!r}")
        return words
