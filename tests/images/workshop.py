"""A recipe of stand-ins, and the release's command line to build and publish it."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import msgspec

from fixtures import images
from mrtd.errors import TransportError
from mrtd.images.reference import ImageReference
from mrtd.verifier.clock import Clock
from mrtd.verifier.fetch import Response
from release.cli import main
from release.image_build import read_built
from release.image_recipe import FORMAT, LOCK, Lock, LockedBase, encode_lock, read_folder
from release.job import Job
from release.npm import Package
from tests.images.lab import IDENTITY, PASSWORD, ImageLab
from tests.release.stage import Moment, Ran

NPM: Final = "https://npm.example"
CREATED: Final = "2026-11-24T00:00:00Z"
PLATFORMS: Final = ("linux/amd64", "linux/arm64")
_RECIPE: Final = """\
repository = "{repository}"
description = "a stand-in"
platforms = {platforms}
[base]
image = "{base}"
tag = "v1"
[npm]
registry = "{npm}"
packages = {{ gateway = "1.0.0" }}
[layer]
root = "/opt/gateway"
[[layer.files]]
source = "entrypoint.sh"
path = "bin/start"
executable = true
[config]
entrypoint = ["/opt/gateway/bin/start"]
cmd = ["serve"]
env = {{ GATEWAY = "1" }}
labels = {{ "example.label" = "x" }}
"""


def tarballs() -> dict[str, bytes]:
    """Packages by place: one for all, one for amd64 only."""
    gateway = {"name": "gateway", "version": "1.0.0", "license": "MIT"}
    native = {"name": "@lab/native-x64", "version": "2.0.0"}
    return {
        "node_modules/gateway": images.npm_tarball(gateway, {"gateway.mjs": b"serve()\n"}),
        "node_modules/@lab/native-x64": images.npm_tarball(native, {"bin/native": b"\x7fELF"}),
    }


@dataclass(slots=True)
class Workshop:
    """One recipe, and what is made of it.

    Attributes:
        served: what npm's registry has, by URL; an error in place of bytes is raised.
        fetched: URLs that were asked for.
    """

    lab: ImageLab
    base: ImageReference
    folder: Path
    served: dict[str, bytes | Exception] = field(default_factory=dict)
    fetched: list[str] = field(default_factory=list)
    environ: dict[str, str] = field(default_factory=dict)
    moment: Moment = field(default_factory=Moment)

    @classmethod
    def make(
        cls, lab: ImageLab, *, platforms: tuple[str, ...] = PLATFORMS, docker: bool = False
    ) -> Workshop:
        """Push a base image, and write a recipe with its lock."""
        base, parts = lab.push_all("base", platforms=platforms, docker=docker, text=b"base\n")
        made = cls(lab, base, lab.folder / "recipe")
        made.folder.mkdir()
        (made.folder / "entrypoint.sh").write_text("#!/bin/sh\n", encoding="ascii")
        text = _RECIPE.format(
            repository=lab.repository(), platforms=json.dumps(platforms), npm=NPM,
            base=base.repository,
        )  # fmt: skip
        (made.folder / "image.toml").write_text(text, encoding="utf-8")
        packages = []
        for path, tarball in tarballs().items():
            about = json.loads(images_manifest(tarball))
            url = f"{NPM}/{about['name']}.tgz"
            made.served[url] = tarball
            fits = tuple(p for p in platforms if p == "linux/amd64" or "x64" not in path)
            packages.append(
                Package(
                    path=path,
                    name=about["name"],
                    version=about["version"],
                    resolved=url,
                    integrity=images.integrity(tarball),
                    platforms=fits,
                    license=about.get("license", ""),
                )
            )
        made.write_lock(
            LockedBase(
                image=str(base.repository), tag="v1", digest=base.digest,
                platforms={name: one.digest for name, one in parts.items()},
            ),
            tuple(sorted(packages, key=lambda one: one.path)),
        )  # fmt: skip
        key, _ = lab.programs.ours
        made.environ.update(
            lab.server.actions_environment(), COSIGN_PASSWORD=PASSWORD, COSIGN_PRIVATE_KEY=key.pem
        )
        (lab.folder / "ours.pub").write_bytes(lab.programs.ours[1].pem)
        (lab.folder / "trust.json").write_bytes(lab.server.trust_config())
        return made

    def write_lock(self, base: LockedBase, packages: tuple[Package, ...]) -> None:
        digest = read_folder(self.folder).digest
        lock = Lock(
            format=FORMAT, recipe_sha256=digest, created=CREATED, base=base, packages=packages
        )
        (self.folder / LOCK).write_bytes(encode_lock(lock))

    def change_lock(self, **changes: Any) -> None:
        lock = msgspec.json.decode((self.folder / LOCK).read_bytes(), type=Lock)
        changed = msgspec.structs.replace(lock, **changes)
        (self.folder / LOCK).write_bytes(encode_lock(changed))

    @property
    def out(self) -> Path:
        return self.lab.folder / "out"

    @property
    def image(self) -> ImageReference:
        return read_built(self.out).reference

    def fetch(
        self,
        url: str,
        *,
        headers: Mapping[str, str],  # noqa: ARG002 - the interface
        limit: int,  # noqa: ARG002
        timeout: float,  # noqa: ARG002
    ) -> Response:
        """npm's registry."""
        self.fetched.append(url)
        found = self.served.get(url, b"")
        if isinstance(found, Exception):
            raise found
        return Response(200 if found else 404, {}, found)

    def run(self, *words: str | Path, **variables: str) -> Ran:
        """``python -m release image``, in this process."""
        out, err = io.StringIO(), io.StringIO()
        job = Job(
            environ=self.environ | variables,
            folder=self.folder,
            fetch=self.fetch,
            clock=Clock(wall=self.moment.wall, steady=self.moment.steady),
            sleep=self.moment.sleep,
            jitter=lambda: 1.0,
        )
        action, *rest = map(str, words)
        given = ["--skopeo", str(self.lab.programs.skopeo), *rest]
        given += [] if action == "lock" or "--out" in rest else ["--out", str(self.out)]
        code = main(["image", action, *given], job=job, stdout=out, stderr=err)
        self.lab.said += [out.getvalue(), err.getvalue()]
        return Ran(code, out.getvalue(), err.getvalue())

    def build(self, *words: str | Path) -> Ran:
        cache: list[str | Path] = (
            [] if "--cache" in words else ["--cache", self.lab.folder / "cache"]
        )
        return self.run("build", self.folder, *cache, *words)

    def signed(self, action: str, *words: str | Path, policy: Path | None = None) -> Ran:
        """``sign``, ``verify`` or ``publish``."""
        folder = self.lab.folder
        given: list[str | Path] = [
            "--cosign", self.lab.programs.cosign, "--public-key", folder / "ours.pub",
            "--identity", IDENTITY.san, "--trust-config", folder / "trust.json",
        ]  # fmt: skip
        if action != "sign":
            shipped = policy or self.lab.policy(None, self.lab.repository())
            given += ["--guest-policy", shipped]
        if action == "publish" and "--tag" not in words:
            given += ["--tag", "v1.0.0"]
        return self.run(action, *given, *words)


def images_manifest(tarball: bytes) -> bytes:
    """``package.json`` in a tarball."""
    import tarfile

    with tarfile.open(fileobj=io.BytesIO(tarball), mode="r:gz") as archive:
        file = archive.extractfile("package/package.json")
        assert file is not None
        return file.read()


DOWN: Final = TransportError("npm.example: no usable answer: ConnectTimeout")
