"""cosign's opinion: the real program on real bundles, and programs that are none."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mrtd.reference import PREDICATE_TYPE
from release.second_opinion import Outcome, SecondOpinion, ask_cosign, find_cosign
from tests.conftest import DebianParts
from tests.lab.identity import ISSUER, GitHubIdentity
from tests.lab.instance import Instance, default_instance
from tests.lab.signing_server import SigningServer
from tests.processes import gone
from tests.release.signing import Pauses, sign

SAN = GitHubIdentity.release().san
HELP = "--bundle --trusted-root --certificate-identity --certificate-oidc-issuer --type "


@pytest.fixture
def bundle(server: SigningServer, payload: bytes, pauses: Pauses) -> Callable[[int], bytes]:
    return lambda rekor: sign(server, payload, pauses, rekor=rekor).bundle


def subjects_of(payload: bytes) -> list[str]:
    return [subject["digest"]["sha256"] for subject in json.loads(payload)["subject"]]


def ask(bundle: bytes, subjects: list[str], cosign: Path, **changes: Any) -> SecondOpinion:
    arguments: dict[str, Any] = {
        "trusted_root": default_instance().trusted_root_json(),
        "identity": SAN,
        "issuer": ISSUER,
        "predicate_type": PREDICATE_TYPE,
        "digests": subjects,
        "cosign": cosign,
    }
    return ask_cosign(bundle, **arguments | changes)


@pytest.mark.parametrize("rekor", [1, 2])
def test_cosign_agrees(
    debian: DebianParts, bundle: Callable[[int], bytes], payload: bytes, rekor: int
) -> None:
    digests = subjects_of(payload)
    assert len(digests) > 1
    opinion = ask(bundle(rekor), [*digests, digests[0]], debian.cosign)
    assert opinion.outcome is Outcome.AGREES, opinion.detail
    assert opinion.confirmed == tuple(digests)
    assert opinion.program == debian.cosign
    assert len(opinion.program_sha256 or "") == 64


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"predicate_type": "https://slsa.dev/provenance/v1"}, "predicate"),
        ({"digests": ["0" * 64]}, "digest"),
        ({"identity": SAN.replace("main", "other")}, "expected SAN value"),
        ({"issuer": f"{ISSUER}/other"}, "expected issuer value"),
        ({"identity": "--insecure-ignore-tlog=true"}, "expected SAN value"),
        ({"trusted_root": Instance("another").trusted_root_json()}, ""),
    ],
)
@pytest.mark.parametrize("rekor", [1, 2])
def test_cosign_disagrees(
    *,
    debian: DebianParts,
    bundle: Callable[[int], bytes],
    payload: bytes,
    rekor: int,
    changes: dict[str, Any],
    message: str,
) -> None:
    opinion = ask(bundle(rekor), subjects_of(payload), debian.cosign, **changes)
    assert opinion.outcome is Outcome.DISAGREES
    assert message in opinion.detail
    assert opinion.confirmed == ()


def test_cosign_disagrees_with_an_altered_payload(
    debian: DebianParts, bundle: Callable[[int], bytes], payload: bytes
) -> None:
    tree = json.loads(bundle(1))
    text = tree["dsseEnvelope"]["payload"]
    tree["dsseEnvelope"]["payload"] = text[:-8] + "AAAA" + text[-4:]
    opinion = ask(json.dumps(tree).encode(), subjects_of(payload), debian.cosign)
    assert opinion.outcome is Outcome.DISAGREES


def test_environment_does_not_change_whom_cosign_trusts(
    debian: DebianParts,
    bundle: Callable[[int], bytes],
    payload: bytes,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    nonsense = tmp_path / "nonsense"
    nonsense.write_bytes(b"nonsense")
    for name in ("SIGSTORE_ROOT_FILE", "SIGSTORE_REKOR_PUBLIC_KEY", "TUF_ROOT_JSON", "HOME"):
        monkeypatch.setenv(name, str(nonsense))
    assert ask(bundle(1), subjects_of(payload), debian.cosign).outcome is Outcome.AGREES


def program(folder: Path, verify: str, *, options: str = HELP + "--digest --digestAlg") -> Path:
    """A program that pretends to be cosign; ``verify`` is what it does when it is to verify."""
    path = folder / "cosign"
    text = f'#!/bin/sh\nif [ "$2" = --help ]; then echo "{options}"; exit 0; fi\n{verify}\n'
    path.write_text(text, encoding="utf-8")
    path.chmod(0o755)
    return path


def opinion_of(path: Path, **changes: Any) -> SecondOpinion:
    return ask(b"{}", ["a" * 64], path, **changes)


@pytest.mark.parametrize(
    ("verify", "outcome", "detail"),
    [
        ("echo Verified OK >&2", Outcome.AGREES, "Verified OK"),
        ("exit 0", Outcome.NOT_CHECKED, "exit status 0"),
        ("echo panic; exit 2", Outcome.NOT_CHECKED, "exit status 2: panic"),
        ("kill -SEGV $$", Outcome.NOT_CHECKED, "exit status -11"),
        ("echo 'Error: no'; exit 1", Outcome.DISAGREES, "exit status 1: Error: no"),
        ("echo Verified OK; exit 1", Outcome.DISAGREES, "exit status 1"),
        ("printf '\\033[2J\\n'; exit 1", Outcome.DISAGREES, "?[2J"),
    ],
)
def test_exit_status(tmp_path: Path, verify: str, outcome: Outcome, detail: str) -> None:
    opinion = opinion_of(program(tmp_path, verify))
    assert opinion.outcome is outcome
    assert detail in opinion.detail


def test_too_old(tmp_path: Path) -> None:
    opinion = opinion_of(program(tmp_path, "echo Verified OK", options=HELP))
    assert opinion.outcome is Outcome.NOT_CHECKED
    assert "has no --digest, --digestAlg" in opinion.detail


def test_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_cosign() is None
    for path in (tmp_path / "none", tmp_path):
        opinion = opinion_of(path)
        assert opinion.outcome is Outcome.NOT_CHECKED
        assert "is not installed" in opinion.detail
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.defpath}")
    assert find_cosign() is None or shutil.which("cosign")
    made = program(tmp_path, "exit 1")
    assert find_cosign() == made


def test_no_program_at_all(tmp_path: Path) -> None:
    path = program(tmp_path, "")
    path.write_bytes(b"\x7fELF nonsense")
    opinion = opinion_of(path)
    assert opinion.outcome is Outcome.NOT_CHECKED


@pytest.mark.parametrize("digests", [[], ["x"], ["A" * 64], ["a" * 63]])
def test_no_digests(tmp_path: Path, digests: list[str]) -> None:
    opinion = opinion_of(program(tmp_path, "echo Verified OK"), digests=digests)
    assert opinion.outcome is Outcome.NOT_CHECKED


def test_hanging_program_and_its_children_end(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    path = program(tmp_path, f"sleep 1000 & echo $! $$ >{pids}; wait")
    opinion = opinion_of(path, seconds=1)
    assert opinion.outcome is Outcome.NOT_CHECKED
    assert "in time" in opinion.detail
    assert all(gone(int(pid)) for pid in pids.read_text(encoding="ascii").split())


def test_program_that_hangs_at_once(tmp_path: Path) -> None:
    path = program(tmp_path, "")
    path.write_text("#!/bin/sh\nexec sleep 1000\n", encoding="ascii")
    assert "did not answer --help" in opinion_of(path, seconds=0.3).detail


def test_environment_and_arguments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = tmp_path / "seen"
    secrets = ("ACTIONS_ID_TOKEN_REQUEST_TOKEN", "GITHUB_TOKEN", "SIGSTORE_ID_TOKEN", "TUF_MIRROR")
    for name in (*secrets, "COSIGN_REPOSITORY"):
        monkeypatch.setenv(name, "unmistakable")
    path = program(tmp_path, f'env >{seen}; echo "$@" >>{seen}; echo Verified OK')
    opinion_of(path)
    text = seen.read_text(encoding="utf-8")
    assert "unmistakable" not in text
    assert f"--certificate-identity={SAN} " in text
    assert text.splitlines()[-1].startswith("verify-blob-attestation --bundle=bundle.json ")
