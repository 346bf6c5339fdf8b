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
_QUOTES: Final = "'\""
_MAX_LINES: Final = 10000
_KNOWN: Final = frozenset({"set", "linux", "initrd", "search", "menuentry"})
_NOT_PLAIN: Final = frozenset(";|&<>`*?(){}")
_ENTRY_OPTION: Final = re.compile(r"--(?:class|id|hotkey)(=.*)?|--unrestricted", re.DOTALL)


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
            value = _NAME.sub(lambda m: variables[m[1] or m[2]], word)
            if not value or " " in value or "\t" in value:
                return f"{word}, whose value is not one word"  # outside of quotes, GRUB splits it
            found.append(value)
        return tuple(found)

    @property
    def names(self) -> tuple[str, ...]:
        """What a menu entry may be called: its title, and its ``--id``."""
        found = list(self.words[1:2])
        for word, following in zip(self.words, (*self.words[1:], ""), strict=True):
            if word == "--id":
                found.append(following)
            elif word.startswith("--id="):
                found.append(word.removeprefix("--id="))
        return tuple(found)


class NotDerived(msgspec.Struct, frozen=True):
    """A construct whose effect does not follow, and its line."""

    what: str
    line: int


def read_grub_cfg(text: str) -> tuple[tuple[GrubCommand, ...], NotDerived | None]:
    """The commands up to the first construct that is not read, and that construct."""
    reader = _CfgReader(text.split("\n"))
    if len(reader.lines) > _MAX_LINES:
        return (), NotDerived(f"more than {_MAX_LINES} lines", _MAX_LINES)
    commands = reader.commands(nested=False)
    return tuple(commands), reader.problem


class _CfgReader:
    """Reads commands line by line, until one is met that is not read."""

    def __init__(self, lines: list[str]) -> None:
        self.lines = lines
        self.at = 0
        self.problem: NotDerived | None = None

    def commands(self, *, nested: bool) -> list[GrubCommand]:
        """Commands up to the end, or up to a line with ``}`` alone if nested."""
        found: list[GrubCommand] = []
        while self.at < len(self.lines) and self.problem is None:
            stripped = self.lines[self.at].strip()
            if nested and stripped == "}":
                return found
            if stripped and not stripped.startswith("#"):
                command = self.command(stripped, nested=nested)
                found += [command] if command is not None else []
            self.at += 1
        if nested and self.problem is None:
            self.fail("a menuentry without an end")
        return found

    def command(self, stripped: str, *, nested: bool) -> GrubCommand | None:
        words = split_words(stripped)
        if isinstance(words, str):
            self.fail(words)
            return None
        names = tuple(word for word, _ in words)
        literal = tuple(quoted for _, quoted in words)
        if names[0] not in _KNOWN:
            self.fail(repr(names[0]))
            return None
        if names[0] != "menuentry":
            return GrubCommand(names, self.at + 1, literal=literal)
        if nested or names[-1] != "{" or not is_entry(names[1:-1]):
            what = "whose body does not begin on its line"
            if not nested and names[-1] == "{":
                what = "that has more than a title, --class, --id, --hotkey and --unrestricted"
            self.fail(f"a menuentry {what}")
            return None
        start = self.at
        self.at += 1
        body = self.commands(nested=True)
        if self.problem is not None:
            return None
        block = "\n".join(["{", *self.lines[start + 1 : self.at], self.lines[self.at].rstrip()])
        return GrubCommand(names[:-1], start + 1, tuple(body), block, literal[:-1])

    def fail(self, what: str) -> None:
        self.problem = NotDerived(what, min(self.at, len(self.lines) - 1) + 1)


def is_entry(words: tuple[str, ...]) -> bool:
    """Whether a menuentry's words are a title and options; others become its parameters."""
    rest = list(words[1:])
    while rest:
        option = _ENTRY_OPTION.fullmatch(rest.pop(0))
        if option is None:
            return False
        if option[1] is None and option[0] != "--unrestricted":
            if not rest:
                return False
            rest.pop(0)
    return bool(words) and not words[0].startswith("-")


def split_words(line: str) -> list[tuple[str, bool]] | str:
    """Words of a line, and whether each is literal; or what in it is not read."""
    words: list[tuple[str, bool]] = []
    for raw in _raw_words(line):
        inner, quoted, literal = _unquoted(raw)
        if raw.startswith("#"):
            return "a comment behind a command"
        if any(mark in inner for mark in "'\"\\"):
            return f"quotes or a backslash within {raw!r}"
        odd = set(inner.replace("${", "").replace("}", "")) & _NOT_PLAIN
        if raw != "{" and not quoted and odd:
            return f"{min(odd)!r} outside of quotes"
        words.append((inner, literal))
    return words or "an empty command"


def _unquoted(raw: str) -> tuple[str, bool, bool]:
    """A word without its quotes, or those of its value; whether it had some, and single ones."""
    name, equals, value = raw.partition("=")
    if not equals or raw[0] in _QUOTES:
        name, equals, value = "", "", raw
    if len(value) > 1 and value[0] == value[-1] and value[0] in _QUOTES:
        return name + equals + value[1:-1], True, value[0] == "'"
    return raw, False, False


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
            quote = character if character in _QUOTES else ""
    if word:
        yield word
