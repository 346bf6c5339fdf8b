"""Unified kernel images and their add-ons, put together as ``ukify`` does it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from ci.images.inputs import Kernel
from ci.images.pe import Section, add_sections, section_content

OS_RELEASE: Final = (
    b'ID=mrtd-example\nNAME="mrtd example"\nPRETTY_NAME="mrtd example image"\nVERSION_ID=1\n'
)
# A stub's .sbat has no room for more before systemd 254, whose sections are packed together.
_SBAT_HEAD: Final = "sbat,1,SBAT Version,sbat,1,https://github.com/rhboot/shim/blob/main/SBAT.md\n"
_UKI_SBAT: Final = (
    "uki,1,UKI,uki,1,https://uapi-group.org/specifications/specs/unified_kernel_image/\n"
)
_ADDON_SBAT: Final = (
    "uki-addon,1,UKI Addon,addon,1,"
    "https://www.freedesktop.org/software/systemd/man/latest/systemd-stub.html\n"
)
_PACKED: Final = 512  # their section alignment


def build_uki(
    stub: bytes,
    kernel: Kernel,
    *,
    cmdline: str,
    more: Sequence[Section] = (),
    profiles: Sequence[Sequence[Section]] = (),
) -> bytes:
    """A UKI: sections in ukify's order, kernel and initrd last, then profiles.

    Args:
        stub: systemd's.
        kernel: kernel and initrd.
        cmdline: the embedded command line.
        more: sections between the command line and the kernel.
        profiles: sections of each profile; of several, the first begins with the base's
            ``.profile``.

    Raises:
        MalformedKernel: the stub's headers have no room.
    """
    sections = [
        Section(".osrel", OS_RELEASE),
        Section(".cmdline", cmdline.encode()),
        Section(".uname", kernel.version.encode()),
        *more,
        Section(".linux", kernel.image),
        Section(".initrd", kernel.initrd),
    ]
    sections += _merged_sbat(stub, kernel.image)
    for profile in profiles:
        sections += profile
    return add_sections(stub, sections)


def build_addon(stub: bytes, sections: Sequence[Section]) -> bytes:
    """An add-on (``*.addon.efi``) for a UKI. Raises `MalformedKernel`."""
    sbat = Section(".sbat", (_SBAT_HEAD + _ADDON_SBAT + "\0").encode())
    return add_sections(stub, [*sections, sbat])


def _merged_sbat(stub: bytes, kernel: bytes) -> list[Section]:
    """SBAT lines of stub and kernel in the stub's section, where that has room for them."""
    lines = []
    for name, image in (("stub", stub), ("kernel", kernel)):
        text = section_content(image, ".sbat", origin=name).rstrip(b"\0").decode()
        lines += text.splitlines()[1:]
    merged = _SBAT_HEAD + "\n".join([*lines, _UKI_SBAT])  # one line more ends it
    pe = int.from_bytes(stub[0x3C:0x40], "little")
    alignment = int.from_bytes(stub[pe + 24 + 32 : pe + 24 + 36], "little")
    return [] if alignment == _PACKED else [Section(".sbat", (merged + "\0").encode())]
