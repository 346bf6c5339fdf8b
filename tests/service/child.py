"""A service of the lab as a process: ``python -m tests.service.child FOLDER PLACE OPTIONS``.

What the test makes is in the folder: ``root.json``, ``certs.json``, ``listed.json`` (bundles by
subject digest). While there is a file ``closed``, the token issuer does not answer.
"""

from __future__ import annotations

import json
import socket
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import msgspec

from mrtd.service.app import make_app
from mrtd.service.limits import Limits
from mrtd.service.logs import Log
from mrtd.service.reference_cp import ReferenceControlPlane
from mrtd.service.server import serve
from mrtd.service.service import Service
from mrtd.service.sidecar import Sidecar
from mrtd.service.sockets import listen_tcp, listening_unix
from mrtd.verifier.clock import Clock
from mrtd.verifier.fetch import Response
from mrtd.verifier.trust_root import read_trust_root
from tests.lab.world import NOW, ListedGitHub, policy_of


def main(folder: Path, place: str, options: dict[str, object]) -> None:
    github = ListedGitHub()
    for digest, bundles in json.loads((folder / "listed.json").read_bytes()).items():
        github.add(json.dumps(bundles[0]).encode(), digest)
    policy = policy_of()

    def fetch(url: str, *, headers: Mapping[str, str], limit: int, timeout: float) -> Response:
        if url != policy.token.jwks_url:
            return github(url, headers=headers, limit=limit, timeout=timeout)
        while (folder / "closed").exists():
            time.sleep(0.01)
        return Response(200, {}, (folder / "certs.json").read_bytes())

    service = Service(
        policy,
        fetch=fetch,
        log=Log(sys.stderr.buffer),
        limits=msgspec.convert(options.get("limits", {}), Limits),
        clock=Clock(wall=NOW.timestamp),
        trust_root=read_trust_root((folder / "root.json").read_bytes(), source="lab", dated=NOW),
    )
    reference = options.get("kind") == "reference"
    app = make_app(service, ReferenceControlPlane(service) if reference else Sidecar(service))
    unix = place.startswith("/")
    where = listening_unix(Path(place)) if unix else listen_tcp(place, allow_remote=False)
    serve(service, app, where, announce)


def announce(listener: socket.socket) -> None:
    name = listener.getsockname()
    sys.stdout.write(f"{name if isinstance(name, str) else name[1]}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], json.loads(sys.argv[3]))
