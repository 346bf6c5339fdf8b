"""Workload status end to end: the real cosign and registry, a Sigstore of this machine."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mrtd.cli.main import main
from mrtd.images.reference import ImageReference
from mrtd.images.signing import attest, sign_key, sign_keyless
from mrtd.images.status import Code, Deployment
from mrtd.workloads.configured import configured_statuses
from tests.images.lab import ImageLab
from tests.lab.identity import OWNER_ID, REPOSITORY, REPOSITORY_ID
from tests.lab.world import NOW


def images_toml(
    lab: ImageLab, *names: str, key: str = "release.pub", owner: str = OWNER_ID
) -> Path:
    """An ``images.toml`` for repositories of the lab, with our public key beside it."""
    keys = lab.folder / "keys"
    keys.mkdir(exist_ok=True)
    ours, other = lab.programs.ours[1], lab.programs.other[1]
    (keys / "release.pub").write_bytes(ours.pem)
    (keys / "other.pub").write_bytes(other.pem)
    rows = [
        f"""
[[repositories]]
repository = "{lab.repository(name)}"
keys = ["{key}"]
identity = {{ repository = "{REPOSITORY}", repository_id = {REPOSITORY_ID}, owner_id = {owner}, \
workflow = ".github/workflows/release.yml" }}
"""
        for name in names
    ]
    path = lab.folder / "images.toml"
    path.write_text('schema = "mrtd.images/1"\n' + "".join(rows))
    return path


def policy(lab: ImageLab, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A policy whose root of trust is the lab's."""
    monkeypatch.setenv("DD_TRUSTED_REPO_ID", REPOSITORY_ID)
    monkeypatch.setenv("DD_TRUSTED_OWNER_ID", OWNER_ID)
    root = lab.folder / "trusted_root.json"
    root.write_bytes(lab.root)
    path = lab.folder / "policy.toml"
    path.write_text(f'[trust_root]\nfile = "{root}"\n')
    return path


def codes(lab: ImageLab, images: Path, *found: ImageReference) -> list[Code]:
    from mrtd.verifier.trust_root import read_trust_root

    root = read_trust_root(lab.root, source="lab", dated=NOW)
    statuses = configured_statuses(images, cosign=lab.programs.cosign, trust_root=root)
    return [s.code for s in statuses.of(Deployment("a", str(i), i.digest) for i in found)]


def test_signed_twice_is_green_and_each_half_of_it_is_not(lab: ImageLab) -> None:
    both, key, workflow, none, sbom = (
        lab.push(name, text=name.encode()) for name in ("both", "key", "workflow", "none", "sbom")
    )
    for image in (both, key, sbom):
        sign_key(lab.cosign, image, lab.programs.ours[0])
    for image in (both, workflow):
        sign_keyless(lab.cosign, image, lab.oidc, lab.sigstore)
    attest(lab.cosign, sbom, lab.oidc, lab.sigstore,
           predicate=b'{"bomFormat":"CycloneDX"}', predicate_type="cyclonedx")  # fmt: skip
    names = ("both", "key", "workflow", "none", "sbom")
    images = images_toml(lab, *names)
    assert codes(lab, images, both, key, workflow, none, sbom) == [
        Code.SIGNED, Code.NOT_SIGNED, Code.NOT_SIGNED, Code.NOT_SIGNED, Code.NOT_SIGNED,
    ]  # fmt: skip
    # the key is replaced, and nobody has signed with the new one
    assert codes(lab, images_toml(lab, *names, key="other.pub"), both) == [Code.REFUSED]
    # the repository is somebody else's by now, under the same name
    assert codes(lab, images_toml(lab, *names, owner="999"), both) == [Code.REFUSED]
    # a registry that is away is no refusal
    away = both.repository.__class__("127.0.0.1:1", both.repository.path).at(both.digest)
    moved = images_toml(lab, *names).read_text().replace(lab.registry.host, "127.0.0.1:1")
    images.write_text(moved)
    assert codes(lab, images, away) == [Code.NOT_CHECKED]


def test_the_verb_tells_what_runs(
    lab: ImageLab, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    image = lab.push()
    sign_key(lab.cosign, image, lab.programs.ours[0])
    sign_keyless(lab.cosign, image, lab.oidc, lab.sigstore)
    inspected = lab.folder / "inspect.json"
    options = ["--images", str(images_toml(lab, "ours")), "--policy", str(policy(lab, monkeypatch)),
               "--cosign", str(lab.programs.cosign), "--inspect", str(inspected)]  # fmt: skip

    def tell(*entries: tuple[str, str, str]) -> tuple[int, dict[str, Any]]:
        made = [{"Name": n, "ImageName": i, "ImageDigest": d} for n, i, d in entries]
        inspected.write_text(json.dumps(made))
        code = main(["workloads", *options, "--json"])
        found: dict[str, Any] = json.loads(capsys.readouterr().out)
        return code, found

    # the tag has moved since it was pulled: what counts is the digest that runs
    name = f"{image.repository}:v1"
    code, found = tell(("ours", name, image.digest))
    assert found["deployments"] == ["ours"]
    assert found["deployment_status"][0]["attestation_status"] == "green", found
    assert code == 0
    # podman tag gives a stranger's image our name
    code, found = tell(("ours", name, image.digest), ("fake", name, f"sha256:{'f' * 64}"))
    assert [one["attestation_status"] for one in found["deployment_status"]] == ["green", "red"]
    assert code == 1
