"""The attestations of a measurement: looked up, opened, and kept for a while."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Final, Protocol

import msgspec

from mrtd.reference import (
    ReferenceValues,
    launch_digest,
    mrtd_digest,
    revocations_digest,
)
from mrtd.verifier.bundle import Opened, bundle_digest
from mrtd.verifier.cache import Bounded, Flights
from mrtd.verifier.claims import TdClaims
from mrtd.verifier.clock import Clock
from mrtd.verifier.identity import check_identity
from mrtd.verifier.judgement import Candidate
from mrtd.verifier.ledger import Ledger
from mrtd.verifier.lookup import AskGitHub, FolderLookup, Found, Lookup
from mrtd.verifier.policy import Policy
from mrtd.verifier.shared import BundleCache, SharedLists
from mrtd.verifier.sources import is_about
from mrtd.verifier.statement import read_signed
from mrtd.verifier.store import Storage
from mrtd.verifier.verdict import Check, Reason, check, not_made

_PRESENTED: Final = "presented by the agent"
_PRESENTED_LIMIT: Final = 8
_NEVER: Final = float("-inf")
"""When a list was read to its end that never was."""
_UNASKED: Final = not_made("lookup", "the policy says that GitHub is not asked")


class OpenBundle(Protocol):
    """Verifies the signature of a bundle: sigstore, or ``gh`` for GitHub's own instance."""

    def open(self, bundle: bytes, *, now: datetime) -> Opened:
        """Verify a bundle; never raises."""


class Known(msgspec.Struct, frozen=True):
    """What a subject digest had when it was looked up.

    Attributes:
        listed: candidates of GitHub's list and of the operator's folder.
        at: when that was, steady clock.
    """

    listed: tuple[Candidate, ...]
    at: float


class Pool(msgspec.Struct, frozen=True, kw_only=True):
    """All that is known about a TD's measurements.

    Attributes:
        candidates: opened bundles.
        lookup: whether the lists were read to their end.
        at: when they were, steady clock; the oldest of them.
        labels: such as ``stale``.
        retry_after: when to ask again, seconds, if they could not be read.
        lasting: whether the answer holds for others with the same measurements.
    """

    candidates: tuple[Candidate, ...]
    lookup: Check
    at: float
    labels: tuple[str, ...] = ()
    retry_after: float | None = None
    lasting: bool = True

    @property
    def dated_ahead(self) -> tuple[Check, ...]:
        """Failed checks of signatures that are of the future: nobody can forge that time, so our
        clock is behind. Such bundles have not been read: they may be revocations.
        """
        return _dated_ahead(self.candidates)


class Attestations:
    """Finds attestations. Thread-safe.

    Args:
        policy: of the verifier.
        opener: for bundles.
        ask: GitHub; None if it is never asked.
        folder: bundles of the operator's folder; None without one.
        store: for bundles across restarts; None for none.
        shared: lists that other replicas have read; None for none.
    """

    def __init__(
        self,
        policy: Policy,
        *,
        opener: OpenBundle,
        ask: AskGitHub | None,
        folder: FolderLookup | None,
        ledger: Ledger,
        store: Storage | None,
        clock: Clock,
        shared: BundleCache | None = None,
    ) -> None:
        if ask is not None and shared is not None:
            ask = SharedLists(policy, ask=ask, cache=shared, genuine=self._genuine)
        self._policy, self._opener, self._ask, self._folder = policy, opener, ask, folder
        self._ledger, self._store, self._clock = ledger, store, clock
        entries, self._hard = policy.cache.entries, policy.cache.hard_seconds
        self._attested: Bounded[str, Known] = Bounded(entries)
        self._unattested: Bounded[str, Known] = Bounded(entries)
        self._opened: Bounded[str, Candidate] = Bounded(entries)
        self._flights: Flights[str, tuple[Known | None, Lookup]] = Flights()
        self._loading = threading.Lock()
        self._unloaded = store
        self._unread: Candidate | None = None
        self._reading = threading.Lock()
        self._folder_until = float("-inf")
        self._folder_read: tuple[Lookup, tuple[tuple[Found, Candidate], ...]] = (Lookup(), ())
        self._attempts = 0
        identity = policy.identity
        self._revocations = revocations_digest(identity.repository, identity.ref)
        self.lookups = 0

    def find(self, claims: TdClaims, presented: Iterable[bytes], now: datetime) -> Pool:
        """Everything known about a TD's measurements, looked up again if that is due."""
        unread = self._load(now)
        pool = self._with_revocations(self._listed(claims, now), now)
        if unread is not None:  # it may be a revocation
            found = (*pool.candidates, unread)
            pool = msgspec.structs.replace(pool, candidates=found, lasting=False)
        given = [
            self._open(Found(bundle, _PRESENTED), now)
            for bundle in tuple(presented)[:_PRESENTED_LIMIT]
        ]
        listed = {candidate.digest for candidate in pool.candidates}
        new = tuple(c for c in given if c.digest not in listed)
        mode = self._policy.lookup.github
        if not new or mode == "required":
            return pool
        # not where a list was read in part, or the budget is spent: an agent can bring that about;
        # nor where the operator's folder cannot be read: what it has may be a revocation
        down = pool.lookup.reason is Reason.LOOKUP_UNAVAILABLE and pool.lookup.source == "GitHub"
        if (mode == "preferred" and not down) or (mode == "off" and not pool.lookup.ok):
            return pool
        label = "freshness_unchecked" if mode == "preferred" else "github_not_asked"
        return msgspec.structs.replace(
            pool,
            candidates=(*pool.candidates, *new),
            lookup=msgspec.structs.replace(pool.lookup, reason=None),
            labels=(*pool.labels, label),
            lasting=False,
        )

    @property
    def store_failures(self) -> int:
        """Bundles that could not be written to the disk, since start."""
        return 0 if self._store is None else self._store.failures

    def learn(self, bundle: bytes, now: datetime) -> Candidate:
        """Take note of a release's document, whichever VM asks next."""
        self._load(now)
        return self._open(Found(bundle, "given by the control plane"), now)

    def _listed(self, claims: TdClaims, now: datetime) -> Pool:
        """What the lists have under the launch's digest, and else under the MRTD's."""
        found: list[Candidate] = []
        labels: set[str] = set() if self._ask else {"github_not_asked"}
        at = self._clock.steady()
        for digest in self._digests(claims):
            # anybody may boot our firmware: half of the reserve is for what is attested already
            priority = 0.5 if self._ledger.knows_firmware(claims) else 0.0
            known, lookup = self._known(digest, now, priority=priority)
            if known is not None:
                found += known.listed
                at = at if known.at == _NEVER else min(at, known.at)
            if lookup.reason is not None:
                if known is None or not any(c.values for c in known.listed):
                    return Pool(
                        candidates=tuple(found),
                        lookup=_lookup_check(lookup),
                        at=at,
                        retry_after=lookup.retry_after,
                        lasting=False,
                    )
                labels.add("stale")
            if any(candidate.values for candidate in found):
                break
        return Pool(
            candidates=tuple(found),
            lookup=_lookup_check(Lookup()) if self._ask else _UNASKED,
            at=at,
            labels=tuple(sorted(labels)),
            lasting="stale" not in labels,
        )

    def _with_revocations(self, pool: Pool, now: datetime) -> Pool:
        """A pool, once it is known what the channel has revoked; in the ledger, mostly."""
        known, lookup = self._known(self._revocations, now, priority=1.0)
        if lookup.reason is not None and (known is None or known.at == _NEVER):
            return msgspec.structs.replace(
                pool,
                candidates=(*pool.candidates, *(known.listed if known else ())),
                lookup=_lookup_check(lookup, "revocations"),
                retry_after=lookup.retry_after,
                lasting=False,
            )
        # what cannot be read may revoke
        mute = tuple(c for c in (known.listed if known else ()) if c.values is None)
        stale = lookup.reason is not None
        return msgspec.structs.replace(
            pool,
            candidates=(*pool.candidates, *mute),
            at=min(pool.at, known.at) if known else pool.at,
            labels=tuple(sorted({*pool.labels, "stale"})) if stale else pool.labels,
            lasting=pool.lasting and not stale,
        )

    def _digests(self, claims: TdClaims) -> tuple[str, ...]:
        report, policy = claims.report, self._policy
        by_mrtd = mrtd_digest(report.mr_td)
        if policy.measurements.mrtd_only:
            return (by_mrtd,)
        by_launch = launch_digest(report.mr_td, report.rtmrs[1], report.rtmrs[2])
        return (by_launch, by_mrtd) if policy.lookup.by_mrtd else (by_launch,)

    def _known(self, digest: str, now: datetime, *, priority: float) -> tuple[Known | None, Lookup]:
        """What a digest has; past the soft lifetime it is looked up again, once for all who ask."""
        known = self._fresh(digest)
        if known is not None:
            return known, Lookup()
        future, mine = self._flights.join(digest)
        if mine:
            priority = 1.0 if self._attested.get(digest) is not None else priority
            self._flights.land(digest, lambda: self._refresh(digest, priority=priority, now=now))
        return future.result()

    def _fresh(self, digest: str) -> Known | None:
        time, cache = self._clock.steady(), self._policy.cache
        for entries, lifetime in (
            (self._attested, cache.soft_seconds),
            (self._unattested, cache.negative_seconds),
        ):
            known = entries.get(digest)
            if known is not None and time - known.at < lifetime:
                return known
        return None

    def _refresh(
        self, digest: str, *, priority: float, now: datetime
    ) -> tuple[Known | None, Lookup]:
        if (known := self._fresh(digest)) is not None:
            return known, Lookup()
        self.lookups += 1
        lookup = self._ask(digest, priority=priority) if self._ask else Lookup()
        listed = tuple(self._open(found, now) for found in lookup.bundles)
        folder, opened = self._read_folder(now)
        listed += tuple(made for found, made in opened if is_about(found.bundle, digest))
        failed = next((one for one in (folder, lookup) if one.reason is not None), None)
        if failed is not None:
            return self._partial(digest, listed), failed
        known = Known(listed, self._clock.steady())
        if digest == self._revocations:
            lasting = not any(candidate.unsettled for candidate in listed)
        else:
            lasting = any(made.values for made in listed) and not _dated_ahead(listed)
        if lasting:
            self._attested.put(digest, known)
        else:
            self._attested.drop(digest)
            self._unattested.put(digest, known)
        return known, lookup

    def _partial(self, digest: str, listed: tuple[Candidate, ...]) -> Known | None:
        """What is left when a list could not be read to its end.

        The older list, inside its hard lifetime; and, from now on with it, what was found and says
        nothing: it may be a revocation.
        """
        old = self._attested.get(digest)
        if old is not None and self._clock.steady() - old.at >= self._hard:
            self._attested.drop(digest)
            old = None
        mute = tuple(candidate for candidate in listed if candidate.mute)
        if old is None:
            return Known(mute, _NEVER) if mute else None
        seen = {candidate.digest for candidate in old.listed}
        new = tuple(candidate for candidate in mute if candidate.digest not in seen)
        if new:
            old = Known((*old.listed, *new), old.at)
            self._attested.put(digest, old)
        return old

    def _read_folder(self, now: datetime) -> tuple[Lookup, tuple[tuple[Found, Candidate], ...]]:
        """The operator's folder, opened: all of it teaches. It is read again now and then only."""
        if self._folder is None:
            return Lookup(), ()
        with self._reading:
            if self._clock.steady() >= self._folder_until:
                lookup = self._folder()
                opened = tuple((found, self._open(found, now)) for found in lookup.bundles)
                self._folder_read = (lookup, opened)
                again = 0 if lookup.reason is not None else self._policy.cache.negative_seconds
                self._folder_until = self._clock.steady() + again
            return self._folder_read

    def _open(self, found: Found, now: datetime) -> Candidate:
        """Open a bundle; a genuine one is opened once, and what it says is remembered."""
        candidate = self._opened_once(found, now)
        if candidate.values is not None:
            self._remember(candidate)
            if self._store is not None:
                sequence = candidate.values.release.sequence
                self._store.put(candidate.digest, sequence, found.bundle)
        return msgspec.structs.replace(candidate, source=found.source)

    def _genuine(self, found: Found) -> bool:
        now = datetime.fromtimestamp(self._clock.wall(), UTC)
        return self._open(found, now).values is not None

    def _remember(self, candidate: Candidate) -> None:
        """Keep a genuine candidate, and what it says."""
        if candidate.values is not None and self._opened.get(candidate.digest) is None:
            # in this order: who finds it opened relies on its having been learned
            self._ledger.learn(candidate.values)
            self._opened.put(candidate.digest, candidate)

    def _opened_once(self, found: Found, now: datetime) -> Candidate:
        digest = bundle_digest(found.bundle)
        return self._opened.get(digest) or self._opened_anew(found, digest, now)

    def _opened_anew(self, found: Found, digest: str, now: datetime) -> Candidate:
        checks, signed = self._opener.open(found.bundle, now=now)
        values: ReferenceValues | None = None
        if signed is not None:
            identity = check_identity(signed.signer, self._policy.identity)
            checks = (*checks, *identity)
            if all(c.ok for c in identity):
                read = read_signed(signed, self._policy.identity)
                checks, values = (*checks, *read.checks), read.values
        return Candidate(
            digest=digest, source=found.source, checks=checks, signed=signed, values=values
        )

    def _load(self, now: datetime) -> Candidate | None:
        """Bundles of earlier runs, which teach.

        What comes back is one that cannot be verified yet: the next call tries again, once for all
        who wait meanwhile.
        """
        if self._unloaded is None:
            return None
        attempts = self._attempts
        with self._loading:
            if (store := self._unloaded) is None:
                return None
            if self._attempts != attempts:
                return self._unread
            for bundle in store.load():
                candidate = self._opened_once(Found(bundle, "disk"), now)
                self._remember(candidate)
                if candidate.unsettled:
                    # only now: who came meanwhile has waited for this outcome
                    self._unread, self._attempts = candidate, self._attempts + 1
                    return candidate
            self._unloaded = None
            return None


def _dated_ahead(candidates: tuple[Candidate, ...]) -> tuple[Check, ...]:
    found = (c for candidate in candidates for c in candidate.checks)
    return tuple(c for c in found if c.name == "not_in_the_future" and not c.ok)


def _lookup_check(lookup: Lookup, name: str = "lookup") -> Check:
    return check(
        name,
        lookup.reason or Reason.LOOKUP_UNAVAILABLE,
        ok=lookup.reason is None,
        expected="read to the end",
        observed=lookup.message or "read to the end",
        source=lookup.source,
    )
