"""The TD and its platform: each flaw alone fails its check and no other."""

from __future__ import annotations

from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any, Final, cast

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fixtures.quotes import Td
from mrtd.evidence.attributes import TD_ATTRIBUTE_BITS, TdAttributes, Xfam
from mrtd.evidence.tcb import TcbStatus
from mrtd.evidence.td_report import TdReport, read_td_report
from mrtd.registers import ZERO, Sha384
from mrtd.verifier.claims import TdClaims
from mrtd.verifier.policy import Policy
from mrtd.verifier.settings import read_policy
from mrtd.verifier.td import check_td
from mrtd.verifier.verdict import Outcome, Reason

SOME: Final = Sha384(b"\x5a" * 48)
IDS: Final = "[identity]\nrepository_id = '1'\nowner_id = '2'\n"
STRICT: Final = read_policy(IDS)
SEPT: Final = 1 << 28


def report(**changes: Any) -> TdReport:
    body = read_td_report(memoryview(Td().report10()), version="1.0", origin="lab")
    return msgspec.structs.replace(body, **changes)


def claims(*, on: TdReport | None = None, **changes: Any) -> TdClaims:
    good = TdClaims(report=on or report(), tcb_status=TcbStatus.UP_TO_DATE, source="token")
    return msgspec.structs.replace(good, **changes)


def policy(text: str) -> Policy:
    return read_policy(f"{IDS}{text}")


def failed(about: TdClaims, by: Policy = STRICT) -> dict[str, Reason | None]:
    return {c.name: c.reason for c in check_td(about, by) if not c.ok}


def test_a_good_td_passes_every_check() -> None:
    checks = check_td(claims(), STRICT)
    assert {c.outcome for c in checks} == {Outcome.PASSED}
    assert {c.source for c in checks} == {"token"}
    assert [c.name for c in checks] == [
        "td_debug", "td_untrusted_bits", "td_attributes", "xfam", "seam_signer",
        "seam_attributes", "seam_module", "tcb_status", "tcb_advisories", "tcb_date",
        "mrtd_measured", "rtmr0_measured", "rtmr1_measured", "rtmr2_measured", "rtmr3",
        "mr_config_id", "mr_owner", "mr_owner_config",
    ]  # fmt: skip


RTMRS: Final = report().rtmrs
FLAWS: Final[dict[str, tuple[dict[str, Any], str, Reason]]] = {
    "no-septve-disable": (
        {"td_attributes": TdAttributes(0)}, "td_attributes", Reason.TD_ATTRIBUTES
    ),
    "migratable": (
        {"td_attributes": TdAttributes(SEPT | 1 << 29)}, "td_attributes", Reason.TD_ATTRIBUTES
    ),
    "module-signed-by-another": ({"mr_signer_seam": SOME}, "seam_signer", Reason.SEAM),
    "debug-module": ({"seam_attributes": b"\1" + bytes(7)}, "seam_attributes", Reason.SEAM),
    "module-attribute-bit-63": (
        {"seam_attributes": bytes(7) + b"\x80"}, "seam_attributes", Reason.SEAM
    ),
    "short-seam-attributes": ({"seam_attributes": b""}, "seam_attributes", Reason.SEAM),
    "mrtd-zero": ({"mr_td": ZERO}, "mrtd_measured", Reason.REGISTER_NOT_MEASURED),
    "rtmr0-zero": (
        {"rtmrs": (ZERO, *RTMRS[1:])}, "rtmr0_measured", Reason.REGISTER_NOT_MEASURED
    ),
    "rtmr1-zero": (
        {"rtmrs": (RTMRS[0], ZERO, *RTMRS[2:])}, "rtmr1_measured", Reason.REGISTER_NOT_MEASURED
    ),
    "rtmr2-zero": (
        {"rtmrs": (*RTMRS[:2], ZERO, ZERO)}, "rtmr2_measured", Reason.REGISTER_NOT_MEASURED
    ),
    "rtmr3": ({"rtmrs": (*RTMRS[:3], SOME)}, "rtmr3", Reason.RTMR3_UNEXPECTED),
    "mr-config-id": ({"mr_config_id": SOME}, "mr_config_id", Reason.CONFIGURATION_UNEXPECTED),
    "mr-owner": ({"mr_owner": SOME}, "mr_owner", Reason.CONFIGURATION_UNEXPECTED),
    "mr-owner-config": (
        {"mr_owner_config": SOME}, "mr_owner_config", Reason.CONFIGURATION_UNEXPECTED
    ),
}  # fmt: skip


@pytest.mark.parametrize("flaw", FLAWS)
def test_a_flaw_fails_its_check_and_no_other(flaw: str) -> None:
    changes, name, reason = FLAWS[flaw]
    assert failed(claims(on=report(**changes))) == {name: reason}


def test_all_flaws_are_reported_at_once() -> None:
    changes: dict[str, Any] = {}
    for change, _, _ in FLAWS.values():
        changes |= change
    found = failed(claims(on=report(**changes), tcb_status=TcbStatus.REVOKED))
    assert {"seam_signer", "seam_attributes", "mrtd_measured", "mr_owner", "tcb_status"} <= {*found}


@pytest.mark.parametrize(
    "text",
    ["", "[td]\ntd_attributes = {value = '0000000010000001', mask = '0000000010000001'}\n"],
    ids=["default", "policy-that-wants-it"],
)
def test_a_debug_td_is_refused_whatever_the_policy_says(text: str) -> None:
    debug = claims(on=report(td_attributes=TdAttributes(SEPT | 1)))
    assert failed(debug, policy(text))["td_debug"] is Reason.TD_DEBUG


@pytest.mark.parametrize("bit", range(1, 8))
def test_a_bit_that_makes_a_td_untrusted_is_refused_under_any_mask(bit: int) -> None:
    anything = policy(f"[td]\ntd_attributes = {{value = '{'0' * 16}', mask = '{'0' * 16}'}}\n")
    found = claims(on=report(td_attributes=TdAttributes(SEPT | 1 << bit)))
    assert failed(found, anything) == {"td_untrusted_bits": Reason.TD_ATTRIBUTES}


@pytest.mark.parametrize(
    "bit", [b.number for b in TD_ATTRIBUTE_BITS if b.number in {27, 30, 31, 63}]
)
def test_bits_that_are_not_in_the_mask_are_free(bit: int) -> None:
    assert not failed(claims(on=report(td_attributes=TdAttributes(SEPT | 1 << bit))))


def test_xfam_is_compared_under_its_mask() -> None:
    wanted = policy("[td]\nxfam = {value = '00000000000000e7', mask = '00000000000600ff'}\n")
    assert not failed(claims(), wanted)
    assert not failed(claims(on=report(xfam=Xfam(0x18E7))), wanted)
    assert failed(claims(on=report(xfam=Xfam(0x618E7))), wanted) == {"xfam": Reason.XFAM}
    assert failed(claims(on=report(xfam=Xfam(0x63))), wanted) == {"xfam": Reason.XFAM}


def test_a_list_of_modules_is_closed() -> None:
    listed = policy(f"[td]\nmodules = ['{SOME}', '{report().mr_seam}']\n")
    assert not failed(claims(), listed)
    assert failed(claims(), policy(f"[td]\nmodules = ['{SOME}']\n")) == {"seam_module": Reason.SEAM}


@pytest.mark.parametrize("status", [s for s in TcbStatus if s is not TcbStatus.UP_TO_DATE])
def test_a_tcb_status_has_to_be_accepted_by_name(status: TcbStatus) -> None:
    found = claims(tcb_status=status)
    assert failed(found) == {"tcb_status": Reason.TCB_STATUS}
    if status is not TcbStatus.REVOKED:
        named = policy(f"[tcb]\nstatuses = ['UpToDate', '{status.value}']\n")
        assert not failed(found, named)


def test_revoked_is_refused_even_by_a_policy_that_cannot_be_made() -> None:
    forged = SimpleNamespace(
        td=STRICT.td,
        measurements=STRICT.measurements,
        tcb=msgspec.structs.replace(STRICT.tcb, statuses=tuple(TcbStatus)),
    )
    found = check_td(claims(tcb_status=TcbStatus.REVOKED), cast("Policy", forged))
    assert [c.reason for c in found if not c.ok] == [Reason.TCB_STATUS]


def test_a_rejected_advisory_must_not_apply() -> None:
    rejecting = policy("[tcb]\nrejected_advisories = ['INTEL-SA-00837']\n")
    assert not failed(claims(advisories=("INTEL-SA-00828",)), rejecting)
    for spelling in ("INTEL-SA-00837", "intel-sa-00837"):
        assert failed(claims(advisories=("INTEL-SA-00828", spelling)), rejecting) == {
            "tcb_advisories": Reason.TCB_ADVISORY
        }


@pytest.mark.parametrize(
    ("date", "ok"),
    [
        (None, False),
        (datetime(2026, 1, 1, tzinfo=UTC), True),
        (datetime(2025, 12, 31, 23, 59, 59, tzinfo=UTC), False),
        (datetime(2026, 1, 1), True),  # noqa: DTZ001 - a caller's date may have no zone
        (datetime(2025, 12, 31), False),  # noqa: DTZ001
    ],
)
def test_a_minimum_date_has_to_be_met(date: datetime | None, *, ok: bool) -> None:
    since = policy("[tcb]\nminimum_date = 2026-01-01T00:00:00Z\n")
    assert failed(claims(tcb_date=date), since) == ({} if ok else {"tcb_date": Reason.TCB_DATE})
    assert not failed(claims(tcb_date=date))


def test_a_register_that_is_not_required_may_be_zero() -> None:
    unpinned = policy("[measurements]\nallow_unpinned_rtmr0 = true\n")
    assert not failed(claims(on=report(rtmrs=(ZERO, *RTMRS[1:]))), unpinned)


def test_mrtd_is_never_zero() -> None:
    only = policy("[measurements]\nmrtd_only = true\nrequired_coverage = ['firmware']\n")
    zero = report(mr_td=ZERO, rtmrs=(ZERO,) * 4)
    assert failed(claims(on=zero), only) == {"mrtd_measured": Reason.REGISTER_NOT_MEASURED}


@pytest.mark.parametrize("name", ["mr_config_id", "mr_owner", "mr_owner_config"])
def test_a_named_configuration_is_demanded(name: str) -> None:
    wanted = policy(f"[td]\n{name} = '{SOME}'\n")
    assert not failed(claims(on=report(**{name: SOME})), wanted)
    for other in (ZERO, Sha384(b"\1" * 48)):
        found = claims(on=report(**{name: other}))
        assert failed(found, wanted) == {name: Reason.CONFIGURATION_UNEXPECTED}


def test_a_named_rtmr3_is_demanded() -> None:
    wanted = policy(f"[td]\nrtmr3 = '{SOME}'\n")
    assert failed(claims(), wanted) == {"rtmr3": Reason.RTMR3_UNEXPECTED}
    assert not failed(claims(on=report(rtmrs=(*RTMRS[:3], SOME))), wanted)


def test_service_tds_are_refused_where_the_report_says() -> None:
    body = Td(mr_service_td=b"\x5d" * 48).report15()
    found = read_td_report(memoryview(body), version="1.5", origin="lab")
    assert failed(claims(on=found)) == {"mr_service_td": Reason.SERVICE_TD_UNEXPECTED}
    none = read_td_report(memoryview(Td().report15()), version="1.5", origin="lab")
    assert not failed(claims(on=none))


def test_service_tds_at_creation_and_now_are_refused() -> None:
    body = Td().report15ex()
    good = read_td_report(memoryview(body), version="1.5ex", origin="lab")
    assert not failed(claims(on=good))
    assert good.v15ex is not None
    for name in ("init_service_td_hash", "cur_service_td_hash"):
        bad = msgspec.structs.replace(good.v15ex, **{name: SOME})
        found = claims(on=msgspec.structs.replace(good, v15ex=bad))
        assert failed(found) == {name: Reason.SERVICE_TD_UNEXPECTED}


@given(st.binary(min_size=584, max_size=584), st.sampled_from(TcbStatus))
def test_whatever_a_td_reports_every_question_is_asked(body: bytes, status: TcbStatus) -> None:
    found = read_td_report(memoryview(body), version="1.0", origin="any")
    checks = check_td(claims(on=found, tcb_status=status), STRICT)
    assert [c.name for c in checks] == [c.name for c in check_td(claims(), STRICT)]
    assert all((c.outcome is Outcome.PASSED) == (c.reason is None) for c in checks)
