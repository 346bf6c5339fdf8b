"""What came of asking whether an image is signed. Four answers, which nobody may mix up.

`Signed` is said only of a signature whose digest, kind and signer were compared; `NotSigned` where
a registry says that there is none of the kind; `Refused` where there is one and it does not hold;
`NotChecked` of everything else: a registry that is away, a program that hangs, an answer that
makes no sense. Only the first one is a yes.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final, TypeAlias

import msgspec

from mrtd.images.reference import ImageReference

SIGN_TYPE: Final = "https://sigstore.dev/cosign/sign/v1"
"""Predicate type of an image's signature in a bundle (cosign 3)."""
SIMPLE_SIGNING: Final = "cosign container image signature"
"""``critical.type`` of a signature as podman reads it (cosign, specs/SIGNATURE_SPEC.md)."""


class Kind(StrEnum):
    """What was asked for."""

    KEYLESS = "keyless"
    """A Sigstore bundle by a workflow's identity: with a certificate and a log entry."""
    KEY = "key"
    """A signature by a key, in the format that podman reads."""
    ATTESTATION = "attestation"
    """A Sigstore bundle over a statement about the image, such as its SBOM."""


class Identity(msgspec.Struct, frozen=True):
    """Who has to have signed, in a certificate.

    Attributes:
        san: the workflow, ``https://github.com/OWNER/REPO/.github/workflows/X.yml@refs/...``.
        issuer: of its OIDC token.
    """

    san: str
    issuer: str = "https://token.actions.githubusercontent.com"


class Key(msgspec.Struct, frozen=True):
    """Which key has to have signed.

    Attributes:
        pem: the public key, SubjectPublicKeyInfo in PEM.
        name: for people.
    """

    pem: bytes
    name: str = "release key"


class Signed(msgspec.Struct, frozen=True, tag_field="outcome", tag="signed"):
    """Somebody signed exactly this image.

    Attributes:
        image: what is signed.
        kind: how.
        by: SAN of the certificate, or name of the key.
        bundle: the bundle that was verified; empty for a key's signature.
    """

    image: ImageReference
    kind: Kind
    by: str
    bundle: bytes = b""


class NotSigned(msgspec.Struct, frozen=True, tag_field="outcome", tag="not_signed"):
    """The registry has no signature of this kind for this image; ``why`` is for people."""

    image: ImageReference
    kind: Kind
    why: str


class Refused(msgspec.Struct, frozen=True, tag_field="outcome", tag="refused"):
    """There is a signature, and it is another's, or of something else; ``why`` is for people."""

    image: ImageReference
    kind: Kind
    why: str


class NotChecked(msgspec.Struct, frozen=True, tag_field="outcome", tag="not_checked"):
    """Nobody knows: a service or a program gave no usable answer; ``why`` is for people."""

    image: ImageReference
    kind: Kind
    why: str


SignatureOutcome: TypeAlias = Signed | NotSigned | Refused | NotChecked
