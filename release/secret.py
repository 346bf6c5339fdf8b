"""Values that nobody may see: they are in no message, log, representation or pickle."""

from __future__ import annotations

from typing import Final, NoReturn
from urllib.parse import urlsplit

_HIDDEN: Final = "***"
_LONG: Final = 12
"""A piece of a secret that is shorter is no secret, and might be any word."""
_LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1"})


class Secret:
    """A text that shows itself to nobody who does not ask by name."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def __repr__(self) -> str:
        return f"Secret({_HIDDEN})"

    __str__ = __repr__

    def __reduce__(self) -> NoReturn:
        """No copy of it leaves the process. Raises `TypeError`."""
        raise TypeError("a secret is not written anywhere")

    def reveal(self) -> str:
        """The text."""
        return self._text

    def redact(self, text: str) -> str:
        """A text of somebody else without this one, or the parts between its dots (a JWT's)."""
        for piece in (self._text, *sorted(self._text.split("."), key=len, reverse=True)):
            if len(piece) >= _LONG:
                text = text.replace(piece, _HIDDEN)
        return text


def is_private(url: str) -> bool:
    """Whether a secret may be sent to an address: nobody on the way can read it."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return False
    return bool(parts.hostname) and (
        parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in _LOOPBACK)
    )
