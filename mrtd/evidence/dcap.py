"""Verification of a quote against Intel's root of trust, by dcap-qvl (extra ``mrtd[dcap]``).

What dcap-qvl leaves to its caller is closed here:

* only the policy interface is used, never the legacy one, which reports ``OutOfDate`` as success;
* the appraisal is made here, question by question, and dcap-qvl's own policy has to agree;
* it ignores bytes after a quote: it gets exactly `Quote.raw`, and the TD report that it verified
  must be the one that was read here;
* its errors are bare ``ValueError`` with text: each becomes one of ours, an unknown text
  `QuoteInvalid`;
* it can fetch collateral, by default from a third party: that is never called.

Always refused by dcap-qvl, whatever the policy: debug and profiled TDs, migratable TDs and TDs with
service TDs, TDs without SEPT_VE_DISABLE, revoked platforms.
"""

from __future__ import annotations

import hashlib
from datetime import datetime
from types import ModuleType

import msgspec

from mrtd.errors import MalformedCollateral, MalformedDocument, TcbRejected
from mrtd.evidence.claims import Claims, expect_report, platform_state, read_claims
from mrtd.evidence.collateral import Collateral, encode_collateral
from mrtd.evidence.quote import Quote, read_quote
from mrtd.evidence.qvl import Refusal, call, import_qvl, translate
from mrtd.evidence.tcb import Check, DcapPolicy, PlatformState, TcbStatus, appraise


class DcapVerdict(msgspec.Struct, frozen=True):
    """What is known about a genuine quote, and whether the policy accepts its platform.

    Attributes:
        ok: whether every check passed.
        checks: all of them.
        state: of the platform.
        quote_sha256: of `Quote.raw`, hex.
    """

    ok: bool
    checks: tuple[Check, ...]
    state: PlatformState
    quote_sha256: str

    @property
    def status(self) -> TcbStatus:
        """TCB status of platform, TDX module and quoting enclave together."""
        return self.state.status

    @property
    def advisories(self) -> tuple[str, ...]:
        """All advisories that apply."""
        return self.state.advisories


def verify_quote(
    quote: bytes | Quote,
    collateral: Collateral,
    *,
    policy: DcapPolicy,
    now: datetime,
    root_ca: bytes | None = None,
) -> DcapVerdict:
    """Verify a quote and accept its platform, or raise: the verdict that comes back is ``ok``.

    Arguments and errors are those of `appraise_quote`, and:

    Raises:
        TcbRejected: the quote is genuine, and the policy does not accept its platform.
    """
    verdict = appraise_quote(quote, collateral, policy=policy, now=now, root_ca=root_ca)
    failed = [check for check in verdict.checks if not check.ok]
    if failed or not verdict.ok:
        texts = [f"{c.name} is {c.observed}, expected {c.expected}" for c in failed]
        raise TcbRejected(
            f"the platform's TCB is not accepted: {'; '.join(texts)}",
            failed=tuple(check.name for check in failed),
            hint="update the platform, or name in the policy what is to be accepted",
        )
    return verdict


def appraise_quote(
    quote: bytes | Quote,
    collateral: Collateral,
    *,
    policy: DcapPolicy,
    now: datetime,
    root_ca: bytes | None = None,
) -> DcapVerdict:
    """Verify a quote and appraise its platform; a refusal by the policy is a verdict, not an error.

    Args:
        quote: the quote, read or not.
        collateral: for its platform type.
        policy: what is accepted.
        now: the time to verify at, with its time zone.
        root_ca: certificate in DER to trust instead of Intel's root: for tests.

    Raises:
        MalformedQuote: the quote cannot be read.
        MalformedCollateral: dcap-qvl cannot read the collateral.
        QuoteInvalid: no genuine platform signed the quote.
        TdUnprotected: the TD is open to the host.
        CollateralInvalid: the collateral is not authentic, or of another platform.
        CollateralExpired: the collateral does not hold at ``now``.
        PlatformRevoked: Intel has revoked the platform.
        TcbRejected: the platform is below every TCB level that Intel lists.
        ToolMissing: dcap-qvl is not installed.
    """
    if isinstance(quote, Quote):
        # Whoever built it: what is verified is what is read again from the bytes.
        quote = read_quote(quote.raw, origin=quote.origin)
    else:
        quote = read_quote(quote, origin="quote")
    seconds = _seconds(now)
    backend = _Backend(import_qvl(), collateral, root_ca, seconds)
    claims = backend.claims(quote)
    expect_report(claims.report, quote.report)
    state = platform_state(claims)
    checks = appraise(state, policy, now)
    checks = (*checks, backend.second_opinion(quote, policy))
    return DcapVerdict(
        ok=all(check.ok for check in checks),
        checks=checks,
        state=state,
        quote_sha256=hashlib.sha256(quote.raw).hexdigest(),
    )


class _Backend:
    """dcap-qvl with collateral, root and time."""

    def __init__(
        self, qvl: ModuleType, collateral: Collateral, root_ca: bytes | None, seconds: int
    ) -> None:
        self._qvl = qvl
        self._root_ca = root_ca
        self._seconds = seconds
        try:
            text = call(encode_collateral, collateral)
            self._collateral = call(qvl.QuoteCollateralV3.from_json, text.decode())
            self._verifier = call(qvl.QuoteVerifier, root_ca)
        except Refusal as error:
            raise MalformedCollateral(str(error), origin="collateral") from error

    def claims(self, quote: Quote) -> Claims:
        """Verify everything but the policy."""
        try:
            policy = call(self._qvl.QuotePolicy.claims_only, self._seconds)
            found = call(
                self._verifier.verify_with_policy,
                quote.raw,
                self._collateral,
                self._seconds,
                policy,
            )
            text = call(found.to_json)
        except Refusal as error:
            raise translate(self._cause(quote) or str(error)) from error
        return read_claims(text)

    def _cause(self, quote: Quote) -> str | None:
        """The whole chain of reasons: only the legacy interface prints it. Nothing is accepted."""
        arguments: tuple[object, ...] = (quote.raw, self._collateral)
        try:
            if self._root_ca is None:
                call(self._qvl.verify, *arguments, self._seconds)
            else:
                call(self._qvl.verify_with_root_ca, *arguments, self._root_ca, self._seconds)
        except Refusal as error:
            return str(error)
        return None

    def second_opinion(self, quote: Quote, policy: DcapPolicy) -> Check:
        """dcap-qvl's policy with the same settings: it knows of questions that we might not."""
        try:
            built = call(lambda: _qvl_policy(self._qvl, policy, self._seconds))
            call(
                self._verifier.verify_with_policy,
                quote.raw,
                self._collateral,
                self._seconds,
                built,
            )
        except Refusal as error:
            return Check("dcap_qvl_policy", ok=False, expected="accepted", observed=str(error))
        return Check("dcap_qvl_policy", ok=True, expected="accepted", observed="accepted")


def _qvl_policy(qvl: ModuleType, policy: DcapPolicy, seconds: int) -> object:
    # strict() takes UpToDate for granted; `appraise` does not
    built = qvl.QuotePolicy.strict(seconds)
    for status in sorted(policy.accepted_statuses):
        built = built.allow_status(status.value)
    return (
        built.reject_advisories(sorted(policy.rejected_advisories))
        .platform_grace_period(int(policy.platform_grace.total_seconds()))
        .qe_grace_period(int(policy.qe_grace.total_seconds()))
        .min_tcb_eval_data_number(policy.minimum_evaluation_number)
        .allow_dynamic_platform(policy.dynamic_platform)
        .allow_cached_keys(policy.cached_keys)
        .allow_smt(policy.smt)
    )


def _seconds(now: datetime) -> int:
    """Unix time. A time without zone would be taken for that of the machine."""
    if now.utcoffset() is None:
        raise MalformedDocument(f"{now} has no time zone", origin="time of verification")
    seconds = int(now.timestamp())
    if seconds < 0:
        raise MalformedDocument(f"{now} is before 1970", origin="time of verification")
    return seconds
