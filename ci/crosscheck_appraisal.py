"""Who says that a quote is genuine: Intel Trust Authority, and DCAP; as lines of a cross-check."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from ci.crosscheck import Line, Mark
from ci.ita_check import RoundTrip, SecondOpinion
from mrtd.errors import MrtdError, VerificationError

ITA: Final = "ita"
DCAP: Final = "dcap"


@dataclass(frozen=True, slots=True)
class Appraised:
    """What the two said about one quote.

    Attributes:
        trip: of Intel Trust Authority; None if it was not asked, or gave no token.
        dcap: of DCAP; None if it was not asked.
        lines: both as lines.
    """

    trip: RoundTrip | None
    dcap: SecondOpinion | None
    lines: tuple[Line, ...]


def appraised(
    ask_ita: Callable[[], RoundTrip] | str, dcap: SecondOpinion | str | None = None
) -> Appraised:
    """Ask, and say how it came out. What the one leaves open decides nothing if the other agrees.

    Args:
        ask_ita: makes the round trip; or why it is not made.
        dcap: what DCAP says; or why it was not asked.
    """
    trip: RoundTrip | None = None
    if isinstance(ask_ita, str):
        ita_line = Line(ITA, Mark.NOT_CHECKED, ask_ita)
    else:
        try:
            trip = ask_ita()
        except MrtdError as error:
            ita_line = Line(ITA, Mark.NOT_CHECKED, error.message)
        else:
            ita_line = _ita_line(trip)
    opinion = dcap if isinstance(dcap, SecondOpinion) else None
    dcap_line = _dcap_line(dcap)
    if Mark.MATCH in {ita_line.mark, dcap_line.mark}:
        ita_line, dcap_line = (
            replace(line, beyond=line.mark is Mark.NOT_CHECKED) for line in (ita_line, dcap_line)
        )
    return Appraised(trip, opinion, (ita_line, dcap_line))


def _ita_line(trip: RoundTrip) -> Line:
    try:
        trip.require()
    except VerificationError as error:
        return Line(ITA, Mark.DIFFERS, error.message)
    except MrtdError as error:
        return Line(ITA, Mark.NOT_CHECKED, error.message)
    return Line(ITA, Mark.MATCH, "the token is genuine, and its claims are the quote's")


def _dcap_line(dcap: SecondOpinion | str | None) -> Line:
    if not isinstance(dcap, SecondOpinion):
        return Line(DCAP, Mark.NOT_CHECKED, dcap or "no collateral is given (--collateral)")
    if dcap.problem is None:
        return Line(DCAP, Mark.MATCH, f"the quote is genuine, TCB {dcap.status}")
    mark = Mark.DIFFERS if dcap.refused else Mark.NOT_CHECKED
    return Line(DCAP, mark, dcap.problem)
