"""Signatures of an image: a double of a registry has bundles of the lab's Sigstore."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import pytest

from mrtd.errors import ImagesError, ToolFailed
from mrtd.images.outcome import (
    SIGN_TYPE,
    Key,
    Kind,
    NotChecked,
    NotSigned,
    Refused,
    SignatureOutcome,
    Signed,
)
from mrtd.images.reference import ImageReference
from mrtd.verifier.bundle import LateSigstore
from mrtd.verifier.policy import IdentityPolicy
from mrtd.workloads.signatures import SignatureChecker, read_keys
from tests.lab.agents import OURS, SIGNER, digest, settings
from tests.lab.flaws import Flaw
from tests.lab.identity import GitHubIdentity
from tests.lab.instance import default_instance
from tests.lab.world import NOW, RELEASE, SIGNED, Times, root_of

IMAGE: Final = ImageReference.read(f"{OURS}@{digest('1')}")
SOURCE = settings().source(OURS)
assert SOURCE is not None
PEMS: Final = {"release.pub": b"PEM 1", "next.pub": b"PEM 2"}


def statement(image: ImageReference = IMAGE, kind: str = SIGN_TYPE, **changes: Any) -> bytes:
    """As cosign 3 makes it: the digest alone, and an empty predicate."""
    made = {
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"digest": {"sha256": image.hex}}],
        "predicateType": kind,
        "predicate": {},
    }
    return json.dumps(made | changes).encode()


def mint(payload: bytes, identity: GitHubIdentity = RELEASE, **options: Any) -> bytes:
    return default_instance().mint(payload, identity, at=SIGNED, **options)


class Registry:
    """A registry that has, or does not have, and a cosign that answers for keys.

    Attributes:
        keys: outcomes by name of the key; the others have not signed.
    """

    def __init__(self, bundles: Sequence[bytes] | Exception = (), **keys: type) -> None:
        self.bundled = bundles
        self.keys = keys or {"release": Signed}

    def bundles(self, _: ImageReference) -> list[bytes]:
        if isinstance(self.bundled, Exception):
            raise self.bundled
        return [*self.bundled]

    def verify_key(self, image: ImageReference, key: Key) -> SignatureOutcome:
        assert key.pem == PEMS[key.name]
        made: SignatureOutcome = self.keys.get(key.name.removesuffix(".pub"), NotSigned)(
            image, Kind.KEY, key.name
        )
        return made


def checker(registry: Registry, **options: Any) -> SignatureChecker:
    root = root_of(default_instance())
    arguments: dict[str, Any] = {
        "opener": LateSigstore(root),
        "keys": PEMS,
        "clock": Times(NOW).clock,
    }
    return SignatureChecker(registry, **arguments | options)


def workflow(*bundles: bytes, **options: Any) -> SignatureOutcome:
    assert SOURCE is not None
    return checker(Registry(bundles), **options).check(SOURCE, IMAGE).workflow


def test_a_genuine_signature_of_the_workflow_names_run_and_log_entry() -> None:
    assert SOURCE is not None
    check = checker(Registry([mint(statement())])).check(SOURCE, IMAGE)
    assert isinstance(check.key, Signed)
    assert isinstance(check.workflow, Signed)
    assert check.workflow.by == SIGNER
    assert check.run == RELEASE.run_invocation_uri
    assert check.log_index is not None


def test_an_attestation_is_no_signature() -> None:
    sbom = mint(statement(kind="https://cyclonedx.org/bom"))
    assert isinstance(workflow(sbom), NotSigned)
    # nor does it hide one
    assert isinstance(workflow(sbom, mint(statement())), Signed)


def test_a_signature_of_another_digest_is_refused() -> None:
    other = ImageReference.read(f"{OURS}@{digest('2')}")
    found = workflow(mint(statement(other)))
    assert isinstance(found, Refused)
    assert "another digest" in found.why


@pytest.mark.parametrize(
    "changes",
    [
        {"subject": []},
        {"subject": [{"digest": {"sha256": IMAGE.hex}}] * 2},
        {"subject": [{"digest": {"sha256": IMAGE.hex, "sha512": "0"}}]},
        {"subject": "text"},
    ],
)
def test_a_statement_that_can_be_read_in_two_ways_is_refused(changes: dict[str, Any]) -> None:
    assert isinstance(workflow(mint(statement(**changes))), Refused)


@pytest.mark.parametrize(
    "changes",
    [
        {"source_repository_identifier": "999"},
        {"source_repository_owner_identifier": "999"},
        {"build_trigger": "pull_request_target"},
        {"runner_environment": "self-hosted"},
        {"source_repository_ref": "refs/heads/dev"},
        {"issuer_v2": "https://evil.example"},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_who_else_signed_is_not_the_workflow(changes: dict[str, Any]) -> None:
    found = workflow(mint(statement(), replace(RELEASE, **changes)))
    assert isinstance(found, Refused)
    assert "identity." in found.why


def test_runners_are_those_that_the_policy_takes() -> None:
    own = replace(RELEASE, runner_environment="self-hosted")
    like = IdentityPolicy(repository_id="1", owner_id="1", runners=("self-hosted",))
    assert isinstance(workflow(mint(statement(), own), like=like), Signed)


def test_one_that_holds_is_enough_among_those_that_do_not() -> None:
    stranger = mint(statement(), replace(RELEASE, source_repository_identifier="999"))
    assert isinstance(workflow(stranger, b"garbage", mint(statement())), Signed)
    assert isinstance(workflow(stranger, b"garbage"), Refused)


@pytest.mark.parametrize(
    "flaw",
    [Flaw.SIGNATURE_BY_OTHER_KEY, Flaw.CERTIFICATE_BY_FOREIGN_CA, Flaw.PAYLOAD_ALTERED],
    ids=str,
)
def test_a_forged_bundle_is_refused(flaw: Flaw) -> None:
    assert isinstance(workflow(mint(statement(), flaw=flaw)), Refused)


def test_a_signature_of_the_future_is_refused() -> None:
    early = Times(SIGNED - timedelta(hours=1)).clock
    found = workflow(mint(statement()), clock=early)
    assert isinstance(found, Refused)


def test_no_bundle_is_a_no_and_no_registry_is_not() -> None:
    assert SOURCE is not None
    assert isinstance(workflow(), NotSigned)
    for error in (ToolFailed("dial tcp: timeout", origin="cosign"), OSError("no cosign")):
        check = checker(Registry(error)).check(SOURCE, IMAGE)
        assert isinstance(check.workflow, NotChecked)


def test_a_verifier_that_cannot_work_is_no_refusal() -> None:
    from mrtd.verifier.bundle import Opened
    from mrtd.verifier.verdict import Reason
    from mrtd.verifier.verdict import check as made

    class Missing:
        def open(self, bundle: bytes, *, now: object) -> Opened:
            del bundle, now
            why = made("sigstore", Reason.TOOL_MISSING, ok=False, expected="genuine",
                       observed="sigstore is not installed", source="bundle")  # fmt: skip
            return Opened((why,), None)

    assert isinstance(workflow(mint(statement()), opener=Missing()), NotChecked)


@pytest.mark.parametrize(
    ("first", "second", "wanted"),
    [
        (Signed, NotChecked, Signed),
        (Refused, Signed, Signed),
        (Refused, NotChecked, NotChecked),
        (NotSigned, Refused, Refused),
        (NotSigned, NotSigned, NotSigned),
    ],
)
def test_one_of_the_keys_is_enough(first: type, second: type, wanted: type) -> None:
    assert SOURCE is not None
    registry = Registry([], release=first, next=second)
    assert type(checker(registry).check(SOURCE, IMAGE).key) is wanted


def test_keys_are_read_beside_the_settings(tmp_path: Path) -> None:
    pem = b"-----BEGIN PUBLIC KEY-----\nMFkw\n-----END PUBLIC KEY-----\n"
    (tmp_path / "release.pub").write_bytes(pem)
    with pytest.raises(ImagesError, match=r"next\.pub: cannot be read"):
        read_keys(settings(), tmp_path)
    (tmp_path / "next.pub").write_bytes(b"-----BEGIN PRIVATE KEY-----")
    with pytest.raises(ImagesError, match="is no public key"):
        read_keys(settings(), tmp_path)
    (tmp_path / "next.pub").write_bytes(pem)
    assert read_keys(settings(), tmp_path) == {"release.pub": pem, "next.pub": pem}
