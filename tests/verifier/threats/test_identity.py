"""Certificates of strangers: each differs from the genuine one in what its name says."""

from __future__ import annotations

from typing import Final

import pytest
from cryptography import x509

from fixtures import reference
from mrtd.verifier.verdict import Reason, Verdict
from tests.lab.answers import ADMITTED, answer, failed
from tests.lab.identity import GITHUB, ISSUER, GitHubIdentity
from tests.lab.world import RELEASE, World, claims_of

COMMIT: Final = reference.COMMIT
PIN: Final = "b" * 40
BUILDER: Final = f"{GITHUB}/trusted-builders/attest/.github/workflows/attest.yml@{PIN}"
REUSABLE: Final = GitHubIdentity.of_run(commit=COMMIT, signer=BUILDER, signer_commit=PIN)


def about_our_commit(identity: GitHubIdentity) -> GitHubIdentity:
    """The same, of the commit that the document names, so that this is not what is wrong."""
    return identity.change(source_repository_digest=COMMIT)


def judged(identity: GitHubIdentity, policy: str = "") -> Verdict:
    world = World(policy)
    world.publish(reference.document(), identity)
    return world.verifier.verify_claims(claims_of())


STRANGERS: Final = {
    "foreign caller": (
        GitHubIdentity.foreign_caller(),
        {"build_config", "repository", "repository_id", "owner", "owner_id"},
    ),
    "pull_request_target": (GitHubIdentity.pull_request_target(), {"trigger"}),
    "workflow_dispatch": (GitHubIdentity.workflow_dispatch(), {"trigger"}),
    "resurrected": (GitHubIdentity.resurrected(), {"repository_id", "owner_id"}),
    "self-hosted": (GitHubIdentity.self_hosted(), {"runner"}),
    "private": (GitHubIdentity.private_visibility(), {"visibility"}),
    "pull request": (
        GitHubIdentity.pull_request(),
        {"signer", "build_signer", "build_config", "ref", "trigger"},
    ),
    "enterprise issuer": (GitHubIdentity.enterprise_issuer(), {"issuer"}),
    "tag": (GitHubIdentity.release_tag(), {"signer", "build_signer", "build_config", "ref"}),
    "other branch": (
        GitHubIdentity.of_run(ref="refs/heads/develop"),
        {"signer", "build_signer", "build_config", "ref"},
    ),
    "branch that begins alike": (
        GitHubIdentity.of_run(ref="refs/heads/main-2"),
        {"signer", "build_signer", "build_config", "ref"},
    ),
    "tag named like the branch": (
        GitHubIdentity.of_run(ref="refs/tags/main"),
        {"signer", "build_signer", "build_config", "ref"},
    ),
    "other workflow": (
        GitHubIdentity.of_run(workflow=".github/workflows/ci.yml"),
        {"signer", "build_signer", "build_config"},
    ),
    "reusable workflow": (GitHubIdentity.trusted_reusable(), {"signer", "build_signer"}),
    "renamed repository": (
        GitHubIdentity.of_run(repository="devopsdefender/dd2"),
        {"signer", "build_signer", "build_config", "repository"},
    ),
    "transferred repository": (
        GitHubIdentity.of_run(repository="someone/dd", owner_id="7"),
        {"signer", "build_signer", "build_config", "repository", "owner", "owner_id"},
    ),
    "other case": (
        GitHubIdentity.of_run(repository="DevOpsDefender/dd"),
        {"signer", "build_signer", "build_config", "repository", "owner"},
    ),
    "other case of the branch": (
        GitHubIdentity.of_run(ref="refs/heads/Main"),
        {"signer", "build_signer", "build_config", "ref"},
    ),
    "other server": (
        RELEASE.change(san=RELEASE.san.replace("github.com", "github.com.evil.example")),
        {"signer"},
    ),
    "SAN of ours, built by another": (
        RELEASE.change(build_signer_uri=BUILDER),
        {"build_signer"},
    ),
    "issuer only in the deprecated extension": (
        RELEASE.change(issuer_v2=f"{ISSUER}/devopsdefender"),
        {"issuer"},
    ),
    "id with a leading zero": (
        RELEASE.change(source_repository_identifier="01000001"),
        {"repository_id"},
    ),
    "id with a space": (
        RELEASE.change(source_repository_identifier="1000001 "),
        {"repository_id"},
    ),
    "ids swapped": (
        RELEASE.change(
            source_repository_identifier="2000002", source_repository_owner_identifier="1000001"
        ),
        {"repository_id", "owner_id"},
    ),
}


@pytest.mark.parametrize("name", STRANGERS)
def test_a_stranger_is_refused_and_each_wrong_clause_is_named(name: str) -> None:
    identity, clauses = STRANGERS[name]
    verdict = judged(about_our_commit(identity))
    status, reason, decisive = answer(verdict)
    assert (status, reason) == (403, Reason.IDENTITY)
    assert decisive in {f"identity.{clause}" for clause in clauses}
    assert failed(verdict) == {f"identity.{clause}" for clause in clauses}


def test_the_release_workflow_itself_is_admitted() -> None:
    assert answer(judged(RELEASE)) == ADMITTED


MISSING: Final = {
    "issuer_v2": "issuer",
    "build_signer_uri": "build_signer",
    "runner_environment": "runner",
    "source_repository_uri": "repository",
    "source_repository_ref": "ref",
    "source_repository_identifier": "repository_id",
    "source_repository_owner_uri": "owner",
    "source_repository_owner_identifier": "owner_id",
    "build_config_uri": "build_config",
    "build_trigger": "trigger",
    "source_repository_visibility": "visibility",
}


@pytest.mark.parametrize("field", MISSING)
def test_an_extension_that_is_missing_is_not_one_that_agrees(field: str) -> None:
    verdict = judged(RELEASE.change(**{field: None}))
    assert answer(verdict) == (403, Reason.IDENTITY, f"identity.{MISSING[field]}")
    assert failed(verdict) == {f"identity.{MISSING[field]}"}


def test_a_certificate_that_names_no_commit_vouches_for_none() -> None:
    verdict = judged(RELEASE.change(source_repository_digest=None))
    assert answer(verdict) == (403, Reason.STATEMENT_OF_OTHERS, "statement.commit")


def test_extensions_that_fulcio_deprecated_are_not_needed() -> None:
    old = ("trigger", "sha", "name", "repository", "ref")
    without = {f"github_workflow_{name}": None for name in old}
    assert answer(judged(RELEASE.change(issuer=None, **without))) == ADMITTED


ODD: Final = {
    "text without DER": b"1000001",
    "empty": b"",
    "tag only": b"\x0c",
    "another string type": b"\x16\x071000001",
    "a byte behind the string": b"\x0c\x071000001\0",
    "string cut off": b"\x0c\x08" + b"1000001",
    "indefinite length": b"\x0c\x801000001\0\0",
    "no UTF-8": b"\x0c\x07100000\xff",
    "sequence of the string": b"\x30\x09\x0c\x071000001",
}


@pytest.mark.parametrize("name", ODD)
def test_an_extension_that_is_no_utf8_string_is_refused(name: str) -> None:
    verdict = judged(RELEASE.change(raw=((15, ODD[name]),)))
    assert answer(verdict) == (403, Reason.BUNDLE_INVALID, "sigstore")


OTHER_NAMES: Final = {
    "e-mail": x509.RFC822Name("release@devopsdefender.com"),
    "DNS": x509.DNSName("github.com"),
    "registered id": x509.RegisteredID(x509.ObjectIdentifier("1.2.3")),
    "other name": x509.OtherName(x509.ObjectIdentifier("1.3.6.1.4.1.57264.1.7"), b"\x0c\x04main"),
}


@pytest.mark.parametrize("name", OTHER_NAMES)
def test_a_subject_that_is_no_uri_is_nobody(name: str) -> None:
    status, reason, check = answer(judged(RELEASE.change(other_san=OTHER_NAMES[name])))
    assert (status, reason, check) == (403, Reason.BUNDLE_INVALID, "sigstore")


REUSABLE_POLICY: Final = f'[identity]\nsigner_workflow = "{BUILDER}"\nsigner_digest = "{PIN}"\n'


def test_a_trusted_reusable_workflow_signs_where_the_policy_names_it() -> None:
    assert answer(judged(REUSABLE, REUSABLE_POLICY)) == ADMITTED


def test_where_a_reusable_workflow_signs_the_release_workflow_itself_does_not() -> None:
    verdict = judged(RELEASE, REUSABLE_POLICY)
    assert failed(verdict) == {
        "identity.signer", "identity.build_signer", "identity.signer_digest",
    }  # fmt: skip
    assert verdict.reason is Reason.IDENTITY


def test_a_reusable_workflow_is_held_to_its_commit() -> None:
    verdict = judged(REUSABLE.change(build_signer_digest="c" * 40), REUSABLE_POLICY)
    assert answer(verdict) == (403, Reason.IDENTITY, "identity.signer_digest")


def test_a_reusable_workflow_without_commit_is_refused_where_one_is_demanded() -> None:
    verdict = judged(REUSABLE.change(build_signer_digest=None), REUSABLE_POLICY)
    assert answer(verdict) == (403, Reason.IDENTITY, "identity.signer_digest")


def test_a_reusable_workflow_called_by_strangers_is_refused() -> None:
    stranger = GitHubIdentity.of_run(
        repository="evil/fork",
        repository_id="6660001",
        owner_id="6660002",
        commit=COMMIT,
        signer=BUILDER,
        signer_commit=PIN,
    )
    verdict = judged(stranger, REUSABLE_POLICY)
    assert verdict.reason is Reason.IDENTITY
    clauses = ("build_config", "repository", "repository_id", "owner", "owner_id")
    assert failed(verdict) == {f"identity.{clause}" for clause in clauses}


def test_a_trigger_is_accepted_only_where_the_policy_names_it() -> None:
    by_hand = about_our_commit(GitHubIdentity.workflow_dispatch())
    policy = '[identity]\ntriggers = ["push", "workflow_dispatch"]\n'
    assert answer(judged(by_hand, policy)) == ADMITTED
    assert answer(judged(RELEASE, policy)) == ADMITTED
    verdict = judged(about_our_commit(GitHubIdentity.pull_request_target()), policy)
    assert answer(verdict) == (403, Reason.IDENTITY, "identity.trigger")


def test_strangers_teach_the_verifier_nothing() -> None:
    world = World()
    made = reference.changed(reference.document(), "release.sequence", 9999)
    world.publish(made, about_our_commit(GitHubIdentity.pull_request_target()))
    world.publish(reference.document())
    assert answer(world.verifier.verify_claims(claims_of())) == ADMITTED
    assert world.verifier.ledger.highest_sequence == 412
