"""HTTP as the verifier needs it: bounded in size and time, no redirects, no ambient credentials.

`Fetch` is the interface; a control plane may give its own. `HttpFetch` is made of http.client,
which leaves the socket at hand: nothing else ends a head that drips in slowly.
"""

from __future__ import annotations

import base64
import ssl
import threading
import time
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from pathlib import Path
from socket import SHUT_RDWR, socket
from typing import Final, Protocol
from urllib.parse import SplitResult, unquote, urlsplit

import msgspec

from mrtd.errors import TransportError

_CHUNK: Final = 1 << 16
_GZIP: Final = 16 + zlib.MAX_WBITS  # zlib manual, inflateInit2: 16 more for a gzip header


class Response(msgspec.Struct, frozen=True):
    """An answer: any status, headers by lower-case name, the whole body."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Fetch(Protocol):
    """``GET`` a URL; safe to call from several threads."""

    def __call__(
        self, url: str, *, headers: Mapping[str, str], limit: int, timeout: float
    ) -> Response:
        """Fetch a URL without following redirects.

        Args:
            url: absolute, https.
            headers: sent as they are; nothing is added that identifies the caller.
            limit: largest body, bytes, packed and unpacked.
            timeout: seconds for the whole exchange, however slowly it drips; finding the address
                of a host takes as long as the system's resolver allows.

        Raises:
            TransportError: no connection, no answer in time, a body that is cut short or too long.
                The message has no more of the URL than the host.
        """


class UnusableAnswer(TransportError):
    """The address or the answer is one that cannot be used: asking again gives the same."""


class HttpFetch:
    """`Fetch` for https; a connection of its own for each request.

    ``.netrc`` and the environment (proxies, certificates, TLS key log) are not used: a token must
    reach no host but the one it is meant for.

    Args:
        ca_bundle: certificates (PEM) to trust instead of those of certifi.
        proxy: ``http://[user:password@]host:port``, asked to ``CONNECT``.
    """

    def __init__(self, *, ca_bundle: Path | None = None, proxy: str | None = None) -> None:
        self._ca_bundle, self._proxy = ca_bundle, proxy
        self._lock = threading.Lock()
        self._tls: ssl.SSLContext | None = None

    def __call__(
        self,
        url: str,
        *,
        headers: Mapping[str, str],
        limit: int,
        timeout: float,
        body: bytes | None = None,
    ) -> Response:
        """Fetch a URL; with a body, ``POST`` it. Raises `TransportError`."""
        host = "the address"
        try:
            parts = _split(url)
            host = str(parts.hostname)
            path = f"{parts.path or '/'}{'?' if parts.query else ''}{parts.query}"
            connection = self._connection(parts)
        except _Unusable as error:
            raise UnusableAnswer(f"{host}: no usable answer: {error}") from None
        except (OSError, ValueError) as error:
            raise TransportError(f"{host}: no usable answer: {type(error).__name__}") from None
        return exchange(
            connection, host, path, headers=headers, limit=limit, timeout=timeout, body=body
        )

    def _connection(self, parts: SplitResult) -> HTTPConnection:
        """Not yet connected: to the host, or to the proxy."""
        host, port = parts.hostname or "", parts.port or 443
        if parts.scheme != "https":
            raise _Unusable("the address is not https")
        if self._proxy is None:
            return HTTPSConnection(host, port, context=self._context())
        proxy = urlsplit(self._proxy)
        if proxy.scheme != "http" or not proxy.hostname:
            raise _Unusable("the proxy is not of the form http://host:port")
        user = f"{unquote(proxy.username or '')}:{unquote(proxy.password or '')}".encode()
        known = {"Proxy-Authorization": f"Basic {base64.b64encode(user).decode()}"}
        connection = HTTPSConnection(proxy.hostname, proxy.port or 80, context=self._context())
        connection.set_tunnel(host, port, headers=known if proxy.username else {})
        return connection

    def _context(self) -> ssl.SSLContext:
        with self._lock:
            if self._tls is None:
                self._tls = tls_context(self._ca_bundle)
            return self._tls


def tls_context(ca_bundle: Path | None = None) -> ssl.SSLContext:
    """For clients: certificates of a file (PEM), or certifi's; nothing of the environment."""
    if ca_bundle is None:
        import certifi  # noqa: PLC0415 - not needed with a bundle

        ca_bundle = Path(certifi.where())
    # not ssl.create_default_context(): that obeys SSLKEYLOGFILE
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # checks chain and host name
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_verify_locations(str(ca_bundle))
    return context


def exchange(
    connection: HTTPConnection,
    host: str,
    path: str,
    *,
    headers: Mapping[str, str],
    limit: int,
    timeout: float,
    body: bytes | None = None,
) -> Response:
    """One request on a connection that is not yet made, and is closed afterwards; as `Fetch`.

    Args:
        connection: to the host.
        host: for messages.
        path: with query.
        headers: besides those that are always sent.
        limit: see `Fetch`.
        timeout: ditto.
        body: makes it a ``POST``.

    Raises:
        TransportError: see `Fetch`.
    """
    late = threading.Event()
    failure: type[TransportError] = TransportError
    try:
        sent = {"Accept-Encoding": "gzip", "Connection": "close", **headers}
        with _within(timeout, connection, late) as line:
            line.request("GET" if body is None else "POST", path, body, sent)
            with line.getresponse() as answer:
                found = Response(answer.status, _headers(answer), _body(answer, limit))
    except _Unusable as error:
        why, failure = str(error), UnusableAnswer
    except _Incomplete as error:
        why = str(error)
    except (OSError, HTTPException, RuntimeError, ValueError, zlib.error) as error:
        why = type(error).__name__  # its text may have the URL or a header in it: secrets
    else:
        why = ""
    if late.is_set():  # what looks like the end of a body may be where it was cut
        why, failure = f"not within {timeout:.0f} s", TransportError
    if why:
        raise failure(f"{host}: no usable answer: {why}")
    return found


class _Unusable(ValueError):
    """What is wrong, in words that may be shown."""


class _Incomplete(OSError):
    """The same, where the connection is to blame."""


@contextmanager
def _within(
    seconds: float, connection: HTTPConnection, late: threading.Event
) -> Iterator[HTTPConnection]:
    """Connects, and shuts the socket when the time is over, which ends whatever waits for it.

    The time limit of a socket would be one for each read only.
    """
    deadline = time.monotonic() + seconds
    connection.timeout = seconds / 2  # TCP and TLS get it one after the other
    watchdog = None
    try:
        connection.connect()
        line: socket = connection.sock  # the connection forgets it as soon as the body begins

        def cut() -> None:
            late.set()
            with suppress(OSError):
                socket.shutdown(line, SHUT_RDWR)  # that of SSLSocket is not for other threads

        watchdog = threading.Timer(deadline - time.monotonic(), cut)
        watchdog.daemon = True
        watchdog.start()
        line.settimeout(seconds)
        yield connection
    finally:
        if watchdog is not None:
            watchdog.cancel()
            with suppress(RuntimeError):  # it could not be started
                watchdog.join()
        connection.close()


def _split(url: str) -> SplitResult:
    # urlsplit would drop a newline, and others read a backslash as a slash
    if not url.isascii() or not url.isprintable() or " " in url or "\\" in url:
        raise _Unusable("the address is no plain text")
    parts = urlsplit(url)
    if not parts.hostname or "@" in parts.netloc:
        raise _Unusable("the address has no host, or a user name")
    return parts


def _headers(answer: HTTPResponse) -> dict[str, str]:
    """RFC 9110 section 5.2: lines of the same name are one list."""
    found: dict[str, str] = {}
    for name, value in answer.getheaders():
        key = name.lower()
        found[key] = f"{found[key]}, {value}" if key in found else value
    return found


def _body(answer: HTTPResponse, limit: int) -> bytes:
    """The whole body, unpacked; never more than ``limit`` bytes of it are in memory."""
    if answer.length is None and not answer.chunked:
        raise _Unusable("a body without a length, of which the end cannot be told")
    encoding = (answer.getheader("content-encoding") or "identity").lower()
    if encoding not in {"identity", "gzip"}:
        raise _Unusable("an unknown content encoding")
    inflate = zlib.decompressobj(_GZIP) if encoding == "gzip" else None
    found, packed = bytearray(), answer.length or 0
    if packed > limit:
        raise _Unusable(f"more than {limit} bytes")
    packed = 0
    while chunk := answer.read1(_CHUNK):
        packed += len(chunk)
        found += inflate.decompress(chunk, limit + 1 - len(found)) if inflate else chunk
        if max(packed, len(found)) > limit:
            raise _Unusable(f"more than {limit} bytes")
    # RFC 9112 section 8: what is shorter than its length is incomplete; http.client says nothing
    if answer.length or (inflate and packed and (not inflate.eof or inflate.unused_data)):
        raise _Incomplete("a body that is cut short")
    return bytes(found)
