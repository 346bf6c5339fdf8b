"""Texts of strangers, made safe to show."""

from __future__ import annotations


def printable(text: str) -> str:
    """The text with everything escaped that a terminal or a browser would act on, or hide.

    These are control characters, line ends, and marks that change the direction of the text.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
