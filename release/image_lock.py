"""``image lock``: ask the registries what a recipe's names stand for today, and write it down.

npm's own resolver chooses the packages (``npm install --package-lock-only``): without running their
scripts, and with nobody's ``.npmrc``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import msgspec

from mrtd.errors import ReleaseRefused, TransportError
from mrtd.images.program import Program
from mrtd.images.reference import Repository
from mrtd.images.skopeo import Skopeo
from mrtd.process import running
from release.image_recipe import FORMAT, LOCK, Folder, Lock, LockedBase, encode_lock, read_folder
from release.job import Job
from release.npm import Package, read_package_lock
from release.oci import DOCKER_LIST, INDEX, platform_name, read_descriptors, read_object
from release.publish import write_files

NPM: Final = "npm"
_SECONDS: Final = 600.0
_LIMIT: Final = 64 << 20
_INSTALL: Final = (
    "install",
    "--package-lock-only",
    "--lockfile-version=3",
    "--omit-lockfile-registry-resolved=false",
    "--ignore-scripts",
    "--no-audit",
    "--no-fund",
    "--no-update-notifier",
    "--cache=npm-cache",  # in its folder, which is gone afterwards
    "--userconfig=npmrc",  # which is not there
    "--prefix=.",
    "--globalconfig=/dev/null",
)
_PASSED: Final = ("HTTPS_PROXY", "NODE_EXTRA_CA_CERTS")


class Locked(msgspec.Struct, frozen=True, kw_only=True):
    """What was locked.

    Attributes:
        file: that was written.
        changed: whether it says something new.
    """

    file: Path
    lock: Lock
    changed: bool


def lock(job: Job, path: Path, *, skopeo: Skopeo, npm: Path) -> Locked:
    """Write ``lock.json`` into a recipe's folder.

    Raises:
        ReleaseRefused: the base image lacks a platform of the recipe.
        MrtdError: a registry could not be asked.
    """
    folder = read_folder(path)
    job.progress("asking for the base image")
    base = _base(folder, skopeo)
    job.progress("asking npm for packages")
    packages = _packages(folder, npm, job.environ)
    made = Lock(
        format=FORMAT,
        recipe_sha256=folder.digest,
        created=job.now.strftime("%Y-%m-%dT%H:%M:%SZ"),
        base=base,
        packages=packages,
    )
    file = path / LOCK
    before = _before(file)
    if before is not None and msgspec.structs.replace(made, created=before.created) == before:
        return Locked(file=file, lock=before, changed=False)  # a new date alone is no news
    write_files(path, {LOCK: encode_lock(made)})
    return Locked(file=file, lock=made, changed=True)


def _before(file: Path) -> Lock | None:
    try:
        return msgspec.json.decode(file.read_bytes(), type=Lock)
    except (OSError, msgspec.DecodeError):
        return None


def _base(folder: Folder, skopeo: Skopeo) -> LockedBase:
    recipe = folder.recipe
    repository, tag = Repository.read(recipe.base.image), recipe.base.tag
    digest = skopeo.digest_of(repository, tag)
    raw = skopeo.manifest(repository.at(digest)) if digest else None
    if digest is None or raw is None:
        raise TransportError(f"{repository} has no {tag}")
    tree = read_object(raw, origin=f"{repository}:{tag}")
    if tree.get("mediaType") not in {INDEX, DOCKER_LIST}:
        # one image: which platform it is for is in its config, which the build compares
        platforms = {recipe.platforms[0]: digest}
    else:
        found = read_descriptors(tree, "manifests", origin=f"{repository}:{tag}")
        platforms = {
            # arm64 has one variant, v8, which some name
            platform_name(one.get("platform") or {}).removesuffix("/v8"): one["digest"]
            for one in reversed(found)
        }
    if missing := [one for one in recipe.platforms if one not in platforms]:
        text = f"{repository}:{tag} is not there for {', '.join(missing)}"
        raise ReleaseRefused(text, refusals=(("platform_missing", text),))
    chosen = {one: platforms[one] for one in recipe.platforms}
    return LockedBase(image=str(repository), tag=tag, digest=digest, platforms=chosen)


def _packages(folder: Folder, npm: Path, environ: Mapping[str, str]) -> tuple[Package, ...]:
    recipe = folder.recipe
    wanted = {
        "name": "image",
        "version": "0.0.0",
        "private": True,
        "dependencies": recipe.npm.packages,
        # of other platforms, too: npm keeps optional ones that do not fit where it runs
        "optionalDependencies": recipe.npm.platform_packages,
    }
    # a proxy is part of the network, and no matter of trust: tarballs are locked by digest
    proxies = {name: environ[name] for name in _PASSED if name in environ}
    arguments = [*_INSTALL, f"--registry={recipe.npm.registry}"]
    files = {"package.json": json.dumps(wanted).encode()}
    with running([str(npm), *arguments], files=files, environment=proxies) as process:
        ended = process.wait(_SECONDS)
        status = process.kill()
        if not ended or status != 0:
            how = f"ended with status {status}" if ended else f"gave no answer in {_SECONDS:g} s"
            raise TransportError(process.failure(how).message)
        try:
            tree = json.loads(_bounded(process.folder / "package-lock.json"))
        except (OSError, ValueError, RecursionError) as error:
            raise process.failure("wrote no package-lock.json") from error
    return read_package_lock(
        tree, registry=recipe.npm.registry, platforms=recipe.platforms, origin="package-lock.json"
    )


def _bounded(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(_LIMIT)


def find_npm(explicit: Path | None = None) -> Path:
    """The npm given, or that on the search path. Raises `ToolMissing`."""
    return Program.find(NPM, explicit).path
