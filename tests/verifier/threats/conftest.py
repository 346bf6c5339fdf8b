"""Nobody waits: what failed is asked for again at once."""

from __future__ import annotations

from typing import Any

import pytest

from mrtd.verifier.github import GitHubLookup


@pytest.fixture(autouse=True)
def _nobody_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    defaults: Any = GitHubLookup.__init__.__kwdefaults__
    monkeypatch.setitem(defaults, "sleep", lambda _: None)
