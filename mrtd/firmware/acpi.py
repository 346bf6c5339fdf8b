"""ACPI as QEMU hands it to the firmware: the tables blob, the RSDP and the loader script.

The firmware measures these fw_cfg files as they are, padding included, before it follows the
script (edk2 OvmfPkg/AcpiPlatformDxe). Script and RSDP are fully determined by the tables.

Sources: qemu hw/acpi/bios-linker-loader.c (commands), hw/i386/acpi-build.c and hw/acpi/aml-build.c
(which commands, in which order); ACPI 6.5 (table headers, FADT pointers).
"""

from __future__ import annotations

from typing import Final

import msgspec

from mrtd.errors import MalformedAcpi
from mrtd.reader import Reader

TABLES_FILE: Final = "etc/acpi/tables"
RSDP_FILE: Final = "etc/acpi/rsdp"
LOADER_FILE: Final = "etc/table-loader"
TPM_LOG_FILE: Final = "etc/tpm/log"

_FILE_NAME: Final = 56
_COMMAND: Final = 128
_LOADER_SIZE: Final = 4096  # acpi_align_size(..., ACPI_BUILD_TABLE_SIZE rounded up to a page)
_ALLOCATE, _ADD_POINTER, _ADD_CHECKSUM = 1, 2, 3
_ZONE_HIGH, _ZONE_FSEG = 1, 2
_TABLES_ALIGN: Final = 64
_RSDP_ALIGN: Final = 16
_RSDP_SIZE: Final = 20
_RSDP_RSDT: Final = 16  # offset of RsdtAddress
_HEADER: Final = 36
_CHECKSUM: Final = 9  # offset of a table's checksum
_FADT_FACS: Final = (36, 4)
_FADT_DSDT: Final = (40, 4)
_FADT_X_DSDT: Final = (140, 8)
_MAX_TABLES: Final = 64
# Tables that point into fw_cfg files of their own, which the script allocates too:
# qemu hw/acpi/vmgenid.c and nvdimm.c (SSDT), hw/acpi/aml-build.c build_tpm2, hw/acpi/ghes.c
_SCRIPTED: Final = frozenset({"SSDT", "TPM2", "HEST"})


class AcpiTable(msgspec.Struct, frozen=True):
    """A table in the blob: its signature, offset and length in bytes."""

    signature: str
    offset: int
    length: int


def read_tables(blob: memoryview, *, origin: str) -> tuple[AcpiTable, ...]:
    """The tables of an ``etc/acpi/tables`` blob, one after the other, up to its zero padding.

    Raises:
        MalformedAcpi: a table does not fit, or something but zeros follows the last one.
    """
    reader = Reader(blob, origin=origin, error=MalformedAcpi)
    tables: list[AcpiTable] = []
    while reader.remaining >= 8 and bytes(blob[reader.offset : reader.offset + 4]) != bytes(4):
        start = reader.offset
        raw = bytes(reader.take(4, "ACPI table signature"))
        if not (raw.isascii() and raw.decode("ascii").isalnum()):
            raise reader.fail(f"{raw!r} is no table signature", "ACPI table signature")
        length = reader.u32("ACPI table length")
        if not _HEADER <= length <= len(blob) - start:
            raise reader.fail(f"{length:#x} bytes do not fit", f"ACPI table {raw.decode()} length")
        reader.seek(start + length, "ACPI table")
        tables.append(AcpiTable(raw.decode("ascii"), start, length))
        if len(tables) > _MAX_TABLES:
            raise reader.fail(f"more than {_MAX_TABLES} tables", "ACPI tables")
    padding = reader.take(reader.remaining, "ACPI tables padding")
    if padding != bytes(len(padding)):
        raise reader.fail("not a table and not zero", "ACPI tables padding")
    if not tables:
        raise reader.fail("no table", "ACPI tables")
    return tuple(tables)


def derive_rsdp(tables: bytes, *, origin: str) -> bytes:
    """``etc/acpi/rsdp`` of an ACPI 1.0 RSDP: signature, OEM ID, unpatched RSDT offset.

    Raises:
        MalformedAcpi: there is no RSDT.
    """
    rsdt = _one(read_tables(memoryview(tables), origin=origin), "RSDT", origin)
    oem = tables[rsdt.offset + 10 : rsdt.offset + 16]
    return b"RSD PTR \0" + oem + b"\0" + rsdt.offset.to_bytes(4, "little")


def derive_loader(tables: bytes, *, origin: str) -> bytes:
    """``etc/table-loader``: the script that QEMU writes for these tables.

    Raises:
        MalformedAcpi: the blob has not the tables that QEMU makes (FACS, DSDT, FADT, ..., RSDT).
    """
    found = read_tables(memoryview(tables), origin=origin)
    commands = [
        _allocate(RSDP_FILE, _RSDP_ALIGN, _ZONE_FSEG),
        _allocate(TABLES_FILE, _TABLES_ALIGN, _ZONE_HIGH),
    ]
    _one(found, "RSDT", origin)
    _one(found, "FACP", origin)
    for table in found:
        commands += _table_commands(table, origin)
    commands.append(_pointer(RSDP_FILE, _RSDP_RSDT, 4))
    commands.append(_checksum(RSDP_FILE, 0, _RSDP_SIZE, 8))
    script = b"".join(commands)
    if len(script) > _LOADER_SIZE:
        raise MalformedAcpi(
            f"{len(commands)} loader commands, more than the {_LOADER_SIZE // _COMMAND} of a page",
            origin=origin,
            field="ACPI tables",
            hint="give the script as acpi.loader",
        )
    return script.ljust(_LOADER_SIZE, b"\0")


def _table_commands(table: AcpiTable, origin: str) -> list[bytes]:
    """What the script does with one table: its pointers, then its checksum."""

    def refuse(message: str, hint: str | None = None) -> MalformedAcpi:
        return MalformedAcpi(
            message, origin=origin, offset=table.offset, field=table.signature, hint=hint
        )

    if table.signature == "FACS":
        return []  # has neither
    if table.signature in _SCRIPTED:
        raise refuse("the script does more for it than it shows", "give the script as acpi.loader")
    pointers: list[tuple[int, int]] = []
    if table.signature == "FACP":
        pointers = [_FADT_FACS, _FADT_DSDT, _FADT_X_DSDT]
    elif table.signature == "RSDT":
        pointers = [(offset, 4) for offset in range(_HEADER, table.length, 4)]
    for offset, size in pointers:
        if offset + size > table.length:
            raise refuse(f"too short for the pointer at {offset}")
    return [
        *(_pointer(TABLES_FILE, table.offset + offset, size) for offset, size in pointers),
        _checksum(TABLES_FILE, table.offset, table.length, _CHECKSUM),
    ]


def measured_files(loader: bytes, *, origin: str) -> tuple[str, ...]:
    """The files that the firmware measures: the loader, then those it allocates, in its order.

    Raises:
        MalformedAcpi: the script is not a sequence of whole commands.
    """
    reader = Reader(loader, origin=origin, error=MalformedAcpi)
    names = [LOADER_FILE]
    while reader.remaining:
        command = reader.take(_COMMAND, "loader command")
        kind = int.from_bytes(command[:4], "little")
        if kind == _ALLOCATE:
            raw = bytes(command[4 : 4 + _FILE_NAME]).split(b"\0", 1)[0]
            names.append(raw.decode("ascii", "replace"))
    return tuple(names)


def _one(tables: tuple[AcpiTable, ...], signature: str, origin: str) -> AcpiTable:
    found = [table for table in tables if table.signature == signature]
    if len(found) != 1:
        raise MalformedAcpi(f"{len(found)} {signature} tables, not 1", origin=origin)
    return found[0]


def _name(text: str) -> bytes:
    return text.encode("ascii").ljust(_FILE_NAME, b"\0")


def _command(kind: int, body: bytes) -> bytes:
    return (kind.to_bytes(4, "little") + body).ljust(_COMMAND, b"\0")


def _allocate(file: str, align: int, zone: int) -> bytes:
    return _command(_ALLOCATE, _name(file) + align.to_bytes(4, "little") + bytes([zone]))


def _pointer(file: str, offset: int, size: int) -> bytes:
    body = _name(file) + _name(TABLES_FILE) + offset.to_bytes(4, "little") + bytes([size])
    return _command(_ADD_POINTER, body)


def _checksum(file: str, start: int, length: int, at: int) -> bytes:
    fields = (start + at, start, length)
    return _command(_ADD_CHECKSUM, _name(file) + b"".join(f.to_bytes(4, "little") for f in fields))
