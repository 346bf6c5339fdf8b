"""The rules of the house (CONTRIBUTING.md), where a program can check them."""

from __future__ import annotations

import ast
import graphlib
import re
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).resolve().parents[1]
PACKAGES: Final = ("mrtd", "ci", "release", "fixtures", "tests")
MAX_LINES: Final = 400

# Imports point down, or stay in their layer without going round in a circle. What is not listed
# (derive, coverage, explain, qemu, verifier, ...) is in between.
BOTTOM: Final = ("errors", "printable", "process", "reader", "registers")
PARTS: Final = ("boot", "disk", "eventlog", "evidence", "firmware", "images", "launch", "reference")
TOP: Final = ("cli", "service")
# A control plane imports the verifier: it stays apart from what derives and launches.
VERIFIER_MAY_IMPORT: Final = {
    "errors", "evidence", "printable", "reader", "reference", "registers", "verifier",
}  # fmt: skip


def python_files(*folders: str) -> list[Path]:
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def for_annotations_only(tree: ast.AST) -> set[ast.AST]:
    """What stands under ``if TYPE_CHECKING:``."""
    return {
        inner
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }


def imported(path: Path, *, annotations: bool = True) -> Iterator[str]:
    """Full names of the modules and names that a file imports, also inside functions."""
    tree = ast.parse(path.read_bytes())
    skipped = set() if annotations else for_annotations_only(tree)
    name = module_name(path)
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    for node in set(ast.walk(tree)) - skipped:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1]
            base = ".".join(
                [*(above if node.level else []), *([node.module] if node.module else [])]
            )
            yield from (f"{base}.{alias.name}" for alias in node.names)


def within(name: str, package: str) -> bool:
    return name == package or name.startswith(f"{package}.")


def layer(part: str) -> int:
    for height, parts in ((0, BOTTOM), (1, PARTS), (3, TOP)):
        if part in parts:
            return height
    return 2


def library_imports(*, annotations: bool = True) -> dict[str, set[str]]:
    """Which part of ``mrtd`` imports which others."""
    graph: dict[str, set[str]] = {}
    for path in python_files("mrtd"):
        name = module_name(path)
        if name == "mrtd":
            continue  # re-exports
        part = name.split(".")[1]
        names = imported(path, annotations=annotations)
        targets = {target.split(".")[1] for target in names if target.startswith("mrtd.")}
        graph.setdefault(part, set()).update(targets - {part})
    return graph


def test_the_library_imports_nothing_else_of_this_project() -> None:
    wrong = [
        f"{module_name(path)} imports {target}"
        for path in python_files("mrtd")
        for target in imported(path)
        if target.partition(".")[0] in set(PACKAGES) - {"mrtd"}
    ]
    assert wrong == []


def test_imports_point_one_way() -> None:
    graph = library_imports()
    wrong = [
        f"mrtd.{part} imports mrtd.{target}"
        for part, targets in graph.items()
        for target in targets
        if layer(target) > layer(part) and target in {*graph}
    ]
    assert wrong == []
    # Two modules may name each other's types; to run, one must not need the other twice over.
    graphlib.TopologicalSorter(library_imports(annotations=False)).prepare()  # raises CycleError


def test_verifier_stays_apart() -> None:
    assert library_imports().get("verifier", set()) <= VERIFIER_MAY_IMPORT


def test_fixtures_share_no_code_with_the_parsers() -> None:
    shared = [
        f"{module_name(path)} imports {target}"
        for path in python_files("fixtures")
        for target in imported(path)
        if within(target, "mrtd")
    ]
    assert shared == []


def test_copyleft_libraries_stay_out_of_the_wheel() -> None:
    foreign = {"qemu", "virt", "virtfw", "dissect", "lief"}
    found = [
        f"{module_name(path)} imports {target}"
        for path in python_files("mrtd")
        for target in imported(path)
        if target.partition(".")[0] in foreign
    ]
    assert found == []


def test_modules_stay_readable() -> None:
    sizes = {
        str(path.relative_to(ROOT)): len(path.read_text(encoding="utf-8").splitlines())
        for path in python_files("benchmarks", "mrtd", "ci", "release", "fixtures")
    }
    assert {name: size for name, size in sizes.items() if size > MAX_LINES} == {}
    assert not [name for name in sizes if "util" in name]


def test_every_session_is_explained() -> None:
    sessions = [
        node
        for node in ast.parse((ROOT / "noxfile.py").read_bytes()).body
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("_")
    ]
    names = {session.name for session in sessions}
    assert {"measure", "tests", "lint", "types", "bench", "fuzz"} <= names
    assert [session.name for session in sessions if not ast.get_docstring(session)] == []


def test_ci_types_what_the_readme_says() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    commands = re.findall(r"^ *(python3 -m venv .*nox -s (?:measure|tests))$", readme, re.MULTILINE)
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert len(commands) == 2
    assert [command for command in commands if command not in script] == []


def test_changelog_says_who_must_measure_again() -> None:
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    entries = re.split(r"^## ", text, flags=re.MULTILINE)[1:]
    assert entries
    for entry in entries:
        assert len(re.findall(r"^\*\*Measurement impact:\*\* \S", entry, re.MULTILINE)) == 1, entry


def tracked_files() -> list[str]:
    try:
        listed = subprocess.run(
            ["git", "-c", f"safe.directory={ROOT}", "ls-files", "-z"],
            capture_output=True,
            check=True,
            cwd=ROOT,
            encoding="utf-8",
            timeout=60,
        )
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"not a git checkout: {error}")
    return [name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()]


def test_no_file_knows_the_machine_it_was_written_on() -> None:
    absolute = re.compile(rb"(?:^|[^A-Za-z0-9_./-])/(?:work|root|home/[a-z]+|farm)/")
    found = [name for name in tracked_files() if absolute.search((ROOT / name).read_bytes())]
    assert found == []


def test_lock_names_public_registries_only() -> None:
    text = (ROOT / "uv.lock").read_text(encoding="utf-8")
    hosts = set(re.findall(r"https?://([^/\"]+)", text))
    assert hosts == {"files.pythonhosted.org", "pypi.org"}
    locked = {package["name"] for package in tomllib.loads(text)["package"]}
    assert {"msgspec", "pytest", "ruff", "mypy"} <= locked


def test_actions_are_pinned() -> None:
    for path in (ROOT / ".github").rglob("*.yml"):
        for line in path.read_text(encoding="utf-8").splitlines():
            if "uses:" in line and "uses: ./" not in line:
                assert re.search(r"uses: \S+@[0-9a-f]{40} # v\d", line), f"{path.name}: {line}"
