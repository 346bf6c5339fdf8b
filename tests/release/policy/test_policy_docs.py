"""docs/guest-policy.md has every finding, every field and every file."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final, get_type_hints

from mrtd.images.settings import Guest, ImageException, ImageSource, WorkflowIdentity

ROOT: Final = Path(__file__).resolve().parents[3]
PAGE: Final = (ROOT / "docs" / "guest-policy.md").read_text(encoding="utf-8")


def test_every_finding_is_explained_with_its_level() -> None:
    code = "".join(
        (ROOT / "release" / f"policy_{name}.py").read_text(encoding="utf-8")
        for name in ("lint", "scopes")
    )
    made = set(re.findall(r'Finding\(\s*"(\w+)",\s*"(\w+)"', code))
    told = set(re.findall(r"^\| `(\w+)` \| (error|warning|info) \|", PAGE, re.MULTILINE))
    assert made == told


def test_every_field_is_in_the_table() -> None:
    told = set(re.findall(r"^\| `([\w.\[\]]+)` \|", PAGE, re.MULTILINE))
    for prefix, kind in (("guest.", Guest), ("repositories[].", ImageSource),
                         ("exceptions[].", ImageException)):  # fmt: skip
        assert {f"{prefix}{name}" for name in get_type_hints(kind)} <= told
    row = next(line for line in PAGE.splitlines() if "`repositories[].identity`" in line)
    assert [name for name in get_type_hints(WorkflowIdentity) if f"`{name}`" not in row] == []
