"""A reference control plane: what dd's ``/register`` is to become, as little as shows it.

Owner and environment label are the operator's (``DD_OWNER``, ``DD_ENV``), whatever an agent says.
The context of an agent's proof is that of `mrtd.verifier.registration`; ``env_label`` and ``owner``
are not in it, since they are ignored.
"""

from __future__ import annotations

import asyncio
import secrets
from typing import Protocol

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from mrtd.service.agent_fetch import AgentFetch
from mrtd.service.answers import (
    Refusal,
    error_answer,
    json_answer,
    verdict_headers,
    verdict_status,
)
from mrtd.service.body import read_document
from mrtd.service.fleet import Fleet
from mrtd.service.fleet_pages import FleetPages
from mrtd.service.gate import notes_of
from mrtd.service.requests import (
    Ingress,
    RegisterRequest,
    binding_missing,
    nonce_binding,
    read_bytes,
)
from mrtd.service.service import Service
from mrtd.service.sidecar import new_nonce
from mrtd.verifier.binding import Binding
from mrtd.verifier.registration import register_context
from mrtd.verifier.verdict import OK, Verdict


class Registration(msgspec.Struct, frozen=True, kw_only=True):
    """A VM that is admitted.

    Attributes:
        vm_name: the VM's name.
        extra_ingress: further host names.
        owner: by configuration.
        environment: ditto; empty if it is not configured.
        health: where the agent answers ``/health``, by its proof; None if it did not say.
    """

    vm_name: str
    extra_ingress: tuple[Ingress, ...]
    owner: str
    environment: str
    health: str | None = None


class Admitted(msgspec.Struct, frozen=True):
    """What an agent gets, in dd's shape.

    Attributes:
        tunnel_token: secret.
        hostname: where the VM can be reached.
        agent_id: its id.
    """

    tunnel_token: str
    hostname: str
    agent_id: str


class Admission(Protocol):
    """Lets a VM into the fleet: gives it a tunnel and a name. Called in a thread."""

    def __call__(self, registration: Registration, verdict: Verdict) -> Admitted:
        """Admit a VM; whatever is raised, the agent gets 503 and asks again."""


def admit_without_tunnel(registration: Registration, verdict: Verdict) -> Admitted:
    """A random id, and no tunnel: the host name is one that nobody has (RFC 6761, 6.4)."""
    del verdict
    agent = secrets.token_hex(8)
    environment = registration.environment or "reference"
    name = f"{agent}.{environment}.invalid"
    return Admitted(f"reference-no-tunnel-{secrets.token_urlsafe(24)}", name, agent)


class ReferenceControlPlane:
    """``GET /register/nonce``, ``POST /register``, and the pages of the fleet.

    Args:
        service: with the verifier.
        admission: what to do with a VM that is admitted.
        owner: of the fleet.
        environment: its label.
        fleet: who was admitted; by default, one that asks public addresses.
    """

    def __init__(
        self,
        service: Service,
        *,
        admission: Admission = admit_without_tunnel,
        owner: str = "",
        environment: str = "",
        fleet: Fleet | None = None,
    ) -> None:
        self._service, self._admission = service, admission
        self._owner, self._environment = owner, environment
        self.fleet = fleet or Fleet(AgentFetch(), clock=service.clock)
        self._pages = FleetPages(service, self.fleet, owner=owner, environment=environment)
        service.at_end(self.fleet.close)

    @property
    def routes(self) -> tuple[Route, ...]:
        """The endpoints."""
        return (
            Route("/register/nonce", self.nonce, methods=["GET"]),
            Route("/register", self.register, methods=["POST"]),
            *self._pages.routes,
        )

    async def nonce(self, _: Request) -> Response:
        """A new nonce."""
        return new_nonce(self._service)

    async def register(self, request: Request) -> Response:
        """Admit a VM, or say why not."""
        service, notes = self._service, notes_of(request)
        asked = await read_document(request, RegisterRequest, service.limits)
        notes.vm = asked.vm_name
        binding = self._binding(asked)
        verdict = await service.verifier.averify_registration(asked.ita_token, binding=binding)
        status = verdict_status(verdict)
        service.count(verdict)
        notes.take(verdict)
        if status != OK:
            code, headers = str(verdict.reason), verdict_headers(verdict)
            return error_answer(
                status, code, verdict.message, headers=headers, checks=verdict.checks
            )
        return json_answer(await self._admit(asked, verdict))

    def _binding(self, asked: RegisterRequest) -> Binding:
        """What binds the token; an agent that sends it is checked, whatever the operator allows."""
        if asked.nonce is None or asked.public_key is None or asked.proof is None:
            if not self._service.allow_unbound:
                raise binding_missing()
            return "none"
        context = register_context(asked.vm_name, asked.extra_ingress, health=asked.health)
        return nonce_binding(asked.nonce, asked.public_key, asked.proof, context=context)

    async def _admit(self, asked: RegisterRequest, verdict: Verdict) -> Admitted:
        registration = Registration(
            vm_name=asked.vm_name,
            extra_ingress=asked.extra_ingress,
            owner=self._owner,
            environment=self._environment,
            health=asked.health,
        )
        try:
            admitted = await asyncio.get_running_loop().run_in_executor(
                self._service.workers, self._admission, registration, verdict
            )
        except Exception as error:
            self._service.log.write(
                "admission failed", level="error", vm=asked.vm_name, detail=type(error).__name__
            )
            text = "attested, but it could not be given a place in the fleet; try again"
            raise Refusal(503, "admission_failed", text, retry_after=5) from error
        self.fleet.admit(
            admitted.agent_id,
            vm_name=asked.vm_name,
            hostname=admitted.hostname,
            public_key=read_bytes(asked.public_key or "", "public_key"),
            health=asked.health,
            verdict=verdict,
        )
        return admitted
