"""A base image in skopeo's ``dir`` format: one manifest, and its blobs, named by digest."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mrtd.images.reference import ImageReference
from release.oci import (
    DOCKER_MANIFEST,
    JSON_LIMIT,
    MANIFEST,
    OCI_NAME,
    Descriptor,
    Json,
    Layout,
    MalformedImage,
    digest_of,
    read_descriptors,
    read_object,
)


@dataclass(frozen=True, slots=True)
class BaseImage:
    """The image of one platform to build upon; every byte of it has its digest.

    Attributes:
        name: by digest.
        config: its config, parsed.
        layers: of the layout, in order.
    """

    name: ImageReference
    config: Json
    layers: list[Descriptor]

    @classmethod
    def take(cls, folder: Path, name: ImageReference, platform: str, layout: Layout) -> BaseImage:
        """Read a base image, and copy its layers into a layout.

        Raises:
            MalformedImage: it is another one, of another platform, or broken.
        """
        origin = str(name)
        raw = _bytes(folder / "manifest.json")
        if digest_of(raw) != name.digest:
            raise MalformedImage(f"is {digest_of(raw)}", origin=origin)
        manifest = read_object(raw, origin=origin)
        if manifest.get("mediaType", MANIFEST) not in {MANIFEST, DOCKER_MANIFEST}:
            raise MalformedImage("is no image", origin=origin, field="mediaType")
        (about,) = read_descriptors({"config": [manifest.get("config")]}, "config", origin=origin)
        data = _bytes(_blob(folder, about))
        if digest_of(data) != about["digest"]:
            raise MalformedImage("is not its digest", origin=origin, field="config")
        config = read_object(data, origin=origin)
        if f"{config.get('os')}/{config.get('architecture')}" != platform:
            raise MalformedImage(f"is not for {platform}", origin=origin, field="config")
        layers = [
            layout.take(
                _blob(folder, one),
                Descriptor(
                    OCI_NAME.get(one["mediaType"], one["mediaType"]), one["digest"], one["size"]
                ),
            )
            for one in read_descriptors(manifest, "layers", origin=origin)
        ]
        if len(_diff_ids(config, origin)) != len(layers):
            raise MalformedImage("has another number of layers", origin=origin, field="rootfs")
        return cls(name, config, layers)

    def with_layer(self, diff_id: str, *, created: str, by: str, **settings: Any) -> Json:  # noqa: ANN401 - JSON
        """The config of an image with one more layer; ``settings`` replace the config's own.

        Names are those of the specification: ``Entrypoint``, ``Cmd``, ``Env``, ``Labels``.
        """
        history = self.config.get("history")
        rootfs = {"type": "layers", "diff_ids": [*self.config["rootfs"]["diff_ids"], diff_id]}
        inner = self.config.get("config")
        return {
            **self.config,
            "created": created,
            "config": {**(inner if isinstance(inner, dict) else {}), **settings},
            "rootfs": rootfs,
            "history": [
                *(history if isinstance(history, list) else []),
                {"created": created, "created_by": by},
            ],
        }


def _diff_ids(config: Json, origin: str) -> list[object]:
    rootfs = config.get("rootfs")
    found = rootfs.get("diff_ids") if isinstance(rootfs, dict) else None
    if not isinstance(found, list):
        raise MalformedImage("has no diff_ids", origin=origin, field="rootfs")
    return found


def _blob(folder: Path, descriptor: Json) -> Path:
    path = folder / str(descriptor["digest"]).removeprefix("sha256:")
    if not path.is_file():
        raise MalformedImage("is missing", origin=str(path))
    return path


def _bytes(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(JSON_LIMIT + 1)
    except OSError as error:
        raise MalformedImage(f"cannot be read: {error.strerror}", origin=str(path)) from error
    if len(data) > JSON_LIMIT:
        raise MalformedImage(f"more than {JSON_LIMIT} bytes", origin=str(path))
    return data
