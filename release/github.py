"""GitHub's REST API as a release needs it: attestations, releases and their assets.

Source: GitHub REST API 2022-11-28 ("Attestations", "Releases", "Release assets"). Reading
attestations is the verifier's business (`mrtd.verifier.github`); this writes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, TypeVar
from urllib.parse import quote, urljoin, urlsplit

import msgspec
import requests

import mrtd
from mrtd.errors import ServiceRefused, SpecError, TransportError
from release.attempts import Attempts, BadStatus, Patience
from release.secret import Secret, is_private

DEFAULT_API: Final = "https://api.github.com"
T = TypeVar("T")

_SERVICE: Final = "GitHub's API"
_SIZE_LIMIT: Final = 64 << 20
_LISTED: Final = 50
_SOCKET_SECONDS: Final = 30
_UPLOAD_SECONDS: Final = 600.0  # evidence has up to 64 MiB
_PERMISSIONS: Final = {
    "attestations": "attestations: write",
    "releases": "contents: write",
    "assets": "contents: write",
}


class Asset(msgspec.Struct, frozen=True):
    """A file of a release; ``state`` is ``starter`` where its upload was cut off."""

    id: int
    name: str
    size: int = 0
    state: str = "uploaded"
    digest: str | None = None


class ReleaseEntry(msgspec.Struct, frozen=True):
    """A release as GitHub lists it; drafts only to those who may write."""

    id: int
    tag_name: str
    upload_url: str
    draft: bool = False
    assets: tuple[Asset, ...] = ()


class _Repository(msgspec.Struct, frozen=True):
    private: bool


class _Uploaded(msgspec.Struct, frozen=True):
    id: int


@dataclass(frozen=True, slots=True)
class _Sent:
    """One request, without what authorizes it."""

    method: str
    url: str
    body: bytes | None = None
    kind: str = "application/json"
    accept: str = "application/vnd.github+json"


@dataclass(frozen=True, slots=True)
class _Got:
    status: int
    headers: Mapping[str, str]
    body: bytes


class GitHubApi:
    """One repository at GitHub.

    Args:
        repository: ``owner/name``.
        api: address of the API (``GITHUB_API_URL``).
        token: that may write; None to read what is public.
        patience: with the service; each call has its own time.

    Raises:
        SpecError: a token would be sent in the open.
    """

    def __init__(
        self,
        repository: str,
        *,
        api: str = DEFAULT_API,
        token: Secret | None = None,
        patience: Patience | None = None,
    ) -> None:
        if not is_private(api):
            raise SpecError("is no https address", origin="GITHUB_API_URL", field=api[:100])
        self.api, self.repository = api.rstrip("/"), repository
        self._token, self._patience = token, patience or Patience()
        self._base = f"{self.api}/repos/{quote(repository)}"

    @property
    def may_write(self) -> bool:
        """Whether there is a token."""
        return self._token is not None

    def upload_attestation(self, bundle: bytes) -> int:
        """Store a bundle, with one attempt: whoever repeats should look first. Its number.

        Raises:
            ServiceRefused: GitHub says no; the message names the permission that may be missing.
            TransportError: no usable answer; it may be stored all the same.
        """
        body = b'{"bundle":' + bundle + b"}"
        sent = _Sent("POST", f"{self._base}/attestations", body)
        return self._convert(self._ask(sent, attempts=1), _Uploaded).id

    def is_private(self) -> bool:
        """Whether the repository's releases are for its members only."""
        return self._convert(self._ask(_Sent("GET", self._base)), _Repository).private

    def releases(self) -> tuple[ReleaseEntry, ...]:
        """The newest releases, newest first."""
        got = self._ask(_Sent("GET", f"{self._base}/releases?per_page={_LISTED}"))
        return tuple(self._convert(got, list[ReleaseEntry]))

    def asset(self, asset: Asset, *, limit: int = _SIZE_LIMIT) -> bytes:
        """The content of an asset."""
        url = f"{self._base}/releases/assets/{asset.id}"
        got = self._ask(_Sent("GET", url, accept="application/octet-stream"), limit=limit)
        if got.status in {301, 302, 303, 307, 308}:
            # a pre-signed address of another host: the token is none of its business
            target = urljoin(url, got.headers.get("location", ""))
            if not is_private(target):
                raise TransportError(f"{_SERVICE}: {asset.name} is not to be had over https")
            got = self._ask(_Sent("GET", target, accept="*/*"), limit=limit, known=False)
        if got.status != requests.codes.ok:
            raise TransportError(f"{_SERVICE}: {asset.name}: HTTP {got.status}")
        return got.body

    def upload_asset(self, release: ReleaseEntry, name: str, data: bytes) -> None:
        """Add a file to a release, with one attempt. Raises as `upload_attestation`."""
        url = release.upload_url.partition("{")[0]
        if not self._is_githubs(url):
            raise TransportError(
                f"{_SERVICE}: the upload address of {release.tag_name} is another's"
            )
        sent = _Sent("POST", f"{url}?name={quote(name)}", data, "application/octet-stream")
        self._ask(sent, attempts=1, seconds=_UPLOAD_SECONDS)

    def delete_asset(self, asset: Asset) -> None:
        """Remove what a cut-off upload has left."""
        self._ask(_Sent("DELETE", f"{self._base}/releases/assets/{asset.id}"))

    def _is_githubs(self, url: str) -> bool:
        """Whether files and the token may be sent there: the API's host, or its sister."""
        ours, theirs = urlsplit(self.api), urlsplit(url)
        hosts = {ours.netloc, re.sub(r"^api\.", "uploads.", ours.netloc)}
        return theirs.scheme == ours.scheme and theirs.netloc in hosts

    def _ask(
        self,
        sent: _Sent,
        *,
        attempts: int | None = None,
        seconds: float | None = None,
        limit: int = 8 << 20,
        known: bool = True,
    ) -> _Got:
        """An answer below 400, within bounds."""
        secrets = () if self._token is None else (self._token,)
        patience = self._patience
        if attempts is not None:
            patience = replace(patience, attempts=attempts)
        if seconds is not None:
            patience = replace(patience, each=seconds, total=seconds)
        try:
            return Attempts(patience, secrets).run(
                _SERVICE, lambda: self._once(sent, limit, known=known)
            )
        except ServiceRefused as error:
            hint = _hint(sent, error.status, token=self._token is not None)
            raise ServiceRefused(error.message, status=error.status, hint=hint) from None

    def _once(self, sent: _Sent, limit: int, *, known: bool) -> _Got:
        headers = {"User-Agent": f"mrtd/{mrtd.__version__}", "Accept": sent.accept}
        if known:
            headers["X-GitHub-Api-Version"] = "2022-11-28"
        if sent.body is not None:
            headers["Content-Type"] = sent.kind
        token = self._token if known else None

        def authorize(request: requests.PreparedRequest) -> requests.PreparedRequest:
            # given as a header, it would be replaced by what .netrc has for the host
            if token is not None:
                request.headers["Authorization"] = f"Bearer {token.reveal()}"
            return request

        options: dict[str, Any] = {"auth": authorize, "allow_redirects": False, "stream": True}
        with requests.request(
            sent.method,
            sent.url,
            data=sent.body,
            headers=headers,
            timeout=_SOCKET_SECONDS,
            **options,
        ) as answer:
            body = bytearray()
            for chunk in answer.iter_content(1 << 16):
                body += chunk
                if len(body) > limit:
                    raise TransportError(f"{_SERVICE}: an answer of more than {limit} bytes")
            found = {name.lower(): value for name, value in answer.headers.items()}
            if answer.status_code >= requests.codes.bad_request:
                raise BadStatus(answer.status_code, answer.headers, bytes(body))
        return _Got(answer.status_code, found, bytes(body))

    def _convert(self, got: _Got, kind: type[T]) -> T:
        try:
            return msgspec.json.decode(got.body, type=kind)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            problem = f"{_SERVICE}: an answer that is none (HTTP {got.status})"
        raise TransportError(problem)


def _hint(sent: _Sent, status: int, *, token: bool) -> str | None:
    """What may be missing where GitHub refuses."""
    if status not in {401, 403, 404}:
        return None
    if not token:
        return "set GITHUB_TOKEN"
    what = next((text for part, text in _PERMISSIONS.items() if part in sent.url), None)
    if sent.method == "GET" or what is None:
        return "may GITHUB_TOKEN read this repository?"
    return f"the job needs `{what}` under `permissions:`"
