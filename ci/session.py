"""Watches one QEMU over QMP until its guest is done, and says how it ended."""

from __future__ import annotations

import asyncio
import socket
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from typing import Final

from qemu.qmp import ConnectError, EventListener, QMPClient, QMPError

from ci.channels import Drain, background, ended
from ci.errors import LaunchFailed, printable
from ci.monitor import (
    TEXT_LIMIT,
    connected,
    disconnected,
    last_words,
    shutdown_reason,
    version_of,
    why,
)
from ci.outcome import Outcome, of_console, of_refusal
from ci.progress import Progress, Stage
from mrtd.qemu.process import Process

# Run states that a guest does not come back from (QEMU qapi/run-state.json, RunState).
_DEAD: Final = frozenset({"internal-error", "io-error", "guest-panicked"})
_ORDERLY: Final = "guest-shutdown"
_RESETS: Final = frozenset({"guest-reset", "guest-panic"})
# For a QEMU that has closed its monitor to be gone.
_GRACE_SECONDS: Final = 10.0
_DYING_SECONDS: Final = 1.0
_EVENTS: Final = ("SHUTDOWN", "STOP", "GUEST_PANICKED")


@dataclass(frozen=True, slots=True, kw_only=True)
class Guest:
    """A QEMU that was started with ``-S``, and all that can be heard of it.

    Attributes:
        qemu: the process.
        tpm: its software TPM, if it has one.
        monitor: our end of its QMP monitor.
        serial: the guest's console; its pattern names lines after which nothing more will come.
        payload: what the guest's agent sends.
        progress: how far it is.
        silence: seconds within which the console has to say something; None: no limit of its own.
    """

    qemu: Process
    tpm: Process | None
    monitor: socket.socket
    serial: Drain
    payload: Drain
    progress: Progress
    silence: float | None = None

    def failure(
        self, reason: str, *, code: Outcome | None = None, hint: str | None = None
    ) -> LaunchFailed:
        """The error for a reason, with the last lines of everything; the caller raises it.

        Args:
            reason: what happened.
            code: what kind of failure it is; None: QEMU ended, and what it said tells.
            hint: a better remedy than the one of the code.
        """
        outputs = {"serial": bytes(self.serial.kept)}
        for process in (self.qemu, self.tpm):
            if process is not None:
                text = process.output("stdout") + process.output("stderr")
                outputs[process.origin] = text.encode()
        if code is None:
            code = of_refusal(outputs[self.qemu.origin])
        return LaunchFailed(
            reason, code=code, stage=self.progress.stage, outputs=outputs, hint=hint
        )

    def overdue(self, seconds: float) -> LaunchFailed:
        """The error for a guest that was not done in time: how far it came says what is wrong."""
        reason = f"no end after {seconds:g} seconds (stage {self.progress.stage})"
        if self.progress.before(Stage.MONITOR):
            return self.failure(reason, code=Outcome.MONITOR_SILENT)
        if not self.progress.before(Stage.AGENT):
            return self.failure(reason, code=Outcome.PAYLOAD_TRUNCATED)
        if self.progress.before(Stage.FIRMWARE):
            return self.failure(reason, code=Outcome.FIRMWARE_SILENT)
        if self.progress.before(Stage.KERNEL):
            return self.failure(reason, code=Outcome.FIRMWARE_STUCK)
        return self.failure(reason, code=Outcome.NO_PAYLOAD)

    async def run(self) -> str:
        """Let the guest run to its end.

        QEMU starts stopped, because events from before the QMP handshake would be lost.

        Returns:
            QEMU's version, such as ``7.2.22``.

        Raises:
            LaunchFailed: the guest did anything but shut down in order.
        """
        try:
            async with connected(self.monitor) as qmp:
                version = version_of(await qmp.execute("query-version"))
                self.progress.reached(Stage.MONITOR, f"QEMU {version}")
                await self._watch(qmp)
                return version
        except LaunchFailed:
            raise
        except Exception as error:  # whatever the monitor's reader died of: it reads any bytes
            raise await self._without_monitor(error) from error

    async def _without_monitor(self, error: Exception) -> LaunchFailed:
        """What it means that the monitor cannot be talked to, which QEMU's end may explain."""
        text = why(error)
        try:
            status = await asyncio.wait_for(ended(self.qemu), _GRACE_SECONDS)
        except TimeoutError:
            what = "cannot be used" if isinstance(error, ConnectError) else "failed"
            reason = f"QEMU's monitor {what}: {text}"
            return self.failure(reason, code=Outcome.MONITOR_FAILED)
        if self.progress.before(Stage.MONITOR):
            code = None if status >= 0 else Outcome.QEMU_DIED
            return self.failure(f"QEMU did not start (exit status {status})", code=code)
        reason = f"QEMU ended with exit status {status} and left its monitor: {text}"
        return self.failure(reason, code=Outcome.QEMU_DIED)

    async def _watch(self, qmp: QMPClient) -> None:
        with qmp.listener(_EVENTS) as events:
            async with AsyncExitStack() as stack:
                enter = stack.enter_async_context
                dead = await enter(background(_dead_end(qmp, events)))
                exit_ = await enter(background(ended(self.qemu)))
                lost = await enter(background(disconnected(qmp)))
                silent = await enter(background(_silence(self.serial, self.silence)))
                await qmp.execute("cont")
                watched = (dead, exit_, lost, silent, self.serial.matched, self.payload.overflowed)
                await asyncio.wait(watched, return_when=asyncio.FIRST_COMPLETED)
                self._raise_console()
                if self.payload.overflowed.done():
                    sent = self.payload.total
                    raise self.failure(
                        f"the guest sent {sent} bytes, too many for a payload, and goes on",
                        code=Outcome.PAYLOAD_TOO_LARGE,
                    )
                if dead.done():
                    code, reason = dead.result()
                    raise self.failure(reason, code=code)
                if silent.done():
                    raise self.failure(
                        f"nothing on the console after {self.silence:g} seconds",
                        code=Outcome.FIRMWARE_SILENT,
                    )
                status = await self._exit_status(qmp, exit_)
            # The process may be seen to end before its last events are read.
            await disconnected(qmp)
            reasons = [
                shutdown_reason(event) for event in events.history if event["event"] == "SHUTDOWN"
            ]
        self._raise_unless_orderly(reasons, status)
        self.progress.reached(Stage.SHUTDOWN)

    async def _exit_status(self, qmp: QMPClient, exit_: asyncio.Task[int]) -> int:
        """QEMU's, which ended or closed its monitor; an ending one closes it just before."""
        broken: Exception | None = None
        if not exit_.done():
            broken = await last_words(qmp)
        closed = broken is None or isinstance(broken, EOFError | OSError)
        with suppress(TimeoutError):
            patience = _GRACE_SECONDS if closed else _DYING_SECONDS
            status = await asyncio.wait_for(asyncio.shield(exit_), patience)
            # A message may be cut off, or garbage, because of that end; a signal tells.
            if closed or status < 0:
                return status
        raise self.failure(
            f"QEMU's monitor failed: {why(broken)}", code=Outcome.MONITOR_FAILED
        ) from broken

    def _raise_console(self) -> None:
        if self.serial.matched.done():
            found = self.serial.matched.result()
            line = found.decode("ascii", "replace").strip()[:TEXT_LIMIT]
            raise self.failure(f"the guest cannot go on: {line!r}", code=of_console(found))

    def _raise_unless_orderly(self, reasons: list[str], status: int) -> None:
        if reasons == [_ORDERLY] and status == 0:
            return
        if status != 0:
            code = Outcome.QEMU_DIED
        else:
            reset = bool(_RESETS.intersection(reasons))
            code = Outcome.GUEST_RESET if reset else Outcome.GUEST_ENDED
        reason = ", ".join(reasons) or "no SHUTDOWN event"
        raise self.failure(f"the guest ended with {reason} (exit status {status})", code=code)


async def _silence(serial: Drain, seconds: float | None) -> None:
    """Ends if nothing at all is heard for so long."""
    if seconds is not None:
        await asyncio.sleep(seconds)
        if not serial.total:
            return
    await asyncio.Event().wait()


async def _dead_end(qmp: QMPClient, events: EventListener) -> tuple[Outcome, str]:
    """Wait until QEMU reports that the guest will not go on; never ends for a guest that does."""
    while True:
        event = await events.get()
        if event["event"] == "GUEST_PANICKED":
            about = printable(repr(event.get("data")).encode())[:TEXT_LIMIT]
            return Outcome.GUEST_PANICKED, f"the guest panicked: {about}"
        if event["event"] == "STOP":
            # QEMU may be on its way out, then nobody answers and its exit status counts.
            with suppress(QMPError):
                status = await qmp.execute("query-status")
                if isinstance(status, dict) and status.get("status") in _DEAD:
                    return Outcome.EMULATION_FAILED, f"QEMU stopped the guest: {status['status']}"
