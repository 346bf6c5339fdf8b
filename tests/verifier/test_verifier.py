"""The verifier as a whole, with attestations of the lab."""

from __future__ import annotations

from fixtures import reference
from mrtd.verifier.verdict import Reason
from tests.lab.world import World, claims_of


def test_a_vm_whose_launch_was_attested_is_admitted() -> None:
    world = World()
    world.publish(reference.document())
    verdict = world.verifier.verify_claims(claims_of())
    assert verdict.allowed, verdict.message
    assert verdict.release is not None
    assert verdict.release.tag == "v1.4.0"


def test_a_vm_whose_launch_nobody_attested_is_refused() -> None:
    verdict = World().verifier.verify_claims(claims_of())
    assert (verdict.status, verdict.reason) == (403, Reason.NOT_ATTESTED)
