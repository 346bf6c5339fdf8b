"""A QEMU command line as a launch spec, with what became of each of its arguments.

Sources: QEMU qemu-options.hx and system/vl.c (what options mean and in which order they act),
hw/i386/pc_q35.c (which devices a board makes by itself).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final

from mrtd.errors import SpecError
from mrtd.launch.arguments import Argument, Influence, MachineReading, Treatment
from mrtd.launch.machine import HostFacts, MachineParts
from mrtd.launch.options import split_command_line
from mrtd.launch.qemu_handlers import HANDLERS
from mrtd.launch.qemu_options import LOUD, MODELLED, REFUSED, SILENT
from mrtd.printable import printable

_ASSIGNMENT: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*=")
_LONGEST_SHOWN: Final = 200


def read_command_line(data: bytes, *, origin: str, host: HostFacts) -> MachineReading:
    """Read a shell-quoted command line, or ``/proc/PID/cmdline``.

    Args:
        data: the command line; assignments in front of the program are skipped.
        origin: its file.
        host: what the command line does not say.

    Raises:
        SpecError: it is none, or launches something that no launch spec can say.
    """
    words = split_command_line(data, origin=origin)
    first = next((n for n, word in enumerate(words) if not _ASSIGNMENT.match(word)), len(words))
    if first < len(words) and not words[first].startswith("-"):
        first += 1
    return read_words(words[first:], origin=origin, host=host)


def read_words(
    words: Sequence[str], *, origin: str, host: HostFacts, also: Sequence[Argument] = (),
) -> MachineReading:  # fmt: skip
    """Read QEMU's arguments, without the program.

    Args:
        words: the arguments.
        origin: where they are from.
        host: what the arguments do not say.
        also: what is known of arguments that are not among the words (of a domain).

    Raises:
        SpecError: they launch something that no launch spec can say.
    """
    parts = MachineParts(origin)
    arguments = list(also)
    for name, value in _options(words, origin):
        text = f"-{name}" if value is None else f"-{name} {value}"
        arguments += _one(parts, name, value or "", printable(text)[:_LONGEST_SHOWN])
    arguments += parts.finish(host)
    warnings = [a for a in arguments if a.treatment is Treatment.WARNING]
    return MachineReading(parts.spec(host, warnings), tuple(arguments))


def _options(words: Sequence[str], origin: str) -> Iterator[tuple[str, str | None]]:
    """Options with their values; one dash or two."""
    known: Mapping[str, bool] = {
        **MODELLED,
        **{name: row.takes_value for name, row in SILENT.items()},
        **{name: row.takes_value for name, row in LOUD.items()},
        **dict.fromkeys(REFUSED, True),
    }
    position = 0
    while position < len(words):
        word = words[position]
        position += 1
        if not word.startswith("-") or word == "-":
            raise SpecError(
                f"{printable(word)[:_LONGEST_SHOWN]!r} is no option", origin=origin,
                field="command line", hint="a disk image is -drive file=...",
            )  # fmt: skip
        name = word[2:] if word.startswith("--") else word[1:]
        follows = position < len(words)
        takes = known.get(name, follows and not words[position].startswith("-"))
        if takes and not follows:
            raise SpecError(f"-{printable(name)} has no value", origin=origin, field="command line")
        yield name, words[position] if takes else None
        position += takes


def _one(parts: MachineParts, name: str, value: str, text: str) -> Iterator[Argument]:
    if name in REFUSED:
        raise parts.refuse(text, REFUSED[name])
    if name in SILENT:
        yield Argument(text, Treatment.NO_INFLUENCE, Influence.NONE, SILENT[name].reason)
    elif name in LOUD:
        row = LOUD[name]
        yield Argument(text, Treatment.WARNING, row.influence, row.reason, row.code)
    elif name in MODELLED:
        handler: Callable[[MachineParts, str, str], Iterator[Argument]] = HANDLERS[name]
        yield from handler(parts, value, text)
    else:
        yield Argument(text, Treatment.WARNING, Influence.ACPI,
                       "this reader does not know the option", "option_unknown")  # fmt: skip
