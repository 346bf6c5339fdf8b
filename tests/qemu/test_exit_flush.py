"""Which machines make ExitBootServices fail once; the firmware's own answers are in tests/ci."""

from __future__ import annotations

import msgspec
import pytest

from mrtd.launch.spec import LaunchSpec
from mrtd.qemu.exit_flush import flushed_disks

DISKS = [
    {"name": "a", "path": "a.raw", "format": "raw"},
    {"name": "b", "path": "b.raw", "format": "raw"},
    {"name": "kept", "path": "kept.raw", "format": "raw", "readonly": True},
]


def spec(*devices: str) -> LaunchSpec:
    document = {
        "schema": "mrtd.launch/1",
        "vmm": {"kind": "qemu", "version": "10.1.0"},
        "machine": {"memory": "1 GiB", "vcpus": 1, "devices": devices},
        "firmware": {"path": "OVMF.fd"},
        "disks": DISKS,
        "boot": {"kind": "disk", "disk": "a"},
    }
    return msgspec.convert(document, LaunchSpec)


@pytest.mark.parametrize(
    ("devices", "flushed"),
    [
        (["virtio-blk-pci,drive=a"], ("a",)),
        (["virtio-blk-pci-non-transitional,drive=a,bootindex=1"], ("a",)),
        (["virtio-blk-pci,drive=a", "virtio-blk-pci,drive=b"], ("a", "b")),
        (["ide-hd,drive=a", "virtio-blk-pci,drive=b"], ("b",)),
        (["virtio-blk-pci,drive=a,write-cache=off,config-wce=off"], ()),
        # the guest could switch it on, so a flush is offered
        (["virtio-blk-pci,drive=a,write-cache=off"], ("a",)),
        (["virtio-blk-pci,drive=kept"], ()),
        (["ide-hd,drive=a"], ()),
        (["virtio-scsi-pci", "scsi-hd,drive=a"], ()),
        (["nvme,drive=a,serial=1"], ()),
        (["virtio-blk-pci,drive=elsewhere"], ()),
        ([], ()),
    ],
)
def test_disks_that_are_flushed(devices: list[str], flushed: tuple[str, ...]) -> None:
    assert flushed_disks(spec(*devices), {"a", "b", "kept"}) == flushed


def test_a_disk_without_fat_is_not() -> None:
    assert flushed_disks(spec("virtio-blk-pci,drive=a"), {"b"}) == ()
