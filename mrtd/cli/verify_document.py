"""A measurement document instead of a TD: did a release attest exactly these registers?"""

from __future__ import annotations

from datetime import datetime
from typing import Final

import msgspec

from mrtd.document import MeasurementDocument
from mrtd.errors import MalformedDocument
from mrtd.evidence.attributes import TdAttributes, Xfam
from mrtd.evidence.tcb import TcbStatus
from mrtd.evidence.td_report import TdReport
from mrtd.registers import LAUNCH_REGISTERS, ZERO, Sha384
from mrtd.verifier.claims import TdClaims
from mrtd.verifier.judgement import judge
from mrtd.verifier.policy import Policy
from mrtd.verifier.td import check_td
from mrtd.verifier.verdict import Check, Reason, Verdict, check, not_made
from mrtd.verifier.verifier import Verifier
from mrtd.verifier.wording import compose

LABEL: Final = "no_td_verified"
_NO_TD: Final = "no TD was verified"
# Checks of attestations that ask about a TD
_OF_TD: Final = frozenset({"attested.td_attributes", "attested.xfam"})


def ask_about_registers(
    verifier: Verifier,
    document: MeasurementDocument,
    bundles: tuple[bytes, ...],
    now: datetime,
    *,
    origin: str,
) -> Verdict:
    """A verdict in which only the attestation counts.

    ``allowed`` says that a release attested these registers, and never that some VM is to be
    admitted; observe mode makes no difference.

    Raises:
        MalformedDocument: the registers are those of a TPM.
    """
    if document.target != "cc":
        raise MalformedDocument("has registers of a TPM, not of a TD", origin=origin)
    policy = msgspec.structs.replace(verifier.policy, mode="enforce")
    claims = _claims(document)
    own = (*_pinned(document, policy), *_about_td(claims, document, policy))
    if not all(c.ok for c in own):
        left_out = not_made("attestation", "refused before")
        return _said(compose((*own, left_out), policy, labels=(LABEL,), early=True))
    pool = verifier.attestations.find(claims, bundles, now)
    judgement = judge(pool.candidates, claims, policy, verifier.ledger, now)
    attested = tuple(not_made(c.name, _NO_TD) if c.name in _OF_TD else c for c in judgement.checks)
    verdict = compose(
        (*own, pool.lookup, *attested, *pool.dated_ahead),
        policy,
        labels=(LABEL, *pool.labels),
        judgement=judgement,
        retry_after=pool.retry_after,
    )
    return _said(verdict)


def _said(verdict: Verdict) -> Verdict:
    text = verdict.message
    if verdict.allowed:
        text = f"attested: {text.removeprefix('admitted: ')}"
    return msgspec.structs.replace(verdict, message=f"{text} ({_NO_TD})")


def _claims(document: MeasurementDocument) -> TdClaims:
    """The registers as if a TD had reported them; the rest is never looked at."""
    values = [
        ZERO if (text := document.registers.get(name)) is None else Sha384.fromhex(text)
        for name in LAUNCH_REGISTERS
    ]
    report = TdReport(
        version="1.0",
        tee_tcb_svn=bytes(16),
        mr_seam=ZERO,
        mr_signer_seam=ZERO,
        seam_attributes=bytes(8),
        td_attributes=TdAttributes(0),
        xfam=Xfam(0),
        mr_td=values[0],
        mr_config_id=ZERO,
        mr_owner=ZERO,
        mr_owner_config=ZERO,
        rtmrs=(values[1], values[2], values[3], ZERO),
        report_data=bytes(64),
    )
    return TdClaims(report=report, tcb_status=TcbStatus.REVOKED)


def _pinned(document: MeasurementDocument, policy: Policy) -> tuple[Check, ...]:
    """A required register without a value would be compared with nothing."""
    return tuple(
        check(
            f"document.{name}",
            Reason.REGISTER_UNPINNED,
            ok=document.registers.get(name) is not None,
            expected="a value",
            observed="a value" if document.registers.get(name) else "unpinned",
            source="measurement document",
        )
        for name in policy.measurements.required
    )


def _about_td(claims: TdClaims, document: MeasurementDocument, policy: Policy) -> tuple[Check, ...]:
    """Of the checks of a TD only those of registers are made, and of these where there is one."""
    values = {f"{name}_measured" for name, value in document.registers.items() if value is not None}
    return tuple(
        c if c.name in values else not_made(c.name, _NO_TD) for c in check_td(claims, policy)
    )
