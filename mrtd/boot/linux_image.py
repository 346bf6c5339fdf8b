r"""A Linux kernel that the firmware, or a boot loader through it, starts as an EFI application.

Source: Linux drivers/firmware/efi/libstub/file.c (handle_cmdline_files: each ``initrd=`` names a
file on the file system that the kernel is on, and their bytes follow each other).
"""

from __future__ import annotations

import hashlib
from typing import Final

from mrtd.boot.chain import Chain, Image
from mrtd.registers import Sha384

_OPTION: Final = "initrd="
_MAX_INITRD: Final = 1 << 32


def start_linux(
    chain: Chain, image: Image, options: str, *, cmdline_where: str = "load options"
) -> None:
    """What a kernel measures that is started as it is, with these load options."""
    paths = initrd_paths(options)
    digest = None
    if paths and image.files is not None:
        state = hashlib.sha384()
        for path in paths:
            state.update(image.files.read(path, _MAX_INITRD))
        digest = Sha384(state.digest())
    chain.start_kernel(
        image.data, options, digest, where=image.path, cmdline_where=cmdline_where,
        initrd_where=", ".join(paths),
    )  # fmt: skip


def initrd_paths(options: str) -> tuple[str, ...]:
    """The files that ``initrd=`` options name, in their order."""
    return tuple(
        word.removeprefix(_OPTION) for word in options.split() if word.startswith(_OPTION)
    )
