"""Identifiers in JSON: found and blanked value by value, so that it stays what it was.

Event bodies, which are hex digits in a measurement document, are blanked as bytes. The addresses in
device paths are no texts; they are found by the header of their node.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, Final

import msgspec

from mrtd.evidence.identifiers import Blanker, Found, find, find_binary, kind_of_name

# UEFI 2.10 section 10.3.4: messaging device path nodes (type 3) that hold addresses, by the first
# four bytes of the node: type, subtype, length
ADDRESS_NODES: Final = (b"\x03\x0b\x25\x00", b"\x03\x0c\x1b\x00", b"\x03\x0d\x3c\x00")


def find_json(document: object) -> Iterator[Found]:
    """Everything in the texts of a decoded document that is a secret or identifies somebody."""
    for key, text in _named_texts(document):
        kind = _kind(key)
        raw = _unhex(text) if key == "data" else None
        if raw is not None:
            yield from find_binary(raw)
        elif kind is not None and text.strip("x"):
            yield Found(kind, 0, len(text), text)
        else:
            yield from find(text)


def blank_json(data: bytes, blanker: Blanker) -> tuple[bytes | None, Counter[str]]:
    """A JSON object without them, and how many of what kind there were; None if it is none."""
    kinds: Counter[str] = Counter()

    def blank(key: str, text: str) -> str:
        raw = _unhex(text) if key == "data" else None
        if raw is not None:
            without, more = blanker.binary(without_addresses(raw))
            kinds.update(more)
            return without.hex()
        kind = _kind(key)
        if kind is not None and text.strip("x"):
            kinds[kind] += 1
            return "x" * len(text)
        without_text, more = blanker.text(text)
        kinds.update(more)
        return without_text

    document = decoded(data)
    if not isinstance(document, dict):
        return None, kinds
    result = _mapped(document, blank)
    return (data if result == document else encoded(result)), kinds


def depth_of(value: object) -> int:
    """How many objects and lists are inside each other, at most; without recursion."""
    depth, level = 0, [value]
    while level := [one for one in level if isinstance(one, dict | list)]:
        depth += 1
        level = [item for one in level for item in (one.values() if isinstance(one, dict) else one)]
    return depth


def without_addresses(data: bytes) -> bytes:
    """Without the addresses in device path nodes."""
    result = bytearray(data)
    for node in ADDRESS_NODES:
        at = data.find(node)
        while at >= 0:
            end = min(at + node[2], len(data))
            result[at + len(node) : end] = bytes(end - at - len(node))
            at = data.find(node, end)
    return bytes(result)


def decoded(data: bytes) -> object:
    """The value of a JSON text; None if it is none."""
    try:
        found: object = msgspec.json.decode(data)
    except (msgspec.DecodeError, RecursionError):
        return None
    return found


def encoded(value: object) -> bytes:
    """A value as JSON, indented, with a final newline."""
    return msgspec.json.format(msgspec.json.encode(value), indent=2) + b"\n"


def _kind(key: str) -> str | None:
    # InputEntry.key is the name of a file in the spec
    return None if key in {"key", "data"} else kind_of_name(key)


def _mapped(value: Any, change: Callable[[str, str], str], key: str = "") -> Any:  # noqa: ANN401
    if isinstance(value, str):
        return value if key == "schema" else change(key, value)
    if isinstance(value, dict):
        return {change("", name): _mapped(item, change, name) for name, item in value.items()}
    if isinstance(value, list):
        return [_mapped(item, change, key) for item in value]
    return value


def _named_texts(value: object, key: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(value, str):
        yield key, value
    elif isinstance(value, dict):
        for name, item in value.items():
            yield from _named_texts(item, name)
    elif isinstance(value, list):
        for item in value:
            yield from _named_texts(item, key)


def _unhex(text: str) -> bytes | None:
    try:
        return bytes.fromhex(text)
    except ValueError:
        return None
