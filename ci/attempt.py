"""One try at a launch: back ends, QEMU, and whoever listens, for as long as the guest runs."""

from __future__ import annotations

import asyncio
import socket
import tempfile
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ci.agent import Agent
from ci.backends import FIXED, TPM, boot_arguments, connections, host_resources
from ci.channels import Drain, background, connection
from ci.errors import LaunchFailed
from ci.janitor import Janitor, janitor
from ci.outcome import HOPELESS
from ci.payload import read_payload, request
from ci.progress import Progress, Stage
from ci.result import BootResult, Mode
from ci.session import Guest
from ci.swtpm import software_tpm
from ci.tdx import QuoteService, tdx_arguments
from mrtd.launch.spec import LaunchSpec
from mrtd.qemu.argv import machine_arguments
from mrtd.qemu.process import Process, running
from mrtd.registers import Target

_SERIAL_KEPT: Final = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """A launch to be tried, once or with several accelerators.

    Attributes are the arguments of `ci.launch.launch`, and:

    Attributes:
        program: the QEMU program.
        has_console: whether the machine has a console that the harness hears.
    """

    spec: LaunchSpec
    folder: Path
    program: str
    timeout: float
    mode: Mode
    report_data: bytes | None
    quote_service: QuoteService | None
    has_console: bool

    async def run(
        self, accel: str, progress: Progress, *, patience: float, note: str = ""
    ) -> BootResult:
        """Boot once. ``patience``: seconds for the firmware's first word. Raises `LaunchFailed`."""
        question = request(self.report_data)
        target = Target.CC if self.mode is Mode.TDX else Target.TPM
        machine = machine_arguments(self.spec, target=target, dump=False)
        resources = host_resources(self.spec, self.folder)
        async with AsyncExitStack() as stack:
            helper = stack.enter_context(janitor())
            work = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="mrtd-launch-")))
            helper.remember(work)
            boot = boot_arguments(self.spec, self.folder, work)
            names = ("qmp", "serial", "payload")
            pairs = {name: stack.enter_context(connection()) for name in names}
            ours = {name: one for name, (one, _) in pairs.items()}
            theirs = {name: other for name, (_, other) in pairs.items()}
            tpm = None
            if self.mode is Mode.PLAIN:
                theirs["tpm"], tpm = await self._tpm(stack, helper)
            command = [self.program, "-accel", accel, *connections(theirs), *FIXED]
            command += [*self._extra(), *machine, *resources, *boot]
            descriptors = [end.fileno() for end in theirs.values()]
            process = stack.enter_context(running(command, pass_fds=descriptors))
            helper.remember(process.folder)
            progress.reached(Stage.QEMU, f"accel {accel}")
            # Else nothing that we read would ever end.
            for end in theirs.values():
                end.close()
            guest = Guest(
                qemu=process,
                tpm=tpm,
                monitor=ours["qmp"],
                serial=Drain(
                    ours["serial"], keep=_SERIAL_KEPT, stop=HOPELESS, heard=progress.console
                ),
                payload=Agent(ours["payload"], question, progress).sent,
                progress=progress,
                silence=patience if self.has_console else None,
            )
            try:
                async with asyncio.timeout(self.timeout):
                    version = await _run(guest)
            except TimeoutError as error:
                raise guest.overdue(self.timeout) from error
            try:
                result = BootResult.of(
                    read_payload(bytes(guest.payload.kept)),
                    serial=bytes(guest.serial.kept),
                    qemu_version=version,
                    arguments=tuple(command),
                    mode=self.mode,
                    report_data=self.report_data,
                    accel=accel,
                    accel_note=note,
                )
            except LaunchFailed as error:
                raise guest.failure(error.reason, code=error.code, hint=error.hint) from error
            progress.reached(Stage.DONE)
            return result

    def _extra(self) -> tuple[str, ...]:
        if self.mode is Mode.TDX:
            return tdx_arguments(self.spec.memory_bytes, self.quote_service)
        return TPM

    async def _tpm(self, stack: AsyncExitStack, helper: Janitor) -> tuple[socket.socket, Process]:
        """A software TPM, and the end of its control connection that QEMU inherits."""
        one, other = stack.enter_context(connection())
        running_tpm = software_tpm(other, deadline=self.timeout, helper=helper)
        return one, await stack.enter_async_context(running_tpm)


async def _run(guest: Guest) -> str:
    """Run the guest while somebody reads what it says; QEMU's version."""
    async with background(guest.serial.run()) as said, background(guest.payload.run()) as sent:
        version = await guest.run()
        await asyncio.gather(said, sent)
        return version
