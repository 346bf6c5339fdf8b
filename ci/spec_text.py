"""A launch spec as the text of a ``launch.toml``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

import msgspec
from msgspec.structs import replace

from mrtd.launch.spec import DirectBoot, LaunchSpec, PayloadBoot

_DEFAULTS: Final[tuple[object, ...]] = ({}, [], None)


def spec_text(spec: LaunchSpec) -> str:
    """The text that `mrtd.launch.spec.read_spec` reads as this spec."""
    tables = {
        name: value
        for name, value in msgspec.to_builtins(spec).items()
        if value not in _DEFAULTS and name != "disks"
    }
    lines = [f"schema = {_value(tables.pop('schema'))}"]
    for name, table in tables.items():
        if pairs := _pairs(table):
            lines += ["", f"[{name}]", *pairs]
    for disk in spec.disks:
        lines += ["", "[[disks]]", *_pairs(msgspec.to_builtins(disk))]
    return "\n".join([*lines, ""])


def absolute(spec: LaunchSpec, folder: Path) -> LaunchSpec:
    """The spec with absolute paths, which may be written into any folder."""

    def at(path: str | None) -> str | None:
        return None if path is None else str((folder / path).absolute())

    boot = spec.boot
    if isinstance(boot, DirectBoot):
        boot = replace(boot, kernel=at(boot.kernel), initrd=at(boot.initrd))
    elif isinstance(boot, PayloadBoot):
        boot = replace(boot, payload=at(boot.payload))
    acpi = spec.acpi
    return replace(
        spec,
        firmware=replace(spec.firmware, path=at(spec.firmware.path), vars=at(spec.firmware.vars)),
        acpi=replace(acpi, tables=at(acpi.tables), rsdp=at(acpi.rsdp), loader=at(acpi.loader)),
        smbios=replace(spec.smbios, measured=at(spec.smbios.measured)),
        disks=tuple(replace(disk, path=at(disk.path)) for disk in spec.disks),
        boot=boot,
    )


def _pairs(table: dict[str, Any]) -> list[str]:
    return [
        f"{_key(name)} = {_value(value)}" for name, value in table.items() if value not in _DEFAULTS
    ]


def _key(name: str) -> str:
    return name if name.replace("_", "").isalnum() and name.isascii() else _value(name)


def _value(value: object) -> str:
    """A value in TOML, whose strings are JSON's (but for DEL, which a spec may not have)."""
    if isinstance(value, dict):
        pairs = ", ".join(f"{_key(name)} = {_value(each)}" for name, each in value.items())
        return f"{{ {pairs} }}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_value, value))}]"
    return json.dumps(value, ensure_ascii=False)
