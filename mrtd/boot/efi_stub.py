"""What firmware and Linux EFI stub pass on and measure of command line and initrd.

Sources: edk2 OvmfPkg/Library/X86QemuLoadImageLib (load options), Linux
drivers/firmware/efi/libstub/efi-stub-helper.c (efi_measure_tagged_event, from 6.9 on through
EFI_CC_MEASUREMENT_PROTOCOL).
"""

from __future__ import annotations

from typing import Final

from mrtd.eventlog import Event, EventType, InputName, Origin, register_of_pcr
from mrtd.firmware.profiles import InitrdArgument
from mrtd.registers import Sha384, Target, Unpinned

_PCR: Final = 9
_LOAD_OPTIONS_ID: Final = 0x8F3B22ED
_LOAD_OPTIONS_TAG: Final = b"LOADED_IMAGE::LoadOptions\0"
_INITRD_ID: Final = 0x8F3B22EC
_INITRD_TAG: Final = b"Linux initrd\0"


def load_options(cmdline: str, *, initrd: bool, argument: InitrdArgument) -> bytes:
    """The UTF-16 load options that the firmware gives the kernel, with their NUL; empty if none.

    Args:
        cmdline: the kernel command line; each of its UTF-8 bytes becomes one UTF-16 character.
        initrd: whether there is an initrd, which adds ``initrd=initrd``.
        argument: where it is added.
    """
    text = cmdline.encode().decode("latin-1")
    if initrd:
        before = argument is InitrdArgument.PREFIX
        text = f"initrd=initrd {text}" if before else f"{text} initrd=initrd"
    return (text + "\0").encode("utf-16-le") if text else b""


def stub_events(
    options: bytes | Unpinned,
    initrd: Sha384 | Unpinned | None,
    *,
    target: Target,
    initrd_where: str,
    cmdline_where: str = "boot.cmdline",
) -> tuple[Event, ...]:
    """EV_EVENT_TAG events of the stub: load options, then initrd; each only if there is one.

    Args:
        options: UTF-16 load options with NUL, or empty, or why they are not known.
        initrd: SHA-384 of the initrd, or why it is not known; None if there is none.
        target: who takes the measurements.
        initrd_where: the initrd's file name, for the event's origin.
        cmdline_where: where the load options are from.
    """
    register = register_of_pcr(_PCR, target)
    events: list[Event] = []
    if options:
        if isinstance(options, Unpinned):
            digest: Sha384 | Unpinned = options
            text = "not known"
        else:
            digest = Sha384.of(options)
            text = options.decode("utf-16-le", "replace").rstrip("\0")
        events.append(
            Event(
                register,
                EventType.EV_EVENT_TAG,
                digest,
                f"load options: {text}",
                Origin(InputName.CMDLINE, cmdline_where),
                tagged_data(_LOAD_OPTIONS_ID, _LOAD_OPTIONS_TAG),
            )
        )
    if initrd is not None:
        events.append(
            Event(
                register,
                EventType.EV_EVENT_TAG,
                initrd,
                "initrd",
                Origin(InputName.INITRD, initrd_where),
                tagged_data(_INITRD_ID, _INITRD_TAG),
            )
        )
    return tuple(events)


def tagged_data(identifier: int, text: bytes) -> bytes:
    """TCG_PCClientTaggedEvent: u32 ID | u32 size | data."""
    return identifier.to_bytes(4, "little") + len(text).to_bytes(4, "little") + text
