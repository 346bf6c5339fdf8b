"""The life of releases: next, current, retired, revoked. Pure.

Everything that documents of the channel have said so far is one `State`; a new document carries it
on. A revocation is never dropped, whatever document it is found in.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final

import msgspec

from mrtd.reference import Launch, Lifecycle, ReferenceValues, ReleaseRef, Revocation
from release.refusals import Refusal

RETIRED_LIMIT: Final = 200
"""Retired releases that are still named; older ones are refused for their sequence alone."""


class State(msgspec.Struct, frozen=True, kw_only=True):
    """What the channel has said so far.

    Attributes:
        sequence: of the newest document; 0 before the first.
        current: releases that may run, newest first.
        next: releases that are about to.
        retired: releases that may no longer run, newest first.
        revoked: everything revoked.
        documents: all of them, newest first.
    """

    sequence: int = 0
    current: tuple[ReleaseRef, ...] = ()
    next: tuple[ReleaseRef, ...] = ()
    retired: tuple[ReleaseRef, ...] = ()
    revoked: tuple[Revocation, ...] = ()
    documents: tuple[ReferenceValues, ...] = ()


def ref_of(values: ReferenceValues) -> ReleaseRef:
    """The release that a document is about."""
    own = values.release
    return ReleaseRef(tag=own.tag, commit=own.commit, sequence=own.sequence)


def state_of(documents: Iterable[ReferenceValues]) -> State:
    """What documents of one channel say together.

    Of several of the newest sequence the strictest counts, as for a verifier; a document without
    launches only revokes, and its release is none.
    """
    ordered = sorted(documents, key=lambda one: one.release.sequence, reverse=True)
    if not ordered:
        return State()
    newest = ordered[0].release.sequence
    latest = [one for one in ordered if one.release.sequence == newest]
    own = [ref_of(one) for one in latest if one.launches]
    listed = _everywhere([one.lifecycle.current for one in latest])
    current = _newest_first((*own, *listed))
    coming = _everywhere([one.lifecycle.next for one in latest])
    retired = _newest_first(ref for one in latest for ref in one.lifecycle.retired)
    revoked: dict[tuple[str, str], Revocation] = {}
    for one in sorted(ordered, key=lambda one: one.release.sequence):
        for row in one.lifecycle.revoked:
            revoked.setdefault((row.kind, row.value), row)
    rows = tuple(revoked.values())
    return State(
        sequence=newest,
        current=tuple(ref for ref in current if ref not in retired and not _names(rows, ref)),
        next=tuple(ref for ref in coming if not _names(rows, ref)),
        retired=retired,
        revoked=rows,
        documents=tuple(ordered),
    )


def continued(
    state: State,
    own: ReleaseRef,
    *,
    releases: bool,
    keep: int = 1,
    coming: Iterable[ReleaseRef] = (),
    revoke: Iterable[Revocation] = (),
) -> Lifecycle:
    """The life cycle in the next document of a channel.

    Args:
        state: so far.
        own: the document's own release.
        releases: whether it is one; a document that only revokes leaves the others as they are.
        keep: how many of the releases before it stay current.
        coming: releases that are about to become current.
        revoke: what is revoked now.
    """
    known = {(row.kind, row.value) for row in state.revoked}
    new = {(row.kind, row.value): row for row in revoke if (row.kind, row.value) not in known}
    revoked = (*state.revoked, *new.values())
    others = [ref for ref in state.current if not _same(ref, own)]
    kept = others[: keep if releases else len(others)]
    current = tuple(ref for ref in kept if not _names(revoked, ref))
    announced = [r for r in (*state.next, *coming) if not _same(r, own) and not _names(revoked, r)]
    upcoming = tuple(r for r in dict.fromkeys(announced) if not any(_same(r, c) for c in current))
    placed = (own, *current, *upcoming)
    gone = (*(ref for ref in others if ref not in current), *state.retired)
    retired = [ref for ref in _newest_first(gone) if not any(_same(ref, one) for one in placed)]
    return Lifecycle(
        current=current, next=upcoming, retired=tuple(retired[:RETIRED_LIMIT]), revoked=revoked
    )


def of_lifecycle(
    state: State, own: ReleaseRef, launches: Iterable[Launch], cycle: Lifecycle
) -> Iterator[Refusal]:
    """Why a release cannot follow what the channel has said."""
    if own.sequence < state.sequence:
        yield Refusal(
            "sequence_behind",
            own.tag,
            f"its sequence is {own.sequence}, and the channel is at {state.sequence}: verifiers "
            "would refuse it as rolled back",
            "release from the tip of the release branch",
        )
    for values in state.documents:
        other = ref_of(values)
        if values.launches and _same(other, own) and other != own:
            yield Refusal(
                "release_exists",
                own.tag,
                f"release {other.tag} ({other.commit[:12]}, sequence {other.sequence}) has its "
                "tag, commit or sequence",
                "a release has a commit and a tag of its own",
            )
    for row in cycle.revoked:
        for what in _vouched(row, own, launches):
            yield Refusal(
                "revoked",
                own.tag,
                f"{what} is revoked: {row.reason} ({row.kind} {row.value[:16]})",
                "what is revoked stays so: release something else",
            )


def revocations(
    values: Iterable[tuple[str, str]], *, reason: str, sequence: int
) -> tuple[Revocation, ...]:
    """Rows for kinds and values, each once."""
    rows: list[Any] = list(dict.fromkeys(values))
    return tuple(
        Revocation(kind=kind, value=value, reason=reason, sequence=sequence) for kind, value in rows
    )


def _vouched(row: Revocation, own: ReleaseRef, launches: Iterable[Launch]) -> Iterator[str]:
    if _names((row,), own):
        yield "this release"
    for launch in launches:
        mrtd = launch.registers.value("mrtd")
        if row.kind == "mrtd" and mrtd is not None and row.value == str(mrtd):
            yield f"the firmware (MRTD) of {launch.shape}"
        if row.kind == "launch" and row.value == launch.launch_digest:
            yield f"launch {launch.shape}"


def _same(one: ReleaseRef, other: ReleaseRef) -> bool:
    """Whether both cannot stand in one document: a release has one place."""
    return one.sequence == other.sequence or one.tag == other.tag or one.commit == other.commit


def _names(revoked: Iterable[Revocation], ref: ReleaseRef) -> bool:
    keys = {("tag", ref.tag), ("commit", ref.commit)}
    return any((row.kind, row.value) in keys for row in revoked)


def _newest_first(refs: Iterable[ReleaseRef]) -> tuple[ReleaseRef, ...]:
    return tuple(sorted(dict.fromkeys(refs), key=lambda ref: ref.sequence, reverse=True))


def _everywhere(lists: list[tuple[ReleaseRef, ...]]) -> tuple[ReleaseRef, ...]:
    return tuple(ref for ref in lists[0] if all(ref in one for one in lists[1:]))
