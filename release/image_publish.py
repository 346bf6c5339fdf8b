"""Publishing an image: push, sign twice, attest its SBOM. Each step looks first whether it is done.

Two signatures of the same digest: the workflow's (a Sigstore bundle, with a log entry: for people
and for the status of workloads) and the release key's (what released podman can check).
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import msgspec

from mrtd.errors import ReleaseRefused, SpecError, TransportError
from mrtd.images import signing
from mrtd.images.cosign import Cosign
from mrtd.images.outcome import NotChecked, SignatureOutcome, Signed
from mrtd.images.signing import Oidc, SigningKey, Sigstore
from mrtd.images.skopeo import Skopeo
from mrtd.verifier.identity import SAN
from release.ambient import find_token
from release.image_build import LAYOUT, SBOM, Built
from release.image_verify import CONTROL_TAG, Trusted
from release.job import Job
from release.oci import CONFIG, LAYER, MANIFEST, Layout, encode, manifest
from release.oci_layer import Entry, layer
from release.publish import Trail
from release.sbom import PREDICATE_TYPE


class Signer(msgspec.Struct, frozen=True, kw_only=True):
    """With what is signed.

    Attributes:
        sigstore: the instance, with its addresses.
        key: the release's.
        token_from: ``--identity-token``; None: GitHub's for this job.
    """

    sigstore: Sigstore
    key: SigningKey
    token_from: str | None = None


def push(
    job: Job, built: Built, trail: Trail, *, out: Path, skopeo: Skopeo, tag: str, move: bool
) -> None:
    """Push what was built, by digest, and give it a tag; and the control that nobody signs.

    Raises:
        ReleaseRefused: the tag names another image.
        TransportError: it is not there, or not what was built.
    """
    image = built.reference
    now = skopeo.digest_of(image.repository, tag)
    if now not in {None, image.digest} and not move:
        text = f"{image.repository}:{tag} is {now}, and {image.digest} was built"
        raise ReleaseRefused(
            text, refusals=(("tag_taken", text),), hint="give it another tag, or say --move-tag"
        )
    if now != image.digest or any(skopeo.manifest(part) is None for part in built.parts):
        job.progress("pushing")
        skopeo.push(out / LAYOUT, image.repository, tag)
        trail.done.append(f"{image} as {tag}")
    else:
        trail.done.append(f"{image} (was there)")
    for part in built.parts:
        if skopeo.manifest(part) is None:
            raise TransportError(f"{part} is not there after it was pushed")
    if skopeo.digest_of(image.repository, CONTROL_TAG) is None:
        with tempfile.TemporaryDirectory(prefix="mrtd-") as folder:
            _control(Path(folder, LAYOUT), next(iter(built.platforms)))
            skopeo.push(Path(folder, LAYOUT), image.repository, CONTROL_TAG)
        trail.done.append(CONTROL_TAG)


def sign(
    job: Job, built: Built, trail: Trail, *, signer: Signer, trusted: Trusted, cosign: Cosign
) -> None:
    """Sign every part of an image, as this workflow and with the release key.

    Raises:
        ReleaseRefused: this job is not the workflow whose signatures count.
        TransportError: something could not be signed, or it is not known whether it is.
    """
    root = trusted.trusted_root
    keyless = [
        cosign.verify_keyless(part, trusted.identity, trusted_root=root) for part in built.parts
    ]
    if _lacking(keyless):
        job.progress("signing as this workflow")
        oidc = _oidc(job, signer, trusted)
        signing.sign_keyless(cosign, built.reference, oidc, signer.sigstore)
        trail.done.append(f"signature of {trusted.identity.san}")
    else:
        trail.done.append("the workflow's signature (was there)")
    if _lacking([cosign.verify_key(part, trusted.key) for part in built.parts]):
        job.progress("signing with the release key")
        signing.sign_key(cosign, built.reference, signer.key)
        trail.done.append("signature of the release key")
    else:
        trail.done.append("the release key's signature (was there)")


def attest(
    job: Job,
    built: Built,
    trail: Trail,
    *,
    sbom: bytes,
    signer: Signer,
    trusted: Trusted,
    cosign: Cosign,
) -> None:
    """Attach the SBOM to an image, signed as this workflow. Raises like `sign`."""
    found = cosign.verify_attestation(
        built.reference,
        trusted.identity,
        trusted_root=trusted.trusted_root,
        predicate_type=PREDICATE_TYPE,
        predicate=msgspec.json.decode(sbom),
    )
    if not _lacking([found]):
        trail.done.append("SBOM (was there)")
        return
    job.progress("attesting the SBOM")
    signing.attest(
        cosign,
        built.reference,
        _oidc(job, signer, trusted),
        signer.sigstore,
        predicate=sbom,
        predicate_type="cyclonedx",
    )
    trail.done.append("SBOM")


def read_sbom(out: Path) -> bytes:
    """The SBOM that ``build`` wrote. Raises `SpecError`."""
    file = out / SBOM
    try:
        return file.read_bytes()
    except OSError as error:
        raise SpecError(f"cannot be read: {error.strerror}", origin=str(file)) from error


def _lacking(outcomes: list[SignatureOutcome]) -> bool:
    """Whether some part is not signed. Raises `TransportError` where that is not known."""
    for one in outcomes:
        if isinstance(one, NotChecked):
            raise TransportError(f"{one.image}: it is not known whether it is signed: {one.why}")
    return not all(isinstance(one, Signed) for one in outcomes)


def _oidc(job: Job, signer: Signer, trusted: Trusted) -> Oidc:
    """A token for cosign, of the identity that counts. Raises `ReleaseRefused`."""
    token = find_token(signer.token_from, environ=job.environ, patience=job.patience)
    found = (token.signer[SAN], token.issuer)
    wanted = (trusted.identity.san, trusted.identity.issuer)
    if found != wanted:
        text = f"this job is {found[0]} ({found[1]}), and {wanted[0]} ({wanted[1]}) is trusted"
        raise ReleaseRefused(text, refusals=(("identity", text),))
    return Oidc.of_token(token.secret.reveal())


def _control(folder: Path, platform: str) -> None:
    """An image of one empty file: nothing but its digest is of interest."""
    layout = Layout(folder)
    packed = layer({"/unsigned": Entry(b"")}, root="/")
    system, _, machine = platform.partition("/")
    config = {
        "os": system,
        "architecture": machine,
        "config": {},
        "rootfs": {"type": "layers", "diff_ids": [packed.diff_id]},
    }
    about = layout.add(encode(config), CONFIG)
    made = manifest(about, [layout.add(packed.compressed, LAYER)], {})
    layout.finish(layout.add(made, MANIFEST))
