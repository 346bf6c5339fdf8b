from __future__ import annotations

from collections.abc import Iterator

import pytest

from fixtures import reference
from tests.lab.signing_server import SigningServer
from tests.release.signing import Pauses


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
