"""The OIDC token that a signature is made with: where it comes from, and whom it names.

Only Sigstore's CA can say whether a token is genuine. What is read here of its claims is for people
to look at, and for finding out before anything is published that it could not work.
"""

from __future__ import annotations

import base64
import os
import re
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from mrtd.errors import InputError, TokenError
from mrtd.reference.strict_json import read_json
from mrtd.verifier.identity import SAN, Signer
from release.secret import Secret

AUDIENCE: Final = "sigstore"
DEFAULT_VARIABLE: Final = "SIGSTORE_ID_TOKEN"
_SIZE_LIMIT: Final = 1 << 16
_SKEW: Final = timedelta(minutes=1)
_REMAINING: Final = timedelta(seconds=5)
"""A token that ends sooner does not survive the way to Fulcio."""
_GHE: Final = re.compile(r"https://token\.actions\.([a-z0-9-]+)\.ghe\.com(?:/.*)?")
_LOOKS_LIKE_A_TOKEN: Final = re.compile(r"eyJ[\w-]+\.[\w-]+\.[\w-]*")

# Fulcio, config/identity/config.yaml: what the claims of GitHub's tokens become. {0} is the server.
_FROM_CLAIMS: Final = {
    SAN: "{0}/{job_workflow_ref}",
    "issuer": "{iss}",
    "buildSignerURI": "{0}/{job_workflow_ref}",
    "buildSignerDigest": "{job_workflow_sha}",
    "runnerEnvironment": "{runner_environment}",
    "sourceRepositoryURI": "{0}/{repository}",
    "sourceRepositoryDigest": "{sha}",
    "sourceRepositoryRef": "{ref}",
    "sourceRepositoryIdentifier": "{repository_id}",
    "sourceRepositoryOwnerURI": "{0}/{repository_owner}",
    "sourceRepositoryOwnerIdentifier": "{repository_owner_id}",
    "buildConfigURI": "{0}/{workflow_ref}",
    "buildConfigDigest": "{workflow_sha}",
    "buildTrigger": "{event_name}",
    "runInvocationURI": "{0}/{repository}/actions/runs/{run_id}/attempts/{run_attempt}",
    "sourceRepositoryVisibilityAtSigning": "{repository_visibility}",
}


@dataclass(frozen=True, slots=True)
class OidcToken:
    """A token for Sigstore, of which only the claims can be seen.

    Attributes:
        secret: the token itself.
        source: where it came from, for messages.
        issuer: ``iss``.
        expires: ``exp``.
        not_before: ``nbf``, if it has one.
        signer: what a certificate for it says, by the names of `mrtd.verifier.identity`: the same
            clauses of a policy can be checked before signing.
    """

    secret: Secret
    source: str
    issuer: str
    expires: datetime
    not_before: datetime | None
    signer: Signer

    def check_time(self, now: datetime) -> None:
        """Raises `TokenError` unless it can be used now."""
        if now >= self.expires - _REMAINING:
            raise TokenError(
                f"expired at {self.expires.isoformat(timespec='seconds')}, it is now "
                f"{now.isoformat(timespec='seconds')}",
                origin=self.source,
                hint="get another one right before signing: GitHub's hold for five minutes",
            )
        if self.not_before is not None and now < self.not_before - _SKEW:
            raise TokenError(
                f"not valid before {self.not_before.isoformat(timespec='seconds')}, it is now "
                f"{now.isoformat(timespec='seconds')}",
                origin=self.source,
                hint="is the clock right?",
            )


def read_token(text: str, *, source: str) -> OidcToken:
    """Read a token, without deciding whether it is genuine.

    Args:
        text: the JSON Web Token; white space around it is ignored.
        source: where it came from.

    Raises:
        TokenError: it is none, is not for Sigstore, or names no workflow run.
    """
    claims = _claims(text.strip(), source)
    audiences = claims.get("aud")
    audiences = audiences if isinstance(audiences, list) else [audiences]
    if AUDIENCE not in audiences:
        shown = ", ".join(str(name)[:100] for name in audiences)
        raise TokenError(
            f"is meant for {shown}, not for {AUDIENCE}",
            origin=source,
            field="aud",
            hint=f"ask for a token with the audience {AUDIENCE}",
        )
    for name in ("iss", "sub"):
        if not isinstance(claims.get(name), str):
            raise TokenError("is missing, or no text", origin=source, field=name)
    expires = _time(claims, "exp", source)
    _time(claims, "iat", source)
    return OidcToken(
        secret=Secret(text.strip()),
        source=source,
        issuer=claims["iss"],
        expires=expires,
        not_before=_time(claims, "nbf", source) if "nbf" in claims else None,
        signer=_signer(claims, source),
    )


def refuse_token_itself(where: str) -> None:
    """Raises `TokenError` if the name of a token's place looks like the token."""
    if _LOOKS_LIKE_A_TOKEN.match(where):
        raise TokenError(
            "takes a file or env:NAME; this looks like the token itself",
            origin="--identity-token",
            hint="takes a file or env:NAME: other users and logs see what is on a command line",
        )


def given_token(where: str, environ: Mapping[str, str] = os.environ) -> OidcToken:
    """The token that ``--identity-token`` names.

    Args:
        where: a file, ``-`` for standard input, ``env:NAME`` for a variable, ``env`` for
            ``SIGSTORE_ID_TOKEN``. Never the token: a command line is read by every user.
        environ: the variables.

    Raises:
        TokenError: there is none, or it is not usable.
    """
    refuse_token_itself(where)
    if where == "env" or where.startswith("env:"):
        name = where.partition(":")[2] or DEFAULT_VARIABLE
        text = environ.get(name, "")
        if not text.strip():
            raise TokenError("is not set, or empty", origin=f"environment variable {name}")
        return read_token(text, source=f"environment variable {name}")
    try:
        if where == "-":
            data = sys.stdin.buffer.read(_SIZE_LIMIT + 1)
        else:
            with Path(where).open("rb") as file:
                data = file.read(_SIZE_LIMIT + 1)
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or "no file name"
        raise TokenError(f"cannot be read: {why}", origin=where[:200]) from None
    source = "standard input" if where == "-" else where
    if len(data) > _SIZE_LIMIT:
        raise TokenError(f"more than {_SIZE_LIMIT} bytes", origin=source)
    return read_token(data.decode("ascii", "replace"), source=source)


def _claims(text: str, source: str) -> dict[str, Any]:
    """The claims of a JWT (RFC 7519, 7.2). No message repeats anything of it."""
    parts = text.split(".")
    claims: Any = None
    if len(parts) == 3 and all(parts) and len(text) <= _SIZE_LIMIT:
        padded = parts[1] + "=" * (-len(parts[1]) % 4)
        with suppress(ValueError, InputError):
            payload = base64.b64decode(padded, altchars=b"-_", validate=True)
            claims = read_json(payload, origin=source, limit=_SIZE_LIMIT)
    if isinstance(claims, dict):
        return claims
    raise TokenError(
        "is no JSON Web Token",
        origin=source,
        hint="three base64url parts with dots between them, and nothing else",
    )


def _time(claims: Mapping[str, Any], name: str, source: str) -> datetime:
    value = claims.get(name)
    if isinstance(value, int | float) and not isinstance(value, bool):
        try:
            return datetime.fromtimestamp(value, UTC)
        except (ValueError, OverflowError, OSError):
            pass
    raise TokenError("is missing, or no time", origin=source, field=name)


def _signer(claims: Mapping[str, Any], source: str) -> Signer:
    """What Fulcio's certificate will say of the run."""
    if not isinstance(claims.get("job_workflow_ref"), str):
        raise TokenError(
            "is missing: the token names no run of a GitHub workflow",
            origin=source,
            field="job_workflow_ref",
            hint="verifiers trust a release workflow, not a person or a service account",
        )
    tenant = _GHE.fullmatch(claims["iss"])
    server = f"https://{tenant[1]}.ghe.com" if tenant else "https://github.com"
    known = {name: value for name, value in claims.items() if isinstance(value, str)}
    values = {}
    for name, template in _FROM_CLAIMS.items():
        try:
            values[name] = template.format(server, **known)
        except KeyError:
            continue  # without the claim, the certificate has no such extension
    return Signer(values)
