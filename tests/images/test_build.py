"""Building: the same bytes from the same lock, whatever else is different."""

from __future__ import annotations

import gzip
import io
import json
import os
import shutil
import tarfile
from pathlib import Path
from typing import Any

import pytest

from fixtures import images
from release.image_build import REPORT, SBOM, read_built
from release.oci import INDEX, MANIFEST
from tests.images.lab import ImageLab
from tests.images.workshop import CREATED, DOWN, NPM, Workshop


def blob(layout: Path, digest: str) -> bytes:
    return (layout / "blobs" / "sha256" / digest.removeprefix("sha256:")).read_bytes()


def tree(layout: Path, digest: str) -> Any:
    return json.loads(blob(layout, digest))


def files_of(data: bytes) -> dict[str, bytes]:
    found = {}
    with tarfile.open(fileobj=io.BytesIO(gzip.decompress(data))) as archive:
        for member in archive:
            if member.isreg():
                file = archive.extractfile(member)
                assert file is not None
                found[member.name] = file.read()
    return found


def test_build(lab: ImageLab) -> None:
    shop = Workshop.make(lab)
    ran = shop.build()
    assert ran.code == 0, ran.err
    built = read_built(shop.out)
    layout = shop.out / "layout"
    index = tree(layout, built.reference.digest)
    assert index["mediaType"] == INDEX
    assert [one["platform"]["architecture"] for one in index["manifests"]] == ["amd64", "arm64"]
    assert built.base == str(shop.base)
    for platform, one in built.platforms.items():
        manifest = tree(layout, one.digest)
        assert manifest["mediaType"] == MANIFEST
        assert len(manifest["layers"]) == 2
        config = tree(layout, manifest["config"]["digest"])
        assert f"{config['os']}/{config['architecture']}" == platform
        assert config["created"] == CREATED
        assert config["rootfs"]["diff_ids"][-1] == one.diff_id
        assert config["config"]["Entrypoint"] == ["/opt/gateway/bin/start"]
        assert config["config"]["Cmd"] == ["serve"]
        assert config["config"]["Env"] == ["PATH=/usr/bin:/bin", "GATEWAY=1"]
        assert config["config"]["Labels"] == {"example.label": "x"}
        assert len(config["history"]) == 2
        files = files_of(blob(layout, manifest["layers"][-1]["digest"]))
        assert files["opt/gateway/bin/start"] == b"#!/bin/sh\n"
        assert files["opt/gateway/node_modules/gateway/gateway.mjs"] == b"serve()\n"
        native = "opt/gateway/node_modules/@lab/native-x64/bin/native" in files
        assert native is (platform == "linux/amd64")
    lab.skopeo.push(layout, lab.repository("other"), "v1")
    assert lab.skopeo.manifest(lab.repository("other").at(built.reference.digest)) is not None


def test_same_digest_at_another_place_and_time(lab: ImageLab, tmp_path: Path) -> None:
    shop = Workshop.make(lab)
    assert shop.build().code == 0
    first = {name: (shop.out / name).read_bytes() for name in (REPORT, SBOM)}
    elsewhere = tmp_path / "elsewhere" / "deep"
    shutil.copytree(shop.folder, elsewhere)
    for file in elsewhere.iterdir():
        os.utime(file, (1, 1))
        file.chmod(0o600)
    shop.folder = elsewhere
    shop.moment.ahead = 40_000_000
    mask = os.umask(0o077)
    try:
        ran = shop.build("--out", tmp_path / "out2", "--cache", tmp_path / "cache2")
    finally:
        os.umask(mask)
    assert ran.code == 0, ran.err
    assert {name: (tmp_path / "out2" / name).read_bytes() for name in first} == first
    names = [
        sorted(p.name for p in (o / "layout").rglob("*")) for o in (shop.out, tmp_path / "out2")
    ]
    assert names[0] == names[1]


def test_one_platform_of_docker_names(lab: ImageLab) -> None:
    shop = Workshop.make(lab, platforms=("linux/amd64",), docker=True)
    assert shop.build().code == 0
    built = read_built(shop.out)
    manifest = tree(shop.out / "layout", built.reference.digest)
    kinds = {one["mediaType"] for one in (manifest["config"], *manifest["layers"])}
    assert all(kind.startswith("application/vnd.oci.image.") for kind in kinds)
    lab.skopeo.push(shop.out / "layout", lab.repository(), "v1")


def test_tarballs_are_kept(lab: ImageLab) -> None:
    shop = Workshop.make(lab)
    assert shop.build().code == 0
    assert len(shop.fetched) == 2
    for kept in (lab.folder / "cache").glob("*.tgz"):
        kept.write_bytes(b"somebody else wrote this")
        break
    assert shop.build().code == 0
    assert len(shop.fetched) == 3


def test_registry_with_another_tarball(lab: ImageLab) -> None:
    shop = Workshop.make(lab)
    shop.served[f"{NPM}/gateway.tgz"] = images.npm_tarball({"name": "evil"}, {})
    ran = shop.build()
    assert ran.code == 2
    assert "is not the tarball that was locked" in ran.err
    assert not (shop.out / REPORT).exists()


@pytest.mark.parametrize(("pauses", "fault"), [([1.0, 2.0, 4.0], DOWN), ([], b"")])
def test_registry_that_is_down(lab: ImageLab, pauses: list[float], fault: Any) -> None:
    shop = Workshop.make(lab)
    shop.served[f"{NPM}/gateway.tgz"] = fault
    assert shop.build().code == 3
    assert shop.moment.pauses == pauses


def test_base_image_that_is_gone(lab: ImageLab) -> None:
    shop = Workshop.make(lab)
    text = (shop.folder / "lock.json").read_text(encoding="utf-8")
    digest = next(iter(json.loads(text)["base"]["platforms"].values()))
    changed = text.replace(digest, "sha256:" + "0" * 64)
    (shop.folder / "lock.json").write_text(changed, encoding="utf-8")
    ran = shop.build()
    assert ran.code == 3
    assert "could not be fetched" in ran.err


def test_base_image_of_another_platform(lab: ImageLab) -> None:
    shop = Workshop.make(lab)
    text = (shop.folder / "lock.json").read_text(encoding="utf-8")
    one, other = json.loads(text)["base"]["platforms"].values()
    changed = text.replace(one, "<one>").replace(other, one).replace("<one>", other)
    (shop.folder / "lock.json").write_text(changed, encoding="utf-8")
    ran = shop.build()
    assert ran.code == 2
    assert "is not for linux/amd64" in ran.err


def test_without_a_lock(lab: ImageLab) -> None:
    shop = Workshop.make(lab)
    (shop.folder / "lock.json").unlink()
    ran = shop.build("--skopeo", "/nowhere/skopeo")  # the folder first: programs come later
    assert ran.code == 2
    assert f"python -m release image lock {shop.folder}" in ran.err


@pytest.mark.parametrize("name", ["image.toml", "entrypoint.sh"])
def test_lock_of_another_recipe(lab: ImageLab, name: str) -> None:
    shop = Workshop.make(lab)
    with (shop.folder / name).open("a", encoding="utf-8") as file:
        file.write("# changed\n")
    ran = shop.build("--json")
    assert ran.code == 1
    assert ran.json["error"]["refusals"][0]["code"] == "stale_lock"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('tag = "v1"', 'tag = "v1"\nmore = 1'),
        ("/opt/gateway", "relative"),
        ('path = "bin/start"', 'path = "../../etc/passwd"'),
        ('path = "bin/start"', 'path = "node_modules/x"'),
        ('source = "entrypoint.sh"', 'source = "/etc/passwd"'),
        ("linux/amd64", "windows/amd64"),
        ("https://npm.example", "http://npm.example"),
        ('repository = "127', 'repository = "Upper/127'),
        ("[base]", "[base"),
    ],
)
def test_recipes_that_are_none(lab: ImageLab, old: str, new: str) -> None:
    shop = Workshop.make(lab)
    file = shop.folder / "image.toml"
    text = file.read_text(encoding="utf-8")
    assert old in text
    file.write_text(text.replace(old, new, 1), encoding="utf-8")
    ran = shop.build()
    assert ran.code == 2
    assert str(file) in ran.err


def test_folders_of_somebody_else_stay(lab: ImageLab) -> None:
    shop = Workshop.make(lab)
    (shop.out / "layout").mkdir(parents=True)
    (shop.out / "layout" / "precious").write_text("x", encoding="ascii")
    assert shop.build().code == 2
    assert (shop.out / "layout" / "precious").exists()


def test_sbom(lab: ImageLab) -> None:
    shop = Workshop.make(lab)
    assert shop.build().code == 0
    found = json.loads((shop.out / SBOM).read_bytes())
    assert (found["bomFormat"], found["specVersion"]) == ("CycloneDX", "1.6")
    base, native, gateway = found["components"]
    assert base["version"] == shop.base.digest
    assert native["purl"] == "pkg:npm/%40lab/native-x64@2.0.0"
    assert gateway["purl"] == "pkg:npm/gateway@1.0.0"
    assert gateway["licenses"] == [{"license": {"name": "MIT"}}]
    assert len(gateway["hashes"][0]["content"]) == 128
