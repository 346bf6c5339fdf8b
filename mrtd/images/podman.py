"""What podman says that runs: name, image and digest of each container.

The digest is ``.ImageDigest`` of ``podman inspect`` (podman 4 to 5.8): that of the manifest, or of
the index if the image was pulled by that. ``.Image`` is the digest of the configuration, and
``podman ps --format json`` has none of a manifest: what it lists has no digest.
"""

from __future__ import annotations

import re
from typing import Annotated, Final

import msgspec

from mrtd.errors import MalformedDocument, ToolFailed
from mrtd.images.program import Program
from mrtd.images.status import Deployment

PROGRAM: Final = "podman"
COUNT_LIMIT: Final = 1000
SIZE_LIMIT: Final = 64 << 20
_SECONDS: Final = 60
_ID: Final = re.compile(r"[0-9a-f]{64}")

_Name = Annotated[str, msgspec.Meta(max_length=256)]
_Image = Annotated[str, msgspec.Meta(max_length=512)]


class _Inspected(msgspec.Struct):
    """An entry of ``podman inspect``."""

    name: _Name = msgspec.field(name="Name")
    image: _Image = msgspec.field(name="ImageName")
    digest: _Image = msgspec.field(name="ImageDigest", default="")


class _Listed(msgspec.Struct):
    """An entry of ``podman ps --format json``."""

    names: Annotated[list[_Name], msgspec.Meta(min_length=1)] = msgspec.field(name="Names")
    image: _Image = msgspec.field(name="Image")


def read_containers(data: bytes, *, origin: str) -> tuple[Deployment, ...]:
    """Read the JSON of ``podman inspect``, or of ``podman ps``, which has no digests.

    Raises:
        MalformedDocument: neither of them, or more than anybody runs.
    """
    if len(data) > SIZE_LIMIT:
        raise MalformedDocument(f"more than {SIZE_LIMIT} bytes", origin=origin)
    try:
        entries = msgspec.json.decode(data, type=list[dict[str, msgspec.Raw]])
        inspected = all("ImageName" in entry for entry in entries)
        if inspected:
            found = msgspec.json.decode(data, type=list[_Inspected])
            made = [Deployment(one.name.removeprefix("/"), one.image, one.digest) for one in found]
        else:
            listed = msgspec.json.decode(data, type=list[_Listed])
            made = [Deployment(one.names[0], one.image) for one in listed]
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise MalformedDocument(
            f"is not what podman inspect prints: {error}", origin=origin,
            hint="podman inspect --type container $(podman ps -q) > containers.json",
        ) from error  # fmt: skip
    if len(made) > COUNT_LIMIT:
        raise MalformedDocument(f"more than {COUNT_LIMIT} containers", origin=origin)
    return tuple(made)


def running_containers(podman: Program) -> tuple[Deployment, ...]:
    """What runs here now.

    Raises:
        ToolMissing, ToolFailed: podman cannot be asked.
        MalformedDocument: it answers something else.
    """
    listed = _ask(podman, "ps", "--quiet", "--no-trunc").decode("ascii", "replace").split()
    if not listed:
        return ()
    if len(listed) > COUNT_LIMIT or not all(_ID.fullmatch(one) for one in listed):
        raise ToolFailed("ps printed something else than ids of containers", origin=PROGRAM)
    data = _ask(podman, "inspect", "--type=container", *listed)
    return read_containers(data, origin="podman inspect")


def _ask(podman: Program, *words: str) -> bytes:
    said = podman.run(*words, seconds=_SECONDS)
    if said.status != 0:
        raise ToolFailed(f"{words[0]}: {said.short}", origin=PROGRAM)
    return said.stdout
