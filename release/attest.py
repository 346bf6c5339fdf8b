"""``attest``: from measurement documents to an attestation that a control plane takes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

import msgspec

from mrtd.artifacts import artifact_of
from mrtd.document import read_document
from mrtd.errors import SpecError, TransportError
from mrtd.launches import Measured, launch_of, shape_of
from mrtd.reference import (
    BitRule,
    Launch,
    ReferenceValues,
    Release,
    ReleaseRef,
    encode_statement,
    subjects,
)
from mrtd.verifier.identity import SAN
from mrtd.verifier.policy import Policy
from release import git, publish, refusals, selfcheck, statement
from release.channel import BUNDLE, Anew, Channel, History, Published, open_document
from release.evidence import PUBLIC, Archive, archive
from release.github import GitHubApi
from release.instance import load_instance
from release.job import Job, Trust
from release.lifecycle import continued, of_lifecycle
from release.second_opinion import SecondOpinion

_READ_LIMIT: Final = 16 << 20


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be attested; see ``python -m release attest --help``."""

    documents: tuple[tuple[str | None, Path], ...]
    tag: str
    out: Path
    artifacts: tuple[Path, ...] = ()
    results: tuple[Path, ...] = ()
    accepted: dict[str, str] = {}
    confirmations: tuple[str, ...] = ()
    evidence: Path | None = None
    full_evidence: str | None = None
    repository: str | None = None
    commit: str | None = None
    policy: Path | None = None
    identity_token: str | None = None
    trust_config: Path | None = None
    previous: Path | Anew | None = None
    keep: int = 1
    coming: tuple[ReleaseRef, ...] = ()
    xfam: BitRule | None = None
    dry_run: bool = False
    replace_assets: bool = False
    cosign: Path | None = None


class Report(msgspec.Struct, kw_only=True):
    """What was done.

    Attributes:
        dry_run: nothing was signed or uploaded.
        values: the document.
        subjects: name and SHA-256 of each subject.
        files: what was written, by name.
        warnings: what a person should read.
        signer: identity that signed.
        run: URL of the run.
        log_index: in the transparency log.
        done: what was published.
        opinion: cosign's.
        check: the verifier's.
    """

    dry_run: bool
    values: ReferenceValues
    subjects: tuple[tuple[str, str], ...]
    files: dict[str, Path]
    warnings: tuple[str, ...]
    signer: str = ""
    run: str = ""
    log_index: int | None = None
    done: tuple[str, ...] = ()
    opinion: SecondOpinion | None = None
    check: selfcheck.SelfCheck | None = None


class _Prepared(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that is known before something is signed."""

    values: ReferenceValues
    payload: bytes
    history: History
    warnings: tuple[str, ...]
    evidence: Archive | None


def attest(job: Job, request: Request) -> Report:
    """Attest a release.

    Raises:
        ReleaseRefused: it is not to be signed.
        VerificationError: what was published is not what a verifier takes.
        MrtdError: an input is wrong, or a service is away; the hint says what is published.
    """
    instance = load_instance(request.trust_config)
    policy = job.policy(request.policy, request.repository)
    trust = Trust.of(policy, instance.root)
    api = job.api(policy.identity.repository)
    channel = Channel(trust, api, job.lookup(policy), now=job.now)
    prepared = _prepare(job, request, trust, channel)
    values = prepared.values
    named = tuple((one.name, one.digest["sha256"]) for one in subjects(values))
    extra = _evidence_files(prepared.evidence)
    if request.dry_run:
        files = publish.write_files(request.out, statement.files_of(values, None) | extra)
        return Report(
            dry_run=True, values=values, subjects=named, files=files, warnings=prepared.warnings
        )
    trail = publish.Trail([])
    with trail.explain():
        one = _kept(job, request, trust, prepared)
        if one is None:
            if not api.may_write:
                raise SpecError(
                    "is not set", origin="GITHUB_TOKEN", hint="it uploads what is signed"
                )
            job.progress("signing")
            one = publish.sign(job, trust, instance, values, token_from=request.identity_token)
        values = one.values
        made = statement.files_of(values, one.bundle) | extra
        files = publish.write_files(request.out, made)
        job.progress("asking cosign")
        opinion = publish.second_opinion(trust, one, cosign=request.cosign)
        job.progress("uploading")
        trail.done.append(publish.upload(job, api, channel, one, named[0][1]))
        trail.done += _assets(api, request, prepared, made)
        job.progress("verifying what was published")
        selfcheck.wait_until_listed(job, trust, one.bundle, _asked(values))
        checked = selfcheck.check_admitted(job, trust, values, one.bundle)
    return Report(
        dry_run=False,
        values=values,
        subjects=named,
        files=files,
        warnings=prepared.warnings,
        signer=one.signed.signer[SAN],
        run=one.signed.signer["runInvocationURI"],
        log_index=one.signed.log_index,
        done=tuple(trail.done),
        opinion=opinion,
        check=checked,
    )


def _prepare(job: Job, request: Request, trust: Trust, channel: Channel) -> _Prepared:
    """Everything up to the statement; all reasons against it are raised together."""
    job.progress("reading measurement documents")
    policy = trust.policy
    measured = tuple(_read(shape, path) for shape, path in request.documents)
    found = list(refusals.of_documents(measured))
    if any(one.code == "wrong_target" for one in found):
        refusals.refuse(found)  # PCRs are no registers of a TD: nothing else can be said
    launches, others = _launches(request, measured, policy)
    found += others
    job.progress("asking git and GitHub")
    own = _own(job, request, policy)
    release = Release(
        repository=policy.identity.repository,
        channel=policy.identity.ref,
        tag=own.tag,
        commit=own.commit,
        sequence=own.sequence,
        created=statement.instant(job.now),
    )
    evidence = (
        archive(request.evidence, full_name=request.full_evidence) if request.evidence else None
    )
    kept = evidence.artifacts if evidence else ()
    artifacts = (*map(artifact_of, request.artifacts), *kept)
    try:
        history = channel.history(_digests(launches), previous=request.previous)
    except TransportError:
        refusals.refuse(found, what="not signed (and GitHub could not be asked: there may be more)")
        raise
    state = history.state
    cycle = continued(state, own, releases=True, keep=request.keep, coming=request.coming)
    found += of_lifecycle(state, own, launches, cycle)
    values = statement.document(release, cycle, launches, artifacts)
    found += publish.of_identity(job.run, trust, values)
    refusals.refuse(found)
    payload = encode_statement(values)
    refusals.refuse(statement.of_size(payload))
    warnings = (
        *(text for one in measured for text in refusals.warnings_of(one)),
        *statement.size_warning(payload),
        *history.problems,
        *_unknown_to_policy(launches, policy),
    )
    return _Prepared(
        values=values, payload=payload, history=history, warnings=warnings, evidence=evidence
    )


def _read(shape: str | None, path: Path) -> Measured:
    data = _bytes(path)
    document = read_document(data, origin=str(path))
    return Measured(shape or shape_of(document.spec), document, str(path))


def _bytes(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(_READ_LIMIT + 1)
    except OSError as error:
        raise SpecError(f"cannot be read: {error.strerror}", origin=str(path)) from error
    if len(data) > _READ_LIMIT:
        raise SpecError(f"more than {_READ_LIMIT} bytes", origin=str(path))
    return data


def _launches(
    request: Request, measured: tuple[Measured, ...], policy: Policy
) -> tuple[tuple[Launch, ...], list[refusals.Refusal]]:
    """The launches with what confirms them, and what is wrong with them."""
    plain = [launch_of(one, accepted=request.accepted, xfam=request.xfam) for one in measured]
    results = [refusals.ResultFile(_bytes(path), str(path)) for path in request.results]
    required = (*policy.measurements.required_confirmations, *request.confirmations)
    confirmed, found = refusals.confirmations_of(plain, results, required)
    launches = tuple(
        msgspec.structs.replace(one, confirmations=confirmed[one.shape]) for one in plain
    )
    differs = {one.shape for one in measured if refusals.qemu_differs(one.document)}
    registers = [
        refusal
        for launch in launches
        for refusal in refusals.of_registers(launch, policy.measurements)
        # said already, and better
        if not (launch.shape in differs and refusal.text.startswith("RTMR0"))
    ]
    coverage = refusals.of_coverage(launches, request.accepted, policy.measurements)
    return launches, [*registers, *coverage, *found]


def _own(job: Job, request: Request, policy: Policy) -> ReleaseRef:
    commit = job.commit(request.commit)
    if not policy.identity.ref.startswith("refs/heads/"):
        raise SpecError(
            f"{policy.identity.ref} is no branch: sequences are counted on one",
            origin="release channel",
            hint="run the release workflow on the release branch, not on a tag",
        )
    return ReleaseRef(tag=request.tag, commit=commit, sequence=git.sequence_of(job.folder, commit))


def _digests(launches: tuple[Launch, ...]) -> tuple[str, ...]:
    """Under which a control plane asks for the launches; none for those that are refused anyway."""
    found = (one.launch_digest or one.mrtd_digest for one in launches)
    return tuple(dict.fromkeys(digest for digest in found if digest))


def _asked(values: ReferenceValues) -> tuple[str, ...]:
    return _digests(values.launches)


def _kept(job: Job, request: Request, trust: Trust, prepared: _Prepared) -> Published | None:
    """The attestation of an earlier run that says the same: published, or only written."""
    found = statement.already(prepared.history.documents, prepared.values)
    path = request.out / BUNDLE
    if found is not None or not path.is_file():
        return found
    one, _ = open_document(_bytes(path), trust, now=job.now, source=str(path))
    return one if one is not None and statement.same(one.values, prepared.values) else None


def _evidence_files(evidence: Archive | None) -> dict[str, bytes]:
    if evidence is None:
        return {}
    full = {} if evidence.full is None else {evidence.full_name: evidence.full}
    return {PUBLIC: evidence.public, **full}


def _assets(
    api: GitHubApi, request: Request, prepared: _Prepared, files: Mapping[str, bytes]
) -> list[str]:
    """Add the files to the release, if there is one; what was done."""
    release = prepared.history.release(request.tag)
    if release is None:
        return [f"no assets: there is no release {request.tag} yet; make it and run this again"]
    wanted, said = dict(files), []
    evidence = prepared.evidence
    if evidence is not None and evidence.full is not None and not api.is_private():
        # an asset of a public repository is public
        del wanted[evidence.full_name]
        said = [f"{evidence.full_name} kept back: the repository is public"]
    added = publish.upload_assets(api, release, wanted, replace=request.replace_assets)
    return [f"{len(added)} assets of {len(wanted)} (others were there)", *said]


def _unknown_to_policy(launches: tuple[Launch, ...], policy: Policy) -> tuple[str, ...]:
    """What control planes have to set besides, or they refuse this release."""
    _, relaxed = selfcheck.policy_for(policy, launches)
    return tuple(f"control planes have to set {text}" for text in relaxed)
