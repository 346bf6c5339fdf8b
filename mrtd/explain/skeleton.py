"""The log of each firmware profile without any launch: what only the profile decides is exact.

The rules are the derivation's own (`mrtd.firmware.sequence`), with inputs that nobody knows.
"""

from __future__ import annotations

from typing import Final

import msgspec
from msgspec.structs import replace

from mrtd.boot.efi_stub import stub_events
from mrtd.compare import DIFFERENCES, compare_events, extended
from mrtd.eventlog import Event, EventLog, EventType, InputName, Origin, register_of_pcr
from mrtd.explain.memory import LAYOUTS
from mrtd.firmware.acpi import LOADER_FILE, RSDP_FILE, TABLES_FILE
from mrtd.firmware.profiles import PROFILES, FirmwareProfile
from mrtd.firmware.sequence import (
    FirmwareInputs,
    NamedBlob,
    exit_boot_services,
    firmware_events,
)
from mrtd.firmware.tdvf import Section, SectionType, Tdvf
from mrtd.firmware.variables import SecureBoot
from mrtd.registers import ZERO, RegisterName, Target, Unpinned
from mrtd.side import Side, SideKind

_GIB: Final = 1 << 30
_UNKNOWN: Final = Unpinned("the input is not known")
_MINE: Final = (RegisterName.RTMR0, RegisterName.RTMR1)


class ProfileFit(msgspec.Struct, frozen=True):
    """A profile and how many events of a log it does not have, or has besides."""

    profile: FirmwareProfile
    differences: int


def skeleton(profile: FirmwareProfile) -> EventLog:
    """The events of a direct kernel boot in a TD, exact where the profile alone decides."""
    cfv = Section(99, SectionType.CFV, 0, 0, 0xFFC00000, 0x1000, 0)
    image = Event(
        register_of_pcr(4, Target.CC),
        EventType.EV_EFI_BOOT_SERVICES_APPLICATION,
        _UNKNOWN,
        "kernel PE image",
        Origin(InputName.KERNEL, "not known"),
    )
    inputs = FirmwareInputs(
        image=memoryview(b""),
        tdvf=Tdvf("unknown", (*LAYOUTS[0].sections, cfv)),
        memory=_GIB,
        variables=(),
        secure_boot=SecureBoot.ABSENT,
        acpi=_blobs(LOADER_FILE, RSDP_FILE, TABLES_FILE),
        fw_cfg=_blobs("BootMenu", "bootorder"),
        smbios=_blobs("SMBIOS tables")[0],
        boot_image=image,
    )
    stub = stub_events(bytes(2), ZERO, target=Target.CC, initrd_where="not known")
    log = (
        *firmware_events(profile, inputs, Target.CC),
        *stub,
        *exit_boot_services(Target.CC, profile),
    )
    return tuple(
        event if event.origin.input is InputName.PROFILE else replace(event, digest=_UNKNOWN)
        for event in log
    )


def skeleton_side(profile: FirmwareProfile) -> Side:
    """A side that expects the profile and nothing else."""
    return Side(
        origin=f"profile {profile.name}",
        kind=SideKind.DOCUMENT,
        target=Target.CC,
        registers=dict.fromkeys((*_MINE, RegisterName.RTMR2), _UNKNOWN),
        log=skeleton(profile),
    )


def rank_profiles(observed: Side) -> tuple[ProfileFit, ...]:
    """Every profile that extends RTMRs, those first that fit an observed log's structure best."""
    log = observed.log or ()
    fits = []
    for profile in PROFILES:
        if profile.cc:
            side = skeleton_side(profile)
            count = sum(
                row.outcome in DIFFERENCES
                for name in _MINE
                for row in compare_events(
                    extended(side.log or (), name), extended(log, name), sides=(side, observed)
                )
            )
            fits.append(ProfileFit(profile, count))
    return tuple(sorted(fits, key=lambda fit: fit.differences))


def _blobs(*names: str) -> tuple[NamedBlob, ...]:
    return tuple(NamedBlob(name, _UNKNOWN, "not known") for name in names)
