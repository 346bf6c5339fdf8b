"""A certificate authority like Fulcio: root, intermediate, and short-lived leaf certificates.

Profile: Fulcio, docs/certificate-specification.md, and the certificates of published bundles, down
to the order of the extensions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, TypeAlias

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from tests.lab.ctlog import CertificateLog, sct_extension
from tests.lab.flaws import Flaw
from tests.lab.identity import GitHubIdentity
from tests.lab.keys import P384, PublicKey, ec_key

FOUNDED: Final = datetime(2020, 1, 1, tzinfo=UTC)
CLOSED: Final = datetime(2060, 1, 1, tzinfo=UTC)
LIFETIME: Final = timedelta(minutes=10)
_TEN_YEARS: Final = timedelta(days=3650)
_NO_USAGE: Final = dict.fromkeys(
    (
        "digital_signature",
        "content_commitment",
        "key_encipherment",
        "data_encipherment",
        "key_agreement",
        "key_cert_sign",
        "crl_sign",
        "encipher_only",
        "decipher_only",
    ),
    False,
)

Extension: TypeAlias = tuple[x509.ExtensionType, bool]  # and whether it is critical


def key_usage(*usages: str) -> x509.KeyUsage:
    """KeyUsage with these bits."""
    return x509.KeyUsage(**{**_NO_USAGE, **dict.fromkeys(usages, True)})


def distinguished_name(organization: str, common_name: str) -> x509.Name:
    """A name as Sigstore's have it: O and CN."""
    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, organization),
            x509.NameAttribute(NameOID.COMMON_NAME, common_name),
        ]
    )


def certificate(
    subject: x509.Name,
    key: PublicKey,
    issuer: tuple[x509.Name, ec.EllipticCurvePrivateKey],
    validity: tuple[datetime, datetime],
    extensions: list[Extension],
    *,
    serial: int | None = None,
) -> x509.Certificate:
    """A certificate, signed with ECDSA and SHA-384 as Fulcio does."""
    name, signer = issuer
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(name)
        .public_key(key)
        .serial_number(serial or x509.random_serial_number())
        .not_valid_before(validity[0])
        .not_valid_after(validity[1])
    )
    for value, critical in extensions:
        builder = builder.add_extension(value, critical=critical)
    return builder.sign(signer, hashes.SHA384())


@dataclass(frozen=True, slots=True)
class Authority:
    """A CA: its certificate and its key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @classmethod
    def make(
        cls, subject: x509.Name, key: ec.EllipticCurvePrivateKey, parent: Authority | None
    ) -> Authority:
        """A root CA, or an intermediate of ``parent``."""
        extensions: list[Extension] = [
            (key_usage("key_cert_sign", "crl_sign"), True),
            (x509.BasicConstraints(ca=True, path_length=0 if parent else None), True),
            (x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False),
        ]
        if parent:
            usage = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CODE_SIGNING])
            extensions += [(usage, False), (parent.key_identifier(), False)]
        issuer = (parent.certificate.subject, parent.key) if parent else (subject, key)
        made = certificate(subject, key.public_key(), issuer, (FOUNDED, CLOSED), extensions)
        return cls(made, key)

    def key_identifier(self) -> x509.AuthorityKeyIdentifier:
        """How certificates of this CA name its key."""
        return x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key())


def _without(kind: type[x509.ExtensionType]) -> Callable[[list[Extension]], list[Extension]]:
    return lambda extensions: [item for item in extensions if not isinstance(item[0], kind)]


def _with(
    value: x509.ExtensionType, *, critical: bool = False
) -> Callable[[list[Extension]], list[Extension]]:
    """Replaces the extension of the same kind, in its place, or adds one."""

    def change(extensions: list[Extension]) -> list[Extension]:
        changed = [(value, critical) if item[0].oid == value.oid else item for item in extensions]
        return changed if changed != extensions else [*extensions, (value, critical)]

    return change


def _second_san(extensions: list[Extension]) -> list[Extension]:
    other = x509.UniformResourceIdentifier(GitHubIdentity.foreign_caller().build_config_uri or "")
    return [
        (x509.SubjectAlternativeName([*value, other]), critical)
        if isinstance(value, x509.SubjectAlternativeName)
        else (value, critical)
        for value, critical in extensions
    ]


def _san_not_critical(extensions: list[Extension]) -> list[Extension]:
    return [
        (value, critical and not isinstance(value, x509.SubjectAlternativeName))
        for value, critical in extensions
    ]


_EXTENSION_FLAWS: Final[Mapping[Flaw | None, Callable[[list[Extension]], list[Extension]]]] = {
    Flaw.NO_SAN: _without(x509.SubjectAlternativeName),
    Flaw.TWO_SANS: _second_san,
    Flaw.SAN_NOT_CRITICAL: _san_not_critical,
    Flaw.NO_EKU: _without(x509.ExtendedKeyUsage),
    Flaw.EKU_CLIENT_AUTH: _with(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH])),
    Flaw.NO_KEY_USAGE: _without(x509.KeyUsage),
    Flaw.KEY_USAGE_KEY_AGREEMENT: _with(key_usage("key_agreement"), critical=True),
    Flaw.NO_AKI: _without(x509.AuthorityKeyIdentifier),
    Flaw.NO_SKI: _without(x509.SubjectKeyIdentifier),
    Flaw.LEAF_IS_CA: _with(x509.BasicConstraints(ca=True, path_length=None), critical=True),
    Flaw.UNKNOWN_CRITICAL_EXTENSION: _with(
        x509.UnrecognizedExtension(x509.ObjectIdentifier("1.3.6.1.4.1.99999.1"), b"\x05\x00"),
        critical=True,
    ),
}


class Fulcio:
    """The authority that turns an identity and a key into a certificate."""

    def __init__(self, seed: str, root: x509.Name, intermediate: x509.Name) -> None:
        self._root = Authority.make(root, ec_key(seed, "root", P384), None)
        issuing = ec_key(seed, "intermediate", P384)
        self._intermediate = Authority.make(intermediate, issuing, self._root)

    @property
    def chain(self) -> list[x509.Certificate]:
        """The intermediate's certificate, then the root's."""
        return [self._intermediate.certificate, self._root.certificate]

    def issue(
        self,
        identity: GitHubIdentity,
        key: PublicKey,
        at: datetime,
        *,
        log: CertificateLog | None,
        flaw: Flaw | None = None,
    ) -> x509.Certificate:
        """A leaf certificate, valid for ten minutes from ``at``, with an SCT of ``log`` if any."""
        issuer = self._root if flaw is Flaw.CERTIFICATE_BY_ROOT else self._intermediate
        unsigned = _Leaf(identity, key, at, issuer, flaw)
        precertificate = unsigned.sign()
        if log is None or flaw is Flaw.NO_SCT:
            return precertificate
        if flaw is Flaw.SCT_FOR_OTHER_CERTIFICATE:
            precertificate = _Leaf(identity, key, at, issuer, flaw).sign()
        logged_at = at + _TEN_YEARS if flaw is Flaw.SCT_TIME_FAR_OFF else at
        count = 2 if flaw is Flaw.TWO_SCTS else 1
        scts = [log.sct(precertificate, issuer.certificate, logged_at) for _ in range(count)]
        return unsigned.sign((sct_extension(scts), False))


class _Leaf:
    """A leaf certificate before it is signed: once without SCTs, and then with them."""

    def __init__(
        self,
        identity: GitHubIdentity,
        key: PublicKey,
        at: datetime,
        issuer: Authority,
        flaw: Flaw | None,
    ) -> None:
        if flaw is Flaw.RAW_EXTENSION:
            raw = (15, (identity.source_repository_identifier or "").encode())
            identity = identity.change(raw=(*identity.raw, raw))
        lifetime = _TEN_YEARS if flaw is Flaw.CERTIFICATE_LONG_LIVED else LIFETIME
        self._key = key
        self._issuer = issuer
        self._validity = (at, at + lifetime)
        self._subject = x509.Name([])
        if flaw is Flaw.SUBJECT_NOT_EMPTY:
            self._subject = distinguished_name("lab", "leaf")
        self._serial = x509.random_serial_number()
        self._extensions = self._profile(identity, key, issuer)
        if flaw in _EXTENSION_FLAWS:
            self._extensions = _EXTENSION_FLAWS[flaw](self._extensions)

    def sign(self, *more: Extension) -> x509.Certificate:
        return certificate(
            self._subject,
            self._key,
            (self._issuer.certificate.subject, self._issuer.key),
            self._validity,
            [*self._extensions, *more],
            serial=self._serial,
        )

    @staticmethod
    def _profile(identity: GitHubIdentity, key: PublicKey, issuer: Authority) -> list[Extension]:
        fulcio: list[Extension] = [(value, False) for value in identity.extensions()]
        return [
            (key_usage("digital_signature"), True),
            (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CODE_SIGNING]), False),
            (x509.SubjectKeyIdentifier.from_public_key(key), False),
            (issuer.key_identifier(), False),
            (x509.SubjectAlternativeName([identity.general_name()]), True),
            *fulcio,
        ]
