"""Having skopeo copy images: it reads the policy that podman reads, and checks it the same way.

A policy is handed over as a folder of the form that a guest ships: ``policy.json`` and
``registries.d/``. Nothing of this machine's own configuration counts.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self, TypeAlias

import msgspec

from mrtd.errors import InputError, MrtdError, ToolFailed, TransportError
from mrtd.images.program import Program, Said
from mrtd.images.reference import ImageReference, Repository
from mrtd.images.registry_login import RegistryLogin
from mrtd.images.signing import SigningKey

PROGRAM: Final = "skopeo"
ACCEPT_ANYTHING: Final = [{"type": "insecureAcceptAnything"}]
_REJECTED: Final = re.compile(r"Source image rejected: (.*)")
_NO_RULE: Final = re.compile(r"Running image \S+ is rejected by policy")
_SEVERAL: Final = "None of the signatures were accepted, reasons: "
# Of "rejected" is also what could not be fetched: these are the reasons of containers/image's
# signature package that say something of the image (skopeo 1.22, 1.9 of Debian).
_REFUSALS: Final = re.compile(
    "A signature was required, but no signature exists"
    "|cryptographic signature verification failed"
    "|Signature (?:by|for) .* (?:is not accepted|does not match)"
    "|Required email .* not found"
    "|Unexpected Fulcio OIDC issuer"
    "|missing dev.sigstore.cosign/"
    "|Debian-local change: sigstore disabled"
    "|is rejected by policy"
)
_BAD_POLICY: Final = re.compile(r"Error loading trust policy: (.*)")
_ABSENT: Final = re.compile(r"manifest unknown|name unknown|MANIFEST_UNKNOWN|NAME_UNKNOWN")
_NO_LOGIN: Final = RegistryLogin()
_POLICY_FILE: Final = "policy.json"
_ATTACHMENTS: Final = "docker:\n  {}:\n    use-sigstore-attachments: true\n"


class Admitted(msgspec.Struct, frozen=True, tag_field="outcome", tag="admitted"):
    """The policy lets the image in, for one platform."""

    image: ImageReference


class Rejected(msgspec.Struct, frozen=True, tag_field="outcome", tag="rejected"):
    """The policy keeps the image out."""

    image: ImageReference
    why: str


class Unknown(msgspec.Struct, frozen=True, tag_field="outcome", tag="unknown"):
    """It could not be found out."""

    image: ImageReference
    why: str


PolicyOutcome: TypeAlias = Admitted | Rejected | Unknown


class BadPolicy(InputError):
    """skopeo, and so podman, cannot read a policy: it would refuse everything."""


@dataclass(frozen=True, slots=True)
class Skopeo:
    """A skopeo, and logins of registries."""

    program: Program
    login: RegistryLogin = _NO_LOGIN

    @classmethod
    def find(
        cls,
        explicit: Path | None = None,
        *,
        login: RegistryLogin = _NO_LOGIN,
        seconds: float = 3600,
    ) -> Self:
        """The skopeo given, or that on the search path. Raises `ToolMissing`."""
        return cls(Program.find(PROGRAM, explicit, seconds=seconds), login)

    def admits(self, image: ImageReference, policy: Path, *, platform: str) -> PolicyOutcome:
        """Whether a guest's policy lets an image in; it is fetched, as podman would. Never raises.

        Args:
            image: by digest; of an index, what ``platform`` names is checked, too.
            policy: folder with ``policy.json`` and ``registries.d``.
            platform: such as ``linux/amd64``.
        """
        system, _, rest = platform.partition("/")
        machine, _, variant = rest.partition("/")
        words = [f"--override-os={system}", f"--override-arch={machine}"]
        words += [f"--override-variant={variant}"] if variant else []
        try:
            said = self._copy(
                words, _docker(image), "dir:fetched", policy.absolute(), source=image.repository
            )
        except (MrtdError, OSError) as error:
            return Unknown(image, f"{PROGRAM} could not be run: {error}")
        if said.status == 0:
            return Admitted(image)
        why = _refusal(said.stderr)
        return Rejected(image, why) if why else Unknown(image, said.short)

    def fetch(self, image: ImageReference, folder: Path) -> None:
        """Copy one image (not an index) as it is into a new folder, in skopeo's ``dir`` format.

        Raises:
            TransportError: it could not be had.
        """
        scope = {"docker": {str(image): ACCEPT_ANYTHING}}
        with _folder(scope, {}) as policy:
            said = self._copy(
                ["--preserve-digests"],
                _docker(image),
                f"dir:{folder.absolute()}",
                policy,
                source=image.repository,
            )
        _demand(said, f"{image} could not be fetched")

    def push(
        self, layout: Path, repository: Repository, tag: str, *, sign: SigningKey | None = None
    ) -> None:
        """Copy an OCI layout, an index with all that it names, to a registry, byte for byte.

        Args:
            layout: folder with ``oci-layout``.
            repository: where to.
            tag: name of it there.
            sign: sign it for podman on the way; cosign's way signs the parts of an index, too.

        Raises:
            TransportError: it is not there, or not whole.
        """
        words = ["--all", "--preserve-digests", "--retry-times=2"]
        attachments = {"mrtd.yaml": _ATTACHMENTS.format(repository)} if sign else {}
        scope = {"oci": {"": ACCEPT_ANYTHING}}
        with ExitStack() as stack:
            policy = stack.enter_context(_folder(scope, attachments))
            fds: tuple[int, ...] = ()
            if sign:
                secrets = (sign.pem, sign.password)
                fds = tuple(stack.enter_context(_in_memory(text)) for text in secrets)
                words += [
                    f"--sign-by-sigstore-private-key=/proc/self/fd/{fds[0]}",
                    f"--sign-passphrase-file=/proc/self/fd/{fds[1]}",
                ]
            said = self._copy(
                words,
                f"oci:{layout.absolute()}",
                f"docker://{repository}:{tag}",
                policy,
                destination=repository,
                pass_fds=fds,
            )
        _demand(said, f"{repository}:{tag} could not be pushed")

    def manifest(self, image: ImageReference) -> bytes | None:
        """A manifest's bytes, which have its digest; None if the registry has none.

        Raises:
            TransportError: it could not be had, or is another.
        """
        data = self._inspect(_docker(image), image.repository)
        if data is not None and hashlib.sha256(data).hexdigest() != image.hex:
            raise TransportError(f"{image.repository.registry} sends another manifest as {image}")
        return data

    def digest_of(self, repository: Repository, tag: str) -> str | None:
        """What a tag names now; None if there is none. Raises `TransportError`."""
        data = self._inspect(f"docker://{repository}:{tag}", repository)
        return None if data is None else f"sha256:{hashlib.sha256(data).hexdigest()}"

    def _inspect(self, name: str, repository: Repository) -> bytes | None:
        words = ["--raw", "--authfile=config.json", *_tls("", repository)]
        try:
            said = self.program.run("inspect", *words, name, files=self.login.files, seconds=120)
        except ToolFailed as error:
            raise TransportError(f"{name}: {error.message}") from error
        if said.status != 0 and _ABSENT.search(said.stderr):
            return None
        _demand(said, f"{name} could not be read")
        return said.stdout

    def _copy(
        self,
        words: list[str],
        source_name: str,
        destination_name: str,
        policy: Path,
        *,
        source: Repository | None = None,
        destination: Repository | None = None,
        pass_fds: tuple[int, ...] = (),
    ) -> Said:
        tls = [*_tls("src-", source), *_tls("dest-", destination)]
        said = self.program.run(
            f"--policy={policy / _POLICY_FILE}",
            f"--registries.d={policy / 'registries.d'}",
            "copy",
            "--quiet",
            "--authfile=config.json",
            *tls,
            *words,
            source_name,
            destination_name,
            files=self.login.files,
            environment={"CONTAINERS_REGISTRIES_CONF": "/dev/null"},
            pass_fds=pass_fds,
        )
        if found := _BAD_POLICY.search(said.stderr):
            raise BadPolicy(found[1].rstrip('"\n')[:400], origin=str(policy / _POLICY_FILE))
        return said


def _refusal(stderr: str) -> str:
    """Why a policy keeps an image out; empty where something else went wrong."""
    if _NO_RULE.search(stderr):
        return "the policy has no rule for it"
    found = _REJECTED.search(stderr)
    text = found[1].rstrip('"').replace('\\"', '"') if found else ""
    reasons = text.removeprefix(_SEVERAL).split("; ")
    return text if all(_REFUSALS.search(reason) for reason in reasons) else ""


def _docker(image: ImageReference) -> str:
    return f"docker://{image}"


def _tls(prefix: str, repository: Repository | None) -> list[str]:
    """Registries on this machine, and no others, may be without TLS."""
    return [f"--{prefix}tls-verify=false"] if repository and repository.is_loopback else []


def _demand(said: Said, what: str) -> None:
    if said.status != 0:
        raise TransportError(f"{what}: {said.short}")


@contextmanager
def _folder(scopes: Mapping[str, object], attachments: Mapping[str, str]) -> Iterator[Path]:
    """A policy of our own: what is named, and nothing else."""
    with tempfile.TemporaryDirectory(prefix="mrtd-") as name:
        folder = Path(name)
        policy = {"default": [{"type": "reject"}], "transports": scopes}
        (folder / _POLICY_FILE).write_text(json.dumps(policy), encoding="utf-8")
        (folder / "registries.d").mkdir()
        for file, text in attachments.items():
            (folder / "registries.d" / file).write_text(text, encoding="utf-8")
        yield folder


@contextmanager
def _in_memory(text: str) -> Iterator[int]:
    """A file that is nowhere but in memory, for what skopeo takes from files only."""
    descriptor = os.memfd_create("secret")
    try:
        os.write(descriptor, text.encode())
        os.lseek(descriptor, 0, os.SEEK_SET)
        yield descriptor
    finally:
        os.close(descriptor)
