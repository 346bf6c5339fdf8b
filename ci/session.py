"""Watches one QEMU over QMP until its guest is done, and says how it ended."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Final

from qemu.qmp import ConnectError, EventListener, Message, QMPClient, QMPError, Runstate

from ci.channels import Drain, background, ended
from ci.errors import LaunchFailed
from mrtd.qemu.process import Process

# Run states that a guest does not come back from (QEMU qapi/run-state.json, RunState).
_DEAD: Final = frozenset({"internal-error", "io-error", "guest-panicked"})
_ORDERLY: Final = "guest-shutdown"
# For a QEMU that has closed its monitor to be gone.
_GRACE_SECONDS: Final = 10.0


@dataclass(frozen=True, slots=True)
class Guest:
    """A QEMU that was started with ``-S``, and all that can be heard of it.

    Attributes:
        qemu: the process.
        tpm: its software TPM.
        monitor: our end of its QMP monitor.
        serial: the guest's console; its pattern names lines after which nothing more will come.
    """

    qemu: Process
    tpm: Process
    monitor: socket.socket
    serial: Drain

    def failure(self, reason: str, *, hint: str | None = None) -> LaunchFailed:
        """The error for a reason, with the last lines of everything; the caller raises it."""
        outputs = {"serial": bytes(self.serial.kept)}
        for process in (self.qemu, self.tpm):
            text = process.output("stdout") + process.output("stderr")
            outputs[process.origin] = text.encode()
        return LaunchFailed(reason, outputs=outputs, hint=hint)

    async def run(self) -> str:
        """Let the guest run to its end.

        QEMU starts stopped, because events from before the QMP handshake would be lost.

        Returns:
            QEMU's version, such as ``7.2.22``.

        Raises:
            LaunchFailed: the guest did anything but shut down in order.
        """
        try:
            async with _connected(self.monitor) as qmp:
                version = _version(await qmp.execute("query-version"))
                await self._watch(qmp)
                return version
        except ConnectError as error:
            try:
                status = await asyncio.wait_for(ended(self.qemu), _GRACE_SECONDS)
            except TimeoutError:
                raise self.failure(f"QEMU's monitor cannot be used: {error}") from error
            raise self.failure(f"QEMU did not start (exit status {status})") from error
        except QMPError as error:
            raise self.failure(f"QEMU's monitor failed: {error}") from error

    async def _watch(self, qmp: QMPClient) -> None:
        with qmp.listener(("SHUTDOWN", "STOP", "GUEST_PANICKED")) as events:
            async with (
                background(_dead_end(qmp, events)) as dead,
                background(ended(self.qemu)) as exit_,
            ):
                await qmp.execute("cont")
                watched = (dead, exit_, self.serial.matched)
                await asyncio.wait(watched, return_when=asyncio.FIRST_COMPLETED)
                if self.serial.matched.done():
                    line = self.serial.matched.result().decode("ascii", "replace").strip()
                    raise self.failure(f"the guest cannot go on: {line!r}")
                if dead.done():
                    raise self.failure(dead.result())
                status = exit_.result()
            # The process may be seen to end before its last events are read.
            while qmp.runstate is Runstate.RUNNING:
                await qmp.runstate_changed()
            reasons = [_reason(event) for event in events.history if event["event"] == "SHUTDOWN"]
        if reasons != [_ORDERLY] or status != 0:
            reason = ", ".join(reasons) or "no SHUTDOWN event"
            raise self.failure(f"the guest ended with {reason} (exit status {status})")


@asynccontextmanager
async def _connected(monitor: socket.socket) -> AsyncIterator[QMPClient]:
    qmp = QMPClient("launch")
    await qmp.connect(monitor)
    try:
        yield qmp
    finally:
        # Once QEMU is gone this reports how the connection broke, which is no news.
        with suppress(EOFError, OSError, QMPError):
            await qmp.disconnect()


async def _dead_end(qmp: QMPClient, events: EventListener) -> str:
    """Wait until QEMU reports that the guest will not go on; never ends for a guest that does."""
    while True:
        event = await events.get()
        if event["event"] == "GUEST_PANICKED":
            return f"the guest panicked: {event.get('data')!r}"
        if event["event"] == "STOP":
            # QEMU may be on its way out, then nobody answers and its exit status counts.
            with suppress(QMPError):
                status = await qmp.execute("query-status")
                if isinstance(status, dict) and status.get("status") in _DEAD:
                    return f"QEMU stopped the guest: {status['status']}"


def _reason(shutdown: Message) -> str:
    match shutdown.get("data"):
        case {"reason": str(reason)}:
            return reason
        case _:
            return "an unknown reason"


def _version(answer: object) -> str:
    match answer:
        case {"qemu": {"major": int(major), "minor": int(minor), "micro": int(micro)}}:
            return f"{major}.{minor}.{micro}"
        case _:
            return "unknown"
