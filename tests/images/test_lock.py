"""Locking: what npm's own resolver and the base image's registry say, by digest."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fixtures import images
from tests.conftest import require_tool
from tests.images.lab import ImageLab
from tests.images.workshop import NPM, Workshop
from tests.lab.web import Answer, Request, Server


class NpmRegistry:
    """Packages as npm's registry describes them.

    Attributes:
        packages: manifests by name.
    """

    def __init__(self) -> None:
        self.web = Server(self._answer)
        self.packages: dict[str, dict[str, Any]] = {}

    def add(self, name: str, version: str = "1.0.0", **about: Any) -> None:
        tarball = images.npm_tarball({"name": name, "version": version}, {})
        self.packages[name] = {
            "name": name,
            "version": version,
            "dist": {
                "tarball": f"http://127.0.0.1:{self.web.port}/{name}/-/{name}-{version}.tgz",
                "integrity": images.integrity(tarball),
            },
            **about,
        }

    def _answer(self, request: Request) -> Answer:
        found = self.packages.get(request.path.removeprefix("/"))
        if found is None:
            return Answer(404, b"{}", {"Content-Type": "application/json"})
        tree = {
            "name": found["name"],
            "dist-tags": {"latest": found["version"]},
            "versions": {found["version"]: found},
        }
        return Answer(200, json.dumps(tree).encode(), {"Content-Type": "application/json"})


@pytest.fixture
def npm() -> Iterator[NpmRegistry]:
    made = NpmRegistry()
    made.add("gateway", dependencies={"left": "^1.0.0"}, hasInstallScript=True)
    made.add("left", license="MIT", optionalDependencies={"native-arm64": "1.0.0"})
    made.add("native-arm64", os=["linux"], cpu=["arm64"])
    with made.web:
        yield made
    assert made.web.errors == []


@pytest.fixture
def shop(lab: ImageLab, npm: NpmRegistry) -> Workshop:
    made = Workshop.make(lab)
    file = made.folder / "image.toml"
    text = file.read_text(encoding="utf-8")
    file.write_text(text.replace(NPM, f"http://127.0.0.1:{npm.web.port}"), encoding="utf-8")
    return made


def lock(shop: Workshop) -> Any:
    return shop.run("lock", shop.folder, "--npm", require_tool("npm"), "--json")


def test_lock(shop: Workshop) -> None:
    ran = lock(shop)
    assert ran.code == 0, ran.err
    made = json.loads((shop.folder / "lock.json").read_bytes())
    assert made == ran.json["lock"]
    assert made["base"]["digest"] == shop.base.digest
    assert set(made["base"]["platforms"]) == {"linux/amd64", "linux/arm64"}
    found = {one["name"]: one for one in made["packages"]}
    assert set(found) == {"gateway", "left", "native-arm64"}
    assert found["left"]["license"] == "MIT"
    assert found["left"]["integrity"].startswith("sha512-")
    assert found["native-arm64"]["platforms"] == ["linux/arm64"]
    # a day later, nothing has changed
    shop.moment.ahead += 86_400
    again = lock(shop)
    assert (again.code, again.json["changed"]) == (0, False)
    assert json.loads((shop.folder / "lock.json").read_bytes()) == made


def test_base_image_has_moved(shop: Workshop, lab: ImageLab) -> None:
    assert lock(shop).code == 0
    moved = lab.push("base", platforms=("linux/amd64", "linux/arm64"), text=b"newer")
    ran = lock(shop)
    assert ran.json["changed"] is True
    assert ran.json["lock"]["base"]["digest"] == moved.digest


def test_base_image_lacks_a_platform(shop: Workshop, lab: ImageLab) -> None:
    lab.push("base", platforms=("linux/amd64", "linux/s390x"))
    ran = lock(shop)
    assert ran.code == 1
    assert "linux/arm64" in ran.err


def test_package_that_is_not_there(shop: Workshop, npm: NpmRegistry) -> None:
    before = (shop.folder / "lock.json").read_bytes()
    del npm.packages["left"]
    ran = lock(shop)
    assert ran.code == 3
    assert "404" in ran.err
    assert (shop.folder / "lock.json").read_bytes() == before


def test_recipe_of_this_project() -> None:
    """It can be read; its lock is written where there is a network, and may not be there yet."""
    from release.image_recipe import LOCK, read_folder, read_lock

    path = Path(__file__).resolve().parents[2] / "images" / "ollama-openclaw"
    folder = read_folder(path)
    assert folder.recipe.base.image == "docker.io/ollama/ollama"
    if (path / LOCK).exists():
        assert read_lock(folder).packages
