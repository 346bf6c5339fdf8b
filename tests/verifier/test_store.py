"""Bundles on disk: across restarts, full disks, and processes that are killed while they write."""

from __future__ import annotations

import errno
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import pytest

from fixtures import reference
from mrtd.errors import PolicyError
from mrtd.verifier.bundle import bundle_digest
from mrtd.verifier.github import GitHubLookup
from mrtd.verifier.store import BundleStore
from mrtd.verifier.verdict import Reason, Verdict
from tests.lab.world import LAUNCH, REVOCATIONS, World, claims_of

ROOT: Final = Path(__file__).parents[2]
BUNDLE: Final = b'{"bundle":1}'
DIGEST: Final = "d" * 64
# puts bundles until it is killed; says so after the first
WRITER: Final = """\
import sys
from pathlib import Path
from mrtd.verifier.store import BundleStore
store = BundleStore(Path(sys.argv[1]), 1000)
number = 0
while True:
    store.put(f"{number:064x}", number, b'{"x":"' + b"y" * 100_000 + b'"}')
    number += 1
    if number == 1:
        print("writing", flush=True)
"""
# a limit to the size of files is what a full disk looks like from inside
FULL: Final = """\
import resource, signal, sys
from pathlib import Path
from mrtd.verifier.store import BundleStore
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))
store = BundleStore(Path(sys.argv[1]), 10)
store.put("d" * 64, 1, b"x" * 1000)
print(store.failures, list(store.load()))
"""


@pytest.fixture(autouse=True)
def without_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Requests that failed are repeated at once."""
    defaults = GitHubLookup.__init__.__kwdefaults__
    assert defaults is not None
    monkeypatch.setitem(defaults, "sleep", lambda _: None)


def world_with(folder: Path, more: str = "") -> World:
    return World(f'[cache]\ndirectory = "{folder}"\nhard_seconds = 10000\n{more}')


def restarted(world: World) -> Verdict:
    """What a verifier says that has just been started."""
    return world.another().verify_claims(claims_of())


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_what_was_put_is_there_for_its_owner_only(tmp_path: Path) -> None:
    folder = tmp_path / "bundles"
    store = BundleStore(folder, 10)
    store.put(DIGEST, 7, BUNDLE)
    assert list(store.load()) == [BUNDLE]
    (path,) = folder.iterdir()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert store.failures == 0


def test_a_bundle_that_is_there_is_not_written_again(tmp_path: Path) -> None:
    store = BundleStore(tmp_path, 10)
    store.put(DIGEST, 7, BUNDLE)
    before = next(tmp_path.iterdir()).stat()
    store.put(DIGEST, 7, BUNDLE)
    (path,) = tmp_path.iterdir()
    assert (path.stat().st_ino, path.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert list(store.load()) == [BUNDLE]


def test_the_oldest_releases_go_first(tmp_path: Path) -> None:
    store = BundleStore(tmp_path, 2)
    for sequence in (10, 9, 2000, 1):
        store.put(f"{sequence:064x}", sequence, BUNDLE)
    assert [int(name.partition("-")[0]) for name in names(tmp_path)] == [10, 2000]


def test_what_is_no_bundle_of_ours_is_left_alone(tmp_path: Path) -> None:
    store = BundleStore(tmp_path / "store", 10)
    (tmp_path / "secret").write_bytes(b"secret")
    (tmp_path / "store" / "0-link.sigstore.json").symlink_to(tmp_path / "secret")
    with (tmp_path / "store" / "2-large.sigstore.json").open("wb") as large:
        large.truncate(5 << 20)
    (tmp_path / "store" / "notes.txt").write_text("mine")
    assert (list(store.load()), store.failures) == ([], 0)
    assert (tmp_path / "store" / "notes.txt").exists()


def test_what_cannot_be_read_is_counted_and_hides_nothing_else(tmp_path: Path) -> None:
    store = BundleStore(tmp_path, 10)
    (tmp_path / "0-folder.sigstore.json").mkdir()
    store.put(DIGEST, 7, BUNDLE)
    assert (list(store.load()), store.failures) == ([BUNDLE], 1)


@pytest.mark.parametrize("mode", [0o777, 0o720, 0o702])
def test_a_folder_that_others_may_write_to_is_refused(tmp_path: Path, mode: int) -> None:
    folder = tmp_path / "bundles"
    folder.mkdir()
    folder.chmod(mode)
    with pytest.raises(PolicyError, match="others may write"):
        BundleStore(folder, 10)


def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(PolicyError, match=r"cache\.directory"):
        BundleStore(tmp_path / "file" / "bundles", 10)


@pytest.mark.parametrize("failing", ["write", "fsync", "open", "replace"])
def test_a_full_disk_is_counted_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    store = BundleStore(tmp_path, 10)
    with monkeypatch.context() as broken:
        if failing == "write":
            broken.setattr("os.fdopen", full)
        elif failing == "replace":
            broken.setattr(Path, "replace", full)
        else:
            broken.setattr(os, failing, full)
        store.put(DIGEST, 1, BUNDLE)
    assert (store.failures, names(tmp_path)) == (1, [])
    store.put(DIGEST, 1, BUNDLE)
    assert list(store.load()) == [BUNDLE]


def test_a_disk_that_fills_up_in_the_middle_of_a_file(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FULL, str(tmp_path)],
        check=True, capture_output=True, text=True, timeout=60, cwd=ROOT,
    )  # fmt: skip
    assert (done.stdout, names(tmp_path)) == ("1 []\n", [])


def test_a_full_disk_changes_no_verdict(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    world = world_with(tmp_path)
    world.publish(reference.document())
    with monkeypatch.context() as broken:
        broken.setattr(os, "open", full)
        assert world.verifier.verify_claims(claims_of()).allowed
    world.times.pass_by(601)
    assert world.verifier.verify_claims(claims_of()).allowed
    (bundle,) = names(tmp_path)  # and is written as soon as there is room
    assert bundle.endswith(".sigstore.json")


def test_a_folder_that_vanishes_changes_no_verdict(tmp_path: Path) -> None:
    folder = tmp_path / "bundles"
    world = world_with(folder)
    world.publish(reference.document())
    folder.rmdir()
    assert world.verifier.verify_claims(claims_of()).allowed


def test_a_process_that_is_killed_while_it_writes(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE, cwd=ROOT
    ) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == b"writing\n"
        writer.send_signal(signal.SIGKILL)
    for number in range(3):  # what it may leave; whether it did depends on the moment
        (tmp_path / f".{number:016d}-{DIGEST}.sigstore.json.1.{number}.tmp").write_bytes(b'{"x')
    for path in tmp_path.glob(".*.tmp"):
        os.utime(path, (0, 0))
    store = BundleStore(tmp_path, 1000)
    found = list(store.load())
    assert found
    assert {len(bundle) for bundle in found} == {100_008}  # whole ones only
    assert list(tmp_path.glob(".*.tmp")) == []


def test_a_file_that_another_process_is_writing_is_left_to_it(tmp_path: Path) -> None:
    unfinished = tmp_path / f".{DIGEST}.sigstore.json.1.2.tmp"
    unfinished.write_bytes(b"{")
    BundleStore(tmp_path, 10)
    assert unfinished.exists()


def test_a_leftover_of_the_same_name_is_no_obstacle_for_long(tmp_path: Path) -> None:
    """In a container every process has the same number."""
    import threading

    store = BundleStore(tmp_path, 10)
    name = f"{1:016d}-{DIGEST}.sigstore.json"
    (tmp_path / f".{name}.{os.getpid()}.{threading.get_ident()}.tmp").write_bytes(b"{")
    store.put(DIGEST, 1, BUNDLE)
    store.put(DIGEST, 1, BUNDLE)
    assert names(tmp_path) == [name]


# --- what a restart knows


REVOKING: Final = reference.revoking(reference.revocation("launch", LAUNCH))


def full(*_: object, **__: object) -> int:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_after_a_restart_nobody_is_admitted_by_the_disk(tmp_path: Path) -> None:
    world = world_with(tmp_path)
    world.publish(reference.document())
    assert world.verifier.verify_claims(claims_of()).allowed
    assert list(tmp_path.iterdir())
    world.github.down = True
    verdict = restarted(world)
    assert (verdict.status, verdict.reason) == (503, Reason.LOOKUP_UNAVAILABLE)
    assert verdict.labels == ()
    world.github.down = False
    world.github.listed.clear()
    assert restarted(world).reason is Reason.NOT_ATTESTED


@pytest.mark.parametrize("kind", ["launch", "channel"])
def test_after_a_restart_one_list_alone_admits_nobody(tmp_path: Path, kind: str) -> None:
    world = world_with(tmp_path)
    world.publish(reference.document())
    assert world.verifier.verify_claims(claims_of()).allowed
    world.github.down_for = {LAUNCH if kind == "launch" else REVOCATIONS}
    assert restarted(world).reason is Reason.LOOKUP_UNAVAILABLE


def test_after_a_restart_a_revocation_is_still_known(tmp_path: Path) -> None:
    """Although the attestation of what it revokes is the only thing that GitHub still lists."""
    world = world_with(tmp_path)
    world.publish(reference.document())
    world.verifier.learn(world.mint(REVOKING))
    assert world.verifier.verify_claims(claims_of()).reason is Reason.REVOKED
    assert restarted(world).reason is Reason.REVOKED
    world.github.down = True
    assert restarted(world).reason is Reason.REVOKED


def test_a_file_that_cannot_be_read_at_the_start_lets_nobody_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That of a revocation: GitHub's list of them has to be read before anybody is admitted."""
    world = world_with(tmp_path)
    world.publish(reference.document())
    revoking = world.mint(REVOKING)
    world.github.add(revoking, REVOCATIONS)
    assert world.verifier.verify_claims(claims_of()).reason is Reason.REVOKED
    read = Path.read_bytes

    def worn(path: Path) -> bytes:
        found = read(path)
        if bundle_digest(found) == bundle_digest(revoking):
            raise OSError(errno.EIO, "Input/output error")
        return found

    monkeypatch.setattr(Path, "read_bytes", worn)
    world.github.down = True
    verifier = world.another()
    assert verifier.verify_claims(claims_of()).reason is Reason.LOOKUP_UNAVAILABLE
    assert verifier.attestations.store_failures == 1
    world.github.down = False
    assert restarted(world).reason is Reason.REVOKED


def test_a_disk_that_was_full_when_the_revocation_came_lets_nobody_in_after_a_restart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = world_with(tmp_path)
    world.publish(reference.document())
    assert world.verifier.verify_claims(claims_of()).allowed
    before = names(tmp_path)
    world.github.add(world.mint(REVOKING), REVOCATIONS)
    world.times.pass_by(601)
    with monkeypatch.context() as broken:
        broken.setattr(os, "open", full)
        assert world.verifier.verify_claims(claims_of()).reason is Reason.REVOKED
    assert names(tmp_path) == before
    assert world.verifier.attestations.store_failures
    world.github.down = True
    assert restarted(world).reason is Reason.LOOKUP_UNAVAILABLE
    world.github.down = False
    assert restarted(world).reason is Reason.REVOKED


@pytest.mark.parametrize("mode", ["off", "required"])
def test_what_agents_present_teaches_across_restarts(tmp_path: Path, mode: str) -> None:
    world = world_with(tmp_path, f'[lookup]\ngithub = "{mode}"\n')
    old, revoking = world.publish(reference.document()), world.mint(REVOKING)

    def asked(*bundles: bytes) -> Reason | None:
        return world.another().verify_claims(claims_of(), bundles=bundles).reason

    assert asked(old) is None
    assert asked(old, revoking) is Reason.REVOKED
    assert asked(old) is Reason.REVOKED
    assert len(names(tmp_path)) == 2


def test_what_the_control_plane_was_told_of_admits_nobody_after_a_restart(tmp_path: Path) -> None:
    """Being told of a release is not the same as GitHub's listing it."""
    world = world_with(tmp_path)
    told = world.verifier.learn(world.mint(reference.document()))
    assert all(check.ok for check in told)
    assert len(names(tmp_path)) == 1
    world.github.down = True
    assert world.verifier.verify_claims(claims_of()).status == 503
    assert restarted(world).status == 503
    world.github.down = False
    assert restarted(world).reason is Reason.NOT_ATTESTED


@pytest.mark.parametrize(
    "spoil",
    [
        lambda _: b"",
        lambda data: data[:-1],
        lambda data: data.replace(b"sig", b"gis"),
        bytes.upper,
    ],
    ids=["empty", "cut short", "altered", "of the same size"],
)
def test_a_spoiled_file_teaches_nothing_and_spoils_nothing(tmp_path: Path, spoil: Any) -> None:
    world = world_with(tmp_path)
    world.publish(reference.document())
    revoking = world.mint(REVOKING)
    world.verifier.learn(revoking)
    (path,) = tmp_path.glob("*.sigstore.json")
    assert path.read_bytes() == revoking
    path.write_bytes(spoil(revoking))
    assert restarted(world).allowed
    verifier = world.another()
    verifier.learn(revoking)
    assert verifier.verify_claims(claims_of()).reason is Reason.REVOKED
    if len(spoil(revoking)) != len(revoking):  # a crash leaves a shorter file: mended
        assert path.read_bytes() == revoking
