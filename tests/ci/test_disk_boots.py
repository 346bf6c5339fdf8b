"""Disk images boot, and their logs name what they are made of; boots are shared with other tests.

What each event's digest is, is predicted elsewhere; here only that what was built is what ran.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from ci.images.pe import section_content
from mrtd.boot.pe import authenticode
from mrtd.disk import open_disk, open_esp
from mrtd.eventlog import EventLog, EventType, replay
from mrtd.eventlog.tcg2 import read_log
from mrtd.registers import ZERO, Exact, RegisterName, Sha384, Target
from tests.boots import Booted, Boots
from tests.conftest import DebianParts
from tests.disk_images import Images

pytestmark = pytest.mark.boot

UKI = "EFI/BOOT/BOOTX64.EFI"
LIMIT = 64 << 20
ZEROS = Exact(ZERO)
# The kernel's IMA extends PCR 10 later, without this log.
REPLAYED = (*range(10), *range(11, 16))


@dataclass(frozen=True, slots=True)
class Case:
    """A disk boot.

    Attributes:
        firmware: release of OVMF.
        started: what the firmware measures in PCR 4: files on the ESP, or ``:section`` of a UKI.
        kind: format of the disk.
        recent: whether QEMU 11.1 runs it; 7.2 otherwise.
    """

    firmware: str
    started: tuple[str, ...]
    kind: str = "raw"
    recent: bool = False


CASES = {
    "uki-252": Case("2022.11", (UKI, f"{UKI}:.linux"), kind="qcow2"),
    "uki-257": Case("2026.08", (UKI, f"{UKI}:.linux"), kind="qcow2", recent=True),
    # from 258 on the stub starts the kernel itself
    "uki-262": Case("2025.02", (UKI,)),
    "uki-addons": Case(
        "2025.02",
        (
            UKI,
            "loader/addons/everywhere.addon.efi",
            f"{UKI}.extra.d/10-first.addon.efi",
            f"{UKI}.extra.d/20-second.addon.efi",
            f"{UKI}:.linux",
        ),
    ),
    "systemd-boot": Case("2025.02", (UKI, "mrtd/vmlinuz")),
    "uki-profiles": Case(
        "2025.02", (UKI, "EFI/Linux/profiles.efi", "EFI/Linux/profiles.efi:.linux")
    ),
    "shim-grub": Case("2025.02", (UKI, "EFI/BOOT/grubx64.efi")),
    "kernel-efi": Case("2022.11", (UKI,)),
    # under Secure Boot nothing but the firmware starts images: the stub asks for no more
    "uki-signed": Case("2022.11", (UKI,)),
    "shim-grub-signed": Case("2022.11", (UKI, "EFI/BOOT/grubx64.efi", "mrtd/vmlinuz")),
}
VARIABLES = frozenset({"kernel-efi", "uki-signed", "shim-grub-signed"})


def boot(name: str, images: Images, boots: Boots, debian: DebianParts) -> Booted:
    case = CASES[name]
    firmware = {
        "2022.11": debian.ovmf_2022_11,
        "2025.02": debian.ovmf_2025_02,
        "2026.08": debian.ovmf_2026_08,
    }[case.firmware]
    if name in VARIABLES:
        firmware = debian.ovmf_folders["bookworm"] / "OVMF_CODE.fd"
    qemu = debian.qemu_11 if case.recent else None
    return boots(images.scenario(name, firmware, kind=case.kind, qemu=qemu))


def log_of(booted: Booted) -> EventLog:
    return read_log(booted.result.log, origin="guest", target=Target.TPM)


def started(folder: Path, names: tuple[str, ...]) -> list[Sha384]:
    with open_disk(folder / "disk.qcow2", "qcow2") as disk:
        esp = open_esp(disk)
        digests = []
        for name in names:
            path, _, section = name.partition(":")
            image = esp.read(path, LIMIT)
            if section:
                image = section_content(image, section)
            digests.append(authenticode(memoryview(image), origin=name))
        return digests


@pytest.mark.parametrize("name", CASES)
def test_what_was_built_is_what_ran(
    name: str, images: Images, boots: Boots, debian: DebianParts
) -> None:
    booted = boot(name, images, boots, debian)
    log = log_of(booted)
    kinds = {EventType.EV_EFI_BOOT_SERVICES_APPLICATION}
    seen = [event.digest for event in log if event.type in kinds]
    assert seen == started(images(name), CASES[name].started)
    folded = replay(log)
    for pcr in REPLAYED:
        assert folded.get(RegisterName(f"pcr{pcr}"), ZEROS) == Exact(booted.result.pcrs[pcr])


@pytest.mark.parametrize("name", ["uki-signed", "shim-grub-signed"])
def test_secure_boot_is_on(name: str, images: Images, boots: Boots, debian: DebianParts) -> None:
    """The store with our keys is taken, and the certificate that vouched is in the log."""
    log = log_of(boot(name, images, boots, debian))
    assert any(event.description == "SecureBoot: on" for event in log)
    vouched = [e.description for e in log if e.type is EventType.EV_EFI_VARIABLE_AUTHORITY]
    expected = {
        "uki-signed": ["db: mrtd example db"],
        "shim-grub-signed": ["db: Microsoft Corporation UEFI CA 2011", "MokListRT: Debian"],
    }[name]
    found = [text for text in vouched if not text.startswith("SbatLevel")]
    assert len(found) == len(expected)
    assert all(text.startswith(start) for text, start in zip(found, expected, strict=True))


def test_an_initrd_that_the_kernel_loads_itself_is_not_measured(
    images: Images, boots: Boots, debian: DebianParts
) -> None:
    """``initrd=`` on the command line of a kernel that firmware starts: PCR 9 has no event of it.

    Linux drivers/firmware/efi/libstub measures what it gets through LoadFile2, nothing else.
    """
    booted = boot("kernel-efi", images, boots, debian)
    assert "initrd=\\mrtd\\initrd" in booted.result.cmdline
    stub = [event.description for event in log_of(booted) if event.register == RegisterName("pcr9")]
    assert len(stub) == 1
    assert "LoadOptions" in stub[0]
