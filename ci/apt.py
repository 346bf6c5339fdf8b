"""Packages of suites that the system does not follow, without root and without installing them.

Each `Suites` has an apt state of its own in a folder of ours: the system's package lists, its
installed packages and its configuration stay as they are. Where archives are comes from the
system's own sources, signatures are checked against the distribution's keyring as ever.
"""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from mrtd.errors import MrtdError

_APT_SECONDS: Final = 900
_UNPACK_SECONDS: Final = 300
_PACKAGE_NAME: Final = re.compile(r"[a-z0-9][a-z0-9+.:-]+")


class PackagesUnavailable(MrtdError):
    """No mirror was reached, or it does not have the package."""


@dataclass(frozen=True, slots=True)
class Archive:
    """Where a distribution's packages are.

    Attributes:
        uri: the archive's root.
        signed_by: a keyring, or the key itself, as in sources.list(5); empty: apt's own.
        components: such as ``main``.
    """

    uri: str
    signed_by: str
    components: str


@dataclass(frozen=True, slots=True)
class Package:
    """A package as it was fetched.

    Attributes:
        sha256: hex digest of the .deb file.
    """

    name: str
    version: str
    architecture: str
    suite: str
    sha256: str


def _deb822(text: str) -> list[dict[str, str]]:
    """The stanzas of a deb822 file, field names in lower case, continuation lines kept."""
    stanzas: list[dict[str, str]] = []
    for block in re.split(r"\n\s*\n", text):
        fields: dict[str, str] = {}
        key = ""
        for line in block.splitlines():
            if line.startswith("#"):
                continue
            if line[:1].isspace() and key:
                fields[key] += "\n" + line
            elif ":" in line:
                key, _, value = line.partition(":")
                key = key.strip().lower()
                fields[key] = value.strip()
        if fields:
            stanzas.append(fields)
    return stanzas


def _one_line(text: str) -> list[dict[str, str]]:
    """The entries of a one-line-style sources.list, as the stanzas that mean the same."""
    entry = re.compile(r"deb\s+(?:\[(?P<options>[^]]*)\]\s*)?(?P<uri>\S+)\s+(?P<suite>\S+)\s+(.+)")
    stanzas = []
    for line in text.splitlines():
        if match := entry.fullmatch(line.partition("#")[0].strip()):
            options = dict(o.partition("=")[::2] for o in (match["options"] or "").split())
            stanzas.append(
                {
                    "types": "deb",
                    "uris": match["uri"],
                    "suites": match["suite"],
                    "components": match[4],
                    "signed-by": options.get("signed-by", ""),
                }
            )
    return stanzas


def find_archive(codename: str, *, etc_apt: Path = Path("/etc/apt")) -> Archive:
    """The archive that the system takes the suite ``codename`` from.

    Raises:
        PackagesUnavailable: no source names that suite.
    """
    stanzas: list[dict[str, str]] = []
    for path in sorted((etc_apt / "sources.list.d").glob("*.sources")):
        stanzas += _deb822(path.read_text(encoding="utf-8"))
    for path in (etc_apt / "sources.list", *sorted((etc_apt / "sources.list.d").glob("*.list"))):
        if path.exists():
            stanzas += _one_line(path.read_text(encoding="utf-8"))
    for stanza in stanzas:
        enabled = stanza.get("enabled", "yes").lower() not in {"no", "false", "0"}
        binary = "deb" in stanza.get("types", "").split()
        # The suite itself, not CODENAME-security: that one is elsewhere and holds few packages.
        if enabled and binary and codename in stanza.get("suites", "").split():
            return Archive(
                uri=stanza["uris"].split()[0],
                signed_by=stanza.get("signed-by", ""),
                components=stanza.get("components", "main").split()[0],
            )
    raise PackagesUnavailable(
        f"no source in {etc_apt} has the suite {codename!r}",
        hint="this fetches packages on Debian and Ubuntu only",
    )


class Suites:
    """Some suites of one archive, with an apt state of their own.

    Args:
        folder: where the state is kept.
        archive: where the packages are.
        suites: suite names; the first is the default release.
    """

    def __init__(self, folder: Path, archive: Archive, suites: Sequence[str]) -> None:
        self._folder = folder.resolve()
        self._archive = archive
        self.suites = tuple(suites)

    def update(self) -> None:
        """Fetch the package lists, and nothing else. Raises `PackagesUnavailable`."""
        for name in ("lists/partial", "cache/archives/partial"):
            (self._folder / name).mkdir(parents=True, exist_ok=True)
        stanza = {
            "Types": "deb",
            "URIs": self._archive.uri,
            "Suites": " ".join(self.suites),
            "Components": self._archive.components,
            "Targets": "Packages",  # neither translations nor DEP-11 nor Contents: 10 MB, not 40
            "Signed-By": self._archive.signed_by,
        }
        lines = [f"{key}: {value}\n" for key, value in stanza.items() if value]
        (self._folder / "apt.sources").write_text("".join(lines), encoding="utf-8")
        # apt-get update exits 0 when it reached nothing but has old lists: ask it to be strict.
        self._apt("apt-get", "-o", "APT::Update::Error-Mode=any", "update")

    def dependency(self, package: str, pattern: str, *, release: str) -> str:
        """The dependency of ``package`` whose name matches: what a metapackage stands for.

        Raises:
            PackagesUnavailable: the package is not there or has no such dependency.
        """
        shown = self._apt("apt-cache", "show", "--no-all-versions", package, release=release)
        depends = next((s["depends"] for s in _deb822(shown) if "depends" in s), "")
        for alternative in re.split(r"[,|]", depends):
            name = alternative.split("(")[0].strip()
            if re.fullmatch(pattern, name):
                return name
        raise PackagesUnavailable(f"{package} in {release} depends on nothing like {pattern}")

    def download(self, packages: Sequence[str], into: Path, *, release: str) -> list[Path]:
        """Download packages alone. Raises `PackagesUnavailable`."""
        self._apt("apt-get", "download", *packages, release=release, cwd=into)
        return sorted(into.glob("*.deb"))

    def download_closure(self, package: str, into: Path, *, release: str) -> list[Path]:
        """Download a package with all that it depends on. Raises `PackagesUnavailable`.

        The state knows no installed package, so that "all" is down to libc.
        """
        (into / "partial").mkdir(parents=True, exist_ok=True)
        options = ["-o", f"Dir::Cache::archives={into}", "-y", "--no-install-recommends"]
        self._apt("apt-get", *options, "--download-only", "install", package, release=release)
        return sorted(into.glob("*.deb"))

    def _apt(
        self, program: str, *arguments: str, release: str = "", cwd: Path | None = None
    ) -> str:
        state = {
            "APT::Default-Release": release,
            "Dir::Etc::sourcelist": self._folder / "apt.sources",
            "Dir::Etc::sourceparts": "/dev/null",
            "Dir::Etc::preferences": "/dev/null",
            "Dir::Etc::preferencesparts": "/dev/null",
            "Dir::State": self._folder,
            "Dir::State::lists": self._folder / "lists",
            "Dir::State::status": "/dev/null",
            "Dir::Cache": self._folder / "cache",
            "Dir::Cache::pkgcache": "",
            "Dir::Cache::srcpkgcache": "",
            "Acquire::Retries": "2",
            "Acquire::http::Timeout": "20",  # a mirror that is away is reported in a minute
            "Debug::NoLocking": "1",  # the caller holds a lock for the whole cache
        }
        if os.geteuid() == 0:
            # apt's download user cannot write to our folder, and would only warn about it.
            state["APT::Sandbox::User"] = "root"
        options = [word for key, value in state.items() for word in ("-o", f"{key}={value}")]
        return run([program, "-q", *options, *arguments], cwd=cwd, seconds=_APT_SECONDS)


def unpack(deb: Path, into: Path, *, suite: str) -> Package:
    """Unpack a .deb, without its maintainer scripts. Raises `PackagesUnavailable`."""
    run(["dpkg-deb", "-x", str(deb), str(into)], seconds=_UNPACK_SECONDS)
    fields = _deb822(run(["dpkg-deb", "-f", str(deb)], seconds=_UNPACK_SECONDS))[0]
    with deb.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    name = fields["package"]
    if not _PACKAGE_NAME.fullmatch(name):
        raise PackagesUnavailable(f"{deb.name}: odd package name {name!r}")
    return Package(name, fields["version"], fields["architecture"], suite, digest)


def run(command: Sequence[str], *, seconds: int, cwd: Path | None = None) -> str:
    """The output of a command. Raises `PackagesUnavailable` when it fails or takes too long."""
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            check=False,
            cwd=cwd,
            encoding="utf-8",
            env=os.environ | {"LC_ALL": "C.UTF-8", "DEBIAN_FRONTEND": "noninteractive"},
            errors="replace",
            stdin=subprocess.DEVNULL,
            timeout=seconds,
        )
    except FileNotFoundError as error:
        raise PackagesUnavailable(f"{command[0]} is not installed") from error
    except subprocess.TimeoutExpired as error:
        raise PackagesUnavailable(f"{command[0]} took more than {seconds} s") from error
    if done.returncode:
        said = [line for line in done.stderr.splitlines() if line.startswith(("E:", "dpkg"))]
        raise PackagesUnavailable(
            f"{command[0]} exited with {done.returncode}: {'; '.join(said) or done.stderr[-300:]}"
        )
    return done.stdout
