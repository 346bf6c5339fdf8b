"""Texts that identify a machine, a network or a person, or that are secrets: found and blanked.

They are blanked with as many ``x``, so that lengths in binary data stay true. What is found in one
member of a bundle is looked for in all: a host name on the command line is in the event log, too,
as UTF-16.

Rules see names and shapes, not meanings. A secret that is called ``colour`` is not found.
"""

from __future__ import annotations

import ipaddress
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Final

import msgspec

SECRET: Final = "secret"  # noqa: S105 - the word
IDENTIFIER: Final = "identifier"
ADDRESS: Final = "network address"
PERSON: Final = "user name"
HOST: Final = "host name"

# in any part of a name
_SECRET_PARTS: Final = re.compile(
    "passw|passphrase|secret|token|credential|api_?key|private", re.IGNORECASE
)
# as a whole word of a name; words end at anything but letters and digits
_SECRET_WORDS: Final = frozenset(
    {"auth", "cookie", "key", "keyfile", "luks", "pass", "pin", "psk", "pw", "pwd", "session"}
)
_KINDS: Final = {
    **dict.fromkeys(("host", "hostname", "fqdn", "domain", "realm"), HOST),
    **dict.fromkeys(("user", "username", "login", "owner", "email", "mail"), PERSON),
    **dict.fromkeys(("mac", "hwaddr", "bootif", "ip", "ip4", "ip6", "nameserver"), ADDRESS),
    **dict.fromkeys(("gateway", "gw", "dns", "server", "nfsroot", "nfsaddrs"), ADDRESS),
    **dict.fromkeys(("serial", "uuid", "partuuid", "asset", "machineid", "instanceid"), IDENTIFIER),
}

# A name and what stands between it and its value; names start where the text before them ends, so
# that a text without any is searched in one pass.
_NAME: Final = re.compile(r"(?<![\w.\-/])([\w.\-/]+)[\"']?(?:[ \t]?[=:][ \t]?)", re.ASCII)
# In quotes, in escaped quotes, in quotes that do not end; else what is no space, quote, comma or
# semicolon, and all that is no ASCII.
_VALUE: Final = re.compile(
    r"""\\"([^\0-\x1f]*?)\\"|"([^"\0-\x1f]*)"|'([^'\0-\x1f]*)'|["']([^\0-\x1f]+)"""
    r"""|([!#-&(-+\--:<-~\x80-\xff]+)"""
)
_SHAPES: Final = (
    (
        SECRET,
        re.compile(r"(?<![\w-])(eyJ[\w-]{5,}\.[\w-]{2,}\.[\w-]*)", re.ASCII),
    ),  # RFC 7515, compact
    (ADDRESS, re.compile(r"(?<![\w:.-])((?:[0-9A-Fa-f]{2}[:-]){5,6}[0-9A-Fa-f]{2})(?![\w:-])")),
    (ADDRESS, re.compile(r"MAC[:(]([0-9A-Fa-f]{12})(?![0-9A-Fa-f])")),
    (ADDRESS, re.compile(r"(?<![\w.])(\d{1,3}(?:\.\d{1,3}){3})(?![\w.])", re.ASCII)),
    (ADDRESS, re.compile(r"(?<![\w:.])([0-9A-Fa-f]{0,4}(?::[0-9A-Fa-f]{0,4}){2,7})(?![\w:.])")),
    (PERSON, re.compile(r"/(?:home|Users)/([^/\s\"'\0]+)")),
    (PERSON, re.compile(r"(?<![\w.+-])([\w.+-]+@(?:[\w-]+\.)+[A-Za-z]{2,})(?!\w)", re.ASCII)),
    (HOST, re.compile(r"\b[a-z][a-z0-9+]*://([^/\s\"',;\0]+)", re.ASCII)),
)
_HARDWARE: Final = re.compile(r"(?:..[:-]){5,6}..|[0-9A-Fa-f]{12}")
_PUBLIC: Final = re.compile(
    r"(?:[\w-]+\.)*(?:github\.com|intel\.com|kernel\.org|qemu\.org|tianocore\.org|uefi\.org)"
)
_UNTOLD: Final = frozenset(
    {"none", "localhost", "root", "true", "false", "default", "debian", "ubuntu", "linux", "qemu",
     "unknown", "not specified", "to be filled by o.e.m.", "dhcp", "auto", "console", "initrd"}
)  # fmt: skip
_SHORT: Final = 8
_SHORTEST: Final = 4


class Found(msgspec.Struct, frozen=True):
    """A text that is to be removed: its kind, where it is, and itself."""

    kind: str
    start: int
    end: int
    text: str


def find(text: str) -> Iterator[Found]:
    """Everything in a text that is a secret or identifies somebody. May overlap."""
    position = 0
    while (name := _NAME.search(text, position)) is not None:
        position = name.end()  # a value can be an assignment itself: root=UUID=...
        kind = kind_of_name(name[1])
        value = None if kind is None else _VALUE.match(text, position)
        if kind is not None and value is not None:
            yield from _found(kind, value, value.lastindex or 0)
            position = value.end()
    for kind, shape in _SHAPES:
        for match in shape.finditer(text):
            if _is_real(kind, match[1]):
                yield from _found(kind, match, 1)


def kind_of_name(name: str) -> str | None:
    """What a value is that has this name; None for nothing to remove."""
    words = re.split(r"[^A-Za-z0-9]+", name.lower())
    if _SECRET_PARTS.search(name) or _SECRET_WORDS.intersection(words):
        return SECRET
    for word in (*words, "".join(words[-2:])):
        if word in _KINDS:
            return _KINDS[word]
    return None


def _found(kind: str, match: re.Match[str], group: int) -> Iterator[Found]:
    value = match[group]
    if value.strip("x"):
        yield Found(kind, match.start(group), match.end(group), value)


def _is_real(kind: str, value: str) -> bool:
    if kind is HOST:
        return _PUBLIC.fullmatch(value) is None
    if kind is ADDRESS and _HARDWARE.fullmatch(value) is None:
        try:
            address = ipaddress.ip_address(value)
        except ValueError:
            return False
        return not (address.is_loopback or address.is_unspecified)
    return True


class Blanker:
    """Removes what `find` finds, and every other occurrence of what was found before.

    Args:
        values: texts found anywhere, with their kinds.
    """

    def __init__(self, values: Iterable[tuple[str, str]]) -> None:
        self.values = {
            value: kind
            for kind, value in values
            if len(value) >= _SHORTEST and value.lower() not in _UNTOLD and value.strip("x")
        }
        self._known = _pattern(self.values)
        self._kinds = {value.lower(): kind for value, kind in self.values.items()}

    def text(self, text: str) -> tuple[str, Counter[str]]:
        """A text without them, and how many of what kind there were."""
        spans = [(f.start, f.end, f.kind) for f in find(text)]
        if self._known is not None:
            spans += [
                (m.start(), m.end(), self._kinds.get(m[0].lower(), IDENTIFIER))
                for m in self._known.finditer(text)
            ]
        kinds: Counter[str] = Counter()
        parts: list[str] = []
        position = 0
        for start, end, kind in sorted(spans, key=lambda span: (span[0], -span[1])):
            if end <= position:
                continue
            first = max(start, position)
            parts += [text[position:first], "x" * (end - first)]
            kinds[kind] += start >= position
            position = end
        return "".join((*parts, text[position:])), kinds

    def binary(self, data: bytes) -> tuple[bytes, Counter[str]]:
        """Bytes without them, as bytes of ASCII (or UTF-8) and as UTF-16, at any offset."""
        text, kinds = self.text(data.decode("latin-1"))
        result = bytearray(text.encode("latin-1"))
        for parity in (0, 1):
            wide = _wide(result[parity:])
            found, more = self.text(wide)
            kinds += more
            for index, (old, new) in enumerate(zip(wide, found, strict=True)):
                if old != new:
                    result[parity + 2 * index : parity + 2 * index + 2] = b"x\0"
        return bytes(result), kinds

    def remains(self, data: bytes) -> bool:
        """Whether a value is still there, in any of the encodings that a member can have."""
        if self._known is None:
            return False
        views = (data.decode("latin-1"), _wide(data), _wide(data[1:]))
        return any(self._known.search(view) for view in views) or any(
            value.encode().hex().encode() in data.lower() for value in self.values
        )


def find_binary(data: bytes) -> Iterator[Found]:
    """Like `find`, in bytes, as ASCII and as UTF-16 at any offset."""
    yield from find(data.decode("latin-1"))
    yield from find(_wide(data))
    yield from find(_wide(data[1:]))


def _wide(data: bytes | bytearray) -> str:
    """UTF-16 as a text of one character per unit; those past U+00FF are all U+00FF."""
    pairs = zip(data[::2], data[1::2], strict=False)
    return bytes(0xFF if high else low for low, high in pairs).decode("latin-1")


def _pattern(values: Iterable[str]) -> re.Pattern[str] | None:
    """All spellings of the values; short ones only where no letter or digit stands beside them."""
    forms: set[str] = set()
    for value in values:
        for form in {value, value.encode("utf-8").decode("latin-1")}:
            whole = re.escape(form)
            forms.add(whole if len(value) >= _SHORT else rf"(?<![A-Za-z0-9]){whole}(?![A-Za-z0-9])")
    if not forms:
        return None
    return re.compile("|".join(sorted(forms, key=lambda form: (-len(form), form))), re.IGNORECASE)
