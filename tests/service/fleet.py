"""A control plane's service in the lab: release channel, token issuer, agents, and a client.

`Fleet.call` is a client without a network: it speaks ASGI to the application.
"""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from fixtures import reference
from fixtures.quotes import Td
from mrtd.service.app import make_app
from mrtd.service.gate import Gate
from mrtd.service.limits import Limits
from mrtd.service.logs import Log
from mrtd.service.reference_cp import ReferenceControlPlane
from mrtd.service.requests import Ingress, text_of
from mrtd.service.service import Service
from mrtd.service.sidecar import Sidecar
from mrtd.verifier.binding import prove, registration_data, report_data
from mrtd.verifier.fetch import Response
from mrtd.verifier.nonce import read_nonce
from mrtd.verifier.registration import register_context
from tests.lab.trust_authority import Recipe, TrustAuthority
from tests.lab.world import World

Json = dict[str, Any]
Messages = Sequence[Json]

JSON: Final = {"content-type": "application/json"}


@dataclass(frozen=True)
class Got:
    """An answer; status 0 for none."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Json:
        found: Json = json.loads(self.body)
        return found

    @property
    def code(self) -> str:
        code: str = self.json["error"]["code"]
        return code


class HalfPipe:
    """Messages of a client that sends what it was given, and then waits, or hangs up."""

    def __init__(self, messages: Messages) -> None:
        self._messages = [*messages]

    async def __call__(self) -> Json:
        if self._messages:
            return self._messages.pop(0)
        await asyncio.Event().wait()
        raise AssertionError("unreachable")


async def ask(
    app: Gate,
    method: str,
    path: str,
    body: bytes = b"",
    headers: Mapping[str, str] | None = None,
    *,
    messages: Messages | None = None,
) -> Got:
    """One request; ``messages`` instead of a body that comes as a whole."""
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    scope: Json = {
        "type": "http",
        "method": method,
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": [(k.lower().encode(), v.encode()) for k, v in (headers or {}).items()],
    }
    given = [{"type": "http.request", "body": body}] if messages is None else messages
    await app(scope, HalfPipe(given), send)
    if not sent:
        return Got(0, {}, b"")
    found = {k.decode(): v.decode() for k, v in sent[0]["headers"]}
    return Got(sent[0]["status"], found, b"".join(m.get("body", b"") for m in sent[1:]))


@dataclass(frozen=True)
class Agent:
    """An agent in a TD.

    Attributes:
        image: that it runs.
        key: its own.
    """

    image: str = "image"
    key: Ed25519PrivateKey = field(default_factory=Ed25519PrivateKey.generate)

    @property
    def public_key(self) -> bytes:
        return self.key.public_key().public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )

    def td(self, data: bytes) -> Td:
        """The TD report, as its hardware makes it."""
        registers = reference.launch(image=self.image)["registers"]
        mrtd, *rtmrs = (bytes.fromhex(registers[name]["value"]) for name in sorted(registers))
        return Td(mr_td=mrtd, rtmrs=(rtmrs[0], rtmrs[1], rtmrs[2], bytes(48)), report_data=data)


class Fleet:
    """Everything around a service, and the service.

    Args:
        policy: TOML.
        kind: ``sidecar`` or ``reference``.
        options: of `ReferenceControlPlane`.
    """

    def __init__(
        self,
        policy: str = "",
        *,
        kind: str = "sidecar",
        limits: Limits | None = None,
        allow_unbound: bool = False,
        **options: Any,
    ) -> None:
        self.world = World(policy)
        self.issuer = TrustAuthority()
        self.stream = io.BytesIO()
        self.keys_down = False
        self.service = Service(
            self.world.policy,
            fetch=self.fetch,
            log=Log(self.stream),
            limits=limits,
            allow_unbound=allow_unbound,
            clock=self.world.times.clock,
            trust_root=self.world.root,
        )
        endpoints = (
            Sidecar(self.service)
            if kind == "sidecar"
            else ReferenceControlPlane(self.service, **options)
        )
        self.app = make_app(self.service, endpoints)

    def fetch(
        self, url: str, *, headers: Mapping[str, str], limit: int, timeout: float
    ) -> Response:
        if url == self.world.policy.token.jwks_url:
            return Response(503 if self.keys_down else 200, {}, self.issuer.jwks())
        return self.world.github(url, headers=headers, limit=limit, timeout=timeout)

    def publish(self) -> None:
        """Release the image that agents run."""
        self.world.publish(reference.document())

    def token(self, agent: Agent, nonce: str) -> str:
        """A token for a nonce."""
        data = registration_data(read_nonce(nonce), agent.public_key)
        recipe = Recipe(now=int(self.world.times.wall))
        return self.issuer.token(agent.td(report_data(data)).report10(), recipe)

    def verification(self, agent: Agent, nonce: str, *, context: bytes = b"") -> Json:
        """A body of ``/v1/verify``."""
        token = self.token(agent, nonce)
        proof = prove(
            agent.key, nonce=read_nonce(nonce), token_or_quote=token.encode(), context=context
        )
        return {
            "ita_token": token,
            "binding": {
                "type": "nonce",
                "nonce": nonce,
                "public_key": text_of(agent.public_key),
                "proof": text_of(proof),
                "context": text_of(context),
            },
        }

    def registration(
        self, agent: Agent, nonce: str, *, name: str = "vm-1", ingress: Sequence[Json] = ()
    ) -> Json:
        """A body of ``/register``."""
        context = register_context(name, tuple(Ingress(**one) for one in ingress))
        made = self.verification(agent, nonce, context=context)
        bound = {key: made["binding"][key] for key in ("nonce", "public_key", "proof")}
        extra = {"extra_ingress": list(ingress)} if ingress else {}
        return {"vm_name": name, "ita_token": made["ita_token"], **extra, **bound}

    async def post(self, path: str, body: Json | bytes, **headers: str) -> Got:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        return await ask(self.app, "POST", path, data, {**JSON, **headers})

    async def get(self, path: str) -> Got:
        return await ask(self.app, "GET", path)

    async def nonce(self) -> str:
        found: str = (await ask(self.app, "POST", "/v1/nonce")).json["nonce"]
        return found

    def log(self) -> list[Json]:
        """What was logged; the service is closed."""
        assert self.service.close(60)
        self.service.log.close(60)
        return [json.loads(line) for line in self.stream.getvalue().splitlines()]


@asynccontextmanager
async def closing(fleet: Fleet) -> AsyncIterator[Fleet]:
    """A fleet whose threads are ended."""
    try:
        yield fleet
    finally:
        fleet.service.close(60)
        fleet.service.log.close(60)


def run(fleet: Fleet, work: Callable[[Fleet], Awaitable[None]]) -> None:
    """Do something with a fleet in an event loop."""

    async def inside() -> None:
        async with closing(fleet):
            await work(fleet)

    asyncio.run(inside())
