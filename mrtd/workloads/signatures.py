"""The signatures of an image: of the release key by cosign, of the workflow by our own verifier.

cosign fetches (a registry's login, referrers and fallback tags are its trade) and checks the key's
signature, which is in podman's format. Bundles it only fetches: they are opened as those of
reference values are (`mrtd.verifier.bundle`), so that the certificate's numeric ids are compared,
which cosign cannot, and run and log entry are known. GitHub's attestation store is not asked: what
it has of an image is provenance, which is no signature in the sense of the guest's policy.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Protocol

import msgspec

from mrtd.errors import ImagesError, InputError, MrtdError
from mrtd.images.outcome import (
    SIGN_TYPE,
    Key,
    Kind,
    NotChecked,
    NotSigned,
    Refused,
    SignatureOutcome,
    Signed,
)
from mrtd.images.reference import ImageReference
from mrtd.images.settings import ImageSettings, ImageSource, WorkflowIdentity
from mrtd.images.status import ImageCheck
from mrtd.reference.strict_json import read_json
from mrtd.verifier.attestations import OpenBundle
from mrtd.verifier.bundle import Signed as Genuine
from mrtd.verifier.clock import Clock
from mrtd.verifier.identity import check_identity
from mrtd.verifier.lookup import peek
from mrtd.verifier.policy import IdentityPolicy
from mrtd.verifier.verdict import Check

_KEY_LIMIT: Final = 64 << 10
_PAYLOAD_LIMIT: Final = 1 << 20


class Registry(Protocol):
    """What is asked of `mrtd.images.cosign.Cosign`."""

    def bundles(self, image: ImageReference) -> list[bytes]:
        """All bundles of an image. Raises `MrtdError`: they could not be had."""

    def verify_key(self, image: ImageReference, key: Key) -> SignatureOutcome:
        """Whether a key signed an image. Never raises."""


class SignatureChecker:
    """An `ImageChecker`. Thread-safe.

    Args:
        registry: cosign.
        opener: for bundles.
        keys: public keys (PEM) by the file names of ``images.toml``.
        like: triggers, runners and visibility that a workflow has to have: those for reference
            values; ``images.toml`` says the rest.
        clock: of the control plane.
    """

    def __init__(
        self,
        registry: Registry,
        *,
        opener: OpenBundle,
        keys: Mapping[str, bytes],
        like: IdentityPolicy | None = None,
        clock: Clock | None = None,
    ) -> None:
        self._registry, self._opener, self._keys = registry, opener, keys
        self._like, self._clock = like, clock or Clock()

    def check(self, source: ImageSource, image: ImageReference) -> ImageCheck:
        """Look for both signatures."""
        workflow, genuine = self._workflow(source, image)
        run = "" if genuine is None else genuine.signer["runInvocationURI"]
        index = None if genuine is None else genuine.log_index
        return ImageCheck(self._key(source, image), workflow, run, index)

    def _key(self, source: ImageSource, image: ImageReference) -> SignatureOutcome:
        """One of the keys is enough; otherwise the outcome that leaves most open."""
        found: list[SignatureOutcome] = []
        for name in source.keys:
            outcome = self._registry.verify_key(image, Key(self._keys[name], name))
            if isinstance(outcome, Signed):
                return outcome
            found.append(outcome)
        ranks: tuple[type, ...] = (NotChecked, Refused, NotSigned)
        return min(found, key=lambda one: ranks.index(type(one)))

    def _workflow(
        self, source: ImageSource, image: ImageReference
    ) -> tuple[SignatureOutcome, Genuine | None]:
        """The first bundle that holds; or why none does."""
        kind = Kind.KEYLESS
        try:
            bundles = self._registry.bundles(image)
        except (MrtdError, OSError) as error:
            return NotChecked(image, kind, f"bundles could not be fetched: {error}"), None
        policy = _policy(source.identity, self._like)
        asked: SignatureOutcome | None = None
        for bundle in bundles:
            peeked = peek(bundle)
            if peeked is not None and peeked.predicate_type != SIGN_TYPE:
                continue  # another kind of statement: an SBOM is no signature
            failed, genuine = self._open(bundle, image, policy)
            if failed is None and genuine is not None:
                return Signed(image, kind, policy.signer, bundle), genuine
            outcome = _refused(image, failed)
            if not isinstance(asked, NotChecked):
                asked = outcome
        why = "the registry has no bundle that is a signature of this digest"
        return asked or NotSigned(image, kind, why), None

    def _open(
        self, bundle: bytes, image: ImageReference, policy: IdentityPolicy
    ) -> tuple[Check | str | None, Genuine | None]:
        """What failed first, and what was signed if nothing did."""
        now = datetime.fromtimestamp(self._clock.wall(), UTC)
        checks, signed = self._opener.open(bundle, now=now)
        if signed is None:
            return next((one for one in checks if not one.ok), "it cannot be opened"), None
        for one in check_identity(signed.signer, policy):
            if not one.ok:
                return one, None
        return _about(signed.payload, image), signed


def read_keys(settings: ImageSettings, folder: Path) -> dict[str, bytes]:
    """The public keys that ``images.toml`` names, of the folder ``keys`` beside it.

    Raises:
        ImagesError: one cannot be read, or is none.
    """
    found = {}
    for name in settings.keys:
        path = folder / name
        try:
            with path.open("rb") as file:
                data = file.read(_KEY_LIMIT)
        except OSError as error:
            raise ImagesError(f"cannot be read: {error.strerror}", origin=str(path)) from error
        if not data.startswith(b"-----BEGIN PUBLIC KEY-----"):
            raise ImagesError("is no public key in PEM", origin=str(path))
        found[name] = data
    return found


def _policy(identity: WorkflowIdentity, like: IdentityPolicy | None) -> IdentityPolicy:
    names = ("repository", "repository_id", "owner_id", "workflow", "ref", "issuer")
    named = {name: getattr(identity, name) for name in names}
    if like is None:
        return IdentityPolicy(**named)
    return msgspec.structs.replace(like, **named, signer_workflow=None, signer_digest=None)


def _about(payload: bytes, image: ImageReference) -> str | None:
    """Why a statement is no signature of this image; None if it is one.

    in-toto Statement v1 with cosign's predicate type, and this digest as its only subject.
    """
    try:
        statement = read_json(payload, origin="statement", limit=_PAYLOAD_LIMIT)
        kind = statement["predicateType"]
        digests = [subject["digest"] for subject in statement["subject"]]
    except (InputError, LookupError, TypeError) as error:
        return f"its statement cannot be read: {error}"
    if kind != SIGN_TYPE:
        return "it is a statement of another type"
    if digests != [{"sha256": image.hex}]:
        return "it is about another digest"
    return None


def _refused(image: ImageReference, failed: Check | str | None) -> SignatureOutcome:
    if not isinstance(failed, Check):
        return Refused(image, Kind.KEYLESS, failed or "it was not opened")
    why = f"{failed.name}: {failed.observed} instead of {failed.expected}"
    if failed.reason is not None and failed.reason.could_not_check:
        return NotChecked(image, Kind.KEYLESS, why)
    return Refused(image, Kind.KEYLESS, why)
