"""QEMU, as the external program that it is: where it is, and which version."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Final

from mrtd.errors import ToolMissing
from mrtd.process import Process, running, sigterm_unwinds

__all__ = ["QEMU", "Process", "find_qemu", "qemu_version", "running", "sigterm_unwinds"]

QEMU: Final = "qemu-system-x86_64"
_VERSION: Final = re.compile(r"version ([0-9]{1,4}(?:\.[0-9]{1,4}){1,3})")


def find_qemu(explicit: Path | None = None) -> Path:
    """The QEMU to ask: the one given, or ``qemu-system-x86_64`` on the search path.

    Raises:
        ToolMissing: there is none.
    """
    found = shutil.which(str(explicit) if explicit is not None else QEMU)
    if found is None:
        raise ToolMissing(
            f"{explicit or QEMU} is not installed",
            hint="apt-get install qemu-system-x86 (Debian, Ubuntu), "
            "or give acpi.tables in the launch spec",
        )
    return Path(found).absolute()


def qemu_version(binary: Path, *, timeout: float = 30) -> str:
    """The version that a QEMU binary says it is, such as ``7.2.22``.

    Args:
        binary: the QEMU binary.
        timeout: seconds.

    Raises:
        ToolMissing: it cannot be started.
        ToolFailed: it hangs, fails or prints something else.
    """
    with running([str(binary), "--version"]) as process:
        if not process.wait(timeout):
            raise process.failure(f"--version gave no answer in {timeout:g} s")
        status = process.kill()
        match = _VERSION.search(process.output("stdout"))
        if status != 0 or match is None:
            raise process.failure(f"--version ended with status {status} and named no version")
        return match[1]
