"""A software TPM 2.0 for one boot: SHA-256 and SHA-384 banks, new state every time."""

from __future__ import annotations

import asyncio
import shutil
import socket
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from ci.channels import ended
from ci.janitor import Janitor
from mrtd.errors import ToolMissing
from mrtd.qemu.process import Process, running

# A new swtpm has SHA-1 and SHA-512 banks too. edk2 switches off banks that it was built without and
# resets the machine for it (Tcg2Pei, SyncPcrAllocationsAndPcrMask), which would end the boot.
_BANKS: Final = "sha256,sha384"


@asynccontextmanager
async def software_tpm(
    control: socket.socket, *, deadline: float, helper: Janitor
) -> AsyncIterator[Process]:
    """A running swtpm that waits for QEMU's tpm-emulator at the other end of a connection.

    Args:
        control: the TPM's end of the connection; closed on our side.
        deadline: seconds for setting the TPM up.
        helper: removes the TPM's folders if nobody else can.

    Raises:
        ToolMissing: swtpm or swtpm_setup is not installed.
        ToolFailed: the TPM could not be set up.
    """
    swtpm = _find("swtpm", package="swtpm")
    setup = _find("swtpm_setup", package="swtpm-tools")
    with tempfile.TemporaryDirectory(prefix="mrtd-tpm-") as folder:
        helper.remember(Path(folder))
        await _set_up(setup, Path(folder), deadline, helper)
        arguments = [
            *(swtpm, "socket", "--tpm2", "--terminate"),
            *("--tpmstate", f"dir={folder}"),
            *("--ctrl", f"type=unixio,clientfd={control.fileno()}"),
        ]
        with running(arguments, pass_fds=[control.fileno()]) as process:
            helper.remember(process.folder)
            control.close()
            yield process


async def _set_up(setup: str, folder: Path, deadline: float, helper: Janitor) -> None:
    # An own, empty configuration: no certificates are wanted, and the host's file may be missing.
    config = folder / "swtpm_setup.conf"
    config.touch()
    arguments = [
        *(setup, "--tpm2", "--tpmstate", str(folder), "--config", str(config)),
        *("--pcr-banks", _BANKS, "--overwrite"),
    ]
    with running(arguments) as process:
        helper.remember(process.folder)
        try:
            status = await asyncio.wait_for(ended(process), deadline)
        except TimeoutError as error:
            raise process.failure(f"no end after {deadline:g} seconds") from error
        if status != 0:
            raise process.failure(f"ended with status {status}")


def _find(name: str, *, package: str) -> str:
    found = shutil.which(name)
    if found is None:
        raise ToolMissing(f"{name} is not installed", hint=f"apt-get install {package}")
    return found
