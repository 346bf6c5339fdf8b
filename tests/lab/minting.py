"""How a bundle comes into being: certificate, signature, log entry, timestamp, JSON."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding

from tests.lab.envelope import OTHER_STATEMENT, Envelope, base64, flipped
from tests.lab.flaws import Flaw, Log
from tests.lab.fulcio import LIFETIME
from tests.lab.identity import GitHubIdentity
from tests.lab.keys import P256, P384, PrivateKey, rsa_key
from tests.lab.rekor import dsse_body, hashedrekord_body
from tests.lab.tampering import BUNDLE_FLAWS, ENTRY_FLAWS, serialize

if TYPE_CHECKING:
    from tests.lab.instance import Instance

BUNDLE_V03: Final = "application/vnd.dev.sigstore.bundle.v0.3+json"
_SECOND: Final = timedelta(seconds=1)
_WITNESSED: Final[dict[Flaw | None, timedelta]] = {  # how long after the certificate's start
    Flaw.INTEGRATED_AFTER_CERTIFICATE: LIFETIME + _SECOND,
    Flaw.INTEGRATED_BEFORE_CERTIFICATE: -_SECOND,
    Flaw.TIMESTAMP_AFTER_CERTIFICATE: LIFETIME + _SECOND,
    Flaw.TIMESTAMP_BEFORE_CERTIFICATE: -_SECOND,
}
_TIMESTAMPS: Final[dict[Flaw | None, int]] = {Flaw.NO_TIMESTAMP: 0, Flaw.TIMESTAMPS_33: 33}


def leaf_key(flaw: Flaw | None = None) -> PrivateKey:
    """A signer's ephemeral key: P-256, as all of GitHub's are."""
    if flaw is Flaw.LEAF_KEY_RSA:
        return rsa_key()
    if flaw is Flaw.LEAF_KEY_ED25519:
        return ed25519.Ed25519PrivateKey.generate()
    return ec.generate_private_key(P384 if flaw is Flaw.LEAF_KEY_P384 else P256)


@dataclass(frozen=True, slots=True, kw_only=True)
class Minting:
    """One signature of one identity, at one time, with at most one flaw."""

    lab: Instance
    identity: GitHubIdentity
    at: datetime
    log: Log
    flaw: Flaw | None

    def bundle(self, payload_type: str, payload: bytes, *, timestamped: bool) -> bytes:
        """The bundle's JSON text."""
        key = leaf_key(self.flaw)
        certificate = self._certificate(key)
        envelope = Envelope.sign(payload_type, payload, key, self.flaw)
        entries = [] if self.log is Log.NONE else [self._log_entry(envelope, certificate)]
        timestamps = self._timestamps(envelope.signatures[0]) if timestamped else []
        if self.flaw is Flaw.CERTIFICATE_OF_OTHER_BUNDLE:
            certificate = self._certificate(leaf_key())
        stamped = [{"signedTimestamp": base64(item)} for item in timestamps]
        material: dict[str, Any] = {
            # protobuf's JSON leaves out what is empty
            **({"tlogEntries": entries} if entries else {}),
            "timestampVerificationData": {"rfc3161Timestamps": stamped} if stamped else {},
            "certificate": {"rawBytes": base64(certificate.public_bytes(Encoding.DER))},
        }
        bundle = {
            "mediaType": BUNDLE_V03,
            "verificationMaterial": material,
            "dsseEnvelope": envelope.altered(self.flaw, key).to_json(),
        }
        if self.flaw in BUNDLE_FLAWS:
            BUNDLE_FLAWS[self.flaw](bundle)
        return serialize(bundle, self.flaw)

    def _witnessed_at(self) -> datetime:
        return self.at + _WITNESSED.get(self.flaw, timedelta())

    def _certificate(self, key: PrivateKey) -> x509.Certificate:
        foreign = self.lab.foreign
        by_foreign = self.flaw is Flaw.CERTIFICATE_BY_FOREIGN_CA
        return (foreign if by_foreign else self.lab).fulcio.issue(
            self.identity,
            key.public_key(),
            self.at,
            flaw=self.flaw,
            log=foreign.ct_log if self.flaw is Flaw.SCT_BY_FOREIGN_LOG else self.lab.ct_log,
        )

    def _log_entry(self, envelope: Envelope, certificate: x509.Certificate) -> dict[str, Any]:
        """The log's entry, for this or, if that is the flaw, for something else."""
        if self.flaw is Flaw.BODY_OF_OTHER_PAYLOAD:
            envelope = Envelope(envelope.payload_type, OTHER_STATEMENT, envelope.signatures)
        elif self.flaw is Flaw.BODY_OF_OTHER_SIGNATURE:
            envelope = Envelope.sign(envelope.payload_type, envelope.payload, leaf_key())
        elif self.flaw is Flaw.BODY_OF_OTHER_CERTIFICATE:
            certificate = self._certificate(leaf_key())
        if self.log is Log.REKOR_V1:
            other = b"\x11" * 32 if self.flaw is Flaw.BODY_OF_OTHER_ENVELOPE else None
            body = dsse_body(envelope, certificate, envelope_hash=other)
            entry = self.lab.rekor_v1.entry(body, self._witnessed_at())
        else:
            entry = self.lab.rekor_v2.entry(hashedrekord_body(envelope, certificate))
        if self.flaw in ENTRY_FLAWS:
            ENTRY_FLAWS[self.flaw](
                entry, self.lab.rekor(self.log), self.lab.foreign.rekor(self.log)
            )
        return entry

    def _timestamps(self, signature: bytes) -> list[bytes]:
        authority = self.lab.timestamp_authority
        if self.flaw is Flaw.TIMESTAMP_BY_FOREIGN_AUTHORITY:
            authority = self.lab.foreign.timestamp_authority
        data = b"other" if self.flaw is Flaw.TIMESTAMP_OF_OTHER_SIGNATURE else signature
        moment = self._witnessed_at()
        stamps = [authority.stamp(data, moment) for _ in range(_TIMESTAMPS.get(self.flaw, 1))]
        if self.flaw is Flaw.TIMESTAMP_TWICE:
            return stamps * 2
        return [flipped(stamps[0])] if self.flaw is Flaw.TIMESTAMP_CORRUPTED else stamps
