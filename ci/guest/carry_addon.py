"""The agent as an initrd in an add-on for systemd's stub, beside the UKI on the ESP.

No file of the image is changed. The firmware measures the add-on like everything that it loads
(PCR 4), the stub measures the initrd in it (PCR 12), and the kernel's stub measures all initrds
together (PCR 9). Under Secure Boot the firmware refuses an add-on without a signature.

Source: systemd-stub(7); the event of an initrd add-on as logged by systemd 257 and 262.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Final

from ci.guest.carried import Agent, Carried, Carrier, Moved
from ci.guest.image import Image
from ci.images.disk import add_to_fat
from ci.images.pe import Section, section_content
from ci.images.uki import build_addon
from mrtd.boot.pe import authenticode
from mrtd.errors import SpecError
from mrtd.registers import Sha384

ADDON: Final = "loader/addons/mrtd-collector.addon.efi"
"""Where it is on the ESP: there every UKI takes it, whatever started it."""

_MAGIC: Final = re.compile(rb"#### LoaderInfo: systemd-stub ([0-9]+)")
_SINCE: Final = 257  # the oldest whose initrd add-ons were seen to work


def check_addon(image: Image) -> None:
    """Refuse an image whose boot chain would not take the add-on.

    Raises:
        SpecError: it boots no UKI that is known to take initrd add-ons.
    """
    if image.has_keys():
        raise SpecError(
            "Secure Boot is on, and the add-on has no signature that the firmware takes",
            origin=image.origin,
        )
    uki = image.boot_file()
    found = _MAGIC.search(section_content(uki, ".sdmagic", origin=image.boot_path))
    if found is None or not section_content(uki, ".linux"):
        raise SpecError(
            f"{image.boot_path} is no UKI: add-ons are of systemd's stub", origin=image.origin
        )
    if int(found[1]) < _SINCE:
        raise SpecError(
            f"systemd-stub {int(found[1])} takes no initrd add-on, {_SINCE} does",
            origin=image.origin,
        )


def carry_addon(image: Image, out: Path, agent: Agent, stub: Callable[[], bytes]) -> Carried:
    """Write a copy of the disk with the add-on.

    Args:
        image: the disk that boots.
        out: the folder to write to.
        agent: what is carried.
        stub: gets systemd's stub of add-ons.

    Raises:
        SpecError: see `check_addon`.
        ToolMissing, ToolFailed: of qemu-img or mtools.
    """
    check_addon(image)
    archive = agent.archive()
    addon = build_addon(stub(), [Section(".initrd", archive)])
    copy = image.copy_to(out)
    add_to_fat(copy, {ADDON: addon}, offset=image.esp_offset())
    moved = (
        Moved(4, f"image /{ADDON}", authenticode(memoryview(addon), origin=ADDON), "the add-on"),
        Moved(12, Path(ADDON).name, Sha384.of(archive), "the initrd in the add-on"),
        Moved(9, "Linux initrd", None, "all initrds together, the add-on's at the end"),
    )
    about = (
        f"/{ADDON} was added to the ESP; no file of the image is another one",
        "the add-on's /init takes the place of the image's: its software does not start",
    )
    return Carried(Carrier.ADDON, image.spec_with(copy), moved, about)
