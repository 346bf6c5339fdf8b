"""What earlier runs knew: the bundles on disk, verified again."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from mrtd.reference import subjects
from mrtd.verifier.judgement import Candidate
from mrtd.verifier.lookup import Found
from mrtd.verifier.store import Storage


class Recalled(NamedTuple):
    """Bundles of earlier runs.

    Attributes:
        candidates: the genuine ones: what they say holds, listed or not.
        lists: by subject digest those that a lookup listed lately, and its age in seconds.
        unread: one that cannot be verified yet; then there is more to recall.
    """

    candidates: tuple[Candidate, ...]
    lists: dict[str, tuple[tuple[Candidate, ...], float]]
    unread: Candidate | None


def recall(
    store: Storage,
    open_bundle: Callable[[Found], Candidate],
    *,
    wall: float,
    lifetime: float,
    revocations: str,
) -> Recalled:
    """Open every bundle of a store.

    Args:
        store: it.
        open_bundle: verifies one.
        wall: the time, Unix.
        lifetime: seconds for which a list may still admit somebody.
        revocations: digest of the channel's revocations, of whose list it is known when it was read
            although nothing may be on it.
    """
    candidates: list[Candidate] = []
    listed: dict[str, list[Candidate]] = {}
    ages: dict[str, float] = {}
    for stored in store.load():
        candidate = open_bundle(Found(stored.bundle, "disk"))
        if unsettled(candidate):
            return Recalled(tuple(candidates), {}, candidate)
        if candidate.values is None:
            continue
        candidates.append(candidate)
        age = wall - stored.listed_at
        # a file from the future: the clock was set back, so its age is not known
        if 0 <= age < lifetime:
            for subject in subjects(candidate.values):
                key = subject.digest["sha256"]
                listed.setdefault(key, []).append(candidate)
                ages[key] = max(ages.get(key, 0.0), age)
    lists = {key: (tuple(found), ages[key]) for key, found in listed.items()}
    revoking = tuple(listed.get(revocations, ()))
    lists.pop(revocations, None)
    read_at = store.revocations_read_at()
    if read_at is not None and 0 <= wall - read_at < lifetime:
        lists[revocations] = (revoking, wall - read_at)
    return Recalled(tuple(candidates), lists, None)


def unsettled(candidate: Candidate) -> bool:
    """Whether it cannot be verified yet: a tool has no answer, or our clock is behind."""
    return any(
        (made.reason is not None and made.reason.could_not_check)
        or (made.name == "not_in_the_future" and not made.ok)
        for made in candidate.checks
    )
