"""What the measuring guest sends (``ci/guest/init.sh``), read without trusting it.

One line ``mrtd.payload/1 LENGTH``, then a tar archive of exactly LENGTH bytes.
"""

from __future__ import annotations

import io
import re
import tarfile
from pathlib import PurePosixPath
from typing import Final

from ci.errors import LaunchFailed

PORT_NAME: Final = "org.mrtd.payload"
"""The virtio-serial port that the guest looks for."""

PAYLOAD_LIMIT: Final = 64 << 20
"""No more than so many bytes are taken from a guest; a real payload has about 250 kB."""

_HEADER: Final = re.compile(rb"mrtd\.payload/1 (0|[1-9][0-9]{0,9})\n")
_FILES_LIMIT: Final = 4096


def read_payload(payload: bytes) -> dict[str, bytes]:
    """The files of a payload by their relative name.

    Args:
        payload: everything that came through the port.

    Raises:
        LaunchFailed: the payload is missing, cut off, too long, or holds anything but plain files
            and directories with names inside the archive.
    """
    if not payload:
        raise LaunchFailed("the guest sent no payload")
    header = _HEADER.match(payload)
    if header is None:
        raise _refuse(f"it starts with {payload[:32]!r}")
    archive = payload[header.end() :]
    if len(archive) != (length := int(header[1])):
        raise _refuse(f"{len(archive)} bytes where {length} were announced")
    if length > PAYLOAD_LIMIT:
        raise _refuse(f"{length} bytes, more than {PAYLOAD_LIMIT}")
    try:
        with tarfile.open(fileobj=io.BytesIO(archive), mode="r:") as tar:
            return _files(tar)
    except (tarfile.TarError, ValueError, EOFError, OverflowError) as error:
        raise _refuse(f"not a tar archive: {error}") from error


def _files(tar: tarfile.TarFile) -> dict[str, bytes]:
    files: dict[str, bytes] = {}
    for count, member in enumerate(tar, start=1):
        if count > _FILES_LIMIT:
            raise _refuse(f"more than {_FILES_LIMIT} members")
        if member.isdir():
            continue
        name = _relative_name(member.name)
        if not member.isreg() or member.issparse():
            raise _refuse(f"{name!r} is not a plain file")
        if name in files:
            raise _refuse(f"{name!r} comes twice")
        source = tar.extractfile(member)
        body = source.read() if source is not None else b""
        if len(body) != member.size:
            raise _refuse(f"{name!r} has {len(body)} of {member.size} bytes")
        files[name] = body
    return files


def _relative_name(name: str) -> str:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or not path.parts or not name.isprintable():
        raise _refuse(f"a member is named {name!r}")
    return str(path)


def _refuse(why: str) -> LaunchFailed:
    return LaunchFailed(f"the guest's payload cannot be used: {why}")
