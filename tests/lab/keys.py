"""Keys of the lab, made from a seed: an instance of the same seed has the same keys."""

from __future__ import annotations

import hashlib
from functools import cache
from typing import Final, TypeAlias

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa

PrivateKey: TypeAlias = ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | rsa.RSAPrivateKey
PublicKey: TypeAlias = ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey | rsa.RSAPublicKey
P256: Final = ec.SECP256R1()
P384: Final = ec.SECP384R1()


def ec_key(seed: str, role: str, curve: ec.EllipticCurve = P256) -> ec.EllipticCurvePrivateKey:
    """The key of a role: a scalar of one byte less than the curve has, so always in range."""
    digest = hashlib.sha512(f"{seed}/{role}".encode()).digest()
    return ec.derive_private_key(int.from_bytes(digest[: curve.key_size // 8 - 1]), curve)


def ed25519_key(seed: str, role: str) -> ed25519.Ed25519PrivateKey:
    """The Ed25519 key of a role."""
    digest = hashlib.sha256(f"{seed}/{role}".encode()).digest()
    return ed25519.Ed25519PrivateKey.from_private_bytes(digest)


@cache
def rsa_key() -> rsa.RSAPrivateKey:
    """One RSA key for all who need one: making it takes most of a second."""
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def spki(key: PublicKey) -> bytes:
    """SubjectPublicKeyInfo, DER."""
    return key.public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def key_id(key: PublicKey) -> bytes:
    """SHA-256 of the SubjectPublicKeyInfo: log ids of Rekor v1 and CT logs (RFC 6962, 3.2)."""
    return hashlib.sha256(spki(key)).digest()


def sign(key: PrivateKey, data: bytes) -> bytes:
    """A signature with SHA-256, or Ed25519's own; ECDSA's in DER."""
    if isinstance(key, ec.EllipticCurvePrivateKey):
        return key.sign(data, ec.ECDSA(hashes.SHA256()))
    if isinstance(key, rsa.RSAPrivateKey):
        return key.sign(data, padding.PKCS1v15(), hashes.SHA256())
    return key.sign(data)


def key_details(key: PublicKey) -> str:
    """The key's name in Sigstore's algorithm registry (protobuf-specs, PublicKeyDetails)."""
    if isinstance(key, ec.EllipticCurvePublicKey):
        return {256: "PKIX_ECDSA_P256_SHA_256", 384: "PKIX_ECDSA_P384_SHA_384"}[key.key_size]
    if isinstance(key, rsa.RSAPublicKey):
        return "PKIX_RSA_PKCS1V15_2048_SHA256"
    return "PKIX_ED25519"
