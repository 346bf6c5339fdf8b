"""The programs that apply a policy, from Debian's packages, and a folder to render into."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import debian_part
from tests.release.policy.guest import Rendered


@pytest.fixture(scope="session")
def skopeo() -> Path:
    """Skopeo of sid, which verifies signatures."""
    return debian_part("skopeo-sid").file("skopeo")


@pytest.fixture(scope="session")
def patched_skopeo() -> Path:
    """Skopeo of bookworm, where Debian has patched that out."""
    return debian_part("skopeo-bookworm").file("skopeo")


@pytest.fixture
def rendered(tmp_path: Path) -> Rendered:
    """An empty folder."""
    return Rendered(tmp_path)
