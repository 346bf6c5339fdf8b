"""What an event is about, read from its type and body: the key by which logs are compared.

A predicted event knows its input; an observed one has only its type and its body. Both get the
same `Subject` and the same name here, so that they can be aligned and explained.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

import msgspec

from mrtd.eventlog import Event, EventType
from mrtd.registers import RegisterName

_NAME_LIMIT: Final = 512  # bytes of a body that can name an event; more is content
_FW_CFG: Final = b"QEMU FW CFG\0"
_ACPI: Final = b"ACPI DATA"
# Linux drivers/firmware/efi/libstub/efistub.h: LOAD_OPTIONS_EVENT_TAG_ID, INITRD_EVENT_TAG_ID;
# kernels before the tag header write the text alone
_LOAD_OPTIONS: Final = (0x8F3B22ED, b"LOADED_IMAGE::LoadOptions")
_INITRD: Final = (0x8F3B22EC, b"Linux initrd")


class Subject(StrEnum):
    """What an event measures."""

    TD_HOB = "TD HOB"
    CFV = "variable store (CFV)"
    FW_CFG = "fw_cfg item"
    SECURE_BOOT = "SecureBoot variable"
    KEYS = "Secure Boot keys"
    AUTHORITY = "authority of a boot image"
    SEPARATOR = "separator"
    ACPI_LOADER = "etc/table-loader"
    ACPI_RSDP = "etc/acpi/rsdp"
    ACPI_TPM_LOG = "etc/tpm/log"
    ACPI_TABLES = "etc/acpi/tables"
    ACPI = "ACPI data"
    SMBIOS = "SMBIOS tables"
    BOOT_VARIABLE = "boot variable"
    BOOT_IMAGE = "boot image"
    ACTION = "action"
    GPT = "partition table"
    LOAD_OPTIONS = "load options"
    INITRD = "initrd"
    LOADER = "boot loader"
    FIRMWARE = "firmware volume"
    APPLICATION = "application"
    OTHER = "other"


ACPI_SUBJECTS: Final = (
    Subject.ACPI_LOADER,
    Subject.ACPI_RSDP,
    Subject.ACPI_TPM_LOG,
    Subject.ACPI_TABLES,
    Subject.ACPI,
)

_BY_TYPE: Final[dict[int, Subject]] = {
    EventType.EV_SEPARATOR: Subject.SEPARATOR,
    EventType.EV_ACTION: Subject.ACTION,
    EventType.EV_EFI_ACTION: Subject.ACTION,
    EventType.EV_S_CRTM_VERSION: Subject.FIRMWARE,
    EventType.EV_EFI_PLATFORM_FIRMWARE_BLOB: Subject.FIRMWARE,
    EventType.EV_IPL: Subject.LOADER,
    EventType.EV_EFI_VARIABLE_BOOT: Subject.BOOT_VARIABLE,
    EventType.EV_EFI_VARIABLE_AUTHORITY: Subject.AUTHORITY,
    EventType.EV_EFI_BOOT_SERVICES_APPLICATION: Subject.BOOT_IMAGE,
    EventType.EV_EFI_GPT_EVENT: Subject.GPT,
    EventType.EV_EFI_HANDOFF_TABLES: Subject.SMBIOS,
    EventType.EV_EFI_HANDOFF_TABLES2: Subject.TD_HOB,
}


class Identity(msgspec.Struct, frozen=True):
    """What two events have in common that measure the same thing with different results.

    Attributes:
        type: TCG event type.
        name: variable, fw_cfg item, tag or action; empty where the type alone says it.
    """

    type: int
    name: str


def identity_of(event: Event) -> Identity:
    """The identity of an event, predicted or observed; equal for both of the same kind."""
    kind, data = event.type, event.data[:_NAME_LIMIT]
    match kind:
        case (
            EventType.EV_EFI_VARIABLE_DRIVER_CONFIG
            | EventType.EV_EFI_VARIABLE_BOOT
            | EventType.EV_EFI_VARIABLE_AUTHORITY
        ):
            return Identity(kind, _variable_name(data))
        case EventType.EV_PLATFORM_CONFIG_FLAGS if data.startswith(_FW_CFG):
            return Identity(kind, f"fw_cfg {_text(data[len(_FW_CFG) :])}")
        case EventType.EV_PLATFORM_CONFIG_FLAGS | EventType.EV_EFI_ACTION | EventType.EV_ACTION:
            return Identity(kind, _text(data))
        case EventType.EV_EVENT_TAG:
            return Identity(kind, str(_tagged(data)))
        case EventType.EV_IPL:
            return Identity(kind, _text(data)[:40])
        case _:
            return Identity(kind, "")


def subject_of(event: Event) -> Subject:
    """What an event measures, as far as it says alone; ACPI files need `subjects_of`."""
    data = event.data[:_NAME_LIMIT]
    found = _BY_TYPE.get(event.type, Subject.OTHER)
    if event.register is RegisterName.RTMR3:
        found = Subject.APPLICATION
    elif event.type == EventType.EV_EFI_PLATFORM_FIRMWARE_BLOB2:
        measured_config = event.register in {RegisterName.RTMR0, RegisterName.PCR1}
        found = Subject.CFV if measured_config else Subject.FIRMWARE
    elif event.type == EventType.EV_PLATFORM_CONFIG_FLAGS and data.startswith(_FW_CFG):
        found = Subject.FW_CFG
    elif event.type == EventType.EV_PLATFORM_CONFIG_FLAGS and data.startswith(_ACPI):
        found = Subject.ACPI
    elif event.type == EventType.EV_EFI_VARIABLE_DRIVER_CONFIG:
        found = Subject.SECURE_BOOT if _variable_name(data) == "SecureBoot" else Subject.KEYS
    elif event.type == EventType.EV_EVENT_TAG:
        found = _tagged(data)
    return found


def subjects_of(events: tuple[Event, ...]) -> tuple[Subject, ...]:
    """What the events of one register measure.

    The body of an ACPI event names no file; their order does: the loader, then the files in the
    order that the loader allocates them: RSDP, TPM log if there is a TPM, tables (facts of
    edk2 OvmfPkg/AcpiPlatformDxe; `mrtd.firmware.acpi.measured_files`).
    """
    subjects = [subject_of(event) for event in events]
    places = [index for index, subject in enumerate(subjects) if subject is Subject.ACPI]
    files = {3: (0, 1, 3), 4: (0, 1, 2, 3)}.get(len(places), ())
    for place, file in zip(places, files, strict=False):
        subjects[place] = ACPI_SUBJECTS[file]
    return tuple(subjects)


def _variable_name(data: bytes) -> str:
    # UEFI_VARIABLE_DATA: GUID 16 | name length u64, characters | data length u64 | name | data
    length = int.from_bytes(data[16:24], "little")
    return data[32 : 32 + 2 * min(length, _NAME_LIMIT)].decode("utf-16-le", "replace")


def _tagged(data: bytes) -> Subject:
    tag = int.from_bytes(data[:4], "little")
    for subject, (number, text) in (
        (Subject.LOAD_OPTIONS, _LOAD_OPTIONS),
        (Subject.INITRD, _INITRD),
    ):
        if tag == number or data.startswith(text):
            return subject
    return Subject.OTHER


def _text(data: bytes) -> str:
    if data[1:2] == b"\0":  # UTF-16, as boot loaders write
        return data[: len(data) & ~1].decode("utf-16-le", "replace").partition("\0")[0]
    return data.partition(b"\0")[0].decode("ascii", "replace")
