"""Checks of the TD and its platform, whatever was attested about its image.

Sources: Intel TDX Module ABI Specification, "ATTRIBUTES Definition" (bits 7:0: the TD is
untrusted); Intel TDX Module Base Architecture Specification, "Measurement and Attestation".
"""

from __future__ import annotations

from datetime import UTC, datetime

from mrtd.evidence.attributes import TdAttributes, Xfam
from mrtd.evidence.tcb import TcbStatus
from mrtd.registers import ZERO, RegisterName, Sha384
from mrtd.verifier.claims import TdClaims
from mrtd.verifier.policy import BitsPolicy, Policy, TcbPolicy, TdPolicy
from mrtd.verifier.verdict import Check, Reason, check


def check_td(claims: TdClaims, policy: Policy) -> tuple[Check, ...]:
    """Ask every question about a TD and its platform; no answer hides another. Pure."""
    return tuple(
        check(name, reason, ok=ok, expected=expected, observed=observed, source=claims.source)
        for name, reason, ok, expected, observed in (
            *_attributes(claims, policy.td),
            *_seam(claims, policy.td),
            *_tcb(claims, policy.tcb),
            *_measured(claims, policy),
            *_configuration(claims, policy.td),
            *_service_tds(claims),
        )
    )


_Row = tuple[str, Reason, bool, str, str]
"""Name, reason, whether it is well, what is expected, what there is."""


def _attributes(claims: TdClaims, policy: TdPolicy) -> tuple[_Row, ...]:
    found = claims.report.td_attributes
    return (
        ("td_debug", Reason.TD_DEBUG, not found.debug, "not DEBUG", found.describe()),
        (
            "td_untrusted_bits",
            Reason.TD_ATTRIBUTES,
            not found.under_debug,
            "no bit of 7:0",
            found.describe(),
        ),
        _bits("td_attributes", Reason.TD_ATTRIBUTES, found, policy.td_attributes),
        _bits("xfam", Reason.XFAM, claims.report.xfam, policy.xfam),
    )


def _bits(name: str, reason: Reason, found: TdAttributes | Xfam, wanted: BitsPolicy) -> _Row:
    value, mask = int(wanted.value, 16), int(wanted.mask, 16)
    expected = f"{value:#018x} under mask {mask:#018x}"
    return name, reason, found.value & mask == value, expected, str(found)


def _seam(claims: TdClaims, policy: TdPolicy) -> tuple[_Row, ...]:
    """The TDX module: Intel's (signer zero), a production one, and one of the list."""
    report = claims.report
    attributes, modules = report.seam_attributes, policy.modules
    return (
        (
            "seam_signer",
            Reason.SEAM,
            report.mr_signer_seam == ZERO,
            "zero, Intel",
            str(report.mr_signer_seam),
        ),
        ("seam_attributes", Reason.SEAM, attributes == bytes(8), "zero", attributes.hex()),
        (
            "seam_module",
            Reason.SEAM,
            not modules or report.mr_seam in modules,
            " or ".join(map(str, modules)) or "any of Intel's",
            str(report.mr_seam),
        ),
    )


def _tcb(claims: TdClaims, policy: TcbPolicy) -> tuple[_Row, ...]:
    status, date = claims.tcb_status, claims.tcb_date
    rejected = {name.upper() for name in policy.rejected_advisories}
    found = [name for name in claims.advisories if name.upper() in rejected]
    return (
        (
            "tcb_status",
            Reason.TCB_STATUS,
            status in policy.statuses and status is not TcbStatus.REVOKED,
            " or ".join(policy.statuses),
            status.value,
        ),
        (
            "tcb_advisories",
            Reason.TCB_ADVISORY,
            not found,
            f"none of {', '.join(sorted(rejected)) or '(nothing rejected)'}",
            ", ".join(claims.advisories) or "none",
        ),
        (
            "tcb_date",
            Reason.TCB_DATE,
            policy.minimum_date is None or _since(policy.minimum_date, date),
            "any" if policy.minimum_date is None else f"since {policy.minimum_date.isoformat()}",
            "not said" if date is None else date.isoformat(),
        ),
    )


def _since(minimum: datetime, date: datetime | None) -> bool:
    """Whether a date is known and late enough; TCB dates without a zone are UTC."""
    if date is None:
        return False
    return (date if date.tzinfo else date.replace(tzinfo=UTC)) >= minimum


def _measured(claims: TdClaims, policy: Policy) -> tuple[_Row, ...]:
    """Zero is not evidence: nothing was measured there, whatever a document says."""
    registers = claims.report.registers
    return tuple(
        (
            f"{name}_measured",
            Reason.REGISTER_NOT_MEASURED,
            not registers[RegisterName(name)].is_zero,
            "not zero",
            str(registers[RegisterName(name)]),
        )
        for name in ("mrtd", *(name for name in policy.measurements.required if name != "mrtd"))
    )


def _configuration(claims: TdClaims, policy: TdPolicy) -> tuple[_Row, ...]:
    report = claims.report
    rows = (
        ("rtmr3", Reason.RTMR3_UNEXPECTED, report.rtmrs[3], policy.rtmr3),
        ("mr_config_id", Reason.CONFIGURATION_UNEXPECTED, report.mr_config_id, policy.mr_config_id),
        ("mr_owner", Reason.CONFIGURATION_UNEXPECTED, report.mr_owner, policy.mr_owner),
        (
            "mr_owner_config",
            Reason.CONFIGURATION_UNEXPECTED,
            report.mr_owner_config,
            policy.mr_owner_config,
        ),
    )
    return tuple(
        (name, reason, found == (wanted or ZERO), str(wanted or ZERO), str(found))
        for name, reason, found, wanted in rows
    )


def _service_tds(claims: TdClaims) -> tuple[_Row, ...]:
    """No service TD (such as a migration TD), as far as the report says."""
    found: list[tuple[str, Sha384]] = []
    if (v15 := claims.report.v15) is not None:
        found.append(("mr_service_td", v15.mr_service_td))
    if (v15ex := claims.report.v15ex) is not None:
        found.append(("init_service_td_hash", v15ex.init_service_td_hash))
        found.append(("cur_service_td_hash", v15ex.cur_service_td_hash))
    return tuple(
        (name, Reason.SERVICE_TD_UNEXPECTED, value.is_zero, "zero", str(value))
        for name, value in found
    )
