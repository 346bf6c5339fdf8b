"""What a release job is given from outside: environment, clocks, network, and where it runs."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from mrtd.errors import PolicyError, SpecError
from mrtd.verifier.bundle import LateSigstore
from mrtd.verifier.clock import Clock
from mrtd.verifier.fetch import Fetch, HttpFetch
from mrtd.verifier.github import GitHubLookup
from mrtd.verifier.identity import Signer
from mrtd.verifier.policy import Policy
from mrtd.verifier.settings import FILE_VARIABLE, VARIABLES, read_policy, read_policy_file
from mrtd.verifier.trust_root import TrustRoot
from release import git
from release.attempts import Patience
from release.github import DEFAULT_API, GitHubApi
from release.secret import Secret

# Nobody listens on the way there: an API of one's own, as in tests.
_LOOPBACK: Final = (None, "localhost", "127.0.0.1", "::1")
# What GitHub Actions says of a job, and the setting of the policy that follows from it.
_FROM_ACTIONS: Final = {
    "GITHUB_REPOSITORY": "DD_TRUSTED_REPO",
    "GITHUB_REPOSITORY_ID": "DD_TRUSTED_REPO_ID",
    "GITHUB_REPOSITORY_OWNER_ID": "DD_TRUSTED_OWNER_ID",
}
# And what the certificate will say of it, by Fulcio's names.
_OF_THE_RUN: Final = {
    "GITHUB_REF": "sourceRepositoryRef",
    "GITHUB_EVENT_NAME": "buildTrigger",
    "RUNNER_ENVIRONMENT": "runnerEnvironment",
    "GITHUB_REPOSITORY_ID": "sourceRepositoryIdentifier",
    "GITHUB_REPOSITORY_OWNER_ID": "sourceRepositoryOwnerIdentifier",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One run.

    Attributes:
        environ: variables; the only place that tokens come from.
        folder: of the checkout.
        fetch: for the verifier's lookups.
        clock: the time.
        sleep: waits so many seconds.
        jitter: a number from 0 to 1.
        progress: told what is being done.
    """

    environ: Mapping[str, str] = field(default_factory=lambda: os.environ, repr=False)
    folder: Path = Path()
    fetch: Fetch = field(default_factory=HttpFetch)
    clock: Clock = field(default_factory=Clock)
    sleep: Callable[[float], None] = time.sleep
    jitter: Callable[[], float] = random.random
    progress: Callable[[str], None] = lambda _: None

    @property
    def now(self) -> datetime:
        """The time."""
        return datetime.fromtimestamp(self.clock.wall(), UTC)

    @property
    def patience(self) -> Patience:
        """With services."""
        return Patience(sleep=self.sleep, jitter=self.jitter, steady=self.clock.steady)

    @property
    def token(self) -> Secret | None:
        """GitHub's; from the environment and nowhere else."""
        text = self.environ.get("GITHUB_TOKEN", "").strip()
        return Secret(text) if text else None

    def api(self, repository: str) -> GitHubApi:
        """GitHub, for writing."""
        address = self.environ.get("GITHUB_API_URL") or DEFAULT_API
        return GitHubApi(repository, api=address, token=self.token, patience=self.patience)

    def lookup(self, policy: Policy) -> GitHubLookup:
        """GitHub's attestations, as the verifier reads them."""
        return GitHubLookup(
            policy.lookup,
            repository=policy.identity.repository,
            repository_id=policy.identity.repository_id,
            fetch=self.fetch,
            clock=self.clock,
            token=self.token.reveal() if self.token else None,
            sleep=self.sleep,
            jitter=self.jitter,
        )

    def policy(self, file: Path | None, repository: str | None) -> Policy:
        """The policy of the control planes that the release is for.

        A file and ``DD_TRUSTED_...`` variables say it as they do for a verifier; without a file,
        repository and workflow are those of this job, and everything else is the strict default.

        Raises:
            PolicyError: it cannot be read, or the ids of the repository are not known.
        """
        given = {k: v for k, v in self.environ.items() if k in VARIABLES}
        named = self.environ.get(FILE_VARIABLE)
        file = file or (Path(named) if named else None)
        derived = {} if file else self._derived()
        if repository is not None:
            if repository != self.environ.get("GITHUB_REPOSITORY", repository):
                derived = {}  # its ids are another's
            derived["DD_TRUSTED_REPO"] = repository
        text = read_policy_file(file) if file else ""
        policy = read_policy(text, {**derived, **given}, origin=str(file or "policy"))
        if policy.identity.visibility == "private":
            raise PolicyError(
                "'private' is GitHub's own Sigstore instance, which this cannot sign with",
                origin=str(file or "policy"),
                field="identity.visibility",
                hint="actions/attest signs with it: give it the document of --dry-run as predicate",
            )
        return policy

    def commit(self, name: str | None) -> str:
        """The commit that is released: as given, of the job, or what is checked out."""
        return git.commit_of(self.folder, name or self.environ.get("GITHUB_SHA") or "HEAD")

    @property
    def run(self) -> Signer:
        """What is known of the run before it has a certificate."""
        known = {v: self.environ[k] for k, v in _OF_THE_RUN.items() if self.environ.get(k)}
        return Signer(known)

    def _derived(self) -> dict[str, str]:
        """Settings of the policy that follow from the job."""
        found = {v: self.environ[k] for k, v in _FROM_ACTIONS.items() if self.environ.get(k)}
        workflow = self.environ.get("GITHUB_WORKFLOW_REF", "")
        path, _, ref = workflow.partition("@")
        repository = self.environ.get("GITHUB_REPOSITORY", "")
        if workflow:
            if not path.startswith(f"{repository}/") or not ref:
                raise SpecError("is no workflow of this repository", origin="GITHUB_WORKFLOW_REF")
            found["DD_TRUSTED_WORKFLOW"] = path.removeprefix(f"{repository}/")
            found["DD_TRUSTED_WORKFLOW_REF"] = ref
        api = self.environ.get("GITHUB_API_URL", "")
        if api.startswith("https://") or urlsplit(api).hostname not in _LOOPBACK:
            found["DD_TRUSTED_API"] = api  # anything but https is refused with the policy
        return found


@dataclass(frozen=True, slots=True)
class Trust:
    """Whom the documents of a channel are believed: policy and keys.

    Attributes:
        policy: of the control planes.
        root: keys of the Sigstore instance.
        opener: verifies bundles with them.
    """

    policy: Policy
    root: TrustRoot
    opener: LateSigstore

    @classmethod
    def of(cls, policy: Policy, root: TrustRoot) -> Trust:
        """With sigstore, which is imported with the first bundle."""
        return cls(policy, root, LateSigstore(root))
