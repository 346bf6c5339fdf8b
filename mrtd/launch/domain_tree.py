"""A libvirt domain as a tree that remembers what was read of it.

An XML document is input from elsewhere: document types (and with them every entity, internal or
external) are refused, and size, depth and number of elements are bounded. Nothing that it names is
opened or run.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final
from xml.parsers import expat

from mrtd.errors import SpecError

MAX_BYTES: Final = 4 << 20
_MAX_DEPTH: Final = 64
_MAX_ELEMENTS: Final = 50_000
_MAX_DIGITS: Final = 24
QEMU_NAMESPACE: Final = "http://libvirt.org/schemas/domain/qemu/1.0"


class Node:
    """An element.

    Attributes:
        tag: its name; elements of libvirt's QEMU namespace begin with ``qemu:``.
        path: names from below the root on, such as ``devices/disk/target``.
        origin: file and line.
        children: in order.
    """

    __slots__ = (
        "_attributes", "_read", "_text", "children", "origin", "path", "tag", "visited",
    )  # fmt: skip

    def __init__(self, tag: str, path: str, attributes: dict[str, str], origin: str) -> None:
        self.tag = tag
        self.origin = origin
        self.path = path
        self.children: list[Node] = []
        self._attributes = attributes
        self._text: list[str] = []
        self._read: set[str] = set()
        self.visited = False

    def get(self, name: str, default: str = "") -> str:
        """An attribute, which counts as read from now on."""
        self._read.add(name)
        return self._attributes.get(name, default)

    def child(self, tag: str) -> Node:
        """The first such child; an empty element if there is none."""
        return next(self.all(tag), Node(tag, f"{self.path}/{tag}".lstrip("/"), {}, self.origin))

    def has(self, tag: str) -> bool:
        """Whether there is such a child."""
        return any(True for _ in self.all(tag))

    def all(self, tag: str) -> Iterator[Node]:
        """The children of that name, which count as read from now on."""
        for child in self.children:
            if child.tag == tag:
                child.visited = True
                yield child

    @property
    def text(self) -> str:
        """The text directly in it, without white space around."""
        self._read.add("#")
        return "".join(self._text).strip()

    def number(self, name: str, default: int = 0) -> int:
        """An attribute that is a number, in C's notation. Raises `SpecError`."""
        return self._number(self.get(name), default, f"@{name}")

    def number_text(self, default: int = 0) -> int:
        """The text as a number. Raises `SpecError`."""
        return self._number(self.text, default, "")

    def _number(self, text: str, default: int, where: str) -> int:
        if not text:
            return default
        try:
            value = int(text, 0) if len(text) <= _MAX_DIGITS else -1
        except ValueError:
            value = -1
        if value < 0:
            raise self.fail(f"{text[:40]!r} is no number", where)
        return value

    def fail(self, message: str, where: str = "", *, hint: str | None = None) -> SpecError:
        """An error at this element."""
        return SpecError(message, origin=self.origin, field=f"{self.path}{where}", hint=hint)

    def add_text(self, text: str) -> None:
        """Append text, while it is parsed."""
        self._text.append(text)

    def unread(self) -> Iterator[str]:
        """Paths of what nobody asked for: elements (once, with all below), attributes, texts."""
        yield from (f"{self.path}@{name}" for name in self._attributes if name not in self._read)
        if "#" not in self._read and "".join(self._text).strip():
            yield f"{self.path}#text"
        for child in self.children:
            if child.visited:
                yield from child.unread()
            else:
                yield child.path


def read_domain_tree(data: bytes, *, origin: str) -> Node:
    """Parse a domain.

    Raises:
        SpecError: too large, not well-formed, with a document type, or no ``<domain>``.
    """
    return _TreeBuilder(origin).build(data)


class _TreeBuilder:
    def __init__(self, origin: str) -> None:
        self._origin = origin
        self._open: list[Node] = []
        self._root: Node | None = None
        self._count = 0
        self._parser = expat.ParserCreate(namespace_separator=" ")

    def build(self, data: bytes) -> Node:
        if len(data) > MAX_BYTES:
            raise self._refuse(f"larger than {MAX_BYTES} bytes")
        parser = self._parser
        parser.buffer_text = True
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._text
        parser.StartDoctypeDeclHandler = self._doctype
        try:
            parser.Parse(data, True)
        except (expat.ExpatError, ValueError, LookupError) as error:
            raise self._refuse(f"not well-formed XML: {error}") from error
        if self._root is None:
            raise self._refuse("no <domain>", hint="give what `virsh dumpxml NAME` prints")
        return self._root

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        self._count += 1
        if self._count > _MAX_ELEMENTS or len(self._open) >= _MAX_DEPTH:
            raise self._refuse("too many or too deeply nested elements")
        namespace, _, local = name.rpartition(" ")
        tag = {"": local, QEMU_NAMESPACE: f"qemu:{local}"}.get(namespace, name)
        if not self._open:
            if tag == "domstatus":
                raise self._refuse("is libvirt's status file", hint="use `virsh dumpxml NAME`")
            if tag != "domain":
                raise self._refuse(f"<{tag}> is no <domain>", hint="use `virsh dumpxml NAME`")
            self._root = node = Node(tag, "", attributes, self._where())
        else:
            above = self._open[-1]
            node = Node(tag, f"{above.path}/{tag}".lstrip("/"), attributes, self._where())
            above.children.append(node)
        self._open.append(node)

    def _end(self, _: str) -> None:
        self._open.pop()

    def _text(self, text: str) -> None:
        self._open[-1].add_text(text)

    def _doctype(self, *_: object) -> None:
        raise self._refuse("has a document type: entities are refused")

    def _refuse(self, message: str, hint: str | None = None) -> SpecError:
        return SpecError(message, origin=self._where(), field="domain", hint=hint)

    def _where(self) -> str:
        return f"{self._origin}:{self._parser.CurrentLineNumber}"
