"""A certificate transparency log: the SCT that a certificate carries (RFC 6962, 3.2 and 3.3)."""

from __future__ import annotations

import struct
from datetime import datetime

from asn1crypto import core  # type: ignore[import-untyped]
from cryptography import x509

from tests.lab.keys import ec_key, key_id, sign

SCT_LIST_OID = x509.ObjectIdentifier("1.3.6.1.4.1.11129.2.4.2")
_V1, _CERTIFICATE_TIMESTAMP, _PRECERT_ENTRY = 0, 0, 1
_SHA256, _ECDSA = 4, 3  # RFC 5246, 7.4.1.4.1


class CertificateLog:
    """The log's key; it keeps no entries, since nobody asks for their inclusion.

    Attributes:
        public_key: what it is known by.
        log_id: SHA-256 of that.
    """

    def __init__(self, seed: str) -> None:
        self._key = ec_key(seed, "ct log")
        self.public_key = self._key.public_key()
        self.log_id = key_id(self.public_key)

    def sct(
        self, precertificate: x509.Certificate, issuer: x509.Certificate, at: datetime
    ) -> bytes:
        """A SignedCertificateTimestamp for what will be a certificate.

        ``precertificate`` is the certificate without its SCT extension: its TBSCertificate is what
        a verifier finds when it takes the extension out again.
        """
        milliseconds = int(at.timestamp() * 1000)
        tbs = precertificate.tbs_certificate_bytes
        issuer_key = issuer.public_key()
        signed = (
            struct.pack("!BBQH", _V1, _CERTIFICATE_TIMESTAMP, milliseconds, _PRECERT_ENTRY)
            + key_id(issuer_key)  # type: ignore[arg-type] # our own CA: P-384
            + len(tbs).to_bytes(3)
            + tbs
            + struct.pack("!H", 0)  # extensions
        )
        signature = sign(self._key, signed)
        return (
            struct.pack("!B32sQH", _V1, self.log_id, milliseconds, 0)
            + struct.pack("!BBH", _SHA256, _ECDSA, len(signature))
            + signature
        )


def sct_extension(scts: list[bytes]) -> x509.UnrecognizedExtension:
    """The certificate's extension: an OCTET STRING with a SignedCertificateTimestampList."""
    serialized = b"".join(struct.pack("!H", len(sct)) + sct for sct in scts)
    listed = struct.pack("!H", len(serialized)) + serialized
    return x509.UnrecognizedExtension(SCT_LIST_OID, core.OctetString(listed).dump())
