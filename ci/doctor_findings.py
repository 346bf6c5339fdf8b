"""What the doctor says: findings, and what follows from all of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from ci.doctor_host import Host


class State(StrEnum):
    """What a check found."""

    OK = "ok"
    MISSING = "missing"
    CANNOT_TELL = "cannot tell"


class Need(StrEnum):
    """What needs it."""

    LAUNCH = "launch"
    """To launch a TD."""
    EVIDENCE = "evidence"
    """To get a quote from it: without one, a launch proves nothing."""
    PLAIN = "plain"
    """To launch without TDX, as tests and CI do."""
    ADVICE = "advice"
    """Nothing stops without it."""


@dataclass(frozen=True, slots=True)
class Finding:
    """The answer of one check.

    Attributes:
        name: of the check; stable.
        state: what it found.
        text: what there is.
        remedy: what to do, in one line; empty if nothing has to be done.
        need: what needs it.
    """

    name: str
    state: State
    text: str
    remedy: str = ""
    need: Need = Need.LAUNCH

    @property
    def decides(self) -> bool:
        """Whether it decides if TDs can be launched and quoted here."""
        return self.need in {Need.LAUNCH, Need.EVIDENCE}


def ok(name: str, text: str, *, need: Need = Need.LAUNCH) -> Finding:
    """All is well."""
    return Finding(name, State.OK, text, need=need)


def missing(name: str, text: str, remedy: str, *, need: Need = Need.LAUNCH) -> Finding:
    """It is not there, or not right."""
    return Finding(name, State.MISSING, text, remedy, need)


def unknown(name: str, text: str, remedy: str, *, need: Need = Need.LAUNCH) -> Finding:
    """It cannot be told from here."""
    return Finding(name, State.CANNOT_TELL, text, remedy, need)


YES: Final = 0
NO: Final = 1
PERHAPS: Final = 3


def exit_code(findings: Sequence[Finding]) -> int:
    """0: TDs can be launched and quoted here; 1: they cannot; 3: that is not known."""
    states = {finding.state for finding in findings if finding.decides}
    if State.MISSING in states:
        return NO
    return PERHAPS if State.CANNOT_TELL in states else YES


def text_of(host: Host, path: str) -> str | None:
    """A text file; None if there is none, or it is not for us."""
    try:
        return host.read(path).decode("utf-8", "replace")
    except OSError:
        return None
