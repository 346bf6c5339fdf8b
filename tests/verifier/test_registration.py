"""The context of a registration covers all of the request that is acted upon."""

from __future__ import annotations

from typing import Any, Final

import pytest

from mrtd.errors import MalformedDocument
from mrtd.service.requests import Ingress
from mrtd.verifier import register_context

GPU: Final = {"hostname_label": "gpu", "port": 8080}


def test_json_and_objects_make_the_same_bytes() -> None:
    magic = "6d7274642e72656769737465722f763100"
    wanted = f"{magic}00000004766d2d3100000001000000036770751f90"
    assert register_context("vm-1", [GPU]).hex() == wanted
    assert register_context("vm-1", (Ingress(hostname_label="gpu", port=8080),)).hex() == wanted
    assert register_context("vm-1") == register_context("vm-1", [])


@pytest.mark.parametrize(
    ("name", "ingress"),
    [
        (None, []),
        ("\ud800", []),
        ("vm-1", None),
        ("vm-1", {}),
        ("vm-1", "ab"),
        ("vm-1", [1]),
        ("vm-1", [{"hostname_label": "gpu"}]),
        ("vm-1", [GPU | {"protocol": "udp"}]),
        ("vm-1", [GPU | {"port": 1 << 16}]),
        ("vm-1", [GPU | {"port": -1}]),
        ("vm-1", [GPU | {"port": True}]),
        ("vm-1", [GPU | {"port": "80"}]),
        ("vm-1", [GPU | {"hostname_label": 1}]),
    ],
)
def test_what_is_no_request_is_refused(name: Any, ingress: Any) -> None:
    with pytest.raises(MalformedDocument):
        register_context(name, ingress)
