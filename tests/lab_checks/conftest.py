from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, TypeAlias

import pytest
from sigstore.models import Bundle, TrustedRoot
from sigstore.verify import Verifier, policy
from sigstore.verify.policy import VerificationPolicy

from tests.lab.identity import GitHubIdentity
from tests.lab.instance import Instance, default_instance
from tests.lab.trusted_root import Windows

AT: Final = datetime(2026, 6, 1, 12, tzinfo=UTC)
STATEMENT: Final = b'{"_type":"https://in-toto.io/Statement/v1"}'
VerifierOf: TypeAlias = Callable[[Instance, Windows | None], Verifier]


def naive(identity: GitHubIdentity) -> VerificationPolicy:
    return policy.Identity(identity=identity.san, issuer=identity.issuer)


def strong(identity: GitHubIdentity) -> VerificationPolicy:
    """Every value that a certificate of this identity has."""
    kinds = {
        1: policy.OIDCIssuer,
        2: policy.GitHubWorkflowTrigger,
        3: policy.GitHubWorkflowSHA,
        4: policy.GitHubWorkflowName,
        5: policy.GitHubWorkflowRepository,
        6: policy.GitHubWorkflowRef,
        8: policy.OIDCIssuerV2,
        9: policy.OIDCBuildSignerURI,
        10: policy.OIDCBuildSignerDigest,
        11: policy.OIDCRunnerEnvironment,
        12: policy.OIDCSourceRepositoryURI,
        13: policy.OIDCSourceRepositoryDigest,
        14: policy.OIDCSourceRepositoryRef,
        15: policy.OIDCSourceRepositoryIdentifier,
        16: policy.OIDCSourceRepositoryOwnerURI,
        17: policy.OIDCSourceRepositoryOwnerIdentifier,
        18: policy.OIDCBuildConfigURI,
        19: policy.OIDCBuildConfigDigest,
        20: policy.OIDCBuildTrigger,
        21: policy.OIDCRunInvocationURI,
        22: policy.OIDCSourceRepositoryVisibility,
    }
    values = identity.values()
    assert values.keys() <= kinds.keys()
    return policy.AllOf(
        [policy.Identity(identity=identity.san), *(kinds[n](values[n]) for n in values)]
    )


def verify(verifier: Verifier, bundle: bytes, wanted: VerificationPolicy) -> bytes:
    """The payload; the type is in-toto's."""
    payload_type, payload = verifier.verify_dsse(Bundle.from_json(bundle), wanted)
    assert payload_type == "application/vnd.in-toto+json"
    return payload


@pytest.fixture(scope="session")
def lab() -> Instance:
    return default_instance()


@pytest.fixture
def verifier_of(tmp_path: Path) -> VerifierOf:
    """The real verifier, with the trusted root of an instance."""

    def make(instance: Instance, windows: Windows | None = None) -> Verifier:
        path = tmp_path / "trusted_root.json"
        path.write_bytes(instance.trusted_root_json(windows))
        return Verifier(trusted_root=TrustedRoot.from_file(str(path)))

    return make


@pytest.fixture
def verifier(verifier_of: VerifierOf, lab: Instance) -> Verifier:
    return verifier_of(lab, None)
