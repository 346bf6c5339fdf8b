"""Names of images, by digest: a tag may name something else by the time it is looked at again.

Grammar: distribution/reference (``domain/path@digest``), without what is left out for people: the
registry is always named.
"""

from __future__ import annotations

import ipaddress
import re
from typing import Final, Self

import msgspec

from mrtd.errors import InputError

DOCKER_HUB: Final = "docker.io"
_HUB_ALIASES: Final = frozenset({"index.docker.io", "registry-1.docker.io"})
_LABEL: Final = r"[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?"
_DOMAIN: Final = re.compile(rf"({_LABEL}(?:\.{_LABEL})*|\[[0-9a-fA-F:]+\])(?::([0-9]{{1,5}}))?")
_COMPONENT: Final = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_PATH: Final = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*")
_DIGEST: Final = re.compile(r"sha256:[0-9a-f]{64}")
_TAG: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
_LONGEST: Final = 512


class MalformedReference(InputError):
    """An image reference cannot be read, or names no digest."""


class Repository(msgspec.Struct, frozen=True, order=True):
    """Where images are.

    Attributes:
        registry: host, and port if there is one.
        path: such as ``devopsdefender/ollama-openclaw``.
    """

    registry: str
    path: str

    @classmethod
    def read(cls, text: str) -> Self:
        """Read ``registry/path``. Raises `MalformedReference`."""
        registry, slash, path = text.partition("/")
        found = _DOMAIN.fullmatch(registry) if len(text) <= _LONGEST else None
        named = bool(found) and ("." in registry or ":" in registry or registry == "localhost")
        if not slash or not named:
            raise _wrong(text, "names no registry", "write it out: docker.io/library/alpine")
        if not _PATH.fullmatch(path):
            raise _wrong(text, "is no repository", "registry/owner/name, in lower case")
        if registry in _HUB_ALIASES:
            registry = DOCKER_HUB
        if registry == DOCKER_HUB and "/" not in path:
            path = f"library/{path}"
        return cls(registry, path)

    @property
    def is_loopback(self) -> bool:
        """Whether it is on this machine: the only place that is asked without TLS."""
        host = registry_host(self.registry)
        try:
            return ipaddress.ip_address(host).is_loopback
        except ValueError:
            return host == "localhost"

    def at(self, digest: str) -> ImageReference:
        """The image of a digest. Raises `MalformedReference`."""
        if not _DIGEST.fullmatch(digest):
            raise _wrong(digest, "is no digest", "sha256: and 64 hex digits, in lower case")
        return ImageReference(self, digest)

    def __str__(self) -> str:
        return f"{self.registry}/{self.path}"


class ImageReference(msgspec.Struct, frozen=True, order=True):
    """One image, by digest.

    Attributes:
        repository: where it is.
        digest: ``sha256:...`` of its manifest or index.
    """

    repository: Repository
    digest: str

    @classmethod
    def read(cls, text: str) -> ImageReference:
        """Read ``registry/path@sha256:...``; a tag is refused. Raises `MalformedReference`."""
        name, at, digest = text.partition("@")
        if not at:
            raise _wrong(text, "names no digest", "name the image as registry/path@sha256:...")
        last = name.rpartition("/")[2]
        if ":" in last and "/" in name:
            raise _wrong(text, "has a tag, which may move", "leave the tag out")
        return Repository.read(name).at(digest)

    @property
    def hex(self) -> str:
        """The digest's 64 hex digits."""
        return self.digest.removeprefix("sha256:")

    def __str__(self) -> str:
        return f"{self.repository}@{self.digest}"


def read_tag(text: str) -> str:
    """A tag, to publish under. Raises `MalformedReference`."""
    if not _TAG.fullmatch(text):
        raise _wrong(text, "is no tag", "letters, digits, '.', '_' and '-'; 128 at most")
    return text


def registry_host(registry: str) -> str:
    """The host of a registry, without port and brackets."""
    found = _DOMAIN.fullmatch(registry)
    return found[1].strip("[]") if found else registry


def _wrong(text: str, why: str, hint: str) -> MalformedReference:
    shown = "".join(c if c.isprintable() else "?" for c in text[:200])
    return MalformedReference(f"{shown!r} {why}", origin="image reference", hint=hint)
