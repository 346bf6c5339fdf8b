"""A TUF repository, as Sigstore publishes its trusted roots, and an HTTP server for it.

Source: The Update Framework specification 1.0 (roles, consistent snapshots: 6.2); target names as
in tuf-repo-cdn.sigstore.dev. Every top-level role has one Ed25519 key.

    repository = TufRepository.of(default_instance())
    with repository.serve() as url:
        bootstrap.write_bytes(repository.root(1))
        config = ClientTrustConfig.from_tuf(url, bootstrap_root=bootstrap)
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any, Final, Self

from securesystemslib.signer import CryptoSigner  # type: ignore[attr-defined] # not in __all__
from tuf.api.metadata import (  # type: ignore[attr-defined] # not in __all__
    Metadata,
    MetaFile,
    Root,
    Signed,
    Snapshot,
    TargetFile,
    Targets,
    Timestamp,
)

from tests.lab.instance import Instance
from tests.lab.keys import ed25519_key
from tests.lab.trusted_root import Windows

NEVER: Final = datetime(2100, 1, 1, tzinfo=UTC)
TRUSTED_ROOT: Final = "trusted_root.json"
SIGNING_CONFIG: Final = "signing_config.v0.2.json"
_ROLES: Final = (Root.type, Timestamp.type, Snapshot.type, Targets.type)


class TufRepository:
    """Signed metadata and targets, in memory.

    Attributes:
        files: what the server answers, by path without the leading slash; tests may alter it.
        requests: the paths that were asked for, in order.
    """

    def __init__(self, seed: str = "tuf") -> None:
        self.files: dict[str, bytes] = {}
        self.requests: list[str] = []
        self._seed = seed
        self._root_version = self._version = 0
        self._signers = {role: self._signer(role) for role in _ROLES}
        self._sign_root([self._signers[Root.type]], NEVER)

    @classmethod
    def of(cls, instance: Instance, windows: Windows | None = None) -> Self:
        """A repository with an instance's trusted root and signing config."""
        repository = cls(f"{instance.seed}, tuf")
        repository.publish(instance, windows)
        return repository

    def publish(self, instance: Instance, windows: Windows | None = None) -> None:
        """Publish an instance's documents, as a new version."""
        config = json.dumps(instance.signing_config()).encode()
        self.publish_targets(
            {TRUSTED_ROOT: instance.trusted_root_json(windows), SIGNING_CONFIG: config}
        )

    def publish_targets(
        self, targets: Mapping[str, bytes], *, version: int | None = None, expires: datetime = NEVER
    ) -> None:
        """Publish these targets, and only these; ``version`` is the next one unless given.

        ``expires`` is the timestamp's: the role that shows that a repository is alive.
        """
        self._version = self._version + 1 if version is None else version
        now = self._version
        described = {name: TargetFile.from_data(name, data) for name, data in targets.items()}
        for name, data in targets.items():
            self.files[f"targets/{described[name].hashes['sha256']}.{name}"] = data
        signed_targets = Targets(now, expires=NEVER, targets=described)
        snapshot = Snapshot(now, expires=NEVER, meta={"targets.json": MetaFile(now)})
        timestamp = Timestamp(now, expires=expires, snapshot_meta=MetaFile(now))
        self.files[f"{now}.targets.json"] = self._sign(signed_targets)
        self.files[f"{now}.snapshot.json"] = self._sign(snapshot)
        self.files["timestamp.json"] = self._sign(timestamp)

    def rotate_root(self, *, signed_by_old: bool = True, expires: datetime = NEVER) -> None:
        """A new root with a new root key, signed by the new and, as it must be, by the old key."""
        old = self._signers[Root.type]
        new = self._signer(f"{Root.type} {self._root_version + 1}")
        self._signers[Root.type] = new
        self._sign_root([old, new] if signed_by_old else [new], expires)

    def root(self, version: int) -> bytes:
        """The root metadata of a version: 1 is what clients start from."""
        return self.files[f"{version}.root.json"]

    @contextmanager
    def serve(self) -> Iterator[str]:
        """Answer on a free port of the loopback interface; yields the repository's URL."""
        server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            server.server_close()
            thread.join()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        repository = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                path = self.path.removeprefix("/")
                repository.requests.append(path)
                data = repository.files.get(path)
                self.send_response(HTTPStatus.NOT_FOUND if data is None else HTTPStatus.OK)
                self.send_header("Content-Length", str(len(data or b"")))
                self.end_headers()
                self.wfile.write(data or b"")

            def log_message(self, *_: object) -> None:
                """Not to the terminal: `requests` has them."""

        return Handler

    def _signer(self, role: str) -> CryptoSigner:
        return CryptoSigner(ed25519_key(self._seed, role))

    def _sign_root(self, signers: list[CryptoSigner], expires: datetime) -> None:
        self._root_version += 1
        root = Root(self._root_version, expires=expires, consistent_snapshot=True)
        for role, signer in self._signers.items():
            root.add_key(signer.public_key, role)
        metadata = Metadata(root)
        for signer in signers:
            metadata.sign(signer, append=True)
        self.files[f"{self._root_version}.root.json"] = metadata.to_bytes()

    def _sign(self, signed: Signed) -> bytes:
        metadata = Metadata[Any](signed)
        metadata.sign(self._signers[signed.type])
        return metadata.to_bytes()
