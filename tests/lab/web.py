"""An HTTP server on this machine that answers as it is told, also wrongly."""

from __future__ import annotations

import socket
import ssl
import struct
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import Enum, auto
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Final, Self
from urllib.parse import parse_qsl, urlsplit

_DRIP: Final = 0.01  # seconds between two bytes


class How(Enum):
    """How an answer is sent."""

    WHOLE = auto()
    CHUNKED = auto()
    TRUNCATED = auto()
    """The last byte of the body is missing."""
    CHUNKED_TRUNCATED = auto()
    """The last chunk is missing."""
    WITHOUT_LENGTH = auto()
    """The end of the connection is the end of the body."""
    DRIPPING_HEAD = auto()
    DRIPPING_BODY = auto()
    RESET = auto()
    """The connection is reset instead."""


@dataclass(frozen=True, slots=True)
class Request:
    """What was asked.

    Attributes:
        query: parameters, decoded; the last one of a name.
        headers: by lower-case name; those that are repeated, joined.
    """

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Answer:
    """What is answered."""

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    how: How = How.WHOLE

    def head(self) -> bytes:
        lines = [f"HTTP/1.1 {self.status} Lab", *(f"{k}: {v}" for k, v in self.headers.items())]
        if self.how in {How.CHUNKED, How.CHUNKED_TRUNCATED}:
            lines.append("Transfer-Encoding: chunked")
        elif self.how is not How.WITHOUT_LENGTH and "Content-Length" not in self.headers:
            lines.append(f"Content-Length: {len(self.body)}")
        return "\r\n".join([*lines, "", ""]).encode("latin-1")

    def payload(self) -> bytes:
        if self.how in {How.CHUNKED, How.CHUNKED_TRUNCATED}:
            end = b"0\r\n\r\n" if self.how is How.CHUNKED else b""
            return b"%x\r\n%s\r\n%s" % (len(self.body), self.body, end)
        return self.body[:-1] if self.how is How.TRUNCATED else self.body


class Server:
    """Serves on a port of 127.0.0.1 while it is entered.

    Args:
        answer: what to say.
        tls: PEM file with key and certificate.

    Attributes:
        requests: all, in order of their arrival.
        errors: what went wrong in ``answer``; a test demands that there is none.
    """

    def __init__(self, answer: Callable[[Request], Answer], *, tls: Path | None = None) -> None:
        self.answer = answer
        self.requests: list[Request] = []
        self.errors: list[str] = []
        self.closing = threading.Event()
        self._server = _Http(self)
        self.port = int(self._server.server_address[1])
        if tls is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(tls)
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.origin = f"{'http' if tls is None else 'https'}://localhost:{self.port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.closing.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def handle(self, handler: BaseHTTPRequestHandler) -> None:
        """Answer one request."""
        parts = urlsplit(handler.path)
        length = int(handler.headers.get("Content-Length") or 0)
        request = Request(
            handler.command,
            parts.path,
            dict(parse_qsl(parts.query, keep_blank_values=True)),
            {
                name.lower(): ", ".join(handler.headers.get_all(name, []))
                for name in handler.headers
            },
            handler.rfile.read(length),
        )
        self.requests.append(request)
        try:
            answer = self.answer(request)
        except Exception as error:  # noqa: BLE001 - a thread of a server tells nobody else
            self.errors.append(repr(error))
            answer = Answer(500)
        handler.close_connection = True
        with suppress(OSError):  # the other side may have had enough
            self._send(handler, answer)

    def _send(self, handler: BaseHTTPRequestHandler, answer: Answer) -> None:
        out = handler.wfile
        if answer.how is How.RESET:
            linger = struct.pack("ii", 1, 0)
            handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            handler.connection.shutdown(socket.SHUT_RD)
        elif answer.how is How.DRIPPING_HEAD:
            out.write(b"HTTP/1.1 200 Lab\r\nX-Slow: ")
            self._drip(handler)
        elif answer.how is How.DRIPPING_BODY:
            out.write(b"HTTP/1.1 200 Lab\r\nContent-Length: 1000000\r\n\r\n")
            self._drip(handler)
        else:
            out.write(answer.head() + answer.payload())
        out.flush()

    def _drip(self, handler: BaseHTTPRequestHandler) -> None:
        """A byte now and then, until the other side goes away."""
        while not self.closing.wait(_DRIP):
            handler.wfile.write(b" ")
            handler.wfile.flush()


class _Http(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, server: Server) -> None:
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                server.handle(self)

            # the names are those of http.server
            do_POST = do_GET  # noqa: N815
            do_DELETE = do_GET  # noqa: N815
            do_HEAD = do_GET  # noqa: N815
            do_PATCH = do_GET  # noqa: N815
            do_PUT = do_GET  # noqa: N815

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002
                pass

        super().__init__(("127.0.0.1", 0), Handler)

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that goes away is none of ours."""


def make_certificate(folder: Path, name: str = "localhost") -> tuple[Path, Path]:
    """A certificate that is its own CA: PEM files of key and certificate, and of the latter."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    public = certificate.public_bytes(serialization.Encoding.PEM)
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    both, ca = folder / f"{name}.pem", folder / f"{name}-ca.pem"
    both.write_bytes(private + public)
    ca.write_bytes(public)
    return both, ca
