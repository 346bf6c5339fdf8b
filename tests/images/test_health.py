"""Reading what agents say: both shapes of /health, and whatever else comes."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mrtd.errors import MalformedDocument
from mrtd.images.health import COUNT_LIMIT, SIZE_LIMIT, Health, read_health
from mrtd.images.status import Deployment
from tests.lab.agents import digest
from tests.strategies import refused

ENTRY = {
    "app_name": "ollama",
    "image": "ghcr.io/o/n:v1",
    "image_digest": digest("1"),
    "attestation_status": "green",
    "reason": "I say so",
    "checked_at": "2026-11-23T12:00:00Z",
}
OLLAMA = Deployment("ollama", "ghcr.io/o/n:v1", digest("1"))
# The fields of dd's agents, 2026-06
DD: dict[str, Any] = {
    "ok": True,
    "service": "agent",
    "agent_id": "a1",
    "vm_name": "vm-1",
    "integrity_state": "clean",
    "taint_reasons": [],
    "deployments": ["ollama", "podman-bootstrap"],
    "deployment_count": 2,
    "noise": {"quote_b64": "", "pubkey_hex": "", "ita_token": ""},
    "cpu_percent": 1.5,
}


def read(value: object) -> Health:
    return read_health(json.dumps(value).encode(), origin="/health")


def test_names_alone_are_deployments_of_which_nothing_is_told() -> None:
    found = read(DD)
    assert found.agent_id == "a1"
    assert found.deployments == (Deployment("ollama"), Deployment("podman-bootstrap"))


@pytest.mark.parametrize(
    "more",
    [
        {"deployment_status": [ENTRY]},
        {"deployments": [ENTRY, "podman-bootstrap"]},
        {"deployments": [ENTRY, "podman-bootstrap"], "deployment_status": [ENTRY]},
    ],
    ids=["beside", "instead", "both"],
)
def test_both_shapes_say_the_same(more: dict[str, Any]) -> None:
    assert read(DD | more).deployments == (OLLAMA, Deployment("podman-bootstrap"))


def test_two_images_under_one_name_are_both_seen() -> None:
    other = ENTRY | {"image_digest": digest("2")}
    found = read({"deployments": ["ollama"], "deployment_status": [ENTRY, other]})
    assert [one.image_digest for one in found.deployments] == [digest("1"), digest("2")]


@pytest.mark.parametrize(
    "value",
    [
        [],
        "text",
        None,
        {"deployments": "ollama"},
        {"deployments": [1]},
        {"deployments": [None]},
        {"deployments": {"ollama": 1}},
        {"deployment_status": [{"image": "no name"}]},
        {"deployment_status": [ENTRY | {"image_digest": 5}]},
        {"deployment_status": [ENTRY | {"app_name": "x" * 257}]},
        {"agent_id": 7},
    ],
)
def test_wrong_types_are_said(value: object) -> None:
    with pytest.raises(MalformedDocument, match="is no /health"):
        read(value)


def test_a_thousand_deployments_are_read_and_ten_thousand_are_not() -> None:
    assert len(read({"deployments": [str(n) for n in range(COUNT_LIMIT)]}).deployments) == 1000
    with pytest.raises(MalformedDocument, match="10000 deployments"):
        read({"deployments": [str(n) for n in range(10_000)]})


def test_too_much_is_not_even_looked_at() -> None:
    with pytest.raises(MalformedDocument, match="more than"):
        read_health(b"{" * (SIZE_LIMIT + 1), origin="/health")


def test_deep_nesting_is_no_way_to_end_us() -> None:
    with pytest.raises(MalformedDocument):
        read_health(b'{"deployments": ' + b"[" * 100_000, origin="/health")


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    error = refused(lambda: read_health(data, origin="/health"))
    assert error is None or isinstance(error, MalformedDocument)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=12,
)


@given(st.dictionaries(st.sampled_from(["deployments", "deployment_status", "agent_id"]), JSON))
def test_any_values_in_its_fields_are_read_or_refused(value: dict[str, Any]) -> None:
    error = refused(lambda: read(value))
    assert error is None or isinstance(error, MalformedDocument)


@given(st.lists(st.text(min_size=1, max_size=20), max_size=20, unique=True))
def test_every_name_comes_back(names: list[str]) -> None:
    data = json.dumps({"deployments": names}).encode()
    assert [one.app_name for one in read_health(data, origin="x").deployments] == names
