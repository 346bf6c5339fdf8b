"""Publishing: pushed, signed twice, attested, and verified as a guest would; again and again."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from mrtd.images.outcome import NotSigned, Signed
from mrtd.images.signing import sign_key, sign_keyless
from mrtd.images.skopeo import Admitted, BadPolicy, Rejected
from release.cli import main
from tests.images.lab import IDENTITY, ImageLab
from tests.images.workshop import Workshop
from tests.lab.faults import Fault, Kind
from tests.lab.github_oidc import run_claims
from tests.lab.identity import OWNER_ID, REPOSITORY, REPOSITORY_ID, WORKFLOW
from tests.lab.signing_server import Endpoint
from tests.release.stage import Ran


@pytest.fixture
def shop(lab: ImageLab) -> Workshop:
    made = Workshop.make(lab, platforms=("linux/amd64",))
    ran = made.build()
    assert ran.code == 0, ran.err
    return made


def findings(ran: Ran) -> dict[str, set[bool | None]]:
    report = ran.json
    found: dict[str, set[bool | None]] = {}
    for one in (report.get("verified") or report)["findings"]:
        found.setdefault(one["check"], set()).add(one["ok"])
    return found


ALL_WELL = {name: {True} for name in ("keyless", "key", "sbom", "policy", "base", "unsigned")}


def guest_policy(shop: Workshop) -> Path:
    """What ``release policy render`` makes for the image's repository."""
    folder = shop.lab.folder / "images"
    (folder / "keys").mkdir(parents=True)
    (folder / "keys" / "ours.pub").write_bytes(shop.lab.programs.ours[1].pem)
    text = f"""\
schema = "mrtd.images/1"
[guest]
folder = "/var/lib/guest/.config/containers"
podman = "/var/lib/guest/bin/podman"
[[repositories]]
repository = "{shop.lab.repository()}"
keys = ["ours.pub"]
[repositories.identity]
repository = "{REPOSITORY}"
repository_id = {REPOSITORY_ID}
owner_id = {OWNER_ID}
workflow = "{WORKFLOW}"
"""
    (folder / "images.toml").write_text(text, encoding="utf-8")
    out = shop.lab.folder / "guest-policy"
    words = ["policy", "render", "--images", str(folder / "images.toml"), "--out", str(out)]
    assert main(words) == 0
    return out


def test_publish_under_the_policy_that_guests_ship(lab: ImageLab) -> None:
    shop = Workshop.make(lab)
    assert shop.build().code == 0
    policy = guest_policy(shop)
    ran = shop.signed("publish", "--json", policy=policy)
    assert ran.code == 0, ran.out + ran.err
    assert findings(ran) == ALL_WELL
    checks = [one["check"] for one in ran.json["verified"]["findings"]]
    assert checks.count("keyless") == checks.count("key") == 3  # the index, and two images
    assert checks.count("policy") == 2
    # and once more: nothing is done again
    done = dict(lab.server.done)
    again = shop.signed("publish", "--json", policy=policy)
    assert again.code == 0
    assert all(text.endswith("(was there)") for text in again.json["done"])
    assert dict(lab.server.done) == done
    assert shop.signed("verify", policy=policy).code == 0
    names = lab.registry.tags(f"{lab.namespace}/ours")
    assert {"v1.0.0", "unsigned-control", f"sha256-{shop.image.hex}.sig"} <= set(names)


def test_nothing_is_pushed_that_could_not_be_verified(shop: Workshop) -> None:
    ran = shop.signed("publish", policy=shop.lab.folder / "none")
    assert ran.code == 2
    assert "release policy render" in ran.err
    assert shop.lab.registry.tags(f"{shop.lab.namespace}/ours") == []


def test_steps_one_by_one(shop: Workshop) -> None:
    assert shop.run("push", "--tag", "v1.0.0").code == 0
    unsigned = shop.signed("verify", "--json")
    assert unsigned.code == 1
    wrong = {name: {False} for name in ("keyless", "key", "sbom", "policy")}
    assert findings(unsigned) == wrong | {"base": {True}, "unsigned": {True}}
    assert shop.signed("sign").code == 0
    ran = shop.signed("verify")
    assert ran.code == 0
    assert ran.out.endswith("verified\n")
    assert max(map(len, ran.out.splitlines())) <= 80


def test_nothing_is_built(lab: ImageLab) -> None:
    shop = Workshop.make(lab)
    ran = shop.signed("publish")
    assert ran.code == 2
    assert "release image build" in ran.err


def test_tag_that_names_another_image(shop: Workshop) -> None:
    other = shop.lab.push(tag="v1.0.0", text=b"another")
    ran = shop.run("push", "--tag", "v1.0.0", "--json")
    assert ran.code == 1
    assert ran.json["error"]["refusals"][0]["code"] == "tag_taken"
    assert "nothing is published" in ran.err
    assert shop.lab.skopeo.digest_of(shop.lab.repository(), "v1.0.0") == other.digest
    assert shop.run("push", "--tag", "v1.0.0", "--move-tag").code == 0
    assert shop.lab.skopeo.digest_of(shop.lab.repository(), "v1.0.0") == shop.image.digest


def test_tag_that_moves_after_the_push(shop: Workshop) -> None:
    """What is signed and verified is a digest: a tag leads nobody to something else."""
    assert shop.run("push", "--tag", "v1.0.0").code == 0
    evil = shop.lab.push(tag="v1.0.0", text=b"evil")
    assert shop.signed("sign").code == 0
    assert shop.signed("verify").code == 0
    root = shop.lab.root
    assert isinstance(shop.lab.cosign.verify_keyless(evil, IDENTITY, trusted_root=root), NotSigned)


def test_platform_without_a_signature(lab: ImageLab) -> None:
    shop = Workshop.make(lab)
    assert shop.build().code == 0
    assert shop.signed("publish").code == 0
    data = (shop.out / "layout" / "index.json").read_text(encoding="utf-8")
    assert shop.image.digest in data
    arm = json.loads((shop.out / "image.json").read_bytes())["platforms"]["linux/arm64"]["digest"]
    repository = f"{lab.namespace}/ours"
    unsign(lab, repository, arm)
    ran = shop.signed("verify", "--json")
    assert ran.code == 1
    bad = {(one["check"], one["image"].rpartition(" ")[2]) for one in
           ran.json["findings"] if one["ok"] is False}  # fmt: skip
    name = f"{shop.lab.repository()}@{arm}"
    assert bad == {("key", name), ("policy", "(linux/arm64)")}
    assert shop.signed("publish").code == 0  # adds what is missing
    assert shop.signed("verify").code == 0


def unsign(lab: ImageLab, repository: str, digest: str) -> None:
    """Take a signature for podman away: its tag then names something else."""
    kind, data = lab.registry.manifest(repository, "unsigned-control")
    tag = f"sha256-{digest.removeprefix('sha256:')}.sig"
    lab.registry.put_manifest(repository, tag, kind, data)


def test_key_rotated(shop: Workshop) -> None:
    lab = shop.lab
    assert shop.signed("publish").code == 0
    # the guests' policy has the new key alone, and so has --public-key
    (new_private, new_public) = lab.programs.other
    (lab.folder / "ours.pub").write_bytes(new_public.pem)
    policy = lab.policy(None, lab.repository())
    (policy / "keys" / "ours.pub").write_bytes(new_public.pem)
    ran = shop.signed("verify", "--json", policy=policy)
    assert ran.code == 1
    found = findings(ran)
    assert (found["key"], found["policy"], found["keyless"]) == ({False}, {False}, {True})
    shop.environ["COSIGN_PRIVATE_KEY"] = new_private.pem
    again = shop.signed("publish", policy=policy)
    assert again.code == 0, again.out + again.err
    # guests of before, with the old key, still take it
    assert isinstance(
        lab.skopeo.admits(shop.image, lab.policy(None, lab.repository()), platform="linux/amd64"),
        Admitted,
    )


def test_signatures_copied_from_another_repository(shop: Workshop) -> None:
    """cosign takes no notice of the repository; podman does, and so does `verify_key`."""
    lab = shop.lab
    assert shop.signed("publish").code == 0
    other = lab.repository("copy")
    lab.skopeo.push(shop.out / "layout", other, "v1")
    lab.copy_tag(lab.repository(), other, f"sha256-{shop.image.hex}.sig")
    copied = other.at(shop.image.digest)
    assert not isinstance(lab.cosign.verify_key(copied, lab.programs.ours[1]), Signed)
    policy = lab.policy(None, other)
    outcome = lab.skopeo.admits(copied, policy, platform="linux/amd64")
    assert isinstance(outcome, Rejected)
    assert "is not accepted" in outcome.why


def test_policy_that_lets_everything_in(shop: Workshop) -> None:
    anything = {"type": "insecureAcceptAnything"}
    bases = shop.base.repository
    policy = shop.lab.policy(anything, shop.lab.repository(), bases)
    ran = shop.signed("publish", "--json", policy=policy)
    assert ran.code == 1
    found = findings(ran)
    assert found["policy"] == {True}
    assert found["base"] == {False}
    assert False in found["unsigned"]
    texts = [one["text"] for one in ran.json["verified"]["findings"] if one["ok"] is False]
    assert all("ADMITS" in text for text in texts)


def test_control_that_somebody_signed(shop: Workshop) -> None:
    lab = shop.lab
    assert shop.signed("publish").code == 0
    digest = lab.skopeo.digest_of(lab.repository(), "unsigned-control")
    assert digest is not None
    sign_key(lab.cosign, lab.repository().at(digest), lab.programs.ours[0])
    ran = shop.signed("verify", "--json")
    assert ran.code == 1
    assert findings(ran)["unsigned"] == {True, False}


def test_policy_that_skopeo_cannot_read(shop: Workshop, lab: ImageLab) -> None:
    policy = lab.policy({"type": "sigstoreSigned", "fulcioCert": "x"}, lab.repository())
    with pytest.raises(BadPolicy, match="Unknown key"):
        lab.skopeo._copy([], "dir:none", "dir:none2", policy)
    assert shop.run("push", "--tag", "v1").code == 0
    ran = shop.signed("verify", "--json", policy=policy)
    assert findings(ran)["policy"] == {None}
    nothing = shop.signed("verify", policy=lab.folder / "none")
    assert nothing.code == 2
    assert "release policy render" in nothing.err


def test_policy_without_its_key(shop: Workshop, lab: ImageLab) -> None:
    policy = lab.policy(None, lab.repository())
    (policy / "keys" / "ours.pub").unlink()
    ran = shop.signed("verify", policy=policy)
    assert ran.code == 2
    assert "has no key ours.pub" in ran.err


@pytest.mark.parametrize(
    ("claims", "variables", "code", "words"),
    [
        (run_claims(ref="refs/heads/other"), {}, 1, "is trusted"),
        ({}, {"ACTIONS_ID_TOKEN_REQUEST_TOKEN": ""}, 2, "OIDC token"),
        ({}, {"COSIGN_PRIVATE_KEY": ""}, 2, "COSIGN_PRIVATE_KEY"),
        ({}, {"COSIGN_PASSWORD": "wrong"}, 3, "did not sign"),
    ],
)
def test_jobs_that_may_not_sign(
    shop: Workshop, claims: dict[str, Any], variables: dict[str, str], code: int, words: str
) -> None:
    assert shop.run("push", "--tag", "v1").code == 0
    if claims:
        shop.lab.server._claims = claims
    ran = signed_with(shop, variables)
    assert ran.code == code, ran.err
    assert words in ran.err


def signed_with(shop: Workshop, variables: dict[str, str]) -> Ran:
    before = dict(shop.environ)
    shop.environ.update(variables)
    try:
        return shop.signed("sign")
    finally:
        shop.environ.clear()
        shop.environ.update(before)


@pytest.mark.parametrize("endpoint", [Endpoint.FULCIO, Endpoint.REKOR_V1, Endpoint.OIDC])
def test_going_on_after_a_failure(shop: Workshop, endpoint: Endpoint) -> None:
    shop.lab.server.faults[endpoint] = Fault(Kind.STATUS, 500)
    ran = shop.signed("publish")
    assert ran.code == 3
    assert "published so far" in ran.err
    assert "goes on where this ended" in ran.err
    shop.lab.server.faults.clear()
    ran = shop.signed("publish")
    assert ran.code == 0, ran.out + ran.err
    assert "(was there)" in ran.out


def test_sbom_of_another_image(shop: Workshop) -> None:
    assert shop.signed("publish").code == 0
    (shop.out / "sbom.cdx.json").write_text('{"bomFormat":"CycloneDX"}', encoding="ascii")
    ran = shop.signed("verify", "--json")
    assert ran.code == 1
    assert findings(ran)["sbom"] == {False}


def test_keyless_alone_is_not_enough_for_a_guest(shop: Workshop) -> None:
    """As every image is that cosign 3 signs by default: podman sees nothing."""
    lab = shop.lab
    assert shop.run("push", "--tag", "v1").code == 0
    sign_keyless(lab.cosign, shop.image, lab.oidc, lab.sigstore)
    policy = lab.policy(None, lab.repository())
    outcome = lab.skopeo.admits(shop.image, policy, platform="linux/amd64")
    assert isinstance(outcome, Rejected)
    assert "no signature exists" in outcome.why


def test_digests_are_what_hashing_says(shop: Workshop) -> None:
    assert shop.run("push", "--tag", "v1").code == 0
    raw = shop.lab.skopeo.manifest(shop.image)
    assert raw is not None
    assert hashlib.sha256(raw).hexdigest() == shop.image.hex
