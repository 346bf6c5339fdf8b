"""A launch spec as TOML: what `mrtd.launch.spec.read_spec` reads back to the same spec.

Source: TOML 1.0 (basic strings, arrays, inline tables, arrays of tables). Only what a spec holds is
written: texts, numbers, booleans, lists and tables of them; what has its default is left out.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

import msgspec

from mrtd.launch.spec import LaunchSpec

_BARE_KEY: Final = re.compile(r"[A-Za-z0-9_-]+")
_ESCAPES: Final = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\t": "\\t", "\r": "\\r"}
_LINE: Final = 100


def write_spec(spec: LaunchSpec) -> str:
    """The spec as TOML."""
    fields: dict[str, Any] = _without_defaults(msgspec.to_builtins(spec), spec)
    lines = [f"schema = {_value(fields.pop('schema'))}"]
    for name, value in fields.items():
        lines += _tables(name, value)
    return "\n".join(lines) + "\n"


def _without_defaults(fields: dict[str, Any], struct: msgspec.Struct) -> dict[str, Any]:
    """The fields of a table, and of the tables in it, that do not have their default."""
    kept = dict(fields)
    for field in msgspec.structs.fields(struct):
        own = getattr(struct, field.name)
        default = field.default
        if field.default_factory is not msgspec.NODEFAULT:
            default = field.default_factory()
        if own == default:
            del kept[field.encode_name]
        elif isinstance(own, msgspec.Struct):
            kept[field.encode_name] = _without_defaults(fields[field.encode_name], own)
        elif isinstance(own, tuple) and own and isinstance(own[0], msgspec.Struct):
            items = zip(fields[field.encode_name], own, strict=True)
            kept[field.encode_name] = [_without_defaults(item, table) for item, table in items]
    return kept


def _tables(path: str, value: object) -> Iterator[str]:
    """A top-level table, or an array of tables, with the tables below it."""
    if isinstance(value, Mapping):
        yield from ("", f"[{path}]")
        yield from _body(path, value)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from ("", f"[[{path}]]")
            yield from _body(path, item)


def _body(path: str, table: Mapping[str, object]) -> Iterator[str]:
    later: list[tuple[str, object]] = []
    for name, value in table.items():
        if isinstance(value, (list, tuple)) and value and isinstance(value[0], Mapping):
            later.append((name, value))
        else:
            yield f"{_key(name)} = {_value(value)}"
    for name, value in later:
        yield from _tables(f"{path}.{_key(name)}", value)


def _value(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, Mapping):
        return f"{{ {', '.join(f'{_key(k)} = {_value(v)}' for k, v in value.items())} }}"
    if isinstance(value, (list, tuple)):
        items = [_value(item) for item in value]
        line = f"[{', '.join(items)}]"
        return line if len(line) < _LINE else "[\n" + "".join(f"  {i},\n" for i in items) + "]"
    return _text(str(value))


def _key(name: str) -> str:
    return name if _BARE_KEY.fullmatch(name) else _text(name)


def _text(text: str) -> str:
    """A literal string where it needs no escapes anyway, such as JSON; otherwise a basic one."""
    if '"' in text and "'" not in text and text.isprintable():
        return f"'{text}'"
    return '"' + "".join(_ESCAPES.get(c, c if c.isprintable() else _escape(c)) for c in text) + '"'


def _escape(character: str) -> str:
    code = ord(character)
    return f"\\u{code:04x}" if code < 1 << 16 else f"\\U{code:08x}"
