"""docs/policy.md says of every setting what the code says."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, Final, get_type_hints

import msgspec
import pytest

from ci.schema import FOLDER, schema_text
from mrtd.evidence.tcb import TcbStatus
from mrtd.verifier.policy import IdentityPolicy, Policy
from mrtd.verifier.settings import FILE_VARIABLE, VARIABLES, policy_from_environment, read_policy

ROOT: Final = Path(__file__).resolve().parents[2]
PAGE: Final = (ROOT / "docs/policy.md").read_text(encoding="utf-8")
TOML: Final = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)
REQUIRED: Final = {"repository_id", "owner_id"}
VARIABLE_OF: Final = {(section, field): name for name, (section, field, _) in VARIABLES.items()}


def sections() -> dict[str, Any]:
    """Sections by name, the top level as "", with their default."""
    policy = Policy(identity=IdentityPolicy(repository_id="1", owner_id="1"))
    found: dict[str, Any] = {"": policy}
    for name in get_type_hints(Policy):
        if isinstance(getattr(policy, name), msgspec.Struct):
            found[name] = getattr(policy, name)
    return found


def settings(value: Any, prefix: str = "") -> dict[str, Any]:
    """Settings of a section by name, with dots for inner tables, and their defaults."""
    found: dict[str, Any] = {}
    for name in value.__struct_fields__:
        inner = getattr(value, name)
        if not isinstance(inner, msgspec.Struct):
            found[prefix + name] = inner
        elif not isinstance(value, Policy):
            found |= settings(inner, f"{prefix}{name}.")
    return found


def rows(section: str) -> dict[str, list[str]]:
    """Rows of a section's table by setting."""
    title = f"## `[{section}]`" if section else "## Top level"
    (text,) = [part for part in PAGE.split("\n## ") if f"## {part}".startswith(title)]
    lines = [line for line in text.splitlines() if line.startswith("| `")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return {row[0].strip("`"): row for row in cells}


def shown(name: str, value: Any) -> str:
    """A default as the page writes it."""
    if name in REQUIRED:
        return "required"
    return "none" if value is None else f"`{json.dumps(value)}`"


@pytest.mark.parametrize("section", [*sections()])
def test_every_setting_is_there_with_its_default_and_variable(section: str) -> None:
    wanted = {
        name: (shown(name, value), f"`{variable}`" if variable else "")
        for name, value in settings(sections()[section]).items()
        for variable in [VARIABLE_OF.get((section, name))]
    }
    assert {name: (row[2], row[3]) for name, row in rows(section).items()} == wanted
    assert [name for name, row in rows(section).items() if not (row[1] and row[4])] == []


def test_every_variable_is_there() -> None:
    assert [name for name in (*VARIABLES, FILE_VARIABLE) if f"`{name}`" not in PAGE] == []


def test_no_other_variables_are_there() -> None:
    named = set(re.findall(r"`(DD_(?:TRUSTED|ITA)_\w+)`", PAGE))
    assert named - {"DD_TRUSTED_"} == {*VARIABLES, FILE_VARIABLE}


def test_every_tcb_status_is_there() -> None:
    assert [status for status in TcbStatus if not re.search(rf"\b{status}\b", PAGE)] == []


def test_the_examples_are_policies() -> None:
    minimal, whole = (read_policy(text) for text in TOML)
    assert minimal == Policy(identity=IdentityPolicy(repository_id="1000001", owner_id="2000002"))
    assert whole.release.minimum_sequence == 412
    assert {name for name, value in sections().items() if name and f"[{name}]" in TOML[1]} == {
        *sections()
    } - {""}


def test_the_minimal_one_is_two_variables() -> None:
    ids = {"DD_TRUSTED_REPO_ID": "1000001", "DD_TRUSTED_OWNER_ID": "2000002"}
    assert policy_from_environment(ids) == read_policy(TOML[0])


def test_the_published_schema_is_that_of_the_code() -> None:
    text = (FOLDER / "policy.schema.json").read_text(encoding="utf-8")
    assert text == schema_text(Policy)
    assert "(?!" not in text  # readers of schemas in Go and Rust would refuse it
