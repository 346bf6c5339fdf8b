"""The monitor of a QEMU, which may say anything: QMP through `qemu.qmp`, and what it broke of."""

from __future__ import annotations

import logging
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from qemu.qmp import Message, QMPClient, Runstate

from ci.errors import printable

TEXT_LIMIT: Final = 300
"""Characters of anything that is quoted in a message."""

# Errors of the monitor are ours to report; without a handler Python prints them on its own.
logging.getLogger("qemu.qmp").addHandler(logging.NullHandler())


@asynccontextmanager
async def connected(monitor: socket.socket) -> AsyncIterator[QMPClient]:
    """A QMP client that is done with the handshake. Raises what `QMPClient.connect` raises."""
    qmp = QMPClient("launch")
    # The default listener would keep every event, and nobody reads them there.
    qmp.events.event_filter = lambda _: False
    await qmp.connect(monitor)
    try:
        yield qmp
    finally:
        await last_words(qmp)


async def last_words(qmp: QMPClient) -> Exception | None:
    """Disconnect, and what the connection broke of; once QEMU is gone that is no news."""
    try:
        await qmp.disconnect()
    except Exception as error:  # noqa: BLE001 -- anything that reading any bytes may raise
        return error
    return None


def why(error: Exception | None) -> str:
    """An error of the monitor, safe to print."""
    text = printable(str(error).encode())[:TEXT_LIMIT]
    return f"{type(error).__name__}: {text}" if error is not None else "it was closed"


async def disconnected(qmp: QMPClient) -> None:
    """Wait until the connection is broken, by whomever."""
    while qmp.runstate is Runstate.RUNNING:
        await qmp.runstate_changed()


def shutdown_reason(shutdown: Message) -> str:
    """The reason in an event SHUTDOWN, safe to print."""
    match shutdown.get("data"):
        case {"reason": str(reason)}:
            return printable(reason.encode())[:TEXT_LIMIT]
        case _:
            return "an unknown reason"


def version_of(answer: object) -> str:
    """The version in the answer to query-version."""
    match answer:
        case {"qemu": {"major": int(major), "minor": int(minor), "micro": int(micro)}}:
            return f"{major}.{minor}.{micro}"
        case _:
            return "unknown"
