"""TDs and platforms that are refused whatever was attested: before anything is looked up."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final

import msgspec
import pytest

from fixtures import reference
from mrtd.evidence.attributes import TdAttributes, Xfam
from mrtd.evidence.tcb import TcbStatus
from mrtd.evidence.td_report import Extended15, ServiceTd15
from mrtd.registers import ZERO, Sha384
from mrtd.verifier.claims import TdClaims
from mrtd.verifier.verdict import Reason
from tests.lab.answers import ADMITTED, Answer, answer
from tests.lab.world import World, claims_of

SOME: Final = Sha384.of(b"some")
SEPT: Final = 1 << 28
RTMRS: Final = claims_of().report.rtmrs
NO_SERVICE: Final = Extended15(
    vmid=0, td_id=bytes(32), dev_info=ZERO, init_service_td_hash=ZERO,
    init_service_td_attributes=bytes(8), init_cpu_svn=bytes(16), init_tee_tcb_svn=bytes(16),
    init_tee_fmspc=bytes(12), cur_service_td_hash=ZERO, cur_service_td_attributes=bytes(8),
)  # fmt: skip
NO_15: Final = ServiceTd15(bytes(16), ZERO)


def extended(**changes: Any) -> TdClaims:
    v15ex = msgspec.structs.replace(NO_SERVICE, **changes)
    return claims_of(version="1.5ex", v15=NO_15, v15ex=v15ex)


def td_attributes(value: int) -> TdClaims:
    return claims_of(td_attributes=TdAttributes(value))


def of_platform(**changes: Any) -> TdClaims:
    return msgspec.structs.replace(claims_of(), **changes)


_ODD: Final[dict[str, tuple[TdClaims, Answer]]] = {
    "debug": (td_attributes(SEPT | 1), (403, Reason.TD_DEBUG, "td_debug")),
    "migratable": (td_attributes(SEPT | 1 << 29), (403, Reason.TD_ATTRIBUTES, "td_attributes")),
    "host may spoof #VE": (td_attributes(0), (403, Reason.TD_ATTRIBUTES, "td_attributes")),
    "another SEAM signer": (
        claims_of(mr_signer_seam=SOME),
        (403, Reason.SEAM, "seam_signer"),
    ),
    "debug TDX module": (
        claims_of(seam_attributes=b"\1" + bytes(7)),
        (403, Reason.SEAM, "seam_attributes"),
    ),
    "RTMR3": (claims_of(rtmrs=(*RTMRS[:3], SOME)), (403, Reason.RTMR3_UNEXPECTED, "rtmr3")),
    "MRCONFIGID": (
        claims_of(mr_config_id=SOME),
        (403, Reason.CONFIGURATION_UNEXPECTED, "mr_config_id"),
    ),
    "MROWNER": (claims_of(mr_owner=SOME), (403, Reason.CONFIGURATION_UNEXPECTED, "mr_owner")),
    "MROWNERCONFIG": (
        claims_of(mr_owner_config=SOME),
        (403, Reason.CONFIGURATION_UNEXPECTED, "mr_owner_config"),
    ),
    "service TD": (
        claims_of(version="1.5", v15=ServiceTd15(bytes(16), SOME)),
        (403, Reason.SERVICE_TD_UNEXPECTED, "mr_service_td"),
    ),
    "service TD at creation": (
        extended(init_service_td_hash=SOME),
        (403, Reason.SERVICE_TD_UNEXPECTED, "init_service_td_hash"),
    ),
    "service TD now": (
        extended(cur_service_td_hash=SOME),
        (403, Reason.SERVICE_TD_UNEXPECTED, "cur_service_td_hash"),
    ),
}
_UNTRUSTED: Final = {
    f"untrusted bit {bit}": (
        td_attributes(SEPT | 1 << bit),
        (403, Reason.TD_ATTRIBUTES, "td_untrusted_bits"),
    )
    for bit in range(1, 8)
}
_TCB: Final = {
    f"TCB {status.value}": (
        of_platform(tcb_status=status),
        (403, Reason.TCB_STATUS, "tcb_status"),
    )
    for status in TcbStatus
    if status is not TcbStatus.UP_TO_DATE
}
CASES: Final[dict[str, tuple[TdClaims, Answer]]] = {**_ODD, **_UNTRUSTED, **_TCB}


@pytest.mark.parametrize("mode", ["enforce", "observe"])
@pytest.mark.parametrize("name", CASES)
def test_a_td_is_refused_for_what_it_is_and_nothing_is_looked_up(name: str, mode: str) -> None:
    claims, expected = CASES[name]
    world = World(f'mode = "{mode}"\n')
    world.publish(reference.document())
    assert answer(world.verifier.verify_claims(claims)) == expected
    assert world.github.asked == []


@pytest.mark.parametrize("name", CASES)
def test_no_kept_admission_lets_such_a_td_in(name: str) -> None:
    claims, expected = CASES[name]
    world = World()
    world.publish(reference.document())
    for good in (claims_of(), extended(), claims_of(version="1.5", v15=NO_15)):
        for _ in range(2):  # from the second time on, the answer is a kept one
            assert answer(world.verifier.verify_claims(good)) == ADMITTED
    assert answer(world.verifier.verify_claims(claims)) == expected


@pytest.mark.parametrize("bit", [8, 17, 18])
def test_xfam_is_as_the_operator_demands(bit: int) -> None:
    policy = '[td]\nxfam = {value = "0000000000061ae7", mask = "ffffffffffffffff"}\n'
    world = World(policy)
    world.publish(reference.document())
    assert answer(world.verifier.verify_claims(claims_of())) == ADMITTED
    wrong = claims_of(xfam=Xfam(0x61AE7 ^ 1 << bit))
    assert answer(world.verifier.verify_claims(wrong)) == (403, Reason.XFAM, "xfam")


def test_a_revoked_platform_cannot_be_accepted_by_any_policy() -> None:
    world = World()
    statuses = msgspec.structs.replace(world.policy.tcb, statuses=tuple(TcbStatus))
    # past the check of the policy file: what stands here is refused there
    msgspec.structs.force_setattr(world.policy, "tcb", statuses)
    world.publish(reference.document())
    claims = of_platform(tcb_status=TcbStatus.REVOKED)
    assert answer(world.another().verify_claims(claims)) == (403, Reason.TCB_STATUS, "tcb_status")


def test_platforms_are_accepted_only_as_far_as_the_policy_names_them() -> None:
    policy = (
        '[tcb]\nstatuses = ["UpToDate", "SWHardeningNeeded"]\n'
        'rejected_advisories = ["INTEL-SA-00001"]\nminimum_date = 2026-01-01T00:00:00Z\n'
    )
    world = World(policy)
    world.publish(reference.document())

    def judged(**changes: Any) -> Answer:
        good = {"tcb_date": datetime(2026, 1, 1, tzinfo=UTC)}
        return answer(world.verifier.verify_claims(of_platform(**good | changes)))

    assert judged() == ADMITTED
    assert judged(tcb_status=TcbStatus.SW_HARDENING_NEEDED, advisories=("INTEL-SA-2",)) == ADMITTED
    assert judged(advisories=("intel-sa-00001",)) == (403, Reason.TCB_ADVISORY, "tcb_advisories")
    assert judged(tcb_date=None) == (403, Reason.TCB_DATE, "tcb_date")
    old = datetime(2025, 12, 31, 23, 59, 59, tzinfo=UTC)
    assert judged(tcb_date=old) == (403, Reason.TCB_DATE, "tcb_date")


def test_modules_are_accepted_only_as_the_policy_lists_them() -> None:
    world = World(f'[td]\nmodules = ["{SOME}"]\n')
    world.publish(reference.document())
    assert answer(world.verifier.verify_claims(claims_of(mr_seam=SOME))) == ADMITTED
    verdict = world.verifier.verify_claims(claims_of())
    assert answer(verdict) == (403, Reason.SEAM, "seam_module")
