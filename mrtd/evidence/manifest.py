"""What an evidence bundle may hold, and its manifest (schema ``mrtd.evidence/1``).

The member names are those under which the collector (``collect.sh``) sends its files, and those of
the files that ``mrtd evidence pack`` adds. There are no others: a reader refuses what it does not
know. The classes are the schema; ``docs/schema/evidence.schema.json`` is generated from them.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

import msgspec

SCHEMA: Final = "mrtd.evidence/1"
MANIFEST: Final = "manifest.json"
PCR_COUNT: Final = 24

QUOTE: Final = "tdx/quote"
REPORT_DATA: Final = "tdx/report_data"
CCEL: Final = "log/CCEL"
TPM_LOG: Final = "log/binary_bios_measurements"
CMDLINE: Final = "proc/cmdline"
UNAME: Final = "proc/uname"
DMI: Final = "dmi/DMI"
SMBIOS: Final = "fw_cfg/etc/smbios/smbios-tables"
MESSAGES: Final = "collector/messages"
TOKEN: Final = "token.jwt"  # noqa: S105 - a file name
CLAIMS: Final = "token-claims.json"
SPEC: Final = "launch.toml"
DOCUMENT: Final = "measurement.json"
ACPI_TABLES: Final = "fw_cfg/etc/acpi/tables"
ACPI_RSDP: Final = "fw_cfg/etc/acpi/rsdp"
ACPI_LOADER: Final = "fw_cfg/etc/table-loader"

MEMBERS: Final[dict[str, str]] = {
    QUOTE: "TDX quote",
    REPORT_DATA: "report data that the quote was asked for with, 64 bytes",
    "tdx/provider": "who gave the quote (configfs-tsm)",
    "tdx/mrtd": "MRTD as the kernel shows it, 48 bytes",
    **{f"tdx/rtmr{n}": f"RTMR{n} as the kernel shows it, 48 bytes" for n in range(4)},
    CCEL: "event log of the TD",
    "log/CCEL.table": "ACPI table CCEL, which says where that log is",
    TPM_LOG: "event log of the TPM",
    **{f"pcr-sha384/{n}": f"PCR {n}, hex digits" for n in range(PCR_COUNT)},
    ACPI_TABLES: "ACPI tables as QEMU offers them",
    ACPI_RSDP: "ACPI root pointer as QEMU offers it",
    ACPI_LOADER: "ACPI loader script as QEMU offers it",
    "fw_cfg/etc/tpm/log": "TPM log area that QEMU offers",
    "fw_cfg/etc/e820": "memory map that QEMU offers",
    "fw_cfg/bootorder": "boot order that QEMU offers",
    SMBIOS: "SMBIOS tables that QEMU offers",
    "fw_cfg/etc/smbios/smbios-anchor": "SMBIOS entry point that QEMU offers",
    DMI: "SMBIOS tables as the firmware installed them",
    "dmi/smbios_entry_point": "SMBIOS entry point",
    CMDLINE: "kernel command line",
    UNAME: "kernel and architecture",
    "collector/version": "version of the collector",
    MESSAGES: "what the collector could not get, and why",
    TOKEN: "token of Intel Trust Authority",
    CLAIMS: "claims of that token that identify nobody, if it was removed",
    SPEC: "launch spec",
    DOCUMENT: "measurement document",
}
"""Every member that a bundle can have, in the order in which they are written, for people."""


class _Object(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An object of the manifest."""


class Packer(_Object, frozen=True):
    """What wrote the bundle."""

    name: str
    version: str


class Member(_Object, frozen=True):
    """One file: its name, its size in bytes, and SHA-256 of its bytes."""

    name: str
    size: Annotated[int, msgspec.Meta(ge=0, le=64 << 20)]
    sha256: Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]


class Manifest(_Object, frozen=True, kw_only=True):
    """The manifest.

    Attributes:
        schema: ``mrtd.evidence/1``.
        tool: what wrote the bundle.
        members: every other file in the bundle.
        redacted: what was removed before the bundle was passed on, one line each.
    """

    schema: Literal["mrtd.evidence/1"]
    tool: Packer
    members: tuple[Member, ...]
    redacted: tuple[str, ...] = ()
