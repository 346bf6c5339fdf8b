"""Challenges, answers and their appraisal: a runner may say what it likes."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from ci import __main__ as command_line
from ci import appraise_command, challenge_command, respond_command
from ci.appraisal import (
    Appraisal,
    MalformedAppraisal,
    OutputsDiffer,
    Question,
    Refusal,
    check_outputs,
    encode_appraisal,
    read_appraisal,
)
from ci.appraise import Hosted, appraise
from ci.challenge import (
    LONGEST,
    Challenge,
    MalformedChallenge,
    challenge_data,
    challenge_key,
    challenge_sha256,
    new_challenge,
    read_challenge,
    wanted_report_data,
)
from ci.challenge_command import World
from ci.crosscheck_launch import Launched
from ci.ita_check import RoundTrip, check_round_trip
from ci.ita_command import Outside
from ci.ita_settings import SettingsError, endpoints
from ci.ita_wire import Nonce
from ci.respond_command import NotOurs
from fixtures.quotes import SEPT_VE_DISABLE, Td
from mrtd.errors import InputError, PolicyError, TransportError
from mrtd.evidence.bundle import Bundle, bundle_of, encode_bundle
from mrtd.evidence.collateral import read_collateral
from mrtd.evidence.quote import Quote
from mrtd.evidence.redact import redact
from mrtd.launch.spec import read_spec_file
from mrtd.measure import MeasureOptions, measure
from mrtd.reference.result import read_result
from mrtd.verifier.clock import Clock
from mrtd.verifier.jwks import KeySource
from mrtd.verifier.policy import BitsPolicy, IdentityPolicy, Policy, TdPolicy
from tests.lab import trust_authority as lab
from tests.launches import Launch
from tests.tds import MOMENT, ROOT_CA, FakeTd, derive, written

RUN: Final = "devopsdefender/dd/17003@1"
COMMIT: Final = "c0" * 20
KEY: Final = b"k" * 32
NONCE: Final = bytes(range(32))
POLICY: Final = Policy(identity=IdentityPolicy(repository_id="1", owner_id="1"))


def document_of(spec: bytes, **changes: Any) -> bytes:
    settings = {"run": RUN, "commit": COMMIT, "spec": spec, "now": MOMENT, "nonce": NONCE}
    return new_challenge(**{**settings, **changes})


@dataclass
class Case:
    """A challenge, a TD that answers it, and the hosted job."""

    spec: Path
    spent: Path
    challenge: dict[str, Any] = field(default_factory=dict)
    td: dict[str, Any] = field(default_factory=dict)
    members: Callable[[Bundle], Bundle] = lambda bundle: bundle
    answer: Callable[[bytes], bytes] = lambda data: data
    hosted: dict[str, Any] = field(default_factory=dict)
    answers: bytes | None = None
    dcap: bool = True

    @property
    def document(self) -> bytes:
        return document_of(**{"spec": self.spec.read_bytes(), **self.challenge})

    def bundle(self) -> tuple[bytes, bytes]:
        asked = self.document if self.answers is None else self.answers
        wanted = wanted_report_data(asked, read_challenge(asked, origin="challenge"))
        fields = {"derivation": derive(self.spec), "report_data": wanted, **self.td}
        td = FakeTd(**fields)
        quote, collateral = td.build()
        return self.answer(encode_bundle(self.members(td.bundle(quote, self.spec)))), collateral

    def appraise(self, *, times: int = 1) -> tuple[Question, ...]:
        data, collateral = self.bundle()
        document = self.document
        settings: dict[str, Any] = {
            "run": RUN,
            "commit": COMMIT,
            "spec": self.spec.read_bytes(),
            "derivation": derive(self.spec),
            "policy": POLICY,
            "now": MOMENT + 60,
            "spent": self.spent,
            "digest": challenge_sha256(document),
            "collateral": read_collateral(collateral, origin="lab") if self.dcap else None,
            "root_ca": ROOT_CA,
            **self.hosted,
        }
        challenge = read_challenge(document, origin="challenge")
        for _ in range(times):
            asked = appraise(challenge, document, data, Hosted(**settings))
        return asked


@pytest.fixture
def case(tmp_path: Path) -> Case:
    return Case(written(tmp_path / "launch"), tmp_path / "spent")


def refused(asked: tuple[Question, ...]) -> dict[str, str]:
    return {one.name: str(one.reason) for one in asked if not one.passed}


def test_a_genuine_answer_is_accepted(case: Case) -> None:
    asked = case.appraise()
    assert refused(asked) == {}
    names = [one.name for one in asked]
    assert names[:5] == ["challenge", "freshness", "run", "commit", "spec"]
    assert {"report_data", "log", "mrtd", "rtmr0", "rtmr1", "rtmr2", "once"} <= {*names}
    assert {"dcap.quote_signature", "dcap.tcb_status", "dcap.td_debug", "dcap.xfam"} <= {*names}


def test_it_is_accepted_once(case: Case) -> None:
    assert refused(case.appraise(times=2)) == {"once": "challenge_used"}


def test_a_refused_answer_does_not_use_up_the_challenge(case: Case) -> None:
    case.td = {"log": ()}
    assert refused(case.appraise()) == {"log": "log_differs"}
    case.td = {}
    assert refused(case.appraise()) == {}


def test_a_replayed_answer(case: Case) -> None:
    """Of an earlier run, whose nonce and run were others."""
    case.answers = document_of(case.spec.read_bytes(), run="devopsdefender/dd/16000@1", nonce=KEY)
    assert refused(case.appraise()) == {"report_data": "not_bound"}


def test_a_replayed_challenge_and_answer(case: Case) -> None:
    case.challenge = {"run": "devopsdefender/dd/16000@1"}
    assert refused(case.appraise()) == {"run": "other_run"}
    digest = challenge_sha256(document_of(case.spec.read_bytes()))
    case.hosted = {"digest": digest}
    assert refused(case.appraise()) == {"challenge": "challenge_forged", "run": "other_run"}


def test_an_answer_for_another_commit(case: Case) -> None:
    case.challenge = {"commit": "c1" * 20}
    assert refused(case.appraise()) == {"commit": "other_commit"}


def test_an_answer_for_another_spec(case: Case, tmp_path: Path) -> None:
    other = written(tmp_path / "other", Launch(machine="phys_bits = 46"))
    case.challenge = {"spec": other.read_bytes()}
    assert refused(case.appraise()) == {"spec": "other_spec"}


def test_the_evidence_of_another_spec(case: Case, tmp_path: Path) -> None:
    other = written(tmp_path / "other")
    text = other.read_text(encoding="utf-8").replace("console=ttyS0", "console=ttyS0 quiet")
    other.write_text(text, encoding="utf-8")
    case.td = {"derivation": derive(other)}
    assert refused(case.appraise()) == {"rtmr2": "registers_differ"}
    case.members = lambda bundle: bundle_of({**bundle.files, "launch.toml": other.read_bytes()})
    assert refused(case.appraise()) == {
        "rtmr2": "registers_differ",
        "answered_spec": "other_spec",
    }


def test_a_swapped_quote(case: Case) -> None:
    """The quote of a TD that answered somebody else, in an answer that is otherwise right."""
    foreign, _ = FakeTd(derivation=derive(case.spec)).build()
    case.members = lambda bundle: bundle_of({**bundle.files, "tdx/quote": foreign})
    assert refused(case.appraise()) == {"report_data": "not_bound"}


@pytest.mark.parametrize(
    ("now", "reason"),
    [
        (MOMENT - 61, "challenge_not_yet_valid"),
        (MOMENT + 3600, "challenge_expired"),
        (MOMENT + 3599, None),
    ],
)
def test_freshness(case: Case, now: float, reason: str | None) -> None:
    case.hosted = {"now": now}
    assert refused(case.appraise()) == ({} if reason is None else {"freshness": reason})


@pytest.mark.parametrize("size", [0, 4, 500, -1, -100])
def test_a_truncated_answer(case: Case, size: int) -> None:
    case.answer = lambda data: data[:size]
    assert refused(case.appraise()) == {"answer": "answer_malformed"}


def test_a_truncated_quote_and_a_broken_log(case: Case) -> None:
    def cut(name: str) -> Callable[[Bundle], Bundle]:
        return lambda bundle: bundle_of({**bundle.files, name: bundle.files[name][:-7]})

    for name in ("tdx/quote", "log/CCEL"):
        case.members = cut(name)
        assert refused(case.appraise()) == {"answer": "answer_malformed"}


@pytest.mark.parametrize("name", ["tdx/quote", "log/CCEL", "launch.toml"])
def test_an_answer_that_leaves_something_out(case: Case, name: str) -> None:
    case.members = lambda bundle: bundle_of({k: v for k, v in bundle.files.items() if k != name})
    assert refused(case.appraise()) == {"answer": "answer_incomplete"}


def test_a_redacted_answer(case: Case) -> None:
    case.members = lambda bundle: redact(bundle)[0]
    assert refused(case.appraise()) == {"answer": "answer_redacted"}
    # the same, and nobody says so: the signature says it
    case.members = lambda bundle: bundle_of(redact(bundle)[0].files)
    assert set(refused(case.appraise()).values()) == {"quote_invalid"}


def test_the_log_of_another_boot(case: Case) -> None:
    case.td = {"log": derive(case.spec).log[1:]}
    assert refused(case.appraise()) == {"log": "log_differs"}


@pytest.mark.parametrize(
    ("td", "reasons"),
    [
        ({"attributes": SEPT_VE_DISABLE | 1}, {"td_debug"}),
        ({"attributes": 0}, {"td_attributes", "td_debug"}),
        ({"mr_signer_seam": b"\1" * 48}, {"seam", "quote_invalid", "tcb_status"}),
    ],
)
def test_a_td_that_is_not_protected(case: Case, td: dict[str, Any], reasons: set[str]) -> None:
    case.td = {"td": td}
    found = refused(case.appraise())
    assert found
    assert set(found.values()) <= reasons
    assert all(name.startswith("dcap.") for name in found)


def test_registers_of_the_guests_own(case: Case) -> None:
    rtmrs = FakeTd(derivation=derive(case.spec)).report.rtmrs
    case.td = {"td": {"rtmrs": (*rtmrs[:3], b"\3" * 48)}}
    assert refused(case.appraise()) == {"dcap.rtmr3": "rtmr3_unexpected"}


def test_xfam_is_the_policys(case: Case) -> None:
    bits = BitsPolicy(value="00000000000602e7", mask="f" * 16)
    case.hosted = {"policy": replace(POLICY, td=TdPolicy(xfam=bits))}
    assert refused(case.appraise()) == {"dcap.xfam": "xfam"}


def test_a_platform_that_is_out_of_date(case: Case) -> None:
    case.td = {"world": {"status": "OutOfDate"}}
    assert set(refused(case.appraise()).values()) == {"tcb_status"}


def test_a_quote_of_nobody(case: Case) -> None:
    def forged(bundle: Bundle) -> Bundle:
        quote = bytearray(bundle.files["tdx/quote"])
        quote[-3000] ^= 1
        return bundle_of({**bundle.files, "tdx/quote": bytes(quote)})

    case.members = forged
    found = refused(case.appraise())
    assert found
    assert set(found.values()) <= {"quote_invalid", "answer_malformed"}


def test_a_register_that_is_not_pinned_here(case: Case) -> None:
    """Without a QEMU to ask, RTMR0 is not known, whatever tables the runner sends."""
    text = case.spec.read_text(encoding="utf-8").replace('tables = "acpi_tables.bin"', "")
    pinned = derive(case.spec)
    case.spec.write_text(text, encoding="utf-8")
    own = measure(read_spec_file(case.spec), case.spec.parent, MeasureOptions(ask_qemu=False))
    case.td, case.hosted = {"derivation": pinned}, {"derivation": own}
    asked = case.appraise()
    assert refused(asked) == {"rtmr0": "register_unpinned"}
    assert appraisal_of(asked).exit_code == 3


def test_a_quote_that_nobody_appraises(case: Case) -> None:
    case.dcap = False
    asked = case.appraise()
    assert refused(asked) == {"appraisal": "not_appraised"}
    assert appraisal_of(asked).exit_code == 3


def test_a_challenge_of_somebody_else(case: Case) -> None:
    case.hosted = {"digest": None}
    with pytest.raises(PolicyError, match="anybody could have made it"):
        case.appraise()
    case.hosted = {"digest": None, "key": KEY}
    assert refused(case.appraise()) == {"challenge": "challenge_forged"}
    case.challenge = {"key": b"another key, and long enough too"}
    assert refused(case.appraise()) == {"challenge": "challenge_forged"}
    case.challenge = {"key": KEY}
    assert refused(case.appraise()) == {}


def test_every_field_is_under_the_key(case: Case) -> None:
    document = json.loads(document_of(b"spec", key=KEY))
    for name, value in (("run", "r@2"), ("commit", "c1" * 20), ("nonce", "00" * 32)):
        case.challenge, case.hosted = {}, {"digest": None, "key": KEY}
        altered = {**document, name: value}
        data = json.dumps(altered).encode()
        challenge = read_challenge(data, origin="challenge")
        asked = appraise(challenge, data, b"", _hosted(case))
        assert refused(asked)["challenge"] == "challenge_forged"


def _hosted(case: Case) -> Hosted:
    return Hosted(
        run=RUN,
        commit=COMMIT,
        spec=b"spec",
        derivation=derive(case.spec),
        policy=POLICY,
        now=MOMENT,
        spent=case.spent,
        key=KEY,
    )


# ---- Intel Trust Authority


@dataclass
class Ita:
    """The double's token for a quote."""

    td: dict[str, object] = field(default_factory=dict)
    body: bytes | None = None
    down: bool = False

    def __call__(self, quote: Quote, data: bytes, nonce: Nonce | None) -> RoundTrip:
        if self.down:
            raise TransportError("down")
        service = lab.TrustAuthority()
        about: dict[str, object] = {
            "attester_held_data": base64.b64encode(data).decode(),
            "verifier_nonce": None if nonce is None else nonce.as_json(),
            **self.td,
        }
        body = self.body or lab.report_body(quote.raw)
        token = service.token(body, lab.Recipe(version="v2", now=int(MOMENT), td=about))
        where = endpoints("us", {})
        clock = Clock(wall=lambda: MOMENT, steady=lambda: 1.0)
        keys = KeySource(where.token_policy(), lab.KeysFetch(service), clock)
        return check_round_trip(
            token, quote, where=where, keys=keys, now=MOMENT, nonce=nonce, data=data
        )


@pytest.mark.parametrize("with_nonce", [False, True])
def test_a_genuine_answer_with_a_token(case: Case, with_nonce: bool) -> None:  # noqa: FBT001
    given_nonce = lab.TrustAuthority().nonce()
    nonce = Nonce(given_nonce["val"], given_nonce["iat"], given_nonce["signature"])
    case.challenge = {"ita_nonce": nonce} if with_nonce else {}
    case.dcap, case.hosted = False, {"ask_ita": Ita()}
    asked = case.appraise()
    assert refused(asked) == {}
    assert {"ita.token_signature", "ita.td_debug", "ita.tcb_status", "ita.quote"} <= {
        one.name for one in asked
    }


def test_both_have_to_agree(case: Case) -> None:
    case.hosted = {"ask_ita": Ita(td={"attester_tcb_status": "OutOfDate"})}
    assert refused(case.appraise()) == {"ita.tcb_status": "tcb_status"}
    case.hosted = {"ask_ita": Ita(down=True)}
    asked = case.appraise()
    assert refused(asked) == {"ita": "not_appraised"}
    assert appraisal_of(asked).exit_code == 3


def test_a_token_about_another_quote(case: Case) -> None:
    case.dcap, case.hosted = False, {"ask_ita": Ita(body=Td().report10())}
    assert refused(case.appraise()) == {"ita.quote": "token_of_another_quote"}
    case.hosted = {"ask_ita": Ita(td={"attester_held_data": "b3RoZXI="})}
    assert refused(case.appraise()) == {"ita.quote": "token_of_another_quote"}


def test_nobody_is_asked_about_a_quote_that_is_not_bound(case: Case) -> None:
    def unused(*_: object) -> RoundTrip:
        raise AssertionError

    case.answers = document_of(case.spec.read_bytes(), nonce=KEY)
    case.dcap, case.hosted = False, {"ask_ita": unused}
    assert refused(case.appraise()) == {"report_data": "not_bound", "appraisal": "not_appraised"}


# ---- the documents


def appraisal_of(asked: tuple[Question, ...]) -> Appraisal:
    appraisal = Appraisal(
        schema="mrtd.appraisal/1",
        accepted=all(one.passed for one in asked),
        run=RUN,
        commit=COMMIT,
        spec_sha256="0" * 64,
        challenge_sha256="1" * 64,
        answer_sha256="2" * 64,
        created="2026-06-15T12:00:00Z",
        questions=asked,
        outputs=(),
    )
    assert read_appraisal(encode_appraisal(appraisal), origin="appraisal") == appraisal
    return appraisal


def test_report_data_follow_from_every_byte_of_a_challenge() -> None:
    first, second = (document_of(b"spec", commit=c * 40) for c in "ab")
    data = wanted_report_data(first, read_challenge(first, origin="c"))
    assert data == hashlib.sha512(challenge_data(first)).digest()
    assert data != wanted_report_data(second, read_challenge(second, origin="c"))
    assert challenge_data(first) == b"mrtd.challenge/v1\0" + hashlib.sha256(first).digest()
    drawn = {read_challenge(document_of(b"", nonce=None), origin="c").nonce for _ in range(8)}
    assert len(drawn) == 8


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"schema": "mrtd.challenge/2"}, "schema"),
        ({"extra": 1}, "extra"),
        ({"nonce": "00"}, "nonce"),
        ({"commit": "C0" * 20}, "commit"),
        ({"run": "a b"}, "run"),
        ({"expires": "2026-06-15T12:00:00Z"}, "expires"),
        ({"expires": "2026-06-17T12:00:00Z"}, "expires"),
        ({"issued": "2026-02-30T12:00:00Z"}, "issued"),
        ({"ita_nonce": {"val": "!", "iat": "aQ==", "signature": "aQ=="}}, "val"),
        ({"mac": None, "spec_sha256": None}, "spec_sha256"),
    ],
)
def test_challenges_are_read_strictly(change: dict[str, Any], what: str) -> None:
    tree = {**json.loads(document_of(b"spec")), **change}
    with pytest.raises(MalformedChallenge, match=what):
        read_challenge(json.dumps(tree).encode(), origin="challenge")


def test_a_key_that_comes_twice() -> None:
    data = document_of(b"spec").replace(b'{"commit"', b'{"run":"a","commit"', 1)
    with pytest.raises(MalformedChallenge, match="twice"):
        read_challenge(data, origin="challenge")


@given(st.binary(max_size=300) | st.builds(lambda t: json.dumps(t).encode(), st.recursive(
    st.none() | st.booleans() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(st.sampled_from([*Challenge.__struct_fields__, "x"]), inner, max_size=9),
)))  # fmt: skip
def test_readers_raise_only_our_errors(data: bytes) -> None:
    for read in (read_challenge, read_appraisal):
        with pytest.raises((MalformedChallenge, MalformedAppraisal)):
            read(data, origin="x")


def test_what_a_challenge_cannot_be() -> None:
    for lifetime in (0, LONGEST + 1):
        with pytest.raises(MalformedChallenge, match="lifetime"):
            document_of(b"spec", lifetime=lifetime)
    with pytest.raises(MalformedChallenge, match="commit"):
        document_of(b"spec", commit="main")
    with pytest.raises(SettingsError, match="fewer than 32"):
        challenge_key({"MRTD_CHALLENGE_KEY": "short"})
    assert challenge_key({}) is None


def test_an_appraisal_does_not_contradict_itself() -> None:
    tree = json.loads(
        encode_appraisal(appraisal_of((Question(name="a", passed=True, reason=None, text="b"),)))
    )
    one = {"name": "a", "passed": False, "reason": "not_bound", "text": "b"}
    changes: tuple[dict[str, Any], ...] = (
        {"accepted": False},
        {"questions": []},
        {"questions": [one]},
        {"accepted": False, "questions": [{**one, "reason": None}]},
        {"accepted": False, "questions": [{**one, "reason": "because"}]},
        {
            "accepted": False,
            "questions": [one],
            "outputs": [{"name": "a", "size": 0, "sha256": "0" * 64}],
        },
        {"outputs": [{"name": "a", "size": 0, "sha256": "0" * 64}] * 2},
        {"outputs": [{"name": "../a", "size": 0, "sha256": "0" * 64}]},
    )
    for change in changes:
        with pytest.raises(MalformedAppraisal):
            read_appraisal(json.dumps({**tree, **change}).encode(), origin="appraisal")


def test_every_reason_is_one_thing() -> None:
    assert {r for r in Refusal if r.could_not_check} == {
        Refusal.REGISTER_UNPINNED,
        Refusal.NOT_APPRAISED,
    }


# ---- the verbs


@dataclass
class Jobs:
    """The jobs of one release, each with its folder."""

    spec: Path
    folder: Path
    collateral: bytes = b""
    now: float = MOMENT

    def world(self, *, launch: Callable[..., Launched] | None = None) -> World:
        def unused(*_: object) -> Any:
            raise AssertionError

        environment = {
            "GITHUB_REPOSITORY": "devopsdefender/dd",
            "GITHUB_RUN_ID": "17003",
            "GITHUB_RUN_ATTEMPT": "1",
            "GITHUB_SHA": COMMIT,
        }
        outside = Outside({}, unused, unused, root_ca=ROOT_CA)
        return World(environment, now=lambda: self.now, ita=outside, launch=launch)

    def run(self, verb: Any, *words: str, launch: Callable[..., Launched] | None = None) -> int:
        name = verb.__name__.rpartition(".")[2].removesuffix("_command")
        arguments = command_line.parser(name).parse_args([name, *words])
        code: int = verb.run(arguments, self.world(launch=launch))
        return code

    def launch(self, *_: object, report_data: bytes, **__: object) -> Launched:
        td = FakeTd(derivation=derive(self.spec), report_data=report_data)
        quote, self.collateral = td.build()
        files = td.bundle(quote, self.spec).files
        return Launched(bundle_of({k: v for k, v in files.items() if "/" in k}), "11.1.3")

    @property
    def challenge(self) -> Path:
        return self.folder / "challenge.json"

    @property
    def answer(self) -> Path:
        return self.folder / "answer.zip"

    def appraise(self, *more: str) -> int:
        collateral = self.folder / "collateral.json"
        collateral.write_bytes(self.collateral)
        digest = challenge_sha256(self.challenge.read_bytes())
        out, spent = str(self.folder / "outputs"), str(self.folder / "spent")
        return self.run(
            appraise_command, str(self.challenge), str(self.answer), "--spec", str(self.spec),
            "--challenge-sha256", digest, "--spent", spent, "--out", out,
            "--collateral", str(collateral), "--qemu", "none", *more,
        )  # fmt: skip


@pytest.fixture
def jobs(tmp_path: Path) -> Jobs:
    made = Jobs(written(tmp_path / "launch"), tmp_path / "work")
    made.folder.mkdir()
    return made


def test_from_the_challenge_to_the_signing_job(
    jobs: Jobs, capsys: pytest.CaptureFixture[str]
) -> None:
    assert jobs.run(challenge_command, str(jobs.spec), "--out", str(jobs.challenge)) == 0
    digest = challenge_sha256(jobs.challenge.read_bytes())
    assert capsys.readouterr().out == f"challenge_sha256={digest}\n"
    asked = read_challenge(jobs.challenge.read_bytes(), origin="c")
    assert (asked.run, asked.commit) == (RUN, COMMIT)
    words = [str(jobs.challenge), str(jobs.spec), "--out", str(jobs.answer)]
    assert jobs.run(respond_command, *words, launch=jobs.launch) == 0
    capsys.readouterr()
    assert jobs.appraise("--json", "--shape", "q35-2cpu-2gib") == 0
    said = json.loads(capsys.readouterr().out)
    outputs = jobs.folder / "outputs"
    data = (outputs / "appraisal.json").read_bytes()
    assert said["appraisal_sha256"] == hashlib.sha256(data).hexdigest()
    assert {one["name"] for one in said["appraisal"]["outputs"]} == {
        path.name for path in outputs.iterdir()
    } - {"appraisal.json"}
    outcomes = {
        k: read_result((outputs / f"{k}.json").read_bytes()) for k in ("launched-tdx", "dcap")
    }
    assert {one.outcome for one in outcomes.values()} == {"confirmed"}
    assert outcomes["dcap"].shape == "q35-2cpu-2gib"
    check = [str(outputs / "appraisal.json"), "--sha256", said["appraisal_sha256"]]
    assert jobs.run(appraise_command, "--check-outputs", *check) == 0
    assert "MATCH    launched-tdx.json" in capsys.readouterr().out
    # a second time, it was answered
    assert jobs.appraise() == 1
    assert "not accepted: challenge_used" in capsys.readouterr().out
    assert read_appraisal((outputs / "appraisal.json").read_bytes(), origin="a").outputs == ()


def test_what_was_appraised_is_hashed_again(jobs: Jobs) -> None:
    jobs.run(challenge_command, str(jobs.spec), "--out", str(jobs.challenge))
    words = [str(jobs.challenge), str(jobs.spec), "--out", str(jobs.answer)]
    jobs.run(respond_command, *words, launch=jobs.launch)
    assert jobs.appraise() == 0
    outputs = jobs.folder / "outputs"
    data = (outputs / "appraisal.json").read_bytes()
    digest = hashlib.sha256(data).hexdigest()
    found = check_outputs(data, outputs, sha256=digest, wanted=("dcap.json",))
    assert found["launch.toml"] == jobs.spec.read_bytes()
    with pytest.raises(OutputsDiffer, match="handed on"):
        check_outputs(data + b" ", outputs, sha256=digest)
    with pytest.raises(OutputsDiffer, match="names no other"):
        check_outputs(data, outputs, sha256=digest, wanted=("other",))
    (outputs / "dcap.json").write_bytes(found["dcap.json"] + b" ")
    with pytest.raises(OutputsDiffer, match=r"dcap\.json is not what was appraised"):
        check_outputs(data, outputs, sha256=digest)
    (outputs / "dcap.json").unlink()
    with pytest.raises(OutputsDiffer, match=r"dcap\.json cannot be read"):
        check_outputs(data, outputs, sha256=digest)
    refused_one = encode_appraisal(
        appraisal_of((Question(name="a", passed=False, reason="not_bound", text="b"),))
    )
    with pytest.raises(OutputsDiffer, match="was not accepted: not_bound"):
        check_outputs(refused_one, outputs, sha256=hashlib.sha256(refused_one).hexdigest())


def test_a_runner_answers_only_what_it_was_asked(jobs: Jobs, tmp_path: Path) -> None:
    jobs.run(challenge_command, str(jobs.spec), "--out", str(jobs.challenge))
    other = written(tmp_path / "other", Launch(machine="phys_bits = 46"))
    with pytest.raises(NotOurs, match="byte for byte"):
        jobs.run(respond_command, str(jobs.challenge), str(other), "--out", str(jobs.answer))
    jobs.now += 3600
    words = [str(jobs.challenge), str(jobs.spec), "--out", str(jobs.answer)]
    with pytest.raises(NotOurs, match="has expired"):
        jobs.run(respond_command, *words, launch=jobs.launch)
    assert not jobs.answer.exists()


def test_verbs_say_what_they_need(jobs: Jobs) -> None:
    with pytest.raises(InputError, match="ANSWER, --spec, --spent, --out: must be given"):
        jobs.run(appraise_command, str(jobs.challenge))
    with pytest.raises(InputError, match="--sha256: must be given"):
        jobs.run(appraise_command, "--check-outputs", str(jobs.challenge))
    arguments = command_line.parser("challenge").parse_args(
        ["challenge", str(jobs.spec), "--out", str(jobs.challenge)]
    )
    with pytest.raises(InputError, match="--run-id: is needed outside of GitHub"):
        challenge_command.run(arguments, World({}))
