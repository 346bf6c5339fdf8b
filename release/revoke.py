"""``revoke``: a signed document after which no attestation makes something good any more."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec

from mrtd.errors import SpecError
from mrtd.reference import (
    Launch,
    ReferenceValues,
    Release,
    ReleaseRef,
    Revocation,
    encode_statement,
    subjects,
)
from mrtd.verifier.identity import SAN
from release import git, publish, selfcheck, statement
from release.channel import Anew, Channel, History
from release.github import GitHubApi
from release.instance import load_instance
from release.job import Job, Trust
from release.lifecycle import State, continued, ref_of, revocations
from release.refusals import Refusal, refuse
from release.second_opinion import SecondOpinion

_AFTER: Final = "a revocation is a document of its own"


class RevokeRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be revoked; see ``python -m release revoke --help``."""

    reason: str
    out: Path
    mrtds: tuple[str, ...] = ()
    launches: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    commits: tuple[str, ...] = ()
    repository: str | None = None
    commit: str | None = None
    policy: Path | None = None
    identity_token: str | None = None
    trust_config: Path | None = None
    previous: Path | Anew | None = None
    dry_run: bool = False
    cosign: Path | None = None


class RevokeReport(msgspec.Struct, kw_only=True):
    """What was done.

    Attributes:
        dry_run: nothing was signed or uploaded.
        values: the document.
        new: what it revokes that was not revoked before.
        files: what was written, by name.
        warnings: what a person should read.
        signer: identity that signed.
        run: URL of the run.
        done: what was published.
        opinion: cosign's.
        refused: launches that the verifier now refuses as revoked.
    """

    dry_run: bool
    values: ReferenceValues
    new: tuple[Revocation, ...]
    files: dict[str, Path]
    warnings: tuple[str, ...]
    signer: str = ""
    run: str = ""
    done: tuple[str, ...] = ()
    opinion: SecondOpinion | None = None
    refused: tuple[str, ...] = ()


def revoke(job: Job, request: RevokeRequest) -> RevokeReport:
    """Revoke. Raises as `release.attest.attest`."""
    instance = load_instance(request.trust_config)
    policy = job.policy(request.policy, request.repository)
    trust = Trust.of(policy, instance.root)
    api = job.api(policy.identity.repository)
    channel = Channel(trust, api, job.lookup(policy), now=job.now)
    job.progress("asking git and GitHub")
    history = channel.history(request.launches, previous=request.previous)
    values, new, warnings = _document(job, request, trust, history)
    payload = encode_statement(values)
    refuse(statement.of_size(payload))
    if request.dry_run:
        files = publish.write_files(request.out, {_name(values, "json"): payload})
        return RevokeReport(dry_run=True, values=values, new=new, files=files, warnings=warnings)
    trail = publish.Trail([])
    with trail.explain():
        one = statement.already(history.documents, values)
        if one is None:
            if not api.may_write:
                raise SpecError(
                    "is not set", origin="GITHUB_TOKEN", hint="it uploads what is signed"
                )
            job.progress("signing")
            one = publish.sign(job, trust, instance, values, token_from=request.identity_token)
        name = _name(one.values, "sigstore.json")
        files = publish.write_files(request.out, {name: one.bundle})
        opinion = publish.second_opinion(trust, one, cosign=request.cosign)
        digests = tuple(s.digest["sha256"] for s in subjects(one.values))
        job.progress("uploading")
        trail.done.append(publish.upload(job, api, channel, one, digests[0]))
        trail.done.append(_asset(api, history, name, one.bundle))
        job.progress("verifying what was published")
        selfcheck.wait_until_listed(job, trust, one.bundle, digests)
        affected = tuple(_affected(history, one.values))
        refused = selfcheck.check_refused(job, trust, affected, learned=(one.bundle,))
    return RevokeReport(
        dry_run=False,
        values=one.values,
        new=new,
        files=files,
        warnings=warnings,
        signer=one.signed.signer[SAN],
        run=one.signed.signer["runInvocationURI"],
        done=tuple(trail.done),
        opinion=opinion,
        refused=refused,
    )


def _document(
    job: Job, request: RevokeRequest, trust: Trust, history: History
) -> tuple[ReferenceValues, tuple[Revocation, ...], tuple[str, ...]]:
    """The document, what is new in it, and what a person should know."""
    state, identity = history.state, trust.policy.identity
    commit = job.commit(request.commit)
    sequence = git.sequence_of(job.folder, commit)
    own = ReleaseRef(tag=_tag(state, commit, sequence), commit=commit, sequence=sequence)
    refused = list(_of_request(request, state, own))
    rows = revocations(_wanted(request, state), reason=request.reason, sequence=sequence)
    cycle = continued(state, own, releases=False, revoke=rows)
    release = Release(
        repository=identity.repository,
        channel=identity.ref,
        tag=own.tag,
        commit=own.commit,
        sequence=own.sequence,
        created=statement.instant(job.now),
    )
    values = statement.document(release, cycle)
    refused += publish.of_identity(job.run, trust, values)
    refuse(refused)
    known = {(row.kind, row.value) for row in state.revoked}
    new = tuple(row for row in cycle.revoked if (row.kind, row.value) not in known)
    return values, new, tuple(_warnings(state, new))


def _tag(state: State, commit: str, sequence: int) -> str:
    """Of the release of this very commit, which then has one place; otherwise a name of its own."""
    for values in state.documents:
        ref = ref_of(values)
        if (ref.commit, ref.sequence) == (commit, sequence):
            return ref.tag
    return f"revocation-{sequence}"


def _of_request(request: RevokeRequest, state: State, own: ReleaseRef) -> Iterator[Refusal]:
    if own.sequence < state.sequence:
        yield Refusal(
            "sequence_behind",
            own.tag,
            f"its sequence is {own.sequence}, and the channel is at {state.sequence}",
            f"{_AFTER}: run it at the tip of the release branch",
        )
    named = (*(("tag", tag) for tag in request.tags), *(("commit", c) for c in request.commits))
    for kind, value in named:
        if not list(_launches_of(state, kind, value)) and not (request.launches or request.mrtds):
            yield Refusal(
                "release_unknown",
                f"{kind} {value}",
                "no document of this release was found, so nobody who asks about its launches "
                "would find the revocation",
                "name its launches too: --launch DIGEST",
            )


def _wanted(request: RevokeRequest, state: State) -> Iterator[tuple[str, str]]:
    """Kinds and values; those of a release with its launches, by which VMs are looked up."""
    yield from (("mrtd", value) for value in request.mrtds)
    yield from (("launch", value) for value in request.launches)
    for kind, values in (("tag", request.tags), ("commit", request.commits)):
        for value in values:
            yield kind, value
            for launch in _launches_of(state, kind, value):
                if (digest := launch.launch_digest) is not None:
                    yield "launch", digest


def _launches_of(state: State, kind: str, value: str) -> Iterator[Launch]:
    for values in state.documents:
        if getattr(values.release, kind) == value:
            yield from values.launches


def _warnings(state: State, new: tuple[Revocation, ...]) -> Iterator[str]:
    """Releases that may run, and that a revoked digest hits as well."""
    rows = {(row.kind, row.value) for row in new}
    for values in state.documents:
        ref = ref_of(values)
        if ref not in state.current or {("tag", ref.tag), ("commit", ref.commit)} & rows:
            continue
        for launch in values.launches:
            keys = {("mrtd", str(launch.registers.value("mrtd"))), ("launch", launch.launch_digest)}
            if keys & rows:
                yield f"release {ref.tag} may run, and its {launch.shape} is revoked with this"


def _affected(history: History, values: ReferenceValues) -> Iterator[Launch]:
    """Launches of documents that are revoked by one: what the verifier is asked about."""
    rows = {(row.kind, row.value) for row in values.lifecycle.revoked}
    seen: set[tuple[object, ...]] = set()
    for one in history.documents:
        release = one.values.release
        whole = bool({("tag", release.tag), ("commit", release.commit)} & rows)
        for launch in one.values.launches:
            keys = {("mrtd", str(launch.registers.value("mrtd"))), ("launch", launch.launch_digest)}
            key = tuple(rule.value for _, rule in launch.registers.items())
            if (whole or keys & rows) and key not in seen:
                seen.add(key)
                yield launch


def _name(values: ReferenceValues, suffix: str) -> str:
    """Of the file: several documents may have the same sequence."""
    rows = encode_statement(values)
    digest = hashlib.sha256(rows).hexdigest()[:12]
    return f"mrtd-revocation-{values.release.sequence}-{digest}.{suffix}"


def _asset(api: GitHubApi, history: History, name: str, bundle: bytes) -> str:
    """Add the document to the newest release, where the next one looks for it."""
    if not history.releases:
        return "no asset: there is no release"
    release = history.releases[0]
    publish.upload_assets(api, release, {name: bundle})
    return f"asset {name} of {release.tag_name}"
