"""QEMU, firmware, room, and what this host can do without TDX.

Sources: QEMU docs/system/i386/tdx.rst and target/i386/kvm/tdx.c (upstream since 10.1),
hw/i386/tdvf.c (section types 0 to 3), hw/i386/x86-common.c (``-bios`` takes multiples of 64 KiB).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from ci.doctor_findings import Finding, Need, missing, ok, text_of, unknown
from ci.doctor_host import Host
from mrtd.errors import MalformedFirmware, MrtdError, UnknownProfile
from mrtd.firmware.guids import SYSTEM_NV_DATA
from mrtd.firmware.identify import variables_of
from mrtd.firmware.signals import guess_profile, read_signals
from mrtd.firmware.tdvf import SectionType, Tdvf, read_tdvf
from mrtd.firmware.volumes import unpack_firmware
from mrtd.printable import printable
from mrtd.qemu.process import QEMU

FIRST_QEMU: Final = (10, 1)
# Where distributions put firmware with TDX metadata; the first that can be used is taken
FIRMWARE: Final = (
    "/usr/share/ovmf/OVMF.inteltdx.fd",
    "/usr/share/ovmf/OVMF.inteltdx.ms.fd",
    "/usr/share/edk2/ovmf/OVMF.inteltdx.fd",
    "/usr/share/edk2/ovmf/OVMF.inteltdx.secboot.fd",
    "/usr/share/ovmf/OVMF.fd",
    "/usr/share/qemu/OVMF.fd",
)
MEMORY: Final = 3 << 30
DISK: Final = 4 << 30
_FIRMWARE_LIMIT: Final = 64 << 20
_BIOS_UNIT: Final = 64 << 10
_VERSION: Final = re.compile(r"version (\d{1,4})\.(\d{1,4})(?:\.\d{1,4}){0,2}")
_GET_QEMU: Final = (
    "install QEMU >= 10.1: Debian trixie-backports (apt-get install -t trixie-backports "
    "qemu-system-x86) or later"
)
_GET_FIRMWARE: Final = (
    "apt-get install ovmf-inteltdx (OVMF.inteltdx.ms.fd) or ovmf (OVMF.fd), and give the file "
    "with --firmware"
)


def check_qemu(host: Host, binary: str | None) -> list[Finding]:
    """QEMU's version, and whether it has the object ``tdx-guest``."""
    version, guest = "qemu", "tdx-guest"
    path = host.which(binary or QEMU)
    if path is None:
        name = printable(binary or QEMU)
        none = unknown(guest, "there is no QEMU to ask", "see qemu")
        return [missing(version, f"{name} is not installed", _GET_QEMU), none]
    try:
        said = host.run([path, "--version"])
        objects = host.run([path, "-machine", "none", "-object", "help"])
    except MrtdError as error:
        text = printable(error.message)[:300]
        none = unknown(guest, "QEMU cannot be asked", "see qemu")
        return [missing(version, text, _GET_QEMU), none]
    found = _VERSION.search(said)
    if found is None:
        first = unknown(version, f"{path} names no version", _GET_QEMU)
    elif (int(found[1]), int(found[2])) >= FIRST_QEMU:
        first = ok(version, f"{path}, {found[0]}")
    else:
        first = missing(version, f"{path}, {found[0]}: TDX is in QEMU since 10.1", _GET_QEMU)
    if guest in objects.split():
        return [first, ok(guest, "-object help lists it")]
    return [first, missing(guest, "-object help does not list it", _GET_QEMU)]


def check_firmware(host: Host, path: str | None) -> Finding:
    """Whether a firmware image starts a TD with ``-bios``: the one given, or one of `FIRMWARE`."""
    if path is not None:
        return judge_firmware(host, path)
    there = [candidate for candidate in FIRMWARE if text_of(host, candidate) is not None]
    found = [judge_firmware(host, candidate) for candidate in there]
    good = [finding for finding in found if not finding.remedy]
    if good or found:
        return (good or found)[0]
    return missing("firmware", "none of the files that distributions install", _GET_FIRMWARE)


def judge_firmware(host: Host, path: str) -> Finding:
    """Whether one image can, by reading it."""
    name, shown = "firmware", printable(path)
    try:
        data = host.read(path, _FIRMWARE_LIMIT + 1)
    except OSError as error:
        text = f"{shown}: {error.strerror or type(error).__name__}"
        return missing(name, text, _GET_FIRMWARE)
    if not data or len(data) > _FIRMWARE_LIMIT:
        return missing(name, f"{shown}: {len(data)} bytes are no firmware", _GET_FIRMWARE)
    try:
        problem, good = _read_firmware(memoryview(data), shown)
    except UnknownProfile:
        text = f"{shown}: TDX metadata, of no edk2 release that is known here"
        return unknown(name, text, "name its edk2 release in the launch spec: firmware.profile")
    except MalformedFirmware as error:
        return missing(name, printable(error.message) + _half(data), _GET_FIRMWARE)
    if problem:
        return missing(name, f"{shown}: {problem}", _GET_FIRMWARE)
    return ok(name, f"{shown}: {good}")


def _read_firmware(image: memoryview, origin: str) -> tuple[str, str]:
    """What is wrong with an image, and what it is."""
    tdvf = read_tdvf(image, origin=origin)
    problem = _unsuitable(tdvf, len(image))
    if problem:
        return problem, ""
    signals = read_signals(unpack_firmware(image, origin=origin))
    if not signals.td_measurement:
        return "boots, but measures nothing into RTMRs (no TdTcg2Dxe)", ""
    profile = guess_profile(signals, origin=origin).name
    keys = any(variable.name == "PK" for variable in variables_of(image, tdvf))
    more = "; has Secure Boot keys, so kernels have to be signed" if keys else ""
    return "", f"TDVF, {profile}{more}"


def _half(data: bytes) -> str:
    """Which half of OVMF a file is, where it is only one.

    Its first firmware volume says it (UEFI PI, volume 3, EFI_FIRMWARE_VOLUME_HEADER), not its name:
    a whole OVMF begins with the variables.
    """
    if data[40:44] != b"_FVH":
        return ""
    if data[16:32] != SYSTEM_NV_DATA:
        return ": this is the code only (OVMF_CODE), without the variables that -bios needs"
    if int.from_bytes(data[32:40], "little") >= len(data):
        return ": these are the variables only (OVMF_VARS)"
    return ""


def _unsuitable(tdvf: Tdvf, size: int) -> str:
    """Why QEMU would not take it with ``-bios``."""
    for section in tdvf.sections:
        if section.type > SectionType.TEMP_MEM:
            return f"section {section.type.name}, which QEMU does not know (td-shim, not OVMF)"
    if size % _BIOS_UNIT:
        return f"{size} bytes are no multiple of 64 KiB, which -bios demands"
    return ""


def check_room(host: Host) -> list[Finding]:
    """Memory for a TD of 2 GiB, and disk for overlays and payloads."""
    name = "memory"
    meminfo = text_of(host, "/proc/meminfo") or ""
    match = re.search(r"^MemAvailable:\s*(\d{1,15}) kB", meminfo, re.MULTILINE)
    if match is None:
        found = unknown(name, "/proc/meminfo says nothing", "make sure that 3 GiB are free")
    elif int(match[1]) << 10 >= MEMORY:
        found = ok(name, f"{_gib(int(match[1]) << 10)} available")
    else:
        text = f"{_gib(int(match[1]) << 10)} available; a TD's memory is never swapped out"
        found = missing(name, text, "free 3 GiB, or launch smaller TDs")
    folder = host.environment.get("TMPDIR") or "/tmp"  # noqa: S108 - asked for its room only
    try:
        free = host.free(folder)
    except OSError as error:
        remedy = "set TMPDIR to a folder with room"
        return [found, missing("disk", f"{printable(folder)}: {error.strerror}", remedy)]
    if free >= DISK:
        return [found, ok("disk", f"{_gib(free)} free in {printable(folder)}")]
    text = f"{_gib(free)} free in {printable(folder)}"
    return [found, missing("disk", text, "free 4 GiB, or set TMPDIR to a folder with room")]


def _gib(size: int) -> str:
    return f"{size / (1 << 30):.1f} GiB"


def check_plain(host: Host) -> list[Finding]:
    """What launches without TDX need."""
    found = []
    for program, package in (
        ("swtpm", "swtpm"),
        ("swtpm_setup", "swtpm-tools"),
        ("setpriv", "util-linux"),
    ):
        path = host.which(program)
        finding = (
            missing(program, "is not installed", f"apt-get install {package}", need=Need.PLAIN)
            if path is None
            else ok(program, path, need=Need.PLAIN)
        )
        found.append(finding)
    if host.has_module("qemu.qmp"):
        return [*found, ok("qemu.qmp", "installed", need=Need.PLAIN)]
    remedy = "pip install 'mrtd[ci]'"
    return [*found, missing("qemu.qmp", "is not installed", remedy, need=Need.PLAIN)]


def works_here(host: Host, findings: Sequence[Finding], binary: str | None) -> dict[str, bool]:
    """What needs no TDX hardware, and whether this host can do it."""
    qemu = host.which(binary or QEMU) is not None
    plain = all(not finding.remedy for finding in findings if finding.need is Need.PLAIN)
    return {
        "derive measurements (mrtd measure, inspect, explain)": True,
        "ask QEMU for its ACPI tables": qemu,
        "plain launches: QEMU under TCG with a software TPM": qemu and plain,
        "verify quotes with DCAP (mrtd[dcap])": host.has_module("dcap_qvl"),
        "check tokens of Intel Trust Authority (mrtd[verifier])": host.has_module("jwt"),
    }
