"""Fuzzing starts from inputs that get through the parsers, and tells findings from answers."""

from __future__ import annotations

import pytest

from ci.fuzz import TARGETS, attempt
from ci.fuzz_target import FuzzTarget
from mrtd.errors import MalformedAcpi

SEEDS = [(name, number) for name, target in TARGETS.items() for number in range(len(target.seeds))]


@pytest.mark.parametrize(("name", "number"), SEEDS)
def test_seeds_are_valid(name: str, number: int) -> None:
    TARGETS[name].parse(TARGETS[name].seeds[number])


def test_only_our_errors_are_answers() -> None:
    def refuse(_: bytes) -> None:
        raise MalformedAcpi("no", origin="fuzz")

    def crash(_: bytes) -> None:
        raise IndexError

    attempt(FuzzTarget(refuse, ()), b"")
    with pytest.raises(IndexError):
        attempt(FuzzTarget(crash, ()), b"")
