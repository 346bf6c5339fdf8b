"""Opening an image with its backing files, none of which may lead out of the image's folder."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from mrtd.disk.host_file import HostFile, open_file
from mrtd.disk.image import DiskFormat, OpenDisk, RawDisk
from mrtd.disk.qcow2 import Qcow2Disk, read_file_header
from mrtd.errors import MalformedDisk

_MAX_CHAIN: Final = 32
"""Images, one behind the other."""


@contextmanager
def open_disk(
    path: Path,
    format: DiskFormat,  # noqa: A002 - QEMU's name for it
    *,
    allow_backing_outside: bool = False,
) -> Iterator[OpenDisk]:
    """Open an image for reading.

    Args:
        path: the image; for ``raw`` also a block device.
        format: its format.
        allow_backing_outside: whether backing files may be elsewhere than in the image's folder
            and the folders in it. An image names them itself, and who made it may name any file
            of the host.

    Raises:
        MalformedDisk: it cannot be opened, breaks its format, or is of a kind that is refused.
    """
    folder = None if allow_backing_outside else _resolved(path.parent, origin=str(path))
    with ExitStack() as stack:
        yield _Chain(stack, folder, set()).open(path, format)


@dataclass(frozen=True, slots=True)
class _Chain:
    """Images that are being opened.

    Attributes:
        stack: closes them.
        folder: where backing files have to be; None: anywhere.
        seen: the files, by `HostFile.identity`.
    """

    stack: ExitStack
    folder: Path | None
    seen: set[tuple[int, int]]

    def open(self, path: Path, kind: str) -> OpenDisk:
        """Open an image and what is behind it."""
        file = self.stack.enter_context(open_file(path))
        if file.identity in self.seen:
            raise MalformedDisk("its backing files lead back to it", origin=file.origin)
        self.seen.add(file.identity)
        if len(self.seen) > _MAX_CHAIN:
            raise MalformedDisk(f"more than {_MAX_CHAIN} backing files", origin=file.origin)
        if kind == "raw":
            return RawDisk(file)
        if kind != "qcow2":
            raise MalformedDisk(
                f"format {kind!r} is not read, only raw and qcow2", origin=file.origin
            )
        header = read_file_header(file)
        if header.backing is None:
            return Qcow2Disk(file, header, None)
        if header.backing_format is None:
            raise MalformedDisk(
                f"does not say which format its backing file {header.backing!r} has",
                origin=file.origin, field="backing file",
                hint="qemu-img rebase -u -F FORMAT -b FILE IMAGE says it",
            )  # fmt: skip
        behind = self.open(self._place(file, header.backing), header.backing_format)
        return Qcow2Disk(file, header, behind)

    def _place(self, file: HostFile, name: str) -> Path:
        """The path of a backing file, which stands relative to the image that names it."""
        if ":" in name.partition("/")[0] or "\0" in name:  # QEMU block.c: path_has_protocol
            raise MalformedDisk(
                f"{name!r} is not the name of a file", origin=file.origin, field="backing file"
            )
        path = _resolved(file.path.parent / name, origin=file.origin)
        if self.folder is not None and not path.is_relative_to(self.folder):
            raise MalformedDisk(
                f"{name!r} is not in the image's folder", origin=file.origin, field="backing file",
                hint="allow it if you trust who made the image, or put the files together",
            )  # fmt: skip
        return path


def _resolved(path: Path, *, origin: str) -> Path:
    try:
        return path.resolve()
    except (OSError, RuntimeError, ValueError) as error:
        raise MalformedDisk(f"no such folder: {path}: {error}", origin=origin) from error
