"""docs/workloads.md says what the code does."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from mrtd.images.outcome import SIGN_TYPE
from mrtd.images.status import Code, Colour, DeploymentStatus, ImageStatus
from mrtd.workloads.statuses import KEPT_SECONDS, UNKNOWN_SECONDS
from tests.lab.agents import NOW

TEXT: Final = (Path(__file__).parents[2] / "docs/workloads.md").read_text(encoding="utf-8")


def test_every_code_stands_beside_its_colour() -> None:
    rows = dict(re.findall(r"^\| (\w+) \| .* \| (.*) \|$", TEXT, re.MULTILINE))
    said = {c: colour for colour, codes in rows.items() for c in re.findall(r"`(\w+)`", codes)}
    assert said == {
        str(code): str(ImageStatus(code=code, reason="", checked_at=NOW).colour) for code in Code
    }
    assert set(said.values()) == {str(colour) for colour in Colour}


def test_fields_times_and_types_are_those_of_the_code() -> None:
    for name in DeploymentStatus.__struct_fields__:
        assert f'"{name}"' in TEXT
    assert f"{KEPT_SECONDS / 60:.0f} minutes, and {UNKNOWN_SECONDS / 60:.0f} minute" in TEXT
    assert SIGN_TYPE in TEXT
