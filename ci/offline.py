"""Run a command without a network: ``python -m ci.offline COMMAND...``.

The command gets a network namespace of its own, in which only the loopback interface exists. Where
the system allows that to nobody but root, a user namespace is made first; where it allows neither,
the command runs with the network there is, and a line says so - except in CI, where that fails.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import socket
import struct
import subprocess
import sys
from typing import Final

_INNER: Final = "--in-namespace"
_SIOCGIFFLAGS: Final = 0x8913  # netdevice(7)
_SIOCSIFFLAGS: Final = 0x8914
_IFF_UP: Final = 1
_IFREQ_FLAGS: Final = "16sH14x"  # struct ifreq: name, flags, padding
_PROBE_SECONDS: Final = 20


def namespace_command() -> list[str] | None:
    """The ``unshare`` command line that works for this user here, or None."""
    unshare = shutil.which("unshare")
    if unshare is None:
        return None
    for options in (["--net"], ["--map-root-user", "--net"]):
        command = [unshare, *options, "--"]
        probe = subprocess.run(
            [*command, "true"], capture_output=True, check=False, timeout=_PROBE_SECONDS
        )
        if probe.returncode == 0:
            return command
    return None


def _loopback_up() -> None:
    """Switch on ``lo``, which a new namespace has switched off; tests use servers on it."""
    names = [name for _, name in socket.if_nameindex()]
    if names != ["lo"]:
        raise SystemExit(f"ci.offline: network interfaces are left: {', '.join(names)}")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        request = struct.pack(_IFREQ_FLAGS, b"lo", 0)
        _, flags = struct.unpack(_IFREQ_FLAGS, fcntl.ioctl(control, _SIOCGIFFLAGS, request))
        request = struct.pack(_IFREQ_FLAGS, b"lo", flags | _IFF_UP)
        fcntl.ioctl(control, _SIOCSIFFLAGS, request)


def main(arguments: list[str]) -> None:
    """Replace this process by the command. Raises `SystemExit` where it may not run."""
    if arguments[:1] == [_INNER]:
        _loopback_up()
        command = arguments[1:]
    elif prefix := namespace_command():
        print("network: none, by", " ".join(prefix[:-1]), flush=True)
        command = [*prefix, sys.executable, "-m", "ci.offline", _INNER, *arguments]
    elif os.environ.get("CI"):
        raise SystemExit("ci.offline: no network namespace to be had, and CI must have one")
    else:
        print("network: THERE IS ONE - unshare works neither as this user nor mapped", flush=True)
        command = arguments
    if not command:
        raise SystemExit("usage: python -m ci.offline COMMAND...")
    os.execvp(command[0], command)  # noqa: S606 - no shell wanted


if __name__ == "__main__":
    main(sys.argv[1:])
