"""Whether a token is genuine, and about the quote that was sent.

The token is checked by what a control plane checks it with (`mrtd.verifier.token.check_token`), at
once: a runner that shows a token which no control plane would take has shown nothing. Then every
field of its TD report has to be the quote's, and, as a second opinion, DCAP may verify the same
quote with collateral at hand.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import msgspec

from ci.ita_settings import Endpoints
from ci.ita_wire import Nonce
from mrtd.errors import MrtdError, TransportError, VerificationError
from mrtd.evidence.collateral import Collateral
from mrtd.evidence.dcap import appraise_quote
from mrtd.evidence.quote import Quote
from mrtd.evidence.tcb import DcapPolicy, TcbStatus
from mrtd.evidence.td_report import TdReport
from mrtd.printable import printable
from mrtd.registers import ZERO
from mrtd.verifier.binding import report_data
from mrtd.verifier.jwks import KeySource
from mrtd.verifier.token import CheckedToken, check_token
from mrtd.verifier.token_claims import VerifierNonce
from mrtd.verifier.verdict import Reason

_ALWAYS: Final = timedelta(days=36500)
_OLD: Final = frozenset({TcbStatus.OUT_OF_DATE, TcbStatus.OUT_OF_DATE_CONFIGURATION_NEEDED})
UP_TO_DATE: Final = frozenset({TcbStatus.UP_TO_DATE})


class NotBound(VerificationError):
    """The quote's report data was not made of this nonce and data."""


class TokenRefused(VerificationError):
    """The token is not genuine, not in force, or not about the quote that was sent."""


@dataclass(frozen=True, slots=True)
class Difference:
    """A field in which token and quote are not the same."""

    field: str
    quote: str
    token: str


@dataclass(frozen=True, slots=True)
class SecondOpinion:
    """What DCAP says about the same quote.

    Attributes:
        problem: why it refuses it, or could not say; None if the quote is genuine and accepted.
        refused: whether it is a refusal.
        status: TCB status; None if it did not come so far.
        advisories: that apply.
    """

    problem: str | None
    refused: bool
    status: TcbStatus | None = None
    advisories: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RoundTrip:
    """What came of a quote that Intel Trust Authority appraised.

    Attributes:
        token: as it came.
        checked: what the control plane's code says of it.
        differences: between token and quote, and between what was bound and what the token says.
        refusals: of the TD and its platform: a debug TD, a TCB status that is not accepted.
        dcap: None if it was not asked.
        region: whose token it is.
    """

    token: str
    checked: CheckedToken
    differences: tuple[Difference, ...]
    refusals: tuple[str, ...]
    dcap: SecondOpinion | None
    region: str

    @property
    def ok(self) -> bool:
        """Whether everything that was asked was answered with yes."""
        dcap = self.dcap is None or self.dcap.problem is None
        return self.checked.ok and not self.differences and not self.refusals and dcap

    def require(self) -> None:
        """Raise for what is not well.

        Raises:
            TokenRefused: token, TD or DCAP say no; the message names the fields.
            TransportError: it could not be checked.
        """
        failed = [c for c in self.checked.checks if not c.ok]
        if any(c.reason is not None and c.reason.could_not_check for c in failed):
            raise TransportError(f"the token could not be checked: {_told(failed)}")
        unknown = any(c.reason is Reason.TOKEN_KEY_UNKNOWN for c in failed)
        if failed:
            hint = f"is it a token of another region than {self.region}?" if unknown else None
            raise TokenRefused(f"the token is refused: {_told(failed)}", hint=hint)
        if self.differences:
            texts = [f"{d.field}: {d.token}, not {d.quote}" for d in self.differences]
            raise TokenRefused(f"the token is about another quote: {'; '.join(texts)}")
        if self.refusals:
            raise TokenRefused("; ".join(self.refusals))
        if self.dcap is not None and self.dcap.problem is not None:
            if self.dcap.refused:
                raise TokenRefused(f"DCAP does not agree: {self.dcap.problem}")
            raise TransportError(f"DCAP could not be asked: {self.dcap.problem}")


def _told(failed: list[Any]) -> str:
    made = [c for c in failed if c.reason is not None]
    # what a token says of itself is a stranger's text, even if Intel signed it
    return printable("; ".join(f"{c.name}: {c.observed}, expected {c.expected}" for c in made))


def require_binding(quote: Quote, *, nonce: Nonce | None, data: bytes) -> None:
    """Refuse, before anything is sent, a quote that is not of this nonce and data.

    With neither there is nothing to compare, and the quote is nobody's answer to anything.

    Raises:
        NotBound: report data differs.
    """
    if nonce is None and not data:
        return
    wanted = report_data(data, None if nonce is None else nonce.decoded)
    if quote.report.report_data != wanted:
        raise NotBound(
            f"report data is {quote.report.report_data.hex()}, not {wanted.hex()}",
            hint="the TD has to ask for its quote with SHA-512(val || iat || data), "
            "val and iat with base64 undone once",
        )


def check_round_trip(
    token: str,
    quote: Quote,
    *,
    where: Endpoints,
    keys: KeySource,
    now: float,
    nonce: Nonce | None = None,
    data: bytes = b"",
    accepted: frozenset[TcbStatus] = UP_TO_DATE,
    dcap: SecondOpinion | None = None,
) -> RoundTrip:
    """Check a token that came back for a quote. Never raises.

    Args:
        token: as it came.
        quote: that was sent.
        where: the region that it came from.
        keys: of the issuer.
        now: Unix time in seconds.
        nonce: that was sent.
        data: that was sent.
        accepted: TCB statuses that are.
        dcap: of `second_opinion`.
    """
    checked = check_token(token, keys=keys, policy=where.token_policy(), now=now)
    differences: tuple[Difference, ...] = ()
    refusals: list[str] = []
    claims = checked.claims
    if claims is not None:
        differences = (
            *compare_reports(quote.report, claims.report),
            *_compare_bound(checked, nonce, data),
        )
        if claims.report.td_attributes.debug or quote.report.td_attributes.debug:
            refusals.append("a debug TD: its host can read and change all of it")
        if claims.tcb_status not in accepted:
            names = " or ".join(sorted(accepted))
            refusals.append(f"tcb_status: {claims.tcb_status}, expected {names}")
    return RoundTrip(token, checked, differences, tuple(refusals), dcap, where.region)


def compare_reports(quote: TdReport, token: TdReport) -> tuple[Difference, ...]:
    """Every field of a TD report that is not the same in a quote and in the token about it.

    A token says nothing of ``tee_tcb_svn2`` and of what a TD report 1.5ex adds, and may leave out
    ``mr_service_td`` where that is zero.
    """
    ours, theirs = _fields(quote), _fields(token)
    return tuple(
        Difference(name, ours[name], theirs[name]) for name in ours if ours[name] != theirs[name]
    )


def _fields(report: TdReport) -> dict[str, str]:
    found: dict[str, str] = {}
    for name in report.__struct_fields__:
        value = getattr(report, name)
        if name == "rtmrs":
            found |= {f"rtmr{index}": str(one) for index, one in enumerate(value)}
        elif name not in {"version", "v15", "v15ex"}:
            found[name] = value.hex() if isinstance(value, bytes) else str(value)
    service = ZERO if report.v15 is None else report.v15.mr_service_td
    return {**found, "mr_service_td": str(service)}


def _compare_bound(
    checked: CheckedToken, nonce: Nonce | None, data: bytes
) -> tuple[Difference, ...]:
    """What the token says was bound, which has to be what was sent."""
    found = []
    sent = None if nonce is None else nonce.decoded
    if checked.verifier_nonce != sent:
        found.append(
            Difference("verifier_nonce", _nonce_text(sent), _nonce_text(checked.verifier_nonce))
        )
    echoed = checked.runtime_data
    if echoed is not None and echoed != data:
        found.append(Difference("runtime_data", data.hex() or "none", echoed[:64].hex() or "none"))
    return tuple(found)


def _nonce_text(nonce: VerifierNonce | None) -> str:
    return "none" if nonce is None else nonce.val[:64].hex()


def second_opinion(
    quote: Quote,
    collateral: Collateral,
    *,
    now: float,
    accepted: frozenset[TcbStatus] = UP_TO_DATE,
    root_ca: bytes | None = None,
) -> SecondOpinion:
    """What DCAP says about a quote: never raises.

    That it verified the TD report which was read here is made sure by `appraise_quote`; a token
    with the same report therefore agrees with it.

    Args:
        quote: the quote.
        collateral: for its platform.
        now: Unix time in seconds.
        accepted: TCB statuses that are.
        root_ca: certificate in DER to trust instead of Intel's root: for tests.
    """
    grace = _ALWAYS if accepted & _OLD else timedelta()
    try:
        policy = DcapPolicy(accepted_statuses=accepted, platform_grace=grace, qe_grace=grace)
        moment = datetime.fromtimestamp(now, UTC)
        verdict = appraise_quote(quote, collateral, policy=policy, now=moment, root_ca=root_ca)
    except MrtdError as error:
        return SecondOpinion(error.message, refused=isinstance(error, VerificationError))
    failed = [
        f"{c.name} is {c.observed}, expected {c.expected}" for c in verdict.checks if not c.ok
    ]
    problem = "; ".join(failed) or (None if verdict.ok else "refused")
    return SecondOpinion(problem, problem is not None, verdict.status, verdict.advisories)


def to_json(trip: RoundTrip) -> dict[str, Any]:
    """The outcome as JSON types; the token itself is not in it."""
    claims = trip.checked.claims
    return {
        "ok": trip.ok,
        "region": trip.region,
        "checks": msgspec.to_builtins(trip.checked.checks),
        "differences": msgspec.to_builtins(trip.differences),
        "refusals": list(trip.refusals),
        "token": None
        if claims is None
        else {
            "id": trip.checked.token_id,
            "expires": int(trip.checked.expires),
            "tcb_status": str(claims.tcb_status),
            "advisories": list(claims.advisories),
            "registers": {str(k): str(v) for k, v in claims.report.registers.items()},
        },
        "dcap": None if trip.dcap is None else msgspec.to_builtins(trip.dcap),
    }
