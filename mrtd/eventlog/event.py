"""Events: what a launch, predicted or observed, extends into its registers, in order."""

from __future__ import annotations

from enum import IntEnum, StrEnum
from typing import Final

import msgspec

from mrtd.registers import RegisterName, Sha384, Target, Unpinned


class EventType(IntEnum):
    """TCG PC Client Platform Firmware Profile, table "Events"; the values a TD's log contains."""

    EV_NO_ACTION = 0x3
    EV_SEPARATOR = 0x4
    EV_ACTION = 0x5
    EV_EVENT_TAG = 0x6
    EV_S_CRTM_VERSION = 0x8
    EV_PLATFORM_CONFIG_FLAGS = 0xA
    EV_IPL = 0xD
    EV_EFI_VARIABLE_DRIVER_CONFIG = 0x80000001
    EV_EFI_VARIABLE_BOOT = 0x80000002
    EV_EFI_BOOT_SERVICES_APPLICATION = 0x80000003
    EV_EFI_GPT_EVENT = 0x80000006
    EV_EFI_ACTION = 0x80000007
    EV_EFI_PLATFORM_FIRMWARE_BLOB = 0x80000008
    EV_EFI_HANDOFF_TABLES = 0x80000009
    EV_EFI_PLATFORM_FIRMWARE_BLOB2 = 0x8000000A
    EV_EFI_HANDOFF_TABLES2 = 0x8000000B
    EV_EFI_VARIABLE_AUTHORITY = 0x800000E0


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
    LOG = "event log"


class Origin(msgspec.Struct, frozen=True):
    """Where an event came from, so that a mismatch is explained as an input, not as a hash.

    Attributes:
        input: the kind of input.
        where: file, offset, parameter or rule, for a person.
    """

    input: InputName
    where: str


class Event(msgspec.Struct, frozen=True):
    """One measurement.

    Attributes:
        register: what it is extended into.
        type: TCG event type; usually an `EventType`.
        digest: the digest that is extended, or why it cannot be predicted.
        description: what was measured, for a person.
        origin: which input it came from.
        data: the event's body as a log holds it, where it is known; else empty.
        unconfirmed: why no real log confirms this event's rule yet; empty if one does.
    """

    register: RegisterName
    type: int
    digest: Sha384 | Unpinned
    description: str
    origin: Origin
    data: bytes = b""
    unconfirmed: str = ""


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
