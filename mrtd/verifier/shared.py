"""GitHub's lists, read once for all replicas: an optional cache that nobody has to trust.

What is shared are bundles, which each replica verifies again; never a verdict, never "not
attested", and never the channel's revocations: whoever can write to the cache could hold those
back, so each replica reads them at GitHub. A cache that lies can hide that an attestation was
deleted there, which is why releases are withdrawn by revoking. docs/scale.md
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol

from mrtd.reference import revocations_digest
from mrtd.verifier.lookup import BUNDLE_LIMIT, AskGitHub, Found, Lookup
from mrtd.verifier.policy import Policy
from mrtd.verifier.sources import is_about

_SOURCE: Final = "shared cache"


class BundleCache(Protocol):
    """Lists of bundles that replicas share. Thread-safe, quick, and nothing of it raises."""

    def get(self, digest: str) -> tuple[bytes, ...]:
        """The bundles of a digest (64 hex digits); none if they are not known, or on failure."""

    def put(self, digest: str, bundles: tuple[bytes, ...], seconds: int) -> None:
        """Keep bundles for some seconds, if that can be done."""


class SharedLists:
    """Looks a digest up in the cache, and at GitHub where that is not good enough. Thread-safe.

    Args:
        policy: whose revocations, how long a list holds, and how long it may be.
        ask: GitHub.
        cache: of all replicas.
        genuine: whether a bundle is signed by the policy's workflow, and can be read.
    """

    def __init__(
        self,
        policy: Policy,
        *,
        ask: AskGitHub,
        cache: BundleCache,
        genuine: Callable[[Found], bool],
    ) -> None:
        self._ask, self._cache, self._genuine = ask, cache, genuine
        self._revocations = revocations_digest(policy.identity.repository, policy.identity.ref)
        self._most, self._seconds = policy.lookup.maximum_attestations, policy.cache.soft_seconds

    def __call__(self, digest: str, *, priority: float) -> Lookup:
        """As `AskGitHub`."""
        if digest == self._revocations:
            return self._ask(digest, priority=priority)
        kept = tuple(Found(bundle, _SOURCE) for bundle in self._cache.get(digest))
        if kept and self._good(kept, digest):
            return Lookup(bundles=kept)
        lookup = self._ask(digest, priority=priority)
        # one that cannot be read may be a revocation: all others are to see it at GitHub
        if lookup.reason is None and lookup.bundles and self._good(lookup.bundles, digest):
            bundles = tuple(found.bundle for found in lookup.bundles)
            self._cache.put(digest, bundles, self._seconds)
        return lookup

    def _good(self, bundles: tuple[Found, ...], digest: str) -> bool:
        """Whether every bundle is what GitHub's list of the digest has."""
        return len(bundles) <= self._most and all(
            len(found.bundle) <= BUNDLE_LIMIT
            and is_about(found.bundle, digest)
            and self._genuine(found)
            for found in bundles
        )
