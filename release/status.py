"""``status``: what a channel has attested, by which run, and what of it may run."""

from __future__ import annotations

from pathlib import Path

import msgspec

from mrtd.reference import Revocation
from mrtd.verifier.identity import SAN
from release.channel import Anew, Channel, Published
from release.instance import load_instance
from release.job import Job, Trust
from release.lifecycle import State, ref_of


class StatusRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be shown; see ``python -m release status --help``."""

    repository: str | None = None
    policy: Path | None = None
    trust_config: Path | None = None
    previous: Path | Anew | None = None


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """A document.

    Attributes:
        tag, commit, sequence: of its release.
        state: ``current``, ``next``, ``retired``, ``revoked``, ``old`` (newer ones do not name it)
            or ``revocation`` (a document that only revokes).
        shapes: its launches.
        signed_at: when, RFC 3339.
        signer: who.
        run: URL of the run.
        listed: whether GitHub's attestation store has it.
        source: where it was found.
    """

    tag: str
    commit: str
    sequence: int
    state: str
    shapes: tuple[str, ...]
    signed_at: str
    signer: str
    run: str
    listed: bool
    source: str


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """What there is.

    Attributes:
        repository, channel: of which.
        rows: documents, newest first; announced releases without one at the front.
        revoked: everything revoked.
        problems: what is not genuine.
    """

    repository: str
    channel: str
    rows: tuple[Row, ...]
    revoked: tuple[Revocation, ...]
    problems: tuple[str, ...]


def status(job: Job, request: StatusRequest) -> Status:
    """Look. Raises as `release.channel.Channel.history`."""
    policy = job.policy(request.policy, request.repository)
    trust = Trust.of(policy, load_instance(request.trust_config).root)
    channel = Channel(trust, job.api(policy.identity.repository), job.lookup(policy), now=job.now)
    job.progress("asking GitHub")
    history = channel.history(previous=request.previous)
    state = history.state
    documents = sorted(
        history.documents,
        key=lambda one: (one.values.release.sequence, one.signed.signed_at),
        reverse=True,
    )
    return Status(
        repository=policy.identity.repository,
        channel=policy.identity.ref,
        rows=(*_announced(state), *(_row(one, state) for one in documents)),
        revoked=state.revoked,
        problems=history.problems,
    )


def _announced(state: State) -> tuple[Row, ...]:
    """Releases that are named next, of which there is no document yet."""
    known = {ref_of(values) for values in state.documents}
    return tuple(
        Row(
            tag=ref.tag,
            commit=ref.commit,
            sequence=ref.sequence,
            state="next",
            shapes=(),
            signed_at="",
            signer="",
            run="",
            listed=False,
            source="named by the newest document",
        )
        for ref in state.next
        if ref not in known
    )


def _row(one: Published, state: State) -> Row:
    release, signed = one.values.release, one.signed
    return Row(
        tag=release.tag,
        commit=release.commit,
        sequence=release.sequence,
        state=state_name(one, state),
        shapes=tuple(launch.shape for launch in one.values.launches),
        signed_at=signed.signed_at.strftime("%Y-%m-%dT%H:%M:%SZ"),
        signer=signed.signer[SAN],
        run=signed.signer["runInvocationURI"],
        listed=one.stored,
        source=one.source,
    )


def state_name(one: Published, state: State) -> str:
    """The place of a document's release; revoked as soon as one of its launches is."""
    if not one.values.launches:
        return "revocation"
    ref, rows = ref_of(one.values), {(row.kind, row.value) for row in state.revoked}
    keys: set[tuple[str, str | None]] = {("tag", ref.tag), ("commit", ref.commit)}
    for launch in one.values.launches:
        keys |= {("mrtd", str(launch.registers.value("mrtd"))), ("launch", launch.launch_digest)}
    if keys & rows:
        return "revoked"
    for name, refs in (
        ("current", state.current),
        ("next", state.next),
        ("retired", state.retired),
    ):
        if ref in refs:
            return name
    return "old"
