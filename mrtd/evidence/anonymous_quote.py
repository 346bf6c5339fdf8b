"""A quote without its platform: the TD report stays, all that leads to one machine is blanked.

A platform is named by its PPID and platform instance id (in the PCK certificate and the platform
manifest), by the PCK and attestation keys, and by the QE's id in the header. Signatures go as well:
from an ECDSA signature and what it signs, the public key can be computed.

Source: Intel TDX DCAP Quoting Library API, appendix A.3; Intel SGX PCK Certificate and CRL Profile.
"""

from __future__ import annotations

from typing import Final

from mrtd.errors import MalformedQuote
from mrtd.evidence.certification import (
    ENCLAVE_REPORT_DATA,
    ENCLAVE_REPORT_SIZE,
    CertificationType,
)
from mrtd.evidence.quote import Quote, read_quote

INTEL_QE: Final = bytes.fromhex("939a7233f79c4ca9940a0db3957f0607")
"""Vendor id of Intel's quoting enclave, the same everywhere."""

_VENDOR: Final = slice(12, 28)
_USER_DATA: Final = slice(28, 48)
_SIGNATURE: Final = 64
_KEY: Final = 64
_HEADER: Final = 6  # certification data: type u16, size u32
_BEGIN: Final = b"-----BEGIN CERTIFICATE-----\n"
_END: Final = b"\n-----END CERTIFICATE-----\n"
_PPID: Final = {
    CertificationType.PPID_PLAIN: 16,
    CertificationType.PPID_RSA2048: 256,
    CertificationType.PPID_RSA3072: 384,
}


def anonymous_quote(data: bytes, *, origin: str) -> bytes:
    """The quote with everything blanked that identifies its platform.

    It has the same size and can be read (`mrtd.evidence.quote.read_quote`); its signature no longer
    verifies. TD report, versions, sizes, SVNs and the QE's measurement are as they were. Bytes that
    follow the quote are cut off: nobody knows what they say.

    Raises:
        MalformedQuote: the data is no quote.
    """
    quote = _read(data, origin)
    result = bytearray(quote.raw) + bytes(quote.padding)
    if result[_VENDOR] != INTEL_QE:
        result[_VENDOR] = bytes(16)
    result[_USER_DATA] = bytes(20)
    at = _blank(result, len(quote.signed) + 4, _SIGNATURE + _KEY)
    kind, size, at = _certification(result, at)
    if kind == CertificationType.QE_REPORT:
        # the report data are the report's last field; the signature follows
        rest = ENCLAVE_REPORT_SIZE - ENCLAVE_REPORT_DATA.start + _SIGNATURE
        at = _blank(result, at + ENCLAVE_REPORT_DATA.start, rest)
        length = int.from_bytes(result[at : at + 2], "little")
        at = _blank(result, at + 2, length)
        kind, size, at = _certification(result, at)
    if kind in {CertificationType.PCK_LEAF, CertificationType.PCK_CHAIN}:
        result[at : at + size] = _no_certificate(size)
    else:
        _blank(result, at, _PPID.get(CertificationType(kind), size))
    return bytes(result)


def _read(data: bytes, origin: str) -> Quote:
    try:
        return read_quote(data, origin=origin)
    except MalformedQuote as error:
        if error.field != "end of quote" or error.offset is None:
            raise
        return read_quote(data[: error.offset], origin=origin)


def _blank(data: bytearray, start: int, size: int) -> int:
    """Zero a range, which the quote's reader has found to exist; its end."""
    data[start : start + size] = bytes(size)
    return start + size


def _certification(data: bytearray, at: int) -> tuple[int, int, int]:
    """Type and size of certification data, and where its body starts."""
    kind, size = data[at : at + 2], data[at + 2 : at + _HEADER]
    return int.from_bytes(kind, "little"), int.from_bytes(size, "little"), at + _HEADER


def _no_certificate(size: int) -> bytes:
    """PEM of so many bytes that holds zeros, for readers that look for certificates."""
    room = size - len(_BEGIN) - len(_END)
    if room < 4:
        return bytes(size)
    return (_BEGIN + b"A" * (room // 4 * 4) + _END).ljust(size, b"\0")
