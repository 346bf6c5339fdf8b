"""Identities: what the certificate says, and the attacks that the naive check lets pass."""

from __future__ import annotations

import json
from base64 import b64decode

import pytest
from asn1crypto import core  # type: ignore[import-untyped]
from cryptography import x509
from cryptography.x509.oid import ExtensionOID
from sigstore.errors import VerificationError
from sigstore.verify import Verifier, policy

from tests.lab.identity import FULCIO_ARC, GitHubIdentity
from tests.lab.instance import Instance
from tests.lab_checks.conftest import AT, STATEMENT, naive, strong, verify

RELEASE = GitHubIdentity.release()
ATTACKS = {
    "foreign caller": GitHubIdentity.foreign_caller(),
    "pull_request_target": GitHubIdentity.pull_request_target(),
    "workflow_dispatch": GitHubIdentity.workflow_dispatch(),
    "resurrected": GitHubIdentity.resurrected(),
    "self-hosted": GitHubIdentity.self_hosted(),
    "private": GitHubIdentity.private_visibility(),
}
OTHERS = {
    "pull request": GitHubIdentity.pull_request(),
    "trusted reusable": GitHubIdentity.trusted_reusable(),
    "enterprise issuer": GitHubIdentity.enterprise_issuer(),
    "tag": GitHubIdentity.release_tag(),
}
IDENTITIES = {"release": RELEASE, **ATTACKS, **OTHERS}


def certificate(bundle: bytes) -> x509.Certificate:
    material = json.loads(bundle)["verificationMaterial"]
    return x509.load_der_x509_certificate(b64decode(material["certificate"]["rawBytes"]))


def fulcio_values(certificate: x509.Certificate) -> dict[int, bytes]:
    return {
        int(extension.oid.dotted_string.rpartition(".")[2]): extension.value.public_bytes()
        for extension in certificate.extensions
        if extension.oid.dotted_string.startswith(f"{FULCIO_ARC}.")
    }


@pytest.mark.parametrize("identity", IDENTITIES.values(), ids=IDENTITIES)
def test_the_certificate_says_what_the_identity_says(
    verifier: Verifier, lab: Instance, identity: GitHubIdentity
) -> None:
    bundle = lab.mint(STATEMENT, identity, at=AT)
    found = fulcio_values(certificate(bundle))
    assert {
        number: value.decode() if number <= 6 else core.UTF8String.load(value).native
        for number, value in found.items()
    } == identity.values()
    assert list(found) == [*range(1, 7), *range(8, 23)]
    assert verify(verifier, bundle, strong(identity)) == STATEMENT


@pytest.mark.parametrize("identity", ATTACKS.values(), ids=ATTACKS)
def test_the_naive_check_lets_attacks_pass(
    verifier: Verifier, lab: Instance, identity: GitHubIdentity
) -> None:
    bundle = lab.mint(STATEMENT, identity, at=AT)
    assert verify(verifier, bundle, naive(RELEASE)) == STATEMENT
    with pytest.raises(VerificationError):
        verify(verifier, bundle, strong(RELEASE))


@pytest.mark.parametrize("identity", OTHERS.values(), ids=OTHERS)
def test_the_naive_check_stops_the_others(
    verifier: Verifier, lab: Instance, identity: GitHubIdentity
) -> None:
    with pytest.raises(VerificationError):
        verify(verifier, lab.mint(STATEMENT, identity, at=AT), naive(RELEASE))


def test_extensions_can_be_left_out_and_added(lab: Instance) -> None:
    identity = RELEASE.change(
        issuer=None,
        deployment_environment="production",
        raw=((15, b"not DER"), (99, b"\x05\x00")),
        additional=(("1.3.6.1.4.1.99999.7", b"more"),),
    )
    found = certificate(lab.mint(STATEMENT, identity, at=AT))
    values = fulcio_values(found)
    assert 1 not in values
    assert values[15] == b"not DER"
    assert values[23] == core.UTF8String("production").dump()
    assert values[99] == b"\x05\x00"
    added = found.extensions.get_extension_for_oid(x509.ObjectIdentifier("1.3.6.1.4.1.99999.7"))
    assert added.value.public_bytes() == b"more"


def test_the_san_can_be_of_another_kind(verifier: Verifier, lab: Instance) -> None:
    name = x509.RFC822Name("maintainer@example.com")
    bundle = lab.mint(STATEMENT, RELEASE.change(other_san=name), at=AT)
    extension = certificate(bundle).extensions.get_extension_for_oid(
        ExtensionOID.SUBJECT_ALTERNATIVE_NAME
    )
    assert extension.critical
    assert extension.value == x509.SubjectAlternativeName([name])
    assert verify(verifier, bundle, policy.Identity(identity="maintainer@example.com")) == STATEMENT
