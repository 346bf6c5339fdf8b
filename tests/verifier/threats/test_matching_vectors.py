"""The vectors that other languages check themselves with, driven through the verifier."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

import pytest

from fixtures import reference
from mrtd.registers import ZERO, Sha384
from mrtd.verifier.claims import TdClaims
from mrtd.verifier.verdict import Reason
from tests.lab.world import World, claims_of

Json = dict[str, Any]

FILE: Final = Path(__file__).resolve().parents[3] / "fixtures" / "vectors" / "matching.json"
VECTORS: Final[Json] = json.loads(FILE.read_bytes())
CASES: Final[dict[str, Json]] = {case["name"]: case for case in VECTORS["cases"]}


def td(registers: dict[str, str]) -> TdClaims:
    values = {name: Sha384.fromhex(value) for name, value in registers.items()}
    rtmrs = (*(values[f"rtmr{number}"] for number in range(3)), ZERO)
    return claims_of(mr_td=values["mrtd"], rtmrs=rtmrs)


def world_of(switches: Json) -> World:
    """Coverage is another question than the vectors': nothing of it is demanded."""
    settings = "".join(f"{name} = {str(value).lower()}\n" for name, value in switches.items())
    return World(f'[lookup]\ngithub = "off"\n[measurements]\nrequired_coverage = []\n{settings}')


@pytest.mark.parametrize("name", CASES)
def test_the_verifier_answers_as_the_vector_says(name: str) -> None:
    case = CASES[name]
    world = world_of(case["policy"])
    bundle = world.mint(VECTORS["documents"][case["document"]])
    verdict = world.verifier.verify_claims(td(case["registers"]), bundles=[bundle])
    expected = case["expected"]
    assert verdict.allowed == expected["match"]
    assert verdict.reason == (None if expected["match"] else Reason(expected["reason"]))
    assert verdict.shape == expected["shape"]


def test_the_vectors_are_those_of_this_release() -> None:
    assert VECTORS["schema"] == "mrtd.vectors/1"
    assert len(CASES) >= 25
    assert {case["expected"]["reason"] for case in CASES.values()} == {
        None, "register_not_measured", "registers_differ", "register_unpinned", "revoked",
    }  # fmt: skip
    assert reference.document() in VECTORS["documents"].values()
