"""Signature databases (PK, KEK, db, dbx, MokList) and the entries that authorise an image.

Source: UEFI 2.10, 32.4.1: EFI_SIGNATURE_LIST is ``type GUID, list size u32, header size u32,
signature size u32, header, signatures``; EFI_SIGNATURE_DATA is ``owner GUID, data``.
"""

from __future__ import annotations

from typing import Final

import msgspec

from mrtd.errors import MalformedEventLog
from mrtd.eventlog.certificate import certificate_subject
from mrtd.eventlog.guid_names import guid_name, guid_text
from mrtd.reader import Reader

_LIST_HEADER: Final = 28
_OWNER: Final = 16
_X509: Final = "a5c059a1-94e4-4aa7-87b5-ab155c2bf072"
_DER: Final = b"\x30\x82"
_SHOWN: Final = 8


class Signature(msgspec.Struct, frozen=True):
    """An entry.

    Attributes:
        kind: type GUID as text; empty where the list it is from is not known.
        owner: GUID as text; empty where there is none.
        subject: of a certificate; empty if it is none.
        data: certificate or digest.
    """

    kind: str
    owner: str
    subject: str
    data: bytes


class SignatureLists(msgspec.Struct, frozen=True):
    """Content of a signature database."""

    signatures: tuple[Signature, ...]

    def __str__(self) -> str:
        if not self.signatures:
            return "empty"
        named = [s.subject for s in self.signatures if s.subject]
        others: dict[str, int] = {}
        for signature in self.signatures:
            if not signature.subject:
                others[signature.kind] = others.get(signature.kind, 0) + 1
        listed = [f"{n} x {guid_name(kind)}" for kind, n in others.items()]
        more = ["..."] if len(named) + len(listed) > _SHOWN else []
        return ", ".join([*named, *listed][:_SHOWN] + more)


class Authority(msgspec.Struct, frozen=True):
    """The database entry that an image was verified with."""

    signature: Signature

    def __str__(self) -> str:
        return self.signature.subject or f"owner {guid_name(self.signature.owner)}"


def read_signature_lists(data: bytes) -> SignatureLists:
    """Read a signature database. Raises `MalformedEventLog`."""
    reader = Reader(data, origin="signature database", error=MalformedEventLog)
    found: list[Signature] = []
    while reader.remaining:
        kind = guid_text(reader.guid("signature type"))
        list_size = reader.u32("signature list size")
        header_size = reader.u32("signature header size")
        size = reader.u32("signature size")
        entries = list_size - _LIST_HEADER - header_size
        if entries < 0 or size <= _OWNER or entries % size:
            raise reader.fail(f"{size} where {entries} bytes are listed", "signature size")
        reader.take(header_size, "signature header")
        content = Reader(
            reader.take(entries, "signatures"), origin="signature list", error=MalformedEventLog
        )
        while content.remaining:
            owner = guid_text(content.guid("signature owner"))
            value = bytes(content.take(size - _OWNER, "signature"))
            subject = certificate_subject(value) if kind == _X509 else ""
            found.append(Signature(kind, owner, subject, value))
    return SignatureLists(tuple(found))


def read_authority(data: bytes) -> Authority | None:
    """An EFI_SIGNATURE_DATA with a certificate, or a certificate alone; None if it is neither."""
    if data[_OWNER : _OWNER + 2] == _DER:
        owner, der = guid_text(data[:_OWNER]), data[_OWNER:]
    elif data[:2] == _DER:
        owner, der = "", data
    else:
        return None
    return Authority(Signature(_X509, owner, certificate_subject(der), der))
