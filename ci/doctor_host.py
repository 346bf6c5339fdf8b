"""The host as the doctor sees it: files, KVM, programs, sockets. All that the checks touch.

Tests build hosts of their own; `ThisHost` is the real one. It changes nothing on the machine.
"""

from __future__ import annotations

import fcntl
import importlib.util
import os
import platform
import shutil
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from ci.system import find_program
from mrtd.qemu.process import running
from mrtd.verifier.fetch import HttpFetch, Response

# linux/kvm.h: _IO(KVMIO, 0x03); extensions of `Host.kvm`
_KVM_CHECK_EXTENSION: Final = 0xAE03
KVM_CAP_SPLIT_IRQCHIP: Final = 121
KVM_CAP_VM_TYPES: Final = 235
# arch/x86/include/uapi/asm/kvm.h, Linux 6.16
KVM_X86_TDX_VM: Final = 5

_PROGRAM_SECONDS: Final = 20.0
_CONNECT_SECONDS: Final = 3.0
_HTTP_SECONDS: Final = 15.0
_HTTP_LIMIT: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Unix:
    """A Unix socket."""

    path: str

    def __str__(self) -> str:
        return self.path


@dataclass(frozen=True, slots=True)
class Vsock:
    """A port of a virtual machine's socket family; CID 2 is the host."""

    cid: int
    port: int

    def __str__(self) -> str:
        return f"vsock {self.cid}:{self.port}"


@dataclass(frozen=True, slots=True)
class Tcp:
    """A TCP port."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


Address = Unix | Vsock | Tcp


class Host(Protocol):
    """What a check may ask. Methods raise `OSError` as the system does, unless said otherwise."""

    @property
    def environment(self) -> Mapping[str, str]: ...

    def release(self) -> str:
        """The kernel's, such as ``6.16.3-amd64``."""

    def read(self, path: str, limit: int = 1 << 20) -> bytes:
        """The beginning of a file."""

    def kvm(self, capability: int) -> int:
        """``KVM_CHECK_EXTENSION`` on ``/dev/kvm``."""

    def which(self, program: str) -> str | None:
        """Where a program is; None if nowhere."""

    def run(self, argv: Sequence[str]) -> str:
        """What a program prints.

        Raises:
            MrtdError: it cannot be started, hangs or fails.
        """

    def connect(self, address: Address) -> None:
        """Connect and hang up, within 3 seconds; nothing is said."""

    def get(self, url: str, headers: Mapping[str, str]) -> Response:
        """GET a URL. Raises `TransportError`."""

    def free(self, path: str) -> int:
        """Free bytes of the file system that a folder is on."""

    def has_module(self, name: str) -> bool:
        """Whether a Python module is installed."""


class ThisHost:
    """This machine."""

    @property
    def environment(self) -> Mapping[str, str]:
        return os.environ

    def release(self) -> str:
        return platform.release()

    def read(self, path: str, limit: int = 1 << 20) -> bytes:
        # a pipe without a writer would keep us waiting
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as stream:
            return stream.read(limit) or b""

    def kvm(self, capability: int) -> int:
        descriptor = os.open("/dev/kvm", os.O_RDWR | os.O_CLOEXEC)
        try:
            return fcntl.ioctl(descriptor, _KVM_CHECK_EXTENSION, capability)
        finally:
            os.close(descriptor)

    def which(self, program: str) -> str | None:
        found = find_program(program)
        return None if found is None else str(found)

    def run(self, argv: Sequence[str]) -> str:
        with running(argv) as process:
            if not process.wait(_PROGRAM_SECONDS):
                raise process.failure(f"no end within {_PROGRAM_SECONDS:.0f} s")
            if status := process.kill():
                raise process.failure(f"ended with status {status}")
            # dmesg prints up to a few MiB, of which the beginning counts
            return (process.folder / "stdout").read_bytes()[: 8 << 20].decode("utf-8", "replace")

    def connect(self, address: Address) -> None:
        if isinstance(address, Tcp):
            target = (address.host, address.port)
            socket.create_connection(target, timeout=_CONNECT_SECONDS).close()
            return
        family = socket.AF_UNIX if isinstance(address, Unix) else socket.AF_VSOCK
        with socket.socket(family, socket.SOCK_STREAM) as line:
            line.settimeout(_CONNECT_SECONDS)
            line.connect(address.path if isinstance(address, Unix) else (address.cid, address.port))

    def get(self, url: str, headers: Mapping[str, str]) -> Response:
        return HttpFetch()(url, headers=headers, limit=_HTTP_LIMIT, timeout=_HTTP_SECONDS)

    def free(self, path: str) -> int:
        return shutil.disk_usage(Path(path)).free

    def has_module(self, name: str) -> bool:
        return importlib.util.find_spec(name) is not None
