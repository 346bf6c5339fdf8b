"""``mrtd serve``: settings, what it says, and how it ends."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.processes import wait_for
from tests.service.processes import PATIENCE, ROOT, UnixConnection, environment, serve

IDS = {"DD_TRUSTED_REPO_ID": "1", "DD_TRUSTED_OWNER_ID": "2"}


def failed(*arguments: str, **changes: str) -> tuple[int, str]:
    """Exit code and standard error of a start that comes to nothing."""
    done = subprocess.run(
        [sys.executable, "-m", "mrtd.cli.main", "serve", *arguments],
        check=False,
        cwd=ROOT,
        env=environment(**changes),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert "Traceback" not in done.stderr
    assert "listening" not in done.stdout
    return done.returncode, done.stderr


def test_it_says_where_it_listens_and_by_what_policy(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    path = tmp_path / "mrtd.sock"
    with serve("--socket", str(path), path=path) as running:
        assert running.said.startswith(f"mrtd: listening on unix:{path}; policy sha256:")
        assert "mode enforce" in running.said
        assert "WARNING" not in running.said
        assert running.ask("GET", "/healthz").json["ok"] is True
        assert running.ask("GET", "/openapi.json").json["info"]["title"] == "mrtd sidecar"
        assert running.ask("GET", "/register/nonce").status == 404
        code, log = running.stop()
    assert (code, [line["level"] for line in log]) == (0, ["info"] * 5)
    assert (log[0]["event"], log[0]["mode"]) == ("started", "enforce")
    assert f"policy sha256:{log[0]['policy']}, " in running.said
    assert list(tmp_path.iterdir()) == []


def test_it_warns_loudly(tmp_path: Path) -> None:
    policy = tmp_path / "policy.toml"
    policy.write_text('mode = "observe"')
    command = ("--listen", "127.0.0.1:0", "--binding", "none", "--policy", str(policy))
    with serve(*command, "--reference-cp", DD_OWNER="dd", DD_ENV="test") as running:
        assert "; WARNING: OBSERVE MODE: " in running.said
        assert "; WARNING: BINDING NONE: " in running.said
        assert "mode observe" in running.said
        assert running.ask("GET", "/register/nonce").status == 200
        assert running.ask("POST", "/v1/nonce").status == 404
        code, log = running.stop()
    assert code == 0
    warnings = [line["detail"] for line in log if line["level"] == "warning"]
    assert [text.partition(":")[0] for text in warnings] == ["OBSERVE MODE", "BINDING NONE"]


def test_it_says_the_same_to_programs() -> None:
    with serve("--listen", "127.0.0.1:0", "--json") as running:
        said = json.loads(running.said)
        assert said["listening"] == f"http://127.0.0.1:{running.port}"
        assert (said["mode"], said["binding"], said["warnings"]) == ("enforce", "required", [])
        assert running.stop()[0] == 0


@pytest.mark.parametrize(
    ("arguments", "changes", "words"),
    [
        ([], {}, ["repository_id and owner_id not set", "gh api repos/"]),
        ([], {"DD_TRUSTED_REPO_ID": "1"}, ["owner_id not set", "gh api repos/"]),
        ([], IDS | {"DD_TRUSTED_REPOS": "x"}, ["DD_TRUSTED_REPOS", "is no setting"]),
        ([], IDS | {"DD_TRUSTED_ROOT": "missing"}, ["missing", "cannot be read"]),
        ([], IDS | {"DD_TRUSTED_POLICY": "missing"}, ["missing", "cannot be read"]),
        (["--policy", "missing"], IDS, ["missing", "cannot be read"]),
        (["--policy", "/dev/zero"], IDS, ["/dev/zero", "more than 1048576 bytes"]),
        (["--listen", "0.0.0.0:0"], IDS, ["others can reach", "--allow-remote"]),
        (["--listen", "localhost:0"], IDS, ["is no address", "127.0.0.1:8081"]),
        (["--socket", "/nowhere/s"], IDS, ["no such folder"]),
        (["--max-in-flight", "0"], IDS, ["is not from 1 to 10000"]),
        (["--binding", "maybe"], IDS, ["invalid choice"]),
    ],
)
def test_a_wrong_setting_ends_it_at_once(
    arguments: list[str], changes: dict[str, str], words: list[str]
) -> None:
    code, said = failed(*(arguments or ["--listen", "127.0.0.1:0"]), **changes)
    assert code == 2
    for word in words:
        assert word in said


def test_it_serves_although_nobody_reads_what_it_says(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    path = tmp_path / "s"
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "mrtd.cli.main", "serve", "--socket", str(path)]
    process = subprocess.Popen(
        command, cwd=ROOT, env=environment(**IDS), stdout=writer, stderr=subprocess.DEVNULL
    )
    os.close(writer)

    def lives() -> bool:
        assert process.poll() is None
        connection = UnixConnection(path)
        try:
            connection.request("GET", "/healthz")
            return connection.getresponse().read().startswith(b'{"ok":true')
        except OSError:
            return False
        finally:
            connection.close()

    with process:
        try:
            wait_for(lives)
            process.terminate()
            assert process.wait(PATIENCE) == 0
        finally:
            process.kill()


def test_a_token_is_for_github_only() -> None:
    secret = "ghp_secret"  # noqa: S105 - it opens nothing
    with serve("--listen", "127.0.0.1:0", DD_GITHUB_TOKEN=secret) as running:
        for path in ("/healthz", "/readyz", "/metrics", "/openapi.json"):
            assert secret.encode() not in running.ask("GET", path).body
        code, log = running.stop()
    assert code == 0
    assert secret not in json.dumps(log) + running.said


def test_the_help_teaches() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "mrtd.cli.main", "serve", "--help"],
        check=True,
        cwd=ROOT,
        env=environment(),
        stdout=subprocess.PIPE,
        text=True,
        timeout=PATIENCE,
    )
    for word in ("DD_TRUSTED_REPO_ID", "DD_GITHUB_TOKEN", "curl --unix-socket", "exit codes"):
        assert word in done.stdout


@pytest.mark.parametrize("name", ["starlette", "uvicorn", "jwt", "sigstore.verify"])
def test_a_missing_library_is_missed_at_once(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from mrtd.cli.main import main

    monkeypatch.setitem(sys.modules, name, None)
    assert main(["serve", "--listen", "127.0.0.1:0"]) == 3


def test_what_is_heavy_is_imported_when_it_serves() -> None:
    script = (
        "import sys, mrtd.cli.main, mrtd.cli.serve\n"
        "assert not {'starlette', 'uvicorn', 'sigstore', 'msgspec', 'jwt'} & {*sys.modules}"
    )
    subprocess.run([sys.executable, "-c", script], check=True, cwd=ROOT, timeout=PATIENCE)


@pytest.mark.parametrize(
    "options",
    [("--images", "images.toml"), ("--fleet-network", "10.0.0.0/8"), ("--cosign", "/bin/true")],
)
def test_a_sidecar_has_no_fleet(options: tuple[str, str]) -> None:
    code, said = failed("--listen", "127.0.0.1:0", *options)
    assert code == 2
    assert f"{options[0]}: is for the fleet" in said


def test_a_cosign_that_would_be_asked_nothing_is_refused() -> None:
    code, said = failed("--listen", "127.0.0.1:0", "--reference-cp", "--cosign", "/bin/true")
    assert code == 2
    assert "does nothing without --images" in said


def test_a_network_is_a_network() -> None:
    code, said = failed("--reference-cp", "--fleet-network", "10.0.0.1/8")
    assert code == 2
    assert "is no network" in said


def test_an_images_toml_that_cannot_be_used_ends_the_start(tmp_path: Path) -> None:
    (tmp_path / "images.toml").write_text("schema = 1")
    images = str(tmp_path / "images.toml")
    code, said = failed("--listen", "127.0.0.1:0", "--reference-cp", "--images", images, **IDS)
    assert code == 2
    assert images in said


def test_a_control_plane_shows_its_fleet() -> None:
    with serve("--listen", "127.0.0.1:0", "--reference-cp", DD_OWNER="dd", DD_ENV="lab") as running:
        page = running.ask("GET", "/")
        assert page.status == 200
        assert "No agent has registered yet" in page.body.decode()
        assert "dd / lab" in page.body.decode()
        code, _ = running.stop()
    assert code == 0
