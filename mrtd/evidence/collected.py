"""What the collector (``collect.sh``) sends, read without trusting it.

One line ``mrtd.payload/1 LENGTH``, then a tar archive of exactly LENGTH bytes, so that a payload
that was cut off is noticed. A bare tar archive is read as well: people unpack, look, pack again.
"""

from __future__ import annotations

import io
import re
import tarfile
from pathlib import PurePosixPath
from typing import Final

from mrtd.errors import MalformedBundle

PAYLOAD_LIMIT: Final = 64 << 20
"""No more than so many bytes are taken from a guest; a real payload has about 250 kB."""

_HEADER: Final = re.compile(rb"mrtd\.payload/1 (0|[1-9][0-9]{0,9})\n")
_FILES_LIMIT: Final = 4096


def read_collected(
    data: bytes, *, origin: str, framed: bool = False, limit: int = PAYLOAD_LIMIT
) -> dict[str, bytes]:
    """The files that a collector sent, by their relative name.

    Args:
        data: header and archive, or the archive alone.
        origin: where it came from, for messages.
        framed: whether the header has to be there.
        limit: how many bytes the archive may have.

    Raises:
        MalformedBundle: the archive is missing, cut off, too long, or holds anything but plain
            files and directories with names inside the archive.
    """
    header = _HEADER.match(data)
    if header is None and (framed or not data):
        raise _refuse(f"it starts with {data[:32]!r}", origin)
    archive = data
    if header is not None:
        archive = data[header.end() :]
        if len(archive) != (length := int(header[1])):
            raise _refuse(f"{len(archive)} bytes where {length} were announced", origin)
    if len(archive) > limit:
        raise _refuse(f"{len(archive)} bytes, more than {limit}", origin)
    try:
        with tarfile.open(fileobj=io.BytesIO(archive), mode="r:") as tar:
            return _files(tar, origin)
    except (tarfile.TarError, ValueError, EOFError, OverflowError) as error:
        raise _refuse(f"not a tar archive: {error}", origin) from error


def _files(tar: tarfile.TarFile, origin: str) -> dict[str, bytes]:
    files: dict[str, bytes] = {}
    for count, member in enumerate(tar, start=1):
        if count > _FILES_LIMIT:
            raise _refuse(f"more than {_FILES_LIMIT} members", origin)
        if member.isdir():
            continue
        name = _relative_name(member.name, origin)
        if not member.isreg() or member.issparse():
            raise _refuse(f"{name!r} is not a plain file", origin)
        if name in files:
            raise _refuse(f"{name!r} comes twice", origin)
        source = tar.extractfile(member)
        body = source.read() if source is not None else b""
        if len(body) != member.size:
            raise _refuse(f"{name!r} has {len(body)} of {member.size} bytes", origin)
        files[name] = body
    return files


def _relative_name(name: str, origin: str) -> str:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or not path.parts or not name.isprintable():
        raise _refuse(f"a member is named {name!r}", origin)
    return str(path)


def _refuse(why: str, origin: str) -> MalformedBundle:
    return MalformedBundle(
        why, origin=origin, hint="what the collector writes, from its first line to its last byte"
    )
