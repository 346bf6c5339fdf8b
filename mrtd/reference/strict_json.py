"""JSON without room for two readings: what a signature covers must mean one thing to everybody.

Refused: duplicate keys at any depth, a byte order mark, lone surrogates, fractions, NaN, integers
that some readers round, deep nesting, unknown and missing fields. Written: RFC 8785.
"""

from __future__ import annotations

import json
from typing import Any, Final, NoReturn, TypeVar

import msgspec

from mrtd.errors import MalformedStatement
from mrtd.reference.fields import INT_MAX
from mrtd.registers import SHA384_SIZE, Sha384

SIZE_LIMIT: Final = 16 << 20
DEPTH_LIMIT: Final = 64
_INT_DIGITS: Final = 17  # of INT_MAX, with a sign
_MESSAGE_LIMIT: Final = 300

T = TypeVar("T")


def read_json(data: bytes, *, origin: str, limit: int = SIZE_LIMIT) -> Any:  # noqa: ANN401
    """Objects, lists, texts, integers, booleans and nulls of a JSON text.

    Args:
        data: UTF-8.
        origin: what they are, for messages.
        limit: largest size, in bytes.

    Raises:
        MalformedStatement: see the module.
    """
    if len(data) > limit:
        raise MalformedStatement(f"{len(data)} bytes, more than {limit}", origin=origin)
    try:
        text = bytes(data).decode("utf-8")
        if text.startswith("\ufeff"):
            raise ValueError("starts with a byte order mark")  # noqa: TRY301 - one way out
        value = json.loads(
            text,
            object_pairs_hook=_object,
            parse_float=_fraction,
            parse_constant=_fraction,
            parse_int=_integer,
        )
        _check_depth_and_text(value)
    except RecursionError as error:
        raise MalformedStatement("nested too deeply", origin=origin) from error
    except ValueError as error:
        raise MalformedStatement(f"no strict JSON: {_shown(error)}", origin=origin) from error
    return value


def convert(value: object, kind: type[T], *, origin: str) -> T:
    """Make a document of what `read_json` gave. Raises `MalformedStatement`, naming the field."""
    try:
        return msgspec.convert(value, kind, dec_hook=_decode)
    except msgspec.ValidationError as error:
        message, _, path = _shown(error).partition(" - at `$")
        field = path.rstrip("`").lstrip(".") or None
        raise MalformedStatement(
            message,
            origin=origin,
            field=field,
            hint="docs/reference-values.md explains every field",
        ) from error
    except RecursionError as error:
        raise MalformedStatement("nested too deeply", origin=origin) from error


def canonical(value: object, *, origin: str) -> bytes:
    """RFC 8785 of a document or of parts of one.

    Raises:
        MalformedStatement: it holds what JSON has not.
    """
    import rfc8785  # noqa: PLC0415 - readers need no writer

    try:
        return rfc8785.dumps(msgspec.to_builtins(value, enc_hook=_encode))
    except RecursionError as error:
        raise MalformedStatement("nested too deeply", origin=origin) from error
    except (TypeError, ValueError, NotImplementedError, msgspec.MsgspecError) as error:
        raise MalformedStatement(f"cannot be JSON: {_shown(error)}", origin=origin) from error


def _object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found: dict[str, object] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"key {key[:100]!r} comes twice in one object")
        found[key] = value
    return found


def _fraction(text: str) -> NoReturn:
    raise ValueError(f"{text[:40]} is no integer")


def _integer(text: str) -> int:
    # the length first: int() of a million digits takes its time
    if len(text) > _INT_DIGITS or abs(value := int(text)) > INT_MAX:
        raise ValueError(f"{text[:40]} is beyond 2**53 - 1")
    if text == "-0":
        raise ValueError("-0 is no integer")
    return value


def _check_depth_and_text(value: object) -> None:
    level = [value]
    for _ in range(DEPTH_LIMIT + 1):
        if not level:
            return
        deeper: list[object] = []
        for item in level:
            if isinstance(item, dict):
                deeper += (*item, *item.values())
            elif isinstance(item, list):
                deeper += item
            elif isinstance(item, str):
                item.encode()  # a lone surrogate is a UnicodeEncodeError, so a ValueError
        level = deeper
    raise ValueError(f"nested deeper than {DEPTH_LIMIT}")


def _decode(kind: type, value: object) -> object:
    if kind is not Sha384:
        raise NotImplementedError(kind)
    if (
        not isinstance(value, str)
        or len(value) != 2 * SHA384_SIZE
        or not set(value) <= set("0123456789abcdef")
    ):
        raise ValueError("Expected 96 lower-case hex digits")
    return Sha384(bytes.fromhex(value))


def _encode(value: object) -> object:
    if isinstance(value, Sha384):
        return str(value)
    raise NotImplementedError(f"{type(value).__name__} in a document")


def _shown(error: Exception) -> str:
    """An error's text without what a terminal would act on: it may quote a stranger."""
    text = str(error)[:_MESSAGE_LIMIT]
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
