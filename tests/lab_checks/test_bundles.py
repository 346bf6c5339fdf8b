"""What the lab mints, seen by sigstore-python: the genuine pass, each flaw is found or known."""

from __future__ import annotations

import json
from base64 import b64decode
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from rfc3161_client import VerifierBuilder, decode_timestamp_response
from sigstore.errors import Error, VerificationError
from sigstore.models import Bundle, InvalidBundle
from sigstore.verify import Verifier, policy

from tests.lab.envelope import OTHER_STATEMENT
from tests.lab.flaws import FOREIGN_EXCEPTIONS, UNDETECTED_BY_SIGSTORE, Flaw, Log, applies
from tests.lab.identity import GitHubIdentity
from tests.lab.instance import Instance, github_private_instance
from tests.lab.trusted_root import Window, Windows
from tests.lab_checks.conftest import AT, STATEMENT, VerifierOf, strong, verify

RELEASE = GitHubIdentity.release()
LOGS = (Log.REKOR_V1, Log.REKOR_V2)
ENDED = Window(end=datetime(2021, 6, 1, tzinfo=UTC))
FLAWED = [
    pytest.param(flaw, log, id=f"{flaw.name}-{log}")
    for flaw in Flaw
    for log in LOGS
    if applies(flaw, log)
]


@pytest.mark.parametrize("log", LOGS)
def test_genuine_bundles_are_accepted(verifier: Verifier, lab: Instance, log: Log) -> None:
    for _ in range(9):  # at other places of the tree
        bundle = lab.mint(STATEMENT, RELEASE, at=AT, log=log)
        assert verify(verifier, bundle, strong(RELEASE)) == STATEMENT


def test_a_rekor_v1_bundle_may_have_a_timestamp_too(verifier: Verifier, lab: Instance) -> None:
    bundle = lab.mint(STATEMENT, RELEASE, at=AT, timestamped=True)
    assert verify(verifier, bundle, strong(RELEASE)) == STATEMENT


@pytest.mark.parametrize(("flaw", "log"), FLAWED)
def test_each_flaw_is_found_or_known(
    verifier: Verifier, lab: Instance, flaw: Flaw, log: Log
) -> None:
    bundle = lab.mint(STATEMENT, RELEASE, at=AT, log=log, flaw=flaw)
    if flaw in UNDETECTED_BY_SIGSTORE:
        assert verify(verifier, bundle, strong(RELEASE)) == STATEMENT
        return
    with pytest.raises(Exception) as caught:  # noqa: PT011 # which errors: the next line
        verify(verifier, bundle, strong(RELEASE))
    assert isinstance(caught.value, Error) is (flaw not in FOREIGN_EXCEPTIONS)


def test_every_flaw_can_be_minted() -> None:
    assert [flaw for flaw in Flaw if not any(applies(flaw, log) for log in LOGS)] == []


def test_a_flaw_that_makes_no_difference_is_refused(lab: Instance) -> None:
    with pytest.raises(ValueError, match="cannot have the flaw"):
        lab.mint(STATEMENT, RELEASE, at=AT, log="rekor-v2", flaw=Flaw.NO_SET)
    with pytest.raises(ValueError, match="time zone"):
        lab.mint(STATEMENT, RELEASE, at=AT.replace(tzinfo=None))


@pytest.mark.parametrize(
    "flaw",
    [
        Flaw.TIMESTAMP_BY_FOREIGN_AUTHORITY,
        Flaw.TIMESTAMP_OF_OTHER_SIGNATURE,
        Flaw.TIMESTAMP_CORRUPTED,
        Flaw.NO_SET,
    ],
)
def test_of_two_witnesses_of_time_one_is_enough(
    verifier: Verifier, lab: Instance, flaw: Flaw
) -> None:
    bundle = lab.mint(STATEMENT, RELEASE, at=AT, timestamped=True, flaw=flaw)
    assert verify(verifier, bundle, strong(RELEASE)) == STATEMENT


@pytest.mark.parametrize("log", LOGS)
def test_another_instance_is_not_trusted(verifier: Verifier, lab: Instance, log: Log) -> None:
    bundle = lab.foreign.mint(STATEMENT, RELEASE, at=AT, log=log)
    with pytest.raises(VerificationError):
        verify(verifier, bundle, strong(RELEASE))


@pytest.mark.parametrize("log", LOGS)
def test_a_signature_of_the_far_future_is_accepted(
    verifier: Verifier, lab: Instance, log: Log
) -> None:
    bundle = lab.mint(STATEMENT, RELEASE, at=datetime(2055, 1, 1, tzinfo=UTC), log=log)
    assert verify(verifier, bundle, strong(RELEASE)) == STATEMENT


@pytest.mark.parametrize(
    "windows",
    [
        Windows(certificate_authority=ENDED),
        Windows(ct_log=ENDED),
        Windows(rekor_v1=ENDED, rekor_v2=ENDED),
    ],
)
@pytest.mark.parametrize("log", LOGS)
def test_keys_whose_time_had_ended_are_accepted(
    verifier_of: VerifierOf, lab: Instance, log: Log, windows: Windows
) -> None:
    bundle = lab.mint(STATEMENT, RELEASE, at=AT, log=log)
    assert verify(verifier_of(lab, windows), bundle, strong(RELEASE)) == STATEMENT


@pytest.mark.parametrize("window", [ENDED, None])
def test_a_timestamp_authority_is_held_to_its_time(
    verifier_of: VerifierOf, lab: Instance, window: Window | None
) -> None:
    verifier = verifier_of(lab, Windows(timestamp_authority=window))
    with pytest.raises(VerificationError):
        verify(verifier, lab.mint(STATEMENT, RELEASE, at=AT, log="rekor-v2"), strong(RELEASE))


def test_a_log_that_is_not_in_the_root_is_unknown(verifier_of: VerifierOf, lab: Instance) -> None:
    verifier = verifier_of(lab, Windows(rekor_v1=None))
    bundle = lab.mint(STATEMENT, RELEASE, at=AT)
    with pytest.raises(VerificationError, match="invalid log entry"):
        verify(verifier, bundle, strong(RELEASE))


def test_payload_and_type_are_the_callers(verifier: Verifier, lab: Instance) -> None:
    bundle = lab.mint(b"hello", RELEASE, at=AT, payload_type="text/plain")
    answer = verifier.verify_dsse(Bundle.from_json(bundle), policy.UnsafeNoOp())
    assert answer == ("text/plain", b"hello")


def test_an_instance_is_made_from_its_seed(verifier_of: VerifierOf) -> None:
    one, same = Instance("of the same seed"), Instance("of the same seed")
    bundle = one.mint(STATEMENT, RELEASE, at=AT)
    # Not so with timestamps: that authority's certificate is compared as a whole.
    assert verify(verifier_of(same, None), bundle, strong(RELEASE)) == STATEMENT


def test_githubs_private_instance(verifier_of: VerifierOf, lab: Instance) -> None:
    private = github_private_instance()
    bundle = private.mint(STATEMENT, GitHubIdentity.private_visibility(), at=AT)
    with pytest.raises(InvalidBundle, match="tlogEntries"):
        verify(verifier_of(lab, None), bundle, policy.UnsafeNoOp())
    with pytest.raises(VerificationError, match="no transparency log instances"):
        verifier_of(private, None)
    material = json.loads(bundle)["verificationMaterial"]
    certificate = x509.load_der_x509_certificate(_bytes(material["certificate"]["rawBytes"]))
    certificate.verify_directly_issued_by(private.fulcio.chain[0])
    assert certificate.issuer.rfc4514_string() == "CN=Fulcio Intermediate l2,O=GitHub\\, Inc."
    with pytest.raises(x509.ExtensionNotFound):
        certificate.extensions.get_extension_for_class(
            x509.PrecertificateSignedCertificateTimestamps
        )
    (stamp,) = material["timestampVerificationData"]["rfc3161Timestamps"]
    answer = decode_timestamp_response(_bytes(stamp["signedTimestamp"]))
    leaf, root = private.timestamp_authority.chain
    (signature,) = json.loads(bundle)["dsseEnvelope"]["signatures"]
    checker = VerifierBuilder().tsa_certificate(leaf).add_root_certificate(root).build()
    assert checker.verify_message(answer, _bytes(signature["sig"]))
    assert answer.tst_info.gen_time == AT


def _bytes(text: str) -> bytes:
    return b64decode(text, validate=True)


# The shape of real ones


def members(value: Any, path: str = "") -> set[str]:
    """Paths of all members of a JSON document."""
    if isinstance(value, dict):
        return {path}.union(*(members(item, f"{path}.{name}") for name, item in value.items()))
    if isinstance(value, list):
        return {path}.union(*(members(item, f"{path}[]") for item in value))
    return {path}


@pytest.mark.parametrize(
    ("name", "log"),
    [
        ("github-reusable-workflow.sigstore.json", Log.REKOR_V1),
        ("conformance/happy-path-intoto-in-dsse-v3/bundle.sigstore.json", Log.REKOR_V1),
        ("conformance/rekor2-dsse-happy-path/bundle.sigstore.json", Log.REKOR_V2),
        ("github-private-instance.sigstore.json", Log.NONE),
    ],
)
def test_bundles_have_the_members_of_real_ones(
    corpus: Path, lab: Instance, name: str, log: Log
) -> None:
    real = json.loads((corpus / "bundles" / name).read_bytes())
    instance = github_private_instance() if log is Log.NONE else lab
    ours = json.loads(instance.mint(OTHER_STATEMENT, RELEASE, at=AT, log=log))
    if "timestampVerificationData" not in real["verificationMaterial"]:
        del ours["verificationMaterial"]["timestampVerificationData"]  # sigstore-python's; empty
    assert members(ours) == members(real)
    assert ours["mediaType"] == real["mediaType"]
    entries, theirs = (
        bundle["verificationMaterial"].get("tlogEntries", []) for bundle in (ours, real)
    )
    for entry, their in zip(entries, theirs, strict=True):
        assert entry["kindVersion"] == their["kindVersion"]
        body, real_body = (json.loads(_bytes(item["canonicalizedBody"])) for item in (entry, their))
        assert members(body) == members(real_body)
