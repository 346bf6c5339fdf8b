"""Files of a release, as its document names them."""

from __future__ import annotations

import hashlib
from pathlib import Path

from mrtd.errors import SpecError
from mrtd.launch.spec import DiskBoot, LaunchSpec
from mrtd.launches import is_name
from mrtd.reference import Artifact


def artifact_of(path: Path, *, field: str = "--artifact") -> Artifact:
    """A file of the release; read piece by piece, images are large.

    Args:
        path: the file.
        field: what named it, for messages.

    Raises:
        SpecError: it cannot be read, or its name is none that a document may have.
    """
    if not is_name(path.name):
        raise SpecError(
            "its name has characters that no artifact may have",
            origin=str(path),
            field=field,
            hint="letters, digits and . _ + ~ : @ - are fine",
        )
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            size = file.tell()
    except OSError as error:
        raise SpecError(
            f"cannot be read: {error.strerror}", origin=str(path), field=field
        ) from error
    return Artifact(name=path.name, sha256=digest, size=size)


def boot_disks(spec: LaunchSpec, folder: Path) -> tuple[Artifact, ...]:
    """The image of the disk that boots, by which `mrtd.rederive` finds it again.

    None for other boots, for what is no regular file, and for a name that no artifact may have.

    Args:
        spec: the launch.
        folder: what its paths are relative to.

    Raises:
        SpecError: the image cannot be read.
    """
    if not isinstance(spec.boot, DiskBoot):
        return ()
    paths = [folder / disk.path for disk in spec.disks if disk.name == spec.boot.disk]
    return tuple(
        artifact_of(path, field="disks.path")
        for path in paths
        if path.is_file() and is_name(path.name)
    )
