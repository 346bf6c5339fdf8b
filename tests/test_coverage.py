"""Coverage: which input of a launch is measured where."""

from __future__ import annotations

from pathlib import Path

import pytest

from fixtures.bzimage import build_bzimage, default_sections
from mrtd.coverage import Coverage, CoverageStatus
from mrtd.launch.spec import read_spec_file
from mrtd.measure import MeasureOptions, measure
from mrtd.registers import RegisterName, Target
from tests.launches import Launch

HASH = "0123456789abcdef" * 4


def coverage(
    folder: Path, launch: Launch, cmdline: str = "console=ttyS0", target: Target = Target.CC
) -> dict[str, Coverage]:
    spec = launch.write(folder)
    text = spec.read_text(encoding="utf-8").replace("console=ttyS0", cmdline)
    spec.write_text(text, encoding="utf-8")
    options = MeasureOptions(target=target, ask_qemu=False)
    derivation = measure(read_spec_file(spec), folder, options)
    return {str(line.input): line for line in derivation.coverage}


def test_every_input_of_a_direct_boot_is_measured(tmp_path: Path) -> None:
    found = coverage(tmp_path, Launch())
    assert {name: line.status for name, line in found.items()} == dict.fromkeys(
        ("firmware", "variables", "acpi", "kernel", "cmdline", "initrd", "rootfs"),
        CoverageStatus.MEASURED,
    )
    assert {name: line.registers for name, line in found.items()} == {
        "firmware": (RegisterName.MRTD,),
        "variables": (RegisterName.RTMR0,),
        "acpi": (RegisterName.RTMR0,),
        "kernel": (RegisterName.RTMR1,),
        "cmdline": (RegisterName.RTMR2,),
        "initrd": (RegisterName.RTMR2,),
        "rootfs": (RegisterName.RTMR2,),
    }


@pytest.mark.parametrize(
    "cmdline",
    [
        f"root=/dev/mapper/root roothash={HASH}",
        f"roothash={HASH} systemd.verity_root_data=/dev/vda2",
        f'root=/dev/dm-0 dm-mod.create=\\"v,,,ro,0 8 verity 1 a b 4096 4096 1 1 sha256 {HASH} -\\"',
    ],
)
def test_verity_hash_on_the_command_line_covers_the_rootfs(tmp_path: Path, cmdline: str) -> None:
    line = coverage(tmp_path, Launch(), cmdline)["rootfs"]
    assert line.status is CoverageStatus.MEASURED
    assert line.registers == (RegisterName.RTMR2,)
    assert "not compared with a disk" in line.note


@pytest.mark.parametrize(
    "cmdline",
    [
        "root=/dev/vda2",
        "root=LABEL=root ro",
        f"root=/dev/vda noroothash={HASH}",
        f"root=/dev/vda2 roothash={HASH}",  # systemd mounts what root= says
        f"usrhash={HASH} mount.usr=/dev/mapper/usr root=/dev/vda2",
        f"root=/dev/vda2 systemd.verity_root_hash={HASH}",  # names a device, not a hash
    ],
)
def test_rootfs_on_a_disk_without_verity_is_not_measured(tmp_path: Path, cmdline: str) -> None:
    line = coverage(tmp_path, Launch(), cmdline)["rootfs"]
    assert line.status is CoverageStatus.NOT_MEASURED
    assert line.registers == ()


def test_root_in_memory_is_the_initrd(tmp_path: Path) -> None:
    assert coverage(tmp_path, Launch(), "root=/dev/ram0")["rootfs"].registers == (
        RegisterName.RTMR2,
    )


def test_verity_hash_that_nothing_measures_covers_nothing(tmp_path: Path) -> None:
    """A kernel before 6.9 leaves the command line out of every register."""
    old = build_bzimage(sections=default_sections(measures=False))
    found = coverage(tmp_path, Launch(files={"vmlinuz": old}), f"root=/dev/dm-0 roothash={HASH}")
    assert found["cmdline"].status is CoverageStatus.NOT_MEASURED
    assert found["rootfs"].status is CoverageStatus.NOT_MEASURED


def test_unpinned_register_leaves_its_inputs_unpinned(tmp_path: Path) -> None:
    found = coverage(tmp_path, Launch(acpi=""))
    assert found["acpi"].status is CoverageStatus.UNPINNED
    assert found["variables"].status is CoverageStatus.UNPINNED
    assert found["kernel"].status is CoverageStatus.MEASURED


def test_launch_without_initrd_and_disk_has_no_rootfs(tmp_path: Path) -> None:
    spec = Launch().write(tmp_path)
    text = spec.read_text(encoding="utf-8").replace('initrd = "initrd.img"\n', "")
    spec.write_text(text, encoding="utf-8")
    derivation = measure(read_spec_file(spec), tmp_path)
    found = {str(line.input): line.status for line in derivation.coverage}
    assert found["initrd"] is found["rootfs"] is CoverageStatus.ABSENT


def test_tpm_target_is_covered_by_pcrs(tmp_path: Path) -> None:
    found = coverage(tmp_path, Launch(), target=Target.TPM)
    assert found["kernel"].registers == (RegisterName.PCR4,)
    assert found["initrd"].registers == (RegisterName.PCR9,)
