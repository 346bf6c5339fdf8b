"""``mrtd trust``: shown from files, fetched from a TUF repository on this machine."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import pytest

from mrtd.cli import trust
from mrtd.cli.main import main
from mrtd.errors import TrustRootError
from mrtd.verifier.trust_root import KNOWN, load_trust_root
from tests.lab.identity import OWNER_ID, REPOSITORY_ID
from tests.lab.instance import Instance, default_instance
from tests.lab.trusted_root import Window, Windows
from tests.lab.tuf_repository import TRUSTED_ROOT, TufRepository

PAST: Final = datetime(2021, 1, 1, tzinfo=UTC)
WRITTEN: Final = datetime(2026, 6, 1, tzinfo=UTC)
ENDED: Final = Windows(rekor_v1=Window(end=datetime(2025, 1, 1, tzinfo=UTC)))


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A home in which sigstore would believe a lie, and which has to stay as it is."""
    place = tmp_path / "home"
    cache = place / "cache" / "sigstore-python" / "tuf"
    cache.mkdir(parents=True)
    (cache / "trusted_root.json").write_text("{}", encoding="ascii")
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    for name in ("DD_TRUSTED_ROOT", "DD_TRUSTED_POLICY", "XDG_DATA_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(place))
    monkeypatch.setenv("XDG_CACHE_HOME", str(place / "cache"))
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    yield place
    assert [str(p.relative_to(cache)) for p in cache.rglob("*")] == ["trusted_root.json"]
    assert {p.name for p in place.iterdir()} == {"cache"}
    assert list(temporary.iterdir()) == []
    assert os.environ["HOME"] == str(place)
    assert "XDG_DATA_HOME" not in os.environ


@pytest.fixture
def repository() -> TufRepository:
    return TufRepository.of(default_instance())


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "trusted_root.json"


def write(path: Path, windows: Windows | None = None, *, at: datetime = WRITTEN) -> Path:
    path.write_bytes(default_instance().trusted_root_json(windows))
    os.utime(path, (at.timestamp(), at.timestamp()))
    return path


def refresh(repository: TufRepository, url: str, output: Path, *more: str) -> int:
    bootstrap = output.with_name("root.json")
    bootstrap.write_bytes(repository.root(1))
    words = ["--output", str(output), "--url", url, "--root", str(bootstrap), *more]
    return main(["trust", "refresh", *words])


def test_show_says_what_is_trusted_and_how_old_it_is(
    output: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(output, ENDED)
    now = (WRITTEN + timedelta(days=5)).isoformat()
    assert main(["trust", "show", "--file", str(output), "--now", now]) == 0
    out = capsys.readouterr().out
    assert f"source  {output}\n" in out
    assert "dated   2026-06-01, 5 days ago (limit: 180)" in out
    assert "2025-01-01" in out
    assert default_instance().rekor_v1.log_id.hex()[:32] in out
    lines = out.splitlines()[4:]
    assert max(len(line) for line in lines) <= 80
    assert {line.split("  ")[0] for line in lines} >= {"log", "CT log", "CA", "TSA"}


@pytest.mark.parametrize(("days", "code"), [(180, 0), (181, 1), (-1, 0), (-2, 1)])
def test_a_root_that_is_too_old_or_of_the_future_is_an_alarm(
    output: Path, days: int, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    write(output)
    now = (WRITTEN + timedelta(days=days)).isoformat()
    assert main(["trust", "show", "--file", str(output), "--now", now]) == code
    said = capsys.readouterr()
    assert ("ALARM" in said.out) == bool(code)
    assert ("mrtd trust refresh" in said.err) == bool(code)


def test_the_policy_says_which_file_and_which_age(
    output: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(output)
    policy = tmp_path / "policy.toml"
    policy.write_text(
        f"[identity]\nrepository_id = '{REPOSITORY_ID}'\nowner_id = '{OWNER_ID}'\n"
        f"[trust_root]\nfile = '{output}'\nmaximum_age_days = 3\n",
        encoding="utf-8",
    )
    now = (WRITTEN + timedelta(days=4)).isoformat()
    assert main(["trust", "show", "--policy", str(policy), "--now", now, "--json"]) == 1
    shown = json.loads(capsys.readouterr().out)
    assert (shown["source"], shown["age_days"], shown["maximum_age_days"]) == (str(output), 4, 3)
    assert "4 days old, the limit is 3" in shown["alarm"]
    assert {(key["kind"], key["in_use"]) for key in shown["keys"]} == {
        (kind, True) for kind in ("log", "CT log", "CA", "TSA")
    }


def test_the_rest_of_the_policy_does_not_matter(
    output: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It need not even name a repository."""
    write(output)
    policy = tmp_path / "policy.toml"
    policy.write_text(f"[trust_root]\nfile = '{output}'\nmaximum_age_days = 3\n")
    words = ["trust", "show", "--policy", str(policy), "--now", WRITTEN.isoformat(), "--json"]
    assert main(words) == 0
    shown = json.loads(capsys.readouterr().out)
    assert (shown["source"], shown["maximum_age_days"]) == (str(output), 3)


@pytest.mark.parametrize(
    "text", ["[", "trust_root = 3", "[trust_root]\nfiel = 'x'", "[trust_root]\nfile = 3",
             "[trust_root]\nfile = ''"],
)  # fmt: skip
def test_a_policy_that_cannot_be_read_is_bad_input(
    tmp_path: Path, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    policy = tmp_path / "policy.toml"
    policy.write_text(text)
    assert main(["trust", "show", "--policy", str(policy)]) == 2
    assert "policy.toml: trust_root: " in capsys.readouterr().err


def test_without_sigstore_nothing_is_known(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    assert main(["trust", "show"]) == 3
    assert "pip install './mrtd[verifier]'" in capsys.readouterr().err


def test_without_a_file_it_is_the_one_in_the_sigstore_package(
    capsys: pytest.CaptureFixture[str],
) -> None:
    (dated,) = KNOWN.values()
    assert main(["trust", "show", "--now", dated.isoformat(), "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert (shown["source"], shown["age_days"], shown["alarm"]) == ("sigstore package", 0, None)
    assert "https://log2025-1.rekor.sigstore.dev" in [key["name"] for key in shown["keys"]]


@pytest.mark.parametrize("content", [b"", b"{}", b"[" * 10000, b"\xff"])
def test_what_is_no_root_is_bad_input(
    output: Path, content: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    output.write_bytes(content)
    assert main(["trust", "show", "--file", str(output)]) == 2
    assert "is no trusted root" in capsys.readouterr().err


def test_a_root_without_an_end_is_not_read_to_its_end() -> None:
    with pytest.raises(TrustRootError, match="more than"):
        load_trust_root(Path("/dev/zero"))


def test_times_without_a_zone_are_refused(output: Path) -> None:
    tree = default_instance().trusted_root()
    tree["timestampAuthorities"][0]["validFor"]["start"] = "2025-01-01T00:00:00"
    output.write_text(json.dumps(tree), encoding="utf-8")
    assert main(["trust", "show", "--file", str(output)]) == 2
    with pytest.raises(SystemExit) as end:
        main(["trust", "show", "--now", "2026-01-01T00:00:00"])
    assert end.value.code == 2


def test_refresh_fetches_what_the_repository_signed(
    repository: TufRepository, output: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with repository.serve() as url:
        assert refresh(repository, url, output) == 0
    assert output.read_bytes() == default_instance().trusted_root_json()
    assert load_trust_root(output).logs
    assert "nothing to compare with" in capsys.readouterr().out


def test_refresh_says_what_changed(
    repository: TufRepository, output: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(output, Windows(rekor_v2=None, timestamp_authority=Window(start=PAST)))
    repository.publish(default_instance(), ENDED)
    with repository.serve() as url:
        assert refresh(repository, url, output, "--json") == 0
        said = json.loads(capsys.readouterr().out)
        assert said["compared_with"] == str(output)
        kinds = [line.partition("(")[0].split("https")[0] for line in said["changes"]]
        assert sorted(kinds) == ["changed: TSA ", "changed: log ", "new: log "]
        assert "to 2025-01-01; it was" in "".join(said["changes"])
        assert refresh(repository, url, output) == 0
    assert "nothing changed" in capsys.readouterr().out
    assert output.stat().st_mtime > WRITTEN.timestamp()  # so it is as old as this refresh


def test_a_key_that_is_gone_is_said(
    repository: TufRepository, output: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(output)
    repository.publish(default_instance(), Windows(rekor_v2=None))
    with repository.serve() as url:
        assert refresh(repository, url, output) == 0
    assert "gone: log" in capsys.readouterr().out


def test_a_withdrawn_key_does_not_come_back(
    repository: TufRepository, output: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """An older root, which a repository that forgot its newer one may sign."""
    write(output, ENDED)
    before = output.read_bytes()
    with repository.serve() as url:
        assert refresh(repository, url, output) == 1
    assert "was withdrawn, and is in use again" in capsys.readouterr().err
    assert output.read_bytes() == before


def _expired(repository: TufRepository) -> None:
    repository.publish_targets({}, expires=PAST)


def _root_expired(repository: TufRepository) -> None:
    repository.rotate_root(expires=PAST)


def _rolled_back(repository: TufRepository) -> None:
    """The timestamp names version 2, whose snapshot is answered with version 1."""
    repository.publish(default_instance())
    repository.files["2.snapshot.json"] = repository.files["1.snapshot.json"]


def _old_targets(repository: TufRepository) -> None:
    repository.publish(default_instance())
    repository.files["2.targets.json"] = repository.files["1.targets.json"]


def _wrong_key(repository: TufRepository) -> None:
    stranger = TufRepository("another seed")
    stranger.publish(default_instance())
    for name in ("timestamp.json", "1.snapshot.json", "1.targets.json"):
        repository.files[name] = stranger.files[name]


def _wrong_root_key(repository: TufRepository) -> None:
    repository.rotate_root(signed_by_old=False)


def _altered(repository: TufRepository) -> None:
    (path,) = (name for name in repository.files if name.endswith(f".{TRUSTED_ROOT}"))
    repository.files[path] = repository.files[path].replace(b"2020", b"2019")


def _no_root(repository: TufRepository) -> None:
    repository.publish_targets({"other": b"{}"})


def _garbage(repository: TufRepository) -> None:
    repository.publish_targets({TRUSTED_ROOT: b"no JSON", "signing_config.v0.2.json": b"{}"})


def _garbage_metadata(repository: TufRepository) -> None:
    repository.files["timestamp.json"] = b"\xff{"


FLAWS: Final = [
    _expired, _root_expired, _rolled_back, _old_targets, _wrong_key, _wrong_root_key, _altered,
    _no_root, _garbage, _garbage_metadata,
]  # fmt: skip


@pytest.mark.parametrize("flaw", FLAWS)
def test_a_repository_that_is_not_as_it_should_be_changes_nothing(
    repository: TufRepository, output: Path, flaw: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    flaw(repository)
    write(output)
    before = output.read_bytes()
    with repository.serve() as url:
        assert refresh(repository, url, output) == 3
    said = capsys.readouterr()
    assert "no trusted root" in said.err
    assert said.out == ""
    assert output.read_bytes() == before
    assert output.stat().st_mtime == WRITTEN.timestamp()


def test_the_bootstrap_root_decides(repository: TufRepository, output: Path) -> None:
    stranger = TufRepository("a stranger")
    with repository.serve() as url:
        assert refresh(stranger, url, output) == 3
    assert not output.exists()


def test_an_unreachable_repository_is_not_known(
    repository: TufRepository, output: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.socket() as taken:  # bound, and nobody listens
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        assert refresh(repository, url, output, "--json") == 3
    error = json.loads(capsys.readouterr().out)["error"]
    assert error["type"] == "TransportError"
    assert "nothing was written" in error["hint"]
    assert not error["message"].rstrip().endswith(":")
    assert not output.exists()


def test_an_error_without_words_gets_some(
    repository: TufRepository,
    output: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from sigstore.models import ClientTrustConfig
    from tuf.api.exceptions import SlowRetrievalError

    def slow(*_: object, **__: object) -> None:
        raise SlowRetrievalError

    monkeypatch.setattr(ClientTrustConfig, "from_tuf", slow)
    assert refresh(repository, "http://127.0.0.1:9", output) == 3
    assert "SlowRetrievalError: could not be reached\n" in capsys.readouterr().err


def test_a_file_that_is_no_root_is_not_overwritten(repository: TufRepository, output: Path) -> None:
    output.write_text("my only copy", encoding="ascii")
    with repository.serve() as url:
        assert refresh(repository, url, output) == 2
    assert output.read_text(encoding="ascii") == "my only copy"
    assert repository.requests == []


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["--url", "http://127.0.0.1:9"], "is needed for this URL"),
        (["--root", "root.json"], "is for another repository"),
        (["--url", f"{trust.PRODUCTION}/", "--root", "root.json"], "is for another repository"),
        (["--url", "http://tuf.example", "--root", "root.json"], "neither https nor http"),
        (["--url", "file:///etc", "--root", "root.json"], "neither https nor http"),
        (["--url", "http://127.0.0.1:9", "--root", "none.json"], "none.json"),
    ],
)
def test_wrong_usage(
    output: Path, words: list[str], why: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["trust", "refresh", "--output", str(output), *words]) == 2
    assert why in capsys.readouterr().err
    assert not output.exists()


def test_production_is_compared_with_the_package(
    output: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A root of another instance, as if Sigstore had replaced everything."""
    raw = Instance("another").trusted_root_json()
    monkeypatch.setattr(trust, "_fetch", lambda url, root: raw if root is None else url)
    assert main(["trust", "refresh", "--output", str(output)]) == 0
    out = capsys.readouterr().out
    assert "compared with sigstore package" in out
    assert "gone: log https://rekor.sigstore.dev (c0d23d6ad406973f)" in out
    assert output.read_bytes() == raw


@pytest.mark.parametrize("words", [["trust"], ["trust", "show"], ["trust", "refresh"]])
def test_help(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main([*words, "--help"])
    assert end.value.code == 0
    assert capsys.readouterr().out
