"""The syntax of QEMU command lines: words, and options of one word.

Sources: QEMU util/qemu-option.c (``a,b=c,,d``: the first key may be implied, a comma is written
twice, a key alone means ``on``), docs/interop/qmp-spec (options that are JSON objects begin with
``{``), POSIX shell quoting for command lines as people write them down.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Final

from mrtd.errors import SpecError

MAX_COMMAND_LINE: Final = 1 << 20
"""Bytes of a command line that are believed: Linux's ``execve`` takes 128 KiB a word."""
_MAX_WORDS: Final = 10_000
_ORIGIN: Final = "launch spec"
_QUOTING: Final = "quote it as a shell takes it, or give /proc/PID/cmdline"


def escape(text: str) -> str:
    """Text as the value of a QEMU option: a comma is written twice."""
    return text.replace(",", ",,")


def split_option(text: str, *, implied: str = "") -> tuple[tuple[str, str], ...]:
    """The keys and values of an option such as ``node,nodeid=0,path=a,,b``.

    Args:
        text: the option; nothing is JSON here.
        implied: the key that a first word without ``=`` is the value of.
    """
    parts = [part.replace("\0", ",") for part in text.replace(",,", "\0").split(",")]
    pairs = []
    for index, part in enumerate(parts):
        name, equals, value = part.partition("=")
        if equals:
            pairs.append((name, value))
        elif index == 0 and implied:
            pairs.append((implied, name))
        elif name:
            pairs.append((name, "on"))
    return tuple(pairs)


def json_object(text: str, *, origin: str = _ORIGIN, field: str) -> Mapping[str, object]:
    """The object of an option in its JSON form. Raises `SpecError`."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise SpecError(f"{text[:80]!r} is broken JSON", origin=origin, field=field) from error
    if not isinstance(value, dict):
        raise SpecError(f"{text[:80]!r} is no JSON object", origin=origin, field=field)
    return value


def option_pairs(
    text: str, *, implied: str, origin: str = _ORIGIN, field: str
) -> tuple[tuple[str, str], ...]:
    """An option in either form as keys and texts; what is nested in JSON stays JSON.

    Raises:
        SpecError: broken JSON.
    """
    if not text.startswith("{"):
        return split_option(text, implied=implied)
    return tuple((name, _text(item)) for name, item in json_object(
        text, origin=origin, field=field).items())  # fmt: skip


def _text(item: object) -> str:
    if isinstance(item, bool):
        return "on" if item else "off"
    return item if isinstance(item, str) else json.dumps(item)


def split_command_line(data: bytes, *, origin: str) -> tuple[str, ...]:
    """The words of a command line: shell-quoted text, or ``/proc/PID/cmdline``.

    Text may go over several lines that end in a backslash. No shell runs: what one would replace
    or run (``$``, back quotes, ``;``, ``|``, ...) is refused, as nobody can tell what it stood for.

    Raises:
        SpecError: too long, not UTF-8, unbalanced quotes, or shell syntax.
    """

    def refuse(message: str, at: int | None = None, hint: str | None = None) -> SpecError:
        return SpecError(message, origin=origin, offset=at, field="command line", hint=hint)

    if len(data) > MAX_COMMAND_LINE:
        raise refuse(f"longer than {MAX_COMMAND_LINE} bytes")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise refuse("not UTF-8", error.start) from error
    if "\0" in text:
        words = tuple(text.removesuffix("\0").split("\0"))
    else:
        try:
            words = tuple(_shell_words(text.strip()))
        except _ShellSyntaxError as error:
            raise refuse(str(error), hint=_QUOTING) from error
    if len(words) > _MAX_WORDS:
        raise refuse(f"more than {_MAX_WORDS} words")
    return words


class _ShellSyntaxError(Exception):
    """Text that is no list of words."""


def _shell_words(text: str) -> Iterator[str]:
    """The words of one simple command (POSIX.1-2017, 2.2 Quoting)."""
    word: str | None = None
    position = 0
    while match := _SHELL_TOKEN.match(text, position):
        position = match.end()
        kind, token = str(match.lastgroup), match[0]
        if kind == "blank":
            if word is not None:
                yield word
            word = None
        elif kind != "continued":
            word = (word or "") + _UNQUOTED[kind](token)
    if position != len(text):
        raise _ShellSyntaxError(f"{text[position:][:20]!r} is for a shell, or an open quote")
    if word is not None:
        yield word


_SHELL_TOKEN: Final = re.compile(
    r"(?P<continued>\\\r?\n)|(?P<blank>[ \t]+)|(?P<escaped>\\[^\r\n])|(?P<single>'[^']*')"
    r'|(?P<double>"(?:[^"\\$`]|\\(?s:.))*")|(?P<plain>[^\s\\\'"$`;|&<>()]+)'
)
_UNQUOTED: Final[Mapping[str, Callable[[str], str]]] = {
    "escaped": lambda token: token[1:],
    "single": lambda token: token[1:-1],
    # a backslash stays in front of what it does not quote
    "double": lambda token: re.sub(r'\\(?:([$`"\\])|\r?\n)', r"\1", token[1:-1]),
    "plain": str,
}
