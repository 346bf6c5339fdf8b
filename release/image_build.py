"""``image build``: from a recipe and its lock to an image. Offline, if all is cached.

The same recipe and lock give the same bytes at any place and time, but for zlib's version: of the
layer, the digest of the uncompressed archive (``diff_id``) does not even depend on that.
"""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Final

import msgspec

from mrtd.errors import SpecError
from mrtd.images.reference import ImageReference
from release.image_recipe import Folder, Lock, read_folder, read_lock
from release.image_sources import Sources
from release.npm import Package, unpack
from release.oci import CONFIG, INDEX, LAYER, MANIFEST, Descriptor, Layout, encode, index, manifest
from release.oci_base import BaseImage
from release.oci_layer import Entry, layer
from release.publish import write_files
from release.sbom import bill_of_materials

LAYOUT: Final = "layout"
REPORT: Final = "image.json"
SBOM: Final = "sbom.cdx.json"
_MADE_BY: Final = "release image build"
_ANNOTATION: Final = "org.opencontainers.image."


class BuiltPlatform(msgspec.Struct, frozen=True, kw_only=True):
    """The image of one platform.

    Attributes:
        digest: of its manifest.
        layer: of the layer that was added, as it is compressed.
        diff_id: of that layer's archive.
        size: bytes of that layer, compressed.
        files: in that layer.
        base: what it was built upon.
    """

    digest: str
    layer: str
    diff_id: str
    size: int
    files: int
    base: str


class Built(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What was built: ``image.json`` beside the layout.

    Attributes:
        image: by digest, where it is to be published.
        platforms: the image of each.
        base: what it was built upon, by digest.
        zlib: which compressed the layer; another version may give another digest.
    """

    image: str
    platforms: dict[str, BuiltPlatform]
    base: str
    zlib: str

    @property
    def reference(self) -> ImageReference:
        """The image."""
        return ImageReference.read(self.image)

    @property
    def parts(self) -> tuple[ImageReference, ...]:
        """The image, and that of every platform, each once."""
        repository = self.reference.repository
        digests = (self.reference.digest, *(one.digest for one in self.platforms.values()))
        return tuple(repository.at(digest) for digest in dict.fromkeys(digests))


def build(path: Path, out: Path, sources: Sources) -> Built:
    """Build an image into ``out``: layout, report and SBOM.

    Raises:
        ReleaseRefused: the lock is that of another recipe.
        MrtdError: something is not locked, not to be had, or not what was locked.
    """
    folder = read_folder(path)
    lock = read_lock(folder)
    sources.prefetch(lock.packages)
    layout = Layout(out / LAYOUT)
    unpacked: dict[Package, dict[str, Entry]] = {}
    made: dict[str, Descriptor] = {}
    built: dict[str, BuiltPlatform] = {}
    for platform in folder.recipe.platforms:
        files = _files(folder, lock, platform, sources, unpacked)
        made[platform], built[platform] = _platform(
            folder, lock, platform, files=files, layout=layout, sources=sources
        )
    entry = next(iter(made.values()))
    if len(made) > 1:
        entry = layout.add(index(made, _annotations(folder, lock, lock.base.digest)), INDEX)
    layout.finish(entry)
    report = Built(
        image=str(folder.recipe.target.at(entry.digest)),
        platforms=built,
        base=f"{lock.base.image}@{lock.base.digest}",
        zlib=zlib.ZLIB_RUNTIME_VERSION,
    )
    sbom = bill_of_materials(folder.recipe, lock)
    write_files(out, {SBOM: sbom, REPORT: msgspec.json.format(msgspec.json.encode(report)) + b"\n"})
    return report


def read_built(out: Path) -> Built:
    """What an earlier ``build`` left in ``out``. Raises `SpecError`."""
    file = out / REPORT
    try:
        return msgspec.json.decode(file.read_bytes(), type=Built)
    except OSError as error:
        raise SpecError(
            f"cannot be read: {error.strerror}",
            origin=str(file),
            hint="python -m release image build writes it",
        ) from error
    except msgspec.DecodeError as error:
        raise SpecError(str(error), origin=str(file)) from error


def _files(
    folder: Folder,
    lock: Lock,
    platform: str,
    sources: Sources,
    unpacked: dict[Package, dict[str, Entry]],
) -> dict[str, Entry]:
    """The layer's files by path."""
    root = folder.recipe.layer.root
    found = {
        f"{root}/{one.path}": Entry(folder.files[one.source], executable=one.executable)
        for one in folder.recipe.layer.files
    }
    for package in lock.packages:
        if platform not in package.platforms:
            continue
        if package not in unpacked:
            unpacked[package] = unpack(package, sources.tarball(package))
        for name, entry in unpacked[package].items():
            found[f"{root}/{package.path}/{name}"] = entry
    return found


def _platform(
    folder: Folder,
    lock: Lock,
    platform: str,
    *,
    files: dict[str, Entry],
    layout: Layout,
    sources: Sources,
) -> tuple[Descriptor, BuiltPlatform]:
    """One platform's manifest, in the layout."""
    recipe, name = folder.recipe, lock.base.of(platform)
    with sources.base(name) as fetched:
        base = BaseImage.take(fetched, name, platform, layout)
    packed = layer(files, root=recipe.layer.root)
    added = layout.add(packed.compressed, LAYER)
    settings: dict[str, object] = {
        "Entrypoint": list(recipe.config.entrypoint),
        "Cmd": list(recipe.config.cmd),
        "Env": _env(base, recipe.config.env),
        "Labels": {**_inner(base, "Labels"), **recipe.config.labels},
    }
    config = base.with_layer(packed.diff_id, created=lock.created, by=_MADE_BY, **settings)
    about = layout.add(encode(config), CONFIG)
    annotations = _annotations(folder, lock, name.digest)
    one = layout.add(manifest(about, [*base.layers, added], annotations), MANIFEST)
    return one, BuiltPlatform(
        digest=one.digest,
        layer=added.digest,
        diff_id=packed.diff_id,
        size=added.size,
        files=len(files),
        base=str(name),
    )


def _annotations(folder: Folder, lock: Lock, base: str) -> dict[str, str]:
    """Source: OCI image specification, annotations.md."""
    return {
        f"{_ANNOTATION}created": lock.created,
        f"{_ANNOTATION}description": folder.recipe.description,
        f"{_ANNOTATION}base.name": lock.base.image,
        f"{_ANNOTATION}base.digest": base,
    }


def _inner(base: BaseImage, name: str) -> dict[str, str]:
    config = base.config.get("config")
    found = config.get(name) if isinstance(config, dict) else None
    return found if isinstance(found, dict) else {}


def _env(base: BaseImage, more: dict[str, str]) -> list[str]:
    """The base's variables, then ours instead of those of the same name."""
    config = base.config.get("config")
    found = config.get("Env") if isinstance(config, dict) else None
    kept = [one for one in found or [] if str(one).partition("=")[0] not in more]
    return [*map(str, kept), *(f"{name}={value}" for name, value in more.items())]
