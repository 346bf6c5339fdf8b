"""Which firmware profiles a binary can be: named signals in its volumes, matched with the table.

Every signal is a fact that anybody can check in the image (`mrtd inspect` prints them). A profile
fits if no signal contradicts it; two that fit are an error that names both, never a guess.
"""

from __future__ import annotations

import itertools
import re
from typing import Final

import msgspec

from mrtd.errors import UnknownProfile
from mrtd.firmware.profiles import PROFILES, FirmwareProfile, InitrdArgument, Step
from mrtd.firmware.smbios import BIOS_TEMPLATE, BiosStrings
from mrtd.firmware.volumes import Contents

# The loader's format strings (edk2 OvmfPkg/Library/X86QemuLoadImageLib, GenericQemuLoadImageLib)
_INITRD_SUFFIX: Final = b" initrd=initrd\0"
_INITRD_PREFIX: Final = b"initrd=initrd \0"
_NAMED_BLOBS: Final = b"etc/boot/\0"
_FW_CFG_EVENT: Final = b"QEMU FW CFG\0"
_ACPI_EVENT: Final = b"ACPI DATA\0"
# PcdFirmwareVersionString: "2025.02-8+deb13u1", "edk2-stable202411"; found by its year
_YEAR: Final = re.compile(rb"2\0000\0[2-9]\0[0-9]\0")
_VERSION: Final = re.compile(r"(?:edk2-stable)?20[2-9]\d\.?(?:0[1-9]|1[0-2])[!-~]{0,40}")
_DATE: Final = re.compile(r"\d\d/\d\d/\d{4}")
_TEXT: Final = re.compile(rb"(?:[ -~]\0){4,}\0\0")  # UTF-16 with its NUL
_AROUND: Final = 128  # bytes to look at on either side
_MAX_YEARS: Final = 4096  # occurrences to look at; OVMF has 90


class Signals(msgspec.Struct, frozen=True):
    """What the image shows of its build.

    Attributes:
        modules: names of all its modules.
        td_measurement: TdTcg2Dxe is there: it extends RTMRs in a TD.
        inteltdx: no PEI phase and no shell: an IntelTdxX64 build.
        secure_boot: SecureBootConfigDxe is there: built with Secure Boot.
        smbios: SmbiosMeasurementDxe is there (edk2 >= 202505).
        menu_app: BootManagerMenuApp is there (edk2 >= 202505).
        fw_cfg_events: it has the "QEMU FW CFG" event text (edk2 >= 202505).
        acpi_events: it has the "ACPI DATA" event text (edk2 >= 202302).
        named_blobs: it reads "etc/boot/..." fw_cfg files (edk2 >= 202502).
        initrd_argument: where its loader puts ``initrd=``; None if it has no such loader.
        version: its version string, such as ``2025.02-8+deb13u1``; empty if it has none.
        release: the stable release in that string, YYYYMM; None if there is none.
        bios: the strings of its SMBIOS BIOS Information; None if they are not found.
    """

    modules: frozenset[str]
    td_measurement: bool
    inteltdx: bool
    secure_boot: bool
    smbios: bool
    menu_app: bool
    fw_cfg_events: bool
    acpi_events: bool
    named_blobs: bool
    initrd_argument: InitrdArgument | None
    version: str
    release: int | None
    bios: BiosStrings | None = None


def read_signals(contents: Contents) -> Signals:
    """The signals of an unpacked image."""
    names = contents.names()
    version = _version(contents)
    digits = re.search(r"(20\d\d)\.?(\d\d)", version)
    argument = None
    if contents.holds(_INITRD_PREFIX):
        argument = InitrdArgument.PREFIX
    elif contents.holds(_INITRD_SUFFIX):
        argument = InitrdArgument.SUFFIX
    return Signals(
        modules=names,
        td_measurement="TdTcg2Dxe" in names,
        inteltdx="Tcg2Pei" not in names and "PeiCore" not in names and "TdxDxe" in names,
        secure_boot="SecureBootConfigDxe" in names,
        smbios="SmbiosMeasurementDxe" in names,
        menu_app="BootManagerMenuApp" in names,
        fw_cfg_events=contents.holds(_FW_CFG_EVENT),
        acpi_events=contents.holds(_ACPI_EVENT),
        named_blobs=contents.holds(_NAMED_BLOBS),
        initrd_argument=argument,
        version=version,
        release=int(digits[1] + digits[2]) if digits else None,
        bios=_bios_strings(contents),
    )


def _version(contents: Contents) -> str:
    """The version string that occurs most often: PcdFirmwareVersionString is in several modules."""
    found: dict[str, int] = {}
    years = ((data, match) for data in contents.unpacked for match in _YEAR.finditer(data))
    for data, match in itertools.islice(years, _MAX_YEARS):
        text = _text_around(data, match.start())
        if _VERSION.fullmatch(text):
            found[text] = found.get(text, 0) + 1
    return max(found, key=lambda text: found[text], default="")


def _text_around(data: bytearray, position: int) -> str:
    """The printable UTF-16 text that ``position`` is in."""
    before = data[max(0, position - _AROUND) : position]
    after = data[position : position + _AROUND]
    tail = re.search(r"[!-~]*\Z", before[len(before) % 2 :].decode("utf-16-le", "replace"))
    head = re.match(r"[!-~]*", after.decode("utf-16-le", "replace"))
    return (tail[0] if tail else "") + (head[0] if head else "")


def _bios_strings(contents: Contents) -> BiosStrings | None:
    """PcdFirmwareVendor, -VersionString and -ReleaseDateString, as SmbiosPlatformDxe holds them.

    They stand behind the template of the structure that they go into; the date is told by its form
    and the version by its digits first, as the compiler may order them.
    """
    for data in contents.unpacked:
        at = data.find(BIOS_TEMPLATE)
        if at < 0:
            continue
        found = _aligned_texts(data, at + len(BIOS_TEMPLATE), at)
        dates = [text for text in found if _DATE.fullmatch(text)]
        versions = [text for text in found if _VERSION.fullmatch(text)]
        others = [text for text in found if text not in {*dates, *versions}]
        if len(dates) == len(versions) == len(others) == 1:
            return BiosStrings(vendor=others[0], version=versions[0], date=dates[0])
    return None


def _aligned_texts(data: bytearray, start: int, base: int) -> list[str]:
    """The next three UTF-16 texts that stand 8-byte aligned to ``base``; code fills the gaps."""
    found: list[str] = []
    at, end = start + (base - start) % 8, min(start + 1024, len(data))
    while at < end and len(found) < 3:
        match = _TEXT.match(data, at, end)
        if match:
            found.append(match[0].decode("utf-16-le")[:-1])
        at += 8 if match is None else -(-len(match[0]) // 8) * 8
    return found


def contradictions(profile: FirmwareProfile, signals: Signals) -> tuple[str, ...]:
    """What in the image speaks against a profile; empty if it fits."""
    cc = {row.step for row in profile.cc}
    pairs: tuple[tuple[str, object, object], ...] = (
        ("IntelTdxX64 build", profile.inteltdx, signals.inteltdx),
        ("TdTcg2Dxe", bool(profile.cc), signals.td_measurement),
        ("SmbiosMeasurementDxe", Step.SMBIOS in cc, signals.smbios),
        ("fw_cfg event text", Step.FW_CFG in cc, signals.fw_cfg_events),
        ("ACPI event text", Step.ACPI in cc, signals.acpi_events),
        ("etc/boot/ files", profile.named_blobs, signals.named_blobs),
        ("initrd= argument", profile.initrd_argument, signals.initrd_argument),
    )
    found = [
        f"{name}: {_shown(image)} in the image, {_shown(table)} in the profile"
        for name, table, image in pairs
        if table != image
    ]
    if signals.release and not profile.first <= signals.release <= profile.last:
        found.append(f"version: {signals.version} is not in {profile.first}..{profile.last}")
    return tuple(found)


def guess_profile(signals: Signals, *, origin: str) -> FirmwareProfile:
    """The one profile that no signal contradicts.

    Raises:
        UnknownProfile: none fits (the message says what speaks against the nearest ones), or
            several do (it lists them).
    """
    fitting = [profile for profile in PROFILES if not contradictions(profile, signals)]
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        raise UnknownProfile(
            f"fits several profiles: {', '.join(profile.name for profile in fitting)}",
            origin=origin,
            field="firmware profile",
            hint="set firmware.profile to the edk2 release that it was built from",
        )
    nearest = sorted(PROFILES, key=lambda profile: len(contradictions(profile, signals)))[:2]
    against = " | ".join(
        f"{profile.name}: {'; '.join(contradictions(profile, signals))}" for profile in nearest
    )
    raise UnknownProfile(
        f"fits no known profile; nearest: {against}",
        origin=origin,
        field="firmware profile",
        hint="set firmware.profile if you know the edk2 release",
    )


def _shown(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "none" if value is None else str(value)
