"""td-shim: a kernel that the VMM puts into memory, with its command line, and no UEFI.

The metadata has a PAYLOAD section for the kernel and a PAYLOAD_PARAM section for the command line.
Their memory is filled with zeros behind the content. What is flagged MR.EXTEND is in MRTD; the shim
measures both at run time, too.

Source: td-shim doc/tdshim_spec.md (sections, "TD Measurement"), td-shim/src/bin/td-shim/main.rs
(boot_linux_kernel: separators, then payload and parameter), td-shim/src/event_log.rs (the events:
descriptions, and that the whole memory is hashed), td-shim-tools td-payload-reference-calculator.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

import msgspec

from mrtd.errors import SpecError
from mrtd.eventlog import Event, EventLog, EventType, InputName, Origin
from mrtd.registers import RegisterName, Sha384, Unpinned

TD_HOB: Final = b"td_hob\0"
PAYLOAD: Final = b"td_payload\0"
PAYLOAD_INFO: Final = b"td_payload_info\0"
_SEPARATOR: Final = bytes(4)
_DESCRIPTOR: Final = 16  # TD_SHIM_PLATFORM_CONFIG_INFO: char[16], u32 length, the information
_NO_LOG: Final = "td-shim with the payload in MRTD: no log confirms that it is measured again"


class Region(msgspec.Struct, frozen=True):
    """A section of td-shim's metadata, as memory.

    Attributes:
        gpa: guest physical address.
        size: bytes.
        extended: whether MRTD covers its content.
    """

    gpa: int
    size: int
    extended: bool


def filled(content: bytes, region: Region, *, origin: str, field: str) -> bytes:
    """The memory of a region: its content, and zeros. Raises `SpecError` if that does not fit."""
    if len(content) > region.size:
        raise SpecError(
            f"{len(content)} bytes do not fit the {region.size} that td-shim has for it",
            origin=origin,
            field=field,
        )
    return content.ljust(region.size, b"\0")


def td_shim_events(
    hob: Unpinned | None,
    payload: tuple[Region, bytes],
    parameters: tuple[Region, bytes] | None,
    *,
    names: Mapping[InputName, str],
) -> EventLog:
    """What td-shim extends before it starts a Linux kernel.

    Args:
        hob: why the TD HOB is not known; None if the metadata has none.
        payload: where the kernel is, and that memory.
        parameters: where the command line is, and that memory.
        names: of the inputs, for the events' origins.
    """
    return tuple(_events(hob, payload, parameters, names))


def _events(
    hob: Unpinned | None,
    payload: tuple[Region, bytes],
    parameters: tuple[Region, bytes] | None,
    names: Mapping[InputName, str],
) -> Iterator[Event]:
    rule = Origin(InputName.PROFILE, "td-shim")
    if hob is not None:
        where = Origin(InputName.MEMORY, "what the VMM tells the shim")
        flags = EventType.EV_PLATFORM_CONFIG_FLAGS
        yield Event(RegisterName.RTMR0, flags, hob, "td_hob", where, TD_HOB)
    for register in (RegisterName.RTMR0, RegisterName.RTMR1):
        yield Event(register, EventType.EV_SEPARATOR, Sha384.of(_SEPARATOR), "separator", rule,
                    _SEPARATOR)  # fmt: skip
    region, memory = payload
    body = bytes([len(PAYLOAD)]) + PAYLOAD
    body += region.gpa.to_bytes(8, "little") + region.size.to_bytes(8, "little")
    yield Event(
        RegisterName.RTMR1, EventType.EV_EFI_PLATFORM_FIRMWARE_BLOB2, Sha384.of(memory),
        "td_payload: kernel and zeros", Origin(InputName.KERNEL, names[InputName.KERNEL]), body,
        _NO_LOG if region.extended else "",
    )  # fmt: skip
    if parameters is None:
        return
    region, memory = parameters
    body = PAYLOAD_INFO.ljust(_DESCRIPTOR, b"\0") + len(memory).to_bytes(4, "little") + memory
    yield Event(
        RegisterName.RTMR1, EventType.EV_PLATFORM_CONFIG_FLAGS, Sha384.of(memory),
        "td_payload_info: command line and zeros",
        Origin(InputName.CMDLINE, names[InputName.CMDLINE]), body,
        _NO_LOG if region.extended else "",
    )  # fmt: skip
