"""The example images by name: what each is, and how it is built."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from ci.guest.carried import Agent
from ci.guest.initramfs import build_initramfs
from ci.images.disk import (
    ESP,
    LINUX_DATA,
    ROOT,
    ROOT_VERITY,
    Partition,
    name_guid,
    write_disk,
    write_ext4,
    write_fat,
    write_squashfs,
    write_verity,
)
from ci.images.inputs import Inputs
from ci.images.pe import Section
from ci.images.secure_boot import certificates, enrol, generate_keys, sign_image
from ci.images.uki import OS_RELEASE, build_addon, build_uki
from ci.images.variables import boot_entry, with_variables

CMDLINE: Final = "console=ttyS0 panic=-1"
EASYENCLAVE_CMDLINE: Final = "root=LABEL=root console=ttyS0,115200"
REMOVABLE: Final = "EFI/BOOT/BOOTX64.EFI"
"""What firmware starts from a disk without boot entries (UEFI 2.10, 3.5.1.1)."""

_ESP_SIZE: Final = 64 << 20
_FIRST_SECTOR: Final = 2048
_LOADER_CONF: Final = "timeout 0\ndefault {entry}\n"
_TYPE_1: Final = """\
title mrtd example
version 1
linux /mrtd/vmlinuz
initrd /mrtd/initrd
options {cmdline}
"""
_GRUB_CFG: Final = """\
set timeout=0
set default=0
menuentry 'mrtd example' {{
    linux /mrtd/vmlinuz {cmdline}
    initrd /mrtd/initrd
}}
"""
_AGENT_ENV: Final = b"EE_OWNER=example\nEE_CAPTURE_SOCKET=/run/easyenclave.sock\n"
_SWITCH_ROOT: Final = Path(__file__).with_name("switch_root.sh")
_INIT: Final = b"#!/bin/busybox sh\nexec /init\n"
_ROOT_FILES: Final = {
    "etc/os-release": OS_RELEASE,
    "usr/lib/example/greeting": b"what is on the root file system of the examples\n",
}


@dataclass(frozen=True, slots=True)
class Image:
    """An image that can be built.

    Attributes:
        name: its name, and its folder's.
        about: what it is, one line.
        build: writes ``disk.raw`` into a folder; for some also further disks (``*.raw``), and
            ``vars.fd``, a variable store for the firmware of 2022.11.
        kernel: which of the inputs' kernels it boots.
    """

    name: str
    about: str
    build: Callable[[Inputs, Path], None]
    kernel: str = "6.12"


def esp_image(folder: Path, name: str, files: dict[str, bytes]) -> None:
    """``disk.raw``: a GPT disk whose only partition is an ESP with these files."""
    volume = folder / "esp"
    write_fat(volume, files, size=_ESP_SIZE)
    write_disk(folder / "disk.raw", name, [Partition(ESP, "esp", volume)])
    volume.unlink()


def _uki(version: str, kernel: str) -> Callable[[Inputs, Path], None]:
    def build(inputs: Inputs, folder: Path) -> None:
        uki = build_uki(inputs.stubs[version], inputs.kernels[kernel], cmdline=CMDLINE)
        esp_image(folder, f"uki-{version}", {REMOVABLE: uki})

    return build


def _systemd_boot(name: str, entry: str) -> Callable[[Inputs, Path], None]:
    def build(inputs: Inputs, folder: Path) -> None:
        kernel = inputs.kernels["6.12"]
        files = {
            REMOVABLE: inputs.loaders["257"],
            "loader/loader.conf": _LOADER_CONF.format(entry=entry).encode(),
            "loader/entries/type1.conf": _TYPE_1.format(cmdline=CMDLINE).encode(),
            "mrtd/vmlinuz": kernel.image,
            "mrtd/initrd": kernel.initrd,
            "EFI/Linux/type2.efi": build_uki(inputs.stubs["257"], kernel, cmdline=CMDLINE),
        }
        esp_image(folder, name, files)

    return build


def _shim_grub(inputs: Inputs, folder: Path) -> None:
    kernel = inputs.kernels["6.12"]
    files = {
        REMOVABLE: inputs.shim,
        "EFI/BOOT/grubx64.efi": inputs.grub,
        "EFI/debian/grub.cfg": _GRUB_CFG.format(cmdline=CMDLINE).encode(),
        "mrtd/vmlinuz": kernel.image,
        "mrtd/initrd": kernel.initrd,
    }
    esp_image(folder, "shim-grub", files)


def _kernel_efi(inputs: Inputs, folder: Path) -> None:
    kernel = inputs.kernels["6.12"]
    esp_image(folder, "kernel-efi", {REMOVABLE: kernel.image, "mrtd/initrd": kernel.initrd})
    # Nothing else gives it a command line.
    entry = boot_entry(
        partition=name_guid("kernel-efi", "esp"),
        first=_FIRST_SECTOR,
        sectors=_ESP_SIZE // 512,
        path=REMOVABLE,
        options=f"{CMDLINE} initrd=\\mrtd\\initrd",
    )
    (folder / "vars.fd").write_bytes(with_variables(inputs.blank_store, entry))


def _uki_signed(inputs: Inputs, folder: Path) -> None:
    keys = generate_keys(folder / "keys")
    uki = build_uki(inputs.stubs["257"], inputs.kernels["6.12"], cmdline=CMDLINE)
    esp_image(folder, "uki-signed", {REMOVABLE: sign_image(uki, keys)})
    (folder / "vars.fd").write_bytes(enrol(inputs.blank_store, keys))


def _shim_grub_signed(inputs: Inputs, folder: Path) -> None:
    _shim_grub(inputs, folder)
    keys = generate_keys(folder / "keys")
    microsoft = certificates(inputs.microsoft_store)
    (folder / "vars.fd").write_bytes(enrol(inputs.blank_store, keys, more_db=microsoft))


def _addons(inputs: Inputs, folder: Path) -> None:
    uki = build_uki(inputs.stubs["257"], inputs.kernels["6.12"], cmdline=CMDLINE)
    addon = inputs.addon_stubs["257"]
    extra = f"{REMOVABLE}.extra.d"
    files = {
        REMOVABLE: uki,
        f"{extra}/10-first.addon.efi": build_addon(addon, [Section(".cmdline", b"mrtd.first=1")]),
        f"{extra}/20-second.addon.efi": build_addon(addon, [Section(".cmdline", b"mrtd.second=2")]),
        f"{extra}/greeting.cred": b"a credential, which systemd in the guest would decrypt\n",
        "loader/addons/everywhere.addon.efi": build_addon(
            addon, [Section(".cmdline", b"mrtd.everywhere=3")]
        ),
        "loader/credentials/shared.cred": b"a credential for every image on this disk\n",
    }
    esp_image(folder, "uki-addons", files)


def _profiles(inputs: Inputs, folder: Path) -> None:
    profiles = [
        [Section(".profile", b"ID=main\nTITLE=Main\n")],
        [
            Section(".profile", b"ID=other\nTITLE=Other\n"),
            Section(".cmdline", f"{CMDLINE} mrtd.profile=other".encode()),
        ],
    ]
    uki = build_uki(inputs.stubs["257"], inputs.kernels["6.12"], cmdline=CMDLINE, profiles=profiles)
    files = {
        REMOVABLE: inputs.loaders["257"],
        "loader/loader.conf": _LOADER_CONF.format(entry="profiles.efi@other").encode(),
        "EFI/Linux/profiles.efi": uki,
    }
    esp_image(folder, "uki-profiles", files)


def _verity(inputs: Inputs, folder: Path) -> None:
    write_squashfs(folder / "root", _ROOT_FILES)
    verity = write_verity(folder / "root", folder / "hashes")
    uki = build_uki(
        inputs.stubs["257"],
        inputs.kernels["6.12"],
        cmdline=f"{CMDLINE} roothash={verity.root_hash}",
    )
    write_fat(folder / "esp", {REMOVABLE: uki}, size=_ESP_SIZE)
    data, hashes = verity.guids
    partitions = [
        Partition(ESP, "esp", folder / "esp"),
        Partition(ROOT, "root", verity.data, data),
        Partition(ROOT_VERITY, "root-verity", verity.tree, hashes),
    ]
    write_disk(folder / "disk.raw", "verity", partitions)
    _clear(folder, "esp", "root", "hashes")


def _easyenclave(inputs: Inputs, folder: Path) -> None:
    kernel = inputs.kernels["6.12"]
    switch = build_initramfs(
        busybox=inputs.busybox,
        init=_SWITCH_ROOT.read_bytes(),
        modules={"virtio_blk.ko.xz": inputs.virtio_blk},
    )
    uki = build_uki(
        inputs.stubs["257"], replace(kernel, initrd=switch), cmdline=EASYENCLAVE_CMDLINE
    )
    write_fat(folder / "esp", {REMOVABLE: uki}, size=_ESP_SIZE)
    # Its software is the measuring agent: started by PID 1, as EasyEnclave's agent is.
    files = {name: content for name, (_, content) in Agent(inputs.busybox, {}).files().items()}
    files |= _ROOT_FILES | {"sbin/init": _INIT}
    write_ext4(
        folder / "root",
        files,
        size=32 << 20,
        label="root",
        executable=("init", "bin/busybox", "sbin/init"),
    )
    partitions = [
        Partition(ESP, "ESP", folder / "esp"),
        Partition(LINUX_DATA, "root", folder / "root"),
    ]
    write_disk(folder / "disk.raw", "easyenclave-small", partitions)
    write_fat(folder / "config.raw", {"agent.env": _AGENT_ENV}, size=16 << 20, label="CONFIG")
    _clear(folder, "esp", "root")


def _clear(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).unlink()


IMAGES: Final = {
    image.name: image
    for image in (
        Image("uki-252", "UKI: stub of systemd 252, Linux 6.1", _uki("252", "6.1"), "6.1"),
        Image("uki-257", "UKI: stub of systemd 257, Linux 6.12", _uki("257", "6.12")),
        Image("uki-262", "UKI: stub of systemd 262, Linux 6.12", _uki("262", "6.12")),
        Image("uki-addons", "UKI with add-ons and credentials beside it", _addons),
        Image("uki-profiles", "UKI with two profiles; systemd-boot takes the second", _profiles),
        Image(
            "systemd-boot",
            "systemd-boot that takes a type 1 entry; type 2 beside it",
            _systemd_boot("systemd-boot", "type1.conf"),
        ),
        Image(
            "systemd-boot-uki",
            "systemd-boot that takes the type 2 entry, a UKI",
            _systemd_boot("systemd-boot-uki", "type2.efi"),
        ),
        Image("shim-grub", "Debian's signed shim and GRUB, kernel and initrd", _shim_grub),
        Image(
            "kernel-efi", "a kernel as BOOTX64.EFI, without command line and initrd", _kernel_efi
        ),
        Image("uki-signed", "signed UKI, and Secure Boot with the key's certificate", _uki_signed),
        Image(
            "shim-grub-signed",
            "shim-grub under Secure Boot with Microsoft's keys",
            _shim_grub_signed,
        ),
        Image("verity", "UKI with roothash=; squashfs root and its hash tree", _verity),
        Image(
            "easyenclave-small",
            "unsigned UKI, writable ext4 root, config disk with agent.env",
            _easyenclave,
        ),
    )
}
"""Every image by its name."""
