"""Agents of a fleet, made up: verdicts, deployments in each colour, and who serves the pages."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Final

import msgspec
import uvicorn

from mrtd.errors import TransportError
from mrtd.images.outcome import Kind, NotChecked, NotSigned, Refused, Signed
from mrtd.images.reference import ImageReference
from mrtd.images.settings import ImageSettings, ImageSource, read_images
from mrtd.images.status import Deployment, ImageCheck
from mrtd.reference import Release
from mrtd.service.fleet import Fleet
from mrtd.service.gate import Gate
from mrtd.verifier.clock import Clock
from mrtd.verifier.verdict import Attestation, Verdict, passed
from mrtd.workloads.statuses import Statuses
from tests.lab.identity import OWNER_ID, REPOSITORY, REPOSITORY_ID

NOW: Final = datetime(2026, 11, 23, 12, tzinfo=UTC)
OURS: Final = "ghcr.io/devopsdefender/ollama-openclaw"
LENIENT: Final = "ghcr.io/devopsdefender/tunnel"
THEIRS: Final = "docker.io/library/redis"
SIGNER: Final = f"https://github.com/{REPOSITORY}/.github/workflows/release.yml@refs/heads/main"


def digest(letter: str) -> str:
    """A digest that is one hex digit again and again."""
    return f"sha256:{letter * 64}"


IMAGES: Final = f"""
schema = "mrtd.images/1"
[[repositories]]
repository = "{OURS}"
keys = ["release.pub", "next.pub"]
identity = {{ repository = "{REPOSITORY}", repository_id = {REPOSITORY_ID}, owner_id = {OWNER_ID}, \
workflow = ".github/workflows/release.yml" }}
[[repositories]]
repository = "{LENIENT}"
keys = ["release.pub"]
bundle = "optional"
identity = {{ repository = "{REPOSITORY}", repository_id = {REPOSITORY_ID}, owner_id = {OWNER_ID}, \
workflow = ".github/workflows/release.yml" }}
[[exceptions]]
image = "{THEIRS}@{digest("d")}"
reason = "cache of the gateway; upstream does not sign"
owner = "platform team"
expires = 2027-01-31
[[exceptions]]
image = "{THEIRS}@{digest("e")}"
reason = "cache of the gateway, old version"
owner = "platform team"
expires = 2026-11-23
"""


def settings(text: str = IMAGES) -> ImageSettings:
    """The settings of this fleet."""
    return read_images(text, origin="images.toml")


class Checker:
    """An `ImageChecker` that answers by the first digit of the digest.

    ``0``-``9`` are signed by both, ``a`` by nobody, ``b`` by somebody else, of ``c`` nobody knows,
    and ``f`` has the key's signature only.

    Attributes:
        asked: every image, in the order in which it was asked about.
    """

    def __init__(self) -> None:
        self.asked: list[ImageReference] = []
        self._lock = threading.Lock()

    def check(self, source: ImageSource, image: ImageReference) -> ImageCheck:
        """Answer."""
        with self._lock:
            self.asked.append(image)
        key, signed = Signed(image, Kind.KEY, source.keys[0]), Signed(image, Kind.KEYLESS, SIGNER)
        match image.hex[0]:
            case "a":
                none = "the registry has none"
                return ImageCheck(
                    NotSigned(image, Kind.KEY, none), NotSigned(image, Kind.KEYLESS, none)
                )
            case "b":
                why = "identity.signer: https://github.com/mallory/dd/... instead of ours"
                return ImageCheck(key, Refused(image, Kind.KEYLESS, why))
            case "c":
                why = "ghcr.io did not answer within 120 s"
                return ImageCheck(
                    NotChecked(image, Kind.KEY, why), NotChecked(image, Kind.KEYLESS, why)
                )
            case "f":
                return ImageCheck(key, NotSigned(image, Kind.KEYLESS, "the registry has none"))
        run = f"https://github.com/{REPOSITORY}/actions/runs/42/attempts/1"
        return ImageCheck(key, signed, run, 123456)


RUNS: Final = {
    "green": Deployment("ollama", f"{OURS}:v1", digest("1")),
    "green too": Deployment("openclaw", f"{OURS}@{digest('2')}", digest("2")),
    "exception": Deployment("cache", f"{THEIRS}@{digest('d')}", digest("d")),
    "lenient": Deployment("tunnel", f"{LENIENT}:latest", digest("f")),
    "unsigned": Deployment("ollama-debug", f"{OURS}:debug", digest("a")),
    "foreign": Deployment("ollama-fork", f"{OURS}:v2", digest("b")),
    "away": Deployment("ollama-new", f"{OURS}:v3", digest("c")),
    "expired": Deployment("cache-old", f"{THEIRS}:7", digest("e")),
    "stranger": Deployment("miner", "docker.io/evil/miner:latest", digest("9")),
    "moved": Deployment("moved", f"{OURS}@{digest('1')}", digest("2")),
    "no container": Deployment("podman-bootstrap"),
}
"""Deployments by what is to be seen of them."""


def verdict(*labels: str, tag: str = "v1.4.2", sequence: int = 214) -> Verdict:
    """An admission."""
    return Verdict(
        allowed=True,
        status=200,
        reason=None,
        message=f"admitted: {tag}, attested by the release workflow",
        mode="enforce",
        labels=labels,
        checks=(
            passed("tcb_status", expected="UpToDate", observed="UpToDate", source="token"),
            passed("identity.signer", expected=SIGNER, observed=SIGNER, source="certificate"),
        ),
        release=Release(
            repository=REPOSITORY,
            channel="refs/heads/main",
            tag=tag,
            commit="5f0d2a8c41b97e6630d18c2b7a94ef5d6c80e1b2",
            sequence=sequence,
            created="2026-11-20T08:00:00Z",
        ),
        attestation=Attestation(
            signer=SIGNER,
            run=f"https://github.com/{REPOSITORY}/actions/runs/41/attempts/1",
            signed_at=NOW,
            log_index=98765,
            bundle_sha256="ab" * 32,
            source="GitHub",
        ),
    )


class Agents:
    """Agents that answer from memory: an `AskAgent`.

    Attributes:
        says: what each answers, by the address of its ``/health``; an exception is raised.
    """

    def __init__(self) -> None:
        self.says: dict[str, bytes | Exception] = {}

    def __call__(self, health: str) -> bytes:
        """The answer."""
        answer = self.says[health]
        if isinstance(answer, Exception):
            raise answer
        return answer


def health(deployments: Sequence[Deployment]) -> bytes:
    """A ``/health`` of today; that it says green everywhere is not to be believed."""
    return msgspec.json.encode({
        "ok": True,
        "deployments": [one.app_name for one in deployments],
        "deployment_status": [
            {"attestation_status": "green", **msgspec.to_builtins(one)} for one in deployments
        ],
    })  # fmt: skip


class MadeFleet:
    """A fleet without a service.

    Attributes:
        fleet: it.
        agents: what they answer.
        checker: that was asked about images.
    """

    def __init__(self, clock: Clock | None = None) -> None:
        self.agents, self.checker = Agents(), Checker()
        self.clock = clock or Clock()
        statuses = Statuses(settings(), self.checker, clock=self.clock)
        self.fleet = Fleet(self.agents, statuses, clock=self.clock)

    def add(self, name: str, *runs: str, admitted: Verdict | None = None, down: str = "") -> str:
        """An agent that runs deployments of `RUNS`; ``down``: why it cannot be asked."""
        agent_id = f"{name}-id"
        address = f"https://{agent_id}.example"
        says = TransportError(down) if down else health([RUNS[run] for run in runs])
        self.agents.says[address] = says
        self.fleet.admit(
            agent_id,
            vm_name=name,
            hostname=f"{agent_id}.fleet.example",
            public_key=agent_id.encode(),
            health=address,
            verdict=admitted or verdict(),
        )
        return agent_id

    def look(self) -> None:
        """Ask all that are due."""
        for agent_id in self.fleet.take_due():
            self.fleet.look(agent_id)


@contextmanager
def serving(app: Gate) -> Iterator[str]:
    """The application on a port of this machine."""
    config = uvicorn.Config(app, port=0, lifespan="off", log_config=None, access_log=False)
    server = uvicorn.Server(config)
    started = threading.Event()
    startup = server.startup

    async def begin(*arguments: object, **keywords: object) -> None:
        await startup(*arguments, **keywords)  # type: ignore[arg-type]
        started.set()

    server.startup = begin  # type: ignore[method-assign]
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        assert started.wait(60)
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()
