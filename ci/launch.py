"""Boots a launch spec: the only code of this repository that runs a guest.

Plain mode: no TDX. The guest's firmware and EFI stub measure into a software TPM, the guest sends
that TPM's event log and PCRs through a virtio-serial port (``ci/guest/init.sh``) and powers off.

The machine is the spec's, for it is measured: the devices that carry the payload and the console
are listed there, and refer to the back ends that this module gives to QEMU:

    devices = [
        "virtio-serial-pci,id=channel",
        "virtserialport,bus=channel.0,chardev=payload,name=org.mrtd.payload",
        "isa-serial,chardev=serial",
    ]

What ends a boot: QEMU's exit code 0 says nothing, as a guest that resets gives it too, and a guest
that panics, hangs or finds nothing to boot causes no event at all. So a boot succeeded only if QMP
reported SHUTDOWN with reason ``guest-shutdown`` and the payload is complete.
"""

from __future__ import annotations

import asyncio
import re
import socket
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ci.channels import Drain, background, connection
from ci.errors import LaunchFailed
from ci.payload import PAYLOAD_LIMIT, read_payload
from ci.session import Guest
from ci.swtpm import software_tpm
from mrtd.errors import MalformedDocument, SpecError
from mrtd.launch.spec import LaunchSpec
from mrtd.qemu.argv import machine_arguments
from mrtd.qemu.process import find_qemu, running
from mrtd.registers import Sha384, Target

LAUNCH_TIMEOUT: Final = 300.0
"""Seconds for a boot. One takes 8 to 25 s without KVM; a shared machine may be far slower."""

_HOPELESS: Final = re.compile(
    rb"Kernel panic - not syncing[^\n]*\n|No bootable option or device was found[^\n]*\n"
)
"""Console lines after which a guest just stands there: a kernel that panics resets the machine only
if ``panic=`` asks for it, and OVMF waits for a key."""

_SERIAL_KEPT: Final = 1 << 20
_PAYLOAD_KEPT: Final = PAYLOAD_LIMIT + 64  # and its header
_PCR_COUNT: Final = 24

_LOG: Final = "log/binary_bios_measurements"
_CMDLINE: Final = "proc/cmdline"
_NO_LOG: Final = "the firmware and the kernel both need a driver for the TPM"

_BACK_ENDS: Final = ("tpm", "qmp", "serial", "payload")
_FIXED: Final = (
    *("-display", "none", "-no-reboot", "-S"),
    *("-tpmdev", "emulator,id=tpm0,chardev=tpm", "-mon", "chardev=qmp,mode=control"),
)


@dataclass(frozen=True, slots=True)
class BootResult:
    """What a guest reported about its boot.

    Attributes:
        log: the TPM's event log, TCG2 crypto-agile format (`mrtd.eventlog.tcg2.read_log`).
        pcrs: the SHA-384 bank, PCR 0 to 23.
        files: everything that the guest sent, by name: ``dmi/DMI``, ``fw_cfg/etc/acpi/tables``.
        cmdline: the kernel command line that the guest saw, with what the firmware added.
        serial: the end of the console (1 MiB at most), as it came: not safe to print.
        qemu_version: such as ``7.2.22``.
        arguments: QEMU's command line; descriptors and temporary files in it are gone.
    """

    log: bytes
    pcrs: Mapping[int, Sha384]
    files: Mapping[str, bytes]
    cmdline: str
    serial: str
    qemu_version: str
    arguments: tuple[str, ...]

    @classmethod
    def of(
        cls,
        files: Mapping[str, bytes],
        *,
        serial: bytes,
        qemu_version: str,
        arguments: tuple[str, ...],
    ) -> BootResult:
        """The result that the files of a payload make. Raises `LaunchFailed` if some are missing.

        An empty event log is refused: what measured nothing proves nothing.
        """
        if not files.get(_LOG):
            raise LaunchFailed("the guest's TPM event log is missing or empty", hint=_NO_LOG)
        names = {index: f"pcr-sha384/{index}" for index in range(_PCR_COUNT)}
        for name in (_CMDLINE, *names.values()):
            if name not in files:
                raise LaunchFailed(f"the guest sent no {name}")
        return cls(
            log=files[_LOG],
            pcrs={index: _pcr(name, files[name]) for index, name in names.items()},
            files=files,
            cmdline=files[_CMDLINE].decode("utf-8", "backslashreplace").rstrip("\n"),
            serial=serial.decode("utf-8", "backslashreplace"),
            qemu_version=qemu_version,
            arguments=arguments,
        )


def boot_plain(
    spec: LaunchSpec,
    *,
    folder: Path,
    qemu: Path | None = None,
    timeout: float = LAUNCH_TIMEOUT,
    accel: str = "tcg",
) -> BootResult:
    """`launch`, for callers outside of an event loop."""
    return asyncio.run(launch(spec, folder=folder, qemu=qemu, timeout=timeout, accel=accel))


async def launch(
    spec: LaunchSpec,
    *,
    folder: Path,
    qemu: Path | None = None,
    timeout: float = LAUNCH_TIMEOUT,  # noqa: ASYNC109 -- its passing is a result, with evidence
    accel: str = "tcg",
) -> BootResult:
    """Boot ``spec`` without TDX and wait for what the guest reports.

    Nothing is left behind: no process, no socket, no file.

    Args:
        spec: what to boot; its initrd has to be one of `ci.guest.initramfs`.
        folder: what the spec's paths are relative to.
        qemu: the QEMU program; ``qemu-system-x86_64`` on the search path by default.
        timeout: seconds from QEMU's start until the boot is given up.
        accel: QEMU accelerator: ``tcg``, or ``kvm`` on a host that can run the firmware with it.

    Raises:
        LaunchFailed: the guest did not shut down in order, or its payload cannot be used.
        ToolMissing: QEMU, swtpm or swtpm_setup is not installed.
        ToolFailed: the TPM could not be set up.
        SpecError: a file of the spec cannot be read.
    """
    program = str(find_qemu(qemu))
    machine = machine_arguments(spec, target=Target.TPM, dump=False)
    async with AsyncExitStack() as stack:
        work = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="mrtd-launch-")))
        boot = _boot_arguments(spec, folder, work)
        ends = {name: stack.enter_context(connection()) for name in _BACK_ENDS}
        tpm = await stack.enter_async_context(software_tpm(ends["tpm"][1], deadline=timeout))
        ours = {name: one for name, (one, _) in ends.items()}
        theirs = {name: other for name, (_, other) in ends.items()} | {"tpm": ours["tpm"]}
        command = [program, "-accel", accel, *_back_ends(theirs), *_FIXED, *machine, *boot]
        descriptors = [end.fileno() for end in theirs.values()]
        process = stack.enter_context(running(command, pass_fds=descriptors))
        # Else nothing that we read would ever end.
        for end in theirs.values():
            end.close()
        serial = Drain(ours["serial"], keep=_SERIAL_KEPT, stop=_HOPELESS)
        payload = Drain(ours["payload"], keep=_PAYLOAD_KEPT)
        guest = Guest(process, tpm, ours["qmp"], serial)
        try:
            async with asyncio.timeout(timeout):
                version = await _run(guest, payload)
        except TimeoutError as error:
            raise guest.failure(f"no end after {timeout:g} seconds") from error
        try:
            return BootResult.of(
                _files(payload),
                serial=bytes(serial.kept),
                qemu_version=version,
                arguments=tuple(command),
            )
        except LaunchFailed as error:
            raise guest.failure(error.reason, hint=error.hint) from error


async def _run(guest: Guest, payload: Drain) -> str:
    """Run the guest while somebody reads what it says; QEMU's version."""
    async with background(guest.serial.run()) as said, background(payload.run()) as sent:
        version = await guest.run()
        await asyncio.gather(said, sent)
        return version


def _pcr(name: str, text: bytes) -> Sha384:
    try:
        return Sha384.fromhex(text.decode("ascii", "replace").strip(), origin=name)
    except MalformedDocument as error:
        raise LaunchFailed(str(error)) from error


def _files(payload: Drain) -> dict[str, bytes]:
    if payload.total > _PAYLOAD_KEPT:
        raise LaunchFailed(f"the guest sent {payload.total} bytes, too many for a payload")
    return read_payload(bytes(payload.kept))


def _back_ends(ends: Mapping[str, socket.socket]) -> list[str]:
    arguments = []
    for name, end in ends.items():
        arguments += ["-chardev", f"socket,id={name},fd={end.fileno()}"]
    return arguments


def _boot_arguments(spec: LaunchSpec, folder: Path, work: Path) -> Sequence[str]:
    """Firmware, kernel, initrd and command line; ``work`` takes a firmware put together here."""
    firmware = _file(folder, spec.firmware.path, "firmware.path")
    if spec.firmware.vars is not None:
        variables = _file(folder, spec.firmware.vars, "firmware.vars")
        whole = work / "firmware.fd"
        # The image is mapped to end at 4 GiB, the variable store in front of the code.
        whole.write_bytes(variables.read_bytes() + firmware.read_bytes())
        firmware = whole
    arguments = ["-bios", str(firmware)]
    arguments += ["-kernel", str(_file(folder, spec.boot.kernel, "boot.kernel"))]
    if spec.boot.initrd is not None:
        arguments += ["-initrd", str(_file(folder, spec.boot.initrd, "boot.initrd"))]
    if spec.boot.cmdline:
        arguments += ["-append", spec.boot.cmdline]
    return arguments


def _file(folder: Path, name: str, field: str) -> Path:
    path = (folder / name).absolute()
    if not path.is_file():
        raise SpecError(f"{path} is not a file", origin="launch spec", field=field)
    return path
