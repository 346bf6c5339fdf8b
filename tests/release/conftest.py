from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from fixtures import reference
from tests.lab.signing_server import SigningServer
from tests.release.signing import Pauses
from tests.release.stage import Stage, stage


@pytest.fixture
def server() -> Iterator[SigningServer]:
    with SigningServer() as running:
        yield running
    assert running.web.errors == []


@pytest.fixture
def pauses() -> Pauses:
    return Pauses()


@pytest.fixture(scope="session")
def payload() -> bytes:
    return reference.encoded(reference.statement(reference.document()))


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Stage]:
    """A stage on which nobody may see a secret: in what is printed, written or kept."""
    with stage(tmp_path) as made:
        yield made
        assert made.leaks() == []
