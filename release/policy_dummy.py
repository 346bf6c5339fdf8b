"""A small image in a folder (``dir:`` of containers/image), unsigned or signed with a key of ours.

With it, a program is asked what it accepts without a registry, a network or the storage of images.
The layout is that of containers-transports(5) and containers-signature(5); the signature is the one
that cosign and skopeo make ("simple signing": a payload, and its signature in an annotation).
"""

from __future__ import annotations

import base64
import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

REPOSITORY: Final = "probe.invalid/image"
_VERSION: Final = "Directory Transport Version: 1.2\n"
_SIGNATURE: Final = b"\0sigstore-json\n"
_OCI: Final = "application/vnd.oci.image"


def new_key() -> EllipticCurvePrivateKey:
    """A key that nothing else is signed with; it is written nowhere."""
    from cryptography.hazmat.primitives.asymmetric import ec  # noqa: PLC0415

    return ec.generate_private_key(ec.SECP256R1())


def public_pem(key: EllipticCurvePrivateKey) -> bytes:
    """The public half, as podman reads it."""
    from cryptography.hazmat.primitives import serialization  # noqa: PLC0415

    return key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def write_image(folder: Path, *, signed_by: EllipticCurvePrivateKey | None) -> None:
    """Write an image without layers, whose reference is `REPOSITORY`."""
    folder.mkdir()
    config = json.dumps(
        {"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": []}}
    ).encode()
    digest = hashlib.sha256(config).hexdigest()
    manifest = json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": f"{_OCI}.manifest.v1+json",
            "config": {
                "mediaType": f"{_OCI}.config.v1+json",
                "digest": f"sha256:{digest}",
                "size": len(config),
            },
            "layers": [],
        }
    ).encode()
    (folder / "version").write_text(_VERSION, encoding="ascii")
    (folder / digest).write_bytes(config)
    (folder / "manifest.json").write_bytes(manifest)
    if signed_by is not None:
        (folder / "signature-1").write_bytes(_signature(manifest, signed_by))


def _signature(manifest: bytes, key: EllipticCurvePrivateKey) -> bytes:
    from cryptography.hazmat.primitives import hashes  # noqa: PLC0415
    from cryptography.hazmat.primitives.asymmetric import ec  # noqa: PLC0415

    digest = hashlib.sha256(manifest).hexdigest()
    payload = json.dumps(
        {
            "critical": {
                "identity": {"docker-reference": REPOSITORY},
                "image": {"docker-manifest-digest": f"sha256:{digest}"},
                "type": "cosign container image signature",
            },
            "optional": None,
        }
    ).encode()
    made = key.sign(payload, ec.ECDSA(hashes.SHA256()))
    body = {
        "mimeType": "application/vnd.dev.cosign.simplesigning.v1+json",
        "payload": base64.b64encode(payload).decode(),
        "annotations": {"dev.cosignproject.cosign/signature": base64.b64encode(made).decode()},
    }
    return _SIGNATURE + json.dumps(body).encode()
