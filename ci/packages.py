"""Firmware, kernels, a current QEMU and cosign, from the distribution's packages: no root needed.

``python -m ci.packages`` fetches every part that is not in the cache yet and prints what there is;
``--refresh`` fetches all of them anew. A part that is in the cache needs no network.

A mirror drops a package's version when a newer one arrives. So a part asks for a suite, records
which version it got, and golden figures are keyed by the file's digest.
"""

from __future__ import annotations

import argparse
import dataclasses
import fcntl
import json
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ci.apt import Package, PackagesUnavailable, Suites, find_archive, unpack
from ci.bundle import write_wrapper
from ci.system import Distribution, distribution

DEFAULT_CACHE: Final = Path(__file__).resolve().parents[1] / ".cache" / "parts"
MANIFEST: Final = "part.json"
QEMU_PROGRAM: Final = "qemu-system-x86_64"


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a part is made.

    Attributes:
        name: the part's name, and its folder's.
        suites: the suites that its apt state follows.
        release: the one to take the package from.
        package: the package.
        stands_for: a pattern: take the dependency with such a name instead of the package.
        program: a program to make runnable here, with all its libraries.
    """

    name: str
    suites: tuple[str, ...]
    release: str
    package: str
    stands_for: str = ""
    program: str = ""


@dataclass(frozen=True, slots=True)
class Part:
    """A part in the cache.

    Attributes:
        folder: the packages' files, as they would be under ``/``.
        packages: what was unpacked there; the first one is the one that was asked for.
    """

    name: str
    folder: Path
    packages: tuple[Package, ...]

    def file(self, pattern: str) -> Path:
        """The one file that a glob pattern names. Raises `PackagesUnavailable`."""
        found = sorted(self.folder.glob(pattern))
        if len(found) != 1:
            raise PackagesUnavailable(
                f"{self.packages[0].name} {self.packages[0].version}: "
                f"{len(found)} files match {pattern}, not one"
            )
        return found[0]

    @property
    def version(self) -> str:
        """The version of the package that was asked for."""
        return self.packages[0].version


_TRIXIE: Final = ("trixie", "trixie-backports")
_KERNEL_NAME: Final = r"linux-image-[0-9].*"

DEBIAN: Final = (
    Recipe("ovmf-bookworm", ("bookworm",), "bookworm", "ovmf"),
    Recipe("ovmf-trixie", _TRIXIE, "trixie", "ovmf"),
    Recipe("ovmf-sid", ("sid",), "sid", "ovmf-generic"),
    Recipe("inteltdx-sid", ("sid",), "sid", "ovmf-inteltdx"),
    # The cloud flavour is a TDX guest kernel like the generic one, at a third of its size.
    Recipe("kernel-trixie", _TRIXIE, "trixie", "linux-image-cloud-amd64", _KERNEL_NAME),
    Recipe("kernel-bookworm", ("bookworm",), "bookworm", "linux-image-cloud-amd64", _KERNEL_NAME),
    # For the disk images of ci/images: systemd's stubs, systemd-boot (unsigned), shim, GRUB.
    Recipe("systemd-bookworm", ("bookworm",), "bookworm", "systemd-boot-efi"),
    Recipe("systemd-trixie", _TRIXIE, "trixie", "systemd-boot-efi"),
    Recipe("systemd-sid", ("sid",), "sid", "systemd-boot-efi"),
    Recipe("ukify-trixie", _TRIXIE, "trixie", "systemd-ukify"),  # what ci/images/uki.py is held to
    Recipe("shim-trixie", _TRIXIE, "trixie", "shim-signed"),
    Recipe("grub-trixie", _TRIXIE, "trixie", "grub-efi-amd64-signed"),
    Recipe("busybox-trixie", _TRIXIE, "trixie", "busybox-static"),
    Recipe("qemu-backports", _TRIXIE, "trixie-backports", "qemu-system-x86", "", QEMU_PROGRAM),
    Recipe("qemu-trixie", _TRIXIE, "trixie", "qemu-system-x86", "", QEMU_PROGRAM),
    # Needs nothing but libc, of any release; trixie's 2.5 cannot verify by digest, nor Rekor v2.
    Recipe("cosign-sid", ("sid",), "sid", "cosign"),
    Recipe("sigstore-go-sid", ("sid",), "sid", "sigstore-go"),
    # bookworm's skopeo and podman have the verification of Sigstore signatures patched out.
    Recipe("skopeo-bookworm", ("bookworm",), "bookworm", "skopeo", "", "skopeo"),
    Recipe("skopeo-sid", ("sid",), "sid", "skopeo", "", "skopeo"),
    Recipe("podman-sid", ("sid",), "sid", "podman", "", "podman"),
)

# Ubuntu's default kernel of 24.04 is 6.8, which does not fill RTMR2: take the enablement kernel.
_UBUNTU_KERNELS: Final = {"noble": "linux-image-virtual-hwe-24.04"}


def recipes(system: Distribution) -> tuple[Recipe, ...]:
    """What is fetched on a distribution. Raises `PackagesUnavailable`."""
    if system.id == "debian":
        return DEBIAN
    if system.id == "ubuntu" and system.codename:
        suites = (system.codename, f"{system.codename}-updates")
        kernel = _UBUNTU_KERNELS.get(system.codename, "linux-image-virtual")
        return (
            Recipe("ovmf-ubuntu", suites, suites[1], "ovmf"),
            Recipe("kernel-ubuntu", suites, suites[1], kernel, _KERNEL_NAME),
            Recipe("busybox-ubuntu", suites, suites[1], "busybox-static"),
        )
    raise PackagesUnavailable(
        f"parts come from Debian's or Ubuntu's packages; this is {system.id or 'neither'}"
    )


def cached(name: str, cache: Path = DEFAULT_CACHE) -> Part | None:
    """A part that is in the cache, or None."""
    folder = cache / name
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        packages = tuple(Package(**package) for package in manifest["packages"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return Part(name, folder, packages) if packages else None


def fetch(
    names: tuple[str, ...] = (),
    *,
    cache: Path = DEFAULT_CACHE,
    refresh: bool = False,
    system: Distribution | None = None,
) -> dict[str, Part]:
    """The named parts (default: all of this distribution), fetched where they are not cached.

    Raises:
        PackagesUnavailable: some part is neither cached nor to be had, or has no such name.
    """
    system = system or distribution()
    known = {recipe.name: recipe for recipe in recipes(system)}
    wanted = names or tuple(known)
    if unknown := sorted(set(wanted) - set(known)):
        raise PackagesUnavailable(f"no such part on {system.id}: {', '.join(unknown)}")
    parts = {name: part for name in wanted if not refresh and (part := cached(name, cache))}
    if len(parts) == len(wanted):
        return parts
    with _locked(cache):
        states: dict[tuple[str, ...], Suites] = {}
        for name in wanted:
            # Whoever held the lock before may have fetched it.
            part = None if refresh else cached(name, cache)
            parts[name] = part or _fetch_one(known[name], cache, states, system)
    return {name: parts[name] for name in wanted}


def _fetch_one(
    recipe: Recipe, cache: Path, states: dict[tuple[str, ...], Suites], system: Distribution
) -> Part:
    print(f"fetching {recipe.package} from {recipe.release}", file=sys.stderr, flush=True)
    state = states.get(recipe.suites)
    if state is None:
        archive = find_archive(system.codename)
        state = Suites(cache / f"apt-{recipe.suites[0]}", archive, recipe.suites)
        state.update()
        states[recipe.suites] = state
    with tempfile.TemporaryDirectory(dir=cache, prefix=f".{recipe.name}-") as temporary:
        debs, root = Path(temporary, "debs"), Path(temporary, recipe.name)
        debs.mkdir()
        root.mkdir()
        package = recipe.package
        if recipe.stands_for:
            package = state.dependency(package, recipe.stands_for, release=recipe.release)
        if recipe.program:
            files = state.download_closure(package, debs, release=recipe.release)
        else:
            files = state.download([package], debs, release=recipe.release)
        packages = [unpack(deb, root, suite=recipe.release) for deb in files]
        packages.sort(key=lambda found: (found.name != package, found.name))
        if not packages or packages[0].name != package:
            raise PackagesUnavailable(f"{package}: apt-get downloaded something else")
        if recipe.program:
            write_wrapper(root, recipe.program)
        manifest = {
            "part": recipe.name,
            "packages": [dataclasses.asdict(found) for found in packages],
        }
        text = json.dumps(manifest, indent=2) + "\n"
        (root / MANIFEST).write_text(text, encoding="utf-8")
        if (cache / recipe.name).exists():
            (cache / recipe.name).rename(Path(temporary, "old"))
        root.rename(cache / recipe.name)
    return Part(recipe.name, cache / recipe.name, tuple(packages))


@contextmanager
def _locked(cache: Path) -> Iterator[None]:
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / ".lock").open("w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # ends with the process, however that ends
        yield


def main(arguments: list[str]) -> int:
    """Fetch parts and say what there is; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m ci.packages", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help="default: all")
    parser.add_argument("--cache", type=Path, default=DEFAULT_CACHE)
    parser.add_argument("--refresh", action="store_true", help="fetch what is cached, too")
    options = parser.parse_args(arguments)
    if shutil.which("apt-get") is None:
        print("ci.packages: apt-get is not installed", file=sys.stderr)
        return PackagesUnavailable.exit_code
    try:
        parts = fetch(tuple(options.parts), cache=options.cache, refresh=options.refresh)
    except PackagesUnavailable as error:
        print(f"ci.packages: {error}", file=sys.stderr)
        return error.exit_code
    for part in parts.values():
        package = part.packages[0]
        print(f"{part.name}: {package.name} {package.version} ({package.suite})")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
