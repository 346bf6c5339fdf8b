"""npm packages of a lock file: which ones a platform gets, and what is in them.

A package is a tarball with an SRI digest (``integrity``); nothing of it is believed before that
matches. Scripts of packages are not run: what is in the image is what was published.
Source: docs.npmjs.com, package-lock.json (lockfileVersion 3).
"""

from __future__ import annotations

import hashlib
import io
import re
import tarfile
import zlib
from base64 import b64decode
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any, Final

import msgspec

from mrtd.errors import InputError
from release.oci_layer import Entry

_INTEGRITY: Final = re.compile(r"sha512-[A-Za-z0-9+/]{86}==")
_FOLDER: Final = re.compile(
    r"node_modules/(?:@[\w.~-]+/)?[\w.~-]+(?:/node_modules/(?:@[\w.~-]+/)?[\w.~-]+)*"
)
_NAME: Final = re.compile(r"(?:@[a-z0-9~-][\w.~-]*/)?[A-Za-z0-9~-][\w.~-]*")
_VERSION: Final = re.compile(r"[0-9][0-9A-Za-z.+-]{0,100}")
_CPU: Final = {"x64": "amd64", "ia32": "386", "arm64": "arm64", "arm": "arm", "riscv64": "riscv64",
               "ppc64": "ppc64le", "s390x": "s390x", "loong64": "loong64"}  # fmt: skip
_MOST_PACKAGES: Final = 10_000
_MOST_FILES: Final = 200_000
TARBALL_LIMIT: Final = 512 << 20
_CONTENTS: Final = 2 << 30


class MalformedPackage(InputError):
    """A package, or a lock file of packages, breaks its format or its digest."""


class Package(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One package, at one place.

    Attributes:
        path: ``node_modules/...``.
        resolved: URL of its tarball.
        integrity: ``sha512-...`` of its tarball.
        platforms: those that get it.
        license: as it says; for the SBOM.
    """

    path: str
    name: str
    version: str
    resolved: str
    integrity: str
    platforms: tuple[str, ...]
    license: str = ""

    def check(self, *, origin: str) -> None:
        """Raises `MalformedPackage`."""
        rules = {
            "path": _FOLDER.fullmatch(self.path),
            "name": _NAME.fullmatch(self.name),
            "version": _VERSION.fullmatch(self.version),
            "integrity": _INTEGRITY.fullmatch(self.integrity),
            "resolved": re.fullmatch(r"https?://[!-~]{1,1000}", self.resolved),
        }
        if wrong := [field for field, found in rules.items() if not found]:
            raise MalformedPackage("is malformed", origin=origin, field=f"{self.path}: {wrong[0]}")


def read_package_lock(
    tree: object, *, registry: str, platforms: tuple[str, ...], origin: str
) -> tuple[Package, ...]:
    """The packages of a ``package-lock.json`` that some platform gets, sorted by path.

    Args:
        tree: the file.
        registry: URL, for packages whose tarball is not named.
        platforms: such as ``linux/amd64``.

    Raises:
        MalformedPackage: it is none, or a package has no SHA-512.
    """
    lock = tree if isinstance(tree, dict) else {}
    entries = lock.get("packages")
    if not isinstance(entries, dict) or lock.get("lockfileVersion") != 3:
        raise MalformedPackage("is no package-lock.json of version 3", origin=origin)
    if len(entries) > _MOST_PACKAGES:
        raise MalformedPackage(f"more than {_MOST_PACKAGES} packages", origin=origin)
    found = []
    for path, entry in sorted(entries.items()):
        if not path or not isinstance(entry, dict) or entry.get("dev") or entry.get("inBundle"):
            continue  # the root; what a bundling package brings is in its own tarball
        wanted = tuple(one for one in platforms if _fits(entry, one))
        if not wanted:
            continue
        name = entry.get("name") or path.rpartition("node_modules/")[2]
        version = str(entry.get("version"))
        package = Package(
            path=path,
            name=str(name),
            version=version,
            resolved=str(entry.get("resolved") or tarball_url(registry, str(name), version)),
            integrity=str(entry.get("integrity")),
            platforms=wanted,
            license=entry["license"] if isinstance(entry.get("license"), str) else "",
        )
        package.check(origin=origin)
        found.append(package)
    return tuple(found)


def tarball_url(registry: str, name: str, version: str) -> str:
    """Where a registry has a tarball."""
    return f"{registry.rstrip('/')}/{name}/-/{name.rpartition('/')[2]}-{version}.tgz"


def _fits(entry: dict[str, Any], platform: str) -> bool:
    """Whether a platform gets a package: ``os``, ``cpu`` and ``libc`` (images have glibc)."""
    system, _, machine = platform.partition("/")
    machine = machine.partition("/")[0]
    cpu = {_CPU.get(str(one).lstrip("!"), one) if str(one)[0] != "!" else
           "!" + _CPU.get(str(one)[1:], str(one)[1:]) for one in _words(entry, "cpu")}  # fmt: skip
    return (
        _allowed(set(_words(entry, "os")), system)
        and _allowed(cpu, machine)
        and _allowed(set(_words(entry, "libc")), "glibc")
    )


def _words(entry: dict[str, Any], key: str) -> list[str]:
    found = entry.get(key) or []
    return [str(one) for one in (found if isinstance(found, list) else [found]) if one]


def _allowed(words: set[str], value: str) -> bool:
    positive = {word for word in words if not word.startswith("!")}
    return f"!{value}" not in words and (not positive or value in positive)


def check_integrity(package: Package, tarball: bytes) -> None:
    """Raises `MalformedPackage` unless a tarball is the package's."""
    if hashlib.sha512(tarball).digest() != b64decode(package.integrity.removeprefix("sha512-")):
        raise MalformedPackage(
            f"is not the tarball that was locked ({package.integrity[:20]}...)",
            origin=package.resolved,
            hint="the registry has changed it: find out why before locking anew",
        )


def unpack(package: Package, tarball: bytes) -> dict[str, Entry]:
    """The files of a tarball by path, without its first folder.

    Raises:
        MalformedPackage: it is not the package's, or no tarball of regular files.
    """
    check_integrity(package, tarball)
    found: dict[str, Entry] = {}
    try:
        # gunzip by hand: of a bomb, no more than the limit is ever unpacked
        data = _gunzip(tarball)
        with tarfile.open(fileobj=io.BytesIO(data), mode="r:") as archive:
            for member in _members(archive, package):
                path = PurePosixPath(member.name)
                parts = path.parts[1:]
                if path.is_absolute() or not parts or ".." in path.parts:
                    raise MalformedPackage(
                        f"has a file {member.name[:200]!r}", origin=package.resolved
                    )
                file = archive.extractfile(member)
                contents = b"" if file is None else file.read()
                found["/".join(parts)] = Entry(contents, executable=bool(member.mode & 0o111))
    except (tarfile.TarError, EOFError, zlib.error, ValueError, UnicodeError) as error:
        raise MalformedPackage(f"is no npm tarball: {error}", origin=package.resolved) from error
    return found


def _members(archive: tarfile.TarFile, package: Package) -> Iterator[tarfile.TarInfo]:
    """The regular files; what is a link is an error, as npm leaves it out without a word."""
    for number, member in enumerate(archive):
        if number > _MOST_FILES:
            raise MalformedPackage(f"more than {_MOST_FILES} files", origin=package.resolved)
        # a sparse file may say that it has any number of zeros
        if member.isreg() and not member.issparse():
            yield member
        elif not member.isdir():
            raise MalformedPackage(
                f"{member.name[:200]!r} is no regular file", origin=package.resolved
            )


def _gunzip(data: bytes) -> bytes:
    unpacker = zlib.decompressobj(31)
    out = unpacker.decompress(data, _CONTENTS)
    if unpacker.unconsumed_tail:
        raise ValueError(f"more than {_CONTENTS} bytes")
    return out
