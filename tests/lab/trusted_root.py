"""The documents that tell clients whom to trust and whom to ask.

Source: Sigstore protobuf-specs, sigstore_trustroot.proto, and the production instance's documents.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, TypeAlias

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from tests.lab.envelope import base64
from tests.lab.keys import PublicKey, key_details, spki

TRUSTED_ROOT: Final = "application/vnd.dev.sigstore.trustedroot+json;version=0.1"
SIGNING_CONFIG: Final = "application/vnd.dev.sigstore.signingconfig.v0.2+json"
CLIENT_TRUST_CONFIG: Final = "application/vnd.dev.sigstore.clienttrustconfig.v0.1+json"
Json: TypeAlias = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Window:
    """``validFor``: from when to when somebody is to be trusted; None is "until further notice"."""

    start: datetime = datetime(2020, 1, 1, tzinfo=UTC)
    end: datetime | None = None

    def to_json(self) -> Json:
        window = {"start": _rfc3339(self.start)}
        if self.end is not None:
            window["end"] = _rfc3339(self.end)
        return window


@dataclass(frozen=True, slots=True, kw_only=True)
class Windows:
    """The window of each service. None leaves the service out of the trusted root."""

    certificate_authority: Window | None = Window()  # frozen
    ct_log: Window | None = Window()
    rekor_v1: Window | None = Window()
    rekor_v2: Window | None = Window()
    timestamp_authority: Window | None = Window()


def authority_json(url: str, chain: list[x509.Certificate], window: Window) -> Json:
    """A CertificateAuthority: a CA, or a timestamp authority."""
    subject = {attribute.rfc4514_attribute_name: attribute.value for attribute in chain[0].subject}
    certificates = [
        {"rawBytes": base64(certificate.public_bytes(Encoding.DER))} for certificate in chain
    ]
    return {
        "subject": {"organization": subject["O"], "commonName": subject["CN"]},
        "uri": url,
        "certChain": {"certificates": certificates},
        "validFor": window.to_json(),
    }


def log_json(url: str, key: PublicKey, log_id: bytes, window: Window) -> Json:
    """A TransparencyLogInstance: Rekor, or a CT log."""
    return {
        "baseUrl": url,
        "hashAlgorithm": "SHA2_256",
        "publicKey": {
            "rawBytes": base64(spki(key)),
            "keyDetails": key_details(key),
            "validFor": window.to_json(),
        },
        "logId": {"keyId": base64(log_id)},
    }


def services(*urls: tuple[str | None, int]) -> list[Json]:
    """Services of a SigningConfig: URL and its API's version; those without URL are left out."""
    return [
        {
            "url": url,
            "majorApiVersion": version,
            "validFor": Window().to_json(),
            "operator": "sigstore.example",
        }
        for url, version in urls
        if url is not None
    ]


def _rfc3339(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
