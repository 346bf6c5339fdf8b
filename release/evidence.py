"""The evidence of a release: a redacted copy for everybody, the full one by its digest."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Final

import msgspec

from mrtd.errors import SpecError
from mrtd.evidence.bundle import encode_bundle, read_bundle
from mrtd.evidence.redact import redact
from mrtd.launches import is_name
from mrtd.reference import Artifact

PUBLIC: Final = "evidence.zip"


class Archive(msgspec.Struct, frozen=True, kw_only=True):
    """What is kept of a boot's evidence.

    Attributes:
        public: redacted; no signature of it verifies any more.
        full: as it was collected, under the name that was asked for; None if it was not.
        full_name: that name.
        removed: what redaction removed, one line each.
    """

    public: bytes
    full: bytes | None
    full_name: str
    removed: tuple[str, ...]

    @property
    def artifacts(self) -> tuple[Artifact, ...]:
        """Both as the document names them."""
        found = [_artifact(PUBLIC, self.public)]
        if self.full is not None:
            found.append(_artifact(self.full_name, self.full))
        return tuple(found)


def archive(path: Path, *, full_name: str | None) -> Archive:
    """Read an evidence bundle and make both copies; the same bundle always gives the same bytes.

    Raises:
        MalformedBundle: it is none.
        SpecError: the full copy cannot have this name.
    """
    if full_name is not None and (not is_name(full_name) or full_name == PUBLIC):
        raise SpecError(
            "is no name for a file of its own", origin=full_name, field="--full-evidence"
        )
    bundle = read_bundle(path)
    redacted, removed = redact(bundle)
    full = None if full_name is None else encode_bundle(bundle)
    return Archive(
        public=encode_bundle(redacted), full=full, full_name=full_name or "", removed=removed
    )


def _artifact(name: str, data: bytes) -> Artifact:
    return Artifact(name=name, sha256=hashlib.sha256(data).hexdigest(), size=len(data))
