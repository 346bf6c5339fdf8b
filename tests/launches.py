"""A small launch for tests: parts built by ``fixtures/``, a spec beside them."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from fixtures.acpi import build_tables
from fixtures.bzimage import build_bzimage
from fixtures.tdvf import LIKE_202502, build_tdvf

SPEC: Final = """\
schema = "mrtd.launch/1"
[vmm]
kind = "qemu"
version = "10.1.0"
[machine]
type = "q35"
memory = "2 GiB"
vcpus = 2
{machine}
[firmware]
path = "OVMF.fd"
{firmware}
[acpi]
{acpi}
[boot]
kind = "direct"
kernel = "vmlinuz"
initrd = "initrd.img"
cmdline = "console=ttyS0"
{boot}
"""
MODULES: Final = LIKE_202502


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """What is written; by default a launch whose registers are all exact.

    Attributes:
        machine: further lines of ``[machine]``; likewise the other tables.
        files: files to write instead of, or beside, the default ones; None leaves one out.
    """

    machine: str = ""
    firmware: str = 'profile = "edk2-202502"'
    acpi: str = 'tables = "acpi_tables.bin"'
    boot: str = ""
    files: dict[str, bytes | None] = field(default_factory=dict)

    def write(self, folder: Path) -> Path:
        """Write it into a folder; the path of its spec."""
        files: dict[str, bytes | None] = {
            "OVMF.fd": build_tdvf(modules=MODULES),
            "vmlinuz": build_bzimage(),
            "initrd.img": b"an initrd\n",
            "acpi_tables.bin": build_tables(hpet=False),
            **self.files,
        }
        for name, content in files.items():
            if content is not None:
                (folder / name).write_bytes(content)
        spec = folder / "launch.toml"
        spec.write_text(
            SPEC.format(
                machine=self.machine, firmware=self.firmware, acpi=self.acpi, boot=self.boot
            ),
            encoding="utf-8",
        )
        return spec
