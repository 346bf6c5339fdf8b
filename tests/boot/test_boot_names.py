"""What the firmware calls disks, by what is on them.

Figures: boots of OVMF 2025.02 with two virtio disks, the second a FAT file system or ISO 9660.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from fixtures.easyenclave import build_ext4, build_iso
from fixtures.fat import build_fat
from mrtd.launch.inputs import load_inputs
from mrtd.launch.spec import read_spec_file
from mrtd.start.boot_names import with_names
from mrtd.start.machine_devices import BootDevices, boot_devices
from tests.launches import Launch

CONTENTS = {
    "fat": bytes(build_fat({"agent.env": b"A=b\n"}, bits=16).data),
    "iso": build_iso(("agent.env",)),
    "ext4": build_ext4("root"),
}
MISC, FILES = "UEFI Misc Device", "UEFI Non-Block Boot Device"


def named(folder: Path, *disks: str, listed: int = 9) -> BootDevices:
    devices = ", ".join(f'"virtio-blk-pci,drive=d{n}"' for n in range(len(disks)))
    tables = []
    for number, content in enumerate(disks):
        (folder / f"{number}.img").write_bytes(CONTENTS[content])
        if number < listed:
            tables.append(f'[[disks]]\nname = "d{number}"\npath = "{number}.img"\nformat = "raw"\n')
    path = Launch(machine=f"devices = [{devices}]", boot="\n".join(tables)).write(folder)
    spec = read_spec_file(path)
    found = boot_devices(spec)
    assert isinstance(found, BootDevices)
    return with_names(found, spec, load_inputs(spec, folder))


@pytest.mark.parametrize(
    ("disks", "names"),
    [
        (("ext4", "fat"), [MISC, FILES]),
        (("ext4", "iso"), [MISC, f"{MISC} 2"]),
        (("fat", "iso", "fat", "ext4"), [FILES, MISC, f"{FILES} 2", f"{MISC} 2"]),
    ],
)
def test_names_follow_content_and_are_numbered(
    disks: tuple[str, ...], names: list[str], tmp_path: Path
) -> None:
    found = named(tmp_path, *disks)
    assert [device.name for device in found.known] == names
    assert found.reason == ""


def test_a_disk_that_is_not_listed_leaves_its_name_open(tmp_path: Path) -> None:
    found = named(tmp_path, "ext4", "iso", listed=1)
    assert "disk d1: is not in [[disks]]" in found.reason
