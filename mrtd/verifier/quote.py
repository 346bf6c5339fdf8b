"""Quotes as evidence, verified with DCAP (extra ``mrtd[dcap]``) in place of a token."""

from __future__ import annotations

import hashlib
from datetime import datetime, timedelta
from typing import Final

from mrtd import errors
from mrtd.evidence import tcb
from mrtd.evidence.collateral import Collateral
from mrtd.evidence.dcap import DcapVerdict, appraise_quote
from mrtd.evidence.quote import read_quote
from mrtd.verifier.claims import TdClaims
from mrtd.verifier.policy import Policy
from mrtd.verifier.token import CheckedToken
from mrtd.verifier.verdict import Check, Reason, check, passed

_REASONS: Final[tuple[tuple[type[errors.MrtdError], Reason], ...]] = (
    (errors.MalformedQuote, Reason.QUOTE_MALFORMED),
    (errors.QuoteInvalid, Reason.QUOTE_INVALID),
    (errors.TdUnprotected, Reason.TD_DEBUG),
    (errors.MalformedCollateral, Reason.COLLATERAL_UNAVAILABLE),
    (errors.CollateralInvalid, Reason.COLLATERAL_UNAVAILABLE),
    (errors.CollateralExpired, Reason.COLLATERAL_UNAVAILABLE),
    (errors.PlatformRevoked, Reason.TCB_STATUS),
    (errors.TcbRejected, Reason.TCB_STATUS),
    (errors.ToolMissing, Reason.TOOL_MISSING),
)
# Checks of `mrtd.evidence.tcb.appraise` that are not about the status
_CHECKS: Final = {
    "advisories": Reason.TCB_ADVISORY,
    "collateral_expiry": Reason.COLLATERAL_UNAVAILABLE,
}
_ALWAYS: Final = timedelta(days=36500)


def check_quote(
    quote: bytes,
    collateral: Collateral,
    *,
    policy: Policy,
    now: datetime,
    root_ca: bytes | None = None,
) -> CheckedToken:
    """Check a quote and its platform. Never raises.

    Args:
        quote: the quote, with or without zero bytes after it.
        collateral: for its platform.
        policy: section ``tcb`` counts.
        now: the time, with its zone.
        root_ca: certificate in DER to trust instead of Intel's root: for tests.
    """
    try:
        appraised = appraise_quote(
            quote, collateral, policy=_dcap_policy(policy), now=now, root_ca=root_ca
        )
        report = read_quote(quote, origin="quote").report
    except errors.MrtdError as error:
        reason = next((r for kind, r in _REASONS if isinstance(error, kind)), Reason.INTERNAL_ERROR)
        return CheckedToken(checks=(_refused(reason, error.message),))
    except Exception as error:  # noqa: BLE001 - what nobody thought of is a refusal
        return CheckedToken(checks=(_refused(Reason.INTERNAL_ERROR, type(error).__name__),))
    state = appraised.state
    claims = TdClaims(
        report=report,
        tcb_status=state.status,
        tcb_date=state.platform.date,
        advisories=state.advisories,
        source="quote",
    )
    return CheckedToken(
        checks=_checks(appraised),
        claims=claims,
        # of what was said, not of how it was signed: an ECDSA signature has a twin
        token_id=hashlib.sha256(claims.key + report.report_data).hexdigest(),
        expires=state.expires.timestamp(),
    )


def _dcap_policy(policy: Policy) -> tcb.DcapPolicy:
    """The same demands, in the terms of `mrtd.evidence`."""
    accepted = frozenset(policy.tcb.statuses)
    old = {tcb.TcbStatus.OUT_OF_DATE, tcb.TcbStatus.OUT_OF_DATE_CONFIGURATION_NEEDED}
    # There, an accepted OutOfDate holds for a while after a date; here, policy.tcb.minimum_date
    # limits it (`check_td`), and the status alone decides.
    grace = _ALWAYS if accepted & old else timedelta()
    return tcb.DcapPolicy(
        accepted_statuses=accepted,
        rejected_advisories=frozenset(policy.tcb.rejected_advisories),
        platform_grace=grace,
        qe_grace=grace,
    )


def _checks(appraised: DcapVerdict) -> tuple[Check, ...]:
    signature = passed("quote_signature", expected="genuine", observed="genuine", source="quote")
    return (
        signature,
        *(
            check(
                f"dcap_{c.name.removeprefix('dcap_')}",
                _CHECKS.get(c.name, Reason.TCB_STATUS),
                ok=c.ok,
                expected=c.expected,
                observed=c.observed,
                source="quote",
            )
            for c in appraised.checks
        ),
    )


def _refused(reason: Reason, text: str) -> Check:
    return check(
        "quote_signature", reason, ok=False, expected="genuine", observed=text, source="quote"
    )
