"""What the release channel has published so far: found, verified, and only then believed."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import Final, Literal

import msgspec

from mrtd.errors import ReleaseRefused, SpecError, TransportError
from mrtd.reference import ReferenceValues
from mrtd.verifier.bundle import SIZE_LIMIT, Signed, bundle_digest
from mrtd.verifier.github import GitHubLookup
from mrtd.verifier.identity import check_identity
from mrtd.verifier.statement import read_signed
from mrtd.verifier.verdict import Check
from release.github import GitHubApi, ReleaseEntry
from release.job import Trust
from release.lifecycle import State, state_of

BUNDLE: Final = "mrtd-reference.sigstore.json"
REVOCATION: Final = re.compile(r"mrtd-revocation-[0-9]+-[0-9a-f]{12}\.sigstore\.json")
Anew = Literal["none"]
ANEW: Final[Anew] = "none"
"""Instead of the previous document: the channel begins with this one."""
_LOOKUPS: Final = 60
"""Digests that are looked up; a channel has few images at a time."""


class Published(msgspec.Struct, frozen=True, kw_only=True):
    """A document of the channel whose signature and signer have been verified.

    Attributes:
        values: the document.
        signed: who signed it, and when.
        bundle: as it was found.
        source: where.
        stored: whether GitHub's attestation store lists it.
    """

    values: ReferenceValues
    signed: Signed
    bundle: bytes
    source: str
    stored: bool = False

    @property
    def digest(self) -> str:
        """Of the bundle, the same for every spelling."""
        return bundle_digest(self.bundle)


class History(msgspec.Struct, frozen=True, kw_only=True):
    """What was found.

    Attributes:
        documents: all that are genuine.
        releases: of GitHub, newest first; empty if it was not asked.
        problems: what of older releases is not genuine, for a person.
    """

    documents: tuple[Published, ...] = ()
    releases: tuple[ReleaseEntry, ...] = ()
    problems: tuple[str, ...] = ()

    @property
    def state(self) -> State:
        """What it says together."""
        return state_of(one.values for one in self.documents)

    def release(self, tag: str) -> ReleaseEntry | None:
        """GitHub's release with a tag."""
        return next((one for one in self.releases if one.tag_name == tag), None)


def open_document(
    bundle: bytes, trust: Trust, *, now: datetime, source: str, stored: bool = False
) -> tuple[Published | None, tuple[Check, ...]]:
    """Verify a bundle as a verifier does: signature, identity, statement. Never raises."""
    checks, signed = trust.opener.open(bundle, now=now)
    if signed is None:
        return None, checks
    identity = check_identity(signed.signer, trust.policy.identity)
    checks = (*checks, *identity)
    if not all(c.ok for c in identity):
        return None, checks
    read = read_signed(signed, trust.policy.identity)
    checks = (*checks, *read.checks)
    if read.values is None:
        return None, checks
    found = Published(
        values=read.values, signed=signed, bundle=bundle, source=source, stored=stored
    )
    return found, checks


def failures(checks: Iterable[Check]) -> str:
    """What is wrong with a bundle, in one line."""
    return "; ".join(f"{c.name}: {c.observed[:200]}" for c in checks if not c.ok)


class Channel:
    """Finds documents of the channel.

    Args:
        trust: whom they have to be signed by.
        api: for releases and their assets.
        lookup: for attestations.
        now: the time.
    """

    def __init__(
        self, trust: Trust, api: GitHubApi, lookup: GitHubLookup, *, now: datetime
    ) -> None:
        self._trust, self._api, self._lookup, self._now = trust, api, lookup, now

    def history(
        self, digests: Iterable[str] = (), *, previous: Path | Anew | None = None
    ) -> History:
        """Everything published, from release assets and the attestation store.

        Args:
            digests: subjects of the document that is to be published: its own attestations.
            previous: the newest release's bundle, in place of the assets of releases; `ANEW`
                for none.

        Raises:
            ReleaseRefused: the newest release's document is not genuine.
            TransportError: GitHub could not be read to the end; a revocation may be missing.
        """
        releases = self._api.releases()
        if previous is None:
            documents, problems = self._of_assets(releases)
        else:
            documents = [self._of_file(previous)] if isinstance(previous, Path) else []
            problems = []
        asked: set[str] = set()
        wanted = list(dict.fromkeys((*digests, *_subjects(documents))))
        while wanted and len(asked) < _LOOKUPS:
            digest = wanted.pop(0)
            if digest in asked:
                continue
            asked.add(digest)
            found = self._of_store(digest)
            known = {one.digest for one in documents}
            documents = [self._merged(one, found) for one in documents]
            new = [one for one in found if one.digest not in known]
            documents += new
            wanted += _subjects(new)
        return History(documents=tuple(documents), releases=releases, problems=tuple(problems))

    def stored(self, digest: str) -> tuple[Published, ...]:
        """Genuine documents that GitHub's store lists for a digest. Raises `TransportError`."""
        return tuple(self._of_store(digest))

    def _merged(self, one: Published, found: list[Published]) -> Published:
        listed = any(other.digest == one.digest for other in found)
        return msgspec.structs.replace(one, stored=one.stored or listed)

    def _of_assets(self, releases: tuple[ReleaseEntry, ...]) -> tuple[list[Published], list[str]]:
        found: list[Published] = []
        problems: list[str] = []
        newest: int | None = None
        for release in releases:
            ours = [a for a in release.assets if a.name == BUNDLE or REVOCATION.fullmatch(a.name)]
            for asset in (a for a in ours if a.state == "uploaded"):
                newest = release.id if newest is None else newest
                source = f"release {release.tag_name}, asset {asset.name}"
                data = self._api.asset(asset, limit=SIZE_LIMIT)
                one, checks = open_document(data, self._trust, now=self._now, source=source)
                if one is not None:
                    found.append(one)
                elif release.id == newest:
                    raise _not_genuine(source, failures(checks))
                else:
                    problems.append(f"{source}: {failures(checks)}")
        return found, problems

    def _of_file(self, path: Path) -> Published:
        try:
            data = path.read_bytes()
        except OSError as error:
            raise SpecError(
                f"cannot be read: {error.strerror}", origin=str(path), field="--previous"
            ) from error
        one, checks = open_document(data, self._trust, now=self._now, source=str(path))
        if one is None:
            raise _not_genuine(str(path), failures(checks))
        return one

    def _of_store(self, digest: str) -> list[Published]:
        lookup = self._lookup(digest, priority=True)
        if lookup.reason is not None:
            raise TransportError(
                f"GitHub's attestations could not be read to the end: {lookup.message}",
                hint="a revocation may be among them, so nothing goes on without; run again later",
                retry_after=lookup.retry_after,
            )
        opened = (
            open_document(f.bundle, self._trust, now=self._now, source=f.source, stored=True)[0]
            for f in lookup.bundles
        )
        return [one for one in opened if one is not None]


def _subjects(documents: Iterable[Published]) -> list[str]:
    """Digests under which a document's launches, and what it revokes, are found."""
    found: list[str] = []
    for one in documents:
        for launch in one.values.launches:
            digest = launch.launch_digest or launch.mrtd_digest
            found += [digest] if digest else []
        found += [row.value for row in one.values.lifecycle.revoked if row.kind == "launch"]
    return list(dict.fromkeys(found))


def _not_genuine(source: str, why: str) -> ReleaseRefused:
    text = f"{source} is not a document of this channel: {why}"
    return ReleaseRefused(
        text,
        refusals=(("previous_not_genuine", text),),
        hint="nothing of it is carried on. Restore the asset, or name the last good bundle with "
        "--previous FILE (--previous none begins the channel anew and forgets revocations)",
    )
