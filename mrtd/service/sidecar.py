"""The sidecar: nonces and verdicts for a control plane that is written in another language."""

from __future__ import annotations

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from mrtd.errors import MalformedCollateral
from mrtd.evidence.collateral import read_collateral
from mrtd.service.answers import Refusal, json_answer, verdict_headers, verdict_status
from mrtd.service.body import read_body, read_document
from mrtd.service.gate import notes_of
from mrtd.service.requests import VerifyRequest, binding_of, read_bytes
from mrtd.service.service import Service
from mrtd.verifier.binding import Binding
from mrtd.verifier.nonce import nonce_text
from mrtd.verifier.verdict import Verdict


class NonceBody(msgspec.Struct, frozen=True):
    """A nonce.

    Attributes:
        nonce: base64url; it can be used once.
        expires_in: seconds.
    """

    nonce: str
    expires_in: int


class Sidecar:
    """``POST /v1/nonce`` and ``POST /v1/verify``."""

    def __init__(self, service: Service) -> None:
        self._service = service

    @property
    def routes(self) -> tuple[Route, ...]:
        """The endpoints."""
        return (
            Route("/v1/nonce", self.nonce, methods=["POST"]),
            Route("/v1/verify", self.verify, methods=["POST"]),
        )

    async def nonce(self, request: Request) -> Response:
        """A new nonce; there is nothing to say in the request."""
        body = await read_body(request, self._service.limits)
        if body.strip() not in {b"", b"{}"}:
            raise Refusal(400, "invalid_request", "body: is not empty")
        return new_nonce(self._service)

    async def verify(self, request: Request) -> Response:
        """The verdict about a VM; the status says the same as the body."""
        service, notes = self._service, notes_of(request)
        asked = await read_document(request, VerifyRequest, service.limits)
        notes.vm = asked.vm_name
        binding = binding_of(asked.binding, allow_none=service.allow_unbound)
        bundles = tuple(bytes(bundle) for bundle in asked.bundles)
        if asked.ita_token is None:
            verdict = await self._verify_quote(asked, binding, bundles)
        else:
            verdict = await service.verifier.averify_registration(
                asked.ita_token, binding=binding, bundles=bundles
            )
        status = verdict_status(verdict)
        service.count(verdict)
        notes.take(verdict)
        return json_answer(verdict, status, verdict_headers(verdict))

    async def _verify_quote(
        self, asked: VerifyRequest, binding: Binding, bundles: tuple[bytes, ...]
    ) -> Verdict:
        """The verdict about a raw quote."""
        quote = read_bytes(asked.quote or "", "quote")
        document = msgspec.json.encode(asked.collateral)
        try:
            collateral = read_collateral(document, origin="collateral")
        except MalformedCollateral as error:
            raise Refusal(400, "invalid_request", error.message[:300]) from error
        return await self._service.verifier.averify_quote(
            quote, collateral, binding=binding, bundles=bundles
        )


def new_nonce(service: Service) -> Response:
    """A nonce as JSON."""
    text = nonce_text(service.nonces.issue())
    return json_answer(NonceBody(text, service.limits.nonce_seconds))
