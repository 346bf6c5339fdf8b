"""Disks and their partitions: what is on them, and what covers it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import msgspec

from mrtd.audit.findings import AuditedInput, Finding
from mrtd.audit.iso9660 import root_names
from mrtd.coverage import CoverageStatus
from mrtd.disk import Disk as DiskImage
from mrtd.disk import open_disk, open_fat
from mrtd.disk.root import RootCheck, RootStatus, check_root
from mrtd.disk.volumes import Volume, list_volumes
from mrtd.errors import MalformedDisk
from mrtd.eventlog import InputName
from mrtd.launch.spec import Disk, DiskBoot, LaunchSpec
from mrtd.qemu.devices import parse_device
from mrtd.registers import RegisterName

_ESP: Final = "c12a7328-f81f-11d2-ba4b-00a0c93ec93b"  # UEFI 2.10, 5.3.3
# cloud-init NoCloud and ConfigDrive, Ignition, libvirt's and EasyEnclave's config disks
_CONFIG_LABELS: Final = re.compile(
    r"cidata|config-?2?|config.?disk|ignition|context", re.IGNORECASE
)
_CONFIG_FILES: Final = re.compile(
    r"user-?_?data|meta-?_?data|vendor-?_?data|network-?_?config|config\.ign|openstack|"
    r".*\.(env|conf|ini|ya?ml|toml|json)", re.IGNORECASE,
)  # fmt: skip
_ENVIRONMENT: Final = re.compile(r".*\.env|environment|env", re.IGNORECASE)
_FILES_SHOWN: Final = 8

_CONFIG_KINDS: Final = frozenset({"iso9660", "vfat"})
_BY_KIND: Final = {"swap": "swap_on_disk", "crypto_LUKS": "partition_encrypted"}

Covered = tuple[CoverageStatus, tuple[RegisterName, ...], str]


class DiskAudit(msgspec.Struct, frozen=True):
    """What was found on disks.

    Attributes:
        inputs: disks and partitions.
        findings: what is wrong with them.
        root: what the best of them says of the root hash on the command line; None if none
            was compared with it.
    """

    inputs: tuple[AuditedInput, ...]
    findings: tuple[Finding, ...]
    root: RootCheck | None = None


def audit_disks(
    spec: LaunchSpec,
    folder: Path,
    *,
    cmdline: str | None,
    covered: Callable[[str], Covered | None],
    check: bool = True,
    progress: Callable[[str], None] = lambda _: None,
) -> DiskAudit:
    """Look at every disk of a launch.

    Args:
        spec: the launch.
        folder: what its paths are relative to.
        cmdline: the kernel's command line; None if it is not known.
        covered: status, registers and events of what a derivation covers: of
            ``partition table``; ``boot loader``, what is started from its ESP; ``rootfs``.
        check: whether root file systems are compared with their hashes, which reads all of them.
        progress: told what is being done.
    """
    work = _Disks(spec, folder, cmdline, covered, check)
    for disk in spec.disks:
        progress(f"looking at disk {disk.name}")
        work.disk(disk)
    for name in sorted(_drives(spec) - {disk.name for disk in spec.disks}):
        work.findings.append(Finding("disk_unreadable", f"disk {name}", "is not in [[disks]]"))
        work.add(f"disk {name}", None, "which image it is is not said")
    root = work.end()
    return DiskAudit(tuple(work.inputs), tuple(work.findings), root)


class _Disks:
    def __init__(
        self,
        spec: LaunchSpec,
        folder: Path,
        cmdline: str | None,
        covered: Callable[[str], Covered | None],
        check: bool,  # noqa: FBT001 - one caller
    ) -> None:
        self.spec, self.folder, self.cmdline = spec, folder, cmdline
        self.covered, self.check = covered, check
        self.inputs: list[AuditedInput] = []
        self.findings: list[Finding] = []
        self.roots: list[RootCheck] = []

    def disk(self, disk: Disk) -> None:
        boots = isinstance(self.spec.boot, DiskBoot) and self.spec.boot.disk == disk.name
        name = f"disk {disk.name}"
        try:
            with open_disk(self.folder / disk.path, disk.format) as image:
                root = self.root(image)
                volumes = list_volumes(image)
                if boots:
                    self.add(
                        f"{name}: partition table",
                        self.covered(InputName.PARTITIONS),
                        "not measured",
                    )
                for volume in volumes:
                    self.volume(name, image, volume, root, boots=boots)
        except MalformedDisk as error:
            self.findings.append(Finding("disk_unreadable", name, error.message))
            self.add(name, None, "could not be looked at")

    def root(self, image: DiskImage) -> RootCheck | None:
        if self.cmdline is None or not self.check:
            return None
        found = check_root(image, self.cmdline)
        self.roots.append(found)
        return found

    def volume(
        self, name: str, image: DiskImage, volume: Volume, root: RootCheck | None, *, boots: bool
    ) -> None:
        where = f"{name}: {volume}"
        if root is not None and _protected(volume, root):
            covered, key = self.covered("rootfs"), root.key
            if covered is not None:
                covered = (*covered[:2], f"{key}= on the command line: hash tree and data fit")
            self.add(where, covered, f"{key}= is on no measured command line")
        elif volume.type == _ESP and boots:
            covered = self.covered(InputName.BOOT_LOADER) or self.covered(InputName.KERNEL)
            note = "what is started from it is not"
            if covered is not None:
                text = f"what is read in the boot is, other files are not: {covered[2]}"
                covered = (*covered[:2], text)
            self.add(where, covered, note)
        elif volume.content is not None or not self.blank(image, volume):
            self.add(where, None, "in no register")
            self.unmeasured(where, image, volume)

    def unmeasured(self, where: str, image: DiskImage, volume: Volume) -> None:
        kind = volume.content.kind if volume.content else ""
        label = volume.content.label if volume.content else ""
        names = tuple(self.names(image, volume, kind))
        config = [n for n in names if _CONFIG_FILES.fullmatch(n.rpartition("/")[2])]
        environment = [n for n in names if _ENVIRONMENT.fullmatch(n.rpartition("/")[2])]
        if kind in _CONFIG_KINDS and (config or _CONFIG_LABELS.fullmatch(label)):
            shown = ", ".join((config or names)[:_FILES_SHOWN]) or "no files that are read"
            self.findings.append(Finding("config_disk", where, shown))
        else:
            rule = _BY_KIND.get(kind, "partition_not_measured")
            self.findings.append(Finding(rule, where, kind or "not recognised"))
        for one in environment[:_FILES_SHOWN]:
            self.findings.append(Finding("config_environment", where, one))

    def names(self, image: DiskImage, volume: Volume, kind: str) -> Iterator[str]:
        """Names of files on a volume whose kind is read; none on a damaged one."""
        try:
            if kind == "vfat":
                listed = open_fat(image, volume.offset, volume.size).walk()
                yield from (path for path, entry in listed if not entry.directory)
            elif kind == "iso9660":
                yield from root_names(volume.slice(image))
        except MalformedDisk as error:
            self.findings.append(Finding("disk_unreadable", str(volume), error.message))

    def blank(self, image: DiskImage, volume: Volume) -> bool:
        head = image.read(volume.offset, min(volume.size, 1 << 17))
        return volume.number > 0 and not any(head)

    def add(self, name: str, covered: Covered | None, note: str) -> None:
        if covered is None:
            status = CoverageStatus.NOT_MEASURED
            self.inputs.append(AuditedInput(name=name, status=status, note=note))
            return
        known, registers, event = covered
        self.inputs.append(AuditedInput(name=name, status=known, registers=registers, event=event))

    def end(self) -> RootCheck | None:
        """What is said of the root file system once every disk was looked at."""
        statuses = {one.status: one for one in self.roots}
        if RootStatus.VERIFIED in statuses:
            return statuses[RootStatus.VERIFIED]
        for status, rule in (
            (RootStatus.MISMATCH, "rootfs_mismatch"),
            (RootStatus.NOT_CHECKABLE, "rootfs_not_checked"),
            (RootStatus.NOT_FOUND, "rootfs_not_checked"),
        ):
            if status in statuses:
                self.findings.append(Finding(rule, "rootfs", statuses[status].reason))
                return statuses[status]
        return None


def _protected(volume: Volume, root: RootCheck) -> bool:
    """Whether a volume is the root file system that was verified, or its hash tree."""
    if root.status is not RootStatus.VERIFIED:
        return False
    return volume.offset in {one.offset for one in (root.data, root.hashes) if one is not None}


def _drives(spec: LaunchSpec) -> set[str]:
    """Names of the disks that devices have."""
    pairs = (pair for text in spec.machine.devices for pair in parse_device(text).properties)
    return {value for name, value in pairs if name == "drive"}
