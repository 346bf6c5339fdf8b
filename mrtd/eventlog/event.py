"""Events: what a launch, predicted or observed, extends into its registers, in order."""

from __future__ import annotations

from enum import IntEnum, StrEnum
from typing import Final

import msgspec

from mrtd.registers import RegisterName, Sha384, Target, Unpinned


class EventType(IntEnum):
    """TCG PC Client Platform Firmware Profile 1.06, table "Events"."""

    EV_PREBOOT_CERT = 0x0
    EV_POST_CODE = 0x1
    EV_NO_ACTION = 0x3
    EV_SEPARATOR = 0x4
    EV_ACTION = 0x5
    EV_EVENT_TAG = 0x6
    EV_S_CRTM_CONTENTS = 0x7
    EV_S_CRTM_VERSION = 0x8
    EV_CPU_MICROCODE = 0x9
    EV_PLATFORM_CONFIG_FLAGS = 0xA
    EV_TABLE_OF_DEVICES = 0xB
    EV_COMPACT_HASH = 0xC
    EV_IPL = 0xD
    EV_IPL_PARTITION_DATA = 0xE
    EV_NONHOST_CODE = 0xF
    EV_NONHOST_CONFIG = 0x10
    EV_NONHOST_INFO = 0x11
    EV_OMIT_BOOT_DEVICE_EVENTS = 0x12
    EV_POST_CODE2 = 0x13
    EV_EFI_VARIABLE_DRIVER_CONFIG = 0x80000001
    EV_EFI_VARIABLE_BOOT = 0x80000002
    EV_EFI_BOOT_SERVICES_APPLICATION = 0x80000003
    EV_EFI_BOOT_SERVICES_DRIVER = 0x80000004
    EV_EFI_RUNTIME_SERVICES_DRIVER = 0x80000005
    EV_EFI_GPT_EVENT = 0x80000006
    EV_EFI_ACTION = 0x80000007
    EV_EFI_PLATFORM_FIRMWARE_BLOB = 0x80000008
    EV_EFI_HANDOFF_TABLES = 0x80000009
    EV_EFI_PLATFORM_FIRMWARE_BLOB2 = 0x8000000A
    EV_EFI_HANDOFF_TABLES2 = 0x8000000B
    EV_EFI_VARIABLE_BOOT2 = 0x8000000C
    EV_EFI_GPT_EVENT2 = 0x8000000D
    EV_EFI_HCRTM_EVENT = 0x80000010
    EV_EFI_VARIABLE_AUTHORITY = 0x800000E0
    EV_EFI_SPDM_FIRMWARE_BLOB = 0x800000E1
    EV_EFI_SPDM_FIRMWARE_CONFIG = 0x800000E2
    EV_EFI_SPDM_DEVICE_POLICY = 0x800000E3
    EV_EFI_SPDM_DEVICE_AUTHORITY = 0x800000E4


def type_name(value: int) -> str:
    """``EV_...`` for a known event type, else the number in hex."""
    try:
        return EventType(value).name
    except ValueError:
        return f"{value:#010x}"


class InputName(StrEnum):
    """The inputs of a launch that a measurement can come from."""

    FIRMWARE = "firmware"
    PROFILE = "firmware profile"
    VARIABLES = "variables"
    MEMORY = "memory"
    ACPI = "acpi"
    FW_CFG = "fw_cfg"
    SMBIOS = "smbios"
    KERNEL = "kernel"
    CMDLINE = "cmdline"
    INITRD = "initrd"
    UKI = "uki"
    BOOT_LOADER = "boot loader"
    LOADER_CONFIG = "boot loader configuration"
    PARTITIONS = "partition table"
    LOG = "event log"


class Origin(msgspec.Struct, frozen=True, gc=False):
    """Where an event came from, so that a mismatch is explained as an input, not as a hash.

    Attributes:
        input: the kind of input.
        source: file, parameter or rule, for a person.
        offset: offset in that file, bytes; None where the source says it all.
    """

    input: InputName
    source: str
    offset: int | None = None

    @property
    def where(self) -> str:
        """File and offset, parameter or rule, for a person."""
        return self.source if self.offset is None else f"{self.source}+{self.offset:#x}"


class Event(msgspec.Struct, frozen=True, gc=False):
    """One measurement.

    Attributes:
        register: what it is extended into.
        type: TCG event type; usually an `EventType`.
        digest: the digest that is extended, or why it cannot be predicted.
        label: what was measured, for a person; None if the body says it (see `description`).
        origin: which input it came from.
        data: the event's body as a log holds it, where it is known; else empty.
        unconfirmed: why no real log confirms this event's rule yet; empty if one does.
    """

    register: RegisterName
    type: int
    digest: Sha384 | Unpinned
    label: str | None
    origin: Origin
    data: bytes = b""
    unconfirmed: str = ""

    @property
    def description(self) -> str:
        """What was measured, for a person: the label, or what the body says when it is asked."""
        if self.label is not None:
            return self.label
        from mrtd.eventlog.describe import describe  # noqa: PLC0415 - many logs are only replayed

        return describe(self.type, self.data)


EventLog = tuple[Event, ...]

_CC_REGISTER_OF_PCR: Final = {
    0: RegisterName.MRTD,
    1: RegisterName.RTMR0,
    7: RegisterName.RTMR0,
    **dict.fromkeys(range(2, 7), RegisterName.RTMR1),
    **dict.fromkeys(range(8, 16), RegisterName.RTMR2),
}


def register_of_pcr(pcr: int, target: Target) -> RegisterName:
    """The register that an event for a PCR ends in.

    Source: UEFI 2.10 section 38.4.1, edk2 TdTcg2Dxe TdMapPcrToMrIndex (>= fb91d6cbd0):
    PCR 0 is MRTD, which cannot be extended at run time, PCR 1 and 7 RTMR0, 2-6 RTMR1, 8-15 RTMR2.
    """
    if target is Target.TPM:
        return RegisterName(f"pcr{pcr}")
    return _CC_REGISTER_OF_PCR[pcr]
