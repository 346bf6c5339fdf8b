"""One verdict of many checks: which reason decides, and the line that a person reads."""

from __future__ import annotations

from typing import Final

from mrtd.verifier.judgement import Judgement
from mrtd.verifier.policy import Policy
from mrtd.verifier.verdict import (
    FORBIDDEN,
    OK,
    UNAUTHORIZED,
    UNAVAILABLE,
    Check,
    Reason,
    Verdict,
    check,
)

# What observe mode does not insist on (DESIGN 5): whatever is wrong with the attestation. That it
# is revoked is none of it.
RELAXED: Final = frozenset({
    Reason.NOT_ATTESTED, Reason.BUNDLE_MALFORMED, Reason.BUNDLE_INVALID, Reason.SIGNING_TIME,
    Reason.IDENTITY, Reason.PAYLOAD_TYPE, Reason.STATEMENT_MALFORMED, Reason.STATEMENT_OF_OTHERS,
    Reason.REGISTERS_DIFFER, Reason.REGISTER_UNPINNED, Reason.INPUT_NOT_MEASURED,
    Reason.CONFIRMATION_MISSING, Reason.RELEASE_RETIRED, Reason.RELEASE_ROLLED_BACK,
    Reason.ATTESTATION_TOO_OLD, Reason.LOOKUP_UNAVAILABLE, Reason.LOOKUP_INCOMPLETE,
    Reason.LOOKUP_BUDGET, Reason.TRUST_ROOT_UNUSABLE, Reason.TOOL_MISSING,
})  # fmt: skip
_TEXTS: Final = {
    Reason.REGISTERS_DIFFER: "no release attested these registers together",
    Reason.REGISTER_NOT_MEASURED: "nothing was measured into a required register",
    Reason.REGISTER_UNPINNED: "the attested document does not pin a required register",
    Reason.INPUT_NOT_MEASURED: "an input that the policy requires to be measured is not",
    Reason.NOT_ATTESTED: "nobody attested these measurements",
    Reason.IDENTITY: "the attestation was not signed by the trusted workflow",
    Reason.REVOKED: "these measurements, or their release, are revoked",
    Reason.RELEASE_ROLLED_BACK: "a newer release has replaced this one",
    Reason.RELEASE_RETIRED: "this release has been retired",
    Reason.BUNDLE_INVALID: "the attestation's signature cannot be trusted",
    Reason.BUNDLE_MALFORMED: "the attestation cannot be read",
    Reason.STATEMENT_MALFORMED: "the attested document cannot be read",
    Reason.TD_DEBUG: "the host can read this TD",
    Reason.LOOKUP_UNAVAILABLE: "the attestations could not be looked up",
    Reason.LOOKUP_INCOMPLETE: "not all attestations could be read",
    Reason.LOOKUP_BUDGET: "too many lookups; try again later",
}
_LIMIT: Final = 120


def compose(
    checks: tuple[Check, ...],
    policy: Policy,
    *,
    labels: tuple[str, ...] = (),
    judgement: Judgement | None = None,
    age: int = 0,
    retry_after: float | None = None,
    based_on: Verdict | None = None,
    early: bool = False,
) -> Verdict:
    """The verdict that checks add up to.

    Args:
        checks: all of them, in order.
        policy: for its mode.
        labels: besides those of the launch.
        judgement: of the attestations.
        age: of the lookup, seconds.
        retry_after: seconds.
        based_on: a verdict about the same claims, which this one has more checks than.
        early: the checks are of token, binding or TD: whatever fails refuses, in observe mode too
            (a quote that no tool can verify is no quote).
    """
    failed = [c for c in checks if not c.ok]
    observing = policy.mode == "observe"
    binding = [c for c in failed if early or not (observing and c.reason in RELAXED)]
    found = set(labels) | set(based_on.labels if based_on else ())
    if judgement is not None and judgement.best is not None and judgement.best.match is not None:
        found |= set(judgement.best.match.labels)
    if observing:
        let_pass = () if binding else failed
        found |= {"observe"} | {f"would_refuse_{c.reason}" for c in let_pass if c.reason}
    decisive = min(binding, key=_rank) if binding else None
    reason = None if decisive is None else decisive.reason
    release = based_on.release if based_on else (judgement.release if judgement else None)
    shape = based_on.shape if based_on else _shape(judgement)
    status = OK if reason is None else reason.status
    if based_on is not None:
        age, retry_after = based_on.age, based_on.retry_after
    seconds = None if retry_after is None else max(1, int(retry_after + 1))
    return Verdict(
        allowed=decisive is None,
        status=status,
        reason=reason,
        message=_message(decisive, failed, release.tag if release else None, shape, found),
        mode=policy.mode,
        labels=tuple(sorted(found)),
        checks=checks,
        release=release,
        shape=shape,
        attestation=based_on.attestation
        if based_on
        else (judgement.attestation if judgement else None),
        age=age,
        retry_after=seconds if status == UNAVAILABLE else None,
    )


def broken_off(error: Exception) -> Check:
    """The check that stands for all that an error of ours left out."""
    return check(
        "internal",
        Reason.INTERNAL_ERROR,
        ok=False,
        expected="no error",
        observed=type(error).__name__,
        source="verifier",
    )


def _rank(made: Check) -> int:
    """401 before what the TD itself is refused for, that before "not known", before the rest."""
    reason = made.reason
    if reason is None:
        return 4
    if reason.status == UNAUTHORIZED:
        return 0
    if reason.status == FORBIDDEN and reason not in RELAXED:
        return 1
    return 2 if reason.could_not_check else 3


def _shape(judgement: Judgement | None) -> str | None:
    if judgement is None or judgement.release is None or judgement.best is None:
        return None
    return None if judgement.best.match is None else judgement.best.match.launch.shape


def _message(
    decisive: Check | None,
    failed: list[Check],
    tag: str | None,
    shape: str | None,
    labels: set[str],
) -> str:
    if decisive is not None:
        reason = decisive.reason or Reason.INTERNAL_ERROR
        verb = "could not be checked" if reason.could_not_check else "refused"
        text = _TEXTS.get(reason, str(reason).replace("_", " "))
        return f"{verb}: {text} ({decisive.name}: {_facts(decisive)})"
    if failed:
        worst = min(failed, key=_rank)
        return f"admitted in observe mode only: {worst.name}: {_facts(worst)}"
    notes = f"; {', '.join(sorted(labels))}" if labels else ""
    return f"admitted: release {tag}, shape {shape}{notes}"


def _facts(made: Check) -> str:
    expected, observed = (
        text if len(text) <= _LIMIT else f"{text[:_LIMIT]}..."
        for text in (made.expected, made.observed)
    )
    return f"expected {expected}; found {observed}"
