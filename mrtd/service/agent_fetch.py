"""Asking an agent for its ``/health``: at the address that was looked at, and nowhere else.

An agent names the address itself. Without care, a VM could make the control plane ask the cloud's
metadata service or its neighbours: the name is resolved once, every address that comes back has to
be a public one (or in a network that the operator named), and the connection goes to the address
that was looked at, whatever the name means a moment later.
"""

from __future__ import annotations

import ipaddress
import re
import socket
import ssl
from collections.abc import Callable
from http.client import HTTPConnection
from typing import Final, Protocol

import msgspec

from mrtd.errors import MalformedDocument, TransportError
from mrtd.images.health import SIZE_LIMIT
from mrtd.verifier.fetch import exchange, tls_context
from mrtd.verifier.verdict import OK

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Resolve = Callable[[str, int], list[str]]

HEALTH_PATTERN: Final = (
    r"^https?://(?:[a-z0-9](?:[a-z0-9.-]{0,251}[a-z0-9])?|\[[0-9a-f:.]{2,45}\])"
    r"(?::[1-9][0-9]{0,4})?$(?!\n)"
)
"""``https://host[:port]`` (or http), in lower case; ``/health`` is understood."""
_HEALTH: Final = re.compile(r"(https?)://(?:\[([^\]]+)\]|([^:\[\]]+))(?::([0-9]+))?")
_PORTS: Final = {"http": 80, "https": 443}
_SECONDS: Final = 10.0
# Addresses of IPv6 that lead to one of IPv4: RFC 6052 (NAT64; and the local prefix of RFC 8215)
_NAT64: Final = tuple(ipaddress.ip_network(n) for n in ("64:ff9b::/96", "64:ff9b:1::/48"))
_UNICAST: Final = ipaddress.ip_network("2000::/3")
"""RFC 4291, 2.4: all of IPv6 that is given to anybody; site-local addresses are not in it."""
# What some versions of Python call global: IANA's special-purpose registries, and the address at
# which Azure's hosts answer their guests
_SPECIAL: Final = tuple(
    ipaddress.ip_network(n)
    for n in ("192.0.0.0/24", "192.88.99.0/24", "168.63.129.16/32", "3fff::/20")
)


class AddressRefused(TransportError):
    """An agent's address is none that is asked."""


class AskAgent(Protocol):
    """Fetches an agent's ``/health``."""

    def __call__(self, health: str) -> bytes:
        """The body. Raises `MrtdError`."""


class Place(msgspec.Struct, frozen=True):
    """Where an agent's ``/health`` is.

    Attributes:
        scheme: ``http`` or ``https``.
        host: a name, or an address without brackets.
        port: TCP port.
    """

    scheme: str
    host: str
    port: int

    @classmethod
    def read(cls, text: str) -> Place:
        """Read ``https://host[:port]``. Raises `MalformedDocument`."""
        found = _HEALTH.fullmatch(text)
        port = int(found[4] or _PORTS[found[1]]) if found and re.match(HEALTH_PATTERN, text) else 0
        if found is None or not 0 < port < 1 << 16:
            raise MalformedDocument(
                "is not of the form https://HOST:PORT", origin="registration", field="health"
            )
        return cls(found[1], found[2] or found[3], port)


class AgentFetch:
    """`AskAgent`. Thread-safe.

    Args:
        networks: addresses that are asked although they are not public; there, http will do.
        seconds: for the whole exchange; a name's resolution comes before it.
        resolve: addresses of a name.
        tls: for https; by default, the certificates of certifi.
    """

    def __init__(
        self,
        networks: tuple[Network, ...] = (),
        *,
        seconds: float = _SECONDS,
        resolve: Resolve | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._networks, self._seconds = networks, seconds
        self._resolve, self._tls = resolve or _addresses, tls

    def __call__(self, health: str) -> bytes:
        """The body of ``/health``. Raises `MrtdError`."""
        place = Place.read(health)
        address = self._checked(place)
        tls = self._context() if place.scheme == "https" else None
        answer = exchange(
            _Pinned(place, address, tls),
            place.host,
            "/health",
            headers={"Accept": "application/json"},
            limit=SIZE_LIMIT,
            timeout=self._seconds,
        )
        if answer.status != OK:
            raise TransportError(f"{place.host}: /health answered {answer.status}")
        return answer.body

    def _checked(self, place: Place) -> Address:
        """The address to connect to, if all that the name has may be asked. Raises `MrtdError`."""
        try:
            found = [ipaddress.ip_address(a) for a in self._resolve(place.host, place.port)]
        except (OSError, ValueError) as error:
            raise TransportError(f"{place.host}: is not found: {type(error).__name__}") from None
        if not found:
            raise TransportError(f"{place.host}: has no address")
        for address in found:
            named = any(address in n for n in self._networks if n.version == address.version)
            if not named and not is_public(address):
                raise AddressRefused(
                    f"{place.host}: {address} is not a public address",
                    hint="serve --fleet-network names networks that may be asked",
                )
            if place.scheme != "https" and not named:
                raise AddressRefused(f"{place.host}: is asked over https only")
        return found[0]

    def _context(self) -> ssl.SSLContext:
        if self._tls is None:
            self._tls = tls_context()  # made twice by two threads, it is the same twice
        return self._tls


def is_public(address: Address) -> bool:
    """Whether an address is one of the Internet, and hides no other one in it."""
    if isinstance(address, ipaddress.IPv6Address):
        hidden = address.ipv4_mapped or address.sixtofour or address.teredo
        if hidden or address.scope_id or any(address in network for network in _NAT64):
            return False
        if address not in _UNICAST:
            return False
    if any(address in n for n in _SPECIAL if n.version == address.version):
        return False
    return address.is_global and not address.is_multicast and not address.is_reserved


class _Pinned(HTTPConnection):
    """A connection to an address; the name is for TLS and the ``Host`` header only."""

    def __init__(self, place: Place, address: Address, tls: ssl.SSLContext | None) -> None:
        super().__init__(place.host, place.port)
        self._place, self._address, self._context = place, address, tls

    def connect(self) -> None:
        """Connect, in plain or with TLS."""
        line = socket.create_connection((str(self._address), self._place.port), self.timeout)
        try:
            if self._context is not None:
                line = self._context.wrap_socket(line, server_hostname=self._place.host)
        except BaseException:
            line.close()
            raise
        self.sock = line


def _addresses(host: str, port: int) -> list[str]:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(entry[4][0]) for entry in found]
