"""HTTP as the verifier needs it: bounded in size and time, no redirects, no ambient credentials.

`Fetch` is the interface; a control plane may give its own. `HttpFetch` is made of requests, which
is imported with the first request.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

import msgspec

from mrtd.errors import TransportError

if TYPE_CHECKING:
    import requests

_CHUNK: Final = 1 << 16


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
            url: absolute.
            headers: sent as they are; nothing is added that identifies the caller.
            limit: largest body, bytes.
            timeout: seconds for the whole exchange, however slowly it drips.

        Raises:
            TransportError: no connection, no answer in time, a body that is cut short or too long.
        """


class HttpFetch:
    """`Fetch` over requests.

    ``.netrc`` and proxy variables of the environment are not used: a token must reach no host but
    the one it is meant for.

    Args:
        ca_bundle: certificates to trust instead of those of certifi.
        proxy: URL of a proxy for https.
    """

    def __init__(self, *, ca_bundle: Path | None = None, proxy: str | None = None) -> None:
        self._verify: str | bool = True if ca_bundle is None else str(ca_bundle)
        self._proxies = {} if proxy is None else {"https": proxy}
        self._local = threading.local()

    def __call__(
        self, url: str, *, headers: Mapping[str, str], limit: int, timeout: float
    ) -> Response:
        """Fetch a URL. Raises `TransportError`."""
        import requests  # noqa: PLC0415 - heavy

        deadline = time.monotonic() + timeout
        try:
            with self._session().get(
                url,
                headers=dict(headers),
                timeout=timeout,
                stream=True,
                allow_redirects=False,
                verify=self._verify,
                proxies=self._proxies,
            ) as answer:
                body = _body(answer, url, limit, deadline)
                found = {name.lower(): value for name, value in answer.headers.items()}
                return Response(answer.status_code, found, body)
        except (requests.RequestException, OSError, ValueError) as error:
            # the text of such errors has the URL in it, and a pre-signed URL is a secret
            raise TransportError(
                f"{_host(url)} gave no usable answer: {type(error).__name__}"
            ) from error

    def _session(self) -> requests.Session:
        import requests  # noqa: PLC0415 - heavy

        session: requests.Session | None = getattr(self._local, "session", None)
        if session is None:
            session = requests.Session()
            session.trust_env = False
            self._local.session = session
        return session


def _body(answer: requests.Response, url: str, limit: int, deadline: float) -> bytes:
    """The body, read while there is time."""
    found = bytearray()
    # raw.read1 gives what has come, so that a slow drip cannot outlast the deadline
    for chunk in answer.iter_content(_CHUNK):
        found += chunk
        if len(found) > limit:
            raise TransportError(f"{_host(url)} sent more than {limit} bytes")
        if time.monotonic() > deadline:
            raise TransportError(f"{_host(url)} was too slow")
    return bytes(found)


def _host(url: str) -> str:
    """The host of a URL, for messages: paths and queries may be secret."""
    return url.split("://", 1)[-1].split("/", 1)[0].rpartition("@")[2]
