"""ACPI blobs that may have been measured: from files, or asked of a QEMU for other machines."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path
from typing import Final

import msgspec
from msgspec.structs import replace

from mrtd.errors import MalformedAcpi, MrtdError
from mrtd.explain.findings import Change
from mrtd.explain.memory import shown_memory
from mrtd.firmware.acpi import (
    LOADER_FILE,
    RSDP_FILE,
    TABLES_FILE,
    TPM_LOG_FILE,
    derive_loader,
    derive_rsdp,
    measured_files,
)
from mrtd.launch.inputs import read_file
from mrtd.launch.spec import LaunchSpec
from mrtd.registers import Sha384
from mrtd.subject import Subject

_MAX_FILES: Final = 256
_PHYS_BITS: Final = (39, 40, 46, 48, 52)
_VCPUS: Final = (1, 2, 4, 8, 16, 32, 64)
_OPTIONS: Final = ("hpet", "smm", "pic", "vmport", "pit", "i8042")
_SUBJECTS: Final = {
    LOADER_FILE: Subject.ACPI_LOADER,
    RSDP_FILE: Subject.ACPI_RSDP,
    TPM_LOG_FILE: Subject.ACPI_TPM_LOG,
    TABLES_FILE: Subject.ACPI_TABLES,
}

AskQemu = Callable[[LaunchSpec], "Asked"]
"""Gives the fw_cfg files that a QEMU has for a machine. Raises `MrtdError`."""


class Asked(msgspec.Struct, frozen=True):
    """What a QEMU offers for a machine: its version and the fw_cfg files by name."""

    version: str
    files: dict[str, bytes]


class AcpiCandidate(msgspec.Struct, frozen=True):
    """ACPI blobs and where they come from.

    Attributes:
        digests: what each of the events measures.
        changes: what it means, such as ``tables of QEMU 10.1.0 with hpet=off``.
    """

    digests: dict[Subject, Sha384]
    changes: tuple[Change, ...]


def candidates_of_folder(folder: Path) -> tuple[AcpiCandidate, ...]:
    """Every ``etc/acpi/tables`` in a folder, at any depth; loader and RSDP follow from it.

    A file beside it with the same stem and the ending ``.loader`` or ``.rsdp`` counts instead.

    Raises:
        MalformedAcpi: no such file, or one that is none.
        SpecError: a file cannot be read.
    """
    paths = sorted(path for path in folder.rglob("*") if path.is_file())[: 3 * _MAX_FILES]
    tables = [path for path in paths if path.suffix not in {".loader", ".rsdp", ".md", ".txt"}]
    if not tables:
        raise MalformedAcpi(
            "no file", origin=str(folder), field="--acpi",
            hint="put copies of etc/acpi/tables there, named for what made them",
        )  # fmt: skip
    return tuple(_of_file(path, folder) for path in tables[:_MAX_FILES])


def _of_file(path: Path, folder: Path) -> AcpiCandidate:
    data, origin = read_file(path, key="--acpi"), str(path)
    loader, rsdp = path.with_suffix(".loader"), path.with_suffix(".rsdp")
    script = read_file(loader, key="--acpi") if loader.is_file() else None
    pointer = read_file(rsdp, key="--acpi") if rsdp.is_file() else None
    name = path.relative_to(folder)
    stem = name.with_suffix("") if name.suffix in {".tables", ".bin"} else name
    change = Change(
        "acpi", f"tables of {stem}", f'acpi.tables = "{name}"', "the machine is the one behind them"
    )
    digests = {
        Subject.ACPI_LOADER: Sha384.of(script or derive_loader(data, origin=origin)),
        Subject.ACPI_RSDP: Sha384.of(pointer or derive_rsdp(data, origin=origin)),
        Subject.ACPI_TABLES: Sha384.of(data),
    }
    return AcpiCandidate(digests, (change,))


def variants(spec: LaunchSpec) -> Iterator[tuple[LaunchSpec, Change]]:
    """Machines that differ from a spec's in one thing but memory, likeliest first."""
    machine = spec.machine
    for name, value in product(_OPTIONS, (True, False)):
        if machine.options.get(name) is not value:
            yield (
                _with(spec, options={**machine.options, name: value}),
                Change("machine_options", f"{name}={'on' if value else 'off'}",
                       f"machine.options.{name} = {str(value).lower()}"),
            )  # fmt: skip
    for bits in _PHYS_BITS:
        if bits != machine.phys_bits:
            change = Change("phys_bits", f"{bits} physical address bits",
                            f"machine.phys_bits = {bits}")  # fmt: skip
            yield _with(spec, phys_bits=bits), change
    for count in _VCPUS:
        if count != machine.vcpus:
            change = Change("vcpus", f"{count} vCPUs", f"machine.vcpus = {count}")
            yield _with(spec, vcpus=count), change
    for index, device in enumerate(machine.devices):
        rest = machine.devices[:index] + machine.devices[index + 1 :]
        yield _with(spec, devices=rest), Change("devices", f"without device {device!r}")


def candidates_of_qemu(spec: LaunchSpec, ask: AskQemu) -> Iterator[AcpiCandidate]:
    """What a QEMU offers for the spec's machine and for its variants.

    A machine that the QEMU refuses is left out; without any answer, nothing is given.
    """
    own = Change("acpi", "the spec's machine", "", "")
    for variant, change in ((spec, own), *variants(spec)):
        try:
            yield candidate_of_qemu(variant, change, ask)
        except MrtdError:
            continue


def candidate_of_qemu(spec: LaunchSpec, change: Change, ask: AskQemu) -> AcpiCandidate:
    """What a QEMU offers for one machine. Raises `MrtdError`."""
    asked = ask(spec)
    label = f"tables of QEMU {asked.version} with {change.text}"
    names = measured_files(asked.files[LOADER_FILE], origin=f"QEMU {LOADER_FILE}")
    digests = {
        _SUBJECTS[name]: Sha384.of(asked.files[name])
        for name in names
        if name in _SUBJECTS and name in asked.files
    }
    meaning = "the machine differs from the spec's"
    return AcpiCandidate(digests, (replace(change, text=label, meaning=meaning),))


def with_memory(spec: LaunchSpec, memory: int) -> LaunchSpec:
    """The spec with another memory size in bytes."""
    return _with(spec, memory=shown_memory(memory))


def _with(spec: LaunchSpec, **machine: object) -> LaunchSpec:
    return replace(spec, machine=replace(spec.machine, **machine))
