"""``mrtd workloads``: what agents merge into /health, what people read, and the exit codes."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest

from mrtd.cli.main import main
from mrtd.images.health import read_health
from mrtd.images.status import Deployment
from tests.lab.agents import IMAGES, OURS, RUNS, THEIRS, digest, health

PEM = "-----BEGIN PUBLIC KEY-----\n-----END PUBLIC KEY-----\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """With an images.toml, keys, and a cosign that reaches no registry."""
    (tmp_path / "images.toml").write_text(IMAGES)
    (tmp_path / "keys").mkdir()
    for name in ("release.pub", "next.pub"):
        (tmp_path / "keys" / name).write_text(PEM)
    cosign = tmp_path / "cosign"
    cosign.write_text(
        "#!/bin/sh\n"
        "case $* in *--help*) echo --key --trusted-root; exit 0;; esac\n"
        "echo 'Error: dial tcp: connection refused' >&2\nexit 1\n"
    )
    cosign.chmod(0o755)
    return tmp_path


def inspected(folder: Path, *deployments: Deployment) -> list[str]:
    entries = [
        {"Name": one.app_name, "ImageName": one.image, "ImageDigest": one.image_digest}
        for one in deployments
    ]
    path = folder / "inspect.json"
    path.write_text(json.dumps(entries))
    return ["workloads", "--inspect", str(path)]


def checked(folder: Path) -> list[str]:
    return ["--images", str(folder / "images.toml"), "--cosign", str(folder / "cosign")]


def statuses(capsys: pytest.CaptureFixture[str]) -> dict[str, str]:
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return {one["app_name"]: one["attestation_status"] for one in found["deployment_status"]}


def test_an_agent_merges_what_it_prints(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*inspected(folder, RUNS["green"], RUNS["exception"]), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["deployments"] == ["ollama", "cache"]  # what readers of today expect
    merged = json.dumps({"ok": True, "deployments": []} | found).encode()
    assert read_health(merged, origin="x").deployments == (RUNS["green"], RUNS["exception"])
    assert {one["attestation_status"] for one in found["deployment_status"]} == {"unknown"}


def test_what_needs_no_registry_is_known_without_one(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    today = [RUNS["exception"], RUNS["stranger"], RUNS["moved"]]
    assert main([*inspected(folder, *today), *checked(folder), "--json"]) == 1
    assert statuses(capsys) == {"cache": "yellow", "miner": "red", "moved": "red"}


def test_a_registry_that_is_away_is_3_and_an_exception_alone_is_0(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*inspected(folder, RUNS["green"]), *checked(folder), "--json"]) == 3
    assert statuses(capsys) == {"ollama": "unknown"}
    assert main([*inspected(folder, RUNS["exception"]), *checked(folder), "--json"]) == 0
    assert statuses(capsys) == {"cache": "yellow"}


def test_an_agents_health_is_worked_out_again(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Input:
        buffer = io.BytesIO(health([RUNS["stranger"]]))

    monkeypatch.setattr("sys.stdin", Input)
    assert main(["workloads", "--health", "-", *checked(folder), "--json"]) == 1
    assert statuses(capsys) == {"miner": "red"}


def test_people_get_a_table_of_80_columns(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    hostile = Deployment("\x1b[31mevil\u202e", f"{OURS}:v1", digest("1"))
    long = Deployment("x" * 200, f"{THEIRS}:{'y' * 100}", digest("d"))
    assert main([*inspected(folder, hostile, long, *RUNS.values()), *checked(folder)]) == 1
    out = capsys.readouterr().out
    assert max(map(len, out.splitlines())) <= 80
    assert "\x1b" not in out
    assert "\u202e" not in out
    assert "! yellow" in out
    assert "x red" in out
    assert f"{len(RUNS) + 2} deployments: " in out


def test_nothing_runs(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(inspected(folder)) == 0
    assert capsys.readouterr().out == "no containers run here\n"


@pytest.mark.parametrize(
    ("options", "code", "text"),
    [
        (["--inspect", "/nowhere"], 2, "cannot be read"),
        (["--podman", "/nowhere"], 3, "is not installed"),
        (["--images", "/nowhere"], 2, "cannot be read"),
        (["--cosign", "/nowhere"], 3, "is not installed"),
        (["--registry-login", "/nowhere"], 2, "cannot be read"),
    ],
)
def test_what_is_wrong_is_said(
    folder: Path, capsys: pytest.CaptureFixture[str], options: list[str], code: int, text: str
) -> None:
    given = [*inspected(folder, RUNS["green"]), *checked(folder)]
    if options[0] in {"--inspect", "--podman"}:
        given = ["workloads"]
    assert main([*given, *options]) == code
    assert text in capsys.readouterr().err


def test_a_file_that_is_none_of_podmans_is_refused(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "other.json").write_text("{}")
    assert main(["workloads", "--inspect", str(folder / "other.json")]) == 2
    assert "podman inspect --type container" in capsys.readouterr().err
