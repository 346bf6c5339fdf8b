"""Published bundles of other projects, judged with the production root of trust."""

from __future__ import annotations

from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest

from mrtd.verifier.bundle import Opened, SigstoreVerifier
from mrtd.verifier.identity import check_identity
from mrtd.verifier.policy import IdentityPolicy, Policy
from mrtd.verifier.statement import read_signed
from mrtd.verifier.trust_root import TrustRoot, load_trust_root
from mrtd.verifier.verdict import Reason
from mrtd.verifier.verifier import Verifier
from tests.lab.answers import answer
from tests.lab.world import NOW, Times, claims_of, policy_of

GITHUB: Final = "https://github.com"
TAG: Final = "github-slsa-tag"
REUSABLE: Final = "github-reusable-workflow"
PRIVATE: Final = "github-private-instance"
HAPPY: Final = "conformance/happy-path-intoto-in-dsse-v3"
HAPPY_V2: Final = "conformance/rekor2-dsse-happy-path"
BEACON: Final = "sigstore-conformance/extremely-dangerous-public-oidc-beacon"
# What each certificate says, as read with other tools (facts, section 2)
POLICIES: Final = {
    TAG: IdentityPolicy(
        repository="trailofbits/pypi-attestations",
        repository_id="772247423",
        owner_id="2314423",
        ref="refs/tags/v0.0.19",
        triggers=("release",),
    ),
    REUSABLE: IdentityPolicy(
        repository="malancas/attest-demo",
        repository_id="804070735",
        owner_id="16248153",
        workflow=".github/workflows/shared.yml",
        triggers=("workflow_dispatch",),
        signer_workflow=f"{GITHUB}/github/artifact-attestations-workflows/.github/workflows/"
        "attest.yml@09b495c3f12c7881b3cc17209a327792065c1a1d",
        signer_digest="09b495c3f12c7881b3cc17209a327792065c1a1d",
    ),
    HAPPY: IdentityPolicy(
        repository=BEACON,
        repository_id="632596897",
        owner_id="131804563",
        workflow=".github/workflows/extremely-dangerous-oidc-beacon.yml",
        triggers=("workflow_dispatch",),
    ),
}
OTHERS: Final[dict[str, dict[str, Any]]] = {
    TAG: {"ref": "refs/tags/v0.0.20"},
    REUSABLE: {"signer_workflow": None, "signer_digest": None},
    HAPPY: {"repository_id": "632596898"},
}


@cache
def production() -> SigstoreVerifier:
    return SigstoreVerifier(load_trust_root())


def bundle_of(corpus: Path, name: str) -> bytes:
    path = corpus / "bundles" / name
    file = path / "bundle.sigstore.json" if path.is_dir() else Path(f"{path}.sigstore.json")
    return file.read_bytes()


def opened(corpus: Path, name: str, root: TrustRoot | None = None) -> Opened:
    verifier = production() if root is None else SigstoreVerifier(root)
    return verifier.open(bundle_of(corpus, name), now=NOW)


@pytest.mark.parametrize("name", POLICIES)
def test_a_published_bundle_is_genuine(name: str, corpus: Path) -> None:
    checks, signed = opened(corpus, name)
    assert [c.name for c in checks if not c.ok] == []
    assert signed is not None
    assert {"log_key_period", "ca_period", "ct_log_key_period", "sct_time"} <= {
        c.name for c in checks
    }


@pytest.mark.parametrize("name", POLICIES)
def test_its_signer_is_whom_the_certificate_names_and_nobody_else(name: str, corpus: Path) -> None:
    _, signed = opened(corpus, name)
    assert signed is not None
    its = POLICIES[name]
    assert [c.name for c in check_identity(signed.signer, its) if not c.ok] == []
    other = msgspec.structs.replace(its, **OTHERS[name])
    assert [c.name for c in check_identity(signed.signer, other) if not c.ok]


@pytest.mark.parametrize("name", POLICIES)
def test_provenance_is_no_approval_of_measurements(name: str, corpus: Path) -> None:
    _, signed = opened(corpus, name)
    assert signed is not None
    read = read_signed(signed, POLICIES[name])
    assert read.values is None
    assert [c.reason for c in read.checks] == [Reason.STATEMENT_MALFORMED]


@pytest.mark.parametrize("name", POLICIES)
def test_our_policy_admits_nobody_by_it(name: str, corpus: Path) -> None:
    policy: Policy = policy_of('[lookup]\ngithub = "off"\n')
    verifier = Verifier(policy, clock=Times().clock)
    verdict = verifier.verify_claims(claims_of(), bundles=[bundle_of(corpus, name)])
    status, reason, check = answer(verdict)
    assert (status, reason) == (403, Reason.IDENTITY)
    assert check.startswith("identity.")


def test_a_reusable_workflow_is_not_the_caller(corpus: Path) -> None:
    _, signed = opened(corpus, REUSABLE)
    assert signed is not None
    clauses = {c.name for c in check_identity(signed.signer, POLICIES[TAG]) if not c.ok}
    assert {"identity.signer", "identity.build_signer", "identity.repository_id"} <= clauses


@pytest.mark.parametrize(
    "name",
    [
        "conformance/dsse-invalid-sig_fail",
        "conformance/dsse-mismatch-envelope_fail",
        "conformance/inclusion-proof-corrupted-hash_fail",
        "conformance/intoto-expired-certificate_fail",
        "conformance/rekor2-no-timestamp_fail",
        "conformance/set-invalid-signature_fail",
        PRIVATE,
    ],
)
def test_what_is_named_a_failure_fails(name: str, corpus: Path) -> None:
    checks, signed = opened(corpus, name)
    assert signed is None
    assert [(c.name, c.reason) for c in checks if not c.ok] == [("sigstore", Reason.BUNDLE_INVALID)]


def test_every_published_bundle_is_judged_here(corpus: Path) -> None:
    found = {
        str(path.relative_to(corpus / "bundles"))
        .removesuffix("/bundle.sigstore.json")
        .removesuffix(".sigstore.json")
        for path in (corpus / "bundles").rglob("*.sigstore.json")
    }
    failures = {name for name in found if name.endswith("_fail")}
    assert found - failures == {*POLICIES, PRIVATE, HAPPY_V2}
    assert len(failures) == 6


@pytest.mark.parametrize(
    "name",
    ["conformance/intoto-expired-certificate_fail", "conformance/rekor2-no-timestamp_fail"],
)
def test_a_failure_fails_with_its_own_root_too(name: str, corpus: Path) -> None:
    root = load_trust_root(corpus / "bundles" / name / "trusted_root.json")
    assert opened(corpus, name, root).signed is None


def test_a_bundle_of_the_staging_instance_needs_its_root(corpus: Path) -> None:
    """Rekor v2: genuine under the root beside it, and nothing under that of production."""
    assert opened(corpus, HAPPY_V2).signed is None
    root = load_trust_root(corpus / "bundles" / HAPPY_V2 / "trusted_root.json")
    checks, signed = opened(corpus, HAPPY_V2, root)
    assert [(c.name, c.observed, c.expected) for c in checks if not c.ok] == []
    assert signed is not None
    assert [c.name for c in check_identity(signed.signer, POLICIES[HAPPY]) if not c.ok] == []


@pytest.mark.parametrize("name", POLICIES)
def test_a_clock_that_is_behind_makes_them_bundles_of_the_future(name: str, corpus: Path) -> None:
    _, signed = opened(corpus, name)
    assert signed is not None
    early = signed.signed_at - timedelta(minutes=6)
    checks, refused = production().open(bundle_of(corpus, name), now=early)
    assert refused is None
    assert [c.name for c in checks if not c.ok] == ["not_in_the_future"]
