"""Appraise a runner's answer to a challenge, believing nothing of it.

What counts is what the quote's signature covers, compared with what is derived here: with files of
this checkout, and ACPI tables asked of a QEMU here. The runner's log is only good for an
explanation, and must fold to the quote all the same; its spec must be the one that was asked about.
"""

from __future__ import annotations

import hashlib
import hmac
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from ci.appraisal import Question, Refusal, question
from ci.challenge import (
    Challenge,
    challenge_data,
    challenge_sha256,
    is_authentic,
    wanted_report_data,
)
from ci.crosscheck_evidence import Evidence, read_evidence
from ci.ita_check import RoundTrip, compare_reports
from ci.ita_wire import Nonce
from mrtd.compare import Outcome, compare_sides
from mrtd.derive import Derivation
from mrtd.errors import InputError, MrtdError, PolicyError, TransportError
from mrtd.evidence import manifest as names
from mrtd.evidence.bundle import decode_bundle
from mrtd.evidence.collateral import Collateral
from mrtd.evidence.quote import Quote
from mrtd.registers import LAUNCH_REGISTERS, Exact
from mrtd.sources import side_of_derivation
from mrtd.verifier.policy import Policy
from mrtd.verifier.quote import check_quote
from mrtd.verifier.td import check_td
from mrtd.verifier.token import CheckedToken
from mrtd.verifier.verdict import Check, Reason
from mrtd.verifier.verdict import Outcome as CheckOutcome

LEEWAY: Final = 60.0
_NEEDED: Final = (names.QUOTE, names.CCEL, names.SPEC)

AskIta = Callable[[Quote, bytes, Nonce | None], RoundTrip]
"""The round trip of a quote, with what its report data was made of. Raises `MrtdError`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hosted:
    """What the hosted job knows of itself; nothing of it comes from the runner.

    Attributes:
        run: this run.
        commit: its commit.
        spec: bytes of the launch spec in this checkout.
        derivation: of that spec, made here.
        policy: sections ``td``, ``tcb`` and ``measurements`` count, as for a control plane.
        now: Unix time in seconds.
        spent: folder that remembers which challenges were answered.
        digest: of the challenge, from the job that made it; None if only the key is known.
        key: of the challenge's HMAC; None if only the digest is known.
        ask_ita: None without an API key.
        collateral: None without.
        root_ca: certificate in DER to trust instead of Intel's root: for tests.
    """

    run: str
    commit: str
    spec: bytes
    derivation: Derivation
    policy: Policy
    now: float
    spent: Path
    digest: str | None = None
    key: bytes | None = None
    ask_ita: AskIta | None = None
    collateral: Collateral | None = None
    root_ca: bytes | None = None

    def __post_init__(self) -> None:
        if self.digest is None and self.key is None:
            raise PolicyError(
                "neither its SHA-256 nor a key is given, so anybody could have made it",
                origin="challenge",
                hint="hand the digest on in the outputs of the job that made the challenge",
            )


def appraise(
    challenge: Challenge, document: bytes, answer: bytes, hosted: Hosted
) -> tuple[Question, ...]:
    """Ask every question about an answer; it is accepted if all are passed. Uses the challenge up.

    What is wrong with the challenge hides nothing about the answer, and the other way round; only
    an answer that cannot be read leaves the rest unasked.

    Args:
        challenge: as it was read.
        document: its bytes.
        answer: the evidence bundle's bytes.
        hosted: what is known here.
    """
    asked = list(_challenge(challenge, document, hosted))
    evidence, problem = _evidence(answer)
    if evidence is None or evidence.quote is None:
        asked.append(problem)
        return tuple(asked)
    asked += [problem, *_answer(evidence, evidence.quote, challenge, document, hosted)]
    if all(one.passed for one in asked):
        asked.append(_use_up(document, hosted.spent))
    return tuple(asked)


def _challenge(challenge: Challenge, document: bytes, hosted: Hosted) -> Iterator[Question]:
    ours = True
    if hosted.digest is not None:
        ours = hmac.compare_digest(hosted.digest.lower(), challenge_sha256(document))
    if hosted.key is not None:
        ours = ours and is_authentic(challenge, hosted.key)
    yield question(
        "challenge", Refusal.CHALLENGE_FORGED, "ours" if ours else "not one that we made", ok=ours
    )
    early = hosted.now < challenge.issued_at - LEEWAY
    late = hosted.now >= challenge.expires_at
    yield question(
        "freshness",
        Refusal.CHALLENGE_NOT_YET_VALID if early else Refusal.CHALLENGE_EXPIRED,
        f"from {challenge.issued} to {challenge.expires}",
        ok=not early and not late,
    )
    wanted = hashlib.sha256(hosted.spec).hexdigest()
    for name, reason, found, here in (
        ("run", Refusal.OTHER_RUN, challenge.run, hosted.run),
        ("commit", Refusal.OTHER_COMMIT, challenge.commit, hosted.commit),
        ("spec", Refusal.OTHER_SPEC, challenge.spec_sha256, wanted),
    ):
        yield question(name, reason, f"asked for {found}, here {here}", ok=found == here)


def _evidence(answer: bytes) -> tuple[Evidence | None, Question]:
    """The answer, read; or None, and why."""
    name = "answer"
    try:
        bundle = decode_bundle(answer, origin=name)
        missing = [member for member in _NEEDED if not bundle.files.get(member)]
        if bundle.redacted:
            text = f"{len(bundle.redacted)} members are redacted"
            return None, question(name, Refusal.ANSWER_REDACTED, text, ok=False)
        if missing:
            text = f"there is no {', '.join(missing)}"
            return None, question(name, Refusal.ANSWER_INCOMPLETE, text, ok=False)
        evidence = read_evidence(bundle)
    except InputError as error:
        return None, question(name, Refusal.ANSWER_MALFORMED, error.message, ok=False)
    return evidence, question(name, Refusal.ANSWER_MALFORMED, "whole", ok=True)


def _answer(
    evidence: Evidence, quote: Quote, challenge: Challenge, document: bytes, hosted: Hosted
) -> Iterator[Question]:
    same = evidence.bundle.files[names.SPEC] == hosted.spec
    yield question("answered_spec", Refusal.OTHER_SPEC, "ours" if same else "another one", ok=same)
    wanted = wanted_report_data(document, challenge)
    bound = hmac.compare_digest(wanted, quote.report.report_data)
    text = "made of this challenge" if bound else f"{quote.report.report_data.hex()[:32]}..."
    yield question("report_data", Refusal.NOT_BOUND, text, ok=bound)
    yield from _log(evidence, quote)
    yield from _registers(evidence, hosted.derivation)
    # an unbound quote is somebody else's: Intel Trust Authority is not asked about it
    yield from _appraised(quote, challenge, document, hosted, bound=bound)


def _log(evidence: Evidence, quote: Quote) -> Iterator[Question]:
    wrong = evidence.log_mismatches(quote.registers)
    text = f"does not fold to {' '.join(wrong)}" if wrong else "folds to the quote's RTMRs"
    yield question("log", Refusal.LOG_DIFFERS, text, ok=not wrong)


def _registers(evidence: Evidence, derivation: Derivation) -> Iterator[Question]:
    """Every launch register has to be exact here, and the quote's."""
    side = side_of_derivation(derivation, origin="derived here")
    found = {one.name: one for one in compare_sides(side, evidence.side).registers}
    for name in LAUNCH_REGISTERS:
        one = found[name]
        if not isinstance(one.expected, Exact):
            reason = one.expected.reason if one.expected is not None else "not derived"
            yield question(str(name), Refusal.REGISTER_UNPINNED, reason, ok=False)
            continue
        ok = one.outcome is Outcome.MATCH
        yield question(str(name), Refusal.REGISTERS_DIFFER, one.reason or "as derived here", ok=ok)


def _appraised(
    quote: Quote, challenge: Challenge, document: bytes, hosted: Hosted, *, bound: bool
) -> Iterator[Question]:
    """Who signed the quote, and the TD and its platform: the control plane's own checks."""
    vouched = False
    if hosted.collateral is not None:
        vouched = True
        checked = check_quote(
            quote.raw,
            hosted.collateral,
            policy=hosted.policy,
            now=datetime.fromtimestamp(hosted.now, UTC),
            root_ca=hosted.root_ca,
        )
        yield from _checks("dcap", checked, hosted.policy)
    if hosted.ask_ita is not None and bound:
        vouched = True
        yield from _ita(quote, challenge, document, hosted, hosted.ask_ita)
    if not vouched:
        text = "neither Intel Trust Authority nor DCAP was asked"
        yield question("appraisal", Refusal.NOT_APPRAISED, text, ok=False)


def _ita(
    quote: Quote, challenge: Challenge, document: bytes, hosted: Hosted, ask: AskIta
) -> Iterator[Question]:
    try:
        trip = ask(quote, challenge_data(document), challenge.intel_nonce)
    except MrtdError as error:
        down = isinstance(error, TransportError)
        reason = Refusal.NOT_APPRAISED if down else Reason.QUOTE_INVALID
        yield question("ita", reason, error.message, ok=False)
        return
    yield from _checks("ita", trip.checked, hosted.policy)
    claims = trip.checked.claims
    if claims is not None:
        other = [one.field for one in compare_reports(quote.report, claims.report)]
        # nonce and runtime data, too
        other += [one.field for one in trip.differences if one.field not in other]
        text = f"another {', '.join(other)}" if other else "about this quote"
        yield question("ita.quote", Refusal.TOKEN_OF_ANOTHER_QUOTE, text, ok=not other)


def _checks(who: str, checked: CheckedToken, policy: Policy) -> Iterator[Question]:
    """Checks that were made, and those of the TD if there are claims about it."""
    made: list[Check] = list(checked.checks)
    if checked.claims is not None:
        made += check_td(checked.claims, policy)
    for one in made:
        if one.outcome is CheckOutcome.NOT_CHECKED and one.reason is None:
            continue
        yield question(
            f"{who}.{one.name}",
            one.reason or Reason.INTERNAL_ERROR,
            one.observed if one.ok else f"{one.observed}, expected {one.expected}",
            ok=one.ok,
        )
    if checked.claims is None and all(one.ok for one in made):
        yield question(who, Reason.INTERNAL_ERROR, "no claims", ok=False)


def _use_up(document: bytes, spent: Path) -> Question:
    """Remember the challenge: of two jobs that appraise at once, one makes the file."""
    path = spent / challenge_sha256(document)
    try:
        spent.mkdir(parents=True, exist_ok=True)
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    except FileExistsError:
        return question("once", Refusal.CHALLENGE_USED, "was answered before", ok=False)
    except OSError as error:
        text = f"cannot be remembered: {error.strerror}"
        return question("once", Refusal.NOT_APPRAISED, text, ok=False)
    return question("once", Refusal.CHALLENGE_USED, "answered for the first time", ok=True)
