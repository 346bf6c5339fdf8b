"""skopeo's answers, and logins of registries."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mrtd.errors import TransportError
from mrtd.images.program import Program
from mrtd.images.reference import ImageReference
from mrtd.images.registry_login import MalformedLogin, RegistryLogin
from mrtd.images.skopeo import Admitted, BadPolicy, Rejected, Skopeo, Unknown
from tests.images.lab import ImageLab

IMAGE = ImageReference.read(f"ghcr.io/owner/name@sha256:{'a' * 64}")
LOGIN = {"auths": {"ghcr.io": {"auth": "c2VjcmV0"}}, "credsStore": "run-me",
         "credHelpers": {"ghcr.io": "run-me"}}  # fmt: skip


def fake(folder: Path, body: str) -> Skopeo:
    path = folder / "skopeo"
    path.write_text(f"#!/bin/sh\n{body}\n", encoding="utf-8")
    path.chmod(0o755)
    return Skopeo(Program(path, 20))


NONE = "A signature was required, but no signature exists"
SEVERAL = "None of the signatures were accepted, reasons: "


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (f"Source image rejected: {NONE}", Rejected(IMAGE, NONE)),
        (f"Source image rejected: {SEVERAL}{NONE}; {NONE}",
         Rejected(IMAGE, f"{SEVERAL}{NONE}; {NONE}")),
        ("Running image docker://x is rejected by policy.",
         Rejected(IMAGE, "the policy has no rule for it")),
        (f"Source image rejected: {SEVERAL}{NONE}; unexpected EOF", None),
        ("Source image rejected: unexpected EOF", None),
        ("manifest unknown", None),
        ("", None),
    ],
)  # fmt: skip
def test_refusals(tmp_path: Path, said: str, expected: Rejected | None) -> None:
    """Only what says something of the image is one: a control that is not there is not refused."""
    skopeo = fake(tmp_path, f'echo \'time="now" level=fatal msg="{said}"\' >&2; exit 1')
    outcome = skopeo.admits(IMAGE, tmp_path, platform="linux/arm64/v8")
    assert isinstance(outcome, Unknown) if expected is None else outcome == expected


def test_success_is_what_admits(tmp_path: Path) -> None:
    skopeo = fake(tmp_path, "exit 0")
    assert skopeo.admits(IMAGE, tmp_path, platform="linux/amd64") == Admitted(IMAGE)


def test_manifest_with_another_digest(tmp_path: Path) -> None:
    """skopeo looks, too; an older one might not."""
    with pytest.raises(TransportError, match="sends another manifest"):
        fake(tmp_path, "echo '{}'").manifest(IMAGE)


def test_what_a_tag_names(lab: ImageLab) -> None:
    image = lab.push(tag="v1")
    assert lab.skopeo.digest_of(lab.repository(), "v1") == image.digest
    assert lab.skopeo.digest_of(lab.repository(), "v2") is None
    assert lab.skopeo.digest_of(lab.repository("none"), "v1") is None
    assert lab.skopeo.manifest(lab.repository().at(f"sha256:{'0' * 64}")) is None


def test_default_is_to_reject(lab: ImageLab) -> None:
    image = lab.push()
    policy = lab.policy(None, lab.repository("another"))
    outcome = lab.skopeo.admits(image, policy, platform="linux/amd64")
    assert isinstance(outcome, Rejected)


def test_policy_with_an_unknown_key(lab: ImageLab) -> None:
    image = lab.push()
    policy = lab.policy({"type": "reject", "comment": "x"}, lab.repository())
    outcome = lab.skopeo.admits(image, policy, platform="linux/amd64")
    assert isinstance(outcome, Unknown)
    assert "Unknown key" in outcome.why


def test_policies_of_this_machine_do_not_count(
    lab: ImageLab, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = lab.push()
    home = lab.folder / "home"
    (home / ".config/containers").mkdir(parents=True)
    text = '{"default":[{"type":"insecureAcceptAnything"}]}'
    (home / ".config/containers/policy.json").write_text(text, encoding="ascii")
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("CONTAINERS_POLICY_JSON", str(home / ".config/containers/policy.json"))
    policy = lab.policy(None, lab.repository())
    assert isinstance(lab.skopeo.admits(image, policy, platform="linux/amd64"), Rejected)


def test_no_policy_at_all(lab: ImageLab, tmp_path: Path) -> None:
    image = lab.push()
    assert isinstance(lab.skopeo.admits(image, tmp_path, platform="linux/amd64"), Unknown)
    (tmp_path / "policy.json").write_text("{", encoding="ascii")
    (tmp_path / "registries.d").mkdir()
    with pytest.raises(BadPolicy):
        lab.skopeo._copy([], "dir:none", "dir:none2", tmp_path)


def test_only_logins_are_handed_on(tmp_path: Path) -> None:
    file = tmp_path / "config.json"
    file.write_text(json.dumps(LOGIN), encoding="utf-8")
    login = RegistryLogin.read(file)
    assert json.loads(login.files["config.json"]) == {"auths": LOGIN["auths"]}
    assert "c2VjcmV0" not in repr(login)
    assert json.loads(RegistryLogin().files["config.json"]) == {}


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"auths": 1}', "c2VjcmV0", '{"auths": "c2VjcmV0"']
)
def test_files_without_logins(tmp_path: Path, text: str) -> None:
    file = tmp_path / "config.json"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(MalformedLogin) as raised:
        RegistryLogin.read(file)
    assert "c2VjcmV0" not in str(raised.value)
    assert raised.value.__cause__ is None
    with pytest.raises(MalformedLogin, match="cannot be read"):
        RegistryLogin.read(tmp_path / "none")
