"""``image.toml``: what an image is made of, and ``lock.json``: exactly which bytes that is.

The recipe is written by people and names versions; the lock is written by ``release image lock``
and names digests. A build reads both, and takes nothing that is not locked.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path, PurePosixPath
from typing import Final, TypeVar

import msgspec

from mrtd.errors import ReleaseRefused, SpecError
from mrtd.images.reference import ImageReference, MalformedReference, Repository, read_tag
from release.npm import Package

RECIPE: Final = "image.toml"
LOCK: Final = "lock.json"
FORMAT: Final = "mrtd.image-lock/v1"
_LIMIT: Final = 64 << 20
_PLATFORM: Final = re.compile(r"linux/(?:amd64|arm64|riscv64|ppc64le|s390x)")
_ROOT: Final = re.compile(r"(?:/[A-Za-z0-9_][A-Za-z0-9._-]*){1,8}")
_DIGEST: Final = re.compile(r"sha256:[0-9a-f]{64}")
_CREATED: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z")
T = TypeVar("T")


class _Strict(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    pass


class Base(_Strict, frozen=True):
    """The image to build upon, and the tag that locking follows."""

    image: str
    tag: str


class Npm(_Strict, frozen=True):
    """Packages by version: for all platforms, and those that say themselves for which."""

    packages: dict[str, str]
    platform_packages: dict[str, str] = {}
    registry: str = "https://registry.npmjs.org"


class LayerFile(_Strict, frozen=True):
    """A file of ours: from beside the recipe, to a path below the layer's root."""

    source: str
    path: str
    executable: bool = False


class LayerRecipe(_Strict, frozen=True):
    """Where packages (``node_modules``) and files are in the image."""

    root: str
    files: tuple[LayerFile, ...] = ()


class Config(_Strict, frozen=True):
    """What the image's config has other than the base's."""

    entrypoint: tuple[str, ...]
    cmd: tuple[str, ...] = ()
    env: dict[str, str] = {}
    labels: dict[str, str] = {}


class Recipe(_Strict, frozen=True):
    """``image.toml``."""

    repository: str
    description: str
    platforms: tuple[str, ...]
    base: Base
    npm: Npm
    layer: LayerRecipe
    config: Config

    @property
    def target(self) -> Repository:
        """Where it is published."""
        return Repository.read(self.repository)


class LockedBase(_Strict, frozen=True):
    """The base image by digest: its index (or manifest), and the manifest of each platform."""

    image: str
    tag: str
    digest: str
    platforms: dict[str, str]

    def of(self, platform: str) -> ImageReference:
        """The image of one platform."""
        return Repository.read(self.image).at(self.platforms[platform])


class Lock(_Strict, frozen=True):
    """``lock.json``.

    Attributes:
        format: `FORMAT`.
        recipe_sha256: of the recipe and its files, as `Folder.digest` says.
        created: when it was locked; what the image says it was created, too.
    """

    format: str
    recipe_sha256: str
    created: str
    base: LockedBase
    packages: tuple[Package, ...]


class Folder(msgspec.Struct, frozen=True):
    """A recipe's folder, read.

    Attributes:
        path: of it.
        raw: the recipe's bytes.
        files: contents of the layer's own files, by source.
    """

    path: Path
    recipe: Recipe
    raw: bytes
    files: dict[str, bytes]

    @property
    def digest(self) -> str:
        """SHA-256 (hex) of all that people wrote: lengths and contents, in the recipe's order."""
        hashed = hashlib.sha256()
        for data in (self.raw, *(self.files[one.source] for one in self.recipe.layer.files)):
            hashed.update(len(data).to_bytes(8, "big") + data)
        return hashed.hexdigest()


def read_folder(path: Path) -> Folder:
    """Read a recipe and its files. Raises `SpecError`."""
    file = path / RECIPE
    raw = _bytes(file, hint=f"an image's folder has an {RECIPE}")
    try:
        recipe = msgspec.toml.decode(raw, type=Recipe)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise SpecError(str(error), origin=str(file)) from error
    _check(recipe, str(file))
    files = {one.source: _bytes(path / one.source) for one in recipe.layer.files}
    return Folder(path, recipe, raw, files)


def read_lock(folder: Folder) -> Lock:
    """Read a folder's lock.

    Raises:
        ReleaseRefused: it is that of another recipe.
        SpecError: there is none, or it is malformed.
    """
    file = folder.path / LOCK
    command = f"python -m release image lock {folder.path}"
    raw = _bytes(file, hint=f"the job that has a network writes it: {command}")
    try:
        lock = msgspec.json.decode(raw, type=Lock)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise SpecError(str(error), origin=str(file)) from error
    recipe = folder.recipe
    _demand(lock.format == FORMAT, str(file), "format", f"is not {FORMAT}")
    _demand(bool(_CREATED.fullmatch(lock.created)), str(file), "created", "is no time in UTC")
    for package in lock.packages:
        package.check(origin=str(file))
    digests = (lock.base.digest, *lock.base.platforms.values())
    whole = all(_DIGEST.fullmatch(one) for one in digests)
    _demand(whole, str(file), "base", "has something that is no digest")
    if lock.recipe_sha256 != folder.digest or {*lock.base.platforms} != {*recipe.platforms}:
        text = f"{file} is the lock of another recipe than {folder.path / RECIPE} with its files"
        raise ReleaseRefused(text, refusals=(("stale_lock", text),), hint=f"run: {command}")
    return lock


def encode_lock(lock: Lock) -> bytes:
    """A lock, as it is committed: one package a few lines, always in the same order."""
    return msgspec.json.format(msgspec.json.encode(lock), indent=1) + b"\n"


def _check(recipe: Recipe, origin: str) -> None:
    """What types do not say. Raises `SpecError`."""
    try:
        Repository.read(recipe.repository)
        Repository.read(recipe.base.image)
        read_tag(recipe.base.tag)
    except MalformedReference as error:
        raise SpecError(error.message, origin=origin, hint=error.hint) from error
    _demand(bool(recipe.platforms), origin, "platforms", "is empty")
    known = all(_PLATFORM.fullmatch(one) for one in recipe.platforms)
    _demand(known, origin, "platforms", "has one that is not known here")
    _demand(bool(_ROOT.fullmatch(recipe.layer.root)), origin, "layer.root", "is no plain path")
    https = recipe.npm.registry.startswith(("https://", "http://localhost:", "http://127.0.0.1:"))
    _demand(https, origin, "npm.registry", "is not https")
    for file in recipe.layer.files:
        for text in (file.source, file.path):
            path = PurePosixPath(text)
            plain = str(path) == text and not path.is_absolute() and ".." not in path.parts
            _demand(plain, origin, "layer.files", f"{text!r} is no plain relative path")
        inside = not file.path.startswith("node_modules/")
        _demand(inside, origin, "layer.files", f"{file.path!r} is among the packages")


def _demand(condition: bool, origin: str, field: str, text: str) -> None:  # noqa: FBT001
    if not condition:
        raise SpecError(text, origin=origin, field=field)


def _bytes(path: Path, hint: str | None = None) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(_LIMIT + 1)
    except OSError as error:
        raise SpecError(f"cannot be read: {error.strerror}", origin=str(path), hint=hint) from error
    if len(data) > _LIMIT:
        raise SpecError(f"more than {_LIMIT} bytes", origin=str(path))
    return data
