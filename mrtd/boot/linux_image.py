"""A Linux kernel that the firmware, or a boot loader through it, starts as an EFI application."""

from __future__ import annotations

from mrtd.boot.chain import Chain, Image


def start_linux(chain: Chain, image: Image, options: str) -> None:
    """What a kernel measures that is started as it is, with these load options.

    An initrd that its EFI stub reads itself, for an ``initrd=`` in the options, is measured
    nowhere: only one that a loader provides is (seen with Linux 6.12; libstub's efi_load_initrd
    measures what came through LINUX_EFI_INITRD_MEDIA alone).
    """
    chain.start_kernel(
        image.data, options, None, where=image.path, cmdline_where="load options", initrd_where=""
    )
