"""Which program an EFI application is, and what it measures when it is started.

A program is recognised by what it says of itself in its own image: systemd's by ``.sdmagic``,
shim and GRUB by ``.sbat``, a kernel by its setup header. What is not recognised may do anything.
"""

from __future__ import annotations

from typing import Final

from mrtd.boot.bzimage import read_setup_header
from mrtd.boot.chain import Chain, Image
from mrtd.boot.linux_image import start_linux
from mrtd.boot.pe import PeSection, pe_sections
from mrtd.boot.stub_versions import read_loader_info

# All that an application can extend, through EFI_TCG2_PROTOCOL or EFI_CC_MEASUREMENT_PROTOCOL
_ANY: Final = (1, 4, 5, 7, 8, 9, 11, 12, 13, 14)


def start_application(chain: Chain, image: Image, options: str) -> None:
    """What an application measures when it is started.

    Args:
        chain: the boot.
        image: the application.
        options: its load options; empty if none.

    Raises:
        InputError: it, or something that it reads, is malformed or refused.
    """
    sections = {s.name: s for s in pe_sections(image.data, origin=image.path)}
    info = read_loader_info(_content(image, sections.get(".sdmagic")))
    programs = sbat_components(_content(image, sections.get(".sbat")))
    if info is not None and info.program == "systemd-stub" and ".linux" in sections:
        from mrtd.boot.systemd_stub import start_uki  # noqa: PLC0415 - only what boots is imported

        start_uki(chain, image, info, options)
    elif info is not None and info.program == "systemd-boot":
        from mrtd.boot.systemd_boot import start_systemd_boot  # noqa: PLC0415 - as above

        start_systemd_boot(chain, image, info)
    elif "shim" in programs:
        from mrtd.boot.shim import start_shim  # noqa: PLC0415 - as above

        start_shim(chain, image)
    elif "grub" in programs:
        from mrtd.boot.grub import start_grub  # noqa: PLC0415 - as above

        start_grub(chain, image, programs)
    elif read_setup_header(image.data, origin=image.path).protocol:
        start_linux(chain, image, options)
    else:
        chain.unknown(_ANY, f"what {image.path} does is not known: it is neither a UKI, nor a "
                      "kernel, nor systemd-boot, shim or GRUB", image.path)  # fmt: skip


def sbat_components(sbat: bytes) -> dict[str, str]:
    """The components of a section ``.sbat`` by name, with the version that their line gives.

    Source: shim SBAT.md: lines of ``name,generation,vendor,package,version,url``.
    """
    found: dict[str, str] = {}
    for line in sbat.split(b"\0", 1)[0].decode("utf-8", "replace").splitlines():
        name, *fields = line.split(",")
        found.setdefault(name.strip(), fields[3].strip() if len(fields) > 3 else "")
    return found


def _content(image: Image, section: PeSection | None) -> bytes:
    return b"" if section is None else section.content(image.data)
