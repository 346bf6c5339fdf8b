"""Boots a launch spec: the only code of this repository that runs a guest.

Plain mode: no TDX. The guest's firmware and EFI stub measure into a software TPM, the guest sends
that TPM's event log and PCRs through a virtio-serial port (``ci/guest/init.sh``) and powers off.

TDX mode: a TD, whose firmware and stub measure into RTMRs. The guest asks for a quote over the
given report data and sends it with its event log, the CCEL, through the same port.

The machine is the spec's, for it is measured: the devices that carry the payload and the console
are listed there, and refer to the back ends that this module gives to QEMU
(`ci.payload.CHANNEL_DEVICES`).

What ends a boot: QEMU's exit code 0 says nothing, as a guest that resets gives it too, and a guest
that panics, hangs or finds nothing to boot causes no event at all. So a boot succeeded only if QMP
reported SHUTDOWN with reason ``guest-shutdown`` and the payload is complete. Everything else is a
`LaunchFailed` with a code (`ci.outcome`); docs/launching.md has them all.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Final

from ci.attempt import Attempt
from ci.errors import LaunchFailed
from ci.outcome import Outcome
from ci.payload import check_channel
from ci.progress import Listener, Progress
from ci.result import BootResult, Mode
from ci.tdx import HOST_QGS, QuoteService
from mrtd.launch.spec import LaunchSpec
from mrtd.qemu.process import find_qemu

__all__ = ["AUTO", "LAUNCH_TIMEOUT", "BootResult", "Mode", "boot_plain", "boot_tdx", "launch"]

LAUNCH_TIMEOUT: Final = 300.0
"""Seconds for a boot. One takes 8 to 25 s without KVM; a shared machine may be far slower."""

FIRMWARE_TIMEOUT: Final = 100.0
"""Seconds for the firmware's first word on the console. It takes 1 to 5 s without KVM."""

AUTO: Final = "auto"
"""Accelerator: KVM where it can run this machine's firmware, TCG otherwise, which is said."""

# Other failures are the guest's or the spec's, and TCG would meet them too.
_KVM_CANNOT: Final = frozenset(
    {
        Outcome.QEMU_REFUSED,
        Outcome.QEMU_DIED,
        Outcome.NO_KVM,
        Outcome.EMULATION_FAILED,
        Outcome.FIRMWARE_SILENT,
    }
)
_KVM_FIRMWARE_TIMEOUT: Final = 20.0


def boot_plain(
    spec: LaunchSpec,
    *,
    folder: Path,
    qemu: Path | None = None,
    timeout: float = LAUNCH_TIMEOUT,
    accel: str = "tcg",
    report_data: bytes | None = None,
    progress: Listener | None = None,
) -> BootResult:
    """`launch` in plain mode, for callers outside of an event loop."""
    return asyncio.run(
        launch(
            spec,
            folder=folder,
            qemu=qemu,
            timeout=timeout,
            accel=accel,
            report_data=report_data,
            progress=progress,
        )
    )


def boot_tdx(
    spec: LaunchSpec,
    *,
    folder: Path,
    qemu: Path | None = None,
    timeout: float = LAUNCH_TIMEOUT,
    report_data: bytes | None = None,
    quote_service: QuoteService | None = HOST_QGS,
    progress: Listener | None = None,
) -> BootResult:
    """`launch` in TDX mode, for callers outside of an event loop."""
    return asyncio.run(
        launch(
            spec,
            folder=folder,
            qemu=qemu,
            timeout=timeout,
            mode=Mode.TDX,
            report_data=report_data,
            quote_service=quote_service,
            progress=progress,
        )
    )


async def launch(
    spec: LaunchSpec,
    *,
    folder: Path,
    qemu: Path | None = None,
    timeout: float = LAUNCH_TIMEOUT,  # noqa: ASYNC109 -- its passing is a result, with evidence
    accel: str = "tcg",
    mode: Mode = Mode.PLAIN,
    report_data: bytes | None = None,
    quote_service: QuoteService | None = HOST_QGS,
    progress: Listener | None = None,
) -> BootResult:
    """Boot ``spec`` and wait for what the guest reports.

    Nothing is left behind: no process, no socket, no file. The spec's disks are never written;
    other host resources that its devices name get inert back ends.

    Args:
        spec: what to boot; it has to start the guest's agent, as an initrd of
            `ci.guest.initramfs` does (or a disk image with one, or with an add-on of `ci.carrier`).
        folder: what the spec's paths are relative to.
        qemu: the QEMU program; ``qemu-system-x86_64`` on the search path by default.
        timeout: seconds from QEMU's start until the boot is given up.
        accel: QEMU accelerator in plain mode: ``tcg``, ``kvm``, or `AUTO`. A TD has KVM.
        mode: whether as a TD.
        report_data: 64 bytes that the quote has to carry; repeated by the guest in plain mode.
        quote_service: who makes the TD's quotes.
        progress: is told the stages as they are reached.

    Raises:
        LaunchFailed: the guest did not shut down in order, or its payload cannot be used.
        ToolMissing: QEMU, swtpm or swtpm_setup is not installed.
        ToolFailed: the TPM could not be set up.
        SpecError: the machine has no port for the payload, or a file of the spec cannot be read.
    """
    said = Progress(progress)
    wanted = Attempt(
        spec=spec,
        folder=folder,
        program=str(find_qemu(qemu)),
        timeout=timeout,
        mode=mode,
        report_data=report_data,
        quote_service=quote_service,
        has_console=check_channel(spec),
    )
    if mode is Mode.TDX:
        return await wanted.run("kvm", said, patience=FIRMWARE_TIMEOUT)
    if accel != AUTO:
        return await wanted.run(accel, said, patience=FIRMWARE_TIMEOUT)
    try:
        return await wanted.run("kvm", said, patience=_KVM_FIRMWARE_TIMEOUT)
    except LaunchFailed as error:
        if error.code not in _KVM_CANNOT:
            raise
        note = f"no KVM for this machine: {error.reason} [{error.code}]"
    said = Progress(progress)
    said.note(f"{note}; TCG instead")
    return await wanted.run("tcg", said, patience=FIRMWARE_TIMEOUT, note=note)
