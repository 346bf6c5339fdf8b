"""The simulation of fleets, and that docs/scale.md quotes it."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pytest

from benchmarks.scale import (
    CASES,
    GITHUB_PER_HOUR,
    ITA_REQUESTS,
    ITA_SECONDS,
    Case,
    simulate,
    table,
)
from mrtd.service.limits import Limits
from mrtd.verifier.policy import CachePolicy, LookupPolicy

PAGE: Final = (Path(__file__).resolve().parents[1] / "docs/scale.md").read_text(encoding="utf-8")
PLAIN: Final = " ".join(PAGE.split())
HOUR: Final = 3600.0
DAY: Final = 24 * HOUR


def test_the_page_quotes_what_the_simulation_prints() -> None:
    assert f"\n```\n{table()}\n```\n" in PAGE


def test_the_page_names_the_limits_and_defaults_that_hold() -> None:
    lookup, cache = LookupPolicy(), CachePolicy()
    assert f"{GITHUB_PER_HOUR:,} requests an hour" in PLAIN
    assert f"{ITA_REQUESTS:,} requests in {ITA_SECONDS / 60:.0f} minutes" in PLAIN
    assert f"`lookup.requests_per_hour` ({lookup.requests_per_hour})" in PLAIN
    assert f"`negative_seconds` ({cache.negative_seconds})" in PLAIN
    assert f"A nonce lives {Limits().nonce_seconds} seconds" in PLAIN
    assert f"{ITA_REQUESTS * DAY / ITA_SECONDS:,.0f} tokens a day" in PLAIN
    each_hour = HOUR / cache.soft_seconds
    assert f"(200 + 20) x {each_hour:.0f} = {220 * each_hour:,.0f} requests an hour" in PLAIN
    assert f"instead of up to {20 * 201 * each_hour:,.0f} (" in PLAIN
    # one process stays inside GitHub's limit even in its first hour, two do not
    assert 2 * lookup.requests_per_hour <= GITHUB_PER_HOUR < 4 * lookup.requests_per_hour


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("case", [case for case in CASES if case.agents <= 10_000], ids=str)
def test_lookups_depend_on_launches_and_replicas(case: Case, seed: int) -> None:
    got = simulate(case, seed)
    asked = case.replicas * (case.launches + 1) * HOUR / case.soft
    assert 2 <= got.github <= min(asked, 2.0 * case.replicas * case.per_hour)
    assert got.stale == got.later == 0


def test_ten_times_the_agents_ask_github_hardly_more() -> None:
    few, many = (
        simulate(Case(20_000, 5, 1, HOUR, tokens=False)),
        simulate(Case(200_000, 5, 1, HOUR, tokens=False)),
    )
    assert few.github == many.github == 6 * 6


def test_who_comes_at_once_waits_for_trust_authority() -> None:
    got = simulate(Case(3 * ITA_REQUESTS, 1, 1, 1.0))
    assert got.waited[1] == pytest.approx(2 * ITA_SECONDS, abs=1.0)
    assert simulate(Case(3 * ITA_REQUESTS, 1, 1, 1.0, tokens=False)).waited == (0.0, 0.0)


def test_a_budget_that_is_used_up_makes_stale_answers_and_later_ones() -> None:
    got = simulate(Case(20_000, 50, 1, 4 * HOUR, tokens=False, per_hour=10))
    assert got.github <= 20
    assert got.stale > 0
    assert got.later > 0
