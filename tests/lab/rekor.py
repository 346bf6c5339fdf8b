"""Transparency logs for signatures: Rekor v1 and v2.

Sources: Sigstore protobuf-specs (sigstore_rekor.proto: TransparencyLogEntry), Rekor's types
dsse/0.0.1 and hashedrekord/0.0.2, C2SP signed-note and tlog-checkpoint, and published bundles.
"""

from __future__ import annotations

import hashlib
from base64 import b64decode
from dataclasses import dataclass
from datetime import datetime
from threading import Lock
from typing import Any, Final

import rfc8785
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tests.lab.envelope import Envelope, base64
from tests.lab.keys import PrivateKey, ec_key, ed25519_key, key_details, key_id, sign
from tests.lab.merkle import MerkleTree

_EARLIER_ENTRIES: Final = 6
_ED25519_NOTE: Final = b"\x01"  # C2SP signed-note: signature types


@dataclass(frozen=True, slots=True)
class Proof:
    """An inclusion proof: of which entry, in which tree."""

    index: int
    size: int
    root: bytes
    hashes: list[bytes]


class RekorLog:
    """A log: tree, key and signed checkpoints. It is what v1 and v2 have in common.

    Attributes:
        base_url: where clients would find it.
        origin: the first line of its checkpoints.
        log_id: its name in bundles and trusted roots.
    """

    def __init__(self, host: str, origin: str, key: PrivateKey, log_id: bytes) -> None:
        self.base_url = f"https://{host}"
        self.origin = origin
        self.log_id = log_id
        self.key = key
        self._host = host
        self._tree = MerkleTree()
        self._lock = Lock()
        for number in range(_EARLIER_ENTRIES):
            self._tree.append(b"entry of somebody else %d" % number)

    def append(self, body: bytes) -> Proof:
        """Take an entry in; the proof is given when another one has already come after it."""
        with self._lock:
            index = self._tree.append(body)
            size = self._tree.append(hashlib.sha256(body).digest()) + 1
            return Proof(index, size, self._tree.root(), self._tree.inclusion_proof(index))

    def checkpoint(self, size: int, root: bytes, *, origin: str | None = None) -> str:
        """A signed checkpoint: text, blank line, and ``— name base64(hint | signature)``."""
        text = f"{origin or self.origin}\n{size}\n{base64(root)}\n"
        signature = base64(self.log_id[:4] + sign(self.key, text.encode()))
        return f"{text}\n— {self._host} {signature}\n"

    def _entry(self, kind: str, version: str, body: bytes, first_index: int) -> dict[str, Any]:
        proof = self.append(body)
        return {
            "logIndex": str(first_index + proof.index),
            "logId": {"keyId": base64(self.log_id)},
            "kindVersion": {"kind": kind, "version": version},
            "inclusionProof": {
                "logIndex": str(proof.index),
                "rootHash": base64(proof.root),
                "treeSize": str(proof.size),
                "hashes": [base64(item) for item in proof.hashes],
                "checkpoint": {"envelope": self.checkpoint(proof.size, proof.root)},
            },
            "canonicalizedBody": base64(body),
        }


class RekorV1(RekorLog):
    """ECDSA P-256; promises inclusion with a signed entry timestamp (SET).

    Indices of entries count through earlier trees, those of proofs do not.
    """

    FIRST_INDEX: Final = 121_904_262

    def __init__(self, seed: str, domain: str) -> None:
        key = ec_key(seed, "rekor v1")
        host = f"rekor.{domain}"
        super().__init__(host, f"{host} - 1193050959916656506", key, key_id(key.public_key()))

    def entry(self, body: bytes, at: datetime) -> dict[str, Any]:
        """The TransparencyLogEntry of a dsse/0.0.1 body, integrated at ``at``."""
        entry = self._entry("dsse", "0.0.1", body, self.FIRST_INDEX)
        entry["integratedTime"] = str(int(at.timestamp()))
        entry["inclusionPromise"] = {"signedEntryTimestamp": base64(self.promise(entry))}
        return entry

    def promise(self, entry: dict[str, Any]) -> bytes:
        """The SET: a signature over the canonical JSON (RFC 8785) of what the log knows."""
        signed = {
            "body": entry["canonicalizedBody"],
            "integratedTime": int(entry["integratedTime"]),
            "logID": b64decode(entry["logId"]["keyId"]).hex(),
            "logIndex": int(entry["logIndex"]),
        }
        return sign(self.key, rfc8785.dumps(signed))


class RekorV2(RekorLog):
    """Ed25519; knows no time. Its id is the key id of its signed notes (C2SP signed-note)."""

    def __init__(self, seed: str, domain: str) -> None:
        key = ed25519_key(seed, "rekor v2")
        origin = f"log2025-1.rekor.{domain}"
        raw = key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        log_id = hashlib.sha256(origin.encode() + b"\n" + _ED25519_NOTE + raw).digest()
        super().__init__(origin, origin, key, log_id)

    def entry(self, body: bytes) -> dict[str, Any]:
        """The TransparencyLogEntry of a hashedrekord/0.0.2 body."""
        return self._entry("hashedrekord", "0.0.2", body, 0)


def dsse_body(
    envelope: Envelope, certificate: x509.Certificate, *, envelope_hash: bytes | None = None
) -> bytes:
    """What Rekor v1 stores of an envelope (pkg/types/dsse, dsse_v0_0_1_schema.json)."""
    payload_hash = hashlib.sha256(envelope.payload).hexdigest()
    hashed = envelope_hash or hashlib.sha256(rfc8785.dumps(envelope.to_json())).digest()
    verifier = base64(certificate.public_bytes(Encoding.PEM))
    spec: dict[str, Any] = {
        "envelopeHash": {"algorithm": "sha256", "value": hashed.hex()},
        "payloadHash": {"algorithm": "sha256", "value": payload_hash},
        "signatures": [
            {"signature": base64(signature), "verifier": verifier}
            for signature in envelope.signatures
        ],
    }
    return rfc8785.dumps({"apiVersion": "0.0.1", "kind": "dsse", "spec": spec})


def hashedrekord_body(envelope: Envelope, certificate: x509.Certificate) -> bytes:
    """What Rekor v2 stores of an envelope: the digest of its PAE (rekor-tiles, hashedrekord.proto).

    The hash is that of the key's algorithm in Sigstore's registry.
    """
    key = certificate.public_key()
    wide = isinstance(key, ec.EllipticCurvePublicKey) and key.key_size == 384
    digest = (hashlib.sha384 if wide else hashlib.sha256)(envelope.pae()).digest()
    return hashedrekord(digest, envelope.signatures[0], certificate)


def hashedrekord(digest: bytes, signature: bytes, certificate: x509.Certificate) -> bytes:
    """What Rekor v2 stores of a signature over a SHA-256 or SHA-384 digest."""
    verifier = {
        "keyDetails": key_details(certificate.public_key()),  # type: ignore[arg-type] # made by this lab
        "x509Certificate": {"rawBytes": base64(certificate.public_bytes(Encoding.DER))},
    }
    spec: dict[str, Any] = {
        "data": {"algorithm": f"SHA2_{8 * len(digest)}", "digest": base64(digest)},
        "signature": {"content": base64(signature), "verifier": verifier},
    }
    entry: dict[str, Any] = {
        "apiVersion": "0.0.2",
        "kind": "hashedrekord",
        "spec": {"hashedRekordV002": spec},
    }
    return rfc8785.dumps(entry)
