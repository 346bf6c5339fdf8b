"""Files of the host that disk images are in: opened for reading, read at offsets."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from mrtd.errors import MalformedDisk


@dataclass(frozen=True, slots=True)
class HostFile:
    """An open file.

    Attributes:
        descriptor: what it is open as.
        size: bytes.
        path: where it is.
        identity: device and inode: the same for the same file, whatever its name.
    """

    descriptor: int
    size: int
    path: Path
    identity: tuple[int, int]

    def __reduce__(self) -> tuple[Callable[..., HostFile], tuple[object, ...]]:
        """Another process opens the file again."""
        return _reopened, (self.path.absolute(), self.size, self.identity)

    @property
    def origin(self) -> str:
        """The file, as messages name it."""
        return str(self.path)

    def read(self, offset: int, length: int, field: str) -> bytes:
        """Bytes of the file. Raises `MalformedDisk` if it has not so many."""
        if length < 0 or not 0 <= offset <= self.size - length:
            raise MalformedDisk(
                f"needs {length} bytes, the file has {self.size:#x}: is it cut off?",
                origin=self.origin, offset=offset, field=field,
            )  # fmt: skip
        parts = []
        try:
            while length:
                part = os.pread(self.descriptor, length, offset)
                if not part:
                    raise MalformedDisk(
                        "ends here: it became shorter while it was read",
                        origin=self.origin, offset=offset, field=field,
                    )  # fmt: skip
                parts.append(part)
                offset, length = offset + len(part), length - len(part)
        except OSError as error:
            raise MalformedDisk(
                f"cannot be read: {error.strerror}", origin=self.origin, offset=offset, field=field
            ) from error
        return parts[0] if len(parts) == 1 else b"".join(parts)


def _open(path: Path) -> int:
    try:
        # a FIFO without a writer would block; what is not a file is refused below
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise MalformedDisk(f"cannot be opened: {reason}", origin=str(path)) from error


def _reopened(path: Path, size: int, identity: tuple[int, int]) -> HostFile:
    """The same file in another process, open until that ends."""
    file = _described(_open(path), path)
    if (file.size, file.identity) != (size, identity):
        os.close(file.descriptor)
        raise MalformedDisk("is not the file that it was", origin=file.origin)
    return file


@contextmanager
def open_file(path: Path) -> Iterator[HostFile]:
    """Open a regular file or a block device. Raises `MalformedDisk`."""
    descriptor = _open(path)
    try:
        yield _described(descriptor, path)
    finally:
        os.close(descriptor)


def _described(descriptor: int, path: Path) -> HostFile:
    state = os.fstat(descriptor)
    if stat.S_ISREG(state.st_mode):
        size = state.st_size
    elif stat.S_ISBLK(state.st_mode):
        size = os.lseek(descriptor, 0, os.SEEK_END)
    else:
        raise MalformedDisk("is neither a file nor a block device", origin=str(path))
    return HostFile(descriptor, size, path, (state.st_dev, state.st_ino))
