"""What a policy makes a verifier consist of."""

from __future__ import annotations

from functools import partial

from mrtd.verifier.attestations import OpenBundle
from mrtd.verifier.bundle import LateSigstore
from mrtd.verifier.clock import Clock
from mrtd.verifier.fetch import Fetch
from mrtd.verifier.github import GitHubLookup
from mrtd.verifier.lookup import FolderLookup
from mrtd.verifier.policy import Policy
from mrtd.verifier.sources import directory_bundles
from mrtd.verifier.store import BundleStore
from mrtd.verifier.trust_root import TrustRoot, load_trust_root


def root_of(policy: Policy) -> TrustRoot | None:
    """The root of trust; None for a private repository, whose instance only gh knows.

    Raises:
        TrustRootError: it cannot be used.
    """
    if policy.identity.visibility == "private":
        return None
    return load_trust_root(policy.trust_root.file)


def opener_of(policy: Policy, root: TrustRoot | None) -> OpenBundle:
    """What verifies bundles: sigstore with a root, else gh. Raises `PolicyError`."""
    if root is not None:
        return LateSigstore(root)
    from mrtd.verifier.private_instance import GhVerifier  # noqa: PLC0415 - rare

    return GhVerifier(policy)


def lookup_of(policy: Policy, fetch: Fetch, clock: Clock, token: str | None) -> GitHubLookup | None:
    """What asks GitHub; None if it is never asked."""
    if policy.lookup.github == "off":
        return None
    return GitHubLookup(
        policy.lookup,
        repository=policy.identity.repository,
        repository_id=policy.identity.repository_id,
        fetch=fetch,
        clock=clock,
        token=token,
    )


def folder_of(policy: Policy) -> FolderLookup | None:
    """What reads the operator's folder; None without one."""
    folder = policy.lookup.directory
    return None if folder is None else partial(directory_bundles, folder)


def store_of(policy: Policy) -> BundleStore | None:
    """What keeps bundles across restarts; None without a folder. Raises `PolicyError`."""
    folder = policy.cache.directory
    return None if folder is None else BundleStore(folder, policy.cache.entries)
