"""Bundles that somebody has changed, and any bytes at all; hypothesis's side of ``ci/fuzz.py``.

Tokens, REST answers, snappy, statements and policies have such tests beside their other ones.
"""

from __future__ import annotations

import json
from functools import cache
from typing import Any, Final

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ci.fuzz import TARGETS, attempt
from fixtures import reference
from mrtd.verifier.bundle import LateSigstore, bundle_digest
from mrtd.verifier.verdict import Reason
from tests.lab.world import NOW, World

VERIFIERS: Final = (
    "github-answer", "jwks", "policy", "sigstore-bundle", "snappy", "statement", "token",
)  # fmt: skip
VALUES: Final[st.SearchStrategy[Any]] = st.sampled_from(
    (None, True, -1, 0, 2**53, "", "AAAA", "MAA=", "a" * 5000, [], {}, [[]], {"": None}, [None] * 9)
)


@cache
def genuine() -> tuple[LateSigstore, bytes, tuple[tuple[str | int, ...], ...]]:
    """What opens bundles, one that it opens, and the places in that one."""
    world = World()
    bundle = world.mint(reference.document())
    return LateSigstore(world.root), bundle, tuple(places(json.loads(bundle)))


def places(tree: Any) -> list[tuple[str | int, ...]]:
    """Ways to every value of a JSON tree."""
    found: list[tuple[str | int, ...]] = []
    keys = tree if isinstance(tree, dict) else range(len(tree)) if isinstance(tree, list) else ()
    for key in keys:
        found += [(key,), *((key, *rest) for rest in places(tree[key]))]
    return found


def is_refused(bundle: bytes) -> bool:
    """Whether a bundle is refused, with a reason that is not our fault."""
    opened = genuine()[0].open(bundle, now=NOW)
    failed = [check for check in opened.checks if not check.ok]
    assert all(check.reason is not Reason.INTERNAL_ERROR for check in failed)
    assert (opened.signed is None) == bool(failed)
    return bool(failed)


def test_the_bundle_that_is_changed_below_is_genuine() -> None:
    assert not is_refused(genuine()[1])


@given(st.data())
@settings(max_examples=200)
def test_a_bundle_with_another_value_somewhere_is_refused_or_means_the_same(
    data: st.DataObject,
) -> None:
    opener, bundle, ways = genuine()
    tree = json.loads(bundle)
    *way, last = data.draw(st.sampled_from(ways))
    at = tree
    for step in way:
        at = at[step]
    at[last] = data.draw(VALUES)
    changed = json.dumps(tree).encode()
    if not is_refused(changed):
        signed, original = opener.open(changed, now=NOW).signed, opener.open(bundle, now=NOW).signed
        assert signed == original


@given(st.data())
@settings(max_examples=100)
def test_a_bundle_with_another_byte_somewhere_is_refused_or_means_the_same(
    data: st.DataObject,
) -> None:
    opener, bundle, _ = genuine()
    spot = data.draw(st.integers(0, len(bundle) - 1))
    changed = bundle[:spot] + data.draw(st.binary(max_size=3)) + bundle[spot + 1 :]
    bundle_digest(changed)
    if not is_refused(changed):
        signed, original = opener.open(changed, now=NOW).signed, opener.open(bundle, now=NOW).signed
        assert signed == original


@pytest.mark.parametrize("name", VERIFIERS)
@given(st.data())
@settings(max_examples=50, suppress_health_check=[HealthCheck.too_slow])
def test_any_bytes_give_an_answer(name: str, data: st.DataObject) -> None:
    target = TARGETS[name]
    seed = data.draw(st.sampled_from(target.seeds))
    start = data.draw(st.integers(0, len(seed)))
    end = data.draw(st.integers(start, len(seed)))
    attempt(target, seed[:start] + data.draw(st.binary(max_size=40)) + seed[end:])
