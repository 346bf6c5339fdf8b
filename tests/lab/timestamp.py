"""A timestamp authority (RFC 3161), whose answers look like those of timestamp.githubapp.com.

The token is a CMS SignedData (RFC 5652, 5) over a TSTInfo, with the signed attributes that
RFC 3161, 2.4.2, and RFC 5816 (ESSCertIDv2) ask for; it carries no certificates.
"""

from __future__ import annotations

import hashlib
from datetime import datetime
from typing import Any, Final

from asn1crypto import algos, cms, core, tsp  # type: ignore[import-untyped]
from asn1crypto import x509 as asn1_x509
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID

from tests.lab.fulcio import (
    CLOSED,
    FOUNDED,
    Authority,
    certificate,
    distinguished_name,
    key_usage,
)
from tests.lab.keys import P384, ec_key, sign

POLICY: Final = "1.3.6.1.4.1.57264.2"  # Sigstore's, in all of its timestamps


class TimestampAuthority:
    """Key and certificates of the authority.

    Attributes:
        chain: its certificate, then the root's.
    """

    def __init__(self, seed: str, organization: str) -> None:
        self._key = ec_key(seed, "timestamp authority")
        root = Authority.make(
            distinguished_name(organization, "tsa-root"), ec_key(seed, "tsa root", P384), None
        )
        public = self._key.public_key()
        usage = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.TIME_STAMPING])
        leaf = certificate(
            distinguished_name(organization, "tsa"),
            public,
            (root.certificate.subject, root.key),
            (FOUNDED, CLOSED),
            [
                (key_usage("digital_signature"), True),
                (usage, True),  # RFC 3161, 2.3: critical, and nothing else
                (x509.SubjectKeyIdentifier.from_public_key(public), False),
                (root.key_identifier(), False),
            ],
        )
        self.chain = [leaf, root.certificate]
        self._leaf = asn1_x509.Certificate.load(leaf.public_bytes(Encoding.DER))

    def stamp(self, data: bytes, at: datetime) -> bytes:
        """A TimeStampResp: ``data`` existed at ``at`` (whole seconds)."""
        return self._respond(hashlib.sha256(data).digest(), at)

    def answer(self, request: bytes, at: datetime) -> bytes:
        """A TimeStampResp to a TimeStampReq with SHA-256. Raises `ValueError`."""
        asked = tsp.TimeStampReq.load(request, strict=True)
        imprint = asked["message_imprint"]
        if imprint["hash_algorithm"]["algorithm"].native != "sha256":
            raise ValueError("this authority stamps SHA-256 only")
        return self._respond(imprint["hashed_message"].native, at, nonce=asked["nonce"].native)

    def _respond(self, imprint: bytes, at: datetime, *, nonce: int | None = None) -> bytes:
        info = tsp.TSTInfo(
            {
                "version": "v1",
                "policy": POLICY,
                "message_imprint": {
                    "hash_algorithm": {"algorithm": "sha256"},
                    "hashed_message": imprint,
                },
                "serial_number": x509.random_serial_number(),
                "gen_time": at.replace(microsecond=0),
                "accuracy": {"seconds": 1},
                **({} if nonce is None else {"nonce": nonce}),
                "tsa": asn1_x509.GeneralName("directory_name", self._leaf.subject),
            }
        )
        token = {"content_type": "signed_data", "content": self._signed_data(info, at)}
        answer = tsp.TimeStampResp({"status": {"status": "granted"}, "time_stamp_token": token})
        encoded: bytes = answer.dump()
        return encoded

    def _signed_data(self, info: Any, at: datetime) -> Any:
        attributes = self._signed_attributes(info.dump(), at)
        # RFC 5652, 5.4: signed is the SET OF, not the [0] that stands in its place.
        signature = sign(self._key, attributes.dump())
        signer = {
            "version": "v1",
            "sid": cms.SignerIdentifier("issuer_and_serial_number", self._issuer_and_serial()),
            "digest_algorithm": {"algorithm": "sha256"},
            "signed_attrs": attributes,
            "signature_algorithm": {"algorithm": "sha256_ecdsa"},
            "signature": signature,
        }
        return cms.SignedData(
            {
                "version": "v3",
                "digest_algorithms": [{"algorithm": "sha256"}],
                "encap_content_info": {
                    "content_type": "tst_info",
                    "content": core.ParsableOctetString(info.dump()),
                },
                "certificates": [],
                "signer_infos": [signer],
            }
        )

    def _signed_attributes(self, content: bytes, at: datetime) -> Any:
        serial = self._issuer_and_serial()
        reference = tsp.ESSCertIDv2(
            {
                "hash_algorithm": algos.DigestAlgorithm({"algorithm": "sha256"}),
                "cert_hash": hashlib.sha256(self._leaf.dump()).digest(),
                "issuer_serial": {
                    "issuer": [asn1_x509.GeneralName("directory_name", self._leaf.issuer)],
                    "serial_number": serial["serial_number"],
                },
            }
        )
        kind = "utc_time" if at.year < 2050 else "generalized_time"  # RFC 5652, 11.3
        values: list[tuple[str, Any]] = [
            ("content_type", "tst_info"),
            ("signing_time", cms.Time(kind, at.replace(microsecond=0))),
            ("message_digest", hashlib.sha256(content).digest()),
            ("signing_certificate_v2", {"certs": [reference]}),
        ]
        return cms.CMSAttributes([{"type": name, "values": [value]} for name, value in values])

    def _issuer_and_serial(self) -> Any:
        return cms.IssuerAndSerialNumber(
            {"issuer": self._leaf.issuer, "serial_number": self._leaf.serial_number}
        )
