"""Public keys of image signatures: ECDSA P-256 in PEM, as cosign and skopeo make them."""

from __future__ import annotations

import base64
import binascii
import re
from pathlib import Path
from typing import Final

from mrtd.errors import ImagesError

_SIZE_LIMIT: Final = 4096
_PEM: Final = re.compile(
    rb"-----BEGIN PUBLIC KEY-----\r?\n((?:[A-Za-z0-9+/=]{1,64}\r?\n){1,8})"
    rb"-----END PUBLIC KEY-----\s*"
)
# SubjectPublicKeyInfo of an uncompressed point (RFC 5480): id-ecPublicKey, prime256v1, BIT STRING
_P256: Final = bytes.fromhex("3059301306072a8648ce3d020106082a8648ce3d03010703420004")
# The curve y^2 = x^3 - 3x + b over the integers modulo p (SEC 2, 2.4.2)
_PRIME: Final = 2**256 - 2**224 + 2**192 + 2**96 - 1
_B: Final = 0x5AC635D8AA3A93E7B3EBBD55769886BC651D06B0CC53B0F63BCE3C3E27D2604B


def check_key(data: bytes, *, origin: str) -> None:
    """Refuse what podman could not verify a signature with; nothing of it is shown.

    Raises:
        ImagesError: no PEM of a public key on P-256, or a private key.
    """
    if b"PRIVATE KEY" in data:
        raise ImagesError(
            "is a private key",
            origin=origin,
            hint="take it out of the tree and replace it: it goes into no guest. The public one "
            "is the file that ends in .pub",
        )
    found = _PEM.fullmatch(data)
    try:
        key = base64.b64decode(b"".join(found[1].split()), validate=True) if found else b""
    except binascii.Error:
        key = b""
    if not key.startswith(_P256) or len(key) != len(_P256) + 64 or not _on_curve(key[-64:]):
        raise ImagesError(
            "is no public key of ECDSA P-256 in PEM",
            origin=origin,
            hint="make one with: cosign generate-key-pair",
        )


def read_keys(folder: Path, names: tuple[str, ...]) -> dict[str, bytes]:
    """The named public keys of a folder, checked. Raises `ImagesError`."""
    found: dict[str, bytes] = {}
    for name in names:
        path = folder / name
        try:
            with path.open("rb") as file:
                found[name] = file.read(_SIZE_LIMIT)
        except OSError as error:
            raise ImagesError(
                f"cannot be read: {error.strerror}",
                origin=str(path),
                hint="images.toml names it; public keys are in the folder keys beside it",
            ) from error
        check_key(found[name], origin=str(path))
    return found


def _on_curve(point: bytes) -> bool:
    x, y = int.from_bytes(point[:32], "big"), int.from_bytes(point[32:], "big")
    inside = x < _PRIME and y < _PRIME
    return inside and (y * y - (x * x * x - 3 * x + _B)) % _PRIME == 0
