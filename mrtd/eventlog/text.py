"""Text inside event bodies: ASCII or UTF-16LE, made safe to print."""

from __future__ import annotations

from typing import Final

from mrtd.reader import Reader

_LIMIT: Final = 100
_MOSTLY: Final = 0.9


def decoded(body: bytes) -> str:
    """The text at the start of a body, ASCII or UTF-16LE, up to its NUL; as it is."""
    if body[1:2] == b"\0" and body[:1] != b"\0":
        wide = body[: len(body) & ~1].decode("utf-16-le", "replace")
        return wide.partition("\0")[0]
    return body.partition(b"\0")[0].decode("utf-8", "replace")


def printable(text: str, limit: int = _LIMIT) -> str:
    """The text in printable characters; longer than the limit, it is cut and says so."""
    shown = text if len(text) <= limit else f"{text[:limit]}..."
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in shown)


def is_text(body: bytes) -> bool:
    """Whether a body is one line or more of UTF-8 or UTF-16LE text, perhaps with a NUL."""
    wide = body[1:2] == b"\0" and body[:1] != b"\0"
    try:
        text = body.decode("utf-16-le" if wide else "utf-8").removesuffix("\0")
    except UnicodeDecodeError:
        return False
    if not text or "\0" in text:
        return False
    seen = sum(c.isprintable() or c in "\t\r\n" for c in text)
    return seen >= _MOSTLY * len(text)


def wide_text(reader: Reader, field: str) -> str:
    """UTF-16LE text up to its NUL, which has to be there."""
    view = reader.take(reader.remaining, field)
    raw = bytes(view[: len(view) & ~1])
    end = raw.find(b"\0\0")
    while end % 2 and end >= 0:
        end = raw.find(b"\0\0", end + 1)
    if end < 0:
        raise reader.fail("text without an end", field)
    reader.seek(reader.offset - len(view) + end + 2, field)
    return raw[:end].decode("utf-16-le", "replace")
