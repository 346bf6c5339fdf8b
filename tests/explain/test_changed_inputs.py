"""One input of a launch is changed: compare names it, explain finds it."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pytest

from fixtures.acpi import build_tables
from fixtures.bzimage import build_bzimage
from mrtd.compare import DIFFERENCES, Comparison, compare_sides
from mrtd.explain.acpi import candidates_of_folder
from mrtd.explain.explanation import explain
from mrtd.explain.findings import FindingKind
from mrtd.side import Side
from mrtd.sources import load_side
from tests.launches import Launch
from tests.sides import ccel, edited, known_of, spec_side, without_facts

# name: (launch, old and new text of its spec, what compare names, what explain finds)
MRTD_ONLY = "page_order"  # a log has no MRTD
CASES: Final[dict[str, tuple[Launch, str, str, str, str | None]]] = {
    "memory": (Launch(), '"2 GiB"', '"4 GiB"', "memory", "4 GiB of memory"),
    "page order": (
        Launch(), 'version = "10.1.0"', 'version = "10.1.0"\npage_order = "two-pass"',
        "page_order", "two-pass page order",
    ),
    "header": (
        Launch(boot='kernel_header = "patched"'), "", "", "header_patch",
        "kernel setup header patched by QEMU",
    ),
    "trailing space": (
        Launch(), "console=ttyS0", "console=ttyS0 ", "cmdline", "with a trailing space",
    ),
    "quotes": (Launch(), '"console=ttyS0"', "'\"console=ttyS0\"'", "cmdline", "in quotes"),
    "no initrd": (Launch(), 'initrd = "initrd.img"\n', "", "initrd", "no initrd"),
    "other initrd": (Launch(files={"initrd.img": b"another\n"}), "", "", "initrd", None),
    "other kernel": (
        Launch(files={"vmlinuz": build_bzimage(trailing=b"another kernel.!")}),
        "", "", "kernel", None,
    ),
    "acpi tables": (
        Launch(files={"acpi_tables.bin": build_tables(hpet=True)}), "", "", "acpi", None,
    ),
    "older firmware": (
        Launch(firmware='profile = "edk2-202302"', boot='kernel_header = "plain"'), "", "",
        "profile", "firmware profile edk2-202302",
    ),
    "Secure Boot off": (
        Launch(firmware='profile = "edk2-202502"\nsecure_boot = true'), "", "", "variables",
        "SecureBoot off",
    ),
}  # fmt: skip


def named(comparison: Comparison) -> set[str]:
    codes = {d.code for register in comparison.registers for d in register.depends}
    rows = [row for register in comparison.registers for row in register.rows]
    return codes | {d.code for row in rows for d in row.depends[:1]}


def test_the_case_without_change_matches(tmp_path: Path) -> None:
    expected = spec_side(edited(tmp_path / "a", Launch()))
    assert compare_sides(expected, spec_side(edited(tmp_path / "b", Launch()))).matches


@pytest.mark.parametrize("case", CASES)
def test_compare_names_the_changed_input(case: str, tmp_path: Path) -> None:
    launch, old, new, code, _ = CASES[case]
    expected = spec_side(edited(tmp_path / "a", Launch()))
    observed = spec_side(edited(tmp_path / "b", launch, old, new))
    comparison = compare_sides(expected, observed)
    assert not comparison.matches
    assert named(comparison) == {code}


@pytest.mark.parametrize("case", [name for name, row in CASES.items() if row[3] != MRTD_ONLY])
def test_an_observed_log_names_the_input_among_those_that_it_can_be(
    case: str, tmp_path: Path
) -> None:
    launch, old, new, code, _ = CASES[case]
    expected = spec_side(edited(tmp_path / "a", Launch()))
    observed = as_log(spec_side(edited(tmp_path / "b", launch, old, new)), tmp_path)
    comparison = compare_sides(expected, observed)
    differing = [row for r in comparison.registers for row in r.rows if row.outcome in DIFFERENCES]
    assert differing
    assert code in {d.code for row in differing for d in row.depends}


@pytest.mark.parametrize(
    ("case", "evidence"),
    [
        (name, evidence)
        for name, row in CASES.items()
        for evidence in ("log", "quote")
        if row[4] and (evidence, row[3]) != ("log", MRTD_ONLY)
    ],
)
def test_explain_finds_the_hypothesis(case: str, evidence: str, tmp_path: Path) -> None:
    launch, old, new, _, text = CASES[case]
    expected, known = known_of(edited(tmp_path / "a", Launch()))
    real = spec_side(edited(tmp_path / "b", launch, old, new))
    observed = as_log(real, tmp_path) if evidence == "log" else without_facts(real)
    found = explain(observed, expected, known=known)
    assert found.explained, [f.text for f in found.findings]
    assert any(str(text) in change.text for change in found.changes), found.changes
    assert found.tried > 0


def test_what_nobody_can_guess_is_left_unexplained_with_a_next_step(tmp_path: Path) -> None:
    launch = CASES["other initrd"][0]
    expected, known = known_of(edited(tmp_path / "a", Launch()))
    real = spec_side(edited(tmp_path / "b", launch))
    for observed in (as_log(real, tmp_path), without_facts(real)):
        found = explain(observed, expected, known=known)
        assert not found.explained
        failed = [f for f in found.findings if f.kind is FindingKind.UNEXPLAINED]
        assert {str(f.register) for f in failed} == {"rtmr2"}
        assert any("initrd" in step for step in found.next_steps)


def test_supplied_acpi_tables_are_tried_by_name(tmp_path: Path) -> None:
    expected, known = known_of(edited(tmp_path / "a", Launch()))
    tables = build_tables(hpet=True)
    real = spec_side(edited(tmp_path / "b", Launch(files={"acpi_tables.bin": tables})))
    folder = tmp_path / "acpi"
    folder.mkdir()
    (folder / "qemu-10.1-hpet.tables").write_bytes(tables)
    acpi = candidates_of_folder(folder)
    from msgspec.structs import replace

    for observed in (as_log(real, tmp_path), without_facts(real)):
        found = explain(observed, expected, known=replace(known, acpi=acpi), acpi=acpi)
        assert found.explained
        assert [change.text for change in found.changes] == ["tables of qemu-10.1-hpet"]


def test_two_changes_are_found_together(tmp_path: Path) -> None:
    expected, known = known_of(edited(tmp_path / "a", Launch()))
    launch = Launch(firmware='profile = "edk2-202302"', boot='kernel_header = "plain"')
    real = spec_side(edited(tmp_path / "b", launch, '"2 GiB"', '"6 GiB"'))
    for observed in (as_log(real, tmp_path), without_facts(real)):
        found = explain(observed, expected, known=known)
        assert found.explained
        assert {change.code for change in found.changes} == {"memory", "profile"}


def as_log(side: Side, folder: Path) -> Side:
    assert side.log is not None
    path = folder / "CCEL"
    path.write_bytes(ccel(side.log))
    return load_side(path)
