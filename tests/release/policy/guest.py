"""``images.toml`` of a test, its keys, and small images of one program."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import subprocess
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from release.cli import main
from release.policy_dummy import new_key, public_pem

DIGEST: Final = "sha256:" + "ab" * 32
IDENTITY: Final = """\
[repositories.identity]
repository = "owner/name"
repository_id = 1000001
owner_id = 2000002
workflow = ".github/workflows/release.yml"
"""
SIGNER: Final = "https://github.com/owner/name/.github/workflows/release.yml@refs/heads/main"


def images_toml(
    *,
    folder: Path | str = "/var/lib/guest/.config/containers",
    podman: Path | str = "/var/lib/guest/bin/podman",
    sources: Mapping[str, tuple[str, ...]] | None = None,
    exceptions: Mapping[str, str] | None = None,
    guest: str = "",
) -> str:
    """The text of an ``images.toml``: repositories with their keys, images with expiry dates."""
    text = f'schema = "mrtd.images/1"\n[guest]\nfolder = "{folder}"\npodman = "{podman}"\n{guest}\n'
    for repository, keys in (sources or {}).items():
        names = ", ".join(f'"{key}"' for key in keys)
        text += f'[[repositories]]\nrepository = "{repository}"\nkeys = [{names}]\n{IDENTITY}\n'
    for image, expires in (exceptions or {}).items():
        text += (
            f'[[exceptions]]\nimage = "{image}"\nreason = "needed"\nowner = "an owner"\n'
            f"expires = {expires}\n"
        )
    return text


@dataclass(frozen=True, slots=True)
class Rendered:
    """A folder of a test: ``images.toml``, keys, and what is rendered.

    Attributes:
        folder: of the test; ``HOME`` of podman is ``home`` in it.
    """

    folder: Path
    public: dict[str, bytes] = field(default_factory=dict)

    @property
    def toml(self) -> Path:
        return self.folder / "images.toml"

    @property
    def home(self) -> Path:
        return self.folder / "home"

    @property
    def policy(self) -> Path:
        return self.home / ".config" / "containers"

    @property
    def launcher(self) -> Path:
        return self.policy / "dd-podman"

    def key(self, name: str, public: bytes | None = None) -> None:
        """Add a public key; a new one, if none is given."""
        (self.folder / "keys").mkdir(exist_ok=True)
        (self.folder / "keys" / name).write_bytes(public or public_pem(new_key()))

    def render(self, text: str, *options: str) -> int:
        """Write the settings and render them where podman looks; the exit code."""
        self.toml.write_text(text, encoding="utf-8")
        self.policy.parent.mkdir(parents=True, exist_ok=True)
        command = ["policy", "render", "--images", str(self.toml), "--out", str(self.policy)]
        return main([*command, *options], stdout=io.StringIO(), stderr=io.StringIO())


def write_layout(folder: Path, *, program: bytes = b"", text: str = "an image") -> str:
    """An OCI layout of one image: ``/bin/busybox`` and a text. Its digest."""
    blobs = folder / "blobs" / "sha256"
    blobs.mkdir(parents=True)

    def blob(data: bytes) -> dict[str, str | int]:
        digest = hashlib.sha256(data).hexdigest()
        (blobs / digest).write_bytes(data)
        return {"digest": f"sha256:{digest}", "size": len(data)}

    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w") as tar:
        for name, data, mode in (("bin/busybox", program, 0o755), ("text", text.encode(), 0o644)):
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(data), mode
            tar.addfile(entry, io.BytesIO(data))
    config = {
        "architecture": "amd64",
        "os": "linux",
        "config": {"Cmd": ["/bin/busybox", "cat", "/text"]},
        "rootfs": {
            "type": "layers",
            "diff_ids": [f"sha256:{hashlib.sha256(layer.getvalue()).hexdigest()}"],
        },
    }
    kind = "application/vnd.oci.image"
    manifest = {
        "schemaVersion": 2,
        "mediaType": f"{kind}.manifest.v1+json",
        "config": {"mediaType": f"{kind}.config.v1+json", **blob(json.dumps(config).encode())},
        "layers": [
            {
                "mediaType": f"{kind}.layer.v1.tar+gzip",
                **blob(gzip.compress(layer.getvalue(), compresslevel=1, mtime=0)),
            }
        ],
    }
    described = {"mediaType": f"{kind}.manifest.v1+json", **blob(json.dumps(manifest).encode())}
    (folder / "index.json").write_text(
        json.dumps({"schemaVersion": 2, "manifests": [described]}), encoding="utf-8"
    )
    (folder / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}', encoding="utf-8")
    return str(described["digest"])


def skopeo_key(skopeo: Path, folder: Path, password: str) -> tuple[bytes, bytes]:
    """A key pair as skopeo makes them: private (encrypted) and public."""
    (folder / "password").write_text(password, encoding="utf-8")
    subprocess.run(
        [skopeo, "generate-sigstore-key", "--output-prefix", folder / "pair",
         "--passphrase-file", folder / "password"],
        capture_output=True, check=True, timeout=120,
    )  # fmt: skip
    return (folder / "pair.private").read_bytes(), (folder / "pair.pub").read_bytes()
