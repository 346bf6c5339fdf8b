"""The subject of an X.509 certificate in a signature database, for a person to recognise it.

Only as much DER as leads there (RFC 5280 4.1, X.690): nothing is verified.
"""

from __future__ import annotations

from typing import Final

from mrtd.errors import InputError
from mrtd.eventlog.text import printable
from mrtd.reader import Reader

_SEQUENCE: Final = 0x30
_VERSION: Final = 0xA0
_BMP_STRING: Final = 0x1E
_LONG: Final = 0x80
_MAX_LENGTH_BYTES: Final = 4
# X.520: common name, organisation; the first one that is there names the certificate
_NAMES: Final = (bytes.fromhex("550403"), bytes.fromhex("55040a"))


def certificate_subject(der: bytes) -> str:
    """Common name (else organisation) of a certificate's subject; empty if it has none."""
    try:
        body = _reader(_value(_reader(_value(_reader(der), _SEQUENCE)), _SEQUENCE))
        tag, _ = _element(body)
        if tag == _VERSION:
            _element(body)  # serial number
        for _ in range(3):  # signature algorithm, issuer, validity
            _element(body)
        return _name(_reader(_value(body, _SEQUENCE)))
    except InputError:
        return ""


def _name(subject: Reader) -> str:
    found: dict[bytes, str] = {}
    while subject.remaining:
        _, relative = _element(subject)
        entry = _reader(_value(_reader(relative), _SEQUENCE))
        _, identifier = _element(entry)
        tag, value = _element(entry)
        encoding = "utf-16-be" if tag == _BMP_STRING else "utf-8"
        found[bytes(identifier)] = bytes(value).decode(encoding, "replace")
    for name in _NAMES:
        if name in found:
            return printable(found[name])
    return ""


def _reader(data: bytes | memoryview) -> Reader:
    return Reader(data, origin="certificate", error=InputError)


def _element(reader: Reader) -> tuple[int, memoryview]:
    tag = reader.u8("tag")
    length = reader.u8("length")
    if length >= _LONG:
        size = length - _LONG
        if not 1 <= size <= _MAX_LENGTH_BYTES:
            raise reader.fail(f"{size} bytes", "length")
        length = int.from_bytes(reader.take(size, "length"), "big")
    return tag, reader.take(length, "value")


def _value(reader: Reader, wanted: int) -> memoryview:
    tag, value = _element(reader)
    if tag != wanted:
        raise reader.fail(f"{tag:#x} where {wanted:#x} is needed", "tag")
    return value
