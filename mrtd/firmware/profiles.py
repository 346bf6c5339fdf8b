"""Firmware profiles: what each edk2 release measures, in which order, and who has seen it.

A profile is a row of data; nothing else in the package asks which edk2 it deals with. Names are
``edk2-YYYYMM`` for OvmfPkgX64 builds (``OVMF.fd``, "config A") and ``edk2-YYYYMM-inteltdx`` for
IntelTdxX64 builds (``OVMF.inteltdx.fd``, "config B"), YYYYMM being the first stable release that
behaves so. A row's ``unconfirmed`` text says that no log of real TDX hardware confirms it yet.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

import msgspec
from msgspec.structs import replace

from mrtd.errors import UnknownProfile
from mrtd.firmware.boot_options import (
    BOOT_MENU_HIDDEN,
    FIRMWARE_SETUP,
    SHELL_APP,
    SHELL_OLD,
    UI_APP_HIDDEN,
    FirmwareApp,
)


class Step(StrEnum):
    """What a firmware measures, in the terms of the TCG PC Client Platform Firmware Profile."""

    CRTM_VERSION = "CRTM version"
    FIRMWARE_VOLUMES = "firmware volumes"
    TD_HOB = "TD HOB"
    CFV = "configuration firmware volume"
    FW_CFG = "fw_cfg items"
    SECURE_BOOT_POLICY = "Secure Boot policy"
    POLICY_SEPARATOR = "separator after the policy"
    ACPI = "ACPI DATA"
    BOOT_IMAGE = "boot image"
    SMBIOS = "SMBIOS tables"
    BOOT_VARIABLES = "boot variables"
    BOOT_VARIABLES_UNKNOWN = "boot variables and separators, place unknown"
    CALLING_APPLICATION = "calling EFI application"
    SEPARATOR_RTMR0 = "separator in RTMR0"
    SEPARATOR_RTMR1 = "separator in RTMR1"
    SEPARATORS = "separators in PCR 0-6"


class InitrdArgument(StrEnum):
    """Where the firmware's loader puts ``initrd=initrd`` in the kernel's load options."""

    SUFFIX = "suffix"
    PREFIX = "prefix"


class Row(msgspec.Struct, frozen=True):
    """One step of a profile; ``unconfirmed`` is empty if a log of real hardware shows it."""

    step: Step
    unconfirmed: str = ""


class FirmwareProfile(msgspec.Struct, frozen=True):
    """What one family of firmware builds does.

    Attributes:
        name: ``edk2-YYYYMM`` or ``edk2-YYYYMM-inteltdx``.
        first: first stable release it describes, YYYYMM.
        last: last one.
        cc: what it measures in a TD, in order; empty if it extends nothing.
        tpm: what it measures in a VM with a TPM and no TDX, in order; empty if nothing.
        boot_apps: boot options it creates when a kernel is booted directly, in BootOrder.
        late_apps: those it creates after the devices' ones, when it boots from a device.
        initrd_argument: where ``initrd=initrd`` goes.
        named_blobs: whether it reads the kernel from fw_cfg ``etc/boot/kernel`` if that exists.
        ecam_base: guest physical address of the PCI Express configuration space.
        window_max_phys_bits: widest physical address space that its 64-bit PCI window can top.
        window_avoids_reserved: whether its 64-bit PCI window moves below reserved e820 ranges.
        pei_volume_as_built: whether the measured PEI volume is the one in the image (else its
            modules have written to it before it is measured).
        exit_flushes: whether ExitBootServices flushes every FAT volume before it compares memory
            maps, and so fails once where that changes them (`mrtd.qemu.exit_flush`).
        source: where the rules come from.
    """

    name: str
    first: int
    last: int
    cc: tuple[Row, ...]
    tpm: tuple[Row, ...]
    boot_apps: tuple[FirmwareApp, ...]
    late_apps: tuple[FirmwareApp, ...]
    initrd_argument: InitrdArgument
    named_blobs: bool
    ecam_base: int
    window_max_phys_bits: int
    window_avoids_reserved: bool
    pei_volume_as_built: bool
    exit_flushes: bool
    source: str

    @property
    def inteltdx(self) -> bool:
        """Whether it describes IntelTdxX64 builds."""
        return self.name.endswith("-inteltdx")


def _rows(*steps: Step, unconfirmed: str = "", only: tuple[Step, ...] = ()) -> tuple[Row, ...]:
    return tuple(Row(step, unconfirmed if not only or step in only else "") for step in steps)


_START: Final = (Step.TD_HOB, Step.CFV)
_POLICY: Final = (Step.SECURE_BOOT_POLICY, Step.POLICY_SEPARATOR)
_TPM_START: Final = (Step.CRTM_VERSION, Step.FIRMWARE_VOLUMES, *_POLICY)
_TPM_END: Final = (Step.BOOT_VARIABLES, Step.CALLING_APPLICATION, Step.SEPARATORS)

_CC_202302: Final = _rows(
    *_START, *_POLICY, Step.ACPI, Step.BOOT_IMAGE, Step.BOOT_VARIABLES,
    Step.CALLING_APPLICATION, Step.SEPARATOR_RTMR0,
)  # fmt: skip
_CC_202411: Final = (*_CC_202302[:-1], Row(Step.SEPARATOR_RTMR1))
_NO_LOG_202505: Final = "edk2 >= 202505: no log of TDX hardware confirms it"
_CC_202505: Final = _rows(
    *_START, Step.FW_CFG, *_POLICY, Step.ACPI, Step.BOOT_IMAGE, Step.SMBIOS, Step.BOOT_VARIABLES,
    Step.CALLING_APPLICATION, Step.SEPARATOR_RTMR1,
    unconfirmed=_NO_LOG_202505, only=(Step.FW_CFG, Step.SMBIOS, Step.BOOT_VARIABLES),
)  # fmt: skip

_TPM_202211: Final = _rows(*_TPM_START, Step.BOOT_IMAGE, *_TPM_END)
_TPM_202302: Final = _rows(*_TPM_START, Step.ACPI, Step.BOOT_IMAGE, *_TPM_END)
_TPM_202505: Final = _rows(*_TPM_START, Step.ACPI, Step.BOOT_IMAGE, Step.SMBIOS, *_TPM_END)

_UI_APP: Final = (UI_APP_HIDDEN,)
_MENU_APPS: Final = (BOOT_MENU_HIDDEN, FIRMWARE_SETUP)

_A_202211: Final = FirmwareProfile(
    name="edk2-202211",
    first=202205,
    last=202211,
    cc=(),
    tpm=_TPM_202211,
    boot_apps=_UI_APP,
    late_apps=(SHELL_OLD,),
    initrd_argument=InitrdArgument.SUFFIX,
    named_blobs=False,
    ecam_base=0xB0000000,
    window_max_phys_bits=47,
    window_avoids_reserved=False,
    pei_volume_as_built=False,
    exit_flushes=False,
    source="TdTcg2Dxe is in IntelTdxX64 only; tpm: logs of Debian 2022.11",
)
_A_202302: Final = replace(
    _A_202211,
    name="edk2-202302",
    first=202302,
    last=202408,
    cc=_CC_202302,
    tpm=_TPM_202302,
    ecam_base=0xE0000000,
    window_max_phys_bits=46,
    window_avoids_reserved=True,
    source="edk2 fb91d6cbd0 (registers), e0dcfb31fb (boot variables); log of a 2 GiB TD",
)
_A_202411: Final = replace(
    _A_202302,
    name="edk2-202411",
    first=202411,
    last=202411,
    cc=_CC_202411,
    source="edk2 efaf8931bb (second separator to RTMR1); log of a 64 GiB TD",
)
_A_202502: Final = replace(
    _A_202411,
    name="edk2-202502",
    first=202502,
    last=202502,
    named_blobs=True,
    source="edk2 20df7c42bd (named kernel blobs); fixtures of an 8-vCPU TD; tpm: logs of Debian "
    "2025.02",
)
_A_202505: Final = replace(
    _A_202502,
    name="edk2-202505",
    first=202505,
    last=202505,
    cc=_CC_202505,
    tpm=_TPM_202505,
    boot_apps=_MENU_APPS,
    late_apps=(SHELL_APP,),
    source="edk2 cd76265f1a (SMBIOS), fw_cfg cache, BootManagerMenuApp; source reading only",
)
_A_202508: Final = replace(
    _A_202505,
    name="edk2-202508",
    first=202508,
    last=202602,
    initrd_argument=InitrdArgument.PREFIX,
    source="edk2 a2ac0fea49 (initrd= first); source reading only",
)
_A_202605: Final = replace(
    _A_202508,
    name="edk2-202605",
    first=202605,
    last=202605,
    pei_volume_as_built=True,
    source="as edk2-202508 in a TD; source reading only",
)
_A_202608: Final = replace(
    _A_202605,
    name="edk2-202608",
    first=202608,
    last=202608,
    exit_flushes=True,
    source="edk2 pull request 12704 (FAT volumes are flushed); tpm: logs of Debian 2026.08",
)

_NO_LOG_B: Final = "IntelTdxX64 build: no log of TDX hardware confirms it"


def _inteltdx(
    base: FirmwareProfile,
    source: str,
    cc: tuple[Row, ...] | None = None,
    boot_apps: tuple[FirmwareApp, ...] | None = None,
) -> FirmwareProfile:
    """The IntelTdxX64 sibling of a profile: same sequence in a TD, no TPM drivers."""
    rows = base.cc if cc is None else cc
    return replace(
        base,
        name=f"{base.name}-inteltdx",
        cc=tuple(Row(row.step, row.unconfirmed or _NO_LOG_B) for row in rows),
        tpm=(),
        boot_apps=base.boot_apps if boot_apps is None else boot_apps,
        late_apps=(),  # these builds have no shell
        source=source,
    )


PROFILES: Final = (
    _A_202211,
    _A_202302,
    _A_202411,
    _A_202502,
    _A_202505,
    _A_202508,
    _A_202605,
    _A_202608,
    _inteltdx(
        _A_202211,
        "before fb91d6cbd0 and e0dcfb31fb: boot variables and separators go elsewhere",
        cc=_rows(*_START, *_POLICY, Step.ACPI, Step.BOOT_IMAGE, Step.BOOT_VARIABLES_UNKNOWN),
    ),
    _inteltdx(_A_202302, "as OvmfPkgX64"),
    _inteltdx(_A_202411, "as OvmfPkgX64"),
    _inteltdx(_A_202502, "as OvmfPkgX64"),
    _inteltdx(_A_202505, "as OvmfPkgX64"),
    _inteltdx(_A_202508, "as OvmfPkgX64"),
    _inteltdx(
        _A_202605,
        "edk2 03a07cb0f5 moved UiApp and BootManagerMenuApp out of a TD's reach",
        boot_apps=(),
    ),
    _inteltdx(
        _A_202608,
        "edk2 pull request 12707 brought BootManagerMenuApp back",
        boot_apps=(BOOT_MENU_HIDDEN,),
    ),
)


def profile_named(name: str, *, origin: str) -> FirmwareProfile:
    """The profile of that name. Raises `UnknownProfile`, which lists them all."""
    for profile in PROFILES:
        if profile.name == name:
            return profile
    known = ", ".join(profile.name for profile in PROFILES)
    raise UnknownProfile(
        f"{name!r} is no firmware profile", origin=origin, field="firmware.profile",
        hint=f"one of {known}",
    )  # fmt: skip
