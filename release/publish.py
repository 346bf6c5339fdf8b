"""Signing and publishing one document, in steps that can be taken up where they ended.

Each step first looks whether it has been taken. What has been published is said with every error,
so that nobody has to guess; running the same command again completes it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import msgspec

from mrtd.errors import MrtdError, ReleaseRefused, ServiceRefused, SpecError, TransportError
from mrtd.reference import PREDICATE_TYPE, ReferenceValues, encode_statement, subjects
from mrtd.verifier.bundle import bundle_digest
from mrtd.verifier.identity import SAN, Signer, check_identity
from release.ambient import find_token
from release.channel import Channel, Published, failures, open_document
from release.github import GitHubApi, ReleaseEntry
from release.instance import SigstoreInstance
from release.job import Job, Trust
from release.refusals import Refusal, refuse
from release.second_opinion import Outcome, SecondOpinion, ask_cosign
from release.sign import sign_statement

_UPLOADS: Final = 4
_PAUSE: Final = 2.0
_OPINIONS: Final = 8
"""Subjects that cosign is asked about; it takes a process for each."""


class Trail(msgspec.Struct):
    """What has been published so far, for a person."""

    done: list[str]

    @contextmanager
    def explain(self) -> Iterator[None]:
        """Add to an error what is public already, and how to go on."""
        try:
            yield
        except MrtdError as error:
            state = (
                f"published so far: {', '.join(self.done)}" if self.done else "nothing is published"
            )
            resumes = bool(self.done) or isinstance(error, TransportError)
            again = "run the same command again: it goes on where this ended" if resumes else None
            error.hint = "; ".join(filter(None, (error.hint, state, again)))
            raise


def sign(
    job: Job,
    trust: Trust,
    instance: SigstoreInstance,
    values: ReferenceValues,
    *,
    token_from: str | None,
) -> Published:
    """Sign a document, if the token's identity is the one that control planes trust.

    Raises:
        ReleaseRefused: it is not; nothing has been signed.
        MrtdError: as `release.sign.sign_statement` and `release.ambient.find_token`.
    """
    token = find_token(token_from, environ=job.environ, patience=job.patience)
    refuse(of_identity(token.signer, trust, values))
    payload = encode_statement(values)
    signed = sign_statement(
        payload, token=token, instance=instance, patience=job.patience, now=lambda: job.now
    )
    one, checks = open_document(signed.bundle, trust, now=job.now, source="just signed")
    if one is None:
        text = f"what was signed is not what control planes trust: {failures(checks)}"
        raise ReleaseRefused(text, refusals=(("identity", text),))
    return one


def of_identity(signer: Signer, trust: Trust, values: ReferenceValues) -> Iterator[Refusal]:
    """Clauses of the identity that verifiers would refuse; only of what is known of the signer."""
    identity = trust.policy.identity
    for one in check_identity(signer, identity):
        extension = one.source.removeprefix("certificate: ")
        if not one.ok and extension in signer.values:
            yield Refusal(
                "identity",
                extension,
                f"is {one.observed!r}, and control planes trust {one.expected!r}",
                "release from the trusted workflow, or give their policy with --policy",
            )
    commit = signer["sourceRepositoryDigest"]
    if commit and commit != values.release.commit:
        yield Refusal(
            "commit",
            "sourceRepositoryDigest",
            f"the run is of commit {commit}, and {values.release.commit} is to be attested",
            "release the commit that the workflow runs on",
        )


def upload(job: Job, api: GitHubApi, channel: Channel, one: Published, digest: str) -> str:
    """Store an attestation unless it is there; looks again before every further attempt.

    Returns:
        what was done, for a person.
    """
    wanted = one.digest
    problem: TransportError | None = None
    for attempt in range(_UPLOADS):
        if attempt:
            job.sleep(_PAUSE * 2 ** (attempt - 1) * (1 + job.jitter()) / 2)
        if attempt or not one.stored:
            # an answer that got lost is no attestation that got lost
            if any(other.digest == wanted for other in channel.stored(digest)):
                return "attestation (was there)"
        else:
            return "attestation (was there)"
        try:
            return f"attestation {api.upload_attestation(one.bundle)}"
        except ServiceRefused:
            raise
        except TransportError as error:
            problem = error
    raise TransportError(
        f"the attestation could not be uploaded: {problem.message if problem else ''}"
    )


def upload_assets(
    api: GitHubApi, release: ReleaseEntry, files: dict[str, bytes], *, replace: bool = False
) -> tuple[str, ...]:
    """Add files to a release, but for those that it has; their names.

    Raises:
        ReleaseRefused: it has another file of a name.
        TransportError: a file could not be uploaded.
    """
    there = {asset.name: asset for asset in release.assets}
    other: list[Refusal] = []
    missing: list[str] = []
    for name, data in files.items():
        asset = there.get(name)
        if asset is None:
            missing.append(name)
        elif asset.state != "uploaded":
            api.delete_asset(asset)
            missing.append(name)
        elif _equal(api.asset(asset), data):
            continue
        elif replace:
            api.delete_asset(asset)
            missing.append(name)
        else:
            other.append(
                Refusal(
                    "asset_differs",
                    f"release {release.tag_name}",
                    f"has another {name}",
                    "delete it, or run again with --replace-assets",
                )
            )
    refuse(other, what="assets not uploaded")
    for name in missing:
        _upload_asset(api, release, name, files[name])
    return tuple(missing)


def _upload_asset(api: GitHubApi, release: ReleaseEntry, name: str, data: bytes) -> None:
    """Upload a file; where its answer got lost, look whether it is there before trying again."""
    for last in (False, False, True):
        try:
            return api.upload_asset(release, name, data)
        except ServiceRefused as error:
            if "already_exists" not in error.message:
                raise
        except TransportError:
            if last:
                raise
        if _arrived(api, release, name, data):
            return None
    raise TransportError(f"{name} could not be added to release {release.tag_name}")


def _arrived(api: GitHubApi, release: ReleaseEntry, name: str, data: bytes) -> bool:
    """Whether a file is there after all; what is there of it otherwise is removed."""
    again = next((one for one in api.releases() if one.id == release.id), release)
    asset = next((one for one in again.assets if one.name == name), None)
    if asset is None:
        return False
    if asset.state == "uploaded" and _equal(api.asset(asset), data):
        return True
    api.delete_asset(asset)
    return False


def _equal(one: bytes, other: bytes) -> bool:
    """Whether a file is the same; of bundles, whatever the spelling of their JSON."""
    return hashlib.sha256(one).digest() == hashlib.sha256(other).digest() or (
        other[:1] == b"{" and bundle_digest(one) == bundle_digest(other)
    )


def second_opinion(trust: Trust, one: Published, *, cosign: Path | None = None) -> SecondOpinion:
    """What cosign says of a bundle, where it is installed.

    Raises:
        ReleaseRefused: it disagrees.
    """
    digests = [subject.digest["sha256"] for subject in subjects(one.values)]
    said = ask_cosign(
        one.bundle,
        trusted_root=trust.root.raw,
        identity=one.signed.signer[SAN],
        issuer=one.signed.signer["issuer"],
        predicate_type=PREDICATE_TYPE,
        digests=digests[:_OPINIONS],
        cosign=cosign,
    )
    if said.outcome is Outcome.DISAGREES:
        text = f"cosign does not verify the bundle: {said.detail}"
        raise ReleaseRefused(text, refusals=(("second_opinion", text),))
    return said


def write_files(folder: Path, files: dict[str, bytes]) -> dict[str, Path]:
    """Write files, each whole or not at all; their paths by name. Raises `SpecError`."""
    written: dict[str, Path] = {}
    for name, data in files.items():
        path = folder / name
        temporary = path.with_name(f".{name}.part")
        try:
            folder.mkdir(parents=True, exist_ok=True)
            try:
                temporary.write_bytes(data)
                temporary.replace(path)
            finally:
                temporary.unlink(missing_ok=True)
        except OSError as error:
            raise SpecError(
                f"cannot be written: {error.strerror}", origin=str(path), field="--out"
            ) from error
        written[name] = path
    return written
