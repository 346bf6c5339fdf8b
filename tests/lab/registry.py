"""A registry on this machine: Debian's docker-registry, on a port of 127.0.0.1, in a folder.

It has no referrers API (404), like GHCR: clients use the fallback tag.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

_CONFIG: Final = """\
version: 0.1
log: {{level: error, accesslog: {{disabled: true}}}}
storage:
  filesystem: {{rootdirectory: "{folder}"}}
  delete: {{enabled: true}}
http: {{addr: "127.0.0.1:{port}"}}
"""
_START_SECONDS: Final = 60
_MANIFEST_TYPES: Final = (
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
)


@dataclass(frozen=True, slots=True)
class Registry:
    """A running registry.

    Attributes:
        port: of 127.0.0.1.
        folder: where it keeps everything.
    """

    port: int
    folder: Path

    @property
    def host(self) -> str:
        """Host and port, as references begin."""
        return f"127.0.0.1:{self.port}"

    def manifest(self, repository: str, reference: str) -> tuple[str, bytes]:
        """Media type and bytes of a manifest."""
        request = urllib.request.Request(
            f"http://{self.host}/v2/{repository}/manifests/{reference}",
            headers={"Accept": ", ".join(_MANIFEST_TYPES)},
        )
        with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310
            return answer.headers["Content-Type"], answer.read()

    def put_manifest(self, repository: str, reference: str, kind: str, data: bytes) -> None:
        """Store a manifest; what it names has to be there."""
        request = urllib.request.Request(
            f"http://{self.host}/v2/{repository}/manifests/{reference}",
            data=data,
            method="PUT",
            headers={"Content-Type": kind},
        )
        with urllib.request.urlopen(request, timeout=60):  # noqa: S310
            pass

    def tags(self, repository: str) -> list[str]:
        """All tags of a repository, sorted."""
        try:
            with urllib.request.urlopen(
                f"http://{self.host}/v2/{repository}/tags/list", timeout=60
            ) as answer:
                found: dict[str, Any] = json.load(answer)
        except urllib.error.HTTPError as error:
            with error:
                return []
        return sorted(found["tags"] or [])


@contextlib.contextmanager
def registry(program: Path, folder: Path) -> Iterator[Registry]:
    """Run a registry while the context lasts."""
    folder.mkdir(parents=True, exist_ok=True)
    for _ in range(5):  # somebody else may take the port between looking and listening
        port = _free_port()
        config = folder / "config.yml"
        config.write_text(_CONFIG.format(folder=folder / "data", port=port), encoding="utf-8")
        with (folder / "log").open("wb") as log:
            child = subprocess.Popen(
                [program, "serve", config],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={"PATH": os.defpath, "OTEL_TRACES_EXPORTER": "none"},
                cwd=folder,
            )
        try:
            if _answers(child, port):
                yield Registry(port, folder / "data")
                return
        finally:
            child.kill()
            child.wait()
    raise AssertionError((folder / "log").read_text(encoding="utf-8"))


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def _answers(child: subprocess.Popen[bytes], port: int) -> bool:
    end = time.monotonic() + _START_SECONDS
    while child.poll() is None and time.monotonic() < end:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return child.poll() is None
        time.sleep(0.02)
    return False
