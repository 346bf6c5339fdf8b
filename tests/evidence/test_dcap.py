"""Verification of quotes: a root of trust of our own, on which everything is well or has one flaw.

`fixtures.dcap` plays Intel and the platform. The quotes of the corpus have no collateral; they are
used for the paths that need none.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from mrtd.errors import (
    CollateralExpired,
    CollateralInvalid,
    MalformedCollateral,
    MalformedDocument,
    MalformedQuote,
    MrtdError,
    PlatformRevoked,
    QuoteInvalid,
    TcbRejected,
    TdUnprotected,
    ToolMissing,
)
from mrtd.evidence import dcap, qvl
from mrtd.evidence.collateral import Collateral, read_collateral
from mrtd.evidence.dcap import DcapVerdict, appraise_quote, verify_quote
from mrtd.evidence.quote import read_quote
from mrtd.evidence.tcb import DcapPolicy, TcbStatus

pytest.importorskip("dcap_qvl")
pytest.importorskip("cryptography")

from fixtures.dcap import NOW, Platform, World, authority
from fixtures.quotes import SEPT_VE_DISABLE, Td

DAY = timedelta(days=1)
STRICT = DcapPolicy()


def read(collateral: dict[str, str]) -> Collateral:
    return read_collateral(json.dumps(collateral).encode(), origin="collateral.json")


def verify(world: World, policy: DcapPolicy = STRICT, now: datetime = NOW) -> DcapVerdict:
    quote, collateral = world.build()
    return verify_quote(
        quote, read(collateral), policy=policy, now=now, root_ca=authority().root.der
    )


def appraise(world: World, policy: DcapPolicy = STRICT) -> DcapVerdict:
    quote, collateral = world.build()
    return appraise_quote(
        quote, read(collateral), policy=policy, now=NOW, root_ca=authority().root.der
    )


def failed(verdict: DcapVerdict) -> set[str]:
    return {check.name for check in verdict.checks if not check.ok}


@pytest.mark.parametrize("body_type", [None, 2, 3, 4])
def test_a_genuine_quote_of_a_good_platform_is_accepted(body_type: int | None) -> None:
    verdict = verify(World(body_type=body_type))
    assert verdict.ok
    assert verdict.status is TcbStatus.UP_TO_DATE
    assert verdict.advisories == ()
    assert verdict.state.evaluation_number == 20
    assert verdict.state.fmspc.hex() == "b0c06f000000"
    assert verdict.state.expires == NOW + 20 * DAY
    assert (verdict.state.current is None) == (body_type in {None, 2})
    assert all(check.expected and check.observed for check in verdict.checks)


def test_a_quote_that_was_read_is_verified_from_its_bytes() -> None:
    data, collateral = World().build()
    quote = read_quote(data + bytes(100), origin="a.quote")
    tampered = msgspec.structs.replace(quote, signature=bytes(64), padding=0)
    for value in (quote, tampered, data, data + bytes(7)):
        verdict = verify_quote(
            value, read(collateral), policy=STRICT, now=NOW, root_ca=authority().root.der
        )
        assert verdict.ok
        # padding changes nothing: what is cached by this digest is what was verified
        assert verdict.quote_sha256 == hashlib.sha256(quote.raw).hexdigest()


def test_bytes_after_a_quote_are_refused_before_anything_is_verified() -> None:
    quote, collateral = World().build()
    with pytest.raises(MalformedQuote, match="16 bytes follow"):
        verify_quote(
            quote + b"x" * 16,
            read(collateral),
            policy=STRICT,
            now=NOW,
            root_ca=authority().root.der,
        )


OUT_OF_DATE = World(status="OutOfDate", advisories=("INTEL-SA-00001", "INTEL-SA-00002"))


def test_an_outdated_platform_is_refused_with_status_and_advisories() -> None:
    with pytest.raises(TcbRejected, match="tcb_status is OutOfDate, expected UpToDate") as caught:
        verify(OUT_OF_DATE)
    assert set(caught.value.failed) >= {"tcb_status", "platform_date"}
    assert caught.value.exit_code == 1
    verdict = appraise(OUT_OF_DATE)
    assert not verdict.ok
    assert verdict.status is TcbStatus.OUT_OF_DATE
    assert verdict.advisories == ("INTEL-SA-00001", "INTEL-SA-00002")
    assert failed(verdict) == {"tcb_status", "platform_date", "dcap_qvl_policy"}


@pytest.mark.parametrize(("grace", "accepted"), [(0, False), (99, False), (100, True)])
def test_an_outdated_platform_is_accepted_within_its_grace_period(
    grace: int,
    accepted: bool,  # noqa: FBT001 - a parameter
) -> None:
    # the level's date is 100 days ago
    statuses = frozenset({TcbStatus.UP_TO_DATE, TcbStatus.OUT_OF_DATE})
    policy = DcapPolicy(accepted_statuses=statuses, platform_grace=grace * DAY)
    verdict = appraise(OUT_OF_DATE, policy)
    assert verdict.ok is accepted
    assert failed(verdict) <= {"platform_date", "dcap_qvl_policy"}


def test_grace_alone_accepts_no_outdated_platform() -> None:
    assert failed(appraise(OUT_OF_DATE, DcapPolicy(platform_grace=1000 * DAY))) == {
        "tcb_status",
        "dcap_qvl_policy",
    }


@pytest.mark.parametrize(
    "status", ["SWHardeningNeeded", "ConfigurationNeeded", "ConfigurationAndSWHardeningNeeded"]
)
def test_every_other_status_needs_to_be_named(status: str) -> None:
    world = World(status=status)
    assert failed(appraise(world)) == {"tcb_status", "dcap_qvl_policy"}
    accepted = DcapPolicy(accepted_statuses=frozenset({TcbStatus(status)}))
    assert verify(world, accepted).status == status


def test_up_to_date_is_refused_where_it_is_not_named() -> None:
    # dcap-qvl's strict policy would take it for granted
    policy = DcapPolicy(accepted_statuses=frozenset({TcbStatus.SW_HARDENING_NEEDED}))
    assert failed(appraise(World(), policy)) == {"tcb_status"}


def test_an_outdated_quoting_enclave_outdates_the_platform() -> None:
    world = World(qe_status="OutOfDate")
    assert failed(appraise(world)) == {"tcb_status", "qe_date", "dcap_qvl_policy"}
    policy = DcapPolicy(
        accepted_statuses=frozenset({TcbStatus.OUT_OF_DATE}), qe_grace=timedelta(days=100)
    )
    assert verify(world, policy).ok


def test_a_rejected_advisory_is_refused_whatever_the_status() -> None:
    world = World(status="SWHardeningNeeded", advisories=("INTEL-SA-00615", "INTEL-SA-00657"))
    accepted = frozenset({TcbStatus.SW_HARDENING_NEEDED})
    assert verify(world, DcapPolicy(accepted_statuses=accepted)).ok
    policy = DcapPolicy(
        accepted_statuses=accepted, rejected_advisories=frozenset({"intel-sa-00657"})
    )
    assert failed(appraise(world, policy)) == {"advisories", "dcap_qvl_policy"}


def test_older_collateral_is_refused_by_its_evaluation_number() -> None:
    assert verify(World(), DcapPolicy(minimum_evaluation_number=20)).ok
    assert failed(appraise(World(), DcapPolicy(minimum_evaluation_number=21))) == {
        "evaluation_number",
        "dcap_qvl_policy",
    }


@pytest.mark.parametrize("flag", ["dynamic_platform", "cached_keys", "smt"])
def test_a_platform_flag_is_accepted_unless_the_policy_refuses_it(flag: str) -> None:
    policy = msgspec.structs.replace(STRICT, **{flag: False})
    assert failed(appraise(World(), policy)) == {flag, "dcap_qvl_policy"}
    plain = World(platform=Platform(dynamic=False, cached_keys=False, smt=False))
    assert verify(plain, policy).ok


def test_all_that_is_wrong_is_reported_at_once() -> None:
    policy = DcapPolicy(
        rejected_advisories=frozenset({"INTEL-SA-00001"}), minimum_evaluation_number=99, smt=False
    )
    assert failed(appraise(OUT_OF_DATE, policy)) >= {
        "tcb_status",
        "platform_date",
        "advisories",
        "evaluation_number",
        "smt",
    }


# One flaw each, the error that it is, and what of dcap-qvl's text reaches the reader
FLAWS: list[tuple[World, type[MrtdError], str]] = [
    (World(revoked=True), PlatformRevoked, "CertRevoked"),
    (World(status="Revoked"), PlatformRevoked, "Revoked"),
    (World(qe_status="Revoked"), PlatformRevoked, "Revoked"),
    (World(expires=NOW - timedelta(minutes=1)), CollateralExpired, "Expired"),
    (World(certificate_until=NOW - DAY), CollateralExpired, "CertExpired"),
    (World(changes={"nextUpdate": "2026-06-15T11:59:59Z"}), CollateralExpired, "TCBInfo expired"),
    (World(changes={"issueDate": "2026-06-15T12:00:01Z"}), CollateralExpired, "in the future"),
    (World(tcb_fmspc=bytes(6)), CollateralInvalid, "Fmspc"),
    (World(changes={"id": "SGX"}), CollateralInvalid, "non-TDX"),
    (World(changes={"tdxModuleIdentities": []}), CollateralInvalid, "module identity"),
    (World(level_svn=4), TcbRejected, "below every TCB level"),
    (World(td=Td(attributes=SEPT_VE_DISABLE | 1)), TdUnprotected, "Debug"),
    (World(td=Td(attributes=SEPT_VE_DISABLE | 1 << 4)), TdUnprotected, "profiling"),
    (World(td=Td(attributes=SEPT_VE_DISABLE | 1 << 29)), TdUnprotected, "migration"),
    (World(td=Td(attributes=SEPT_VE_DISABLE | 1 << 40)), TdUnprotected, "Reserved"),
    (World(td=Td(attributes=0)), TdUnprotected, "sept-ve-disable=on"),
    (World(td=Td(mr_service_td=b"\1" * 48), body_type=3), TdUnprotected, "service TD"),
    (World(td=Td(mr_signer_seam=b"\1" * 48)), QuoteInvalid, "MRSIGNER"),
    (World(td=Td(tee_tcb_svn=b"\x04\x01\x02" + bytes(13))), TcbRejected, "below"),
]


@pytest.mark.parametrize(("world", "error", "text"), FLAWS, ids=[row[2] for row in FLAWS])
def test_one_flaw_is_one_error(world: World, error: type[MrtdError], text: str) -> None:
    with pytest.raises(error, match=text) as caught:
        verify(world)
    assert type(caught.value) is error


def test_no_policy_accepts_what_is_not_genuine() -> None:
    lax = DcapPolicy(
        accepted_statuses=frozenset(set(TcbStatus) - {TcbStatus.REVOKED}),
        platform_grace=10000 * DAY,
        qe_grace=10000 * DAY,
    )
    for world, error, _ in FLAWS:
        with pytest.raises(error):
            verify(world, lax)


@pytest.mark.parametrize("offset", [184, 400, 600, 640, 720, 770, 1200, 1216])
def test_a_flipped_bit_anywhere_makes_a_quote_invalid(offset: int) -> None:
    # MRTD, RTMR1, report data; signature, attestation key; QE report, its signature and its data
    quote, collateral = World().build()
    flipped = bytearray(quote)
    flipped[offset] ^= 1
    with pytest.raises(QuoteInvalid):
        verify_quote(
            bytes(flipped),
            read(collateral),
            policy=STRICT,
            now=NOW,
            root_ca=authority().root.der,
        )


def test_another_root_of_trust_is_not_trusted() -> None:
    mine, other = World().build(), World().build(authority("Other"))
    root = authority().root.der
    for quote, collateral in ((mine[0], other[1]), (other[0], mine[1])):
        with pytest.raises((QuoteInvalid, CollateralInvalid)):
            verify_quote(quote, read(collateral), policy=STRICT, now=NOW, root_ca=root)


def test_intels_root_is_the_default() -> None:
    quote, collateral = World().build()
    with pytest.raises(CollateralInvalid, match="root CA CRL"):
        verify_quote(quote, read(collateral), policy=STRICT, now=NOW)


def change(field: str, edit: Callable[[str], str]) -> Callable[[dict[str, str]], dict[str, str]]:
    return lambda collateral: {**collateral, field: edit(collateral[field])}


@pytest.mark.parametrize(
    ("edit", "error"),
    [
        (change("tcb_info", lambda t: t.replace('"svn":3', '"svn":2', 1)), CollateralInvalid),
        (change("qe_identity", lambda t: t.replace('"isvsvn":4', '"isvsvn":3')), CollateralInvalid),
        (change("tcb_info", lambda _: "{}"), CollateralInvalid),
        (change("tcb_info_signature", lambda _: ""), QuoteInvalid),
        (change("tcb_info_issuer_chain", lambda _: ""), QuoteInvalid),
        (change("tcb_info_issuer_chain", lambda _: "no PEM"), QuoteInvalid),
        (change("root_ca_crl", lambda _: "00"), CollateralInvalid),
        (change("pck_crl", lambda _: ""), CollateralInvalid),
        (lambda c: {**c, "pck_crl": c["root_ca_crl"]}, CollateralInvalid),
    ],
)
def test_collateral_that_was_tampered_with_is_refused(
    edit: Callable[[dict[str, str]], dict[str, str]], error: type[MrtdError]
) -> None:
    quote, collateral = World().build()
    with pytest.raises(error):
        verify_quote(
            quote, read(edit(collateral)), policy=STRICT, now=NOW, root_ca=authority().root.der
        )


def test_collateral_of_before_is_expired_later() -> None:
    with pytest.raises(CollateralExpired):
        verify(World(), now=NOW + 21 * DAY)
    with pytest.raises(CollateralExpired):
        verify(World(), now=NOW - 2 * DAY)


def test_the_time_of_verification_needs_its_zone() -> None:
    with pytest.raises(MalformedDocument, match="no time zone"):
        verify(World(), now=NOW.replace(tzinfo=None))
    with pytest.raises(MalformedDocument, match="before 1970"):
        verify(World(), now=datetime(1969, 1, 1, tzinfo=UTC))


@pytest.mark.parametrize(
    "settings",
    [
        {"accepted_statuses": frozenset()},
        {"accepted_statuses": frozenset({TcbStatus.REVOKED})},
        {"platform_grace": -DAY},
        {"qe_grace": -DAY},
        {"minimum_evaluation_number": -1},
        {"minimum_evaluation_number": 1 << 32},
    ],
)
def test_a_policy_that_can_only_be_a_mistake_is_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(MalformedDocument, match="DCAP policy"):
        DcapPolicy(**settings)


def test_a_policy_is_a_document() -> None:
    policy = DcapPolicy(platform_grace=30 * DAY, rejected_advisories=frozenset({"INTEL-SA-1"}))
    assert msgspec.json.decode(msgspec.json.encode(policy), type=DcapPolicy) == policy
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(b'{"allow_everything": true}', type=DcapPolicy)


def test_without_dcap_qvl_the_remedy_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    quote, collateral = World().build()
    monkeypatch.setitem(sys.modules, "dcap_qvl", None)
    with pytest.raises(ToolMissing, match=r"pip install '\./mrtd\[dcap\]'") as caught:
        verify_quote(quote, read(collateral), policy=STRICT, now=NOW)
    assert caught.value.exit_code == 3


def test_a_text_that_nobody_knows_is_a_refusal() -> None:
    assert type(qvl.translate("some new reason")) is QuoteInvalid


class PanicException(BaseException):
    """As pyo3 names it."""


def raises(error: BaseException) -> Callable[..., Any]:
    def function(*_: object) -> Any:
        raise error

    return function


@pytest.mark.parametrize(
    "error", [ValueError("x"), OverflowError("x"), RuntimeError("x"), PanicException("x")]
)
def test_whatever_dcap_qvl_raises_is_a_refusal(error: BaseException) -> None:
    with pytest.raises(qvl.Refusal, match="x"):
        qvl.call(raises(error))


def test_an_interrupt_stays_an_interrupt() -> None:
    with pytest.raises(KeyboardInterrupt):
        qvl.call(raises(KeyboardInterrupt()))


def pretend(monkeypatch: pytest.MonkeyPatch, change_claims: Callable[[Any], None]) -> None:
    """Let dcap-qvl verify, and change what it claims."""
    import dcap_qvl

    class Verifier:
        def __init__(self, root: bytes) -> None:
            self.inner = dcap_qvl.QuoteVerifier(root)

        def verify_with_policy(self, *arguments: Any) -> Any:
            claims = json.loads(self.inner.verify_with_policy(*arguments).to_json())
            change_claims(claims)
            return SimpleNamespace(to_json=lambda: json.dumps(claims))

    names = {name: getattr(dcap_qvl, name) for name in dcap_qvl.__all__}
    fake = SimpleNamespace(**{**names, "QuoteVerifier": Verifier})
    monkeypatch.setattr(dcap, "import_qvl", lambda: fake)


@pytest.mark.parametrize(
    "change_claims",
    [
        lambda c: c["report"]["TD10"].update(mr_td="00" * 48),
        lambda c: c.update(report={}),
        lambda c: c.update(report={"TD10": {"base": {}}}),
        lambda c: c.update(claims_version=2),
        lambda c: c["tcb"].update(status="Fine"),
        lambda c: c.pop("platform"),
        lambda c: c["platform"]["pck"].update(smt_enabled="Maybe"),
        lambda c: c["platform"]["pck"].update(fmspc=[999]),
        lambda c: c["platform"]["tcb_level"].update(tcbDate="2026-01-01T00:00:00"),
        lambda c: c.update(earliest_expiration_date=1 << 62),
    ],
)
def test_claims_that_do_not_fit_the_quote_are_refused(
    monkeypatch: pytest.MonkeyPatch, change_claims: Callable[[Any], None]
) -> None:
    pretend(monkeypatch, change_claims)
    with pytest.raises(QuoteInvalid):
        verify(World())


def test_what_dcap_qvl_accepts_is_still_appraised(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, lambda claims: claims["tcb"].update(status="OutOfDate"))
    assert failed(appraise(World())) == {"tcb_status"}


def test_what_dcap_qvl_refuses_is_refused_even_if_we_see_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def hide(claims: Any) -> None:
        claims["tcb"]["status"] = claims["platform"]["tcb_level"]["tcbStatus"] = "UpToDate"

    pretend(monkeypatch, hide)
    assert failed(appraise(replace(OUT_OF_DATE, advisories=()))) == {"dcap_qvl_policy"}


def test_collateral_that_dcap_qvl_cannot_take_is_an_input_error() -> None:
    quote, collateral = World().build()
    broken = msgspec.structs.replace(read(collateral), tcb_info="\ud800")
    with pytest.raises(MalformedCollateral):
        verify_quote(quote, broken, policy=STRICT, now=NOW)


def test_a_root_that_is_no_certificate_verifies_nothing() -> None:
    quote, collateral = World().build()
    with pytest.raises(QuoteInvalid, match="root ca"):
        verify_quote(quote, read(collateral), policy=STRICT, now=NOW, root_ca=b"no certificate")


@pytest.mark.parametrize("name", ["gce-cos-113.quote", "v5-sample.quote"])
def test_a_real_quote_does_not_verify_with_our_root(corpus: Path, name: str) -> None:
    _, collateral = World().build()
    quote = (corpus / "quotes" / name).read_bytes()
    with pytest.raises((QuoteInvalid, CollateralInvalid)):
        verify_quote(quote, read(collateral), policy=STRICT, now=NOW, root_ca=authority().root.der)


@pytest.mark.parametrize(
    ("module", "absent"),
    [
        ("mrtd.cli.measure", "mrtd.evidence"),
        ("mrtd.evidence.quote", "dcap_qvl"),
        ("mrtd.evidence.dcap", "dcap_qvl"),
        ("mrtd.evidence.dcap", "urllib.request"),
    ],
)
def test_nothing_is_imported_before_it_is_needed(module: str, absent: str) -> None:
    program = f"import sys, {module}; sys.exit({absent!r} in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], check=False, timeout=120)
    assert done.returncode == 0
