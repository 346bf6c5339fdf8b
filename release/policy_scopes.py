"""What the scopes of a ``policy.json`` mean, in sentences, and what is wrong with them. Pure."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

import msgspec

from mrtd.images.settings import ImageSettings

Level = Literal["error", "warning", "info"]
SOON_DAYS: Final = 30
LONG_DAYS: Final = 366
_ACCEPT: Final = "insecureAcceptAnything"
_SIGNED: Final = "sigstoreSigned"
_DIGEST: Final = re.compile(r"@(.*)")
_ABBREVIATED: Final = re.compile(
    r"docker\.io/[^/]+$|index\.docker\.io(/|$)|(?!localhost/)[^/.:]+(/|$)"
)
_SHA256: Final = re.compile(r"sha256:[0-9a-f]{64}")
_REPOSITORY_IDENTITIES: Final = frozenset({"matchRepository", "exactRepository", "remapIdentity"})


class Finding(msgspec.Struct, frozen=True):
    """Something to know of a policy.

    Attributes:
        id: stable, for programs.
        level: an ``error`` refuses what should run, or runs what should not.
        where: scope or file.
        text: what is so.
        remedy: what to do; empty if nothing.
    """

    id: str
    level: Level
    where: str
    text: str
    remedy: str = ""


class Scope(msgspec.Struct, frozen=True):
    """A scope of the policy, explained.

    Attributes:
        transport: such as ``docker``; empty for the default.
        name: of the scope; empty for all of its transport.
        text: one sentence.
    """

    transport: str
    name: str
    text: str


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What is known beside the policy.

    Attributes:
        today: the day (UTC).
        attachments: scopes of registries.d, and whether signatures are looked for; None if that
            could not be read.
        settings: ``images.toml``, if it is known.
    """

    today: dt.date
    attachments: Mapping[str, bool] | None
    settings: ImageSettings | None = None


Rows = tuple[tuple[str, str, list[dict[str, Any]]], ...]


def rows_of(policy: Mapping[str, Any]) -> Rows:
    """Transport, scope and requirements; a policy that skopeo takes has no other shape."""
    found: list[tuple[str, str, list[dict[str, Any]]]] = [("", "", policy.get("default", []))]
    for transport, scopes in (policy.get("transports") or {}).items():
        found += [(transport, name, rows) for name, rows in scopes.items()]
    return tuple(found)


def key_paths(requirement: Mapping[str, Any]) -> tuple[str, ...]:
    """Files of keys that a requirement names."""
    one, several = requirement.get("keyPath"), requirement.get("keyPaths")
    return tuple(filter(None, (one, *(several or ()))))


def explain(rows: Rows) -> tuple[Scope, ...]:
    """A sentence for each scope."""
    found = []
    for transport, name, requirements in rows:
        what = _what(transport, name)
        how = " and ".join(_how(requirement) for requirement in requirements)
        found.append(Scope(transport, name, f"{what} {how}."))
    return tuple(found)


def _what(transport: str, name: str) -> str:
    if not transport:
        return "Whatever no scope names"
    if not name:
        return f"Every other image of transport {transport}"
    if transport != "docker":
        return f"An image of {transport} at {name}"
    if "@" in name:
        return "The content with this digest, pulled by it,"
    last = name.rpartition("/")[2]
    if "/" in name and ":" in last:
        return f"What the tag {last.partition(':')[2]} names at the time"
    return "An image of this repository, or of one below it,"


def _how(requirement: Mapping[str, Any]) -> str:
    kind = requirement.get("type")
    if kind == "reject":
        return "is refused"
    if kind == _ACCEPT:
        return "runs unsigned"
    if kind != _SIGNED:
        return f"runs if it meets {kind}, which this toolkit does not make"
    paths = [path.rpartition("/")[2] for path in key_paths(requirement)]
    if fulcio := requirement.get("fulcio"):
        who = fulcio.get("buildSignerURI") or fulcio.get("subjectEmail")
        return f"runs if {who} signed it, as {fulcio.get('oidcIssuer')} says"
    count = len(requirement.get("keyDatas") or ()) + bool(requirement.get("keyData"))
    names = [*paths, *(["a key in the file"] * count)]
    return f"runs if signed for its repository by {' or '.join(names) or 'somebody'}"


def findings(rows: Rows, around: Surroundings) -> Iterator[Finding]:
    """What is wrong with the scopes, or will be."""
    for transport, name, requirements in rows:
        where = f"{transport}:{name}" if name else transport or "default"
        yield from _of_scope(transport, name, where)
        for requirement in requirements:
            yield from _of_requirement(transport, name, where, requirement, around)
    yield from _of_exceptions(rows, around)


def _of_scope(transport: str, name: str, where: str) -> Iterator[Finding]:
    found = _DIGEST.search(name) if transport == "docker" else None
    if found and not _SHA256.fullmatch(found[1]):
        yield Finding("digest_not_sha256", "error", where, "this is no sha256 digest, which is "
                      "what images are pulled by", "name it by its sha256 digest")  # fmt: skip
    if transport == "docker" and _ABBREVIATED.match(name):
        yield Finding("name_not_written_out", "error", where, "no image has this name: podman "
                      "writes names out before it compares", "docker.io/library/NAME")  # fmt: skip


def _of_requirement(
    transport: str, name: str, where: str, requirement: Mapping[str, Any], around: Surroundings
) -> Iterator[Finding]:
    kind = requirement.get("type")
    if kind == _ACCEPT:
        yield from _of_acceptance(transport, name, where)
    elif kind == _SIGNED:
        yield from _of_signed(transport, name, where, requirement, around)
    elif kind != "reject":
        yield Finding("requirement_foreign", "warning", where, f"{kind} is not looked into here")


def _of_acceptance(transport: str, name: str, where: str) -> Iterator[Finding]:
    if not transport:
        yield Finding("default_accepts", "error", where, "whatever no scope names runs unsigned",
                      'set the default to [{"type": "reject"}]')  # fmt: skip
    elif "@" not in name or transport != "docker":
        yield Finding("accept_without_digest", "error", where, "whoever can write there decides "
                      "what runs", "name one content: REPOSITORY@sha256:DIGEST")  # fmt: skip


def _of_signed(
    transport: str, name: str, where: str, requirement: Mapping[str, Any], around: Surroundings
) -> Iterator[Finding]:
    identity = (requirement.get("signedIdentity") or {}).get("type", "matchRepoDigestOrExact")
    if identity not in _REPOSITORY_IDENTITIES:
        text = f"signedIdentity is {identity}: signatures of cosign name no tag, and are refused"
        yield Finding("identity_too_exact", "warning", where, text, "matchRepository")
    looked = around.attachments is None or _attached(name, around.attachments)
    if transport == "docker" and not looked:
        yield Finding("attachments_missing", "error", where, "registries.d has no "
                      "use-sigstore-attachments for it: no signature is found, and every image "
                      "refused", "add the scope to registries.d")  # fmt: skip
    if around.settings is not None and transport == "docker":
        source = around.settings.source(name)
        known = source.keys if source else ()
        for path in key_paths(requirement):
            if path.rpartition("/")[2] not in known:
                yield Finding("key_unknown", "warning", where, f"images.toml has no key {path} "
                              "for it", "render the policy again, or add the key")  # fmt: skip


def _attached(name: str, attachments: Mapping[str, bool]) -> bool:
    """As containers-registries.d(5) has it: only the most specific scope counts."""
    scope = name.partition("@")[0]
    while scope not in attachments and "/" in scope:
        scope = scope.rpartition("/")[0]
    return attachments.get(scope, attachments.get("", False))


def _of_exceptions(rows: Rows, around: Surroundings) -> Iterator[Finding]:
    if around.settings is None:
        return
    for transport, name, requirements in rows:
        if "@" not in name or not any(one.get("type") == _ACCEPT for one in requirements):
            continue
        where = f"{transport}:{name}"
        exception = around.settings.exception(name)
        if exception is None:
            yield Finding("exception_unknown", "error", where, "images.toml has no such exception",
                          "render the policy again")  # fmt: skip
            continue
        days = (exception.expires - around.today).days
        who = f"{exception.owner}: {exception.reason}"
        if days <= 0:
            yield Finding("exception_expired", "error", where, f"expired on {exception.expires} "
                          f"({who})", "remove it, or set a new date")  # fmt: skip
        elif days <= SOON_DAYS:
            yield Finding("exception_expires_soon", "warning", where, f"expires in {days} days, on "
                          f"{exception.expires} ({who})", "look at the image again")  # fmt: skip
        elif days > LONG_DAYS:
            yield Finding("exception_long", "warning", where, f"holds for {days} days ({who})",
                          "a date within a year has somebody look at it")  # fmt: skip
