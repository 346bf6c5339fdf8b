"""Verdicts: whether a VM is admitted, why not, and every check that was made.

A `Reason` is stable: programs may compare it. It decides the HTTP status that a control plane
answers with: 401, the evidence does not show who is asking; 403, it does, and the VM is not
admitted; 503, it could not be checked, so the VM is not admitted *now*.
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Final, Literal

import msgspec

from mrtd.reference import Release


class Reason(StrEnum):
    """Why a VM was not admitted."""

    # 401: the token, or what binds it to this registration
    TOKEN_MALFORMED = "token_malformed"  # noqa: S105 - no secret
    TOKEN_ALGORITHM = "token_algorithm"  # noqa: S105
    TOKEN_DEVELOPMENT = "token_development"  # noqa: S105
    TOKEN_KEY_UNKNOWN = "token_key_unknown"  # noqa: S105
    TOKEN_SIGNATURE = "token_signature"  # noqa: S105
    TOKEN_ISSUER = "token_issuer"  # noqa: S105
    TOKEN_EXPIRED = "token_expired"  # noqa: S105
    TOKEN_NOT_YET_VALID = "token_not_yet_valid"  # noqa: S105
    TOKEN_TOO_OLD = "token_too_old"  # noqa: S105
    TOKEN_CLAIMS = "token_claims"  # noqa: S105
    TOKEN_REPLAYED = "token_replayed"  # noqa: S105
    QUOTE_MALFORMED = "quote_malformed"
    QUOTE_INVALID = "quote_invalid"
    BINDING_MISSING = "binding_missing"
    BINDING_MISMATCH = "binding_mismatch"
    NONCE_UNKNOWN = "nonce_unknown"
    NONCE_EXPIRED = "nonce_expired"
    NONCE_USED = "nonce_used"
    KEY_PROOF_INVALID = "key_proof_invalid"
    # 403: the TD and its platform
    TD_DEBUG = "td_debug"
    TD_ATTRIBUTES = "td_attributes"
    XFAM = "xfam"
    SEAM = "seam"
    TCB_STATUS = "tcb_status"
    TCB_ADVISORY = "tcb_advisory"
    TCB_DATE = "tcb_date"
    REGISTER_NOT_MEASURED = "register_not_measured"
    RTMR3_UNEXPECTED = "rtmr3_unexpected"
    CONFIGURATION_UNEXPECTED = "configuration_unexpected"
    SERVICE_TD_UNEXPECTED = "service_td_unexpected"
    # 403: the attestation
    REVOKED = "revoked"
    NOT_ATTESTED = "not_attested"
    BUNDLE_MALFORMED = "bundle_malformed"
    BUNDLE_INVALID = "bundle_invalid"
    SIGNING_TIME = "signing_time"
    IDENTITY = "identity"
    PAYLOAD_TYPE = "payload_type"
    STATEMENT_MALFORMED = "statement_malformed"
    STATEMENT_OF_OTHERS = "statement_of_others"
    REGISTERS_DIFFER = "registers_differ"
    REGISTER_UNPINNED = "register_unpinned"
    INPUT_NOT_MEASURED = "input_not_measured"
    CONFIRMATION_MISSING = "confirmation_missing"
    RELEASE_RETIRED = "release_retired"
    RELEASE_ROLLED_BACK = "release_rolled_back"
    ATTESTATION_TOO_OLD = "attestation_too_old"
    # 503: could not be checked
    TOKEN_KEYS_UNAVAILABLE = "token_keys_unavailable"  # noqa: S105
    COLLATERAL_UNAVAILABLE = "collateral_unavailable"
    LOOKUP_UNAVAILABLE = "lookup_unavailable"
    LOOKUP_INCOMPLETE = "lookup_incomplete"
    LOOKUP_BUDGET = "lookup_budget"
    TRUST_ROOT_UNUSABLE = "trust_root_unusable"
    TOOL_MISSING = "tool_missing"
    OVERLOADED = "overloaded"
    INTERNAL_ERROR = "internal_error"

    @property
    def status(self) -> int:
        """The HTTP status that says this: 401, 403 or 503."""
        return _STATUS[self]

    @property
    def could_not_check(self) -> bool:
        """Whether the answer is not known, rather than no."""
        return _STATUS[self] == UNAVAILABLE


OK: Final = 200
UNAUTHORIZED: Final = 401
FORBIDDEN: Final = 403
UNAVAILABLE: Final = 503


def _statuses() -> dict[Reason, int]:
    """By the order above: the first of each group begins it."""
    starts = {
        Reason.TOKEN_MALFORMED: UNAUTHORIZED,
        Reason.TD_DEBUG: FORBIDDEN,
        Reason.TOKEN_KEYS_UNAVAILABLE: UNAVAILABLE,
    }
    found: dict[Reason, int] = {}
    status = UNAUTHORIZED
    for reason in Reason:
        status = starts.get(reason, status)
        found[reason] = status
    return found


_STATUS: Final = _statuses()


class Outcome(StrEnum):
    """What became of a check."""

    PASSED = "passed"
    FAILED = "failed"
    NOT_CHECKED = "not checked"
    """It could not be made, or did not have to be: ``observed`` says which."""


class Check(msgspec.Struct, frozen=True):
    """One question, and its answer.

    Attributes:
        name: what was asked; stable.
        outcome: what became of it.
        expected: what the policy (or the signed document) wants, for a person.
        observed: what there is, for a person.
        source: where the observed value was read: ``token``, ``certificate``, ``statement`` ...
        reason: what follows for the VM if it is not passed; None if nothing does.
    """

    name: str
    outcome: Outcome
    expected: str
    observed: str
    source: str
    reason: Reason | None = None

    @property
    def ok(self) -> bool:
        """Whether it stands in nobody's way."""
        return self.outcome is Outcome.PASSED or self.reason is None


def passed(name: str, *, expected: str, observed: str, source: str) -> Check:
    """A check that was passed."""
    return Check(name, Outcome.PASSED, expected, observed, source)


def check(
    name: str, reason: Reason, *, ok: bool, expected: str, observed: str, source: str
) -> Check:
    """A check that was made: passed, or failed (could not be made, if the reason says so)."""
    expected, observed = _one_line(expected), _one_line(observed)
    if ok:
        return Check(name, Outcome.PASSED, expected, observed, source)
    outcome = Outcome.NOT_CHECKED if reason.could_not_check else Outcome.FAILED
    return Check(name, outcome, expected, observed, source, reason)


def _one_line(text: str) -> str:
    """A text that breaks no line and moves no cursor, whoever wrote it."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else " " if c in "\n\t" else ascii(c)[1:-1] for c in text)


def not_made(name: str, why: str) -> Check:
    """A check that was left out, because an earlier answer made it pointless."""
    return Check(name, Outcome.NOT_CHECKED, "", why, "")


class Attestation(msgspec.Struct, frozen=True, kw_only=True):
    """Which attestation a verdict rests on.

    Attributes:
        signer: subject alternative name of the signing certificate.
        run: URL of the workflow run that signed; empty if the certificate has none.
        signed_at: proven time of signing.
        log_index: index in the transparency log; None without one.
        bundle_sha256: of the bundle as it was read, hex.
        source: where the bundle came from.
    """

    signer: str
    run: str
    signed_at: datetime
    log_index: int | None
    bundle_sha256: str
    source: str


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """Whether a VM is admitted.

    Attributes:
        allowed: admit it.
        status: HTTP status to answer with: 200, 401, 403 or 503.
        reason: stable code; None if allowed.
        message: one line for a person; no secrets.
        mode: ``enforce`` or ``observe``.
        labels: what a reader has to know even of an admission: ``observe``, ``image_unmeasured``,
            ``host_acpi_unmeasured``, ``binding_none``, ``stale`` ...; stable, sorted.
        checks: every check, in order.
        release: the release whose document matched; None if none did.
        shape: the launch of that document that matched.
        attestation: who signed it, when.
        age: seconds since the attestations were looked up, when the verdict was made.
        retry_after: seconds after which asking again makes sense; None if it does not.
    """

    allowed: bool
    status: int
    reason: Reason | None
    message: str
    mode: Literal["enforce", "observe"]
    labels: tuple[str, ...]
    checks: tuple[Check, ...]
    release: Release | None = None
    shape: str | None = None
    attestation: Attestation | None = None
    age: int = 0
    retry_after: int | None = None
