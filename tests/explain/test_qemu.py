"""A QEMU is asked for other machines only where nothing else makes RTMR0 fit."""

from __future__ import annotations

from pathlib import Path

import pytest

from fixtures.acpi import build_tables
from mrtd.errors import ToolFailed
from mrtd.explain.acpi import Asked
from mrtd.explain.explanation import explain
from mrtd.firmware.acpi import (
    LOADER_FILE,
    RSDP_FILE,
    TABLES_FILE,
    derive_loader,
    derive_rsdp,
)
from mrtd.launch.spec import LaunchSpec
from tests.explain.test_changed_inputs import as_log
from tests.launches import Launch
from tests.sides import edited, known_of, spec_side, without_facts

_TABLES = build_tables(hpet=True)


def eight_vcpus_only(spec: LaunchSpec) -> Asked:
    """A QEMU that refuses every machine but that with eight vCPUs."""
    if spec.machine.vcpus != 8:
        raise ToolFailed("refused", origin="qemu")
    files = {
        LOADER_FILE: derive_loader(_TABLES, origin="x"),
        RSDP_FILE: derive_rsdp(_TABLES, origin="x"),
        TABLES_FILE: _TABLES,
    }
    return Asked("10.1.0", files)


@pytest.mark.parametrize("evidence", ["log", "quote"])
def test_tables_of_another_machine_are_found(evidence: str, tmp_path: Path) -> None:
    expected, known = known_of(edited(tmp_path / "a", Launch()))
    real = spec_side(edited(tmp_path / "b", Launch(files={"acpi_tables.bin": _TABLES})))
    observed = as_log(real, tmp_path) if evidence == "log" else without_facts(real)
    found = explain(observed, expected, known=known, ask=eight_vcpus_only)
    assert found.explained
    assert [c.text for c in found.changes] == ["tables of QEMU 10.1.0 with 8 vCPUs"]
    assert [c.setting for c in found.changes] == ["machine.vcpus = 8"]


def test_nobody_is_asked_where_memory_alone_explains_it(tmp_path: Path) -> None:
    def never(_: LaunchSpec) -> Asked:
        raise AssertionError

    expected, known = known_of(edited(tmp_path / "a", Launch()))
    observed = spec_side(edited(tmp_path / "b", Launch(), '"2 GiB"', '"4 GiB"'))
    assert explain(without_facts(observed), expected, known=known, ask=never).explained
