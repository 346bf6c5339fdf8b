"""The appraisal policy: whom a control plane trusts, and what it demands of a VM.

One TOML file (schema ``mrtd.policy/1``), environment variables on top of it; the defaults are the
strict ones, and everything that relaxes them has a name. docs/policy.md explains every setting.
"""

from __future__ import annotations

import hashlib
import re
from datetime import datetime
from pathlib import Path
from typing import Annotated, Final, Literal

import msgspec

from mrtd.errors import PolicyError
from mrtd.evidence.tcb import TcbStatus
from mrtd.reference.fields import Bits64, CommitHex, ConfirmationKind, Register, Sha256Hex
from mrtd.registers import Sha384

Advisory = Annotated[str, msgspec.Meta(pattern=r"^INTEL-SA-[0-9]{5}$(?!\n)")]
InputName = Literal[
    "firmware", "variables", "acpi", "kernel", "cmdline", "initrd", "rootfs", "fw_cfg", "smbios"
]
RunUrl = Annotated[
    str,
    msgspec.Meta(
        pattern=r"^https://[^/\s]+/[^/\s]+/[^/\s]+/actions/runs/[0-9]+(/attempts/[0-9]+)?$(?!\n)"
    ),
]
NumericId = Annotated[str, msgspec.Meta(pattern=r"^[1-9][0-9]{0,18}$(?!\n)")]
Seconds = Annotated[int, msgspec.Meta(ge=0, le=10 * 365 * 86400)]
Count = Annotated[int, msgspec.Meta(ge=1, le=1 << 31)]
_NAME: Final = re.compile(r"(?!\.{1,2}$)[A-Za-z0-9_.-]+")
_SIGNER: Final = re.compile(r"https://[^\s/@]+/[^\s/@]+/[^\s/@]+/\.github/workflows/[^\s@]+@\S+")


class _Section(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A table of the policy file."""


class IdentityPolicy(_Section, frozen=True, kw_only=True):
    """Which workflow signs (values of Fulcio's certificate extensions; exact, case-sensitive).

    Attributes:
        repository: ``owner/name``, as GitHub spells it.
        repository_id: its number, which a renamed or resurrected repository does not have.
        owner_id: its owner's number.
        workflow: path of the workflow file.
        ref: git ref that it runs on.
        triggers: events that may start it.
        runners: runner environments that may run it.
        visibility: of the repository at signing. ``private`` selects GitHub's own Sigstore
            instance, which only ``gh`` can verify.
        issuer: of the workflow's identity token.
        server: of the repository's URL.
        signer_workflow: where a reusable workflow of another repository signs on purpose: its
            whole identity, ``https://github.com/o/r/.github/workflows/x.yml@REF``.
        signer_digest: commit of that workflow, 40 hex digits; not checked if None.
    """

    repository: str = "devopsdefender/dd"
    repository_id: NumericId
    owner_id: NumericId
    workflow: str = ".github/workflows/release.yml"
    ref: str = "refs/heads/main"
    triggers: tuple[str, ...] = ("push",)
    runners: tuple[Literal["github-hosted", "self-hosted"], ...] = ("github-hosted",)
    visibility: Literal["public", "private"] = "public"
    issuer: str = "https://token.actions.githubusercontent.com"
    server: str = "https://github.com"
    signer_workflow: str | None = None
    signer_digest: CommitHex | None = None

    @property
    def build_config(self) -> str:
        """Identity of the workflow that GitHub started."""
        return f"{self.server}/{self.repository}/{self.workflow}@{self.ref}"

    @property
    def signer(self) -> str:
        """Identity of the workflow that signs: subject alternative name of its certificate."""
        return self.signer_workflow or self.build_config


class TokenPolicy(_Section, frozen=True, kw_only=True):
    """Tokens of Intel Trust Authority.

    Attributes:
        issuer: exact ``iss``.
        jwks_url: where its keys are; a token's own ``jku`` is never followed.
        algorithms: accepted signature algorithms.
        leeway_seconds: for the difference of clocks.
        maximum_age_seconds: since ``iat``.
        jwks_lifetime_seconds: how long keys are used before they are fetched again.
        jwks_hard_lifetime_seconds: how long they are used when they cannot be fetched.
        jwks_refresh_seconds: shortest time between two fetches, whatever ``kid`` tokens name.
    """

    issuer: str = "https://portal.trustauthority.intel.com"
    jwks_url: str = "https://portal.trustauthority.intel.com/certs"
    algorithms: tuple[Literal["PS384", "RS256"], ...] = ("PS384", "RS256")
    leeway_seconds: Annotated[int, msgspec.Meta(ge=0, le=120)] = 60
    maximum_age_seconds: Seconds = 600
    jwks_lifetime_seconds: Seconds = 3600
    jwks_hard_lifetime_seconds: Seconds = 86400
    jwks_refresh_seconds: Seconds = 60


class BitsPolicy(_Section, frozen=True, kw_only=True):
    """Demanded bits of a 64-bit field, 16 hex digits each: ``field & mask == value``."""

    value: Bits64
    mask: Bits64


class TdPolicy(_Section, frozen=True, kw_only=True):
    """The TD itself; the signed document's own expectations hold besides.

    Attributes:
        td_attributes: TDATTRIBUTES; by default no bit that lets the host in (7:0), not migratable,
            SEPT_VE_DISABLE set. A debug TD is refused whatever stands here.
        xfam: XFAM; by default as the document says.
        modules: MRSEAM of accepted TDX modules; any that Intel signed, if empty.
        rtmr3: demanded value; zero if None.
        mr_config_id: ditto.
        mr_owner: ditto.
        mr_owner_config: ditto.
    """

    td_attributes: BitsPolicy = BitsPolicy(value="0000000010000000", mask="00000000300000ff")
    xfam: BitsPolicy = BitsPolicy(value="0" * 16, mask="0" * 16)
    modules: tuple[Sha384, ...] = ()
    rtmr3: Sha384 | None = None
    mr_config_id: Sha384 | None = None
    mr_owner: Sha384 | None = None
    mr_owner_config: Sha384 | None = None


class TcbPolicy(_Section, frozen=True, kw_only=True):
    """The platform's TCB.

    Attributes:
        statuses: accepted ones; ``Revoked`` cannot be.
        rejected_advisories: ``INTEL-SA-...`` that must not apply.
        minimum_date: oldest accepted TCB level; any if None.
    """

    statuses: tuple[TcbStatus, ...] = (TcbStatus.UP_TO_DATE,)
    rejected_advisories: tuple[Advisory, ...] = ()
    minimum_date: datetime | None = None


class MeasurementPolicy(_Section, frozen=True, kw_only=True):
    """What the attested document has to say about the registers and inputs.

    Attributes:
        allow_unpinned_rtmr0: accept a document that does not pin RTMR0; label
            ``host_acpi_unmeasured``.
        mrtd_only: compare nothing but MRTD, which names the firmware and no image; label
            ``image_unmeasured``.
        required_coverage: inputs that have to be measured (or absent).
        required_confirmations: cross-checks that have to have confirmed the launch.
    """

    allow_unpinned_rtmr0: bool = False
    mrtd_only: bool = False
    required_coverage: tuple[InputName, ...] = ("firmware", "kernel", "cmdline", "initrd", "rootfs")
    required_confirmations: tuple[ConfirmationKind, ...] = ()

    @property
    def required(self) -> tuple[Register, ...]:
        """Registers that have to be exact in the document and equal in the TD."""
        if self.mrtd_only:
            return ("mrtd",)
        if self.allow_unpinned_rtmr0:
            return ("mrtd", "rtmr1", "rtmr2")
        return ("mrtd", "rtmr0", "rtmr1", "rtmr2")


class Revoked(_Section, frozen=True, kw_only=True):
    """What the operator revokes, besides what signed documents revoke.

    Attributes:
        mrtds: MRTD values.
        launches: launch digests (SHA-256, hex), as `mrtd.reference.launch_digest` makes them.
        tags: release tags.
        commits: release commits.
        runs: URLs of workflow runs.
    """

    mrtds: tuple[Sha384, ...] = ()
    launches: tuple[Sha256Hex, ...] = ()
    tags: tuple[str, ...] = ()
    commits: tuple[CommitHex, ...] = ()
    runs: tuple[RunUrl, ...] = ()


class ReleasePolicy(_Section, frozen=True, kw_only=True):
    """Which releases are accepted.

    Attributes:
        minimum_sequence: lowest accepted sequence.
        maximum_age_seconds: since the signature; None for no limit.
        revoked: by the operator.
    """

    minimum_sequence: Annotated[int, msgspec.Meta(ge=0)] = 0
    maximum_age_seconds: Seconds | None = None
    revoked: Revoked = Revoked()


class LookupPolicy(_Section, frozen=True, kw_only=True):
    """Where attestations are looked up.

    Attributes:
        github: ``required``: only what GitHub lists admits. ``preferred``: while GitHub cannot be
            asked, a bundle that the agent presents admits; label ``freshness_unchecked``. ``off``:
            GitHub is never asked; presented bundles and those of the directory admit; label
            ``github_not_asked``.
        api: of GitHub.
        by_mrtd: ask for the MRTD's digest where the launch's has no attestation.
        directory: folder of bundles (``*.json``) that is read besides; None for none.
        blob_hosts: hosts that a ``bundle_url`` may name; ``.example.com`` means any below it.
        maximum_attestations: longest list that is read; a longer one could not be checked.
        timeout_seconds: for one request.
        total_seconds: for one lookup.
        requests_per_hour: budget for all lookups together; the first hour may see twice as many,
            and GitHub allows 5000 (60 without a token).
        reserve_percent: part of the budget kept for measurements that were attested before, and
            for new images on firmware that was.
    """

    github: Literal["required", "preferred", "off"] = "required"
    api: str = "https://api.github.com"
    by_mrtd: bool = True
    directory: Path | None = None
    blob_hosts: tuple[str, ...] = (".blob.core.windows.net", ".githubusercontent.com")
    maximum_attestations: Annotated[int, msgspec.Meta(ge=1, le=300)] = 100
    timeout_seconds: Annotated[int, msgspec.Meta(ge=1, le=60)] = 10
    total_seconds: Annotated[int, msgspec.Meta(ge=1, le=300)] = 30
    requests_per_hour: Count = 2400
    reserve_percent: Annotated[int, msgspec.Meta(ge=0, le=90)] = 50


class CachePolicy(_Section, frozen=True, kw_only=True):
    """How long answers about a measurement hold.

    Attributes:
        soft_seconds: after this they are looked up again.
        hard_seconds: until then they hold while they cannot be looked up.
        negative_seconds: how long "not attested" holds.
        entries: of each kind, at most.
        directory: where verified bundles are kept across restarts; None for nowhere.
    """

    soft_seconds: Seconds = 600
    hard_seconds: Seconds = 86400
    negative_seconds: Seconds = 60
    entries: Count = 4096
    directory: Path | None = None


class TrustRootPolicy(_Section, frozen=True, kw_only=True):
    """Which Sigstore instance is trusted.

    Attributes:
        file: a ``trusted_root.json`` to use instead of the one in the installed sigstore package.
        maximum_age_days: of the root, before every verdict gets the label ``trust_root_old``.
        gh_seconds: time limit for ``gh attestation verify`` (visibility ``private``).
    """

    file: Path | None = None
    maximum_age_days: Count = 180
    gh_seconds: Annotated[int, msgspec.Meta(ge=1, le=300)] = 30


class Policy(_Section, frozen=True, kw_only=True):
    """An appraisal policy; see the sections.

    Attributes:
        mode: ``observe`` admits in spite of what is wrong with the attestation, and says so;
            errors of token, binding, TD and TCB refuse in both modes.
    """

    schema: Literal["mrtd.policy/1"] = "mrtd.policy/1"
    mode: Literal["enforce", "observe"] = "enforce"
    identity: IdentityPolicy
    token: TokenPolicy = TokenPolicy()
    td: TdPolicy = TdPolicy()
    tcb: TcbPolicy = TcbPolicy()
    measurements: MeasurementPolicy = MeasurementPolicy()
    release: ReleasePolicy = ReleasePolicy()
    lookup: LookupPolicy = LookupPolicy()
    cache: CachePolicy = CachePolicy()
    trust_root: TrustRootPolicy = TrustRootPolicy()

    def __post_init__(self) -> None:
        for field, problem in _contradictions(self):
            raise PolicyError(problem, origin="policy", field=field)

    @property
    def digest(self) -> str:
        """SHA-256 of everything above, hex: two policies that decide alike have the same."""
        text = msgspec.json.encode(self, enc_hook=encode_value, order="deterministic")
        return hashlib.sha256(text).hexdigest()


def encode_value(value: object) -> str:
    """How values of our own classes are written."""
    if isinstance(value, (Sha384, Path)):
        return str(value)
    raise NotImplementedError(type(value).__name__)


def _contradictions(policy: Policy) -> list[tuple[str, str]]:
    """Fields that cannot be meant, with what is wrong about them."""
    identity, token, cache, td = policy.identity, policy.token, policy.cache, policy.td
    owner, _, name = identity.repository.partition("/")
    https = (
        ("identity.server", identity.server),
        ("identity.issuer", identity.issuer),
        ("token.jwks_url", token.jwks_url),
        ("lookup.api", policy.lookup.api),
    )
    found = [
        (field, f"{url!r} is no https URL without a slash at its end")
        for field, url in https
        if not url.startswith("https://") or url.endswith("/")
    ]
    wrong = {
        "identity.repository": not (_NAME.fullmatch(owner) and _NAME.fullmatch(name)),
        "identity.workflow": not identity.workflow.startswith(".github/workflows/"),
        "identity.ref": not identity.ref.startswith("refs/"),
        # an empty one would stand for a certificate that does not say
        "identity.triggers": not identity.triggers or "" in identity.triggers,
        "identity.runners": not identity.runners or "" in identity.runners,
        "identity.signer_workflow": identity.signer_workflow is not None
        and not _SIGNER.fullmatch(identity.signer_workflow),
        "token.algorithms": not token.algorithms,
        "td.td_attributes": _outside(td.td_attributes),
        "td.xfam": _outside(td.xfam),
        "tcb.statuses": not policy.tcb.statuses or TcbStatus.REVOKED in policy.tcb.statuses,
        "tcb.minimum_date": policy.tcb.minimum_date is not None
        and policy.tcb.minimum_date.tzinfo is None,
        "lookup.blob_hosts": not all(policy.lookup.blob_hosts) or not policy.lookup.blob_hosts,
        "cache.hard_seconds": cache.hard_seconds < cache.soft_seconds,
        "token.jwks_hard_lifetime_seconds": token.jwks_hard_lifetime_seconds
        < token.jwks_lifetime_seconds,
        "measurements.mrtd_only": policy.measurements.mrtd_only
        and bool(set(policy.measurements.required_coverage) - {"firmware"}),
    }
    texts = {
        "identity.repository": "is not of the form owner/name",
        "identity.workflow": "does not start with .github/workflows/",
        "identity.ref": "is no full ref such as refs/heads/main",
        "identity.triggers": "accepts nothing, or has an empty entry",
        "identity.runners": "accepts nothing, or has an empty entry",
        "identity.signer_workflow": "is not of the form "
        "https://github.com/owner/name/.github/workflows/file.yml@REF",
        "td.td_attributes": "demands bits outside its mask, which no TD can have",
        "td.xfam": "demands bits outside its mask, which no TD can have",
        "lookup.blob_hosts": "accepts nothing, or has an empty entry",
        "tcb.statuses": "accepts nothing, or Revoked, which cannot be accepted",
        "tcb.minimum_date": "has no time zone",
        "cache.hard_seconds": "is shorter than cache.soft_seconds",
        "token.jwks_hard_lifetime_seconds": "is shorter than token.jwks_lifetime_seconds",
        "measurements.mrtd_only": "an MRTD covers the firmware only: required_coverage demands "
        "more than ['firmware']",
    }
    found += [(field, texts.get(field, "accepts nothing")) for field, bad in wrong.items() if bad]
    return found


def _outside(bits: BitsPolicy) -> bool:
    """Whether bits are demanded that the mask takes away."""
    return bool(int(bits.value, 16) & ~int(bits.mask, 16))
