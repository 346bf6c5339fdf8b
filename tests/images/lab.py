"""A registry, a Sigstore, keys and programs: everything that images are signed and checked with."""

from __future__ import annotations

import itertools
import json
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from fixtures import images
from mrtd.images.cosign import Cosign
from mrtd.images.outcome import Identity, Key
from mrtd.images.program import Program
from mrtd.images.reference import ImageReference, Repository
from mrtd.images.signing import Oidc, SigningKey, Sigstore
from mrtd.images.skopeo import Skopeo
from tests.lab.identity import ISSUER, GitHubIdentity
from tests.lab.registry import Registry
from tests.lab.signing_server import SigningServer

PASSWORD: Final = "lab-password-which-nobody-may-see"  # noqa: S105 - opens nothing
IDENTITY: Final = Identity(GitHubIdentity.release().san, ISSUER)
_NUMBERS: Final = itertools.count()


@dataclass(frozen=True, slots=True)
class Programs:
    """Real programs, and key pairs.

    Attributes:
        ours, other: release keys; private half and public half.
    """

    cosign: Path
    skopeo: Path
    ours: tuple[SigningKey, Key]
    other: tuple[SigningKey, Key]

    @classmethod
    def make(cls, cosign: Path, skopeo: Path, folder: Path) -> Programs:
        pairs = []
        for name in ("ours", "other"):
            subprocess.run(
                [cosign, "generate-key-pair", "--output-key-prefix", name],
                cwd=folder,
                env={"COSIGN_PASSWORD": PASSWORD},
                check=True,
                capture_output=True,
                timeout=120,
            )
            pem = (folder / f"{name}.key").read_text(encoding="ascii")
            public = (folder / f"{name}.pub").read_bytes()
            pairs.append((SigningKey(pem, PASSWORD), Key(public, f"{name}.pub")))
        return cls(cosign, skopeo, *pairs)


@dataclass(slots=True)
class ImageLab:
    """One test's view of it: a namespace in the registry, and a folder.

    Attributes:
        said: what programs and messages said, for `leaks`.
    """

    programs: Programs
    registry: Registry
    server: SigningServer
    folder: Path
    namespace: str = field(default_factory=lambda: f"test{next(_NUMBERS)}")
    said: list[str] = field(default_factory=list)

    @property
    def cosign(self) -> Cosign:
        return Cosign(Program(self.programs.cosign, 120))

    @property
    def skopeo(self) -> Skopeo:
        return Skopeo(Program(self.programs.skopeo, 120))

    @property
    def oidc(self) -> Oidc:
        return Oidc.ambient(self.server.actions_environment())

    @property
    def sigstore(self) -> Sigstore:
        return Sigstore.of_client_config(self.server.trust_config().decode())

    @property
    def root(self) -> bytes:
        return self.server.instance.trusted_root_json()

    def repository(self, name: str = "ours", *, host: str | None = None) -> Repository:
        return Repository.read(f"{host or self.registry.host}/{self.namespace}/{name}")

    def push(self, name: str = "ours", *, tag: str = "v1", **options: Any) -> ImageReference:
        """Push a stand-in image; ``options`` are those of `fixtures.images.write_layout`."""
        digest, _ = self.push_all(name, tag=tag, **options)
        return digest

    def push_all(
        self, name: str = "ours", *, tag: str = "v1", **options: Any
    ) -> tuple[ImageReference, dict[str, ImageReference]]:
        """Likewise; also the image of each platform."""
        layout = self.folder / f"layout-{name}-{tag}-{next(_NUMBERS)}"
        digest, platforms = images.write_layout(layout, **options)
        repository = self.repository(name)
        self.skopeo.push(layout, repository, tag)
        return repository.at(digest), {p: repository.at(d) for p, d in platforms.items()}

    def copy_tag(self, source: Repository, target: Repository, tag: str) -> None:
        """Copy what a tag names to another repository, such as a signature."""
        policy = self.folder / "anything.json"
        policy.write_text('{"default":[{"type":"insecureAcceptAnything"}]}', encoding="ascii")
        options = [
            "--all",
            "--preserve-digests",
            "--src-tls-verify=false",
            "--dest-tls-verify=false",
        ]
        subprocess.run(
            [self.programs.skopeo, "--policy", policy, "copy", "--quiet", *options,
             f"docker://{source}:{tag}", f"docker://{target}:{tag}"],
            check=True, capture_output=True, timeout=120,
        )  # fmt: skip

    def policy(self, requirement: Mapping[str, Any] | None, *repositories: Repository) -> Path:
        """A guest's policy folder: our key (or another requirement) for repositories."""
        folder = self.folder / f"policy-{next(_NUMBERS)}"
        (folder / "registries.d").mkdir(parents=True)
        (folder / "keys").mkdir()
        (folder / "keys" / "ours.pub").write_bytes(self.programs.ours[1].pem)
        rule = requirement or {
            "type": "sigstoreSigned",
            "keyPath": str(folder / "keys" / "ours.pub"),
            "signedIdentity": {"type": "matchRepository"},
        }
        scopes = {str(one): [rule] for one in repositories}
        tree = {"default": [{"type": "reject"}], "transports": {"docker": scopes}}
        (folder / "policy.json").write_text(json.dumps(tree), encoding="utf-8")
        attachments = {str(one): {"use-sigstore-attachments": True} for one in repositories}
        text = json.dumps({"docker": attachments})
        (folder / "registries.d" / "lab.yaml").write_text(text, encoding="utf-8")
        return folder

    def secrets(self) -> set[str]:
        """Every value that nobody may see."""
        keys = {key.pem for key, _ in (self.programs.ours, self.programs.other)}
        return {PASSWORD, self.server.request_token, *self.server.issued, *keys}

    def leaks(self) -> list[str]:
        """Where a secret is to be seen: in what was said, and in files that were written."""
        places = {f"output {number}": text.encode() for number, text in enumerate(self.said)}
        places |= {str(p): p.read_bytes() for p in self.folder.rglob("*") if p.is_file()}
        secrets = [one.encode() for one in self.secrets()]
        return [name for name, data in places.items() if any(one in data for one in secrets)]
