"""Signed by the trusted workflow, and still no approval of these measurements."""

from __future__ import annotations

import json
from typing import Any, Final

import pytest

from fixtures import reference
from mrtd.verifier.verdict import Reason, Verdict
from tests.lab.answers import ADMITTED, Answer, answer, failed, observed
from tests.lab.world import RELEASE, World, claims_of

Json = dict[str, Any]

MALFORMED: Final[Answer] = (403, Reason.STATEMENT_MALFORMED, "statement")
ABSENT: Final[Answer] = (403, Reason.NOT_ATTESTED, "attested")
DOCUMENT: Final = reference.document()
STATEMENT: Final = reference.statement(DOCUMENT)
LAUNCH: Final = DOCUMENT["launches"][0]
PROVENANCE: Final = "https://slsa.dev/provenance/v1"


def listed(payload: bytes, **options: Any) -> Verdict:
    """GitHub lists a bundle over a payload under the digests of the genuine document."""
    world = World()
    digests = [subject["digest"]["sha256"] for subject in reference.subjects(DOCUMENT)]
    world.github.add(world.mint(payload, **options), *digests)
    return world.verifier.verify_claims(claims_of())


def changed(path: str, new: object) -> bytes:
    return reference.encoded(reference.changed(STATEMENT, path, new))


def test_the_statement_itself_is_accepted() -> None:
    assert answer(listed(reference.encoded(STATEMENT))) == ADMITTED


def provenance() -> bytes:
    """SLSA provenance by the same workflow over a file whose digest is the launch's."""
    predicate = {"buildDefinition": {"buildType": "x"}, "runDetails": {"builder": {"id": "x"}}}
    made = {"predicateType": PROVENANCE, "predicate": predicate}
    return reference.encoded(STATEMENT | made)


def test_provenance_of_the_same_digest_is_no_approval() -> None:
    """Any job of the release workflow can attest a file of 48 bytes."""
    assert answer(listed(provenance())) == ABSENT


def test_provenance_that_an_agent_presents_is_no_approval() -> None:
    world = World('[lookup]\ngithub = "off"\n')
    verdict = world.verifier.verify_claims(claims_of(), bundles=[world.mint(provenance())])
    assert answer(verdict) == MALFORMED


OTHER_TYPES: Final = ["text/plain", "application/json", "application/vnd.in-toto+json ", ""]


@pytest.mark.parametrize("kind", OTHER_TYPES)
def test_another_payload_type_is_refused_whatever_the_payload(kind: str) -> None:
    status, reason, check = answer(listed(reference.encoded(STATEMENT), payload_type=kind))
    assert (status, check) in {(403, "payload_type"), (403, "sigstore")}
    assert reason in {Reason.PAYLOAD_TYPE, Reason.BUNDLE_INVALID}
    assert kind == "" or reason is Reason.PAYLOAD_TYPE


DUPLICATES: Final = {
    "predicate type, the other first": (b'{"_type"', b'{"predicateType":"x","_type"'),
    "sequence": (b'"sequence":412', b'"sequence":999,"sequence":412'),
    "revoked": (b'"revoked":[]', b'"revoked":[1],"revoked":[]'),
    "the same value twice": (b'"sequence":412', b'"sequence":412,"sequence":412'),
}


@pytest.mark.parametrize("name", DUPLICATES)
def test_a_key_that_comes_twice_can_be_read_in_two_ways(name: str) -> None:
    old, new = DUPLICATES[name]
    text = reference.encoded(STATEMENT)
    assert old in text
    assert answer(listed(text.replace(old, new, 1))) == MALFORMED


def extra(path: str) -> bytes:
    return changed(path, "x")


def with_subjects(subjects: list[Json]) -> bytes:
    return reference.encoded(STATEMENT | {"subject": subjects})


def with_launch(path: str, new: object) -> bytes:
    """The statement of a document with a change in its launch, subjects as before."""
    return changed(f"predicate.launches.0.{path}", new)


def many_subjects() -> bytes:
    files = [
        {"name": f"file-{number}", "sha256": f"{number:064x}", "size": 1} for number in range(1030)
    ]
    made = reference.document(artifacts=files)
    return reference.encoded(reference.statement(made))


UNREADABLE: Final = {
    "statement version 0.1": changed("_type", "https://in-toto.io/Statement/v0.1"),
    "no type": changed("_type", ...),
    "unknown field of the statement": extra("comment"),
    "unknown field of the document": extra("predicate.comment"),
    "unknown field of a launch": extra("predicate.launches.0.comment"),
    "unknown field of a register": extra("predicate.launches.0.registers.rtmr1.comment"),
    "unknown field of the life cycle": extra("predicate.lifecycle.comment"),
    "no life cycle": changed("predicate.lifecycle", ...),
    "no revocations": changed("predicate.lifecycle.revoked", ...),
    "no sequence": changed("predicate.release.sequence", ...),
    "sequence as text": changed("predicate.release.sequence", "412"),
    "sequence zero": changed("predicate.release.sequence", 0),
    "sequence beyond integers": changed("predicate.release.sequence", 2**63),
    "document of version 2": changed("predicate.schema", "mrtd.reference/2"),
    "a subject more": with_subjects(
        [*STATEMENT["subject"], {"name": "tdx-launch", "digest": {"sha256": "ab" * 32}}]
    ),
    "a subject twice": with_subjects([*STATEMENT["subject"], STATEMENT["subject"][0]]),
    "a subject of another name": with_subjects(
        [
            STATEMENT["subject"][0],
            STATEMENT["subject"][1] | {"name": "x"},
            *STATEMENT["subject"][2:],
        ]
    ),
    "MRTD over hex text": changed(
        "subject.0.digest.sha256",
        reference.sha256(LAUNCH["registers"]["mrtd"]["value"].encode()),
    ),
    "sha384 of another MRTD": changed("subject.0.digest.sha384", "ab" * 48),
    "a digest more": changed("subject.0.digest.sha512", "ab" * 64),
    "more than 1024 subjects": many_subjects(),
    "zero RTMR1": with_launch("registers.rtmr1", reference.exact(reference.ZERO)),
    "zero MRTD": with_launch("registers.mrtd", reference.exact(reference.ZERO)),
    "zero RTMR0": with_launch("registers.rtmr0", reference.exact(reference.ZERO)),
    "exact without value": with_launch("registers.rtmr2.value", None),
    "unpinned with value": with_launch("registers.rtmr0.rule", "unpinned"),
    "another rule": with_launch("registers.rtmr0.rule", "any"),
    "register of 47 bytes": with_launch("registers.rtmr1.value", "ab" * 47),
    "register in upper case": with_launch("registers.rtmr1.value", "AB" * 48),
    "demands the debug bit": with_launch(
        "expectations.td_attributes", {"value": "0000000000000001", "mask": "0000000000000001"}
    ),
    "measured by an unpinned register": with_launch("registers.rtmr0", reference.unpinned()),
    "coverage twice": with_launch("coverage", [*LAUNCH["coverage"], LAUNCH["coverage"][0]]),
    "repository with a newline": changed("predicate.release.repository", "devopsdefender/dd\n"),
    "no JSON": b"hello",
    "a list": b"[]",
    "empty": b"",
    "two documents": reference.encoded(STATEMENT) * 2,
    "byte order mark": b"\xef\xbb\xbf" + reference.encoded(STATEMENT),
    "NaN": reference.encoded(STATEMENT).replace(b":412", b":NaN", 1),
    "fraction": reference.encoded(STATEMENT).replace(b":412", b":412.0", 1),
    "lone surrogate": reference.encoded(STATEMENT).replace(b'"v1.4.0"', b'"\\ud800"', 1),
    "nested deeply": reference.encoded(STATEMENT).replace(
        b'"spec":{', b'"spec":{"x":' + b"[" * 100 + b"]" * 100 + b",", 1
    ),
}


@pytest.mark.parametrize("name", UNREADABLE)
def test_what_the_trusted_workflow_signed_and_cannot_be_read_is_refused(name: str) -> None:
    assert answer(listed(UNREADABLE[name])) == MALFORMED


def test_a_missing_subject_is_refused() -> None:
    rest = [s for s in STATEMENT["subject"] if s["name"] != "dd-image.qcow2"]
    assert answer(listed(with_subjects(rest))) == MALFORMED


def test_a_statement_that_does_not_name_the_launch_is_not_of_the_list() -> None:
    """The bundle names who it is about; whoever lists it under other digests changes nothing."""
    rest = [s for s in STATEMENT["subject"] if s["name"] != "tdx-launch"]
    assert answer(listed(with_subjects(rest))) == MALFORMED


def test_subjects_of_another_launch_are_refused() -> None:
    """The subjects of the TD's launch around a document of another one, and the reverse."""
    other = reference.document(reference.launch(image="evil"))
    ours_outside = reference.encoded(
        reference.statement(other) | {"subject": reference.subjects(DOCUMENT)}
    )
    ours_inside = reference.encoded(STATEMENT | {"subject": reference.subjects(other)})
    for payload in (ours_outside, ours_inside):
        assert answer(listed(payload)) == MALFORMED


def test_a_document_of_another_launch_listed_here_is_of_no_use() -> None:
    other = reference.document(reference.launch(image="evil"))
    verdict = listed(reference.encoded(reference.statement(other)))
    assert answer(verdict) == (403, Reason.REGISTERS_DIFFER, "attested.rtmr1")


ABOUT_OTHERS: Final = {
    "repository": "evil/fork",
    "channel": "refs/heads/develop",
    "commit": "ab" * 20,
}


@pytest.mark.parametrize("field", ABOUT_OTHERS)
def test_a_document_is_about_repository_branch_and_commit_of_its_signer(field: str) -> None:
    made = reference.changed(DOCUMENT, f"release.{field}", ABOUT_OTHERS[field])
    verdict = listed(reference.encoded(reference.statement(made)))
    assert answer(verdict) == (403, Reason.STATEMENT_OF_OTHERS, f"statement.{field}")
    assert failed(verdict, "statement") == {f"statement.{field}"}
    assert observed(verdict, f"statement.{field}") == ABOUT_OTHERS[field]


def test_a_signer_of_another_commit_does_not_vouch() -> None:
    world = World()
    world.publish(DOCUMENT, RELEASE.change(source_repository_digest="ab" * 20))
    verdict = world.verifier.verify_claims(claims_of())
    assert answer(verdict) == (403, Reason.STATEMENT_OF_OTHERS, "statement.commit")


def test_what_cannot_be_read_may_be_a_revocation_and_blocks_what_passes() -> None:
    """An authentic document of a later version of the format, say."""
    world = World()
    world.publish(DOCUMENT)
    assert answer(world.verifier.verify_claims(claims_of())) == ADMITTED
    digest = reference.subjects(DOCUMENT)[1]["digest"]["sha256"]
    world.github.add(world.mint(extra("predicate.comment")), digest)
    world.times.pass_by(world.policy.cache.soft_seconds)
    assert answer(world.verifier.verify_claims(claims_of())) == MALFORMED


def test_what_a_stranger_signed_and_cannot_be_read_blocks_nobody() -> None:
    world = World()
    world.publish(DOCUMENT)
    digest = reference.subjects(DOCUMENT)[1]["digest"]["sha256"]
    for identity in (RELEASE.change(build_trigger="pull_request_target"),):
        world.github.add(world.mint(extra("predicate.comment"), identity), digest)
    assert answer(world.verifier.verify_claims(claims_of())) == ADMITTED


def test_provenance_beside_the_attestation_disturbs_nobody() -> None:
    world = World()
    world.publish(DOCUMENT)
    digest = reference.subjects(DOCUMENT)[1]["digest"]["sha256"]
    world.github.add(world.mint(provenance()), digest)
    assert answer(world.verifier.verify_claims(claims_of())) == ADMITTED


def test_a_statement_in_another_order_of_keys_is_the_same() -> None:
    text = json.dumps(STATEMENT, indent=2, sort_keys=False).encode()
    assert answer(listed(text)) == ADMITTED
