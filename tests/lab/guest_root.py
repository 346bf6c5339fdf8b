"""A guest's root without a VM: busybox, podman's packages and nothing else, in a mount namespace.

What runs there sees neither this machine's files nor its configuration; it shares the network (the
loopback interface, in tests). Root may do this, and others where user namespaces are allowed.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

# $1 new root, $2 podman's packages, $3 a static busybox, $4 a folder that becomes /shared
_ENTER: Final = """\
set -eu
root=$1 packages=$2 busybox=$3 shared=$4
shift 4
mount -t tmpfs tmpfs "$root"
cd "$root"
for folder in usr bin etc/containers proc dev tmp run old shared var/tmp var/lib sys/fs/cgroup; do
    mkdir -p "$folder"
done
mount --bind "$packages/usr" usr
mount --bind "$shared" shared
cp "$busybox" bin/busybox
for link in lib:usr/lib lib64:usr/lib64 sbin:usr/sbin; do ln -s "${link#*:}" "${link%:*}"; done
echo 'root:x:0:0:root:/:/bin/sh' >etc/passwd
echo 'root:x:0:' >etc/group
mount -t tmpfs -o mode=755 tmpfs dev
mkdir -p dev/shm dev/pts
mount -t tmpfs tmpfs dev/shm
for device in null zero full random urandom tty; do
    : >"dev/$device"
    mount --bind "/dev/$device" "dev/$device"
done
mount --rbind /proc proc
mount -t cgroup2 cgroup2 sys/fs/cgroup 2>/dev/null || :
pivot_root . old
cd /
/bin/busybox umount -l /old
/bin/busybox --install -s /bin
exec /bin/busybox env -i PATH=/bin:/usr/sbin:/usr/bin "$@"
"""
_SECONDS: Final = 240


def namespaces() -> list[str] | None:
    """The ``unshare`` command line that works for this user here, or None."""
    unshare = shutil.which("unshare")
    for options in ([], ["--map-root-user"]):
        command = [str(unshare), *options, "--mount", "--propagation=private", "--"]
        tried = [*command, "mount", "-t", "tmpfs", "tmpfs", "/mnt"]
        if unshare and subprocess.run(tried, capture_output=True, check=False).returncode == 0:
            return command
    return None


@dataclass(frozen=True, slots=True)
class GuestRoot:
    """A guest's root, made anew for each command.

    Attributes:
        unshare: the command that makes a namespace.
        packages: folder with podman's packages.
        busybox: a static one.
        folder: of the test; it is /shared in the guest.
    """

    unshare: Sequence[str]
    packages: Path
    busybox: Path
    folder: Path

    def run(self, script: str) -> subprocess.CompletedProcess[str]:
        """Run a script of the guest's shell."""
        root = self.folder / "root"
        root.mkdir(exist_ok=True)
        (self.folder / "script").write_text(script, encoding="utf-8")
        return subprocess.run(
            [*self.unshare, "sh", "-c", _ENTER, "sh", root, self.packages, self.busybox,
             self.folder, "sh", "/shared/script"],
            capture_output=True, check=False, encoding="utf-8", errors="replace",
            stdin=subprocess.DEVNULL, timeout=_SECONDS,
        )  # fmt: skip
