"""DSSE envelopes (secure-systems-lab/dsse, protocol.md and envelope.md, 1.0)."""

from __future__ import annotations

from base64 import b64encode
from dataclasses import dataclass, replace
from typing import Any, Final

from tests.lab.flaws import Flaw
from tests.lab.keys import PrivateKey, ec_key, sign

IN_TOTO: Final = "application/vnd.in-toto+json"
OTHER_STATEMENT: Final = (
    b'{"_type":"https://in-toto.io/Statement/v1","subject":[{"name":"other","digest":'
    b'{"sha256":"' + b"0" * 64 + b'"}}],"predicateType":"https://example.com/other","predicate":{}}'
)


def pre_authentication_encoding(payload_type: str, payload: bytes) -> bytes:
    """PAE: what is signed."""
    kind = payload_type.encode()
    return b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(payload), payload)


@dataclass(frozen=True, slots=True)
class Envelope:
    """A payload, its type and its signatures."""

    payload_type: str
    payload: bytes
    signatures: tuple[bytes, ...]

    @classmethod
    def sign(
        cls, payload_type: str, payload: bytes, key: PrivateKey, flaw: Flaw | None = None
    ) -> Envelope:
        """Sign a payload; ``flaw`` is what goes wrong while signing, if that is one."""
        data = pre_authentication_encoding(payload_type, payload)
        if flaw is Flaw.SIGNATURE_WITHOUT_PAE:
            data = payload
        if flaw is Flaw.SIGNATURE_BY_OTHER_KEY:
            key = ec_key("lab", "not the certificate's")
        return cls(payload_type, payload, (sign(key, data),))

    def pae(self) -> bytes:
        return pre_authentication_encoding(self.payload_type, self.payload)

    def altered(self, flaw: Flaw | None, key: PrivateKey) -> Envelope:
        """What becomes of it after it was signed, logged and time-stamped."""
        if flaw is Flaw.PAYLOAD_ALTERED:
            return replace(self, payload=self.payload + b" ")
        if flaw is Flaw.PAYLOAD_TYPE_ALTERED:
            return replace(self, payload_type="text/plain")
        if flaw is Flaw.PAYLOAD_OF_OTHER_BUNDLE:
            return Envelope.sign(self.payload_type, OTHER_STATEMENT, key)
        again = sign(key, self.pae())
        signatures = {
            Flaw.NO_SIGNATURE: (),
            Flaw.EMPTY_SIGNATURE: (b"",),
            Flaw.TWO_SIGNATURES: (*self.signatures, again),
            Flaw.SIGNATURE_CORRUPTED: (flipped(self.signatures[0]),),
        }
        return replace(self, signatures=signatures[flaw]) if flaw in signatures else self

    def to_json(self) -> dict[str, Any]:
        """The envelope as bundles have it: a signature without key id."""
        return {
            "payload": base64(self.payload),
            "payloadType": self.payload_type,
            "signatures": [{"sig": base64(signature)} for signature in self.signatures],
        }


def base64(data: bytes) -> str:
    """Standard base64, as protobuf's JSON has bytes."""
    return b64encode(data).decode("ascii")


def flipped(data: bytes) -> bytes:
    """The same with the last bit changed."""
    return data[:-1] + bytes([data[-1] ^ 1])
