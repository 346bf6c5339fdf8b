"""docs/launching.md says what the code does and what the tests have run."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from ci.outcome import REMEDIES, Outcome
from ci.payload import CHANNEL_DEVICES
from ci.progress import Stage

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "docs/launching.md").read_text(encoding="utf-8")
TESTS = ROOT / "tests/ci"
REAL_MARKS = {"pytest.mark.boot", "pytest.mark.qemu"}


def table(header: str) -> list[list[str]]:
    rows = TEXT.partition(header)[2].splitlines()[2:]
    end = next(index for index, line in enumerate(rows) if not line.startswith("|"))
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows[:end]]


FAILURES = table("| code | evidence | remedy | seen |")
PATHS = table("| path | ran | test |")


def functions(path: Path) -> dict[str, tuple[ast.FunctionDef, bool]]:
    """Functions of a test module by name, and whether each runs something real."""
    tree = ast.parse(path.read_bytes())
    marked = {
        ast.unparse(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "pytestmark"
    }
    found = {}
    for node in tree.body:
        if isinstance(node, ast.FunctionDef):
            marks = marked | {ast.unparse(decorator) for decorator in node.decorator_list}
            found[node.name] = (node, bool(marks & REAL_MARKS))
    return found


def seen_for_real() -> set[str]:
    """Outcomes that a test which runs something real expects."""
    names = set()
    for path in TESTS.glob("test_*.py"):
        for node, real in functions(path).values():
            if real:
                names |= set(re.findall(r"Outcome\.([A-Z_]+)", ast.unparse(node)))
    return {Outcome[name].value for name in names}


def test_every_failure_is_in_the_docs() -> None:
    codes = [code.strip("`") for code, *_ in FAILURES]
    assert codes == [code.value for code in Outcome if code is not Outcome.UNKNOWN]
    for code, evidence, remedy, _ in FAILURES:
        assert evidence
        assert remedy == REMEDIES[Outcome(code.strip("`"))]


def test_what_was_seen_for_real_was() -> None:
    claimed = {code.strip("`") for code, _, _, seen in FAILURES if seen == "real"}
    assert claimed == seen_for_real()
    assert {seen for *_, seen in FAILURES} == {"real", "fake"}


@pytest.mark.parametrize(("path", "ran", "test"), PATHS, ids=[row[0] for row in PATHS])
def test_what_has_run_has(path: str, ran: str, test: str) -> None:
    if ran == "not run":
        assert "::" not in test, path
        return
    file, _, name = test.partition("::")
    node, real = functions(TESTS / file)[name]
    assert real is (ran == "real"), path
    assert node.name.startswith("test_")


def test_stages_and_devices_are_named() -> None:
    assert ", ".join(f"`{stage}`" for stage in Stage) in TEXT.replace("\n", " ")
    for device in CHANNEL_DEVICES:
        assert f'"{device}",' in TEXT
