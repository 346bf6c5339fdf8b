"""``image verify``: is what is published what podman, cosign and a person would let in?

Three ways for every part of an image: its workflow's signature (cosign, by certificate), the
release key's (cosign, by key), and the guest's own policy (skopeo, which reads it as podman does).
And two that have to be refused, or the first three say nothing: an image of the same repository
that nobody signed, and the base image.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec

from mrtd.errors import MrtdError
from mrtd.images.cosign import Cosign
from mrtd.images.outcome import Identity, Key, NotChecked, NotSigned, SignatureOutcome, Signed
from mrtd.images.reference import ImageReference
from mrtd.images.skopeo import Admitted, PolicyOutcome, Rejected, Skopeo
from release.image_build import Built
from release.image_policy import at_hand
from release.job import Job
from release.sbom import PREDICATE_TYPE

CONTROL_TAG: Final = "unsigned-control"
"""An image in our repository that is never signed."""


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One question, and its answer.

    Attributes:
        check: ``keyless``, ``key``, ``policy``, ``sbom``, ``unsigned`` or ``base``.
        image: about which; with the platform that was asked for, if there is one.
        ok: whether it is as it has to be; None: nobody knows.
        text: for people.
    """

    check: str
    image: str
    ok: bool | None
    text: str


class Verified(msgspec.Struct, frozen=True, kw_only=True):
    """All answers."""

    image: str
    findings: tuple[Finding, ...]

    @property
    def exit_code(self) -> int:
        """0: all is as it has to be; 1: something is not; 3: something could not be checked."""
        found = {one.ok for one in self.findings}
        return 1 if False in found else 3 if None in found else 0


class Trusted(msgspec.Struct, frozen=True, kw_only=True):
    """Whose signatures count.

    Attributes:
        identity: of the workflow.
        trusted_root: of the Sigstore instance.
        key: of the release.
        policy: folder that ``release policy render`` wrote.
    """

    identity: Identity
    trusted_root: bytes
    key: Key
    policy: Path


def verify(
    job: Job, built: Built, trusted: Trusted, *, cosign: Cosign, skopeo: Skopeo, sbom: bytes
) -> Verified:
    """Ask every question about an image. Raises only `SpecError`: the policy is none."""
    findings: list[Finding] = []
    job.progress("asking cosign")
    for part in built.parts:
        keyless = cosign.verify_keyless(part, trusted.identity, trusted_root=trusted.trusted_root)
        findings += [
            _signed("keyless", keyless),
            _signed("key", cosign.verify_key(part, trusted.key)),
        ]
    findings.append(_sbom(built, trusted, cosign, sbom))
    with at_hand(trusted.policy) as policy:
        for platform in built.platforms:
            job.progress(f"pulling for {platform} under the guest's policy")
            outcome = skopeo.admits(built.reference, policy, platform=platform)
            findings.append(_admitted(outcome, platform))
        job.progress("trying what has to be refused")
        findings += _controls(built, trusted, policy, cosign=cosign, skopeo=skopeo)
    return Verified(image=built.image, findings=tuple(findings))


def _signed(check: str, outcome: SignatureOutcome) -> Finding:
    if isinstance(outcome, Signed):
        return Finding(check=check, image=str(outcome.image), ok=True, text=f"by {outcome.by}")
    ok = None if isinstance(outcome, NotChecked) else False
    return Finding(check=check, image=str(outcome.image), ok=ok, text=outcome.why)


def _sbom(built: Built, trusted: Trusted, cosign: Cosign, sbom: bytes) -> Finding:
    outcome = cosign.verify_attestation(
        built.reference,
        trusted.identity,
        trusted_root=trusted.trusted_root,
        predicate_type=PREDICATE_TYPE,
        predicate=msgspec.json.decode(sbom),
    )
    return _signed("sbom", outcome)


def _admitted(outcome: PolicyOutcome, platform: str) -> Finding:
    image = f"{outcome.image} ({platform})"
    if isinstance(outcome, Admitted):
        return Finding(check="policy", image=image, ok=True, text="the guest's policy admits it")
    ok = False if isinstance(outcome, Rejected) else None
    return Finding(check="policy", image=image, ok=ok, text=outcome.why)


def _controls(
    built: Built, trusted: Trusted, policy: Path, *, cosign: Cosign, skopeo: Skopeo
) -> Iterator[Finding]:
    platform, one = next(iter(built.platforms.items()))
    base = ImageReference.read(one.base)
    yield _refused("base", skopeo.admits(base, policy, platform=platform))
    repository = built.reference.repository
    try:
        digest = skopeo.digest_of(repository, CONTROL_TAG)
    except MrtdError as error:
        yield Finding(check="unsigned", image=str(repository), ok=None, text=error.message)
        return
    if digest is None:
        text = f"there is no {CONTROL_TAG} to try: release image push makes it"
        yield Finding(check="unsigned", image=str(repository), ok=None, text=text)
        return
    control = repository.at(digest)
    yield _refused("unsigned", skopeo.admits(control, policy, platform=platform))
    root = trusted.trusted_root
    yield _unsigned(cosign.verify_keyless(control, trusted.identity, trusted_root=root))
    yield _unsigned(cosign.verify_key(control, trusted.key))


def _refused(check: str, outcome: PolicyOutcome) -> Finding:
    if isinstance(outcome, Rejected):
        return Finding(
            check=check, image=str(outcome.image), ok=True, text="refused, as it has to be"
        )
    if isinstance(outcome, Admitted):
        text = "the guest's policy ADMITS it: it checks nothing that matters"
        return Finding(check=check, image=str(outcome.image), ok=False, text=text)
    return Finding(check=check, image=str(outcome.image), ok=None, text=outcome.why)


def _unsigned(outcome: SignatureOutcome) -> Finding:
    name = f"{outcome.image} ({outcome.kind})"
    if isinstance(outcome, NotSigned):
        return Finding(check="unsigned", image=name, ok=True, text="not signed, as it has to be")
    if isinstance(outcome, Signed):
        text = f"signed by {outcome.by}: it is no control any more; remove its signature"
        return Finding(check="unsigned", image=name, ok=False, text=text)
    ok = None if isinstance(outcome, NotChecked) else False
    return Finding(check="unsigned", image=name, ok=ok, text=outcome.why)
