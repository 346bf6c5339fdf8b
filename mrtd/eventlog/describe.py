"""One short line of text for an event's body, for a person who reads a log or a difference.

The text never takes part in a comparison, so a body that is not what its type promises is
described by type and size instead of being refused.
"""

from __future__ import annotations

from typing import Final

from mrtd.eventlog.bodies import Generic, decode
from mrtd.eventlog.event import type_name

_LIMIT: Final = 400


def describe(kind: int, body: bytes) -> str:
    """What an event of a type measured, as far as its body says.

    Args:
        kind: TCG event type.
        body: the event's body as in the log; may be hostile.

    Returns:
        One line of printable characters, such as ``BootOrder: 0001, 0000`` or ``EV_IPL (19
        bytes)``; never empty, at most about 400 characters.
    """
    decoded = decode(kind, body)
    if isinstance(decoded.body, Generic) and (decoded.remark or not decoded.body.text):
        return f"{type_name(kind)} ({len(body)} bytes)"
    text = str(decoded.body)
    shown = text if len(text) <= _LIMIT else f"{text[:_LIMIT]}..."
    return shown or f"{type_name(kind)} ({len(body)} bytes)"
