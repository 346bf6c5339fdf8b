from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import debian_part, require_tool
from tests.images.lab import ImageLab, Programs
from tests.lab.registry import Registry, registry
from tests.lab.signing_server import SigningServer


@pytest.fixture(scope="session")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Programs:
    """cosign and skopeo of sid, and keys that cosign has made."""
    cosign, skopeo = debian_part("cosign-sid"), debian_part("skopeo-sid")
    return Programs.make(
        cosign.file("usr/bin/cosign"), skopeo.file("skopeo"), tmp_path_factory.mktemp("keys")
    )


@pytest.fixture(scope="session")
def real_registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    with registry(require_tool("registry"), tmp_path_factory.mktemp("registry")) as running:
        yield running


@pytest.fixture
def lab(programs: Programs, real_registry: Registry, tmp_path: Path) -> Iterator[ImageLab]:
    """Everything that an image is published with; nobody may see a secret of it."""
    with SigningServer() as server:
        made = ImageLab(programs, real_registry, server, tmp_path)
        yield made
        assert made.leaks() == []
    assert server.web.errors == []
