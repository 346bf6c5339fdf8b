"""The cache of parts: whole or not there, and usable without a network."""

from __future__ import annotations

import json
import subprocess
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

import ci.packages
from ci.apt import PackagesUnavailable, Suites
from ci.packages import MANIFEST, QEMU_PROGRAM, cached, fetch, recipes
from ci.system import Distribution, distribution, install_command, missing
from tests.ci.test_apt import build_deb
from tests.conftest import DebianParts

DEBIAN = Distribution("debian", "bookworm")


class Mirror:
    """Stands in for apt: packages by name, and a count of what was asked."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.updates = 0
        self.downloads: list[tuple[str, str]] = []

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def update(_: Suites) -> None:
            self.updates += 1

        def dependency(_: Suites, package: str, pattern: str, *, release: str) -> str:
            return "linux-image-6.12-fixture" if release and pattern else package

        def download(_: Suites, packages: Sequence[str], into: Path, *, release: str) -> list[Path]:
            self.downloads += [(package, release) for package in packages]
            return [build_deb(into, package, {"boot/vmlinuz-1": "k"}) for package in packages]

        def download_closure(_: Suites, package: str, into: Path, *, release: str) -> list[Path]:
            self.downloads.append((package, release))
            return [build_deb(into, name, {f"f/{name}": "x"}) for name in ("libx", package)]

        archive: Callable[[str], None] = lambda _: None  # noqa: E731
        monkeypatch.setattr(ci.packages, "find_archive", archive)
        for function in (update, dependency, download, download_closure):
            monkeypatch.setattr(Suites, function.__name__, function)


@pytest.fixture
def mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Mirror:
    stand_in = Mirror(tmp_path / "mirror")
    stand_in.install(monkeypatch)
    return stand_in


def test_a_part_is_fetched_once(tmp_path: Path, mirror: Mirror) -> None:
    cache = tmp_path / "cache"
    part = fetch(("kernel-trixie",), cache=cache, system=DEBIAN)["kernel-trixie"]
    assert part.packages[0].name == "linux-image-6.12-fixture"
    assert part.version == "1:2.3~4-5"
    assert part.file("boot/vmlinuz-*").read_text(encoding="utf-8") == "k"
    assert cached("kernel-trixie", cache) == part
    assert fetch(("kernel-trixie",), cache=cache, system=DEBIAN) == {"kernel-trixie": part}
    assert mirror.downloads == [("linux-image-6.12-fixture", "trixie")]
    fetch(("kernel-trixie",), cache=cache, system=DEBIAN, refresh=True)
    assert len(mirror.downloads) == 2
    assert sorted(path.name for path in cache.iterdir()) == [".lock", "kernel-trixie"]


def test_parts_of_the_same_suites_share_a_state(tmp_path: Path, mirror: Mirror) -> None:
    parts = fetch((), cache=tmp_path, system=DEBIAN)
    assert [*parts] == [recipe.name for recipe in recipes(DEBIAN)]
    assert mirror.updates == 3  # bookworm, trixie with its backports, sid


def test_two_at_once_fetch_once(tmp_path: Path, mirror: Mirror) -> None:
    def job() -> None:
        fetch(("busybox-trixie",), cache=tmp_path / "cache", system=DEBIAN)

    jobs = [threading.Thread(target=job) for _ in range(4)]
    for thread in jobs:
        thread.start()
    for thread in jobs:
        thread.join()
    assert mirror.downloads == [("busybox-static", "trixie")]


def test_a_program_gets_a_wrapper(tmp_path: Path, mirror: Mirror) -> None:
    part = fetch(("qemu-backports",), cache=tmp_path, system=DEBIAN)["qemu-backports"]
    assert mirror.updates == 1
    assert [package.name for package in part.packages] == ["qemu-system-x86", "libx"]
    wrapper = part.file(QEMU_PROGRAM)
    assert wrapper.stat().st_mode & 0o777 == 0o755
    subprocess.run(["sh", "-n", str(wrapper)], check=True, timeout=10)


def test_a_failed_fetch_leaves_nothing(
    tmp_path: Path, mirror: Mirror, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Suites, "download", lambda *_, **__: [])
    with pytest.raises(PackagesUnavailable, match="downloaded something else"):
        fetch(("busybox-trixie",), cache=tmp_path, system=DEBIAN)
    assert mirror.downloads == []
    assert [path.name for path in tmp_path.iterdir()] == [".lock"]


@pytest.mark.parametrize(
    "manifest", ["", "[]", "{}", '{"packages": [{"a": 1}]}', '{"packages": []}']
)
def test_a_broken_manifest_is_no_part(tmp_path: Path, manifest: str) -> None:
    (tmp_path / "part").mkdir()
    (tmp_path / "part" / MANIFEST).write_text(manifest, encoding="utf-8")
    assert cached("part", tmp_path) is None


def test_unknown_parts_and_systems(tmp_path: Path) -> None:
    with pytest.raises(PackagesUnavailable, match="no such part on debian: nonsense"):
        fetch(("nonsense",), cache=tmp_path, system=DEBIAN)
    with pytest.raises(PackagesUnavailable, match="this is fedora"):
        fetch((), cache=tmp_path, system=Distribution("fedora", ""))


def test_ubuntu_takes_a_kernel_that_measures() -> None:
    noble = {recipe.name: recipe for recipe in recipes(Distribution("ubuntu", "noble"))}
    assert noble["kernel-ubuntu"].package == "linux-image-virtual-hwe-24.04"
    assert noble["kernel-ubuntu"].suites == ("noble", "noble-updates")
    later = {recipe.name: recipe for recipe in recipes(Distribution("ubuntu", "resolute"))}
    assert later["kernel-ubuntu"].package == "linux-image-virtual"


def test_system_is_read_from_os_release(tmp_path: Path) -> None:
    path = tmp_path / "os-release"
    path.write_text('NAME="Debian"\nID=debian\nVERSION_CODENAME="bookworm"\n', encoding="utf-8")
    assert distribution(path) == DEBIAN
    assert distribution(tmp_path / "missing") == Distribution("", "")


def test_missing_tools_name_their_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ci.system.find_program", lambda _: None)
    command = install_command(missing(["qemu", "tpm2"]))
    assert command[-2:] == ["qemu-system-x86", "tpm2-tools"]


def test_fetched_parts_are_what_they_are_called(debian: DebianParts) -> None:
    assert debian.versions["ovmf-bookworm"].startswith("2022.11-")
    assert debian.versions["ovmf-trixie"].startswith("2025.02-")
    assert debian.versions["kernel-trixie"].startswith("6.12.")
    manifest = debian.qemu_11.parent / MANIFEST
    packages = json.loads(manifest.read_text(encoding="utf-8"))["packages"]
    assert packages[0]["name"] == "qemu-system-x86"


@pytest.mark.qemu
def test_fetched_qemu_runs_here(debian: DebianParts) -> None:
    command = [str(debian.qemu_11), "-accel", "qtest", "-object", "help"]
    done = subprocess.run(command, check=True, capture_output=True, encoding="utf-8", timeout=60)
    assert "tdx-guest" in done.stdout
