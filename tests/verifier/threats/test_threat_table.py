"""docs/threats.md: what it names exists, and it leaves no reason out."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path
from typing import Final, NamedTuple

from mrtd.verifier.verdict import Reason

ROOT: Final = Path(__file__).resolve().parents[3]
VERIFIER: Final = ROOT / "mrtd" / "verifier"


class Row(NamedTuple):
    threat: str
    without: str
    check: str
    reason: Reason
    status: int
    module: str
    test: str


def _rows() -> list[Row]:
    found = []
    for line in (ROOT / "docs" / "threats.md").read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip("|").split(" | ")]
        if len(cells) != 6 or not cells[2].startswith("`"):
            continue
        threat, without, check, reason, module, test = (cell.strip(" |") for cell in cells)
        code, status = reason.removesuffix(")").split(" (")
        names = [name.strip("`") for name in (check, code, module, test)]
        found.append(
            Row(threat, without, names[0], Reason(names[1]), int(status), names[2], names[3])
        )
    return found


ROWS: Final = _rows()


@cache
def _texts() -> tuple[frozenset[str], frozenset[str], frozenset[str]]:
    """Texts of the verifier's code; how its composed texts begin; how they end."""
    whole, starts, ends = set(), set(), set()
    for path in VERIFIER.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_bytes())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                whole.add(node.value)
            elif isinstance(node, ast.JoinedStr):
                first, last = node.values[0], node.values[-1]
                if isinstance(first, ast.Constant):
                    starts.add(str(first.value))
                if isinstance(last, ast.Constant):
                    ends.add(str(last.value))
    return frozenset(whole), frozenset(starts), frozenset(ends)


@cache
def _tests_of(path: Path) -> frozenset[str]:
    tree = ast.parse(path.read_bytes())
    return frozenset(node.name for node in tree.body if isinstance(node, ast.FunctionDef))


def test_every_row_is_read() -> None:
    text = (ROOT / "docs" / "threats.md").read_text(encoding="utf-8")
    assert len(ROWS) == text.count("::test_") > 80


def test_every_reason_is_in_the_table() -> None:
    assert {row.reason for row in ROWS} == {*Reason}


def test_every_status_is_that_of_its_reason() -> None:
    assert [row for row in ROWS if row.status != row.reason.status] == []


def test_every_check_is_one_of_the_verifiers() -> None:
    whole, starts, ends = _texts()
    missing = []
    for name in {row.check for row in ROWS}:
        family, dot, _ = name.partition(".")
        ending = re.sub(r"^(mrtd|rtmr[0-2])", "", name)
        if name not in whole and not (dot and f"{family}." in starts) and ending not in ends:
            missing.append(name)
    assert missing == []


def test_every_module_is_there() -> None:
    assert {row.module for row in ROWS if not (VERIFIER / f"{row.module}.py").is_file()} == set()


def test_every_test_is_there() -> None:
    missing = [
        row.test
        for row in ROWS
        if row.test.partition("::")[2] not in _tests_of(ROOT / row.test.partition("::")[0])
    ]
    assert missing == []


def test_every_module_of_threats_is_named() -> None:
    """But for the vectors, which are about other languages, and this one."""
    named = {row.test.partition("::")[0] for row in ROWS}
    folder = Path(__file__).resolve().parent
    found = {str(path.relative_to(ROOT)) for path in folder.glob("test_*.py")}
    left_out = {path for path in found - named if "vectors" not in path and "table" not in path}
    assert left_out == set()
