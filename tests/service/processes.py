"""Services as processes, and clients of theirs over real sockets."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any, Final

from fixtures import reference
from tests.service.fleet import JSON, Fleet, Got

ROOT: Final = Path(__file__).resolve().parents[2]
PATIENCE: Final = 60.0
CLEAN: Final = ("DD_", "GITHUB_")


class UnixConnection(HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: Path) -> None:
        super().__init__("mrtd", timeout=PATIENCE)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(PATIENCE)
        self.sock.connect(str(self._path))


class Running:
    """A process that serves.

    Attributes:
        process: it.
        path: of its Unix socket, or None.
        port: of 127.0.0.1, or 0.
        said: first line of its standard output.
    """

    def __init__(self, process: subprocess.Popen[bytes], path: Path | None) -> None:
        self.process, self.path, self.port = process, path, 0
        assert process.stdout is not None
        self.said = process.stdout.readline().decode()
        if path is None:
            match = re.match(r"(?:.*127\.0\.0\.1:)?(\d+)", self.said)
            assert match, self.said
            self.port = int(match[1])

    def connect(self) -> socket.socket:
        """A connection without HTTP."""
        if self.path is None:
            return socket.create_connection(("127.0.0.1", self.port), PATIENCE)
        client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        client.settimeout(PATIENCE)
        try:
            client.connect(str(self.path))
        except OSError:
            client.close()
            raise
        return client

    def listens(self) -> bool:
        try:
            self.connect().close()
        except OSError:
            return False
        return True

    def ask(
        self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None
    ) -> Got:
        """One request."""
        connection = (
            HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
            if self.path is None
            else UnixConnection(self.path)
        )
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        try:
            connection.request(method, path, data, {**JSON, **(headers or {})})
            answer = connection.getresponse()
            found = {name.lower(): value for name, value in answer.getheaders()}
            return Got(answer.status, found, answer.read())
        finally:
            connection.close()

    def raw(self, data: bytes, *, end: bool = False) -> bytes:
        """What is answered to some bytes, until the connection ends."""
        with self.connect() as client:
            client.sendall(data)
            if end:
                client.shutdown(socket.SHUT_WR)
            found = b""
            try:
                while chunk := client.recv(1 << 16):
                    found += chunk
            except ConnectionResetError:
                pass
            return found

    def finish(self) -> tuple[int, list[dict[str, Any]]]:
        """Its exit code and log, once it has ended."""
        _, log = self.process.communicate(timeout=PATIENCE)
        return self.process.returncode, [json.loads(line) for line in log.splitlines()]

    def stop(self) -> tuple[int, list[dict[str, Any]]]:
        """End it as a service manager does."""
        self.process.terminate()
        return self.finish()


def environment(**changes: str) -> dict[str, str]:
    """Without settings of whoever runs the tests."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(CLEAN)}
    return clean | {"PYTHONWARNINGS": "error"} | changes


@contextmanager
def started(command: list[str], path: Path | None, env: dict[str, str]) -> Iterator[Running]:
    process = subprocess.Popen(
        [sys.executable, *command],
        cwd=ROOT,
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    with process:
        try:
            yield Running(process, path)
        finally:
            process.kill()


@contextmanager
def child(fleet: Fleet, folder: Path, place: str, **options: Any) -> Iterator[Running]:
    """A service with the fleet's issuer and attestations."""
    (folder / "certs.json").write_bytes(fleet.issuer.jwks())
    (folder / "root.json").write_bytes(fleet.world.root.raw)
    listed = {
        digest: [json.loads(one) for one in bundles]
        for digest, bundles in fleet.world.github.listed.items()
    }
    (folder / "listed.json").write_text(json.dumps(listed))
    command = ["-m", "tests.service.child", str(folder), place, json.dumps(options)]
    with started(command, Path(place) if place.startswith("/") else None, environment()) as running:
        yield running


def serve(*arguments: str, path: Path | None = None, **changes: str) -> Any:
    """``mrtd serve`` itself."""
    ids = {
        "DD_ITA_JWKS_URL": "https://127.0.0.1:1/certs",  # where nobody listens
        "DD_TRUSTED_OWNER_ID": "2",
        "DD_TRUSTED_REPO_ID": "1",
    }
    command = ["-m", "mrtd.cli.main", "serve", *arguments]
    return started(command, path, environment(**(ids | changes)))


def published() -> Fleet:
    """A fleet whose image was released; its own service is closed."""
    fleet = Fleet()
    fleet.world.publish(reference.document())
    fleet.service.close(PATIENCE)
    fleet.service.log.close()
    return fleet
