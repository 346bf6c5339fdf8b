"""The disk that a launch boots from, as a carrier needs it: what boots, and a copy to write to."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from msgspec.structs import replace

from ci.images.catalogue import REMOVABLE
from ci.images.pe import section_content
from ci.images.run import run
from mrtd.disk import find_esp, open_disk, open_esp, read_gpt
from mrtd.disk.volumes import Volume, list_volumes, named
from mrtd.errors import SpecError
from mrtd.firmware.variables import read_variables
from mrtd.launch.spec import Disk, DiskBoot, LaunchSpec

_UKI_LIMIT: Final = 512 << 20
_ORIGIN: Final = "launch spec"


@dataclass(frozen=True, slots=True)
class Image:
    """The disk that boots.

    Attributes:
        spec: the launch; its paths are absolute.
    """

    spec: LaunchSpec

    @property
    def boot(self) -> DiskBoot:
        """How it boots. Raises `SpecError` where no disk does."""
        if not isinstance(self.spec.boot, DiskBoot):
            raise SpecError("does not boot from a disk", origin=_ORIGIN, field="boot.kind")
        return self.spec.boot

    @property
    def disk(self) -> Disk:
        """The spec's entry of it."""
        return next(disk for disk in self.spec.disks if disk.name == self.boot.disk)

    @property
    def path(self) -> Path:
        """The image's file."""
        return Path(self.disk.path)

    @property
    def origin(self) -> str:
        """Its name, for messages."""
        return str(self.path)

    @property
    def boot_path(self) -> str:
        """The EFI file that the firmware starts."""
        return (self.boot.path or REMOVABLE).lstrip("/").replace("\\", "/")

    def boot_file(self) -> bytes:
        """Its bytes. Raises `MalformedDisk`."""
        with open_disk(self.path, self.disk.format) as disk:
            return open_esp(disk).read(self.boot_path, _UKI_LIMIT)

    def cmdline(self) -> str | None:
        """The command line in a UKI; None if what boots is none."""
        if self.boot.cmdline is not None:
            return self.boot.cmdline
        found = section_content(self.boot_file(), ".cmdline", origin=self.boot_path)
        return found.rstrip(b"\0\n").decode("utf-8", "replace") if found else None

    def has_keys(self) -> bool:
        """Whether the variable store in front of the firmware has a PK: Secure Boot is on.

        Raises:
            MalformedFirmware: it is no variable store.
        """
        path = self.spec.firmware.vars
        if path is None:
            return False
        found = read_variables(memoryview(Path(path).read_bytes()), origin=path)
        return any(variable.name == "PK" and variable.data for variable in found)

    def esp_offset(self) -> int:
        """Where the ESP begins, bytes. Raises `MalformedDisk`."""
        with open_disk(self.path, self.disk.format) as disk:
            gpt = read_gpt(disk)
            return gpt.extent(find_esp(gpt))[0]

    def volumes(self, device: str) -> tuple[Volume, ...]:
        """The partitions that a device name may mean. Raises `MalformedDisk`."""
        with open_disk(self.path, self.disk.format) as disk:
            return named(device, list_volumes(disk)) or ()

    def copy_to(self, out: Path) -> Path:
        """A raw, sparse copy in a folder. Raises `ToolMissing`, `ToolFailed`."""
        copy = out / f"{self.disk.name}.raw"
        run("qemu-img", "convert", "-f", self.disk.format, "-O", "raw", self.path, copy)
        return copy

    def spec_with(self, copy: Path) -> LaunchSpec:
        """The launch with that copy."""
        disks = tuple(
            replace(disk, path=str(copy.absolute()), format="raw", readonly=False)
            if disk == self.disk
            else disk
            for disk in self.spec.disks
        )
        return replace(self.spec, disks=disks)
