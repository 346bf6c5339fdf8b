"""OCI images, as bytes: blobs, configs, manifests, indexes, and the layout that holds them.

Source: OCI image specification 1.1 (manifest.md, image-index.md, config.md, image-layout.md). All
JSON is written with sorted keys and without blanks, so that the same image has the same digest.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from mrtd.errors import InputError, SpecError

MANIFEST: Final = "application/vnd.oci.image.manifest.v1+json"
INDEX: Final = "application/vnd.oci.image.index.v1+json"
CONFIG: Final = "application/vnd.oci.image.config.v1+json"
LAYER: Final = "application/vnd.oci.image.layer.v1.tar+gzip"
DOCKER_MANIFEST: Final = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_LIST: Final = "application/vnd.docker.distribution.manifest.list.v2+json"
# Docker's schema 2 differs from OCI's in names alone.
OCI_NAME: Final[Mapping[str, str]] = {
    DOCKER_MANIFEST: MANIFEST,
    "application/vnd.docker.container.image.v1+json": CONFIG,
    "application/vnd.docker.image.rootfs.diff.tar.gzip": LAYER,
    "application/vnd.docker.image.rootfs.diff.tar": "application/vnd.oci.image.layer.v1.tar",
}
JSON_LIMIT: Final = 4 << 20
"""Bytes of a manifest or a config; registries take no more."""
_MOST: Final = 1000
_DIGEST: Final = re.compile(r"sha256:[0-9a-f]{64}")

Json = dict[str, Any]


class MalformedImage(InputError):
    """An image, or a part of it, does not follow its format or its digest."""


@dataclass(frozen=True, slots=True)
class Descriptor:
    """What names a blob.

    Attributes:
        digest: ``sha256:...``.
        size: bytes.
    """

    media_type: str
    digest: str
    size: int

    def to_json(self, **more: object) -> Json:
        """As manifests and indexes have it."""
        return {"mediaType": self.media_type, "digest": self.digest, "size": self.size, **more}


def digest_of(data: bytes) -> str:
    """A blob's digest."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def encode(tree: object) -> bytes:
    """JSON, always of the same bytes."""
    return json.dumps(tree, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def read_object(data: bytes, *, origin: str) -> Json:
    """A JSON object of bounded size. Raises `MalformedImage`."""
    if len(data) > JSON_LIMIT:
        raise MalformedImage(f"more than {JSON_LIMIT} bytes", origin=origin)
    try:
        tree = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise MalformedImage("is not JSON", origin=origin) from error
    if not isinstance(tree, dict):
        raise MalformedImage("is no JSON object", origin=origin)
    return tree


def read_descriptors(tree: Json, name: str, *, origin: str) -> list[Json]:
    """A list of descriptors, each with the members that all have. Raises `MalformedImage`."""
    found: object = tree.get(name)
    if not isinstance(found, list) or len(found) > _MOST:
        raise MalformedImage("is no list of descriptors", origin=origin, field=name)
    for number, one in enumerate(found):
        members = one if isinstance(one, dict) else {}
        digest, size, kind = (members.get(key) for key in ("digest", "size", "mediaType"))
        well = isinstance(digest, str) and _DIGEST.fullmatch(digest) and isinstance(kind, str)
        if not (well and isinstance(size, int) and size >= 0):
            raise MalformedImage("is no descriptor", origin=origin, field=f"{name}[{number}]")
    return found


class Layout:
    """A folder in OCI image-layout format, which is written.

    Args:
        folder: is made; what a layout of it had before is removed.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._blobs = folder / "blobs" / "sha256"
        try:
            if folder.exists() and not (folder / "oci-layout").is_file() and any(folder.iterdir()):
                raise SpecError("is a folder with something else in it", origin=str(folder))
            shutil.rmtree(folder, ignore_errors=True)
            self._blobs.mkdir(parents=True)
            (folder / "oci-layout").write_bytes(encode({"imageLayoutVersion": "1.0.0"}))
        except OSError as error:
            raise SpecError(f"cannot be made: {error.strerror}", origin=str(folder)) from error

    def add(self, data: bytes, media_type: str) -> Descriptor:
        """Store a blob."""
        digest = digest_of(data)
        (self._blobs / digest.removeprefix("sha256:")).write_bytes(data)
        return Descriptor(media_type, digest, len(data))

    def take(self, file: Path, descriptor: Descriptor) -> Descriptor:
        """Store a file, which has to be what its descriptor says. Raises `MalformedImage`."""
        target = self._blobs / descriptor.digest.removeprefix("sha256:")
        if not target.exists():
            shutil.copyfile(file, target)
        with target.open("rb") as blob:
            found = f"sha256:{hashlib.file_digest(blob, 'sha256').hexdigest()}"
        if found != descriptor.digest or target.stat().st_size != descriptor.size:
            target.unlink()
            raise MalformedImage(f"is not {descriptor.digest}", origin=str(file))
        return descriptor

    def finish(self, entry: Descriptor) -> None:
        """Name the one image (or index) of the layout; last, so that a torn layout has none."""
        tree = {"schemaVersion": 2, "mediaType": INDEX, "manifests": [entry.to_json()]}
        (self.folder / "index.json").write_bytes(encode(tree))


def manifest(config: Descriptor, layers: list[Descriptor], annotations: Mapping[str, str]) -> bytes:
    """An image manifest."""
    return encode(
        {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": config.to_json(),
            "layers": [layer.to_json() for layer in layers],
            "annotations": dict(annotations),
        }
    )


def index(manifests: Mapping[str, Descriptor], annotations: Mapping[str, str]) -> bytes:
    """An index of images by platform, such as ``linux/arm64``."""
    return encode(
        {
            "schemaVersion": 2,
            "mediaType": INDEX,
            "manifests": [
                one.to_json(platform=platform_json(name)) for name, one in sorted(manifests.items())
            ],
            "annotations": dict(annotations),
        }
    )


def platform_json(name: str) -> Json:
    """``linux/arm/v7``, as an index has it."""
    return dict(zip(("os", "architecture", "variant"), name.split("/"), strict=False))


def platform_name(platform: Json) -> str:
    """An index's platform, as people write it."""
    parts = (platform.get(key) for key in ("os", "architecture", "variant"))
    return "/".join(str(part) for part in parts if part)
