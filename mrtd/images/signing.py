"""Having cosign sign: with a workflow's identity, and with a key in the format that podman reads.

cosign is given a token's source by name, and never looks for one itself: without a token and a
terminal it would start the device flow, and wait for somebody to type a code. Which Sigstore it
signs with is said in files; nothing is fetched (TUF) but certificate, log entry and timestamp.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from mrtd.errors import NoOidcPermission, SpecError, ToolFailed, TransportError
from mrtd.images.cosign import PROGRAM, Cosign
from mrtd.images.reference import ImageReference

_GITHUB: Final = ("ACTIONS_ID_TOKEN_REQUEST_URL", "ACTIONS_ID_TOKEN_REQUEST_TOKEN")
_TOKEN: Final = "SIGSTORE_ID_TOKEN"  # noqa: S105 - a variable's name
_NEEDED: Final[Mapping[str, tuple[str, ...]]] = {
    "sign": ("--signing-config", "--trusted-root", "--recursive", "--oidc-provider", "--key"),
    "attest": ("--signing-config", "--trusted-root", "--type", "--predicate", "--oidc-provider"),
}


@dataclass(frozen=True, slots=True)
class Oidc:
    """Where cosign gets its token from.

    Attributes:
        provider: cosign's name of it.
        environment: variables that the provider reads; secrets.
    """

    provider: str
    environment: Mapping[str, str] = field(repr=False)

    @classmethod
    def ambient(cls, environ: Mapping[str, str]) -> Oidc:
        """What this job has: GitHub's provider, or a token in ``SIGSTORE_ID_TOKEN``.

        Raises:
            NoOidcPermission: neither.
        """
        if all(environ.get(name) for name in _GITHUB):
            return cls("github-actions", {name: environ[name] for name in _GITHUB})
        if token := environ.get(_TOKEN, "").strip():
            return cls.of_token(token)
        raise NoOidcPermission(
            "is not set: this job may not ask for a token",
            origin=_GITHUB[0],
            hint="the workflow's job needs `permissions: id-token: write`",
        )

    @classmethod
    def of_token(cls, token: str) -> Oidc:
        """A token that is there already."""
        return cls("envvar", {_TOKEN: token.strip()})


@dataclass(frozen=True, slots=True)
class Sigstore:
    """Which Sigstore signs: addresses and keys, together.

    Attributes:
        signing_config: ``signing_config.json``.
        trusted_root: ``trusted_root.json``, which verifies what comes back.
    """

    signing_config: bytes = field(repr=False)
    trusted_root: bytes = field(repr=False)

    @property
    def files(self) -> Mapping[str, bytes]:
        """For cosign's folder."""
        return {
            "signing_config.json": self.signing_config,
            "trusted_root.json": self.trusted_root,
        }

    @classmethod
    def of_client_config(cls, config: str) -> Sigstore:
        """Both parts of a ClientTrustConfig (JSON)."""
        tree = json.loads(config)
        return cls(*(json.dumps(tree[part]).encode() for part in ("signingConfig", "trustedRoot")))


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A private key as cosign keeps it: encrypted, and its password. Neither is ever shown."""

    pem: str = field(repr=False)
    password: str = field(repr=False)

    @property
    def environment(self) -> Mapping[str, str]:
        """For cosign: neither argument nor file."""
        return {"COSIGN_PRIVATE_KEY": self.pem, "COSIGN_PASSWORD": self.password}


def sign_keyless(cosign: Cosign, image: ImageReference, oidc: Oidc, sigstore: Sigstore) -> None:
    """Sign an image, and all that an index names, as this workflow.

    Raises:
        TransportError: it was not signed, or nobody knows.
    """
    words = ["--recursive=true", *_keyless(oidc)]
    _run(cosign, "sign", words, image, files=sigstore.files, secrets=oidc.environment)


def attest(
    cosign: Cosign,
    image: ImageReference,
    oidc: Oidc,
    sigstore: Sigstore,
    *,
    predicate: bytes,
    predicate_type: str,
) -> None:
    """Attach a statement about an image (such as an SBOM), signed as this workflow.

    Raises:
        TransportError: it was not attached, or nobody knows.
    """
    words = [f"--type={predicate_type}", "--predicate=predicate.json", *_keyless(oidc)]
    files = {**sigstore.files, "predicate.json": predicate}
    _run(cosign, "attest", words, image, files=files, secrets=oidc.environment)


def sign_key(cosign: Cosign, image: ImageReference, key: SigningKey) -> None:
    """Sign an image, and all that an index names, with a key, in the format that podman reads.

    Raises:
        TransportError: it was not signed, or nobody knows.
    """
    words = [
        "--recursive=true",
        "--key=env://COSIGN_PRIVATE_KEY",
        # podman finds nothing but this format, and asks no log
        "--new-bundle-format=false",
        "--use-signing-config=false",
        "--tlog-upload=false",
    ]
    _run(cosign, "sign", words, image, files={}, secrets=key.environment)


def _keyless(oidc: Oidc) -> list[str]:
    return [
        "--signing-config=signing_config.json",
        "--trusted-root=trusted_root.json",
        f"--oidc-provider={oidc.provider}",
        "--fulcio-auth-flow=token",  # with a token or not at all
    ]


def _run(
    cosign: Cosign,
    command: str,
    words: list[str],
    image: ImageReference,
    *,
    files: Mapping[str, bytes],
    secrets: Mapping[str, str],
) -> None:
    """Run one command to its success. Raises `TransportError`, in which there is no secret."""
    if missing := cosign.program.lacks(command, *_NEEDED[command]):
        raise ToolFailed(
            f"is too old: {command} has no {', '.join(missing)} (3 has it)", origin=PROGRAM
        )
    try:
        said = cosign.program.run(
            command,
            "--yes",
            *words,
            str(image),
            files={**files, **cosign.login.files},
            environment={**cosign.login.environment, **secrets},
        )
    except ToolFailed as error:
        raise TransportError(f"{image}: {error.message}") from error
    if said.status != 0:
        text = said.short
        for secret in filter(None, secrets.values()):
            text = text.replace(secret, "***")
        raise TransportError(
            f"{PROGRAM} did not sign {image}: status {said.status}: {text}",
            hint="signing again adds what is missing",
        )


def read_key(reference: str, password: str, environ: Mapping[str, str]) -> SigningKey:
    """The private key that ``env:NAME`` or a file's path refers to.

    Raises:
        SpecError: there is none.
    """
    name = reference.removeprefix("env:")
    if name != reference:
        text = environ.get(name, "")
        if not text.strip():
            raise SpecError("is not set", origin=name, hint="the private key of the release")
        return SigningKey(text, password)
    try:
        return SigningKey(Path(reference).read_text(encoding="ascii"), password)
    except (OSError, ValueError) as error:
        raise SpecError("cannot be read as a private key", origin=reference) from error
