"""Parsers of boot chains to fuzz, with inputs that they accept."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from ci.fuzz_target import FuzzTarget
from fixtures.bzimage import Section, build_bzimage
from mrtd.boot.authenticode_signature import read_signed_data
from mrtd.boot.grub import read_prefix
from mrtd.boot.grub_cfg import read_grub_cfg
from mrtd.boot.loader_entries import read_entry
from mrtd.boot.stored_options import read_option
from mrtd.boot.uki import profile_ids, read_uki
from mrtd.firmware.variable_stores import read_variable_store

_GUID: Final = b"8be4df61-93ca-11d2-aa0d-00e098032b8c"


def _signed_data() -> bytes:
    """PKCS #7 SignedData with one certificate, as short as it can be."""

    def der(tag: int, *parts: bytes) -> bytes:
        content = b"".join(parts)
        return bytes([tag, len(content)]) + content

    one, empty = der(2, b"\1"), der(0x30)
    certificate = der(0x30, der(0x30, one, empty, empty, empty, empty))
    signer = der(0x30, one, der(0x30, empty, one))
    signed = der(0x30, one, der(0x31), empty, der(0xA0, certificate), der(0x31, signer))
    return der(0x30, der(6, bytes.fromhex("2a864886f70d010702")), der(0xA0, signed))


def _uki(data: bytes) -> None:
    image = memoryview(data)
    profile_ids(image, origin="fuzz")
    read_prefix(image, origin="fuzz")
    read_uki(image, origin="fuzz")


def _loader(data: bytes) -> None:
    text = data.decode("utf-8", "replace")
    read_grub_cfg(text)
    read_entry(text, name="fuzz.conf", source="fuzz")


BOOT_TARGETS: Final[Mapping[str, FuzzTarget]] = {
    "boot-option": FuzzTarget(
        lambda data: read_option(data, 0, origin="fuzz"),
        (b"\1\0\0\0\x0c\0x\0\0\0\4\4\x08\0x\0\0\0\x7f\xff\4\0q\0\0\0",),
    ),
    "loader-config": FuzzTarget(
        _loader,
        (b"set timeout=0\nmenuentry 'a' {\n linux /k $x\n}\n", b"linux /k\noptions a\n"),
    ),
    "signature": FuzzTarget(
        lambda data: read_signed_data(data, origin="fuzz"),
        (_signed_data(),),
    ),
    "uki": FuzzTarget(
        _uki,
        (build_bzimage(sections=[Section(b".profile", b"ID=a"), Section(b"mods", b"mimg")]),),
    ),
    "variable-store": FuzzTarget(
        lambda data: read_variable_store(data, origin="fuzz"),
        (b'{"version":2,"variables":[{"name":"a","guid":"%s","data":"00"}]}' % _GUID,),
    ),
}
"""Every parser by its name."""
