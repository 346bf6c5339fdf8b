"""A Redis or Valkey server as the cache that replicas share (`mrtd.verifier.shared`).

Two commands of RESP2 (https://valkey.io/topics/protocol) on a connection of their own: a launch is
asked for once in some minutes. Nothing of a server is trusted: every answer is bounded in size and
time, and what is wrong with it means that nothing is known. A server that fails is left alone.
"""

from __future__ import annotations

import ipaddress
import re
import socket
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple, Self
from urllib.parse import urlsplit

import msgspec

from mrtd.errors import PolicyError
from mrtd.verifier.budget import Breaker
from mrtd.verifier.clock import Clock
from mrtd.verifier.fetch import tls_context

if TYPE_CHECKING:
    import ssl

ADDRESS: Final = "DD_SHARED_CACHE"
PASSWORD: Final = "DD_SHARED_CACHE_PASSWORD"  # noqa: S105 - the name of a variable
CERTIFICATES: Final = "DD_SHARED_CACHE_CA"
ENTRY_LIMIT: Final = 4 << 20
"""Largest list of bundles, bytes."""
_SECONDS: Final = 0.5
_LINE: Final = 512
_PORT: Final = 6379
_LENGTH: Final = re.compile(rb"\$([0-9]{1,9})")
_BUNDLES: Final = msgspec.msgpack.Decoder(tuple[bytes, ...])


class Server(NamedTuple):
    """Where it is: the path of a Unix socket, or host and port; TLS, and the password."""

    path: str | None
    host: str
    port: int
    tls: ssl.SSLContext | None
    password: str | None


class RedisCache:
    """Lists of bundles on a server; see `mrtd.verifier.shared.BundleCache`. Thread-safe.

    Args:
        server: where it is.
        namespace: the first part of its keys.
        clock: for how long a server that fails is left alone.

    Attributes:
        failures: requests that came to nothing, since start.
    """

    def __init__(self, server: Server, namespace: str, clock: Clock) -> None:
        self._server, self._namespace = server, namespace
        self._breaker = Breaker(clock)
        self.failures = 0

    def get(self, digest: str) -> tuple[bytes, ...]:
        """The bundles of a digest; none on failure."""
        answer = self._ask(b"GET", self._key(digest))
        try:
            return () if answer is None else _BUNDLES.decode(answer)
        except (ValueError, RecursionError):  # msgspec's errors are ValueErrors
            self.failures += 1
            return ()

    def put(self, digest: str, bundles: tuple[bytes, ...], seconds: int) -> None:
        """Keep bundles; what is too large is not kept."""
        entry = msgspec.msgpack.encode(bundles)
        if len(entry) <= ENTRY_LIMIT:
            self._ask(b"SET", self._key(digest), entry, b"EX", b"%d" % seconds)

    def _key(self, digest: str) -> bytes:
        return f"{self._namespace}:{digest}".encode()

    def _ask(self, *command: bytes) -> bytes | None:
        """The answer to a command; None if it is null, or there is none."""
        if self._breaker.enter() is not None:
            return None
        try:
            found = self._exchange(command)
        except (OSError, ValueError):
            self.failures += 1
            self._breaker.failed()
            return None
        self._breaker.succeeded()
        return found

    def _exchange(self, command: tuple[bytes, ...]) -> bytes | None:
        password = self._server.password
        commands = [command] if password is None else [(b"AUTH", password.encode()), command]
        with _Line(self._server) as line:
            line.send(b"".join(_encoded(one) for one in commands))
            return [line.reply() for _ in commands][-1]


class _Line:
    """A connection that has a time limit for all of it. Its methods raise OSError, ValueError."""

    def __init__(self, server: Server) -> None:
        self._deadline = time.monotonic() + _SECONDS
        self._buffer = bytearray()
        if server.path is not None:
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        else:
            self._socket = socket.create_connection((server.host, server.port), self._left())
        try:
            self._socket.settimeout(self._left())
            if server.path is not None:
                self._socket.connect(server.path)
            if server.tls is not None:
                self._socket = server.tls.wrap_socket(self._socket, server_hostname=server.host)
        except BaseException:
            self._socket.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def send(self, data: bytes) -> None:
        self._socket.settimeout(self._left())
        self._socket.sendall(data)  # the time limit is one for all of it

    def reply(self) -> bytes | None:
        """A simple string or a bulk string; None is null. Raises ``ValueError`` for all else."""
        while (end := self._buffer.find(b"\r\n")) < 0:
            if len(self._buffer) > _LINE:
                raise ValueError("a line without an end")
            self._more()
        line = self._take(end + 2)[:-2]
        if line == b"$-1":
            return None
        if line == b"+OK":
            return b""
        length = _LENGTH.fullmatch(line)
        if length is None or int(length[1]) > ENTRY_LIMIT:
            raise ValueError("an error, or nothing that was asked for")
        while len(self._buffer) < int(length[1]) + 2:
            self._more()
        return self._take(int(length[1]) + 2)[:-2]

    def _take(self, size: int) -> bytes:
        taken = bytes(self._buffer[:size])
        del self._buffer[:size]
        return taken

    def _more(self) -> None:
        self._socket.settimeout(self._left())
        chunk = self._socket.recv(1 << 16)
        if not chunk:
            raise ConnectionError("the end of the connection")
        self._buffer += chunk

    def _left(self) -> float:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("too slow")
        return left


def shared_cache(environment: Mapping[str, str], *, repository_id: str) -> RedisCache | None:
    """The cache that the environment names; None if it names none. Nothing is connected yet.

    Raises:
        PolicyError: the address is none, or a password or bundles would cross a network in clear.
    """
    text = environment.get(ADDRESS)
    if not text:
        return None
    server = _server(text, environment)
    return RedisCache(server, f"mrtd:bundles:1:{repository_id}", Clock())


def _server(text: str, environment: Mapping[str, str]) -> Server:
    password = environment.get(PASSWORD) or None
    if text.startswith("unix:/"):
        return Server(text.removeprefix("unix:"), "", 0, None, password)
    try:
        url = urlsplit(text)
        host, port = url.hostname or "", url.port or _PORT
    except ValueError:
        raise _wrong("is no address") from None
    if url.scheme not in {"redis", "rediss"} or not host or url.path.strip("/") or url.query:
        raise _wrong("is no address")
    if "@" in url.netloc:
        raise _wrong(f"has a password in it, which belongs into {PASSWORD}")
    if url.scheme == "redis" and not _is_loopback(host):
        raise _wrong("is not encrypted, and not on this machine")
    own = environment.get(CERTIFICATES)
    try:
        tls = tls_context(Path(own) if own else None) if url.scheme == "rediss" else None
    except OSError as error:
        raise PolicyError(
            f"cannot be used: {error.strerror}", origin="environment", field=CERTIFICATES
        ) from error
    return Server(None, host, port, tls, password)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False  # a name may become any address


def _wrong(what: str) -> PolicyError:
    """The address itself is not shown: it may have a password in it."""
    hint = "unix:/run/redis.sock, redis://127.0.0.1:6379 or rediss://cache.example.com:6379"
    return PolicyError(what, origin="environment", field=ADDRESS, hint=hint)


def _encoded(command: tuple[bytes, ...]) -> bytes:
    parts = (b"$%d\r\n%s\r\n" % (len(part), part) for part in command)
    return b"*%d\r\n%s" % (len(command), b"".join(parts))
