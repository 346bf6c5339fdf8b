"""Tokens of the lab's trust authority: good ones, and each flaw alone."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fixtures.quotes import SEPT_VE_DISABLE, Td
from mrtd.evidence.quote import read_quote
from mrtd.evidence.tcb import TcbStatus
from mrtd.registers import Sha384
from mrtd.verifier.jwks import KeySource
from mrtd.verifier.policy import TokenPolicy
from mrtd.verifier.token import SIZE_LIMIT, CheckedToken, check_token
from mrtd.verifier.verdict import Outcome, Reason
from tests.lab.trust_authority import (
    GOOD,
    NOW,
    KeysFetch,
    LabClock,
    Recipe,
    TrustAuthority,
    Version,
    b64url,
    encode,
    report_body,
    signing_key,
)

POLICY: Final = TokenPolicy()
BODY: Final = Td().report10()
AUTHORITY: Final = TrustAuthority()
VERSIONS: Final[tuple[Version, ...]] = ("v1", "v2")
LEEWAY: Final = POLICY.leeway_seconds


def check(token: str, *, now: float = NOW, policy: TokenPolicy = POLICY) -> CheckedToken:
    keys = KeySource(policy, KeysFetch(AUTHORITY), LabClock().clock)
    return check_token(token, keys=keys, policy=policy, now=now)


def reasons(checked: CheckedToken) -> set[Reason]:
    return {c.reason for c in checked.checks if c.reason is not None}


def outcome(checked: CheckedToken) -> dict[str, Outcome]:
    return {c.name: c.outcome for c in checked.checks}


def names_failed(checked: CheckedToken) -> set[str]:
    return {c.name for c in checked.checks if not c.ok}


@pytest.mark.parametrize("alg", ["PS384", "RS256"])
@pytest.mark.parametrize("version", VERSIONS)
def test_a_good_token_passes_every_check(version: Version, alg: str) -> None:
    checked = check(AUTHORITY.token(BODY, Recipe(version=version, alg=alg)))
    assert checked.ok, checked.checks
    assert {c.source for c in checked.checks} == {"token"}
    assert {c.outcome for c in checked.checks} == {Outcome.PASSED}
    assert checked.token_id.startswith("lab-")
    assert checked.claims is not None
    assert checked.claims.source == "token"
    assert checked.claims.tcb_status is TcbStatus.UP_TO_DATE
    assert checked.claims.tcb_date is not None
    assert checked.claims.tcb_date.isoformat() == "2026-03-12T00:00:00+00:00"


@pytest.mark.parametrize("version", VERSIONS)
def test_every_field_of_the_report_is_read(version: Version) -> None:
    body = bytes(range(256)) * 2 + bytes(range(72))
    claims = check(AUTHORITY.token(body, Recipe(version=version))).claims
    assert claims is not None
    report = claims.report
    assert report.version == "1.0"
    assert report.tee_tcb_svn == body[:16]
    assert report.mr_seam.raw == body[16:64]
    assert report.mr_signer_seam.raw == body[64:112]
    assert report.seam_attributes == body[112:120]
    assert report.td_attributes.value == int.from_bytes(body[120:128], "little")
    assert report.xfam.value == int.from_bytes(body[128:136], "little")
    assert report.mr_td.raw == body[136:184]
    assert report.mr_config_id.raw == body[184:232]
    assert report.mr_owner.raw == body[232:280]
    assert report.mr_owner_config.raw == body[280:328]
    assert [r.raw for r in report.rtmrs] == [body[s : s + 48] for s in range(328, 520, 48)]
    assert report.report_data == body[520:]


# Sizes: of the quotes themselves; spr-v4.quote is a file with more in it
@pytest.mark.parametrize(
    ("name", "size"),
    [("gce-cos-113.quote", None), ("spr-v4.quote", 4935), ("v5-sample.quote", None)],
)
def test_a_token_about_a_real_quote_says_what_the_quote_says(
    corpus: Path, name: str, size: int | None
) -> None:
    data = (corpus / "quotes" / name).read_bytes()[:size]
    claims = check(AUTHORITY.token(report_body(data))).claims
    assert claims is not None
    quote = read_quote(data, origin=name)
    for field in claims.report.__struct_fields__:
        if field not in {"version", "v15", "v15ex"}:
            assert getattr(claims.report, field) == getattr(quote.report, field)


def test_hex_of_attributes_is_in_the_order_of_memory() -> None:
    """As in a real token, whose septve_disable (bit 28) is true."""
    claims = check(AUTHORITY.token(recipe=Recipe(td={"tdx_td_attributes": "0000001000000000"})))
    assert claims.claims is not None
    assert claims.claims.report.td_attributes.value == SEPT_VE_DISABLE
    swapped = check(AUTHORITY.token(recipe=Recipe(td={"tdx_td_attributes": "0000000010000000"})))
    assert reasons(swapped) == {Reason.TOKEN_CLAIMS}


def test_hex_digits_may_be_upper_case() -> None:
    checked = check(AUTHORITY.token(recipe=Recipe(td={"tdx_mrtd": "AB" * 48})))
    assert checked.claims is not None
    assert checked.claims.report.mr_td == Sha384(b"\xab" * 48)


# The header, and the signature

JUNK: Final = "e30"
SIGNATURE_FLAWS: Final[dict[str, tuple[Recipe, Reason]]] = {
    "HS256": (Recipe(alg="HS256"), Reason.TOKEN_DEVELOPMENT),
    "none": (Recipe(alg="none"), Reason.TOKEN_MALFORMED),
    "none-with-signature": (Recipe(header={"alg": "none"}), Reason.TOKEN_ALGORITHM),
    "None": (Recipe(header={"alg": None}), Reason.TOKEN_ALGORITHM),
    "PS256": (Recipe(header={"alg": "PS256"}), Reason.TOKEN_ALGORITHM),
    "ps384": (Recipe(header={"alg": "ps384"}), Reason.TOKEN_ALGORITHM),
    "list-of-alg": (Recipe(header={"alg": ["PS384"]}), Reason.TOKEN_ALGORITHM),
    "other-scheme": (Recipe(header={"alg": "RS256"}), Reason.TOKEN_SIGNATURE),
    "other-key": (Recipe(key=signing_key("stranger")), Reason.TOKEN_SIGNATURE),
    "unknown-kid": (Recipe(kid="key-9"), Reason.TOKEN_KEY_UNKNOWN),
    "no-kid": (Recipe(header={"kid": None}), Reason.TOKEN_MALFORMED),
    "empty-kid": (Recipe(header={"kid": ""}), Reason.TOKEN_MALFORMED),
    "number-as-kid": (Recipe(header={"kid": 1}), Reason.TOKEN_MALFORMED),
    "long-kid": (Recipe(header={"kid": "k" * 201}), Reason.TOKEN_MALFORMED),
    "crit": (Recipe(header={"crit": ["exp"]}), Reason.TOKEN_MALFORMED),
    "empty-crit": (Recipe(header={"crit": []}), Reason.TOKEN_MALFORMED),
    "b64": (Recipe(header={"b64": False}), Reason.TOKEN_MALFORMED),
    "alg-twice": (
        Recipe(raw_header=b'{"alg":"PS384","kid":"key-1","alg":"PS384"}'),
        Reason.TOKEN_MALFORMED,
    ),
    "header-is-a-list": (Recipe(raw_header=b"[]"), Reason.TOKEN_MALFORMED),
    "header-is-no-json": (Recipe(raw_header=b"\xff{"), Reason.TOKEN_MALFORMED),
}


@pytest.mark.parametrize("flaw", SIGNATURE_FLAWS)
def test_without_a_genuine_signature_nothing_of_the_payload_is_used(flaw: str) -> None:
    recipe, reason = SIGNATURE_FLAWS[flaw]
    checked = check(AUTHORITY.token(BODY, recipe))
    assert reasons(checked) == {reason}
    assert len(names_failed(checked)) == 1
    assert checked.claims is None
    assert checked.token_id == ""
    assert checked.runtime_data is None
    assert checked.verifier_nonce is None
    assert outcome(checked)["token_claims"] is Outcome.NOT_CHECKED
    assert outcome(checked)["token_expiry"] is Outcome.NOT_CHECKED


def test_every_check_has_an_answer_or_is_named_as_left_out() -> None:
    good = check(AUTHORITY.token())
    for recipe, _ in SIGNATURE_FLAWS.values():
        assert [*outcome(check(AUTHORITY.token(BODY, recipe)))] == [*outcome(good)]


def test_keys_and_addresses_in_the_header_are_not_looked_at() -> None:
    stranger = signing_key("stranger")
    header = {"jku": "https://example.com", "x5u": "https://example.com", "jwk": {"kty": "RSA"}}
    assert check(AUTHORITY.token(recipe=Recipe(header=header))).ok
    assert not check(AUTHORITY.token(recipe=Recipe(header=header, key=stranger))).ok


@pytest.mark.parametrize(
    "token",
    [
        "",
        "a",
        "a.b",
        "a.b.c.d",
        "a..c",
        f" {AUTHORITY.token()}",
        f"{AUTHORITY.token()}\n",
        f"{AUTHORITY.token()}=",
        f"{AUTHORITY.token().rpartition('.')[0]}.",
        AUTHORITY.token().replace(".", "..", 1),
        "é.é.é",
        "A" * (SIZE_LIMIT + 1),
        AUTHORITY.token(recipe=Recipe(top={"filler": "x" * SIZE_LIMIT})),
    ],
)
def test_what_is_no_compact_jws_is_refused(token: str) -> None:
    assert reasons(check(token)) == {Reason.TOKEN_MALFORMED}


@pytest.mark.parametrize("token", [None, b"a.b.c", 7])
def test_what_is_no_text_is_refused(token: Any) -> None:
    assert reasons(check(token)) == {Reason.TOKEN_MALFORMED}


def test_another_spelling_of_the_same_signature_is_refused() -> None:
    """384 bytes leave no spare bits; the header's 2 of its last digit are ours to set."""
    header = encode({"alg": "PS384", "kid": "key-1", "x": ""})
    header = encode({"alg": "PS384", "kid": "key-1", "x": "y" * ((1 - len(header)) % 3)})
    token = AUTHORITY.token(recipe=Recipe(raw_header=header))
    assert check(token).ok
    head, rest = token.split(".", 1)
    digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    other = head[:-1] + digits[digits.index(head[-1]) + 1]
    assert base64.urlsafe_b64decode(other + "==") == header
    checked = check(f"{other}.{rest}")
    assert reasons(checked) == {Reason.TOKEN_MALFORMED}


@pytest.mark.parametrize("part", [0, 1, 2])
def test_a_changed_part_is_refused(part: int) -> None:
    parts = AUTHORITY.token().split(".")
    other = AUTHORITY.token(recipe=Recipe(version="v2", header={"x": 1})).split(".")
    parts[part] = other[part]
    assert reasons(check(".".join(parts))) == {Reason.TOKEN_SIGNATURE}


def test_a_token_with_a_key_that_could_not_be_fetched_is_not_refused_for_good() -> None:
    fetch = KeysFetch(AUTHORITY)
    fetch.down = True
    keys = KeySource(POLICY, fetch, LabClock().clock)
    checked = check_token(AUTHORITY.token(), keys=keys, policy=POLICY, now=NOW)
    assert reasons(checked) == {Reason.TOKEN_KEYS_UNAVAILABLE}
    assert outcome(checked)["token_key"] is Outcome.NOT_CHECKED
    assert not checked.ok


def test_only_algorithms_of_the_policy_are_accepted() -> None:
    policy = TokenPolicy(algorithms=("PS384",))
    checked = check(AUTHORITY.token(recipe=Recipe(alg="RS256")), policy=policy)
    assert reasons(checked) == {Reason.TOKEN_ALGORITHM}


def test_what_goes_wrong_inside_is_a_refusal() -> None:
    class Broken(KeySource):
        def key(self, kid: str, alg: str) -> Any:
            raise RuntimeError(kid, alg)

    keys = Broken(POLICY, KeysFetch(AUTHORITY), LabClock().clock)
    checked = check_token(AUTHORITY.token(), keys=keys, policy=POLICY, now=NOW)
    assert reasons(checked) == {Reason.INTERNAL_ERROR}
    assert not checked.ok


# A genuine signature around claims that are wrong

CLAIM_FLAWS: Final[dict[str, tuple[Recipe, Reason, str]]] = {
    "other-issuer": (
        Recipe(top={"iss": "https://portal.eu.trustauthority.intel.com"}),
        Reason.TOKEN_ISSUER,
        "token_issuer",
    ),
    "issuer-with-slash": (
        Recipe(top={"iss": f"{POLICY.issuer}/"}), Reason.TOKEN_ISSUER, "token_issuer"
    ),
    "no-issuer": (Recipe(top={"iss": None}), Reason.TOKEN_ISSUER, "token_issuer"),
    "list-of-issuers": (Recipe(top={"iss": [POLICY.issuer]}), Reason.TOKEN_ISSUER, "token_issuer"),
    "expired": (Recipe(top={"exp": NOW - LEEWAY}), Reason.TOKEN_EXPIRED, "token_expiry"),
    "no-exp": (Recipe(top={"exp": None}), Reason.TOKEN_CLAIMS, "token_expiry"),
    "exp-true": (Recipe(top={"exp": True}), Reason.TOKEN_CLAIMS, "token_expiry"),
    "exp-text": (Recipe(top={"exp": str(NOW + 99)}), Reason.TOKEN_CLAIMS, "token_expiry"),
    "not-yet": (
        Recipe(top={"nbf": NOW + LEEWAY + 1}), Reason.TOKEN_NOT_YET_VALID, "token_not_before"
    ),
    "no-nbf": (Recipe(top={"nbf": None}), Reason.TOKEN_CLAIMS, "token_not_before"),
    "nbf-false": (Recipe(top={"nbf": False}), Reason.TOKEN_CLAIMS, "token_not_before"),
    "issued-in-the-future": (
        Recipe(top={"iat": NOW + LEEWAY + 1}), Reason.TOKEN_NOT_YET_VALID, "token_issued"
    ),
    "too-old": (
        Recipe(top={"iat": NOW - POLICY.maximum_age_seconds - LEEWAY}),
        Reason.TOKEN_TOO_OLD,
        "token_age",
    ),
    "no-jti": (Recipe(top={"jti": None}), Reason.TOKEN_CLAIMS, "token_id"),
    "empty-jti": (Recipe(top={"jti": ""}), Reason.TOKEN_CLAIMS, "token_id"),
    "long-jti": (Recipe(top={"jti": "j" * 201}), Reason.TOKEN_CLAIMS, "token_id"),
    "number-as-jti": (Recipe(top={"jti": 7}), Reason.TOKEN_CLAIMS, "token_id"),
}  # fmt: skip


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("flaw", CLAIM_FLAWS)
def test_a_flaw_fails_its_check_and_no_other(flaw: str, version: Version) -> None:
    recipe, reason, name = CLAIM_FLAWS[flaw]
    checked = check(AUTHORITY.token(BODY, replace(recipe, version=version)))
    assert (reasons(checked), names_failed(checked)) == ({reason}, {name})
    assert checked.claims is not None
    assert not checked.ok


def test_a_token_without_time_of_issue_is_refused() -> None:
    checked = check(AUTHORITY.token(recipe=Recipe(top={"iat": None})))
    assert names_failed(checked) == {"token_issued", "token_age"}
    assert reasons(checked) == {Reason.TOKEN_CLAIMS}


def test_all_flaws_of_a_genuine_token_are_reported_at_once() -> None:
    recipe = Recipe(
        top={"iss": "x", "exp": 1, "nbf": 9 * NOW, "iat": 1, "jti": ""}, td={"tdx_mrtd": None}
    )
    failed = names_failed(check(AUTHORITY.token(BODY, recipe)))
    assert failed == {
        "token_issuer", "token_expiry", "token_not_before", "token_age", "token_id", "token_claims"
    }  # fmt: skip


@pytest.mark.parametrize(
    "now", [NOW - LEEWAY, NOW, NOW + 300 + LEEWAY - 1], ids=["early", "on-time", "late"]
)
def test_leeway_is_granted_both_ways(now: int) -> None:
    assert check(AUTHORITY.token(), now=now).ok


@pytest.mark.parametrize(
    ("now", "reason"),
    [
        (NOW - LEEWAY - 1, Reason.TOKEN_NOT_YET_VALID),
        (NOW + 300 + LEEWAY, Reason.TOKEN_EXPIRED),
    ],
)
def test_beyond_leeway_nothing_is_accepted(now: int, reason: Reason) -> None:
    assert reasons(check(AUTHORITY.token(), now=now)) == {reason}


@pytest.mark.parametrize("now", [float("nan"), float("inf"), float("-inf")])
def test_a_clock_without_a_time_admits_nobody(now: float) -> None:
    assert not check(AUTHORITY.token(), now=now).ok


@pytest.mark.parametrize("exp", [NOW + 300, NOW + 10 * 365 * 86400])
def test_a_token_is_refused_from_the_time_on_that_is_reported(exp: int) -> None:
    token = AUTHORITY.token(recipe=Recipe(top={"exp": exp}))
    expires = check(token).expires
    assert check(token, now=expires - 1).ok
    assert not check(token, now=expires).ok


PAYLOADS: Final = {
    "key-twice": b'{"iss":"a","iss":"b"}',
    "key-twice-inside": b'{"tdx":{"a":1,"a":2}}',
    "nan": b'{"exp":NaN}',
    "infinity": b'{"exp":Infinity}',
    "fraction": b'{"exp":1.5}',
    "huge": b'{"exp":99999999999999999999}',
    "exponent": b'{"exp":1e3}',
    "list": b"[]",
    "null": b"null",
    "deep": b'{"a":' + b"[" * 20_000 + b"]" * 20_000 + b"}",
    "no-json": b"{",
    "no-utf8": b'{"a":"\xff"}',
    "bom": b"\xef\xbb\xbf{}",
    "surrogate": b'{"a":"\\ud800"}',
}


@pytest.mark.parametrize("flaw", PAYLOADS)
def test_a_signed_payload_that_is_no_strict_json_is_refused(flaw: str) -> None:
    checked = check(AUTHORITY.token(recipe=Recipe(payload=PAYLOADS[flaw])))
    assert reasons(checked) == {Reason.TOKEN_MALFORMED}
    assert checked.claims is None


# What is said of the TD

TD_FLAWS: Final[dict[str, dict[str, object]]] = {
    **{f"no-{name}": {name: None} for name in (
        "tdx_mrtd", "tdx_rtmr0", "tdx_rtmr1", "tdx_rtmr2", "tdx_rtmr3", "tdx_mrseam",
        "tdx_mrsignerseam", "tdx_seam_attributes", "tdx_td_attributes", "tdx_xfam",
        "tdx_tee_tcb_svn", "tdx_mrconfigid", "tdx_mrowner", "tdx_mrownerconfig",
        "tdx_report_data", "tdx_is_debuggable", "tdx_td_attributes_debug", "attester_tcb_status",
    )},
    "short-mrtd": {"tdx_mrtd": "11" * 47},
    "long-mrtd": {"tdx_mrtd": "11" * 49},
    "odd-mrtd": {"tdx_mrtd": "1" * 95},
    "0x-mrtd": {"tdx_mrtd": "0x" + "11" * 47},
    "spaced-mrtd": {"tdx_mrtd": "11" * 47 + " 1"},
    "unicode-digits": {"tdx_mrtd": "\u0661" * 96},
    "line-end": {"tdx_mrtd": "11" * 47 + "1\n"},
    "number-mrtd": {"tdx_mrtd": 11},
    "sgx": {"attester_type": "SGX"},
    "type-in-lower-case": {"attester_type": "tdx"},
    "debug-says-true": {"tdx_is_debuggable": True},
    "debug-bit-says-true": {"tdx_td_attributes_debug": True},
    "debug-is-zero": {"tdx_is_debuggable": 0},
    "debug-is-text": {"tdx_td_attributes_debug": "false"},
    "septve-says-false": {"tdx_td_attributes_septve_disable": False},
    "migratable-says-true": {"tdx_is_migratable": True},
    "perfmon-says-true": {"tdx_td_attributes_perfmon": True},
    "dbgstat-enabled": {"dbgstat": "enabled"},
    "dbgstat-unknown": {"dbgstat": "off"},
    "dbgstat-number": {"dbgstat": 0},
    "debug-attribute-alone": {"tdx_td_attributes": "0100001000000000"},
    "status-unknown": {"attester_tcb_status": "OK"},
    "status-in-lower-case": {"attester_tcb_status": "uptodate"},
    "status-list": {"attester_tcb_status": ["UpToDate"]},
    "date-unknown": {"attester_tcb_date": "yesterday"},
    "date-number": {"attester_tcb_date": 20260101},
    "advisories-number": {"attester_advisory_ids": 7},
    "advisories-of-numbers": {"attester_advisory_ids": [7]},
    "advisories-false": {"attester_advisory_ids": False},
    "advisories-strange": {"attester_advisory_ids": ["INTEL-SA-00828; drop"]},
    "runtime-data-no-base64": {"attester_runtime_data": "*"},
    "held-data-differs": {"attester_runtime_data": "YQ==", "attester_held_data": "Yg=="},
    "nonce-is-text": {"verifier_nonce": "abc"},
    "nonce-without-iat": {"verifier_nonce": {"val": "YQ=="}},
    "nonce-no-base64": {"verifier_nonce": {"val": "*", "iat": "YQ=="}},
    "short-service-td": {"tdx_mrservicetd": "00"},
}  # fmt: skip


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("flaw", TD_FLAWS)
def test_claims_that_are_not_whole_are_no_claims(flaw: str, version: Version) -> None:
    checked = check(AUTHORITY.token(BODY, Recipe(version=version, td=TD_FLAWS[flaw])))
    assert (reasons(checked), names_failed(checked)) == ({Reason.TOKEN_CLAIMS}, {"token_claims"})
    assert checked.claims is None
    assert checked.runtime_data is None
    assert checked.verifier_nonce is None


def test_a_flat_token_has_to_say_what_attested() -> None:
    flat = check(AUTHORITY.token(recipe=Recipe(td={"attester_type": None})))
    assert reasons(flat) == {Reason.TOKEN_CLAIMS}
    nested = check(AUTHORITY.token(recipe=Recipe(version="v2", td={"attester_type": None})))
    assert nested.ok


@pytest.mark.parametrize("value", [[], "x", 1, True])
def test_a_tdx_claim_that_is_no_object_is_refused(value: object) -> None:
    checked = check(AUTHORITY.token(recipe=Recipe(top={"tdx": value})))
    assert reasons(checked) == {Reason.TOKEN_CLAIMS}


def test_both_levels_may_say_the_same() -> None:
    mrtd = BODY[136:184].hex()
    recipe = Recipe(version="v2", top={"tdx_mrtd": mrtd, "dbgstat": "disabled"})
    assert check(AUTHORITY.token(BODY, recipe)).ok


@pytest.mark.parametrize(
    "top",
    [
        {"tdx_mrtd": "22" * 48},
        {"attester_tcb_status": "OutOfDate"},
        {"dbgstat": "enabled"},
        {"tdx_is_debuggable": 0},
        {"attester_type": "SGX"},
        {"verifier_nonce": {"val": "YQ==", "iat": "YQ=="}},
    ],
)
def test_levels_that_differ_are_refused(top: dict[str, object]) -> None:
    nonce = {"val": "Yg==", "iat": "YQ=="}
    recipe = Recipe(version="v2", top=top, td={"verifier_nonce": nonce})
    checked = check(AUTHORITY.token(BODY, recipe))
    assert reasons(checked) == {Reason.TOKEN_CLAIMS}
    assert checked.claims is None


def test_a_debug_td_is_claimed_as_one() -> None:
    """It is genuine, and `check_td` refuses it whatever the policy says."""
    claims = check(AUTHORITY.token(Td(attributes=SEPT_VE_DISABLE | 1).report10())).claims
    assert claims is not None
    assert claims.report.td_attributes.debug


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("td", [{"attester_type": "LOCAL"}, {"tdx_mrtd": "local-preview"}])
def test_a_development_token_is_refused_even_if_signed(
    td: dict[str, object], version: Version
) -> None:
    checked = check(AUTHORITY.token(BODY, Recipe(version=version, td=td)))
    assert Reason.TOKEN_DEVELOPMENT in reasons(checked)
    assert "token_production" in names_failed(checked)
    assert checked.claims is None


@pytest.mark.parametrize("status", [s for s in TcbStatus if s is not TcbStatus.UP_TO_DATE])
def test_every_tcb_status_is_read(status: TcbStatus) -> None:
    claims = check(AUTHORITY.token(recipe=Recipe(td={"attester_tcb_status": status.value}))).claims
    assert claims is not None
    assert claims.tcb_status is status


@pytest.mark.parametrize(
    "said",
    ["INTEL-SA-00837,INTEL-SA-00828", ["intel-sa-00828", " INTEL-SA-00837", "INTEL-SA-00828"]],
)
def test_advisories_come_as_text_or_list(said: object) -> None:
    claims = check(AUTHORITY.token(recipe=Recipe(td={"attester_advisory_ids": said}))).claims
    assert claims is not None
    assert claims.advisories == ("INTEL-SA-00828", "INTEL-SA-00837")


@pytest.mark.parametrize("date", [None, "2026-03-12", "2026-03-12T00:00:00+00:00"])
def test_the_tcb_date_may_be_left_out_and_has_a_zone_else(date: str | None) -> None:
    claims = check(AUTHORITY.token(recipe=Recipe(td={"attester_tcb_date": date}))).claims
    assert claims is not None
    found = claims.tcb_date
    assert (found is None) if date is None else (found is not None and found.tzinfo is not None)


@pytest.mark.parametrize("version", VERSIONS)
def test_nonce_and_runtime_data_lose_one_layer_of_base64(version: Version) -> None:
    nonce = AUTHORITY.nonce()
    td = {"verifier_nonce": nonce, "attester_held_data": base64.b64encode(b"data").decode()}
    checked = check(AUTHORITY.token(BODY, Recipe(version=version, td=td)))
    assert checked.ok
    assert checked.runtime_data == b"data"
    assert checked.verifier_nonce is not None
    assert checked.verifier_nonce.iat == b"2026-11-23 12:26:40 +0000 UTC"
    assert len(base64.b64decode(checked.verifier_nonce.val, validate=True)) == 32


def test_runtime_data_that_is_an_object_is_not_compared() -> None:
    checked = check(AUTHORITY.token(recipe=Recipe(td={"attester_runtime_data": {"keys": []}})))
    assert checked.ok
    assert checked.runtime_data is None


def test_a_service_td_is_read_where_the_token_names_it() -> None:
    claims = check(AUTHORITY.token(recipe=Recipe(td={"tdx_mrservicetd": "5d" * 48}))).claims
    assert claims is not None
    assert claims.report.v15 is not None
    assert claims.report.v15.mr_service_td == Sha384(b"\x5d" * 48)


def test_nothing_of_the_token_is_in_a_message() -> None:
    token = AUTHORITY.token(recipe=Recipe(key=signing_key("stranger")))
    texts = " ".join(f"{c.expected} {c.observed}" for c in check(token).checks)
    assert not any(part in texts for part in token.split("."))


# Properties

JSON: Final = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
NAMES: Final = st.sampled_from(
    [*AUTHORITY.payload(BODY), "tdx", "verifier_nonce", "attester_held_data", "tdx_mrservicetd"]
)


@given(st.dictionaries(NAMES, JSON, min_size=1, max_size=4), st.sampled_from(VERSIONS))
def test_whatever_is_claimed_nothing_is_raised(claims: dict[str, Any], version: Version) -> None:
    payload = AUTHORITY.payload(BODY, Recipe(version=version)) | claims
    checked = check(AUTHORITY.token(recipe=Recipe(payload=json.dumps(payload).encode())))
    failed = names_failed(checked)
    assert checked.ok == (checked.claims is not None and not failed)
    assert (checked.claims is None) <= bool(failed)


@given(st.text(max_size=200) | st.binary(max_size=200).map(b64url))
def test_no_text_is_a_token(text: str) -> None:
    checked = check(text)
    assert not checked.ok
    assert checked.claims is None


TOKEN: Final = AUTHORITY.token(BODY, GOOD)


@given(st.integers(0, len(TOKEN) - 1), st.characters())
def test_a_token_with_another_character_has_no_claims(at: int, character: str) -> None:
    changed = TOKEN[:at] + character + TOKEN[at + 1 :]
    assert check(changed).ok == (changed == TOKEN)
    assert (check(changed).claims is None) == (changed != TOKEN)


@given(st.binary(max_size=300), st.sampled_from(["PS384", "RS256", "HS256", "none"]))
def test_no_claims_without_a_genuine_signature(signature: bytes, alg: str) -> None:
    head = b64url(encode({"alg": alg, "kid": "key-1"}))
    payload = b64url(encode(AUTHORITY.payload(BODY)))
    checked = check(f"{head}.{payload}.{b64url(signature)}")
    assert checked.claims is None
    assert not checked.ok


def test_importing_the_verifiers_parts_imports_no_cryptography() -> None:
    parts = ("binding", "jwks", "nonce", "quote", "td", "token", "token_claims")
    program = (
        f"import sys, {', '.join(f'mrtd.verifier.{part}' for part in parts)}\n"
        "heavy = {'cryptography', 'dcap_qvl', 'jwt', 'requests', 'sigstore'}\n"
        "print(sorted(heavy & {name.split('.')[0] for name in sys.modules}))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, check=True, text=True, timeout=60
    )
    assert done.stdout.strip() == "[]"
