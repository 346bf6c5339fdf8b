"""Who signed an image: the real cosign, a real registry, and a Sigstore of this machine."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mrtd.errors import NoOidcPermission, ToolFailed, TransportError
from mrtd.images.cosign import Cosign, predicate_type, read_predicate
from mrtd.images.outcome import (
    SIGN_TYPE,
    Identity,
    Key,
    Kind,
    NotChecked,
    NotSigned,
    Refused,
    SignatureOutcome,
    Signed,
)
from mrtd.images.program import Program
from mrtd.images.reference import ImageReference, Repository
from mrtd.images.signing import Oidc, SigningKey, attest, sign_key, sign_keyless
from tests.images.lab import IDENTITY, PASSWORD, ImageLab
from tests.lab.faults import Fault
from tests.lab.faults import Kind as FaultKind
from tests.lab.instance import Instance
from tests.lab.signing_server import Endpoint

CYCLONEDX = "https://cyclonedx.org/bom"
SBOM = b'{"bomFormat":"CycloneDX","specVersion":"1.6"}'
IMAGE = ImageReference.read(f"127.0.0.1:1/owner/ours@sha256:{'a' * 64}")


def keyless(
    lab: ImageLab, image: ImageReference, identity: Identity = IDENTITY
) -> SignatureOutcome:
    return lab.cosign.verify_keyless(image, identity, trusted_root=lab.root)


def sbom_of(lab: ImageLab, image: ImageReference) -> SignatureOutcome:
    return lab.cosign.verify_attestation(
        image, IDENTITY, trusted_root=lab.root, predicate_type=CYCLONEDX
    )


def attest_sbom(lab: ImageLab, image: ImageReference) -> None:
    attest(lab.cosign, image, lab.oidc, lab.sigstore, predicate=SBOM, predicate_type="cyclonedx")


def why(outcome: SignatureOutcome) -> str:
    assert not isinstance(outcome, Signed)
    return outcome.why


def test_keyless(lab: ImageLab) -> None:
    image, other = lab.push(), lab.push("other", text=b"another")
    assert isinstance(keyless(lab, image), NotSigned)
    sign_keyless(lab.cosign, image, lab.oidc, lab.sigstore)
    outcome = keyless(lab, image)
    assert isinstance(outcome, Signed)
    assert (outcome.image, outcome.kind, outcome.by) == (image, Kind.KEYLESS, IDENTITY.san)
    assert predicate_type(outcome.bundle) == SIGN_TYPE
    assert isinstance(keyless(lab, other), NotSigned)
    # and offline, of the bundle alone
    assert (
        lab.cosign.verify_bundle(image, outcome.bundle, IDENTITY, trusted_root=lab.root) == outcome
    )
    moved = lab.cosign.verify_bundle(other, outcome.bundle, IDENTITY, trusted_root=lab.root)
    assert isinstance(moved, Refused)


@pytest.mark.parametrize(
    ("identity", "words"),
    [
        (Identity(IDENTITY.san.replace("main", "other"), IDENTITY.issuer), "expected SAN value"),
        (Identity(IDENTITY.san, f"{IDENTITY.issuer}/other"), "expected issuer value"),
        (Identity("--insecure-ignore-tlog=true", IDENTITY.issuer), "expected SAN value"),
    ],
)
def test_keyless_by_somebody_else(lab: ImageLab, identity: Identity, words: str) -> None:
    image = lab.push()
    sign_keyless(lab.cosign, image, lab.oidc, lab.sigstore)
    outcome = keyless(lab, image, identity)
    assert isinstance(outcome, Refused)
    assert words in outcome.why


def test_keyless_of_another_sigstore(lab: ImageLab) -> None:
    image = lab.push()
    sign_keyless(lab.cosign, image, lab.oidc, lab.sigstore)
    root = Instance("another").trusted_root_json()
    assert isinstance(lab.cosign.verify_keyless(image, IDENTITY, trusted_root=root), Refused)


def test_first_of_several_signers_is_enough(lab: ImageLab) -> None:
    image = lab.push()
    token = lab.server.provider.token(
        {"job_workflow_ref": "octo/other/.github/workflows/x.yml@refs/heads/main"}
    )
    sign_keyless(lab.cosign, image, Oidc.of_token(token), lab.sigstore)
    assert isinstance(keyless(lab, image), Refused)
    sign_keyless(lab.cosign, image, lab.oidc, lab.sigstore)
    assert isinstance(keyless(lab, image), Signed)


def test_attestation_alone_is_no_signature(lab: ImageLab) -> None:
    image = lab.push()
    attest_sbom(lab, image)
    outcome = keyless(lab, image)
    assert isinstance(outcome, NotSigned)
    assert CYCLONEDX in outcome.why
    found = sbom_of(lab, image)
    assert isinstance(found, Signed)
    assert found.kind is Kind.ATTESTATION
    assert read_predicate(found) == json.loads(SBOM)


def test_signature_is_no_attestation(lab: ImageLab) -> None:
    image = lab.push()
    sign_keyless(lab.cosign, image, lab.oidc, lab.sigstore)
    assert isinstance(sbom_of(lab, image), NotSigned)


def test_key(lab: ImageLab) -> None:
    (private, public), (_, other) = lab.programs.ours, lab.programs.other
    image = lab.push()
    assert isinstance(lab.cosign.verify_key(image, public), NotSigned)
    sign_key(lab.cosign, image, private)
    outcome = lab.cosign.verify_key(image, public)
    assert outcome == Signed(image, Kind.KEY, public.name)
    assert isinstance(lab.cosign.verify_key(image, other), Refused)
    # what podman reads is no bundle
    assert isinstance(keyless(lab, image), NotSigned)


def test_key_rotated(lab: ImageLab) -> None:
    old, new = lab.programs.other, lab.programs.ours
    image = lab.push()
    sign_key(lab.cosign, image, old[0])
    assert isinstance(lab.cosign.verify_key(image, new[1]), Refused)
    sign_key(lab.cosign, image, new[0])
    for _, public in (old, new):
        assert isinstance(lab.cosign.verify_key(image, public), Signed)


def test_both_formats_are_seen_beside_each_other(lab: ImageLab) -> None:
    image = lab.push()
    sign_key(lab.cosign, image, lab.programs.ours[0])
    sign_keyless(lab.cosign, image, lab.oidc, lab.sigstore)
    attest_sbom(lab, image)
    assert isinstance(keyless(lab, image), Signed)
    assert isinstance(sbom_of(lab, image), Signed)
    assert isinstance(lab.cosign.verify_key(image, lab.programs.ours[1]), Signed)


def test_signature_copied_from_another_repository(lab: ImageLab) -> None:
    image, copy = lab.push(), lab.push("copy")
    sign_key(lab.cosign, image, lab.programs.ours[0])
    lab.copy_tag(image.repository, copy.repository, f"sha256-{image.hex}.sig")
    outcome = lab.cosign.verify_key(copy, lab.programs.ours[1])
    assert isinstance(outcome, Refused)
    assert str(image.repository) in outcome.why


def test_skopeo_signs_what_cosign_verifies(lab: ImageLab, tmp_path: Path) -> None:
    from fixtures import images

    private, public = lab.programs.ours
    digest, _ = images.write_layout(tmp_path / "signed")
    lab.skopeo.push(tmp_path / "signed", lab.repository(), "v2", sign=private)
    image = lab.repository().at(digest)
    assert isinstance(lab.cosign.verify_key(image, public), Signed)
    policy = lab.policy(None, image.repository)
    from mrtd.images.skopeo import Admitted

    assert isinstance(lab.skopeo.admits(image, policy, platform="linux/amd64"), Admitted)


def test_all_platforms_are_signed(lab: ImageLab) -> None:
    index, parts = lab.push_all(platforms=("linux/amd64", "linux/arm64"))
    sign_keyless(lab.cosign, index, lab.oidc, lab.sigstore)
    sign_key(lab.cosign, index, lab.programs.ours[0])
    for image in (index, *parts.values()):
        assert isinstance(keyless(lab, image), Signed)
        assert isinstance(lab.cosign.verify_key(image, lab.programs.ours[1]), Signed)


def test_image_that_is_not_there(lab: ImageLab) -> None:
    gone = lab.repository().at(f"sha256:{'0' * 64}")
    outcome = keyless(lab, gone)
    assert isinstance(outcome, NotChecked)
    assert "not found" in outcome.why


def test_registry_that_is_down(lab: ImageLab) -> None:
    for outcome in (keyless(lab, IMAGE), lab.cosign.verify_key(IMAGE, lab.programs.ours[1])):
        assert isinstance(outcome, NotChecked)
        assert "connection refused" in outcome.why
    with pytest.raises(TransportError, match="connection refused"):
        sign_keyless(lab.cosign, IMAGE, lab.oidc, lab.sigstore)


def test_no_device_flow(lab: ImageLab) -> None:
    with pytest.raises(NoOidcPermission, match="ACTIONS_ID_TOKEN_REQUEST_URL"):
        Oidc.ambient({"ACTIONS_ID_TOKEN_REQUEST_URL": "https://one.is.missing"})
    image = lab.push()
    lab.server.faults[Endpoint.OIDC] = Fault(FaultKind.STATUS, 403)
    with pytest.raises(TransportError) as raised:
        sign_keyless(lab.cosign, image, lab.oidc, lab.sigstore)
    lab.said.append(str(raised.value))
    paths = {request.path for request in lab.server.web.requests}
    assert paths == {Endpoint.OIDC.value}  # nobody was asked for a code
    assert isinstance(keyless(lab, image), NotSigned)


def test_wrong_password_is_in_no_message(lab: ImageLab) -> None:
    image = lab.push()
    wrong = SigningKey(lab.programs.ours[0].pem, "wrong-password")
    with pytest.raises(TransportError) as raised:
        sign_key(lab.cosign, image, wrong)
    lab.said.append(f"{raised.value!r} {raised.value} {wrong!r} {lab.oidc!r}")
    assert "wrong-password" not in lab.said[-1]
    assert PASSWORD not in lab.said[-1]


@pytest.mark.parametrize("kind", [FaultKind.STATUS, FaultKind.GARBAGE])
@pytest.mark.parametrize("endpoint", [Endpoint.FULCIO, Endpoint.REKOR_V1])
def test_sigstore_that_does_not_answer(lab: ImageLab, kind: FaultKind, endpoint: Endpoint) -> None:
    image = lab.push()
    lab.server.faults[endpoint] = Fault(kind, 500)
    with pytest.raises(TransportError) as raised:
        sign_keyless(lab.cosign, image, lab.oidc, lab.sigstore)
    lab.said.append(str(raised.value))
    assert isinstance(keyless(lab, image), NotSigned)


def test_signing_again_after_a_lost_answer(lab: ImageLab) -> None:
    image = lab.push()
    lab.server.faults[Endpoint.REKOR_V1] = Fault(FaultKind.ANSWER_LOST)
    with pytest.raises(TransportError):
        sign_keyless(lab.cosign, image, lab.oidc, lab.sigstore)
    lab.server.faults.clear()
    sign_keyless(lab.cosign, image, lab.oidc, lab.sigstore)
    assert isinstance(keyless(lab, image), Signed)


def fake(folder: Path, body: str) -> Cosign:
    """A program that pretends to be a cosign with all options."""
    path = folder / "cosign"
    options = "--key --trusted-root --bundle --certificate-identity --certificate-oidc-issuer"
    more = "--type --digest --digestAlg"
    text = f'#!/bin/sh\ncase "$*" in *--help) echo {options} {more}; exit 0;; esac\n{body}\n'
    path.write_text(text, encoding="utf-8")
    path.chmod(0o755)
    return Cosign(Program(path, 20))


def claim(digest: str = IMAGE.digest, of: str = "cosign container image signature") -> str:
    critical = {
        "identity": {"docker-reference": str(IMAGE.repository)},
        "image": {"docker-manifest-digest": digest},
        "type": of,
    }
    return json.dumps([{"critical": critical, "optional": None}])


KEY = Key(b"a public key")
NO_MATCH = "Error: no matching signatures:"


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (f"echo '{claim()}'", Signed),
        (f"echo '{claim('sha256:' + 'b' * 64)}'", NotChecked),
        (f"echo '{claim(of='something else')}'", NotChecked),
        ("exit 0", NotChecked),
        ("echo '[]'", NotChecked),
        ("echo '[1]'", NotChecked),
        ("echo nonsense", NotChecked),
        ("exit 1", NotChecked),
        ("exit 2", NotChecked),
        ("exit 10", NotSigned),
        ("exit 12", NotChecked),
        (f"echo {NO_MATCH} invalid signature when validating ASN.1 >&2; exit 12", Refused),
        (f"echo {NO_MATCH} GET http://x: 503 >&2; exit 12", NotChecked),
        (
            f"printf '{NO_MATCH} invalid signature when validating ASN.1\\n EOF\\n' >&2; exit 12",
            NotChecked,
        ),
        ("kill -SEGV $$", NotChecked),
        (f"echo '{claim()}'; exit 12", NotChecked),
    ],
)
def test_exit_status_is_not_enough(tmp_path: Path, body: str, expected: type) -> None:
    outcome = fake(tmp_path, body).verify_key(IMAGE, KEY)
    assert isinstance(outcome, expected), outcome


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ('[ "$1" = download ] && exit 0; exit 0', NotSigned),
        ("exit 1", NotChecked),
        ("exit 2", NotChecked),
        ("echo no signatures associated >&2; exit 1", NotChecked),
        (f"echo Error: {IMAGE}: no signatures associated >&2; exit 1", NotSigned),
        ("head -c 9000000 /dev/zero; exit 0", NotChecked),
        ("yes verificationMaterial | head -65", NotChecked),
        ("echo '{\"verificationMaterial\":1}'", NotSigned),
    ],
)
def test_bundles_that_do_not_come(tmp_path: Path, body: str, expected: type) -> None:
    outcome = fake(tmp_path, body).verify_keyless(IMAGE, IDENTITY, trusted_root=b"{}")
    assert isinstance(outcome, expected), outcome


def test_hanging_and_missing_programs(tmp_path: Path) -> None:
    hangs = fake(tmp_path, "sleep 1000")
    asked = Cosign(Program(hangs.program.path, 0.5))
    outcome = asked.verify_key(IMAGE, KEY)
    assert isinstance(outcome, NotChecked)
    assert "in time" in outcome.why
    gone = Cosign(Program(tmp_path / "none", 5))
    assert isinstance(gone.verify_key(IMAGE, KEY), NotChecked)
    assert isinstance(gone.verify_keyless(IMAGE, IDENTITY, trusted_root=b"{}"), NotChecked)


def test_too_old(tmp_path: Path) -> None:
    path = tmp_path / "cosign"
    path.write_text("#!/bin/sh\necho --key\n", encoding="ascii")
    path.chmod(0o755)
    asked = Cosign(Program(path, 20))
    assert "--trusted-root" in why(asked.verify_key(IMAGE, KEY))
    with pytest.raises(ToolFailed, match="too old"):
        sign_key(asked, IMAGE, SigningKey("", ""))


def test_environment_of_others_is_not_handed_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ("COSIGN_REPOSITORY", "SIGSTORE_ROOT_FILE", "TUF_ROOT", "TUF_MIRROR",
             "DOCKER_CONFIG", "HOME", "COSIGN_PASSWORD", "GITHUB_TOKEN",
             "ACTIONS_ID_TOKEN_REQUEST_TOKEN")  # fmt: skip
    for name in names:
        monkeypatch.setenv(name, "unmistakable")
    seen = tmp_path / "seen"
    fake(tmp_path, f'env >{seen}; echo "$@" >>{seen}; exit 10').verify_key(IMAGE, KEY)
    text = seen.read_text(encoding="utf-8")
    assert "unmistakable" not in text
    assert "DOCKER_CONFIG=." in text
    assert text.splitlines()[-1].endswith(str(IMAGE))


def test_repository_of_docker_hub(tmp_path: Path) -> None:
    image = Repository.read("docker.io/library/alpine").at(IMAGE.digest)
    text = claim().replace(str(IMAGE.repository), "index.docker.io/library/alpine")
    assert isinstance(fake(tmp_path, f"echo '{text}'").verify_key(image, KEY), Signed)
