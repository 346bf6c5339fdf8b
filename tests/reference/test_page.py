"""docs/reference-values.md and the schemas say what the code does."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, Final

import pytest

from ci.schema import FOLDER, SCHEMAS, schema_text
from fixtures.reference import LAUNCH_PREFIX, REVOCATIONS_PREFIX, sha256
from mrtd.reference import (
    PAYLOAD_TYPE,
    PREDICATE_TYPE,
    STATEMENT_TYPE,
    SUBJECT_NAMES,
    launch_bytes,
    read_reference_values,
    revocations_digest,
)
from mrtd.registers import Sha384

PAGE: Final = (Path(__file__).parents[2] / "docs" / "reference-values.md").read_text("utf-8")
NAMES: Final = ("reference.schema.json", "result.schema.json")


def words(schema: Any) -> set[str]:
    """Names of fields, and values of enumerations (but for names of registers)."""
    found: set[str] = set()
    if isinstance(schema, dict):
        found |= {*schema.get("properties", {})}
        found |= {v for v in schema.get("enum", ()) if not re.fullmatch("pcr[0-9]+|rtmr3", v)}
    for inner in schema.values() if isinstance(schema, dict) else schema:
        if isinstance(inner, dict | list):
            found |= words(inner)
    return found


@pytest.mark.parametrize("name", NAMES)
def test_page_names_every_field_and_value(name: str) -> None:
    named = set(re.findall(r"`\"?([^`\"\n]+)\"?`", PAGE))
    assert words(json.loads((FOLDER / name).read_text("utf-8"))) - named == set()


@pytest.mark.parametrize("name", NAMES)
def test_schemas_are_current(name: str) -> None:
    text = (FOLDER / name).read_text("utf-8")
    assert text == schema_text(SCHEMAS[name])
    assert "(?!" not in text  # RE2, so Go's and Rust's readers of schemas, would refuse it


def test_page_has_the_constants() -> None:
    for constant in (PAYLOAD_TYPE, PREDICATE_TYPE, STATEMENT_TYPE, *SUBJECT_NAMES):
        assert f"`{constant}`" in PAGE
    some = Sha384(bytes(range(48)))
    assert f"({len(launch_bytes(some, some, some))} bytes together)" in PAGE
    assert f'"{LAUNCH_PREFIX[:-1].decode()}"`, a zero byte' in PAGE
    assert f'"{REVOCATIONS_PREFIX[:-1].decode()}"`, a zero byte' in PAGE
    assert f"`{revocations_digest('devopsdefender/dd', 'refs/heads/main')[:8]}...`" in PAGE
    assert f"`{sha256(some.raw)[:8]}...`" in PAGE
    assert f"`{sha256(str(some).encode())[:8]}...`" in PAGE


def test_example_is_valid() -> None:
    (example,) = re.findall(r"^```json\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    read_reference_values(example.encode())


def test_page_warns_of_what_mrtd_is_not() -> None:
    assert "**MRTD names the firmware only.**" in PAGE
