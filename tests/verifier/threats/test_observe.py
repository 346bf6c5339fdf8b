"""Observe mode: what it lets pass, and what it never does."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NoReturn

import pytest

from fixtures import reference
from mrtd.errors import ToolMissing
from mrtd.verifier import quote as quotes
from mrtd.verifier.fetch import Response
from mrtd.verifier.policy import Policy
from mrtd.verifier.verdict import Check, Outcome, Reason, check, passed
from mrtd.verifier.wording import compose
from tests.lab.answers import ADMITTED, answer
from tests.lab.flaws import Flaw
from tests.lab.identity import GitHubIdentity
from tests.lab.world import World, claims_of, policy_of

OBSERVE: Final = 'mode = "observe"\n'

# DESIGN 5: "observe mode relaxes only lookup, Sigstore, identity, statement, coverage and sequence;
# token, binding, debug and TCB errors still refuse".
MAY_PASS: Final = {
    "lookup": {
        Reason.LOOKUP_UNAVAILABLE, Reason.LOOKUP_INCOMPLETE, Reason.LOOKUP_BUDGET,
        Reason.NOT_ATTESTED,
    },
    "Sigstore": {
        Reason.BUNDLE_MALFORMED, Reason.BUNDLE_INVALID, Reason.SIGNING_TIME,
        Reason.TRUST_ROOT_UNUSABLE, Reason.TOOL_MISSING,
    },
    "identity": {Reason.IDENTITY},
    "statement": {
        Reason.PAYLOAD_TYPE, Reason.STATEMENT_MALFORMED, Reason.STATEMENT_OF_OTHERS,
        Reason.REGISTERS_DIFFER, Reason.REGISTER_UNPINNED, Reason.CONFIRMATION_MISSING,
    },
    "coverage": {Reason.INPUT_NOT_MEASURED},
    "sequence": {
        Reason.RELEASE_RETIRED, Reason.RELEASE_ROLLED_BACK, Reason.ATTESTATION_TOO_OLD,
    },
}  # fmt: skip
RELAXED: Final = frozenset().union(*MAY_PASS.values())
GOOD: Final = passed("good", expected="x", observed="x", source="test")


def of_reason(reason: Reason) -> Check:
    return check("bad", reason, ok=False, expected="x", observed="y", source="test")


@pytest.mark.parametrize("reason", Reason)
def test_each_reason_is_relaxed_or_not_as_the_design_says(reason: Reason) -> None:
    verdict = compose((GOOD, of_reason(reason)), policy_of(OBSERVE))
    assert verdict.allowed == (reason in RELAXED)
    would = {f"would_refuse_{reason}"} if verdict.allowed else set()
    assert set(verdict.labels) == {"observe"} | would
    assert verdict.status == (200 if reason in RELAXED else reason.status)


@pytest.mark.parametrize("reason", Reason)
def test_enforce_mode_relaxes_nothing(reason: Reason) -> None:
    verdict = compose((GOOD, of_reason(reason)), policy_of())
    assert (verdict.allowed, verdict.reason, verdict.status) == (False, reason, reason.status)
    assert not [label for label in verdict.labels if "observe" in label or "would" in label]


@pytest.mark.parametrize("reason", Reason)
@pytest.mark.parametrize("mode", ["enforce", "observe"])
def test_what_fails_before_the_lookup_refuses_in_both_modes(reason: Reason, mode: str) -> None:
    policy = policy_of(f'mode = "{mode}"\n')
    assert not compose((GOOD, of_reason(reason)), policy, early=True).allowed


@pytest.mark.parametrize("hard", [r for r in Reason if r not in RELAXED])
def test_what_is_relaxed_hides_nothing_that_is_not(hard: Reason) -> None:
    checks = (*(of_reason(reason) for reason in sorted(RELAXED)), of_reason(hard), GOOD)
    verdict = compose(checks, policy_of(OBSERVE))
    assert (verdict.allowed, verdict.reason) == (False, hard)
    assert verdict.labels == ("observe",)  # it does not say "would": it does


@pytest.mark.parametrize("mode", ["enforce", "observe"])
def test_a_quote_that_no_tool_can_verify_admits_nobody(
    mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``tool_missing`` is relaxed for ``gh``; without DCAP, a quote is only bytes."""

    def missing(*_: object, **__: object) -> NoReturn:
        raise ToolMissing("dcap-qvl is not installed")

    monkeypatch.setattr(quotes, "appraise_quote", missing)
    world = World(f'mode = "{mode}"\n')
    anything: Any = None
    verdict = world.verifier.verify_quote(b"anything", anything, binding="none")
    assert answer(verdict) == (503, Reason.TOOL_MISSING, "quote_signature")
    assert world.github.asked == []


@pytest.mark.parametrize("mode", ["enforce", "observe"])
def test_a_token_that_no_library_can_verify_admits_nobody(
    mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(*_: object) -> NoReturn:
        raise ImportError("jwt")

    monkeypatch.setattr("mrtd.verifier.token._verify", missing)
    verdict = World(f'mode = "{mode}"\n').verifier.verify_registration("a.b.c", binding="none")
    assert (verdict.allowed, verdict.reason) == (False, Reason.TOOL_MISSING)


def test_a_refusal_without_a_failed_check_is_none() -> None:
    """Should claims ever be missing and every check passed: nobody is admitted unasked."""
    for mode in ("enforce", "observe"):
        world = World(f'mode = "{mode}"\n')
        verdict = world.verifier._refuse((GOOD,), None)
        assert (verdict.allowed, verdict.reason) == (False, Reason.INTERNAL_ERROR)


def test_an_unattested_vm_is_admitted_and_what_would_refuse_it_said() -> None:
    verdict = World(OBSERVE).verifier.verify_claims(claims_of())
    assert answer(verdict) == ADMITTED
    assert verdict.mode == "observe"
    assert {"observe", "would_refuse_not_attested"} <= {*verdict.labels}
    assert verdict.message.startswith("admitted in observe mode only: ")


def test_a_genuine_vm_is_admitted_and_nothing_would_refuse_it() -> None:
    world = World(OBSERVE)
    world.publish(reference.document())
    verdict = world.verifier.verify_claims(claims_of())
    assert answer(verdict) == ADMITTED
    assert verdict.labels == ("observe",)


@pytest.mark.parametrize("kind", ["launch", "mrtd", "tag", "commit"])
def test_what_is_revoked_is_refused_in_observe_mode_too(kind: str) -> None:
    values = reference.launch()["registers"]
    digest = reference.launch_digest(*(values[n]["value"] for n in ("mrtd", "rtmr1", "rtmr2")))
    value = {
        "mrtd": values["mrtd"]["value"],
        "launch": digest,
        "tag": "v1.4.0",
        "commit": reference.COMMIT,
    }[kind]
    name = {"launch": "launches"}.get(kind, f"{kind}s")
    world = World(f'{OBSERVE}[release.revoked]\n{name} = ["{value}"]\n')
    world.publish(reference.document())
    verdict = world.verifier.verify_claims(claims_of())
    assert (verdict.status, verdict.reason) == (403, Reason.REVOKED)


def test_what_was_observed_is_not_taken_for_checked_after_the_switch(tmp_path: Any) -> None:
    """The folder of bundles is the only thing that outlives a process: no answer is in it."""
    shared = f'[cache]\ndirectory = "{tmp_path / "store"}"\n'
    stranger = GitHubIdentity.pull_request_target()
    observing = World(OBSERVE + shared)
    observing.publish(reference.document(), stranger)
    assert answer(observing.verifier.verify_claims(claims_of())) == ADMITTED
    enforcing = World(shared)
    enforcing.publish(reference.document(), stranger)
    for down in (True, False):
        enforcing.github.down = down
        assert not enforcing.verifier.verify_claims(claims_of()).allowed


def test_what_was_observed_is_not_kept_as_an_admission_of_another_mode() -> None:
    world = World(OBSERVE)
    world.publish(reference.document(), flaw=Flaw.NO_SCT)
    for _ in range(2):
        assert answer(world.verifier.verify_claims(claims_of())) == ADMITTED
    strict = World()
    strict.github = world.github
    verdict = strict.another().verify_claims(claims_of())
    assert answer(verdict) == (403, Reason.BUNDLE_INVALID, "sigstore")


def test_an_error_of_our_own_admits_nobody() -> None:
    class Broken:
        def __call__(
            self, url: str, *, headers: Mapping[str, str], limit: int, timeout: float
        ) -> Response:
            raise MemoryError(url, headers, limit, timeout)

    class Odd:
        def open(self, bundle: bytes, *, now: object) -> NoReturn:
            raise RuntimeError(bundle, now)

    for mode in ("enforce", "observe"):
        world = World(f'mode = "{mode}"\n')
        world.publish(reference.document())
        opener: Any = Odd()
        verdict = world.another(opener=opener).verify_claims(claims_of())
        assert answer(verdict) == (503, Reason.INTERNAL_ERROR, "internal")
        verdict = world.another(fetch=Broken()).verify_claims(claims_of())
        assert verdict.allowed == (mode == "observe")
        assert [c.reason for c in verdict.checks if c.outcome is Outcome.NOT_CHECKED and c.reason]


def test_the_default_is_to_enforce() -> None:
    assert Policy(identity=policy_of().identity).mode == "enforce"
