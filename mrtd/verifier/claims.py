"""What a verifier knows about a TD after its token (or quote) has been checked."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

import msgspec

from mrtd.evidence.tcb import TcbStatus
from mrtd.evidence.td_report import TdReport


class TdClaims(msgspec.Struct, frozen=True, kw_only=True):
    """A TD's report, and what Intel (or DCAP) says about the platform that it runs on.

    Attributes:
        report: registers, attributes, report data.
        tcb_status: of platform, TDX module and quoting enclave together.
        tcb_date: date of the TCB level; None where it was not said.
        advisories: ``INTEL-SA-...`` that apply, sorted.
        source: who checked the signature: ``token`` (Intel Trust Authority), ``quote`` (DCAP) or
            ``caller``.
    """

    report: TdReport
    tcb_status: TcbStatus
    tcb_date: datetime | None = None
    advisories: tuple[str, ...] = ()
    source: Literal["token", "quote", "caller"] = "caller"

    @property
    def key(self) -> bytes:
        """Everything that a decision depends on, but for the report data: two equal keys get the
        same answer.
        """
        report = self.report
        rtmr0, rtmr1, rtmr2, rtmr3 = report.rtmrs
        services: tuple[bytes, ...] = ()
        if report.v15 is not None:
            services = (report.v15.mr_service_td.raw,)
        if report.v15ex is not None:
            bound = report.v15ex
            services += (bound.init_service_td_hash.raw, bound.cur_service_td_hash.raw)
        return b"".join((
            report.mr_td.raw,
            rtmr0.raw,
            rtmr1.raw,
            rtmr2.raw,
            rtmr3.raw,
            report.mr_seam.raw,
            report.mr_signer_seam.raw,
            report.seam_attributes,
            report.td_attributes.value.to_bytes(8, "little"),
            report.xfam.value.to_bytes(8, "little"),
            report.mr_config_id.raw,
            report.mr_owner.raw,
            report.mr_owner_config.raw,
            len(services).to_bytes(1, "little"),
            *services,
            repr((self.tcb_status, self.tcb_date, self.advisories, self.source)).encode(),
        ))  # fmt: skip
