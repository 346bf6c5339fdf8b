"""SMBIOS as edk2 >= 202505 measures it: QEMU's structures, the firmware's own, and a filter.

The firmware takes the structures of fw_cfg ``etc/smbios/smbios-tables``, adds BIOS Information
(type 0) if QEMU gave none, and an end-of-table structure (edk2 OvmfPkg/SmbiosPlatformDxe,
MdeModulePkg/Universal/SmbiosDxe). Before it measures the table it blanks the fields that tell one
machine of a kind from another (MdeModulePkg/Universal/SmbiosMeasurementDxe). The bytes were
compared with what Debian's 2026.08 firmware had in memory when it extended PCR 1.

Structures and fields: DMTF DSP0134, SMBIOS 3.8.
"""

from __future__ import annotations

from typing import Final

import msgspec

from mrtd.errors import InputError

_HEADER: Final = 4
_BIOS_INFORMATION: Final = 0
_PROCESSOR: Final = 4
_END_OF_TABLE: Final = 127
_FIRST_OEM: Final = 128
_END: Final = bytes([_END_OF_TABLE, 4, 0xFF, 0xFE, 0, 0])  # SmbiosDxe gives it handle 0xFEFF
# edk2 OvmfPkg/SmbiosPlatformDxe mOvmfDefaultType0: strings 1, 2, 3; segment 0xE800;
# "characteristics not supported"; UEFI and virtual machine; no versions
BIOS_TEMPLATE: Final = bytes.fromhex("001a0000010200e803000800000000000000001c0000ffff0000")
_MAX_STRUCTURES: Final = 65536
PROCESSOR_ID: Final = slice(8, 16)

_STRING, _VALUE = True, False
# SmbiosMeasurementDxe.c, mSmbiosFilterType...BlackList: offset, size, whether it numbers a string
_BLANKED: Final[dict[int, tuple[tuple[int, int, bool], ...]]] = {
    1: ((0x07, 1, _STRING), (0x08, 16, _VALUE), (0x18, 1, _VALUE)),
    2: ((0x07, 1, _STRING), (0x0A, 1, _STRING)),
    3: ((0x07, 1, _STRING), (0x08, 1, _STRING)),
    4: (
        (0x20, 1, _STRING),
        (0x21, 1, _STRING),
        (0x22, 1, _STRING),
        (0x23, 1, _VALUE),
        (0x24, 1, _VALUE),
        (0x25, 1, _VALUE),
        (0x2A, 2, _VALUE),
        (0x2C, 2, _VALUE),
        (0x2E, 2, _VALUE),
        (0x11, 1, _VALUE),
        (0x16, 2, _VALUE),
    ),
    17: ((0x18, 1, _STRING), (0x19, 1, _STRING), (0x1A, 1, _STRING)),
    22: ((0x07, 1, _STRING), (0x10, 2, _VALUE), (0x12, 2, _VALUE)),
    23: ((0x05, 2, _VALUE),),
    27: ((0x0E, 2, _VALUE),),
    39: ((0x08, 1, _STRING), (0x09, 1, _STRING), (0x0A, 1, _STRING)),
}
_BLANKED_WHOLE: Final = frozenset({0x0B, 0x0F, 0x12, 0x1F, 0x21})


class BiosStrings(msgspec.Struct, frozen=True):
    """The strings of the firmware's BIOS Information: PcdFirmwareVendor and its siblings."""

    vendor: str
    version: str
    date: str


def structures(tables: bytes, *, origin: str) -> tuple[bytes, ...]:
    """The structures of a table, each with its strings and their two final zeros.

    Raises:
        InputError: a structure breaks its format.
    """
    found: list[bytes] = []
    at = 0
    while at < len(tables):
        length = tables[at + 1] if at + 1 < len(tables) else 0
        end = tables.find(b"\0\0", at + length)
        if length < _HEADER or end < 0:
            raise InputError(
                f"{length} bytes of type {tables[at]}, or no end of its strings",
                origin=origin,
                offset=at,
                field="SMBIOS structure",
            )
        if len(found) == _MAX_STRUCTURES:
            raise InputError("too many structures", origin=origin, offset=at, field="SMBIOS")
        found.append(tables[at : end + 2])
        at = end + 2
        if found[-1][0] == _END_OF_TABLE:
            break
    return tuple(found)


def measured_table(tables: bytes, bios: BiosStrings | None, *, origin: str) -> bytes:
    """The bytes whose digest is extended.

    Args:
        tables: fw_cfg ``etc/smbios/smbios-tables``.
        bios: the firmware's own strings; None if it adds no BIOS Information.
        origin: where ``tables`` are from, for messages.

    Raises:
        InputError: a structure breaks its format.
    """
    parts = [s for s in structures(tables, origin=origin) if s[0] != _END_OF_TABLE]
    if bios is not None and not any(part[0] == _BIOS_INFORMATION for part in parts):
        text = f"{bios.vendor}\0{bios.version}\0{bios.date}"
        parts.append(BIOS_TEMPLATE + text.encode("ascii", "replace") + b"\0\0")
    return b"".join(_filtered(part) for part in (*parts, _END))


def with_processor_id(tables: bytes, processor_id: bytes, *, origin: str) -> bytes:
    """Tables of a machine with another CPU: CPUID leaf 1, EAX and EDX, in each type 4 structure.

    Args:
        tables: fw_cfg ``etc/smbios/smbios-tables``.
        processor_id: 8 bytes.
        origin: where ``tables`` are from, for messages.

    Raises:
        InputError: a structure breaks its format.
    """
    parts: list[bytes] = []
    for part in structures(tables, origin=origin):
        changed = bytearray(part)
        if part[0] == _PROCESSOR and part[1] >= PROCESSOR_ID.stop:
            changed[PROCESSOR_ID] = processor_id
        parts.append(bytes(changed))
    return b"".join(parts)


def _filtered(structure: bytes) -> bytes:
    """A structure with the fields blanked that are not measured.

    A string is overwritten with blanks and its number with zero, if the structure is long enough to
    have the field (FilterSmbiosEntry).
    """
    kind, length = structure[0], structure[1]
    if kind >= _FIRST_OEM or kind in _BLANKED_WHOLE:
        return structure[:_HEADER] + bytes(len(structure) - _HEADER)
    blanked = bytearray(structure)
    for offset, size, is_string in _BLANKED.get(kind, ()):
        if length < offset + size:
            continue
        if is_string and structure[offset]:
            start, end = _string(blanked, length, structure[offset])
            blanked[start:end] = b" " * (end - start)
        blanked[offset : offset + size] = bytes(size)
    return bytes(blanked)


def _string(structure: bytearray, length: int, number: int) -> tuple[int, int]:
    """Where a numbered string stands; the last one if there are not so many (edk2's reading)."""
    start = end = length
    for index in range(number):
        if index and structure[end : end + 2] == b"\0\0":
            break
        start = end + 1 if index else length
        end = structure.index(0, start)
    return start, end
