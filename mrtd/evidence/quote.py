"""TDX quotes: a TD report, signed by the platform's quoting enclave.

Versions 4 and 5, sources: Intel TDX DCAP Quoting Library API (revision 0.9), appendix A.3 "Quote
Format"; DCAP ``sgx_quote_4.h``, ``sgx_quote_5.h``. Packed, little-endian::

    header, 48 bytes
    version 5 only: body type u16, body size u32
    TD report body
    signature data size u32
    signature data: signature 64 bytes, attestation key 64 bytes, certification data

This module reads; whether the signature holds is asked of `mrtd.evidence.dcap`.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from mrtd.errors import MalformedQuote
from mrtd.evidence.attributes import TdAttributes, Xfam
from mrtd.evidence.certification import Certification, read_certification
from mrtd.evidence.td_report import SIZE_OF_VERSION, TdReport, read_td_report
from mrtd.reader import Reader
from mrtd.registers import RegisterName, Sha384

TEE_TDX: Final = 0x81
TEE_SGX: Final = 0x00
KEY_ECDSA_P256: Final = 2
HEADER_SIZE: Final = 48
_BODY_DESCRIPTOR: Final = 6
# Quote 5, "body type": version of the TD report; 1 is an SGX enclave report
_REPORT_OF_BODY_TYPE: Final = {2: "1.0", 3: "1.5", 4: "1.5ex"}
_SGX_VERSION: Final = 3


class QuoteHeader(msgspec.Struct, frozen=True):
    """The quote's header.

    Attributes:
        version: 4 or 5.
        attestation_key_type: 2, ECDSA on P-256.
        tee_type: 0x81, TDX.
        qe_svn: security version of the quoting enclave; 0 in quotes of today.
        pce_svn: that of the provisioning certification enclave; 0 in quotes of today.
        qe_vendor_id: 16 bytes; Intel's is 939a7233f79c4ca9940a0db3957f0607.
        user_data: 20 bytes; the first 16 identify the platform's QE.
    """

    version: int
    attestation_key_type: int
    tee_type: int
    qe_svn: int
    pce_svn: int
    qe_vendor_id: bytes
    user_data: bytes


class Quote(msgspec.Struct, frozen=True):
    """A quote that was read and not verified.

    Attributes:
        origin: the file it came from.
        header: the header.
        report: the TD report.
        signature: ECDSA P-256 over `signed`: r and s, 64 bytes.
        attestation_key: the key that signed: x and y, 64 bytes.
        certification: what leads from that key to Intel's root.
        raw: exactly the quote's bytes, without padding: hash and verify these, not the file.
        padding: how many zero bytes followed in the file.
    """

    origin: str
    header: QuoteHeader
    report: TdReport
    signature: bytes
    attestation_key: bytes
    certification: Certification
    raw: bytes
    padding: int

    @property
    def registers(self) -> dict[RegisterName, Sha384]:
        """MRTD and RTMR0..3 by name."""
        return self.report.registers

    @property
    def signed(self) -> bytes:
        """The bytes that the signature covers: all before the size of the signature data."""
        descriptor = _BODY_DESCRIPTOR if self.header.version == 5 else 0
        return self.raw[: HEADER_SIZE + descriptor + SIZE_OF_VERSION[self.report.version]]


def read_quote(data: bytes | memoryview, *, origin: str) -> Quote:
    """Read a TDX quote of version 4 or 5.

    Zero bytes after the quote are left out and counted (`Quote.padding`): configfs and several
    agents hand out a buffer of fixed size. Anything else there is refused, since bytes that no
    signature covers would travel along as if they were evidence.

    Args:
        data: the quote, with or without zero bytes after it.
        origin: the file that it is, for messages.

    Raises:
        MalformedQuote: the data breaks the format, or is a quote of another kind.
    """
    view = memoryview(data)
    reader = Reader(view, origin=origin, error=MalformedQuote)
    header = _read_header(reader)
    version, size = _report_version(reader, header.version)
    start = reader.offset
    report = read_td_report(
        reader.take(size, "TD report"), version=version, origin=origin, base=start
    )
    size = reader.u32("signature data size")
    start = reader.offset
    signature_data = reader.take(size, "signature data")
    end = reader.offset
    padding = _expect_padding(view, end, origin)
    inner = Reader(signature_data, origin=origin, error=MalformedQuote, base=start)
    signature = bytes(inner.take(64, "signature"))
    key = bytes(inner.take(64, "attestation key"))
    certification = read_certification(inner, origin=origin, base=start)
    return Quote(
        origin=origin,
        header=header,
        report=report,
        signature=signature,
        attestation_key=key,
        certification=certification,
        raw=bytes(view[:end]),
        padding=padding,
    )


def _read_header(reader: Reader) -> QuoteHeader:
    version = reader.u16("version")
    if version not in {4, 5}:
        hint = "version 3 is an SGX quote, which has no TD" if version == _SGX_VERSION else None
        raise reader.fail(f"{version} is no TDX quote version (4, 5)", "version", hint=hint)
    key_type = reader.u16("attestation key type")
    if key_type != KEY_ECDSA_P256:
        raise reader.fail(f"{key_type} is not 2 (ECDSA P-256)", "attestation key type")
    tee = reader.u32("TEE type")
    if tee != TEE_TDX:
        kind = "SGX, which has no TD" if tee == TEE_SGX else "unknown"
        raise reader.fail(f"{tee:#x} is {kind}; TDX is 0x81", "TEE type")
    return QuoteHeader(
        version=version,
        attestation_key_type=key_type,
        tee_type=tee,
        qe_svn=reader.u16("QE SVN"),
        pce_svn=reader.u16("PCE SVN"),
        qe_vendor_id=bytes(reader.take(16, "QE vendor id")),
        user_data=bytes(reader.take(20, "user data")),
    )


def _report_version(reader: Reader, version: int) -> tuple[str, int]:
    """Version and size of the TD report; quote 4 has 1.0, quote 5 says which."""
    if version == 4:
        return "1.0", SIZE_OF_VERSION["1.0"]
    body_type = reader.u16("body type")
    report = _REPORT_OF_BODY_TYPE.get(body_type)
    if report is None:
        raise reader.fail(f"{body_type} is no TD report (2, 3, 4)", "body type")
    size = reader.u32("body size")
    if size != SIZE_OF_VERSION[report]:
        raise reader.fail(
            f"{size} is not the size of a TD report {report} ({SIZE_OF_VERSION[report]})",
            "body size",
        )
    return report, size


def _expect_padding(view: memoryview, end: int, origin: str) -> int:
    rest = len(view) - end
    if bytes(view[end:]).strip(b"\0"):
        raise MalformedQuote(
            f"{rest} bytes follow the quote, not all zero",
            origin=origin,
            offset=end,
            field="end of quote",
            hint=f"the quote has {end} bytes: hand in these, if they are what you meant",
        )
    return rest


def to_json(quote: Quote) -> dict[str, Any]:
    """The quote as JSON types: bytes as hex, attributes by name; without `Quote.raw`."""
    converted = msgspec.to_builtins(quote, enc_hook=_encode, builtin_types=(bytes,))
    document = dict(_hex(converted))
    del document["raw"]
    document["size"] = len(quote.raw)
    for name, bits in (("td_attributes", quote.report.td_attributes), ("xfam", quote.report.xfam)):
        document["report"][name] = _bits(bits)
    return document


def _bits(bits: TdAttributes | Xfam) -> dict[str, Any]:
    return {"value": str(bits), "names": list(bits.names), "unknown": list(bits.unknown)}


def _encode(value: object) -> object:
    if isinstance(value, Sha384):
        return str(value)
    raise NotImplementedError(type(value))


def _hex(value: Any) -> Any:  # noqa: ANN401 - JSON is what it is
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, dict):
        return {key: _hex(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_hex(item) for item in value]
    return value
