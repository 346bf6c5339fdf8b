"""What podman says that runs; its JSON as podman 5.8 prints it, and a podman that misbehaves."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mrtd.errors import MalformedDocument, ToolFailed
from mrtd.images.podman import COUNT_LIMIT, read_containers, running_containers
from mrtd.images.program import Program
from mrtd.images.status import Deployment
from tests.lab.agents import OURS, digest
from tests.strategies import refused

# Fields of podman 5.8.6, of which .Image is the digest of the configuration
INSPECTED: dict[str, Any] = {
    "Id": "1" * 64,
    "Name": "ollama",
    "Image": "c" * 64,
    "ImageName": f"{OURS}:v1",
    "ImageDigest": digest("1"),
    "State": {"Running": True},
}
LISTED: dict[str, Any] = {"Id": "1" * 64, "Names": ["ollama"], "Image": f"{OURS}:v1"}


def encoded(*entries: dict[str, Any]) -> bytes:
    return json.dumps(entries).encode()


def test_the_digest_is_the_manifests_and_not_the_configurations() -> None:
    found = read_containers(encoded(INSPECTED), origin="podman")
    assert found == (Deployment("ollama", f"{OURS}:v1", digest("1")),)


def test_a_list_of_podman_ps_has_no_digests() -> None:
    assert read_containers(encoded(LISTED), origin="x") == (Deployment("ollama", f"{OURS}:v1"),)


def test_nothing_runs() -> None:
    assert read_containers(b"[]", origin="podman") == ()


@pytest.mark.parametrize(
    "data",
    [b"", b"{}", b"[1]", b'[{"Name": 1, "ImageName": "x"}]', b'[{"Names": [], "Image": "x"}]',
     encoded(INSPECTED, LISTED), b"\xff", b"[" * 100_000,
     encoded(*[INSPECTED] * (COUNT_LIMIT + 1))],
)  # fmt: skip
def test_anything_else_is_refused(data: bytes) -> None:
    with pytest.raises(MalformedDocument):
        read_containers(data, origin="podman")


@given(st.binary(max_size=100))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    error = refused(lambda: read_containers(data, origin="podman"))
    assert error is None or isinstance(error, MalformedDocument)


def podman(folder: Path, *, listed: str, inspected: bytes) -> Program:
    """A program that answers as podman does, and notes what it was asked."""
    (folder / "inspected").write_bytes(inspected)
    path = folder / "podman"
    path.write_text(
        f"""#!/bin/sh
echo "$*" >> {folder}/asked
case $1 in
ps) {listed} ;;
inspect) cat {folder}/inspected ;;
esac
"""
    )
    path.chmod(0o755)
    return Program.find("podman", path)


def test_podman_is_asked_for_what_runs_now(tmp_path: Path) -> None:
    program = podman(tmp_path, listed=f"echo {'1' * 64}", inspected=encoded(INSPECTED))
    assert running_containers(program) == (Deployment("ollama", f"{OURS}:v1", digest("1")),)
    assert (tmp_path / "asked").read_text().splitlines() == [
        "ps --quiet --no-trunc",
        f"inspect --type=container {'1' * 64}",
    ]


def test_a_podman_that_runs_nothing_is_asked_no_more(tmp_path: Path) -> None:
    assert running_containers(podman(tmp_path, listed="true", inspected=b"")) == ()
    assert len((tmp_path / "asked").read_text().splitlines()) == 1


@pytest.mark.parametrize(
    "listed", ["echo --help", "echo 12ab", "exit 125", f"yes {'2' * 64} | head -n 1001"]
)
def test_a_podman_that_misbehaves_is_an_error_of_ours(tmp_path: Path, listed: str) -> None:
    with pytest.raises(ToolFailed):
        running_containers(podman(tmp_path, listed=listed, inspected=b"[]"))
