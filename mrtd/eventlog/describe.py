"""One short line of text for an event's body, for a person who reads a log or a difference.

The text never takes part in a comparison, so a body that is not what its type promises is
described by type and size instead of being refused.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from mrtd.errors import MalformedEventLog
from mrtd.eventlog.event import EventType, type_name
from mrtd.reader import Reader

_LIMIT: Final = 100


def describe(kind: int, body: bytes) -> str:
    """What an event of a type measured, as far as its body says.

    Args:
        kind: TCG event type.
        body: the event's body as in the log; may be hostile.

    Returns:
        One line of printable characters, such as ``variable BootOrder`` or ``EV_EFI_GPT_EVENT (228
        bytes)``; never empty. At most 100 characters of the body are shown.
    """
    fallback = f"{type_name(kind)} ({len(body)} bytes)"
    reader = _READERS.get(kind)
    if reader is None:
        return fallback
    try:
        return reader(Reader(body, origin="event", error=MalformedEventLog)) or fallback
    except MalformedEventLog:
        return fallback


def _variable(body: Reader) -> str:
    # UEFI_VARIABLE_DATA: GUID, name length in characters, data length, name, data.
    body.guid("variable GUID")
    length = body.u64("name length")
    body.u64("data length")
    name = bytes(body.take(2 * length, "name")).decode("utf-16-le", "replace")
    return f"variable {_printable(name)}" if name else ""


def _separator(body: Reader) -> str:
    value = bytes(body.take(body.remaining, "separator"))
    return "separator" if value == bytes(4) else f"separator {value[:16].hex()}"


def _tag(body: Reader) -> str:
    # TCG_PCClientTaggedEvent: id, size, data. Linux's EFI stub writes them (efi-stub-helper.c).
    tag = body.u32("tag")
    text = _decoded(bytes(body.take(body.u32("tag size"), "tag data")))
    return f"tag {tag:#010x} {text}".rstrip()


def _named(body: Reader) -> str:
    # A one-byte length and the name of the blob or of the tables.
    return _decoded(bytes(body.take(body.u8("name length"), "name")))


def _line(body: Reader) -> str:
    return _decoded(bytes(body.take(body.remaining, "text")))


_READERS: Final[dict[int, Callable[[Reader], str]]] = {
    EventType.EV_NO_ACTION: _line,
    EventType.EV_SEPARATOR: _separator,
    EventType.EV_ACTION: _line,
    EventType.EV_EVENT_TAG: _tag,
    EventType.EV_S_CRTM_VERSION: _line,
    EventType.EV_PLATFORM_CONFIG_FLAGS: _line,
    EventType.EV_IPL: _line,
    EventType.EV_EFI_VARIABLE_DRIVER_CONFIG: _variable,
    EventType.EV_EFI_VARIABLE_BOOT: _variable,
    EventType.EV_EFI_ACTION: _line,
    EventType.EV_EFI_PLATFORM_FIRMWARE_BLOB2: _named,
    EventType.EV_EFI_HANDOFF_TABLES2: _named,
    EventType.EV_EFI_VARIABLE_AUTHORITY: _variable,
}


def _decoded(body: bytes) -> str:
    """The text at the start of a body, ASCII or UTF-16LE: firmware and stubs use both."""
    if body[1:2] == b"\0":
        wide = body[: len(body) & ~1].decode("utf-16-le", "replace")
        return _printable(wide.partition("\0")[0])
    return _printable(body.partition(b"\0")[0].decode("utf-8", "replace"))


def _printable(text: str) -> str:
    shown = text if len(text) <= _LIMIT else f"{text[:_LIMIT]}..."
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in shown)
