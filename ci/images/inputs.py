"""What disk images are made of: files of Debian packages, and the measuring guest's initramfs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ci.guest.initramfs import DEFAULT_INIT, build_initramfs
from ci.packages import DEFAULT_CACHE, Part, fetch

STUBS: Final = {"252": "systemd-bookworm", "257": "systemd-trixie", "262": "systemd-sid"}
"""Part with systemd's stub and boot loader, by systemd's version."""

PARTS: Final = (
    *STUBS.values(),
    *("kernel-bookworm", "kernel-trixie", "busybox-trixie", "shim-trixie", "grub-trixie"),
    "ovmf-bookworm",
)
"""Every part that images are made of."""

_EFI: Final = "usr/lib/systemd/boot/efi"
# bookworm's kernel has as modules what trixie's has built in; loaded in the order of their names
_VIRTIO: Final = (
    "drivers/virtio/virtio_ring.ko",
    "drivers/virtio/virtio.ko",
    "drivers/virtio/virtio_pci_legacy_dev.ko",
    "drivers/virtio/virtio_pci_modern_dev.ko",
    "drivers/virtio/virtio_pci.ko",
    "drivers/char/virtio_console.ko",
    "drivers/firmware/qemu_fw_cfg.ko",
)
_VIRTIO_BLK: Final = "usr/lib/modules/*/kernel/drivers/block/virtio_blk.ko.xz"


@dataclass(frozen=True, slots=True)
class Kernel:
    """A kernel with the initramfs of the measuring guest for it.

    Attributes:
        version: as ``uname -r`` says it.
        image: the bzImage.
        initrd: the initramfs.
    """

    version: str
    image: bytes
    initrd: bytes


@dataclass(frozen=True, slots=True)
class Inputs:
    """What images are made of.

    Attributes:
        stubs: systemd's stub, by systemd's version.
        loaders: systemd-boot, by systemd's version.
        addon_stubs: the stub of add-ons, by systemd's version; 252 has none.
        kernels: ``6.1`` of bookworm and ``6.12`` of trixie.
        busybox: a static busybox.
        virtio_blk: trixie's kernel module for virtio disks, as it is packed (.ko.xz).
        shim: Debian's shim, signed by Microsoft.
        grub: Debian's GRUB, signed by Debian.
        blank_store: variable store without variables, of the firmware that takes one
            (`ci.images.variables`).
        microsoft_store: Debian's, with Microsoft's keys in it.
    """

    stubs: dict[str, bytes]
    loaders: dict[str, bytes]
    addon_stubs: dict[str, bytes]
    kernels: dict[str, Kernel]
    busybox: bytes
    virtio_blk: bytes
    shim: bytes
    grub: bytes
    blank_store: bytes
    microsoft_store: bytes


def debian_inputs(
    get: Callable[[tuple[str, ...]], dict[str, Part]] | None = None, *, cache: Path = DEFAULT_CACHE
) -> Inputs:
    """The inputs from Debian's packages, fetched where they are not cached.

    Args:
        get: hands out parts by name; by default fetches them.
        cache: where parts are.

    Raises:
        PackagesUnavailable: some part is neither cached nor to be had.
    """
    parts = get(PARTS) if get else fetch(PARTS, cache=cache)
    systemd = {version: parts[name] for version, name in STUBS.items()}
    busybox = parts["busybox-trixie"].file("usr/bin/busybox").read_bytes()

    def efi(name: str) -> dict[str, bytes]:
        found = {version: part.folder / _EFI / name for version, part in systemd.items()}
        return {version: path.read_bytes() for version, path in found.items() if path.exists()}

    return Inputs(
        stubs=efi("linuxx64.efi.stub"),
        loaders=efi("systemd-bootx64.efi"),
        addon_stubs=efi("addonx64.efi.stub"),
        kernels={
            "6.1": _kernel(parts["kernel-bookworm"], "lib/modules/*", _VIRTIO, busybox),
            "6.12": _kernel(parts["kernel-trixie"], "usr/lib/modules/*", _VIRTIO[-1:], busybox),
        },
        busybox=busybox,
        virtio_blk=parts["kernel-trixie"].file(_VIRTIO_BLK).read_bytes(),
        shim=parts["shim-trixie"].file("usr/lib/shim/shimx64.efi.signed").read_bytes(),
        grub=parts["grub-trixie"].file("usr/lib/grub/*/grubx64.efi.signed").read_bytes(),
        blank_store=parts["ovmf-bookworm"].file("usr/share/OVMF/OVMF_VARS.fd").read_bytes(),
        microsoft_store=parts["ovmf-bookworm"].file("usr/share/OVMF/OVMF_VARS.ms.fd").read_bytes(),
    )


def _kernel(part: Part, modules: str, wanted: tuple[str, ...], busybox: bytes) -> Kernel:
    folder = part.file(modules)
    found = [part.file(f"{modules}/kernel/{name}*") for name in wanted]
    named = {f"{number}-{path.name}": path.read_bytes() for number, path in enumerate(found)}
    initrd = build_initramfs(busybox=busybox, init=DEFAULT_INIT.read_bytes(), modules=named)
    return Kernel(folder.name, part.file("boot/vmlinuz-*").read_bytes(), initrd)
