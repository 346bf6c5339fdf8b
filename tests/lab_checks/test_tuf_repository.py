"""The lab's TUF repository, seen by sigstore-python's client."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
from sigstore.errors import TUFError
from sigstore.models import ClientTrustConfig
from sigstore.verify import Verifier

from tests.lab.identity import GitHubIdentity
from tests.lab.instance import Instance
from tests.lab.trusted_root import Window, Windows
from tests.lab.tuf_repository import TRUSTED_ROOT, TufRepository
from tests.lab_checks.conftest import AT, STATEMENT, strong, verify

RELEASE = GitHubIdentity.release()
PAST = datetime(2021, 1, 1, tzinfo=UTC)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """sigstore-python keeps metadata and targets below the user's home."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def repository(lab: Instance) -> TufRepository:
    return TufRepository.of(lab)


def fetch(repository: TufRepository, url: str, tmp_path: Path) -> ClientTrustConfig:
    bootstrap = tmp_path / "root.json"
    bootstrap.write_bytes(repository.root(1))
    return ClientTrustConfig.from_tuf(url, bootstrap_root=bootstrap)


def test_clients_get_the_trusted_root(
    repository: TufRepository, lab: Instance, tmp_path: Path
) -> None:
    with repository.serve() as url:
        config = fetch(repository, url, tmp_path)
    verifier = Verifier(trusted_root=config.trusted_root)
    bundle = lab.mint(STATEMENT, RELEASE, at=AT)
    assert verify(verifier, bundle, strong(RELEASE)) == STATEMENT
    assert config.signing_config.get_oidc_url() == RELEASE.issuer
    assert repository.requests[:2] == ["2.root.json", "timestamp.json"]
    in_one = ClientTrustConfig.from_json(lab.client_trust_config_json().decode())
    assert in_one._inner == config._inner


def test_clients_follow_new_versions_and_new_root_keys(
    repository: TufRepository, lab: Instance, tmp_path: Path
) -> None:
    with repository.serve() as url:
        fetch(repository, url, tmp_path)
        repository.rotate_root()
        repository.publish(lab, Windows(rekor_v1=Window(end=PAST)))
        config = fetch(repository, url, tmp_path)
    windows = [log.public_key.valid_for for log in config.trusted_root._inner.tlogs]
    assert [window and window.end for window in windows] == [PAST, None]


def test_a_root_that_the_old_key_did_not_sign_is_refused(
    repository: TufRepository, tmp_path: Path
) -> None:
    repository.rotate_root(signed_by_old=False)
    with repository.serve() as url, pytest.raises(TUFError):
        fetch(repository, url, tmp_path)


def test_an_expired_repository_is_refused(repository: TufRepository, tmp_path: Path) -> None:
    repository.publish_targets({}, expires=PAST)
    with repository.serve() as url, pytest.raises(TUFError):
        fetch(repository, url, tmp_path)


def test_an_older_version_is_refused(
    repository: TufRepository, lab: Instance, tmp_path: Path
) -> None:
    with repository.serve() as url:
        repository.publish(lab)
        fetch(repository, url, tmp_path)
        repository.publish_targets({}, version=1)
        with pytest.raises(TUFError):
            fetch(repository, url, tmp_path)


def test_an_altered_target_is_refused(repository: TufRepository, tmp_path: Path) -> None:
    (path,) = (path for path in repository.files if path.endswith(f".{TRUSTED_ROOT}"))
    repository.files[path] = repository.files[path].replace(b"2020", b"2019")
    with repository.serve() as url, pytest.raises(TUFError):
        fetch(repository, url, tmp_path)
