"""Shapes: one launch on machines of several sizes, as launch specs.

LaunchSpec + axes --shapes--> Shape(name, settings, LaunchSpec), each combination once
"""

from __future__ import annotations

import itertools
import os
import re
from pathlib import Path
from typing import Any, Final

import msgspec

from mrtd.errors import SpecError
from mrtd.launch.size import format_bytes, memory_bytes
from mrtd.launch.spec import Acpi, LaunchSpec, Smbios, check_spec
from mrtd.launches import is_name, shape_of

SHAPE_LIMIT: Final = 1024
"""More launches than that fit no statement (`mrtd.reference.SUBJECT_LIMIT` has two for each)."""
VCPUS: Final = "machine.vcpus"
MEMORY: Final = "machine.memory"
# What a host chooses for the same image; files and command line make another launch.
_KEYS: Final = re.compile(
    r"machine\.(type|vcpus|memory|cpu|phys_bits|processor_id|options\.[A-Za-z0-9_-]{1,64})"
    r"|vmm\.(version|page_order)"
)
_NOT_NAME: Final = re.compile("[^A-Za-z0-9._+~:@-]+")
_NUMBERS: Final = (VCPUS, "machine.phys_bits")
_NUMBER: Final = re.compile("[0-9]{1,9}")
_BLOBS: Final = ("tables", "rsdp", "loader")
SMBIOS_BLOB: Final = "smbios"


class Axis(msgspec.Struct, frozen=True):
    """A key of the launch spec and the values that it takes, as people write them."""

    key: str
    values: tuple[str, ...]


class Shape(msgspec.Struct, frozen=True):
    """A launch on one machine.

    Attributes:
        name: of the launch in the reference-values document.
        settings: the value of each axis, by its key.
        spec: the launch spec of this machine.
    """

    name: str
    settings: dict[str, str]
    spec: LaunchSpec


def shapes(spec: LaunchSpec, axes: tuple[Axis, ...], *, origin: str) -> tuple[Shape, ...]:
    """Every combination of the axes' values, the first axis slowest.

    Raises:
        SpecError: a key that no shape has, a value that the spec does not take, the same shape
            twice, or more than `SHAPE_LIMIT`.
    """
    _check_axes(axes)
    fields = msgspec.to_builtins(spec)
    found: dict[str, Shape] = {}
    for values in itertools.product(*(axis.values for axis in axes)):
        settings = {
            axis.key: _one_spelling(axis.key, value, origin)
            for axis, value in zip(axes, values, strict=True)
        }
        changed = _changed(fields, settings, origin)
        name = _name(changed, settings)
        if name in found or any(shape.spec == changed for shape in found.values()):
            raise SpecError(
                f"{name} is described twice", origin=origin, field=", ".join(settings) or "axes"
            )
        found[name] = Shape(name, settings, changed)
    return tuple(found.values())


def with_blobs(shape: Shape, blobs: Path, folder: Path) -> Shape:
    """The shape with the ACPI and SMBIOS blobs that lie in a folder of its name.

    Args:
        shape: the shape.
        blobs: the folder with a folder for each shape: ``tables``, and where they are not
            derived ``rsdp``, ``loader`` and ``smbios``.
        folder: what the paths of the spec are relative to.

    Raises:
        SpecError: there are no ``tables`` for it.
    """
    place = blobs / shape.name
    if not (place / "tables").is_file():
        raise SpecError(
            f"has no {shape.name}/tables",
            origin=str(blobs),
            field="--acpi",
            hint="mrtd matrix --save-acpi writes such a folder",
        )

    def path(name: str) -> str | None:
        file = place / name
        return os.path.relpath(file, folder) if file.is_file() else None

    acpi = Acpi(**{name: path(name) for name in _BLOBS})
    smbios = Smbios(measured=path(SMBIOS_BLOB) or shape.spec.smbios.measured)
    spec = msgspec.structs.replace(shape.spec, acpi=acpi, smbios=smbios)
    return msgspec.structs.replace(shape, spec=spec)


def _check_axes(axes: tuple[Axis, ...]) -> None:
    total = 1
    for index, axis in enumerate(axes):
        total *= len(axis.values)
        if _KEYS.fullmatch(axis.key) is None:
            raise SpecError(
                "is no key that a shape has", origin="shapes", field=axis.key[:100],
                hint="machine.type, .vcpus, .memory, .cpu, .phys_bits, .processor_id, "
                ".options.NAME, vmm.version, vmm.page_order",
            )  # fmt: skip
        if axis.key in [other.key for other in axes[:index]]:
            raise SpecError("is given twice", origin="shapes", field=axis.key)
        if not axis.values:
            raise SpecError("has no value", origin="shapes", field=axis.key)
    if total > SHAPE_LIMIT:
        raise SpecError(f"{total} shapes are more than {SHAPE_LIMIT}", origin="shapes")


def _changed(fields: dict[str, Any], settings: dict[str, str], origin: str) -> LaunchSpec:
    """The spec with the settings in place of its own values."""
    changed: dict[str, Any] = fields
    for key, value in settings.items():
        number = key in _NUMBERS and _NUMBER.fullmatch(value)
        changed = _set(changed, key.split(".", 2), int(value) if number else value)
    try:
        spec = msgspec.convert(changed, LaunchSpec)
    except msgspec.ValidationError as error:
        raise SpecError(
            f"{error} (of {', '.join(f'{k} = {v}' for k, v in settings.items())})",
            origin=origin,
            hint="docs/launch-spec.md lists every key",
        ) from error
    check_spec(spec, origin=origin)
    return spec


def _one_spelling(key: str, value: str, origin: str) -> str:
    """Sizes are called the same, however they are written."""
    if key != MEMORY:
        return value
    return format_bytes(memory_bytes(value, origin=origin, field=key))


def _set(fields: dict[str, Any], path: list[str], value: str | int) -> dict[str, Any]:
    head, *rest = path
    return {**fields, head: _set(fields.get(head) or {}, rest, value) if rest else value}


def _name(spec: LaunchSpec, settings: dict[str, str]) -> str:
    """Machine, vCPUs and memory, and what else is set."""
    said = ("machine.type", VCPUS, MEMORY)
    others = [
        f"{key.rpartition('.')[2]}-{value}" for key, value in settings.items() if key not in said
    ]
    name = _NOT_NAME.sub("-", "-".join([shape_of(spec), *others]))
    if not is_name(name):
        raise SpecError(f"{name[:100]!r} is no name of a shape", origin="shapes")
    return name
