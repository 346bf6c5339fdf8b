"""Files of a release, as its document names them."""

from __future__ import annotations

import hashlib
from pathlib import Path

from mrtd.errors import SpecError
from mrtd.launches import is_name
from mrtd.reference import Artifact


def artifact_of(path: Path) -> Artifact:
    """A file of the release; read piece by piece, images are large. Raises `SpecError`."""
    if not is_name(path.name):
        raise SpecError(
            "its name has characters that no artifact may have",
            origin=str(path),
            field="--artifact",
            hint="letters, digits and . _ + ~ : @ - are fine",
        )
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            size = file.tell()
    except OSError as error:
        raise SpecError(
            f"cannot be read: {error.strerror}", origin=str(path), field="--artifact"
        ) from error
    return Artifact(name=path.name, sha256=digest, size=size)
