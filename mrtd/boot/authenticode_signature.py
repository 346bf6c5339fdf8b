"""Authenticode signatures of PE images: who signed, and with which certificates.

The chain is read by names: from the signer's certificate to the issuers that come with it. That
the signature is right is not checked; an image with a wrong one does not start, so a launch that
is measured has a right one.

Sources: Microsoft, "Windows Authenticode Portable Executable Signature Format" (WIN_CERTIFICATE,
SignedData); RFC 2315 (PKCS #7), RFC 5280 4.1 (certificates).
"""

from __future__ import annotations

import hashlib
from typing import Final

import msgspec

from mrtd.boot.der import CONTEXT_0, INTEGER, OBJECT, SEQUENCE, SET, Der, is_der
from mrtd.boot.pe import pe_layout
from mrtd.errors import MalformedKernel
from mrtd.reader import Reader

_PKCS_SIGNED_DATA: Final = 2  # WIN_CERT_TYPE_PKCS_SIGNED_DATA
_SIGNED_DATA: Final = bytes.fromhex("2a864886f70d010702")
_HEADER: Final = 8
_MAX_SIGNATURES: Final = 64
_MAX_CERTIFICATES: Final = 64


class Certificate(msgspec.Struct, frozen=True):
    """A certificate: its DER, names and serial number in DER, and the digest of what is signed."""

    der: bytes
    issuer: bytes
    serial: bytes
    subject: bytes
    body: bytes

    def body_digest(self, algorithm: str) -> bytes:
        """Digest of the part that its issuer signed."""
        return hashlib.new(algorithm, self.body).digest()


class Signature(msgspec.Struct, frozen=True):
    """A signature: the certificates from the signer's on, each followed by its issuer's."""

    chain: tuple[Certificate, ...]


def is_certificate(data: bytes) -> bool:
    """Whether data is one DER element that may be a certificate."""
    return is_der(data)


def read_certificate(der: bytes, *, origin: str) -> Certificate:
    """Read an X.509 certificate. Raises `MalformedKernel`."""
    outer = Der(der, origin).inside(SEQUENCE)
    body, content = outer.element(SEQUENCE)
    fields = Der(content, origin)
    if fields.tag == CONTEXT_0:
        fields.element()
    serial, _ = fields.element(INTEGER)
    fields.element(SEQUENCE)
    issuer, _ = fields.element(SEQUENCE)
    fields.element(SEQUENCE)
    subject, _ = fields.element(SEQUENCE)
    return Certificate(bytes(der), issuer, serial, subject, body)


def read_signatures(image: memoryview, *, origin: str) -> tuple[Signature, ...]:
    """The signatures of a PE image, in their order; none if it is not signed.

    Raises:
        MalformedKernel: not a PE image, or a certificate table or signature breaks its format.
    """
    layout = pe_layout(image, origin=origin)
    if not layout.certificates:
        return ()
    reader = Reader(image, origin=origin, error=MalformedKernel)
    start = layout.certificates_offset
    reader.seek(start, "certificate table")
    end = start + layout.certificates
    if end > len(image):
        raise reader.fail(f"ends at {end:#x}, after the file", "certificate table")
    found: list[Signature] = []
    while reader.offset + _HEADER <= end:
        if len(found) == _MAX_SIGNATURES:
            raise reader.fail("more than 64 signatures", "certificate table")
        at = reader.offset
        length = reader.u32("certificate length")
        reader.u16("certificate revision")
        kind = reader.u16("certificate type")
        if not _HEADER <= length <= end - at:
            raise reader.fail(f"{length:#x} does not fit the table", "certificate length")
        content = reader.take(length - _HEADER, "certificate")
        if kind == _PKCS_SIGNED_DATA:
            found.append(read_signed_data(bytes(content), origin=origin))
        aligned = at + (length + 7 & ~7)
        if aligned >= end:
            break
        reader.seek(aligned, "next certificate")
    return tuple(found)


def read_signed_data(data: bytes, *, origin: str) -> Signature:
    """Read a PKCS #7 SignedData. Raises `MalformedKernel`."""
    outer = Der(data, origin).inside(SEQUENCE)
    _, kind = outer.element(OBJECT)
    if kind != _SIGNED_DATA:
        raise MalformedKernel("is no PKCS #7 SignedData", origin=origin, field="signature")
    signed = outer.inside(CONTEXT_0).inside(SEQUENCE)
    signed.element(INTEGER)
    signed.element(SET)
    signed.element(SEQUENCE)
    certificates: list[Certificate] = []
    if signed.tag == CONTEXT_0:
        listed = signed.inside(CONTEXT_0)
        while listed.more:
            der, _ = listed.element()
            if der[0] == SEQUENCE and len(certificates) < _MAX_CERTIFICATES:
                certificates.append(read_certificate(der, origin=origin))
    while signed.more and signed.tag != SET:
        signed.element()
    signer = signed.inside(SET).inside(SEQUENCE)
    signer.element(INTEGER)
    names = signer.inside(SEQUENCE)
    issuer, _ = names.element(SEQUENCE)
    serial, _ = names.element(INTEGER)
    return Signature(_chain(certificates, issuer, serial, origin))


def _chain(
    certificates: list[Certificate], issuer: bytes, serial: bytes, origin: str
) -> tuple[Certificate, ...]:
    current = next((c for c in certificates if (c.issuer, c.serial) == (issuer, serial)), None)
    if current is None:
        raise MalformedKernel(
            "the signer's certificate is not in it", origin=origin, field="signature"
        )
    chain = [current]
    while current.issuer != current.subject:
        wanted = current.issuer
        above = next((c for c in certificates if c.subject == wanted and c not in chain), None)
        if above is None:
            break
        chain.append(above)
        current = above
    return tuple(chain)
