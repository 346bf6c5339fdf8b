"""Certification data of a quote: what leads from its attestation key to Intel's root.

Source: Intel TDX DCAP Quoting Library API (revision 0.9), appendix A.3, "QE Certification Data" and
"QE Report Certification Data"; DCAP ``sgx_quote_3.h`` (PPID structures, enclave report). Packed,
little-endian. Nothing is verified here: see `mrtd.evidence.dcap`.
"""

from __future__ import annotations

import base64
import binascii
from enum import IntEnum
from typing import Final

import msgspec

from mrtd.errors import MalformedQuote
from mrtd.evidence.td_report import Field
from mrtd.reader import Reader

_MAX_CERTIFICATES: Final = 8  # Intel's chains have three: PCK, its CA, the root
_BEGIN: Final = b"-----BEGIN CERTIFICATE-----"
_END: Final = b"-----END CERTIFICATE-----"
_NUL: Final = 0


class CertificationType(IntEnum):
    """Certification data types (Intel TDX DCAP Quoting Library API, "QE Certification Data")."""

    PPID_PLAIN = 1
    PPID_RSA2048 = 2
    PPID_RSA3072 = 3
    PCK_LEAF = 4
    PCK_CHAIN = 5
    QE_REPORT = 6
    PLATFORM_MANIFEST = 7


# Size of the (encrypted) PPID, bytes
_PPID_SIZES: Final = {
    CertificationType.PPID_PLAIN: 16,
    CertificationType.PPID_RSA2048: 256,
    CertificationType.PPID_RSA3072: 384,
}

# SGX enclave report body (Intel SDM volume 3D, table "Layout of REPORT"), up to REPORTDATA
CPU_SVN: Final = Field("cpu_svn", 0, 16)
MISC_SELECT: Final = CPU_SVN.then("misc_select", 4)
_RESERVED1: Final = MISC_SELECT.then("reserved", 28)
ATTRIBUTES: Final = _RESERVED1.then("attributes", 16)
MR_ENCLAVE: Final = ATTRIBUTES.then("mr_enclave", 32)
_RESERVED2: Final = MR_ENCLAVE.then("reserved", 32)
MR_SIGNER: Final = _RESERVED2.then("mr_signer", 32)
_RESERVED3: Final = MR_SIGNER.then("reserved", 96)
ISV_PROD_ID: Final = _RESERVED3.then("isv_prod_id", 2)
ISV_SVN: Final = ISV_PROD_ID.then("isv_svn", 2)
_RESERVED4: Final = ISV_SVN.then("reserved", 60)
ENCLAVE_REPORT_DATA: Final = _RESERVED4.then("report_data", 64)
ENCLAVE_REPORT_SIZE: Final = ENCLAVE_REPORT_DATA.end


class EnclaveReport(msgspec.Struct, frozen=True):
    """The SGX report of the quoting enclave (QE).

    Attributes:
        cpu_svn: 16 bytes.
        misc_select: MISCSELECT.
        attributes: ATTRIBUTES, 16 bytes.
        mr_enclave: its measurement, 32 bytes.
        mr_signer: its signer, 32 bytes.
        isv_prod_id: product.
        isv_svn: security version.
        report_data: 64 bytes: SHA-256 of attestation key and authentication data, then zero.
    """

    cpu_svn: bytes
    misc_select: int
    attributes: bytes
    mr_enclave: bytes
    mr_signer: bytes
    isv_prod_id: int
    isv_svn: int
    report_data: bytes


class PckIdentifier(msgspec.Struct, frozen=True, tag_field="kind", tag="pck-identifier"):
    """Types 1-3: how to ask for the PCK certificate.

    Attributes:
        type: says whether and how the PPID is encrypted.
        ppid: 16 bytes plain, 256 or 384 bytes encrypted. Identifies the platform.
        cpu_svn: 16 bytes.
        pce_svn: security version of the provisioning certification enclave.
        pce_id: its identity.
    """

    type: CertificationType
    ppid: bytes
    cpu_svn: bytes
    pce_svn: int
    pce_id: int


class PckCertificates(msgspec.Struct, frozen=True, tag_field="kind", tag="pck-certificates"):
    """Types 4 and 5: the PCK certificate, for type 5 followed by its CA and the root.

    Attributes:
        type: 4 or 5.
        certificates: in DER, leaf first. They identify the platform.
    """

    type: CertificationType
    certificates: tuple[bytes, ...]


class PlatformManifest(msgspec.Struct, frozen=True, tag_field="kind", tag="platform-manifest"):
    """Type 7: what a platform registers itself with. Opaque, and identifies the platform."""

    data: bytes


Inner = PckIdentifier | PckCertificates | PlatformManifest


class QeCertification(msgspec.Struct, frozen=True, tag_field="kind", tag="qe-report"):
    """Type 6: the QE's report, signed with the PCK, and what certifies the PCK.

    Attributes:
        report: of the QE.
        signature: ECDSA P-256 over the report by the PCK: r and s, 64 bytes.
        authentication_data: hashed into the report together with the attestation key.
        certification: of the PCK.
    """

    report: EnclaveReport
    signature: bytes
    authentication_data: bytes
    certification: Inner


Certification = QeCertification | Inner


def read_certification(reader: Reader, *, origin: str, base: int) -> Certification:
    """Read certification data: type, size and body, to the end of ``reader``.

    Args:
        reader: stands at the type.
        origin: the file, for messages.
        base: offset of the reader's data in it.

    Raises:
        MalformedQuote: unknown type, sizes that do not fit, certificates that are no PEM.
    """
    kind, body = _take(reader, base)
    if kind is not CertificationType.QE_REPORT:
        return _read_inner(kind, body, origin)
    inner = body.reader(origin)
    report = read_enclave_report(inner.take(ENCLAVE_REPORT_SIZE, "QE report"))
    signature = bytes(inner.take(64, "QE report signature"))
    size = inner.u16("QE authentication data size")
    authentication_data = bytes(inner.take(size, "QE authentication data"))
    start = body.base + inner.offset
    kind, body = _take(inner, body.base)
    if kind is CertificationType.QE_REPORT:
        raise MalformedQuote(
            "a QE report certifies a QE report",
            origin=origin,
            offset=start,
            field="certification data type",
        )
    return QeCertification(report, signature, authentication_data, _read_inner(kind, body, origin))


def read_enclave_report(data: memoryview) -> EnclaveReport:
    """Read an SGX enclave report body of 384 bytes."""
    return EnclaveReport(
        cpu_svn=CPU_SVN.bytes_of(data),
        misc_select=MISC_SELECT.uint(data),
        attributes=ATTRIBUTES.bytes_of(data),
        mr_enclave=MR_ENCLAVE.bytes_of(data),
        mr_signer=MR_SIGNER.bytes_of(data),
        isv_prod_id=ISV_PROD_ID.uint(data),
        isv_svn=ISV_SVN.uint(data),
        report_data=ENCLAVE_REPORT_DATA.bytes_of(data),
    )


class _Body(msgspec.Struct, frozen=True):
    """The body of certification data, and its offset in the file."""

    data: memoryview
    base: int

    def reader(self, origin: str) -> Reader:
        return Reader(self.data, origin=origin, error=MalformedQuote, base=self.base)


def _take(reader: Reader, base: int) -> tuple[CertificationType, _Body]:
    number = reader.u16("certification data type")
    if number not in CertificationType.__members__.values():
        raise reader.fail(f"{number} is no known type (1-7)", "certification data type")
    size = reader.u32("certification data size")
    start = reader.offset
    body = reader.take(size, "certification data")
    reader.expect_end("certification data")
    return CertificationType(number), _Body(body, base + start)


def _read_inner(kind: CertificationType, body: _Body, origin: str) -> Inner:
    if kind is CertificationType.PLATFORM_MANIFEST:
        return PlatformManifest(bytes(body.data))
    if kind in _PPID_SIZES:
        reader = body.reader(origin)
        ppid = bytes(reader.take(_PPID_SIZES[kind], "PPID"))
        cpu_svn = bytes(reader.take(16, "CPUSVN"))
        identifier = PckIdentifier(kind, ppid, cpu_svn, reader.u16("PCESVN"), reader.u16("PCEID"))
        reader.expect_end("PCK identifier")
        return identifier
    return PckCertificates(kind, split_pem(bytes(body.data), origin=origin, base=body.base))


def split_pem(data: bytes, *, origin: str, base: int = 0) -> tuple[bytes, ...]:
    """The DER bytes of PEM certificates that fill ``data``; NUL bytes at its end are C's habit.

    Raises:
        MalformedQuote: no certificate, more than 8, or anything that is not PEM.
    """

    def refuse(message: str, offset: int) -> MalformedQuote:
        return MalformedQuote(
            message, origin=origin, offset=base + offset, field="PCK certificates"
        )

    content = data.rstrip(bytes([_NUL]))
    found: list[bytes] = []
    at = _skip_space(content, 0)
    while at < len(content):
        end = content.find(_END, at)
        if not content.startswith(_BEGIN, at) or end < 0:
            raise refuse("no PEM certificate", at)
        if len(found) == _MAX_CERTIFICATES:
            raise refuse(f"more than {_MAX_CERTIFICATES} certificates", at)
        try:
            text = b"".join(content[at + len(_BEGIN) : end].split())
            found.append(base64.b64decode(text, validate=True))
        except binascii.Error as error:
            raise refuse(f"certificate is no base64: {error}", at) from error
        at = _skip_space(content, end + len(_END))
    if not found:
        raise refuse("no certificate", 0)
    return tuple(found)


def _skip_space(data: bytes, at: int) -> int:
    while at < len(data) and data[at] in b" \t\r\n":
        at += 1
    return at
