"""What the system has to offer: its distribution, and the programs that tests and jobs run.

``python -m ci.system qemu swtpm`` makes sure that these programs are there: as root (or with a
``sudo`` that asks for no password) it installs what is missing; otherwise it prints the command
that does, and lets the tests that need them be skipped - except in CI, where that fails.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from mrtd.errors import ToolMissing

_APT_SECONDS: Final = 900
_ADMIN_FOLDERS: Final = ("/usr/local/sbin", "/usr/sbin", "/sbin")


@dataclass(frozen=True, slots=True)
class Tool:
    """A program and the package, of Debian and Ubuntu alike, that brings it."""

    program: str
    package: str


TOOLS: Final[Mapping[str, Tool]] = {
    "qemu": Tool("qemu-system-x86_64", "qemu-system-x86"),
    "swtpm": Tool("swtpm_setup", "swtpm-tools"),
    "tpm2": Tool("tpm2_eventlog", "tpm2-tools"),
    "busybox": Tool("busybox", "busybox-static"),
    "cpio": Tool("cpio", "cpio"),
    "dash": Tool("dash", "dash"),
    "shellcheck": Tool("shellcheck", "shellcheck"),
    "chromium": Tool("chromium", "chromium"),
    "npm": Tool("npm", "npm"),
    "registry": Tool("docker-registry", "docker-registry"),
    "redis": Tool("redis-server", "redis-server"),
    "wrk": Tool("wrk", "wrk"),
    "qemu-img": Tool("qemu-img", "qemu-utils"),
    "sgdisk": Tool("sgdisk", "gdisk"),
    "mkfs.vfat": Tool("mkfs.vfat", "dosfstools"),
    "mkfs.ext4": Tool("mkfs.ext4", "e2fsprogs"),
    "mtools": Tool("mcopy", "mtools"),
    "debugfs": Tool("debugfs", "e2fsprogs"),
    "sbsign": Tool("sbsign", "sbsigntool"),
    "veritysetup": Tool("veritysetup", "cryptsetup-bin"),
    "mksquashfs": Tool("mksquashfs", "squashfs-tools"),
    # what makes a QEMU command line of a domain, without a daemon; the second has its QEMU driver
    "virsh": Tool("virsh", "libvirt-clients"),
    "libvirt": Tool("libvirtd", "libvirt-daemon-system"),
}


@dataclass(frozen=True, slots=True)
class Distribution:
    """The running distribution, from os-release(5).

    Attributes:
        id: ``debian``, ``ubuntu``, ...
        codename: ``bookworm``, ``noble``, ...; empty where it has none.
    """

    id: str
    codename: str


def distribution(os_release: Path = Path("/etc/os-release")) -> Distribution:
    """The distribution that ``os_release`` describes."""
    fields: dict[str, str] = {}
    if os_release.exists():
        for line in os_release.read_text(encoding="utf-8").splitlines():
            key, _, value = line.partition("=")
            fields[key] = value.strip().strip("\"'")
    return Distribution(fields.get("ID", ""), fields.get("VERSION_CODENAME", ""))


def find_program(program: str) -> Path | None:
    """Where a program is, also in the administrators' folders, which ``PATH`` may leave out."""
    path = os.pathsep.join([os.environ.get("PATH", os.defpath), *_ADMIN_FOLDERS])
    found = shutil.which(program, path=path)
    return None if found is None else Path(found)


def missing(names: Iterable[str]) -> tuple[Tool, ...]:
    """Those of the named tools that are not installed."""
    return tuple(TOOLS[name] for name in names if find_program(TOOLS[name].program) is None)


def install_command(tools: Iterable[Tool]) -> list[str]:
    """The command that installs the tools' packages."""
    return ["apt-get", "install", "-y", "--no-install-recommends", *(t.package for t in tools)]


def _as_root() -> list[str] | None:
    """What to put before a command so that root runs it, or None if that cannot be had."""
    if os.geteuid() == 0:
        return []
    sudo = shutil.which("sudo")
    if sudo is None:
        return None
    asked = subprocess.run([sudo, "-n", "true"], capture_output=True, check=False, timeout=30)
    return [sudo, "-n"] if asked.returncode == 0 else None


def install(tools: tuple[Tool, ...]) -> None:
    """Install the tools' packages.

    Raises:
        ToolMissing: there is no way to, or apt-get did not succeed; says what to type.
    """
    command = install_command(tools)
    hint = f"apt-get update && {' '.join(command)}"
    names = ", ".join(tool.program for tool in tools)
    prefix = _as_root()
    if prefix is None or shutil.which("apt-get") is None:
        raise ToolMissing(f"not installed: {names}", hint=f"as root: {hint}")
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    for step in (["apt-get", "update", "-q"], command):
        try:
            done = subprocess.run(
                [*prefix, *step],
                check=False,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=sys.stderr,
                timeout=_APT_SECONDS,
            )
        except subprocess.TimeoutExpired as error:
            raise ToolMissing(f"cannot install {names}: {error}", hint=hint) from error
        if done.returncode:
            raise ToolMissing(f"cannot install {names}: apt-get failed", hint=hint)


def main(names: list[str]) -> int:
    """Make sure that the named tools are there; the exit code."""
    unknown = [name for name in names if name not in TOOLS]
    if unknown or not names:
        print(f"usage: python -m ci.system TOOL...; tools: {', '.join(TOOLS)}", file=sys.stderr)
        return 2
    tools = missing(names)
    if not tools:
        return 0
    try:
        install(tools)
    except ToolMissing as error:
        print(f"ci.system: {error}; tests that need them are skipped", file=sys.stderr)
        return error.exit_code if os.environ.get("CI") else 0
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
