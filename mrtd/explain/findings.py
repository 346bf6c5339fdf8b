"""What an explanation says: which hypothesis makes which register, or which event, fit."""

from __future__ import annotations

from enum import StrEnum

import msgspec

from mrtd.compare import Comparison
from mrtd.registers import RegisterName
from mrtd.side import Side


class FindingKind(StrEnum):
    """How well something observed is understood."""

    FITS = "fits"
    """It is what is expected."""
    EXPLAINED = "explained"
    """It is not what is expected, and the changes that are listed make it fit."""
    RECOGNISED = "recognised"
    """What it is follows from its digest, without an expectation."""
    UNEXPLAINED = "unexplained"
    """No hypothesis that was tried makes it fit."""
    NOT_TRIED = "not tried"
    """Nothing is known to compare it with."""


class Change(msgspec.Struct, frozen=True):
    """One change of the expectation.

    Attributes:
        code: what is changed, a code of `mrtd.compare.Dependence`.
        text: the hypothesis, for people, such as ``two-pass page order``.
        setting: the launch spec's line that says it; empty if no line does.
        meaning: what follows from it, such as ``the host runs a pre-upstream KVM``.
    """

    code: str
    text: str
    setting: str = ""
    meaning: str = ""


class Finding(msgspec.Struct, frozen=True):
    """What was found out of one register, or of one of its observed events.

    Attributes:
        register: the register.
        kind: how well it is understood.
        text: one sentence for people.
        changes: what makes it fit, the fewest that do; with several, all are needed.
        event_index: place of the event among the register's observed ones, from 0; None if the
            finding is about the register.
        tried: how many hypotheses were tried for it.
    """

    register: RegisterName
    kind: FindingKind
    text: str
    changes: tuple[Change, ...] = ()
    event_index: int | None = None
    tried: int = 0


class Explanation(msgspec.Struct, frozen=True):
    """Why evidence is what it is.

    Attributes:
        observed: the evidence.
        comparison: evidence against expectation, where there is one.
        findings: register by register; those of events follow their register's.
        changes: everything that has to change in the expectation, so that the registers that are
            explained fit; each once.
        explained: whether every register that was compared fits, as it is or with the changes.
        tried: how many hypotheses were tried in all.
        next_steps: what to collect or to try, where something is left unexplained.
    """

    observed: Side
    comparison: Comparison | None
    findings: tuple[Finding, ...]
    changes: tuple[Change, ...]
    explained: bool
    tried: int
    next_steps: tuple[str, ...] = ()
