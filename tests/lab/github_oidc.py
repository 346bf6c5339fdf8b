"""GitHub's OIDC provider: tokens of workflow runs, and what Fulcio makes of their claims.

Claims: docs.github.com, "OpenID Connect reference"; how they become extensions: Fulcio,
config/identity/config.yaml (``token.actions.githubusercontent.com``, ``ci-provider``).
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import jwt

from tests.lab.identity import (
    COMMIT,
    GITHUB,
    ISSUER,
    MAIN,
    OWNER_ID,
    REPOSITORY,
    REPOSITORY_ID,
    WORKFLOW,
    GitHubIdentity,
)
from tests.lab.keys import rsa_key

AUDIENCE: Final = "sigstore"
_KEY_ID: Final = "lab-github-oidc"
_ALGORITHM: Final = "RS256"
_LIFETIME: Final = timedelta(minutes=5)  # as GitHub's


class TokenRefused(Exception):
    """What an identity provider's relying party says of a token."""


class OidcProvider:
    """Issues tokens and, as Fulcio would with its published key, checks them.

    Args:
        now: the time.
    """

    def __init__(self, now: Callable[[], datetime]) -> None:
        self._now = now

    def token(
        self,
        claims: Mapping[str, Any] | None = None,
        *,
        audience: str = AUDIENCE,
        lasts: timedelta = _LIFETIME,
    ) -> str:
        """A token of a run; ``claims`` replace single ones (None removes one)."""
        now = self._now()
        made = {
            **run_claims(),
            "aud": audience,
            "iat": int(now.timestamp()),
            "nbf": int((now - timedelta(minutes=10)).timestamp()),
            "exp": int((now + lasts).timestamp()),
            "jti": str(uuid.uuid4()),
            **(claims or {}),
        }
        kept = {name: value for name, value in made.items() if value is not None}
        return jwt.encode(kept, rsa_key(), algorithm=_ALGORITHM, headers={"kid": _KEY_ID})

    def check(self, token: str) -> dict[str, Any]:
        """The claims of a genuine token for Sigstore. Raises `TokenRefused`."""
        try:
            claims: dict[str, Any] = jwt.decode(
                token,
                rsa_key().public_key(),
                algorithms=[_ALGORITHM],
                audience=AUDIENCE,
                issuer=ISSUER,
                options={"require": ["aud", "exp", "iat", "iss", "sub"], "verify_exp": False},
            )
        except jwt.InvalidTokenError as error:
            raise TokenRefused(f"{type(error).__name__}: {error}") from error
        if claims["exp"] <= self._now().timestamp():
            raise TokenRefused("the token has expired")
        return claims


def run_claims(
    *,
    repository: str = REPOSITORY,
    workflow: str = WORKFLOW,
    ref: str = MAIN,
    event: str = "push",
    commit: str = COMMIT,
) -> dict[str, Any]:
    """The claims of a run of a workflow, without those of the token itself."""
    path = f"{repository}/{workflow}@{ref}"
    return {
        "iss": ISSUER,
        "sub": f"repo:{repository}:ref:{ref}",
        "actor": "octocat",
        "actor_id": "1",
        "base_ref": "",
        "head_ref": "",
        "event_name": event,
        "job_workflow_ref": path,
        "job_workflow_sha": commit,
        "ref": ref,
        "ref_protected": "true",
        "ref_type": "tag" if ref.startswith("refs/tags/") else "branch",
        "repository": repository,
        "repository_id": REPOSITORY_ID,
        "repository_owner": repository.partition("/")[0],
        "repository_owner_id": OWNER_ID,
        "repository_visibility": "public",
        "run_attempt": "1",
        "run_id": "30000003",
        "run_number": "7",
        "runner_environment": "github-hosted",
        "sha": commit,
        "workflow": "release",
        "workflow_ref": path,
        "workflow_sha": commit,
    }


def fulcio_identity(claims: Mapping[str, Any]) -> GitHubIdentity:
    """What Fulcio's certificate says of the run that a token names."""
    repository, owner = claims["repository"], claims["repository_owner"]
    signer = f"{GITHUB}/{claims['job_workflow_ref']}"
    run = f"actions/runs/{claims['run_id']}/attempts/{claims['run_attempt']}"
    return GitHubIdentity(
        san=signer,
        issuer=claims["iss"],
        github_workflow_trigger=claims["event_name"],
        github_workflow_sha=claims["sha"],
        github_workflow_name=claims["workflow"],
        github_workflow_repository=repository,
        github_workflow_ref=claims["ref"],
        issuer_v2=claims["iss"],
        build_signer_uri=signer,
        build_signer_digest=claims["job_workflow_sha"],
        runner_environment=claims["runner_environment"],
        source_repository_uri=f"{GITHUB}/{repository}",
        source_repository_digest=claims["sha"],
        source_repository_ref=claims["ref"],
        source_repository_identifier=claims["repository_id"],
        source_repository_owner_uri=f"{GITHUB}/{owner}",
        source_repository_owner_identifier=claims["repository_owner_id"],
        build_config_uri=f"{GITHUB}/{claims['workflow_ref']}",
        build_config_digest=claims["workflow_sha"],
        build_trigger=claims["event_name"],
        run_invocation_uri=f"{GITHUB}/{repository}/{run}",
        source_repository_visibility=claims["repository_visibility"],
        deployment_environment=claims.get("environment"),
        token_subject=claims["sub"],
    )


def utc_now() -> datetime:
    """The time: signing clients have no other clock."""
    return datetime.now(UTC)


def altered(token: str) -> str:
    """The token with another signature: still a JWT."""
    signed, _, signature = token.rpartition(".")
    return f"{signed}.{'B' if signature[0] == 'A' else 'A'}{signature[1:]}"
