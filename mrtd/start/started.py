"""How a launch starts: what the firmware boots, and what is measured from there on."""

from __future__ import annotations

import msgspec

from mrtd.boot.bzimage import KernelFacts
from mrtd.eventlog import Event, EventLog
from mrtd.firmware.boot_options import BootVariable
from mrtd.qemu.vmm import HeaderRow
from mrtd.registers import Unpinned

UNKNOWN_KERNEL = KernelFacts(0, "", None, efi_stub=True, cc_measurement=False)
"""Of a chain that ends in nothing that is known."""

PLAIN_HEADER = HeaderRow((0,), (10**4,), None, None, False, "the image is not loaded by QEMU")


class Started(msgspec.Struct, frozen=True):
    """A boot, from what the firmware starts to the kernel that leaves it.

    Attributes:
        image: the event of an image that is loaded before the boot options are made.
        before_image: what is measured before that: what verifies it, drivers of devices.
        options: boot variables, or why they are not known; None for those of a direct boot.
        events: what is measured once the firmware has made its own measurements.
        kernel: what the kernel says of itself.
        header: why its setup header is measured patched or plain.
        cmdline: the kernel's command line; None if it is not known.
        has_initrd: whether it has an initrd.
    """

    image: Event | None
    before_image: EventLog
    options: tuple[BootVariable, ...] | Unpinned | None
    events: EventLog
    kernel: KernelFacts
    header: HeaderRow
    cmdline: str | None
    has_initrd: bool
