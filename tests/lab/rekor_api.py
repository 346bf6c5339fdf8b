"""How entries are sent to Rekor, and what it answers: the HTTP bodies of versions 1 and 2.

Sources: Rekor, openapi.yaml (POST /api/v1/log/entries) and dsse_v0_0_1_schema.json; rekor-tiles,
rekor_service.proto (POST /api/v2/log/entries) and hashedrekord.proto.
"""

from __future__ import annotations

import json
from base64 import b64decode
from datetime import datetime
from threading import Lock
from typing import Any

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed

from tests.lab.envelope import Envelope
from tests.lab.merkle import leaf_hash
from tests.lab.rekor import RekorV1, RekorV2, dsse_body, hashedrekord
from tests.lab.web import Answer


class EntryRefused(Exception):
    """The log does not take the entry in: 400."""


class RekorV1Api:
    """``/api/v1/log/entries``. An entry that is there already is a conflict (409)."""

    def __init__(self, log: RekorV1) -> None:
        self._log = log
        self._known: set[str] = set()
        self._lock = Lock()

    def create(self, request: bytes, at: datetime) -> Answer:
        """Take an entry in. Raises `EntryRefused`."""
        envelope, certificate = _proposed_dsse(request)
        body = dsse_body(envelope, certificate)
        # Rekor names an entry by tree id and leaf hash
        name = "24296fb24b8ad77a" + leaf_hash(body).hex()
        where = {"Location": f"/api/v1/log/entries/{name}", "ETag": name}
        with self._lock:
            if name in self._known:
                text = b'{"code":409,"message":"an equivalent entry already exists"}'
                return Answer(409, text, where)
            self._known.add(name)
        entry = self._log.entry(body, at)
        return Answer(201, json.dumps({name: _v1_json(entry)}).encode(), where)


class RekorV2Api:
    """``/api/v2/log/entries``."""

    def __init__(self, log: RekorV2) -> None:
        self._log = log

    def create(self, request: bytes) -> Answer:
        """Take an entry in. Raises `EntryRefused`."""
        try:
            asked = json.loads(request)["hashedRekordRequestV002"]
            digest = b64decode(asked["digest"], validate=True)
            signature = b64decode(asked["signature"]["content"], validate=True)
            der = b64decode(asked["signature"]["verifier"]["x509Certificate"]["rawBytes"])
            certificate = x509.load_der_x509_certificate(der)
        except (ValueError, KeyError, TypeError) as error:
            raise EntryRefused(f"no hashedrekord: {error!r}") from error
        _check(certificate, signature, digest)
        entry = self._log.entry(hashedrekord(digest, signature, certificate))
        return Answer(201, json.dumps(entry).encode())


def _proposed_dsse(request: bytes) -> tuple[Envelope, x509.Certificate]:
    """Envelope and certificate of a proposed dsse entry, once its signature is genuine."""
    try:
        asked = json.loads(request)
        if (asked["kind"], asked["apiVersion"]) != ("dsse", "0.0.1"):
            raise EntryRefused("this log takes dsse entries only")
        content = asked["spec"]["proposedContent"]
        inner = json.loads(content["envelope"])
        (verifier,) = content["verifiers"]
        (signature,) = [b64decode(item["sig"], validate=True) for item in inner["signatures"]]
        payload = b64decode(inner["payload"], validate=True)
        envelope = Envelope(inner["payloadType"], payload, (signature,))
        certificate = x509.load_pem_x509_certificate(b64decode(verifier, validate=True))
    except (ValueError, KeyError, TypeError) as error:
        raise EntryRefused(f"no dsse entry: {error!r}") from error
    hashed = hashes.Hash(hashes.SHA256())
    hashed.update(envelope.pae())
    _check(certificate, signature, hashed.finalize())
    return envelope, certificate


def _check(certificate: x509.Certificate, signature: bytes, digest: bytes) -> None:
    key = certificate.public_key()
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise EntryRefused("this log knows ECDSA only")
    try:
        key.verify(signature, digest, ec.ECDSA(Prehashed(hashes.SHA256())))
    except (InvalidSignature, ValueError) as error:
        raise EntryRefused("the signature is not one of the certificate's key") from error


def _v1_json(entry: dict[str, Any]) -> dict[str, Any]:
    """A TransparencyLogEntry as version 1 answers it: hex for base64, numbers for strings."""
    proof = entry["inclusionProof"]
    return {
        "body": entry["canonicalizedBody"],
        "integratedTime": int(entry["integratedTime"]),
        "logID": b64decode(entry["logId"]["keyId"]).hex(),
        "logIndex": int(entry["logIndex"]),
        "verification": {
            "inclusionProof": {
                "checkpoint": proof["checkpoint"]["envelope"],
                "hashes": [b64decode(item).hex() for item in proof["hashes"]],
                "logIndex": int(proof["logIndex"]),
                "rootHash": b64decode(proof["rootHash"]).hex(),
                "treeSize": int(proof["treeSize"]),
            },
            "signedEntryTimestamp": entry["inclusionPromise"]["signedEntryTimestamp"],
        },
    }
