"""What a firmware image is made of: firmware volumes, files and their names, unpacked.

Source: UEFI Platform Initialization 1.8, volume 3 (firmware volume, FFS file and section headers).
Used to tell firmware builds apart; no measurement is made from it, except that a VM without TDX
measures the unpacked PEI and DXE volumes into PCR 0.
"""

from __future__ import annotations

import lzma
import re
from typing import Final

import msgspec

from mrtd.errors import MalformedFirmware
from mrtd.firmware.guids import (
    FIRMWARE_FILE_SYSTEM2,
    FIRMWARE_FILE_SYSTEM3,
    LZMA_SECTION,
    SYSTEM_NV_DATA,
)
from mrtd.reader import Reader

_FILE_RAW: Final = 0x01
_FILE_PAD: Final = 0xF0
_FILE_LARGE: Final = 0x01
_SECTION_GUIDED: Final = 0x02
_SECTION_NAME: Final = 0x15
_SECTION_VOLUME: Final = 0x17
_VOLUME_SIGNATURE: Final = b"_FVH"
_SIGNATURE_OFFSET: Final = 40
_MAX_UNPACKED: Final = 1 << 27  # OVMF's volumes unpack to 13-17 MB
_MAX_DEPTH: Final = 16
_PIECE: Final = 1 << 20
# Bounds on what a hostile image can ask for: OVMF has 700 volumes, files and sections, and an LZMA
# dictionary of 16 MiB.
_MAX_PARTS: Final = 1 << 16
_MAX_LZMA_MEMORY: Final = 1 << 28


class Module(msgspec.Struct, frozen=True):
    """A file of a firmware volume.

    Attributes:
        name: its user-interface name, such as ``TdTcg2Dxe``; empty if it has none.
        guid: its 16-byte file GUID.
        volume: index of the volume it is in, in `Contents.volumes`.
    """

    name: str
    guid: bytes
    volume: int


class Contents(msgspec.Struct, frozen=True):
    """All that could be unpacked of a firmware image.

    Attributes:
        volumes: firmware volumes in the order found, those of the image first.
        modules: the files in them.
        unpacked: the LZMA sections' contents.
        plain: the image's volumes that hold nothing compressed, such as the SEC volume.
    """

    volumes: tuple[memoryview, ...]
    modules: tuple[Module, ...]
    unpacked: tuple[bytearray, ...]
    plain: tuple[memoryview, ...]

    def names(self) -> frozenset[str]:
        """The names of all modules."""
        return frozenset(module.name for module in self.modules)

    def holds(self, text: bytes) -> bool:
        """Whether a byte string occurs in what was unpacked, or did not have to be."""
        # re searches a view without a copy
        in_plain = any(re.search(re.escape(text), part) for part in self.plain)
        return in_plain or any(text in part for part in self.unpacked)


class _Walk:
    def __init__(self, origin: str) -> None:
        self.origin = origin
        self.volumes: list[memoryview] = []
        self.modules: list[Module] = []
        self.unpacked: list[bytearray] = []
        self.plain: list[memoryview] = []
        self.budget = _MAX_UNPACKED
        self.parts = 0

    def fail(self, message: str, offset: int, field: str) -> MalformedFirmware:
        return MalformedFirmware(message, origin=self.origin, offset=offset, field=field)

    def count(self, offset: int, field: str) -> None:
        self.parts += 1
        if self.parts > _MAX_PARTS:
            raise self.fail(f"more than {_MAX_PARTS} volumes, files and sections", offset, field)

    def image(self, image: memoryview) -> None:
        """Walk all volumes of an image: they may stand anywhere in it."""
        end = 0
        for match in re.finditer(_VOLUME_SIGNATURE, image):
            start = match.start() - _SIGNATURE_OFFSET
            if start >= end:
                packed_before = len(self.unpacked)
                end = start + self.volume(image, start, 0)
                if start < end and len(self.unpacked) == packed_before:
                    self.plain.append(image[start:end])

    def volume(self, data: memoryview, start: int, depth: int) -> int:
        """Walk the volume at ``start``; its length, or 0 if this is no volume."""
        if depth > _MAX_DEPTH:
            raise self.fail("nested too deeply", start, "firmware volume")
        reader = Reader(data, origin=self.origin, error=MalformedFirmware)
        reader.seek(start + 16, "firmware volume")
        if reader.remaining < 40:
            return 0
        kind = reader.guid("file system")
        length = reader.u64("volume length")
        reader.take(8, "volume signature and attributes")
        header = reader.u16("volume header length")
        reader.take(2, "volume checksum")
        extended = reader.u16("extended header offset")
        if length < header or header < 56 or start + length > len(data):
            return 0  # the signature's four letters, elsewhere
        self.count(start, "firmware volume")
        volume = data[start : start + length]
        self.volumes.append(volume)
        if kind in {FIRMWARE_FILE_SYSTEM2, FIRMWARE_FILE_SYSTEM3}:
            first = header
            if extended:
                if extended + 20 > length:
                    raise self.fail(f"{extended:#x} is outside", start, "extended header offset")
                first = extended + int.from_bytes(volume[extended + 16 : extended + 20], "little")
            self.files_in(volume, first, depth)
        elif kind != SYSTEM_NV_DATA:
            return 0
        return length

    def files_in(self, volume: memoryview, position: int, depth: int) -> None:
        index = len(self.volumes) - 1
        position = (position + 7) & ~7
        while position + 24 <= len(volume):
            header = volume[position : position + 24]
            if header == b"\xff" * 24:
                return
            self.count(position, "firmware file")
            size, body = int.from_bytes(header[20:23], "little"), 24
            if header[19] & _FILE_LARGE:
                size, body = int.from_bytes(volume[position + 24 : position + 32], "little"), 32
            if not body <= size <= len(volume) - position:
                raise self.fail(f"{size:#x} bytes do not fit", position, "firmware file size")
            name = ""
            if header[18] not in {_FILE_RAW, _FILE_PAD}:
                name = self.sections_in(volume[position + body : position + size], depth)
            self.modules.append(Module(name, bytes(header[:16]), index))
            position = (position + size + 7) & ~7

    def sections_in(self, data: memoryview, depth: int) -> str:
        """Walk a file's sections; its name, if one of them says it."""
        position, name = 0, ""
        while position + 4 <= len(data):
            self.count(position, "firmware section")
            size, body = int.from_bytes(data[position : position + 3], "little"), 4
            if size == 0xFFFFFF:
                size, body = int.from_bytes(data[position + 4 : position + 8], "little"), 8
            if not body <= size <= len(data) - position:
                raise self.fail(f"{size:#x} bytes do not fit", position, "firmware section size")
            section = data[position : position + size]
            kind = section[3]
            if kind == _SECTION_NAME:
                name = bytes(section[body:]).decode("utf-16-le", "replace").rstrip("\0")
            elif kind == _SECTION_VOLUME:
                self.volume(section[body:], 0, depth + 1)
            elif kind == _SECTION_GUIDED and section[body : body + 16] == LZMA_SECTION:
                name = self.unpack(section, body, depth) or name
            position = (position + size + 3) & ~3
        return name

    def unpack(self, section: memoryview, body: int, depth: int) -> str:
        start = int.from_bytes(section[body + 16 : body + 18], "little")
        if depth >= _MAX_DEPTH:
            raise self.fail("nested too deeply", 0, "LZMA section")
        decompressor = lzma.LZMADecompressor(lzma.FORMAT_ALONE, memlimit=_MAX_LZMA_MEMORY)
        data, packed = bytearray(), section[start:]
        try:
            # in pieces: a DXE volume unpacks to 16 MB, and joining it would take as much again
            while not decompressor.eof:
                piece = decompressor.decompress(packed, max_length=_PIECE)
                packed = section[:0]
                data += piece
                if len(data) > self.budget:
                    raise self.fail(f"unpacks to more than {_MAX_UNPACKED:#x} bytes", 0,
                                    "LZMA section")  # fmt: skip
                if not piece and decompressor.needs_input:
                    raise self.fail(f"ends after {len(data):#x} unpacked bytes", 0, "LZMA section")
        except lzma.LZMAError as error:
            raise self.fail(f"cannot be unpacked: {error}", 0, "LZMA section") from error
        self.budget -= len(data)
        self.unpacked.append(data)
        return self.sections_in(memoryview(data), depth + 1)


def unpack_firmware(image: memoryview, *, origin: str) -> Contents:
    """Unpack a firmware image.

    Raises:
        MalformedFirmware: a volume, file or section breaks its format.
    """
    walk = _Walk(origin)
    walk.image(image)
    return Contents(
        tuple(walk.volumes), tuple(walk.modules), tuple(walk.unpacked), tuple(walk.plain)
    )
