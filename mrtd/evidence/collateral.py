"""Collateral: Intel's signed statements that the verification of a quote needs.

Three forms hold the same nine (or ten) parts:

* a JSON file with the fields of DCAP's ``QuoteCollateralV3``: chains and JSON as text, signatures
  and CRLs as hex (what `encode_collateral` writes, and dcap-qvl too);
* a folder with the files of `FILES`, as the services' answers are saved by curl: ``tcb_info.json``
  and ``qe_identity.json`` with their signatures inside, CRLs in DER, chains in PEM;
* the answers of a PCS or PCCS: `mrtd.evidence.pcs`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

import msgspec

from mrtd.errors import MalformedCollateral

MAX_SIZE: Final = 1 << 22  # bytes of a part, and of a file; Intel's have 3 to 40 KiB

# Part and the name of its file in a folder
FILES: Final[Mapping[str, str]] = {
    "tcb_info": "tcb_info.json",
    "tcb_info_issuer_chain": "tcb_info_issuer_chain.pem",
    "qe_identity": "qe_identity.json",
    "qe_identity_issuer_chain": "qe_identity_issuer_chain.pem",
    "pck_crl": "pck_crl.der",
    "pck_crl_issuer_chain": "pck_crl_issuer_chain.pem",
    "root_ca_crl": "root_ca_crl.der",
    "pck_certificate_chain": "pck_certificate_chain.pem",
}
_OPTIONAL: Final = "pck_certificate_chain"


class Collateral(msgspec.Struct, frozen=True):
    """Collateral that was read and not verified.

    Attributes:
        pck_crl_issuer_chain: PEM, who signed ``pck_crl``.
        root_ca_crl: DER, revoked CAs.
        pck_crl: DER, revoked platforms.
        tcb_info_issuer_chain: PEM, who signed ``tcb_info``.
        tcb_info: JSON text, byte for byte as signed: TCB levels of one platform type.
        tcb_info_signature: ECDSA P-256: r and s, 64 bytes.
        qe_identity_issuer_chain: PEM, who signed ``qe_identity``.
        qe_identity: JSON text, byte for byte as signed: which quoting enclaves are good.
        qe_identity_signature: ECDSA P-256: r and s, 64 bytes.
        pck_certificate_chain: PEM, for a quote that carries none; None otherwise.
    """

    pck_crl_issuer_chain: str
    root_ca_crl: bytes
    pck_crl: bytes
    tcb_info_issuer_chain: str
    tcb_info: str
    tcb_info_signature: bytes
    qe_identity_issuer_chain: str
    qe_identity: str
    qe_identity_signature: bytes
    pck_certificate_chain: str | None = None


class _Document(msgspec.Struct, forbid_unknown_fields=True):
    """QuoteCollateralV3 in JSON: binary parts in hex."""

    pck_crl_issuer_chain: str
    root_ca_crl: str
    pck_crl: str
    tcb_info_issuer_chain: str
    tcb_info: str
    tcb_info_signature: str
    qe_identity_issuer_chain: str
    qe_identity: str
    qe_identity_signature: str
    pck_certificate_chain: str | None = None


class _TcbInfoAnswer(msgspec.Struct, rename={"statement": "tcbInfo"}):
    statement: msgspec.Raw
    signature: str


class _QeIdentityAnswer(msgspec.Struct, rename={"statement": "enclaveIdentity"}):
    statement: msgspec.Raw
    signature: str


def read_collateral(data: bytes, *, origin: str) -> Collateral:
    """Read collateral in one JSON file.

    Raises:
        MalformedCollateral: not such a file; unknown fields are refused.
    """
    try:
        document = msgspec.json.decode(data, type=_Document)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise MalformedCollateral(f"no collateral: {error}", origin=origin) from error

    def binary(name: str) -> bytes:
        return _unhex(getattr(document, name), name, origin)

    return Collateral(
        pck_crl_issuer_chain=document.pck_crl_issuer_chain,
        root_ca_crl=binary("root_ca_crl"),
        pck_crl=binary("pck_crl"),
        tcb_info_issuer_chain=document.tcb_info_issuer_chain,
        tcb_info=document.tcb_info,
        tcb_info_signature=binary("tcb_info_signature"),
        qe_identity_issuer_chain=document.qe_identity_issuer_chain,
        qe_identity=document.qe_identity,
        qe_identity_signature=binary("qe_identity_signature"),
        pck_certificate_chain=document.pck_certificate_chain,
    )


def encode_collateral(collateral: Collateral) -> bytes:
    """The collateral as one JSON file; `read_collateral` reads it back."""
    fields = msgspec.structs.asdict(collateral)
    texts = {k: v.hex() if isinstance(v, bytes) else v for k, v in fields.items() if v is not None}
    return msgspec.json.encode(texts)


def assemble_collateral(parts: Mapping[str, bytes], *, origin: str) -> Collateral:
    """Put together what a service answered.

    Args:
        parts: content by part, see `FILES`. ``tcb_info`` and ``qe_identity`` are whole answers,
            ``{"tcbInfo": ..., "signature": "..."}``; CRLs may be DER, or hex as a PCCS sends them.
        origin: folder or address, for messages.

    Raises:
        MalformedCollateral: a part is missing, too big or not what it should be.
    """
    for name in FILES:
        if name not in parts and name != _OPTIONAL:
            raise MalformedCollateral("is missing", origin=origin, field=FILES[name])
    for name, content in parts.items():
        if len(content) > MAX_SIZE:
            raise MalformedCollateral(
                f"more than {MAX_SIZE} bytes", origin=origin, field=FILES[name]
            )

    def text(name: str) -> str:
        return _text(parts[name], FILES[name], origin)

    tcb_info, tcb_signature = _statement(parts["tcb_info"], _TcbInfoAnswer, "tcb_info", origin)
    identity, signature = _statement(parts["qe_identity"], _QeIdentityAnswer, "qe_identity", origin)
    return Collateral(
        pck_crl_issuer_chain=text("pck_crl_issuer_chain"),
        root_ca_crl=_der(parts["root_ca_crl"], "root_ca_crl", origin),
        pck_crl=_der(parts["pck_crl"], "pck_crl", origin),
        tcb_info_issuer_chain=text("tcb_info_issuer_chain"),
        tcb_info=tcb_info,
        tcb_info_signature=tcb_signature,
        qe_identity_issuer_chain=text("qe_identity_issuer_chain"),
        qe_identity=identity,
        qe_identity_signature=signature,
        pck_certificate_chain=text(_OPTIONAL) if _OPTIONAL in parts else None,
    )


def load_collateral(path: Path) -> Collateral:
    """Read collateral from a JSON file or a folder with the files of `FILES`.

    Raises:
        MalformedCollateral: it cannot be read.
    """
    if not path.is_dir():
        return read_collateral(_load(path), origin=str(path))
    parts = {name: _load(path / file) for name, file in FILES.items() if (path / file).exists()}
    return assemble_collateral(parts, origin=str(path))


def _load(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_SIZE + 1)
    except OSError as error:
        raise MalformedCollateral(
            f"cannot be read: {error.strerror or error}", origin=str(path)
        ) from error
    if len(data) > MAX_SIZE:
        raise MalformedCollateral(f"more than {MAX_SIZE} bytes", origin=str(path))
    return data


def _statement(
    data: bytes, kind: type[_TcbInfoAnswer | _QeIdentityAnswer], name: str, origin: str
) -> tuple[str, bytes]:
    """The signed JSON text, byte for byte, and its signature."""
    try:
        answer = msgspec.json.decode(data, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise MalformedCollateral(
            f"not an answer of a PCS: {error}", origin=origin, field=FILES[name]
        ) from error
    statement = _text(bytes(answer.statement), FILES[name], origin)
    return statement, _unhex(answer.signature, FILES[name], origin)


def _text(data: bytes, field: str, origin: str) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise MalformedCollateral("is no UTF-8 text", origin=origin, field=field) from error


def _unhex(text: str, field: str, origin: str) -> bytes:
    try:
        return bytes.fromhex(text)
    except ValueError as error:
        raise MalformedCollateral("is no hex text", origin=origin, field=field) from error


def _der(data: bytes, name: str, origin: str) -> bytes:
    """DER as it is (a SEQUENCE, 0x30), or from hex, as a PCCS answers ("30...", so 0x33)."""
    if data[:1] == b"\x30":
        return data
    return _unhex(_text(data, FILES[name], origin).strip(), FILES[name], origin)
