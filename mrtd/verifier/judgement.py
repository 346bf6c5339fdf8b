"""From attestations to an answer: does one of them vouch for this TD, and does nothing revoke it?

Pure: claims, candidates, policy, what the channel said, and the time.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import NamedTuple

import msgspec

from mrtd.reference import ReferenceValues, Release
from mrtd.verifier.bundle import Signed
from mrtd.verifier.claims import TdClaims
from mrtd.verifier.ledger import Ledger
from mrtd.verifier.policy import Policy
from mrtd.verifier.statement import Match, match_launches
from mrtd.verifier.verdict import Attestation, Check, Reason, check


class Candidate(msgspec.Struct, frozen=True, kw_only=True):
    """A bundle that was opened.

    Attributes:
        digest: of the bundle, hex; the same for every spelling of its JSON.
        source: where it came from.
        checks: of signature, identity and statement.
        signed: the payload; None unless signature and times are in order.
        values: the document; None unless all checks are passed.
    """

    digest: str
    source: str
    checks: tuple[Check, ...]
    signed: Signed | None
    values: ReferenceValues | None

    @property
    def unsettled(self) -> bool:
        """Whether it cannot be verified yet: a tool has no answer, or our clock is behind."""
        return any(
            (made.reason is not None and made.reason.could_not_check)
            or (made.name == "not_in_the_future" and not made.ok)
            for made in self.checks
        )

    @property
    def mute(self) -> bool:
        """Whether it may say something that is not known: a revocation, perhaps."""
        return self.unsettled or any(c.reason is Reason.STATEMENT_MALFORMED for c in self.checks)


class Judged(NamedTuple):
    """A candidate against a TD.

    Attributes:
        candidate: it.
        checks: those of the candidate, and those of its best launch.
        match: that launch; None if the candidate is not genuine or has none.
        same_image: whether any of its launches is of the TD's image.
    """

    candidate: Candidate
    checks: tuple[Check, ...]
    match: Match | None
    same_image: bool = False

    @property
    def ok(self) -> bool:
        """Whether it vouches for the TD."""
        return self.match is not None and all(c.ok for c in self.checks)

    @property
    def revoked(self) -> bool:
        """Whether it is an attestation of this very image that has been revoked."""
        return self.same_image and any(c.reason is Reason.REVOKED for c in self.checks)


class Judgement(NamedTuple):
    """What all candidates together say.

    Attributes:
        checks: those of the best candidate, then those that concern all.
        best: the candidate that vouches for the TD, or comes nearest to it; None if there is none.
    """

    checks: tuple[Check, ...]
    best: Judged | None

    @property
    def release(self) -> Release | None:
        """The release that the TD runs; None if its registers are nobody's."""
        if self.best is None or self.best.match is None or not self.best.match.same_registers:
            return None
        values = self.best.candidate.values
        return None if values is None else values.release

    @property
    def attestation(self) -> Attestation | None:
        """Who signed what the judgement rests on."""
        candidate = None if self.best is None else self.best.candidate
        if candidate is None or candidate.signed is None or self.release is None:
            return None
        signed = candidate.signed
        return Attestation(
            signer=signed.signer["subjectAlternativeName"],
            run=signed.signer["runInvocationURI"],
            signed_at=signed.signed_at,
            log_index=signed.log_index,
            bundle_sha256=candidate.digest,
            source=candidate.source,
        )


def judge(
    candidates: tuple[Candidate, ...],
    claims: TdClaims,
    policy: Policy,
    ledger: Ledger,
    now: datetime,
) -> Judgement:
    """Any attestation that passes admits; a revocation beats any number of them.

    So does a document of the trusted workflow that cannot be read, and a bundle that could not be
    verified for now: it may be a revocation.
    """
    judged = sorted(
        (_judge_one(candidate, claims, policy, ledger, now) for candidate in candidates),
        key=_distance,
    )
    common = [ledger.check_launch(claims)]
    common += [_other_revoked(one) for one in judged if one.revoked]
    common += [c for one in judged for c in one.checks if _may_revoke(c.reason)]
    best = judged[0] if judged else None
    found = check(
        "attested",
        Reason.NOT_ATTESTED,
        ok=best is not None,
        expected="an attestation of these measurements",
        observed=f"{len(judged)} found" if judged else "none found",
        source="lookup",
    )
    checks = (found, *common, *(best.checks if best else ()))
    return Judgement(checks, best)


def _judge_one(
    candidate: Candidate, claims: TdClaims, policy: Policy, ledger: Ledger, now: datetime
) -> Judged:
    values, signed = candidate.values, candidate.signed
    if values is None or signed is None:
        return Judged(candidate, candidate.checks, None)
    matches = match_launches(values, claims, policy.measurements)
    run = signed.signer["runInvocationURI"]
    checks = [
        *candidate.checks,
        ledger.check_origin(values.release, run),
        ledger.check_sequence(values.release),
        *_age(signed, policy, now),
    ]
    if not matches:
        nothing = check(
            "attested.launch",
            Reason.REGISTERS_DIFFER,
            ok=False,
            expected="a launch",
            observed="the document only revokes",
            source="statement",
        )
        return Judged(candidate, (*checks, nothing), None)
    same_image = any(match.same_image for match in matches)
    return Judged(candidate, (*checks, *matches[0].checks), matches[0], same_image)


def _age(signed: Signed, policy: Policy, now: datetime) -> tuple[Check, ...]:
    limit = policy.release.maximum_age_seconds
    if limit is None:
        return ()
    oldest = now - timedelta(seconds=limit)
    return (
        check(
            "signature_age",
            Reason.ATTESTATION_TOO_OLD,
            ok=signed.signed_at >= oldest,
            expected=f"signed after {oldest.isoformat(timespec='seconds')}",
            observed=signed.signed_at.isoformat(timespec="seconds"),
            source="transparency log or timestamp",
        ),
    )


def _distance(judged: Judged) -> tuple[bool, bool, bool, int]:
    """How far a candidate is from vouching for the TD: whom the verdict tells about."""
    match = judged.match
    failed = sum(not c.ok for c in judged.checks)
    return (not judged.ok, match is None or not match.same_registers, match is None, failed)


def _may_revoke(reason: Reason | None) -> bool:
    """Whether it is not known what a document says, or whether it is genuine."""
    return reason is not None and (reason is Reason.STATEMENT_MALFORMED or reason.could_not_check)


def _other_revoked(judged: Judged) -> Check:
    values = judged.candidate.values
    tag = "" if values is None else values.release.tag
    return check(
        "attestations_not_revoked",
        Reason.REVOKED,
        ok=False,
        expected="no attestation of these measurements is revoked",
        observed=f"that of release {tag} is",
        source="documents and policy",
    )
