"""Which entry of Secure Boot's databases lets an image start.

Sources: edk2 SecurityPkg/Library/DxeImageVerificationLib (signatures in the image's order, each
against dbx and then db in the store's order; then the image's digest; what is measured of the entry
found); UEFI 2.10, 32.4.1 (EFI_SIGNATURE_LIST) and 32.5.3.3.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from mrtd.boot.authenticode_signature import Certificate, read_certificate, read_signatures
from mrtd.boot.pe import authenticode_digest
from mrtd.boot.recorder import Content
from mrtd.errors import InputError, MalformedKernel, SpecError
from mrtd.eventlog import InputName, Origin
from mrtd.eventlog.certificate import certificate_subject
from mrtd.eventlog.signatures import Signature as Entry
from mrtd.eventlog.signatures import read_signature_lists
from mrtd.firmware.guids import IMAGE_SECURITY_DATABASE, guid
from mrtd.firmware.variables import SecureBoot, Variable, secure_boot_state, variable_data
from mrtd.registers import Unpinned

if TYPE_CHECKING:
    from mrtd.firmware.identify import Firmware

_X509: Final = "a5c059a1-94e4-4aa7-87b5-ab155c2bf072"
# EFI_CERT_SHA*_GUID: digests of images
_DIGESTS: Final = {
    "c1c41626-504c-4092-aca9-41f936934328": "sha256",
    "ff3e5307-9fd0-48c9-85f1-8ad56c701e01": "sha384",
    "093e0fae-a6c4-4f50-9f1b-d41e2b89c19a": "sha512",
}
# EFI_CERT_X509_SHA*_GUID: digests of certificates' bodies, each with a time of revocation
_REVOKED: Final = {
    "3bd2a492-96c0-4079-b420-fcf98ef103ed": "sha256",
    "7076876e-80c2-4ee6-aad2-28b349a6865b": "sha384",
    "446dbf63-2502-4cda-bcfa-2465d2b0fe9d": "sha512",
}
_SIZES: Final = {"sha256": 32, "sha384": 48, "sha512": 64}


class Allowed(msgspec.Struct, frozen=True):
    """What lets an image start: the variable's name, what is measured, and where it is from."""

    name: str
    variable: Content
    label: str
    origin: Origin


class SecureBootPolicy:
    """The databases of a firmware whose Secure Boot is on.

    Args:
        db: what is allowed.
        dbx: what is forbidden, which goes first.
        origin: the variable store.
    """

    def __init__(self, db: bytes, dbx: bytes, *, origin: str) -> None:
        self._db = read_signature_lists(db).signatures
        self._dbx = read_signature_lists(dbx).signatures
        self._origin = origin

    def authority(self, data: memoryview, path: str, *, required: bool) -> Allowed | None:
        """The entry of db that lets an image start.

        Args:
            data: the whole image.
            path: where it is, for messages.
            required: whether it is an error if there is none.

        Raises:
            MalformedKernel: the image or its signature is malformed.
            SpecError: dbx forbids the image, or nothing allows it although it is required.
        """
        signatures = read_signatures(data, origin=path)
        self._check_digest(data, path)
        for signature in signatures:
            self._check_chain(signature.chain, path)
            found = [e for e in self._db if e.kind == _X509 and _verifies(e.data, signature.chain)]
            if found:
                return self._allowed(found)
        for entry in self._db:
            algorithm = _DIGESTS.get(entry.kind)
            if algorithm and entry.data == authenticode_digest(data, algorithm, origin=path):
                return self._allowed([entry])
        if not required:
            return None
        signed = "no certificate in db signed it" if signatures else "it is not signed"
        raise SpecError(
            f"Secure Boot refuses it: {signed}, and its digest is not in db",
            origin=path,
            hint="sign it with a key of db, or launch with a variable store that has its key",
        )

    def signed_by(self, certificate: bytes, data: memoryview, path: str) -> bool:
        """Whether a certificate is in the chain of one of an image's signatures."""
        return any(
            _verifies(certificate, signature.chain)
            for signature in read_signatures(data, origin=path)
        )

    def _allowed(self, found: list[Entry]) -> Allowed:
        entry = found[0]
        label = entry.subject or f"digest of the image ({_DIGESTS.get(entry.kind, 'X.509')})"
        value = guid(entry.owner) + entry.data
        content: Content = variable_data(Variable(IMAGE_SECURITY_DATABASE, "db", value))
        if len({e.data for e in found}) > 1 and _same_subject(found):
            content = Unpinned(f"db has several certificates of {label!r}: which one verifies the "
                               "image depends on its key")  # fmt: skip
        return Allowed("db", content, label, Origin(InputName.VARIABLES, f"{self._origin} db"))

    def _check_digest(self, data: memoryview, path: str) -> None:
        for entry in self._dbx:
            algorithm = _DIGESTS.get(entry.kind)
            if algorithm and entry.data == authenticode_digest(data, algorithm, origin=path):
                raise self._forbidden(path, "its digest is in dbx")

    def _check_chain(self, chain: tuple[Certificate, ...], path: str) -> None:
        for entry in self._dbx:
            algorithm = _REVOKED.get(entry.kind)
            for certificate in chain:
                body = entry.data[: _SIZES[algorithm]] if algorithm else b""
                if algorithm and body == certificate.body_digest(algorithm):
                    raise self._forbidden(path, "dbx revokes a certificate that signed it")
            if entry.kind == _X509 and _verifies(entry.data, chain):
                raise self._forbidden(path, f"dbx revokes {entry.subject!r}, which signed it")

    def _forbidden(self, path: str, reason: str) -> SpecError:
        return SpecError(
            f"Secure Boot forbids it: {reason}",
            origin=path,
            hint=f"the revocations are those of {self._origin}: launch a newer image",
        )


def _verifies(der: bytes, chain: tuple[Certificate, ...]) -> bool:
    """Whether a trusted certificate is in a chain, or issued one of its certificates."""
    try:
        trusted = read_certificate(der, origin="db")
    except MalformedKernel:
        return False
    return any(c.der == der or c.issuer == trusted.subject for c in chain)


def _same_subject(found: list[Entry]) -> bool:
    return len({certificate_subject(entry.data) for entry in found}) < len(found)


def policy_of(firmware: Firmware) -> SecureBootPolicy | None:
    """What a firmware's Secure Boot allows; None if it is off.

    Raises:
        InputError: db or dbx breaks its format.
    """
    state = secure_boot_state(firmware.variables, supported=firmware.secure_boot)
    if state is not SecureBoot.ON:
        return None
    stored = {v.name: v.data for v in firmware.variables if v.vendor == IMAGE_SECURITY_DATABASE}
    origin = f"{firmware.tdvf.origin} variable store"
    try:
        return SecureBootPolicy(stored.get("db", b""), stored.get("dbx", b""), origin=origin)
    except InputError as error:
        raise SpecError(
            f"its signature databases cannot be read: {error}", origin=origin
        ) from error
