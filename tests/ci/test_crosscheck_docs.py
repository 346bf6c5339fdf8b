"""What docs/crosscheck.md says has run: its table is made here, from the tests and their marks."""

from __future__ import annotations

import argparse
import ast
import re
from dataclasses import dataclass
from typing import Final

import pytest

from ci import __main__ as command_line
from ci.appraisal import Refusal
from tests.conftest import ROOT

PAGE: Final = ROOT / "docs" / "crosscheck.md"
FOLDER: Final = ROOT / "tests" / "ci"
REAL: Final = frozenset({"boot", "qemu"})
NEEDS_TDX: Final = "needs TDX hardware"
NEEDS_KEY: Final = "needs an API key"


@dataclass(frozen=True, slots=True)
class Way:
    """One way through the jobs: the test that takes it, or why nobody does."""

    what: str
    test: str | None
    instead: str = ""


WAYS: Final = (
    Way("plain mode: derive, boot (TCG, swtpm), compare, result documents",
        "test_crosscheck.py::test_the_example_is_what_was_derived"),
    Way("plain mode, firmware 2026.08: no event is left unpredicted",
        "test_crosscheck.py::test_firmware_of_2026_leaves_nothing_unpredicted"),
    Way("plain mode: other command line, other initrd",
        "test_crosscheck.py::test_another_command_line_is_explained"),
    Way("plain mode under KVM", None, "no KVM that runs OVMF was at hand"),
    Way("TDX mode up to what QEMU says on a host without TDX",
        "test_crosscheck.py::test_a_host_without_tdx_says_so"),
    Way("TDX mode, TD launched", None, NEEDS_TDX),
    Way("TDX mode, the guest's agent played by a test",
        "test_crosscheck.py::test_a_td_is_launched"),
    Way("TDX evidence of a real TD (Google's): quote == replay, and what differs explained",
        "test_crosscheck.py::test_evidence_of_a_real_td"),
    Way("TDX evidence: quote == replay, registers, DCAP (private root)",
        "test_crosscheck.py::test_the_verb_with_evidence_of_a_td"),
    Way("TDX evidence: DCAP with Intel's root and collateral", None, NEEDS_TDX),
    Way("Intel Trust Authority, the real service", None, NEEDS_KEY),
    Way("Intel Trust Authority, a double with the same checks of the token",
        "test_challenge.py::test_a_genuine_answer_with_a_token"),
    Way("challenge, respond (launch played), appraise, hash again",
        "test_challenge.py::test_from_the_challenge_to_the_signing_job"),
    Way("challenge and answer on a TDX runner", None, NEEDS_TDX),
)  # fmt: skip


def marks_of(test: str) -> set[str]:
    """The marks of a test, read from its source; fails if there is no such test."""
    file, _, name = test.partition("::")
    for node in ast.parse((FOLDER / file).read_bytes()).body:
        if isinstance(node, ast.FunctionDef) and node.name == name:
            found = (re.search(r"mark\.(\w+)", ast.unparse(d)) for d in node.decorator_list)
            return {match[1] for match in found if match}
    pytest.fail(f"there is no test {test}")


def table() -> str:
    rows = ["| way | ran | by |", "|---|---|---|"]
    for way in WAYS:
        if way.test is None:
            rows.append(f"| {way.what} | **never** | {way.instead} |")
            continue
        marks = marks_of(way.test)
        how = "for real" if marks & REAL else "with doubles"
        how = "real evidence" if way.test.endswith("of_a_real_td") else how
        rows.append(f"| {way.what} | {how} | `{way.test.partition('::')[2]}` |")
    return "\n".join(rows) + "\n"


def test_the_table_is_what_the_tests_run() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert table() in text, f"belongs into {PAGE.name}:\n{table()}"


def test_every_reason_is_explained() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert [reason for reason in Refusal if f"`{reason}`" not in text] == []


@pytest.mark.parametrize("verb", ["crosscheck", "challenge", "respond", "appraise"])
def test_options_in_the_page_exist(verb: str) -> None:
    text = PAGE.read_text(encoding="utf-8")
    commands = re.findall(rf"python -m ci {verb}((?:[^\n\\]|\\\n)*)", text)
    assert commands
    parser = command_line.parser(verb)
    action = next(a for a in parser._actions if isinstance(a, argparse._SubParsersAction))
    known = {option for a in action.choices[verb]._actions for option in a.option_strings}
    used = {option for command in commands for option in re.findall(r"--[a-z0-9-]+", command)}
    assert used - known == set()


def test_no_page_is_missing_a_module() -> None:
    names = {path.name for path in (ROOT / "ci").glob("*.py")}
    text = PAGE.read_text(encoding="utf-8")
    mentioned = set(re.findall(r"(?<!tests/)\bci/(\w+\.py)", text))
    assert mentioned
    assert mentioned <= names
