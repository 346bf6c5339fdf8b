"""dd-podman where the guest has what verifies the workflow: real cosign, real sigstore-go."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from mrtd.images.outcome import SignatureOutcome, Signed
from mrtd.images.reference import ImageReference
from mrtd.images.signing import attest, sign_keyless
from tests.conftest import debian_part, require_tool
from tests.images.lab import IDENTITY, ImageLab
from tests.release.policy.guest import IDENTITY as ANOTHER
from tests.release.policy.guest import Rendered, images_toml

CYCLONEDX = "https://cyclonedx.org/bom"
# What is in a predicate is nobody's word on the statement.
SBOM = b"""{"bomFormat": "CycloneDX", "specVersion": "1.6", "properties":
 {"predicateType": "https://sigstore.dev/cosign/sign/v1"}}"""


class Guest:
    """A rendered guest whose podman takes everything, so that only the workflow is in question."""

    def __init__(self, lab: ImageLab, program: Path, name: str, san: str = IDENTITY.san) -> None:
        self.rendered = Rendered(lab.folder / "guest")
        self.rendered.folder.mkdir()
        bin_folder = self.rendered.folder / "bin"
        bin_folder.mkdir()
        (bin_folder / "podman").write_text("#!/bin/sh\nexit 0\n", encoding="utf-8")
        (bin_folder / "podman").chmod(0o755)
        (bin_folder / name).symlink_to(program)
        (self.rendered.folder / "trusted_root.json").write_bytes(lab.root)
        self.rendered.key("ours.pub", lab.programs.ours[1].pem)
        repository, _, rest = san.removeprefix("https://github.com/").partition("/.github/")
        workflow, _, ref = rest.partition("@")
        identity = (
            f'[repositories.identity]\nrepository = "{repository}"\nrepository_id = 1\n'
            f'owner_id = 2\nworkflow = ".github/{workflow}"\nref = "{ref}"\n'
            f'issuer = "{IDENTITY.issuer}"\n'
        )
        text = images_toml(
            folder=self.rendered.policy,
            podman=bin_folder / "podman",
            sources={str(lab.repository()): ("ours.pub",)},
            guest="trusted_root = true",
        )
        assert self.rendered.render(text.replace(ANOTHER, identity)) == 0

    def bundle(self, lab: ImageLab, image: ImageReference, *, of: ImageReference) -> None:
        """Put the bundle of an image into the guest, as that of another or the same."""
        self.put(image, lab.cosign.verify_keyless(of, IDENTITY, trusted_root=lab.root))

    def put(self, image: ImageReference, outcome: SignatureOutcome) -> None:
        assert isinstance(outcome, Signed)
        folder = self.rendered.policy / "bundles"
        folder.mkdir(exist_ok=True)
        (folder / f"sha256-{image.hex}.json").write_bytes(outcome.bundle)

    def pull(self, image: ImageReference) -> tuple[int, str]:
        shell = [str(require_tool("busybox")), "sh", str(self.rendered.launcher), "pull"]
        done = subprocess.run(
            [*shell, str(image)], capture_output=True, check=False, encoding="utf-8",
            env={}, stdin=subprocess.DEVNULL, timeout=240,
        )  # fmt: skip
        return done.returncode, done.stderr


def test_cosign_in_the_guest(lab: ImageLab) -> None:
    guest = Guest(lab, lab.programs.cosign, "cosign")
    signed, unsigned = lab.push(), lab.push(tag="v2", text=b"unsigned")
    sign_keyless(lab.cosign, signed, lab.oidc, lab.sigstore)
    code, said = guest.pull(signed)
    assert (code, f"workflow verified by cosign: {IDENTITY.san}" in said) == (0, True), said
    code, said = guest.pull(unsigned)
    assert (code, "refused: " in said) == (1, True), said
    # an SBOM by the same workflow is no signature of the image, though cosign is content
    attest(lab.cosign, unsigned, lab.oidc, lab.sigstore, predicate=SBOM, predicate_type="cyclonedx")
    code, said = guest.pull(unsigned)
    assert (code, "signed no image" in said) == (1, True), said


def test_another_workflow_is_refused(lab: ImageLab) -> None:
    guest = Guest(lab, lab.programs.cosign, "cosign", IDENTITY.san.replace("main", "other"))
    image = lab.push()
    sign_keyless(lab.cosign, image, lab.oidc, lab.sigstore)
    code, said = guest.pull(image)
    assert (code, "not signed by" in said) == (1, True), said


def test_a_registry_that_is_down_is_no_answer(lab: ImageLab) -> None:
    guest = Guest(lab, lab.programs.cosign, "cosign")
    image = lab.push()
    toml = guest.rendered.toml.read_text(encoding="utf-8")
    assert guest.rendered.render(toml.replace(lab.registry.host, "127.0.0.1:9")) == 0
    gone = ImageReference.read(str(image).replace(lab.registry.host, "127.0.0.1:9"))
    code, said = guest.pull(gone)
    assert (code, "could not be checked" in said) == (3, True), said


@pytest.mark.parametrize("name", ["cosign", "sigstore-go-verification"])
def test_a_bundle_in_the_guest(lab: ImageLab, name: str) -> None:
    sigstore_go = debian_part("sigstore-go-sid").file("usr/bin/sigstore-go-verification")
    guest = Guest(lab, lab.programs.cosign if name == "cosign" else sigstore_go, name)
    image, other = lab.push(), lab.push(tag="v2", text=b"another")
    sign_keyless(lab.cosign, image, lab.oidc, lab.sigstore)
    guest.bundle(lab, image, of=image)
    guest.bundle(lab, other, of=image)
    code, said = guest.pull(image)
    assert (code, IDENTITY.san in said) == (0, True), said
    assert "workflow verified by" in said
    code, said = guest.pull(other)
    assert (code, "refused: " in said) == (1, True), said
    third = lab.push(tag="v3", text=b"third")
    attest(lab.cosign, third, lab.oidc, lab.sigstore, predicate=SBOM, predicate_type="cyclonedx")
    outcome = lab.cosign.verify_attestation(
        third, IDENTITY, trusted_root=lab.root, predicate_type=CYCLONEDX
    )
    guest.put(third, outcome)
    code, said = guest.pull(third)
    assert (code, "refused: " in said) == (1, True), said
