"""Who signed: the workflow that a Fulcio certificate names, and whether policy trusts it.

Extensions: Fulcio ``docs/oid-info.md`` (1.3.6.1.4.1.57264.1.N); names as sigstore-go prints them,
so that what ``gh`` says and what a certificate says are compared by the same rules. SAN and issuer
alone would accept six kinds of strangers (docs/threats.md): every clause below keeps one out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Final

import msgspec

from mrtd.errors import VerificationError
from mrtd.verifier.policy import IdentityPolicy
from mrtd.verifier.verdict import Check, Reason, check

if TYPE_CHECKING:
    from cryptography import x509

_ARC: Final = "1.3.6.1.4.1.57264.1."
EXTENSIONS: Final = {
    8: "issuer",
    9: "buildSignerURI",
    10: "buildSignerDigest",
    11: "runnerEnvironment",
    12: "sourceRepositoryURI",
    13: "sourceRepositoryDigest",
    14: "sourceRepositoryRef",
    15: "sourceRepositoryIdentifier",
    16: "sourceRepositoryOwnerURI",
    17: "sourceRepositoryOwnerIdentifier",
    18: "buildConfigURI",
    19: "buildConfigDigest",
    20: "buildTrigger",
    21: "runInvocationURI",
    22: "sourceRepositoryVisibilityAtSigning",
}
SAN: Final = "subjectAlternativeName"
_UTF8_STRING: Final = 0x0C
_LONG: Final = 0x80


class Signer(msgspec.Struct, frozen=True):
    """What a certificate says about who signed; the values are those of `EXTENSIONS`, and `SAN`."""

    values: Mapping[str, str]

    def __getitem__(self, name: str) -> str:
        """A value; empty if the certificate does not have it."""
        return self.values.get(name, "")


def read_signer(certificate: x509.Certificate) -> Signer:
    """What a certificate says about who signed.

    Raises:
        VerificationError: more than one alternative name, or one that is no URI; an extension that
            is no UTF8String in DER.
    """
    from cryptography import x509 as types  # noqa: PLC0415 - heavy

    try:
        found = certificate.extensions
        names = list(found.get_extension_for_class(types.SubjectAlternativeName).value)
    except (ValueError, types.ExtensionNotFound, types.DuplicateExtension) as error:
        raise VerificationError(f"the certificate's extensions cannot be read: {error}") from error
    if len(names) != 1 or not isinstance(names[0], types.UniformResourceIdentifier):
        raise VerificationError("the certificate does not have one URI as alternative name")
    values = {SAN: names[0].value}
    for extension in found:
        number = extension.oid.dotted_string.removeprefix(_ARC)
        if number.isdecimal() and int(number) in EXTENSIONS:
            if not isinstance(extension.value, types.UnrecognizedExtension):
                raise VerificationError(f"extension {number} is not what Fulcio writes")
            values[EXTENSIONS[int(number)]] = _utf8_string(extension.value.value, number)
    return Signer(values)


def check_identity(signer: Signer, policy: IdentityPolicy) -> tuple[Check, ...]:
    """Every clause of the identity; a failure hides none of the others."""
    repository = f"{policy.server}/{policy.repository}"
    owner = repository.rpartition("/")[0]
    clauses: list[tuple[str, str, Iterable[str]]] = [
        ("signer", SAN, [policy.signer]),
        ("issuer", "issuer", [policy.issuer]),
        ("build_signer", "buildSignerURI", [policy.signer]),
        ("build_config", "buildConfigURI", [policy.build_config]),
        ("repository", "sourceRepositoryURI", [repository]),
        ("repository_id", "sourceRepositoryIdentifier", [policy.repository_id]),
        ("owner", "sourceRepositoryOwnerURI", [owner]),
        ("owner_id", "sourceRepositoryOwnerIdentifier", [policy.owner_id]),
        ("ref", "sourceRepositoryRef", [policy.ref]),
        ("trigger", "buildTrigger", policy.triggers),
        ("runner", "runnerEnvironment", policy.runners),
        ("visibility", "sourceRepositoryVisibilityAtSigning", [policy.visibility]),
    ]
    if policy.signer_digest is not None:
        clauses.append(("signer_digest", "buildSignerDigest", [policy.signer_digest]))
    return tuple(
        check(
            f"identity.{name}",
            Reason.IDENTITY,
            ok=signer[extension] in tuple(wanted),
            expected=" or ".join(wanted),
            observed=signer[extension] or "not in the certificate",
            source=f"certificate: {extension}",
        )
        for name, extension, wanted in clauses
    )


def _utf8_string(der: bytes, number: str) -> str:
    """A DER UTF8String (X.690 section 8.23), all of it."""
    try:
        size, start = der[1], 2
        if size & _LONG:
            width = size & ~_LONG
            size, start = int.from_bytes(der[2 : 2 + width], "big"), 2 + width
        if der[0] == _UTF8_STRING and len(der) == start + size:
            return der[start:].decode()
    except (IndexError, UnicodeDecodeError):
        pass
    raise VerificationError(f"extension {number} of the certificate is no UTF8String")
