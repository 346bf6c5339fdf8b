"""Asking cosign who signed an image.

Fetching and verifying are two steps: cosign says 1 of a registry that is away and of a signature
that is wrong. Bundles are fetched with ``download signature`` and verified offline, by the image's
digest and for one predicate type: ``cosign verify`` takes any attestation of the right identity for
a signature. What does not come is `NotChecked`; what comes and does not verify is `Refused`.

Signatures for podman have no such form: ``verify --key`` is asked. Its exit statuses tell some (10:
there is none, 1: could not look), but 12, "none matches", is also that of a signature that could
not be fetched: only reasons that are known to be refusals are. And what it confirms is read: cosign
ignores the repository that a signature was made for.
"""

from __future__ import annotations

import json
import re
from base64 import b64decode
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

from mrtd.errors import MrtdError, ToolFailed
from mrtd.images.outcome import (
    SIGN_TYPE,
    SIMPLE_SIGNING,
    Identity,
    Key,
    Kind,
    NotChecked,
    NotSigned,
    Refused,
    SignatureOutcome,
    Signed,
)
from mrtd.images.program import Program, Said
from mrtd.images.reference import DOCKER_HUB, ImageReference
from mrtd.images.registry_login import RegistryLogin

PROGRAM: Final = "cosign"
_NEEDED: Final[Mapping[str, tuple[str, ...]]] = {
    "verify": ("--key", "--trusted-root"),
    "verify-blob-attestation": (
        "--bundle",
        "--trusted-root",
        "--certificate-identity",
        "--certificate-oidc-issuer",
        "--type",
        "--digest",  # absent before 3
        "--digestAlg",
    ),
}
CONFIRMED: Final = "Verified OK"
_NONE: Final = "no signatures associated"
_NO_MATCH: Final = "Error: no matching signatures:"
_AGAIN: Final = "error during command execution:"
_NOT_HELD: Final = re.compile(  # cosign 3.1.1
    "invalid signature when validating|invalid or missing digest in claim|Invalid IEEE_P1363"
    "|signature layer .* is missing|illegal base64"
)
_MOST: Final = 64
"""Bundles of one image that are looked at; whoever may push can add any number."""
_NO_LOGIN: Final = RegistryLogin()


@dataclass(frozen=True, slots=True)
class _Wanted:
    """Which bundles are looked at: the statement's type, and what it says, if that matters."""

    kind: Kind
    predicate_type: str
    predicate: object = None

    def matches(self, bundle: bytes) -> bool:
        """Whether a bundle's statement is of this kind; nothing is verified."""
        statement = _statement(bundle)
        same = self.predicate is None or statement.get("predicate") == self.predicate
        return same and statement.get("predicateType") == self.predicate_type


@dataclass(frozen=True, slots=True)
class Cosign:
    """A cosign that can do what is asked of it.

    Attributes:
        program: it.
        login: for registries that want one.
    """

    program: Program
    login: RegistryLogin = _NO_LOGIN

    @classmethod
    def find(
        cls,
        explicit: Path | None = None,
        *,
        login: RegistryLogin = _NO_LOGIN,
        seconds: float = 120,
    ) -> Self:
        """The cosign given, or that on the search path. Raises `ToolMissing`."""
        return cls(Program.find(PROGRAM, explicit, seconds=seconds), login)

    def verify_keyless(
        self, image: ImageReference, identity: Identity, *, trusted_root: bytes
    ) -> SignatureOutcome:
        """Whether a workflow signed an image. Never raises.

        Args:
            image: by digest.
            identity: whose signature is wanted.
            trusted_root: ``trusted_root.json`` of the Sigstore instance.
        """
        wanted = _Wanted(Kind.KEYLESS, SIGN_TYPE)
        return self._first(image, identity, trusted_root, wanted)

    def verify_attestation(
        self,
        image: ImageReference,
        identity: Identity,
        *,
        trusted_root: bytes,
        predicate_type: str,
        predicate: object = None,
    ) -> SignatureOutcome:
        """Whether a workflow attested something about an image. Never raises.

        Args:
            image: by digest.
            identity: whose attestation is wanted.
            trusted_root: of the Sigstore instance.
            predicate_type: what kind of statement.
            predicate: what it has to say (JSON); None: anything, and `read_predicate` reads it.
        """
        wanted = _Wanted(Kind.ATTESTATION, predicate_type, predicate)
        return self._first(image, identity, trusted_root, wanted)

    def verify_bundle(
        self,
        image: ImageReference,
        bundle: bytes,
        identity: Identity,
        *,
        trusted_root: bytes,
        predicate_type: str = SIGN_TYPE,
    ) -> SignatureOutcome:
        """Whether a bundle is a workflow's signature of an image; offline. Never raises."""
        kind = Kind.KEYLESS if predicate_type == SIGN_TYPE else Kind.ATTESTATION
        try:
            said = self.check_bundle(
                bundle,
                image.hex,
                identity,
                trusted_root=trusted_root,
                predicate_type=predicate_type,
            )
        except (MrtdError, OSError) as error:
            return NotChecked(image, kind, f"{PROGRAM} could not be run: {error}")
        if said.status == 0 and CONFIRMED in said.stderr:
            return Signed(image, kind, identity.san, bundle)
        if said.status == 1:
            return Refused(image, kind, said.short)
        # 2 is a Go panic; 0 without the words is another program of that name
        return NotChecked(image, kind, f"{PROGRAM} ended with status {said.status}: {said.short}")

    def check_bundle(
        self,
        bundle: bytes,
        digest: str,
        identity: Identity,
        *,
        trusted_root: bytes,
        predicate_type: str,
        seconds: float | None = None,
    ) -> Said:
        """What cosign says of a bundle about a SHA-256 digest (hex), offline.

        Raises:
            ToolMissing, ToolFailed: it cannot be asked, or gave no answer.
        """
        command = "verify-blob-attestation"
        self._demand(command)
        options = {
            "bundle": "bundle.json",
            "trusted-root": "trusted_root.json",
            "certificate-identity": identity.san,
            "certificate-oidc-issuer": identity.issuer,
            "type": predicate_type,
            "digest": digest,
            "digestAlg": "sha256",
        }
        files = {"bundle.json": bundle, "trusted_root.json": trusted_root}
        return self.program.run(command, *_words(options), files=files, seconds=seconds)

    def verify_key(self, image: ImageReference, key: Key) -> SignatureOutcome:
        """Whether a key signed an image, in the format that podman reads. Never raises."""
        options = {
            "key": "key.pub",
            # what podman reads; without it, cosign looks at bundles only
            "new-bundle-format": "false",
            # the key says it all: podman asks no log either
            "insecure-ignore-tlog": "true",
        }
        files = {"key.pub": key.pem, **self.login.files}
        try:
            self._demand("verify")
            said = self.program.run(
                "verify",
                *_words(options),
                str(image),
                files=files,
                environment=self.login.environment,
            )
        except (MrtdError, OSError) as error:
            return NotChecked(image, Kind.KEY, f"{PROGRAM} could not be run: {error}")
        return _of_key(image, key, said)

    def bundles(self, image: ImageReference) -> list[bytes]:
        """All Sigstore bundles that the registry has for an image; signatures and attestations.

        Raises:
            ToolMissing, ToolFailed: they could not be had.
        """
        said = self.program.run(
            "download",
            "signature",
            str(image),
            files=self.login.files,
            environment=self.login.environment,
        )
        if said.status == 1 and _NONE in said.stderr and str(image) in said.stderr:
            return []
        if said.status != 0:
            raise ToolFailed(f"{image}: {said.short}", origin=PROGRAM)
        # of a signature for podman only, cosign prints that: it is none of these
        found = [line for line in said.stdout.splitlines() if b"verificationMaterial" in line]
        if len(found) > _MOST:
            raise ToolFailed(f"{image} has more than {_MOST} bundles", origin=PROGRAM)
        return found

    def _first(
        self, image: ImageReference, identity: Identity, root: bytes, wanted: _Wanted
    ) -> SignatureOutcome:
        """The first bundle of a kind that holds; or why none does."""
        kind = wanted.kind
        try:
            found = self.bundles(image)
        except (MrtdError, OSError) as error:
            return NotChecked(image, kind, f"bundles could not be fetched: {error}")
        asked: SignatureOutcome | None = None
        for bundle in filter(wanted.matches, found):
            outcome = self.verify_bundle(
                image, bundle, identity, trusted_root=root, predicate_type=wanted.predicate_type
            )
            if isinstance(outcome, Signed):
                return outcome
            if not isinstance(asked, NotChecked):
                asked = outcome
        types = {predicate_type(bundle) or "something unreadable" for bundle in found}
        why = f"only has {', '.join(sorted(types))}" if types else "has no bundle"
        said = "" if wanted.predicate is None else " that says the same"
        text = f"the registry {why}, and none of type {wanted.predicate_type}{said}"
        return asked or NotSigned(image, kind, text)

    def _demand(self, command: str) -> None:
        if missing := self.program.lacks(command, *_NEEDED.get(command, ())):
            raise ToolFailed(
                f"is too old: {command} has no {', '.join(missing)} (3 has it)", origin=PROGRAM
            )


def predicate_type(bundle: bytes) -> str | None:
    """What kind of statement a bundle is over; nothing is verified. None if it is none."""
    found = _statement(bundle).get("predicateType")
    return found if isinstance(found, str) else None


def read_predicate(outcome: Signed) -> object:
    """The predicate that was attested (JSON), of a bundle that was verified."""
    return _statement(outcome.bundle).get("predicate")


def _statement(bundle: bytes) -> dict[str, Any]:
    """The statement in a bundle; empty if there is none."""
    try:
        tree = json.loads(bundle)
        found = json.loads(b64decode(tree["dsseEnvelope"]["payload"], validate=True))
    except (ValueError, KeyError, TypeError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _of_key(image: ImageReference, key: Key, said: Said) -> SignatureOutcome:
    if said.status == 10:
        return NotSigned(image, Kind.KEY, "the registry has no signature that podman could read")
    if said.status == 12 and _all_refuse(said.stderr):
        return Refused(image, Kind.KEY, said.short)
    if said.status != 0:
        return NotChecked(image, Kind.KEY, f"status {said.status}: {said.short}")
    claims = list(_claims(said.stdout))
    of_digest = [claim for claim in claims if claim == (image.digest, SIMPLE_SIGNING, claim[2])]
    if not of_digest:
        return NotChecked(image, Kind.KEY, f"{PROGRAM} confirmed something else: {said.short}")
    places = {_place(claim[2]) for claim in of_digest}
    if str(image.repository) not in places:
        where = ", ".join(sorted(places))
        return Refused(image, Kind.KEY, f"the signature was made for another repository: {where}")
    return Signed(image, Kind.KEY, key.name)


def _all_refuse(stderr: str) -> bool:
    """Whether every signature was there and did not hold; cosign says one reason a line."""
    reasons = stderr.partition(_NO_MATCH)[2].partition(_AGAIN)[0].strip().splitlines()
    return bool(reasons) and all(_NOT_HELD.search(reason) for reason in reasons)


def _claims(stdout: bytes) -> Iterator[tuple[str, str, str]]:
    """Digest, type and repository of each signature that cosign has verified."""
    try:
        for entry in json.loads(stdout):
            critical = entry["critical"]
            digest = critical["image"]["docker-manifest-digest"]
            yield digest, critical["type"], str(critical["identity"]["docker-reference"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return


def _place(reference: str) -> str:
    """The repository in a ``docker-reference``: cosign's has no tag, skopeo's has one."""
    name = reference.partition("@")[0]
    head, slash, last = name.rpartition("/")
    name = f"{head}{slash}{last.partition(':')[0]}"
    hub = f"index.{DOCKER_HUB}/"
    return name.replace(hub, f"{DOCKER_HUB}/", 1) if name.startswith(hub) else name


def _words(options: Mapping[str, str]) -> list[str]:
    """With "=", a value that begins with a dash is no option."""
    return [f"--{name}={value}" for name, value in options.items()]
