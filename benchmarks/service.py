"""Speed of the sidecar on loopback, beside a bare Starlette endpoint in the same run.

``python -m benchmarks.service`` drives both with wrk (Debian: ``apt-get install wrk``), which posts
the same bodies to both: registrations with a token of their own each, whose launch is known (the
admission is kept), and registrations of a launch each that nobody asked about before (GitHub
answers from memory, sigstore verifies). Nothing here is a test: a busy machine is no bug.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple

from fixtures import reference
from mrtd.service.requests import text_of
from tests.lab.trust_authority import Recipe, TrustAuthority
from tests.lab.world import NOW, World
from tests.service.fleet import Agent

_ROOT: Final = Path(__file__).resolve().parents[1]
_CONNECTIONS: Final = 8
_SECONDS: Final = 4
_KNOWN: Final = 6000  # registrations that are prepared; more than wrk gets through
_NEW: Final = 1500
_DATA: Final = bytes(range(64))
_SCRIPT: Final = """\
local bodies, number = {}, 0
for line in io.lines("BODIES") do bodies[#bodies + 1] = line end
request = function()
  number = number + 1
  local body = bodies[(number - 1) % #bodies + 1]
  return wrk.format("POST", "/v1/verify", {["Content-Type"] = "application/json"}, body)
end
"""
_BARE: Final = """\
import socket, sys
import uvicorn
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Route

answer = open(sys.argv[1], "rb").read()

async def verify(request):
    await request.body()
    return Response(answer, media_type="application/json")

# with the protocol named, asyncio sets TCP_NODELAY; else answers wait 40 ms for an ACK
listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
listener.bind(("127.0.0.1", 0))
print(listener.getsockname()[1], flush=True)
app = Starlette(routes=[Route("/v1/verify", verify, methods=["POST"])])
config = uvicorn.Config(app, http="h11", loop="asyncio", access_log=False, log_level="error")
uvicorn.Server(config).run([listener])
"""


class Load(NamedTuple):
    """What wrk has measured."""

    per_second: float
    p50: str
    p99: str
    requests: int
    refused: int

    def __str__(self) -> str:
        return (
            f"{self.per_second:.0f} requests/s, p50 {self.p50}, p99 {self.p99} "
            f"({self.requests} requests, {self.refused} not admitted)"
        )


def prepare(folder: Path) -> None:
    """What `tests.service.child` reads, and the bodies that wrk posts."""
    world, issuer = World(), TrustAuthority()
    world.publish(reference.document())
    for number in range(_NEW):
        world.publish(reference.document(reference.launch(image=f"image {number}")))
    listed = {digest: [json.loads(found[0])] for digest, found in world.github.listed.items()}
    (folder / "listed.json").write_text(json.dumps(listed))
    (folder / "certs.json").write_bytes(issuer.jwks())
    (folder / "root.json").write_bytes(world.root.raw)
    images = {
        "known": ["image"] * (_KNOWN + 1),
        "new": [f"image {number}" for number in range(_NEW)],
    }
    for name, runs in images.items():
        with (folder / f"{name}.bodies").open("w", encoding="ascii") as file:
            for image in runs:
                report = Agent(image=image).td(_DATA).report10()
                body = {
                    "ita_token": issuer.token(report, Recipe(now=int(NOW.timestamp()))),
                    "binding": {"type": "report_data", "report_data": text_of(_DATA)},
                }
                file.write(f"{json.dumps(body)}\n")


@contextmanager
def serving(*arguments: str) -> Iterator[int]:
    """A process that prints its port first; what it logs is dropped."""
    with subprocess.Popen(
        [sys.executable, *arguments],
        cwd=_ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    ) as process:  # fmt: skip
        try:
            assert process.stdout is not None  # noqa: S101 - it was asked for
            yield int(process.stdout.readline())
        finally:
            process.kill()


def post(port: int, body: str) -> bytes:
    """One request; the body of its answer."""
    from http.client import HTTPConnection  # noqa: PLC0415 - only here

    connection = HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("POST", "/v1/verify", body, {"Content-Type": "application/json"})
    answer = connection.getresponse()
    data = answer.read()
    connection.close()
    if answer.status != 200:
        raise SystemExit(f"not admitted: {data[:300]!r}")
    return data


def drive(port: int, bodies: Path) -> Load:
    """Let wrk post bodies for some seconds."""
    script = bodies.with_suffix(".lua")
    script.write_text(_SCRIPT.replace("BODIES", str(bodies)))
    command = ["wrk", "-t1", f"-c{_CONNECTIONS}", f"-d{_SECONDS}s", "--latency", "-s", str(script)]
    done = subprocess.run(
        [*command, f"http://127.0.0.1:{port}"], check=True, capture_output=True, text=True
    )
    text = done.stdout

    def find(pattern: str, default: str = "?") -> str:
        match = re.search(pattern, text)
        return match[1] if match else default

    return Load(
        float(find(r"Requests/sec:\s+([\d.]+)", "0")),
        find(r"\n\s+50%\s+(\S+)"),
        find(r"\n\s+99%\s+(\S+)"),
        int(find(r"(\d+) requests in", "0")),
        int(find(r"Non-2xx or 3xx responses: (\d+)", "0")),
    )


def main() -> int:
    """Run all of it; the exit code."""
    if shutil.which("wrk") is None:
        print("wrk is not installed: apt-get install wrk", file=sys.stderr)
        return 3
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prepare(folder)
        known, new = folder / "known.bodies", folder / "new.bodies"
        first, _, rest = known.read_text(encoding="ascii").partition("\n")
        known.write_text(rest, encoding="ascii")
        loads: dict[str, Any] = {}
        sidecar = ("-m", "tests.service.child", name, "127.0.0.1:0", "{}")
        with serving(*sidecar) as port:
            (folder / "answer.json").write_bytes(post(port, first))
            loads["sidecar, admission kept"] = drive(port, known)
            loads["sidecar, new launches"] = drive(port, new)
        with serving("-c", _BARE, str(folder / "answer.json")) as port:
            loads["bare Starlette, the same bodies and answer"] = drive(port, known)
        size = (folder / "answer.json").stat().st_size
        print(f"{_CONNECTIONS} connections, {len(first)} bytes in, {size} bytes out")
        for what, load in loads.items():
            print(f"{what}: {load}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
