"""grub.cfg, as far as what it does follows from it alone.

Read are ``set NAME=VALUE``, ``linux``, ``initrd``, ``search`` and ``menuentry`` with words, quotes
and variables. GRUB's script is a language with conditions, functions and modules: everything else
is refused by name and line, so that nobody takes a guess for a derivation.

Source: GRUB manual, "Shell-like scripting"; grub-core/script (how words become arguments).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

import msgspec

_NAME: Final = re.compile(r"\$(?:\{(\w+)\}|(\w+))")
_MAX_LINES: Final = 10000
_KNOWN: Final = frozenset({"set", "linux", "initrd", "search", "menuentry"})
_NOT_PLAIN: Final = frozenset(";|&<>`*?(){}")


class GrubCommand(msgspec.Struct, frozen=True):
    """A command.

    Attributes:
        words: its name and arguments, quotes taken off, variables not yet replaced.
        line: where it is.
        body: the commands of a menu entry.
        block: the text of a menu entry's body, with its braces; empty otherwise.
        literal: for each word, whether it was in single quotes, so that ``$`` means itself.
    """

    words: tuple[str, ...]
    line: int
    body: tuple[GrubCommand, ...] = ()
    block: str = ""
    literal: tuple[bool, ...] = ()

    def expanded(self, variables: dict[str, str]) -> tuple[str, ...] | str:
        """The words with variables replaced; or the name of one that is not known."""
        found: list[str] = []
        for word, literal in zip(self.words, self.literal, strict=True):
            if literal or "$" not in word:
                found.append(word)
                continue
            unknown = [a or b for a, b in _NAME.findall(word) if (a or b) not in variables]
            if unknown or "$" in _NAME.sub("", word):
                return f"${unknown[0]}" if unknown else word
            found.append(_NAME.sub(lambda m: variables[m[1] or m[2]], word))
        return tuple(found)


class NotDerived(msgspec.Struct, frozen=True):
    """A construct whose effect does not follow, and its line."""

    what: str
    line: int


def read_grub_cfg(text: str) -> tuple[tuple[GrubCommand, ...], NotDerived | None]:
    """The commands up to the first construct that is not read, and that construct."""
    lines = text.split("\n")
    if len(lines) > _MAX_LINES:
        return (), NotDerived(f"more than {_MAX_LINES} lines", _MAX_LINES)
    commands, problem, _ = _read(lines, 0, nested=False)
    return tuple(commands), problem


def _read(
    lines: list[str], start: int, *, nested: bool
) -> tuple[list[GrubCommand], NotDerived | None, int]:
    """Commands from a line on, up to a line with ``}`` alone if nested."""
    found: list[GrubCommand] = []
    at = start
    while at < len(lines):
        stripped = lines[at].strip()
        if nested and stripped == "}":
            return found, None, at
        if not stripped or stripped.startswith("#"):
            at += 1
            continue
        words = split_words(stripped)
        if isinstance(words, str):
            return found, NotDerived(words, at + 1), at
        names = tuple(word for word, _ in words)
        if names[0] not in _KNOWN:
            return found, NotDerived(f"{names[0]!r}", at + 1), at
        if names[0] != "menuentry":
            found.append(GrubCommand(names, at + 1, literal=tuple(q for _, q in words)))
            at += 1
            continue
        if nested or names[-1] != "{":
            return found, NotDerived("a menuentry whose body does not begin on its line",
                                     at + 1), at  # fmt: skip
        body, problem, end = _read(lines, at + 1, nested=True)
        if problem is None and end >= len(lines):
            problem = NotDerived("a menuentry without an end", at + 1)
        if problem is not None:
            return found, problem, end
        block = "\n".join(["{", *lines[at + 1 : end], lines[end].rstrip()])
        literal = tuple(q for _, q in words[:-1])
        found.append(GrubCommand(names[:-1], at + 1, tuple(body), block, literal))
        at = end + 1
    if nested:
        return found, NotDerived("a menuentry without an end", start), len(lines)
    return found, None, at


def split_words(line: str) -> list[tuple[str, bool]] | str:
    """Words of a line, and whether each is literal; or what in it is not read."""
    words: list[tuple[str, bool]] = []
    for raw in _raw_words(line):
        if raw == "{":
            words.append((raw, True))
            continue
        quoted = len(raw) > 1 and raw[0] == raw[-1] and raw[0] in "'\""
        inner = raw[1:-1] if quoted else raw
        name, equals, value = inner.partition("=")
        if not quoted and equals and len(value) > 1 and value[0] == value[-1] and value[0] in "'\"":
            inner, quoted = f"{name}={value[1:-1]}", True  # set name="value"
            raw = value
        if any(mark in inner for mark in "'\"\\"):
            return f"quotes or a backslash within {raw!r}"
        odd = set(inner.replace("${", "").replace("}", "")) & _NOT_PLAIN
        if not quoted and odd:
            return f"{min(odd)!r} outside of quotes"
        words.append((inner, raw[0] == "'"))
    return words or "an empty command"


def _raw_words(line: str) -> Iterator[str]:
    """Words at blanks that are in no quotes."""
    word, quote = "", ""
    for character in line:
        if quote:
            word += character
            quote = "" if character == quote else quote
        elif character in " \t":
            if word:
                yield word
            word = ""
        else:
            word += character
            quote = character if character in "'\"" else ""
    if word:
        yield word
