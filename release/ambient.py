"""The token that GitHub Actions gives to a job which may ask for one.

Source: docs.github.com, "OpenID Connect reference": a GET of ``ACTIONS_ID_TOKEN_REQUEST_URL`` with
``&audience=...`` and the bearer token ``ACTIONS_ID_TOKEN_REQUEST_TOKEN``. Both variables are there
only if the job has ``permissions: id-token: write``. sigstore's own way would go on to ask other
clouds, and never a person.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import msgspec

from mrtd.errors import NoOidcPermission, TokenError, TransportError
from release.attempts import Attempts, BadStatus, Patience
from release.oidc import AUDIENCE, OidcToken, given_token, read_token
from release.secret import Secret, is_private

if TYPE_CHECKING:
    import requests

REQUEST_URL: Final = "ACTIONS_ID_TOKEN_REQUEST_URL"
REQUEST_TOKEN: Final = "ACTIONS_ID_TOKEN_REQUEST_TOKEN"  # noqa: S105 - a variable's name
_SERVICE: Final = "GitHub's OIDC provider"
_SIZE_LIMIT: Final = 1 << 16
_SOCKET_SECONDS: Final = 20


class _Answer(msgspec.Struct):
    value: str


def find_token(
    where: str | None = None,
    *,
    environ: Mapping[str, str] = os.environ,
    patience: Patience | None = None,
) -> OidcToken:
    """The token to sign with: the one that ``--identity-token`` names, or GitHub's.

    Raises:
        NoOidcPermission: the job may not ask for one.
        TokenError: there is none, or it cannot be used.
        TransportError: GitHub did not give one.
    """
    if where is not None:
        return given_token(where, environ)
    return ambient_token(environ, patience=patience)


def ambient_token(
    environ: Mapping[str, str] = os.environ, *, patience: Patience | None = None
) -> OidcToken:
    """GitHub's token for this job. Raises like `find_token`."""
    url, request_token = _request_variables(environ)
    if not is_private(url):
        raise TokenError("is no https address", origin=REQUEST_URL)
    secret = Secret(request_token)
    audience = f"{'&' if urlsplit(url).query else '?'}audience={AUDIENCE}"
    attempts = Attempts(patience or Patience(), (secret,))
    body = attempts.run(_SERVICE, lambda: _get(url + audience, secret))
    try:
        answer = msgspec.json.decode(body, type=_Answer)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        answer = None
    if answer is None:
        raise TransportError(f"{_SERVICE}: no usable answer (no token in it)")
    return read_token(answer.value, source=_SERVICE)


def _request_variables(environ: Mapping[str, str]) -> tuple[str, str]:
    missing = [name for name in (REQUEST_URL, REQUEST_TOKEN) if not environ.get(name)]
    if not missing:
        return environ[REQUEST_URL], environ[REQUEST_TOKEN]
    if environ.get("GITHUB_ACTIONS"):
        raise NoOidcPermission(
            f"this job may not ask for an OIDC token ({', '.join(missing)} not set); "
            "its workflow lacks the line `id-token: write` under `permissions:`",
            origin="GitHub Actions",
            hint="add to the job: permissions: {id-token: write, contents: read}; runs for pull "
            "requests from forks never get it",
        )
    raise TokenError(
        "there is none: this is no job of GitHub Actions, and --identity-token is not given",
        origin="OIDC token",
        hint="sign in the release workflow, or name a file with a token",
    )


def _get(url: str, secret: Secret) -> bytes:
    """One attempt: the body of a 200."""
    import requests  # noqa: PLC0415 - heavy

    def authorize(request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = f"bearer {secret.reveal()}"
        return request

    # Given as a header, it would be replaced by what .netrc has for the host, or as default.
    options: dict[str, Any] = {"auth": authorize, "allow_redirects": False, "stream": True}
    with requests.get(url, timeout=_SOCKET_SECONDS, **options) as answer:
        body = bytearray()
        for chunk in answer.iter_content(_SIZE_LIMIT):
            body += chunk
            if len(body) > _SIZE_LIMIT:
                raise TransportError(f"{_SERVICE}: more than {_SIZE_LIMIT} bytes")
        if answer.status_code != requests.codes.ok:
            raise BadStatus(answer.status_code, answer.headers, bytes(body))
    return bytes(body)
