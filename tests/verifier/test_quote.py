"""Quotes in place of tokens, with the root of trust of ``fixtures/dcap.py``."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import Final

import pytest

pytest.importorskip("dcap_qvl")

from fixtures import reference
from fixtures.dcap import NOW, World, authority
from fixtures.quotes import SEPT_VE_DISABLE, Td
from mrtd.errors import ToolMissing
from mrtd.evidence import dcap
from mrtd.evidence.collateral import Collateral, read_collateral
from mrtd.evidence.quote import read_quote
from mrtd.evidence.tcb import TcbStatus
from mrtd.verifier.policy import Policy
from mrtd.verifier.quote import check_quote
from mrtd.verifier.settings import read_policy
from mrtd.verifier.td import check_td
from mrtd.verifier.token import CheckedToken
from mrtd.verifier.verdict import Outcome, Reason
from tests.lab.world import World as LabWorld

IDS: Final = "[identity]\nrepository_id = '1'\nowner_id = '2'\n"
STRICT: Final = read_policy(IDS)
DAY: Final = timedelta(days=1)


def build(world: World) -> tuple[bytes, Collateral]:
    quote, collateral = world.build()
    return quote, read_collateral(json.dumps(collateral).encode(), origin="collateral")


def check(world: World, policy: Policy = STRICT) -> CheckedToken:
    quote, collateral = build(world)
    return check_quote(quote, collateral, policy=policy, now=NOW, root_ca=authority().root.der)


def reasons(checked: CheckedToken) -> set[Reason]:
    return {c.reason for c in checked.checks if not c.ok and c.reason is not None}


@pytest.mark.parametrize("body_type", [None, 2, 3, 4])
def test_a_good_quote_passes(body_type: int | None) -> None:
    world = World(body_type=body_type)
    checked = check(world)
    assert checked.ok, checked.checks
    assert {c.source for c in checked.checks} == {"quote"}
    assert len({c.name for c in checked.checks}) == len(checked.checks)
    assert checked.claims is not None
    assert checked.claims.source == "quote"
    assert checked.claims.tcb_date == NOW - 100 * DAY
    assert checked.claims.report.mr_td.raw == world.td.mr_td
    assert checked.expires == (NOW + 20 * DAY).timestamp()
    assert len(checked.token_id) == 64
    assert all(c.ok for c in check_td(checked.claims, STRICT))


ORDER: Final = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
"""Of the points of P-256: with (r, s) a signature, so is (r, ORDER - s)."""
SIGNATURE: Final = {None: 48 + 584 + 4, 2: 48 + 6 + 584 + 4, 3: 48 + 6 + 648 + 4}
"""Where it begins, by the type of the body: after header, type and size, body, and length."""


def twin(quote: bytes, body_type: int | None) -> bytes:
    """The same quote with the other signature of the same key over the same bytes."""
    at = SIGNATURE[body_type] + 32
    s = int.from_bytes(quote[at : at + 32], "big")
    return quote[:at] + (ORDER - s).to_bytes(32, "big") + quote[at + 32 :]


def test_a_quote_is_named_by_what_it_says() -> None:
    world = World()
    quote, collateral = build(world)
    root = authority().root.der
    found = [
        check_quote(one, collateral, policy=STRICT, now=NOW, root_ca=root)
        for one in (quote, twin(quote, None))
    ]
    assert all(one.ok for one in found)
    assert found[0].token_id == found[1].token_id
    others = (World(td=Td(report_data=b"\1" * 64)), World(advisories=("INTEL-SA-00837",)))
    assert len({found[0].token_id, *(check(other).token_id for other in others)}) == 3


@pytest.mark.parametrize("body_type", [None, 2, 3])
def test_a_quote_admits_once_whichever_of_its_signatures_it_has(body_type: int | None) -> None:
    world = World(body_type=body_type)
    quote, collateral = build(world)
    td = read_quote(quote, origin="quote").report
    made = reference.launch()
    for name, value in zip(
        ("mrtd", "rtmr0", "rtmr1", "rtmr2"), (td.mr_td, *td.rtmrs), strict=False
    ):
        made["registers"][name] = reference.exact(str(value))
    lab = LabWorld(
        f'[td]\nrtmr3 = "{td.rtmrs[3]}"\nmr_config_id = "{td.mr_config_id}"\n'
        f'mr_owner = "{td.mr_owner}"\nmr_owner_config = "{td.mr_owner_config}"\n'
    )
    lab.times.wall = NOW.timestamp()
    lab.publish(reference.document(made), at=NOW - timedelta(hours=1))
    answers = [
        lab.verifier.verify_quote(
            one, collateral, binding="none", now=NOW, root_ca=authority().root.der
        )
        for one in (quote, quote, twin(quote, body_type))
    ]
    assert [verdict.reason for verdict in answers] == [
        None, Reason.TOKEN_REPLAYED, Reason.TOKEN_REPLAYED,
    ]  # fmt: skip


FLAWS: Final = {
    "debug": (World(td=Td(attributes=SEPT_VE_DISABLE | 1)), Reason.TD_DEBUG),
    "platform-revoked": (World(revoked=True), Reason.TCB_STATUS),
    "tcb-revoked": (World(status="Revoked"), Reason.TCB_STATUS),
    "below-every-level": (World(level_svn=9), Reason.TCB_STATUS),
    "collateral-expired": (World(expires=NOW - DAY), Reason.COLLATERAL_UNAVAILABLE),
    "other-platform": (World(tcb_fmspc=bytes(6)), Reason.COLLATERAL_UNAVAILABLE),
}


@pytest.mark.parametrize("flaw", FLAWS)
def test_a_flaw_has_its_reason_and_no_claims(flaw: str) -> None:
    world, reason = FLAWS[flaw]
    checked = check(world)
    assert reasons(checked) == {reason}
    assert checked.claims is None
    assert not checked.ok
    unknown = {c.outcome for c in checked.checks if not c.ok} == {Outcome.NOT_CHECKED}
    assert unknown == (reason is Reason.COLLATERAL_UNAVAILABLE)


STATUSES: Final = [
    s for s in TcbStatus
    if s not in {TcbStatus.UP_TO_DATE, TcbStatus.REVOKED} and "Relaunch" not in s.value
]  # fmt: skip


@pytest.mark.parametrize("status", STATUSES)
def test_status_is_a_matter_of_policy_as_it_is_for_tokens(status: TcbStatus) -> None:
    """Also OutOfDate, for which `DcapPolicy` wants a period of grace besides."""
    world = World(status=status.value)
    refused = check(world)
    assert reasons(refused) == {Reason.TCB_STATUS}
    assert refused.claims is not None
    named = read_policy(f"{IDS}[tcb]\nstatuses = ['UpToDate', '{status.value}']\n")
    accepted = check(world, named)
    assert accepted.ok, accepted.checks
    assert accepted.claims is not None
    assert accepted.claims.tcb_status is status
    assert all(c.ok for c in check_td(accepted.claims, named))


def test_a_minimum_date_holds_for_quotes() -> None:
    since = read_policy(f"{IDS}[tcb]\nminimum_date = 2026-06-01T00:00:00Z\n")
    claims = check(World(), since).claims
    assert claims is not None
    assert [c.reason for c in check_td(claims, since) if not c.ok] == [Reason.TCB_DATE]


def test_a_rejected_advisory_is_refused() -> None:
    rejecting = read_policy(f"{IDS}[tcb]\nrejected_advisories = ['INTEL-SA-00837']\n")
    found = check(World(advisories=("INTEL-SA-00837",)), rejecting)
    assert Reason.TCB_ADVISORY in reasons(found)
    assert found.claims is not None
    assert found.claims.advisories == ("INTEL-SA-00837",)


def test_another_root_is_not_trusted() -> None:
    quote, collateral = build(World())
    checked = check_quote(quote, collateral, policy=STRICT, now=NOW)
    assert not checked.ok
    assert checked.claims is None


@pytest.mark.parametrize("at", [100, 200, 400, 630, 700])
def test_a_changed_quote_is_not_genuine(at: int) -> None:
    quote, collateral = build(World())
    changed = quote[:at] + bytes([quote[at] ^ 1]) + quote[at + 1 :]
    checked = check_quote(changed, collateral, policy=STRICT, now=NOW, root_ca=authority().root.der)
    assert checked.claims is None
    assert not checked.ok
    assert reasons(checked) <= {Reason.QUOTE_INVALID, Reason.QUOTE_MALFORMED}


@pytest.mark.parametrize("data", [b"", b"\4\0", bytes(5000)])
def test_what_is_no_quote_is_refused(data: bytes) -> None:
    _, collateral = build(World())
    checked = check_quote(data, collateral, policy=STRICT, now=NOW)
    assert reasons(checked) == {Reason.QUOTE_MALFORMED}


def test_a_real_quote_with_collateral_of_another_world_is_refused(corpus: Path) -> None:
    data = (corpus / "quotes" / "gce-cos-113.quote").read_bytes()
    assert read_quote(data, origin="real").header.version == 4
    _, collateral = build(World())
    checked = check_quote(data, collateral, policy=STRICT, now=NOW)
    assert not checked.ok
    assert checked.claims is None


def test_a_time_without_zone_admits_nobody() -> None:
    quote, collateral = build(World())
    checked = check_quote(quote, collateral, policy=STRICT, now=NOW.replace(tzinfo=None))
    assert reasons(checked) == {Reason.INTERNAL_ERROR}


def test_without_dcap_qvl_nothing_could_be_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> None:
        raise ToolMissing("dcap-qvl is not installed")

    monkeypatch.setattr(dcap, "import_qvl", missing)
    assert reasons(check(World())) == {Reason.TOOL_MISSING}


def test_what_goes_wrong_inside_is_a_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> None:
        raise RuntimeError

    monkeypatch.setattr(dcap, "import_qvl", broken)
    assert reasons(check(World())) == {Reason.INTERNAL_ERROR}
