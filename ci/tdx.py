"""What makes a QEMU launch one of a TD: the ``tdx-guest`` object and what goes with it.

Names and types: QEMU 11.1 ``qom-list-properties tdx-guest`` and qapi/sockets.json (SocketAddress).
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from mrtd.errors import SpecError

_OBJECT: Final = "tdx0"
_MEMORY: Final = "mem0"
_VSOCK: Final = re.compile(r"vsock:([0-9]{1,10}):([0-9]{1,10})")
_U32: Final = 1 << 32


@dataclass(frozen=True, slots=True)
class Vsock:
    """A quote generation service on vsock; CID 2 is the host, 4050 the port of Intel's qgsd."""

    cid: int = 2
    port: int = 4050

    def address(self) -> dict[str, str]:
        """As QEMU's SocketAddress, whose numbers are strings."""
        return {"type": "vsock", "cid": str(self.cid), "port": str(self.port)}


@dataclass(frozen=True, slots=True)
class UnixSocket:
    """A quote generation service on a Unix socket of the host, such as /var/run/tdx-qgs/qgs.socket.

    QEMU connects to it when the guest asks for a quote, not before.
    """

    path: Path

    def address(self) -> dict[str, str]:
        """As QEMU's SocketAddress."""
        return {"type": "unix", "path": str(self.path)}


QuoteService = Vsock | UnixSocket
HOST_QGS: Final = Vsock()
"""Where Intel's quote generation service listens by default."""


def read_quote_service(text: str) -> QuoteService:
    """Read ``vsock:CID:PORT`` or ``unix:PATH``. Raises `SpecError`."""
    found = _VSOCK.fullmatch(text)
    if found and int(found[1]) < _U32 and int(found[2]) < _U32:
        return Vsock(int(found[1]), int(found[2]))
    kind, _, path = text.partition(":")
    if kind == "unix" and path.startswith("/") and path.isprintable():
        return UnixSocket(Path(path))
    raise SpecError(
        f"{text[:80]!r} is no address",
        origin="quote generation service",
        hint="vsock:CID:PORT, such as vsock:2:4050, or unix:/absolute/path",
    )


def tdx_arguments(memory_bytes: int, service: QuoteService | None) -> tuple[str, ...]:
    """The QEMU arguments that turn the measured machine into a TD.

    QEMU merges the ``-machine`` option with the one of `mrtd.qemu.argv`, which says
    ``kernel_irqchip=split``. The memory back end is not measured: ACPI tables are the same with it.

    Args:
        memory_bytes: the guest's memory.
        service: who makes quotes; without one the guest gets none.
    """
    guest: dict[str, object] = {"qom-type": "tdx-guest", "id": _OBJECT}
    if service is not None:
        guest["quote-generation-socket"] = service.address()
    return (
        *("-object", json.dumps(guest)),
        *("-object", f"memory-backend-ram,id={_MEMORY},size={memory_bytes}"),
        *("-machine", f"confidential-guest-support={_OBJECT},memory-backend={_MEMORY}"),
    )
