"""The cpio archives that systemd-stub makes of files beside and sections in a UKI.

Sources: Linux Documentation/driver-api/early-userspace/buffer-format.rst ("newc"); systemd
src/boot/cpio.c (owners, times and links, order, directories).
"""

from __future__ import annotations

import stat
from collections.abc import Iterable
from typing import Final

_MAGIC: Final = b"070701"
_PARENT_MODE: Final = 0o555
# As systemd-stub writes it: the one upper-case digit of the archive
_TRAILER: Final = (
    _MAGIC + b"00000000" * 4 + b"00000001" + b"00000000" * 6 + b"0000000B" + b"00000000"
    b"TRAILER!!!\0\0\0\0"
)


def pad4(data: bytes) -> bytes:
    """Data, with zeros up to a multiple of 4 bytes."""
    return data + bytes(-len(data) % 4)


def archive(
    folder: str, files: Iterable[tuple[str, bytes]], *, folder_mode: int, file_mode: int
) -> bytes:
    """A newc archive of files in one folder.

    Args:
        folder: path of the folder, such as ``.extra/credentials``; its parents come first.
        files: name and content, in the order of the archive.
        folder_mode: permissions of the folder; its parents have 0555.
        file_mode: permissions of the files.
    """
    parts = folder.split("/")
    parents = ["/".join(parts[: count + 1]) for count in range(len(parts) - 1)]
    members = [(path, stat.S_IFDIR | _PARENT_MODE, b"") for path in parents]
    members.append((folder, stat.S_IFDIR | folder_mode, b""))
    members += [(f"{folder}/{name}", stat.S_IFREG | file_mode, body) for name, body in files]
    written = (_member(number, *member) for number, member in enumerate(members, start=1))
    return b"".join(written) + _TRAILER


def _member(inode: int, path: str, mode: int, body: bytes) -> bytes:
    name = path.encode("ascii") + b"\0"
    numbers = (inode, mode, 0, 0, 1, 0, len(body), 0, 0, 0, 0, len(name), 0)
    header = _MAGIC + b"".join(b"%08x" % number for number in numbers)
    return pad4(header + name) + pad4(body)
