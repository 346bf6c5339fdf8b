"""The process: uvicorn with our limits, signals, and an end that leaves nothing behind."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager
from typing import Any, ClassVar, Final

import h11
import msgspec
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from mrtd.service.answers import ErrorBody, ErrorText
from mrtd.service.gate import Gate
from mrtd.service.limits import Limits
from mrtd.service.logs import LibraryRecords
from mrtd.service.service import Service

_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)
_KEEP_ALIVE: Final = 15  # seconds that an idle connection is kept
_TOO_LARGE: Final = 431
_THREADS: Final = 2.0  # seconds for threads whose requests have been given up


def serve(
    service: Service,
    app: Gate,
    place: AbstractContextManager[socket.socket],
    announce: Callable[[socket.socket], None],
) -> None:
    """Serve until SIGTERM or SIGINT; then finish the requests in flight, and close.

    Does not return, but ends the process, if threads are still at work after the time limit: they
    wait for upstreams, and nobody waits for them.

    Args:
        service: is closed at the end.
        app: the application.
        place: where to listen; it is left before the threads are waited for.
        announce: says where it listens, once requests and signals are taken care of.
    """
    root, records = logging.getLogger(), LibraryRecords(service.log)
    root.addHandler(records)
    started = False
    try:
        with place as listener:
            started = True
            policy = service.policy
            service.log.write("started", policy=policy.digest, mode=policy.mode)
            asyncio.run(_run(service, app, listener, announce))
    finally:
        done = service.close(_THREADS)
        if started:
            service.log.write("stopped", detail=None if done else "threads were still at work")
        service.log.close()
        root.removeHandler(records)
    if not done:
        sys.stdout.flush()
        os._exit(0)


async def _run(
    service: Service,
    app: Gate,
    listener: socket.socket,
    announce: Callable[[socket.socket], None],
) -> None:
    class Protocol(_Protocol):
        limits = service.limits

    config = uvicorn.Config(
        app,
        access_log=False,
        date_header=False,
        h11_max_incomplete_event_size=service.limits.head_bytes,
        http=Protocol,
        lifespan="off",
        log_config=None,
        loop="asyncio",
        proxy_headers=False,
        server_header=False,
        timeout_graceful_shutdown=max(1, int(service.limits.drain_seconds)),
        timeout_keep_alive=_KEEP_ALIVE,
        ws="none",
    )
    server = _Server(config, lambda: announce(listener))

    def stop() -> None:
        if server.should_exit:
            server.force_exit = True  # told twice
        service.draining = True
        server.should_exit = True

    loop = asyncio.get_running_loop()
    for number in _SIGNALS:
        loop.add_signal_handler(number, stop)
    await server.serve([listener])


class _Server(uvicorn.Server):
    """uvicorn's, which leaves signals alone: its own would end the process before it is tidy."""

    def __init__(self, config: uvicorn.Config, announce: Callable[[], None]) -> None:
        super().__init__(config)
        self._announce = announce

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to take requests."""
        await super().startup(sockets)
        self._announce()

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """Nothing; see `_run`."""
        yield


class _Protocol(H11Protocol):
    """uvicorn's, with a time limit for heads, a limit of connections, and errors in JSON."""

    limits: ClassVar[Limits]

    def __init__(self, *arguments: Any, **keywords: Any) -> None:  # noqa: ANN401 - uvicorn's
        super().__init__(*arguments, **keywords)
        self._head_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A client has connected."""
        super().connection_made(transport)
        if len(self.connections) > self.limits.connections:
            transport.abort()
            return
        self._await_head()

    def data_received(self, data: bytes) -> None:
        """A client has sent something."""
        super().data_received(data)
        if self.conn.their_state is not h11.IDLE:
            self._head_arrived()
        elif self._head_timer is None:
            self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection has ended."""
        self._head_arrived()
        super().connection_lost(exc)

    def send_400_response(self, msg: str) -> None:
        """What the client sent is no HTTP, or its head is too large."""
        del msg
        # h11 answers nothing more where it has begun to, or after the client's end
        if self.conn.our_state not in {h11.IDLE, h11.SEND_RESPONSE}:
            self.transport.close()
            return
        too_large = len(self.conn.trailing_data[0]) > self.limits.head_bytes
        status = _TOO_LARGE if too_large else 400
        code = "head_too_large" if too_large else "no_http"
        text = ErrorText(code, "the head of the request cannot be read")
        body = msgspec.json.encode(ErrorBody(text))
        headers = [
            ("content-type", "application/json"),
            ("content-length", str(len(body))),
            ("connection", "close"),
        ]
        answer = h11.Response(status_code=status, headers=headers)
        for event in (answer, h11.Data(data=body), h11.EndOfMessage()):
            self.transport.write(self.conn.send(event) or b"")
        self.transport.close()

    def _await_head(self) -> None:
        self._head_timer = self.loop.call_later(self.limits.head_seconds, self._give_up)

    def _head_arrived(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _give_up(self) -> None:
        """A head that drips in, or never comes."""
        self._head_timer = None
        if not self.transport.is_closing():
            self.transport.abort()
