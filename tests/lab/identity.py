"""Who a GitHub workflow certificate says has signed: its SAN and Fulcio's extensions.

Source: Fulcio, docs/oid-info.md (extensions 1.3.6.1.4.1.57264.1.N) and the certificates of GitHub's
published attestations. 1.1 to 1.6 hold the text itself, 1.8 and later a DER UTF8String.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from typing import Any, Final, Self

from asn1crypto import core  # type: ignore[import-untyped]
from cryptography import x509

GITHUB: Final = "https://github.com"
ISSUER: Final = "https://token.actions.githubusercontent.com"
FULCIO_ARC: Final = "1.3.6.1.4.1.57264.1"
LAST_RAW_EXTENSION: Final = 6  # oid-info.md: up to here values are not DER

REPOSITORY: Final = "devopsdefender/dd"
REPOSITORY_ID: Final = "1000001"
OWNER_ID: Final = "2000002"
WORKFLOW: Final = ".github/workflows/release.yml"
MAIN: Final = "refs/heads/main"
COMMIT: Final = "5f0d2a8c41b97e6630d18c2b7a94ef5d6c80e1b2"


def _extension(number: int) -> Any:  # field() is typed as what it becomes
    return field(default=None, metadata={"fulcio": number})


def extension_oid(number: int) -> x509.ObjectIdentifier:
    """The OID of a Fulcio extension by its last arc."""
    return x509.ObjectIdentifier(f"{FULCIO_ARC}.{number}")


@dataclass(frozen=True, slots=True, kw_only=True)
class GitHubIdentity:
    """What the certificate states, by oid-info.md's names; None leaves an extension out.

    Attributes:
        san: the URI of the signing workflow, ``https://github.com/o/r/path@ref``.
        other_san: stands in the certificate instead of that URI.
        raw: values of extensions as they are, instead of what the fields give; also of numbers that
            Fulcio does not know.
        additional: further extensions: dotted OID and value.
    """

    san: str
    issuer: str | None = _extension(1)
    github_workflow_trigger: str | None = _extension(2)
    github_workflow_sha: str | None = _extension(3)
    github_workflow_name: str | None = _extension(4)
    github_workflow_repository: str | None = _extension(5)
    github_workflow_ref: str | None = _extension(6)
    issuer_v2: str | None = _extension(8)
    build_signer_uri: str | None = _extension(9)
    build_signer_digest: str | None = _extension(10)
    runner_environment: str | None = _extension(11)
    source_repository_uri: str | None = _extension(12)
    source_repository_digest: str | None = _extension(13)
    source_repository_ref: str | None = _extension(14)
    source_repository_identifier: str | None = _extension(15)
    source_repository_owner_uri: str | None = _extension(16)
    source_repository_owner_identifier: str | None = _extension(17)
    build_config_uri: str | None = _extension(18)
    build_config_digest: str | None = _extension(19)
    build_trigger: str | None = _extension(20)
    run_invocation_uri: str | None = _extension(21)
    source_repository_visibility: str | None = _extension(22)
    deployment_environment: str | None = _extension(23)
    token_subject: str | None = _extension(24)
    other_san: x509.GeneralName | None = None
    raw: tuple[tuple[int, bytes], ...] = ()
    additional: tuple[tuple[str, bytes], ...] = ()

    @classmethod
    def of_run(
        cls,
        *,
        repository: str = REPOSITORY,
        repository_id: str = REPOSITORY_ID,
        owner_id: str = OWNER_ID,
        workflow: str = WORKFLOW,
        name: str = "release",
        ref: str = MAIN,
        trigger: str = "push",
        commit: str = COMMIT,
        run: str = "30000003",
        runner: str = "github-hosted",
        visibility: str = "public",
        issuer: str = ISSUER,
        signer: str | None = None,
        signer_commit: str | None = None,
    ) -> Self:
        """The certificate's identity of one run of a workflow, all values in agreement.

        ``signer`` is the URI of a reusable workflow whose job signs: it becomes SAN and 1.9, and
        everything about the source stays the caller's (facts of bundle B).
        """
        config = f"{GITHUB}/{repository}/{workflow}@{ref}"
        owner = repository.partition("/")[0]
        return cls(
            san=signer or config,
            issuer=issuer,
            github_workflow_trigger=trigger,
            github_workflow_sha=commit,
            github_workflow_name=name,
            github_workflow_repository=repository,
            github_workflow_ref=ref,
            issuer_v2=issuer,
            build_signer_uri=signer or config,
            build_signer_digest=signer_commit or commit,
            runner_environment=runner,
            source_repository_uri=f"{GITHUB}/{repository}",
            source_repository_digest=commit,
            source_repository_ref=ref,
            source_repository_identifier=repository_id,
            source_repository_owner_uri=f"{GITHUB}/{owner}",
            source_repository_owner_identifier=owner_id,
            build_config_uri=config,
            build_config_digest=commit,
            build_trigger=trigger,
            run_invocation_uri=f"{GITHUB}/{repository}/actions/runs/{run}/attempts/1",
            source_repository_visibility=visibility,
        )

    @classmethod
    def release(cls) -> Self:
        """The genuine one: devopsdefender/dd's release.yml, a push to main."""
        return cls.of_run()

    @classmethod
    def release_tag(cls, tag: str = "v1.2.3") -> Self:
        """Our release.yml for a tag."""
        return cls.of_run(ref=f"refs/tags/{tag}")

    @classmethod
    def foreign_caller(cls) -> Self:
        """evil/fork calls our release.yml@main as a reusable workflow: SAN and 1.9 are ours."""
        return cls.of_run(
            repository="evil/fork",
            repository_id="6660001",
            owner_id="6660002",
            workflow=".github/workflows/attack.yml",
            commit="e" * 40,
            signer=f"{GITHUB}/{REPOSITORY}/{WORKFLOW}@{MAIN}",
            signer_commit=COMMIT,
        )

    @classmethod
    def pull_request_target(cls) -> Self:
        """A stranger's pull request starts the base branch's workflow: everything says main."""
        return cls.of_run(trigger="pull_request_target")

    @classmethod
    def workflow_dispatch(cls) -> Self:
        """Started by hand, on main."""
        return cls.of_run(trigger="workflow_dispatch")

    @classmethod
    def resurrected(cls) -> Self:
        """Owner and repository of the same names, registered anew: other numeric ids."""
        return cls.of_run(repository_id="9000001", owner_id="9000002")

    @classmethod
    def self_hosted(cls) -> Self:
        """Ran on a machine that GitHub does not control."""
        return cls.of_run(runner="self-hosted")

    @classmethod
    def private_visibility(cls) -> Self:
        """The repository was private when it signed."""
        return cls.of_run(visibility="private")

    @classmethod
    def pull_request(cls) -> Self:
        """A pull request of the same repository; its ref is the merge commit's."""
        return cls.of_run(ref="refs/pull/7/merge", trigger="pull_request")

    @classmethod
    def trusted_reusable(cls) -> Self:
        """Our release.yml lets a builder workflow of another repository, pinned by SHA, sign."""
        pin = "b" * 40
        builder = "trusted-builders/attest/.github/workflows/attest.yml"
        return cls.of_run(signer=f"{GITHUB}/{builder}@{pin}", signer_commit=pin)

    @classmethod
    def enterprise_issuer(cls) -> Self:
        """An enterprise's own issuer: GitHub's, with a slug."""
        return cls.of_run(issuer=f"{ISSUER}/devopsdefender")

    def change(self, **changes: Any) -> Self:
        """The same with other values of single fields."""
        return replace(self, **changes)

    def values(self) -> dict[int, str]:
        """The values of the extensions, by number; what is None is not in it."""
        numbered = {
            item.metadata["fulcio"]: getattr(self, item.name)
            for item in fields(self)
            if "fulcio" in item.metadata
        }
        return {number: value for number, value in numbered.items() if value is not None}

    def extensions(self) -> list[x509.UnrecognizedExtension]:
        """Fulcio's extensions as the certificate has them, by number, then the additional ones."""
        encoded = {
            number: value.encode()
            if number <= LAST_RAW_EXTENSION
            else core.UTF8String(value).dump()
            for number, value in self.values().items()
        }
        encoded.update(self.raw)
        return [
            x509.UnrecognizedExtension(extension_oid(number), encoded[number])
            for number in sorted(encoded)
        ] + [
            x509.UnrecognizedExtension(x509.ObjectIdentifier(oid), value)
            for oid, value in self.additional
        ]

    def general_name(self) -> x509.GeneralName:
        """The subject alternative name."""
        return self.other_san or x509.UniformResourceIdentifier(self.san)
