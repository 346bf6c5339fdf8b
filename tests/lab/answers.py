"""What a verdict says, in the three words that tests of threats compare."""

from __future__ import annotations

from mrtd.verifier.verdict import Outcome, Reason, Verdict

Answer = tuple[int, Reason | None, str]
ADMITTED: Answer = (200, None, "")


def answer(verdict: Verdict) -> Answer:
    """Status, reason, and the name of the check that decided; `ADMITTED` for an admission.

    The name is the one that the message names, and a check of that name and reason was not passed.
    """
    assert verdict.allowed == (verdict.status == 200) == (verdict.reason is None), verdict
    if verdict.allowed:
        return ADMITTED
    name = verdict.message.partition(" (")[2].partition(": ")[0]
    outcomes = {c.outcome for c in verdict.checks if (c.name, c.reason) == (name, verdict.reason)}
    assert outcomes, verdict.message
    assert Outcome.PASSED not in outcomes
    return verdict.status, verdict.reason, name


def failed(verdict: Verdict, prefix: str = "") -> set[str]:
    """Names of all checks that stand in the way."""
    return {c.name for c in verdict.checks if not c.ok and c.name.startswith(prefix)}


def observed(verdict: Verdict, name: str) -> str:
    """What a check of this name found, where it was not passed."""
    return next(c.observed for c in verdict.checks if c.name == name and not c.ok)
