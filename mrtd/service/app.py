"""The ASGI application: endpoints that every service has, and those of its kind."""

from __future__ import annotations

import platform
from typing import Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route, Router

from mrtd import __version__
from mrtd.service.answers import json_answer
from mrtd.service.gate import Gate
from mrtd.service.metrics import CONTENT_TYPE
from mrtd.service.openapi import description
from mrtd.service.readiness import Readiness
from mrtd.service.reference_cp import ReferenceControlPlane
from mrtd.service.service import Service
from mrtd.service.sidecar import Sidecar

READY: Final = 200
NOT_READY: Final = 503


class HealthBody(msgspec.Struct, frozen=True):
    """Body of ``/healthz``: the process lives, and no more."""

    ok: bool
    version: str
    python: str


def make_app(service: Service, kind: Sidecar | ReferenceControlPlane) -> Gate:
    """The application.

    Args:
        service: what the endpoints share.
        kind: sidecar or reference control plane.
    """
    readiness = Readiness(service)

    async def health(_: Request) -> Response:
        return json_answer(
            HealthBody(ok=True, version=__version__, python=platform.python_version())
        )

    async def ready(_: Request) -> Response:
        found = await readiness.look()
        return json_answer(found, READY if found.ready else NOT_READY)

    async def metrics(_: Request) -> Response:
        # the type as it is: Response would add a second charset to a text/plain
        return Response(service.exposition(), headers={"content-type": CONTENT_TYPE})

    document = msgspec.json.encode(description(reference=isinstance(kind, ReferenceControlPlane)))

    async def openapi(_: Request) -> Response:
        return Response(document, media_type="application/json")

    common = (
        Route("/healthz", health),
        Route("/readyz", ready),
        Route("/metrics", metrics),
        Route("/openapi.json", openapi),
    )
    working = frozenset(route.path for route in kind.routes)
    router = Router([*kind.routes, *common], redirect_slashes=False)
    paths = working | {route.path for route in common}
    return Gate(router, service, paths=paths, working=working)
