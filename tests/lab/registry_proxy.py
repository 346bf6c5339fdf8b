"""A registry that misbehaves: between a client and a real one, it spoils what it is told to."""

from __future__ import annotations

import http.client
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Final, Self, TypeAlias
from urllib.parse import urlencode

from tests.lab.faults import Fault
from tests.lab.registry import Registry
from tests.lab.web import Answer, Request, Server

Matches: TypeAlias = Callable[[Request], bool]
_HOPS: Final = frozenset({"connection", "transfer-encoding", "keep-alive"})


@dataclass(slots=True)
class RegistryProxy:
    """Forwards everything to a registry, but for what ``faults`` and ``lies`` say.

    Attributes:
        faults: which requests get a fault.
        lies: which requests get another body, under the genuine headers.
    """

    registry: Registry
    faults: list[tuple[Matches, Fault]] = field(default_factory=list)
    lies: list[tuple[Matches, bytes]] = field(default_factory=list)
    web: Server = field(init=False)

    def __post_init__(self) -> None:
        self.web = Server(self._answer)

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.web.port}"

    def __enter__(self) -> Self:
        self.web.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.web.__exit__(kind, error, trace)

    def _answer(self, request: Request) -> Answer:
        for matches, fault in self.faults:
            if matches(request):
                return fault.answer(request, lambda: self._forward(request))
        return self._forward(request)

    def _forward(self, request: Request) -> Answer:
        query = f"?{urlencode(request.query)}" if request.query else ""
        connection = http.client.HTTPConnection("127.0.0.1", self.registry.port, timeout=60)
        try:
            headers = {name: value for name, value in request.headers.items() if name not in _HOPS}
            connection.request(request.method, f"{request.path}{query}", request.body, headers)
            found = connection.getresponse()
            body = found.read()
        finally:
            connection.close()
        kept = {name: value for name, value in found.getheaders() if name.lower() not in _HOPS}
        kept["Connection"] = "close"
        for matches, lie in self.lies:
            if matches(request) and found.status == 200:
                kept["Content-Length"] = str(len(lie))
                body = b"" if request.method == "HEAD" else lie
        return Answer(found.status, body, kept)


def manifests(reference: str = "") -> Matches:
    """Requests of manifests, or of one."""
    return lambda request: "/manifests/" in request.path and reference in request.path


def blobs() -> Matches:
    """Requests of blobs."""
    return lambda request: "/blobs/" in request.path


def everything(request: Request) -> bool:
    """Any request."""
    return bool(request)
