"""What dcap-qvl claims about a quote that it has verified, read strictly.

They are JSON with a version of its own (``QuoteClaims``, version 1). What is missing there, or of
another type than here, is a refusal: nothing is taken for granted.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from mrtd.errors import QuoteInvalid
from mrtd.evidence.tcb import Level, PlatformState, TcbStatus
from mrtd.evidence.td_report import TdReport

_VERSION: Final = 1


class _Level(msgspec.Struct):
    date: datetime = msgspec.field(name="tcbDate")
    status: TcbStatus = msgspec.field(name="tcbStatus")
    advisories: tuple[str, ...] = msgspec.field(name="advisoryIDs")


class _Pck(msgspec.Struct):
    fmspc: tuple[int, ...]
    dynamic_platform: str
    cached_keys: str
    smt_enabled: str


class _Platform(msgspec.Struct):
    tcb_level: _Level
    current_tcb_level: _Level | None
    pck: _Pck


class _Qe(msgspec.Struct):
    tcb_level: _Level


class _Tcb(msgspec.Struct):
    status: TcbStatus
    eval_data_number: int


class Claims(msgspec.Struct):
    """What is used of dcap-qvl's QuoteClaims, version 1; what is missing there is an error."""

    claims_version: int
    tcb: _Tcb
    platform: _Platform
    qe: _Qe
    earliest_expiration_date: int
    report: dict[str, dict[str, Any]]


def read_claims(text: str) -> Claims:
    """Read dcap-qvl's claims. Raises `QuoteInvalid`."""
    try:
        claims = msgspec.json.decode(text, type=Claims)
    except msgspec.MsgspecError as error:
        raise QuoteInvalid(f"dcap-qvl's claims cannot be read: {error}") from error
    if claims.claims_version != _VERSION:
        raise QuoteInvalid(f"dcap-qvl's claims have version {claims.claims_version}, not 1")
    return claims


_YES: Final = {"True": True, "False": False, "Undefined": None}


def platform_state(claims: Claims) -> PlatformState:
    """What the claims say about the platform. Raises `QuoteInvalid` if it cannot be understood."""
    pck = claims.platform.pck
    try:
        flags = [_YES[flag] for flag in (pck.dynamic_platform, pck.cached_keys, pck.smt_enabled)]
        fmspc = bytes(pck.fmspc)
        expires = datetime.fromtimestamp(claims.earliest_expiration_date, UTC)
    except (KeyError, ValueError, OverflowError, OSError) as error:
        raise QuoteInvalid(f"dcap-qvl's claims cannot be read: {error!r}") from error
    current = claims.platform.current_tcb_level
    return PlatformState(
        status=claims.tcb.status,
        platform=_level(claims.platform.tcb_level),
        current=None if current is None else _level(current),
        qe=_level(claims.qe.tcb_level),
        evaluation_number=claims.tcb.eval_data_number,
        expires=expires,
        fmspc=fmspc,
        dynamic_platform=flags[0],
        cached_keys=flags[1],
        smt=flags[2],
    )


def _level(level: _Level) -> Level:
    if level.date.tzinfo is None:
        raise QuoteInvalid(f"the date of a TCB level has no time zone: {level.date}")
    return Level(level.status, level.date, level.advisories)


def expect_report(claimed: dict[str, dict[str, Any]], report: TdReport) -> None:
    """What dcap-qvl verified must be what was read here: two parsers, one answer."""
    found: dict[str, object] = {}
    for fields in claimed.values():
        inner: object = fields
        while isinstance(inner, dict):  # 1.5 and 1.5ex keep the older report in "base"
            found.update(inner)
            inner = inner.get("base")
    expected: dict[str, str] = {
        "tee_tcb_svn": report.tee_tcb_svn.hex(),
        "mr_seam": str(report.mr_seam),
        "mr_signer_seam": str(report.mr_signer_seam),
        "seam_attributes": report.seam_attributes.hex(),
        "td_attributes": report.td_attributes.value.to_bytes(8, "little").hex(),
        "xfam": report.xfam.value.to_bytes(8, "little").hex(),
        "mr_td": str(report.mr_td),
        "mr_config_id": str(report.mr_config_id),
        "mr_owner": str(report.mr_owner),
        "mr_owner_config": str(report.mr_owner_config),
        **{f"rt_mr{index}": str(value) for index, value in enumerate(report.rtmrs)},
        "report_data": report.report_data.hex(),
    }
    if report.v15 is not None:
        expected["mr_service_td"] = str(report.v15.mr_service_td)
        expected["tee_tcb_svn2"] = report.v15.tee_tcb_svn2.hex()
    different = [name for name, value in expected.items() if found.get(name) != value]
    if different:
        raise QuoteInvalid(
            f"dcap-qvl verified another TD report than was read: {', '.join(different)} differ"
        )
