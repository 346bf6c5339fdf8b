"""Workload status as an operator configures it: an ``images.toml``, cosign, and a root of trust."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from mrtd.images.cosign import Cosign
from mrtd.images.registry_login import RegistryLogin
from mrtd.images.settings import read_images_file
from mrtd.verifier.bundle import LateSigstore
from mrtd.verifier.clock import Clock
from mrtd.verifier.policy import Policy
from mrtd.verifier.trust_root import TrustRoot, load_trust_root
from mrtd.workloads.signatures import SignatureChecker, read_keys
from mrtd.workloads.statuses import CHECKS, Statuses

KEYS: Final = "keys"
"""Folder of the public keys, beside ``images.toml``."""
_COSIGN_SECONDS: Final = 30.0


def configured_statuses(
    images: Path,
    *,
    policy: Policy | None = None,
    cosign: Path | None = None,
    login: Path | None = None,
    clock: Clock | None = None,
    trust_root: TrustRoot | None = None,
    checks: int = CHECKS,
) -> Statuses:
    """What works out statuses by a file.

    Args:
        images: ``images.toml``.
        policy: of the verifier: root of trust; triggers, runners and visibility of workflows.
        cosign: the program; that of the search path if None.
        login: logins of registries.
        clock: of the control plane.
        trust_root: instead of the policy's.
        checks: see `Statuses`.

    Raises:
        ImagesError: ``images.toml`` or a key cannot be used.
        MalformedLogin: the logins cannot be read.
        TrustRootError: the root of trust cannot be used.
        ToolMissing: there is no cosign.
    """
    settings = read_images_file(images)
    keys = read_keys(settings, images.parent / KEYS)
    logins = RegistryLogin() if login is None else RegistryLogin.read(login)
    # images are signed with Sigstore's public instance, also those of a private repository
    root = trust_root or load_trust_root(None if policy is None else policy.trust_root.file)
    checker = SignatureChecker(
        Cosign.find(cosign, login=logins, seconds=_COSIGN_SECONDS),
        opener=LateSigstore(root),
        keys=keys,
        like=None if policy is None else policy.identity,
        clock=clock,
    )
    return Statuses(settings, checker, clock=clock, checks=checks)
