"""The status of many deployments: each digest is checked once, and the answer kept for a while."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Final

from mrtd.images.outcome import Kind, NotChecked
from mrtd.images.settings import ImageSettings
from mrtd.images.status import (
    Code,
    Colour,
    Deployment,
    ImageCheck,
    ImageChecker,
    ImageStatus,
    Subject,
    appraise,
    judge,
)
from mrtd.verifier.cache import Bounded, Flights, Interrupted
from mrtd.verifier.clock import Clock

KEPT_SECONDS: Final = 600.0
"""How long an answer holds. Signatures can be added, and a key be replaced."""
UNKNOWN_SECONDS: Final = 60.0
"""When what could not be checked is tried again."""
_ENTRIES: Final = 4096
CHECKS: Final = 64
"""Digests that one call checks; an agent may name any number of them."""


class Statuses:
    """Works out the status of deployments. Thread-safe.

    Checks are kept by repository and digest, never by tag; what ``images.toml`` says (exceptions
    above all) is looked at every time.

    Args:
        settings: whose images may run.
        checker: looks for signatures.
        clock: of the control plane.
        checks: digests that one call of `of` checks; the others are unknown until the next one.
    """

    def __init__(
        self,
        settings: ImageSettings,
        checker: ImageChecker,
        *,
        clock: Clock | None = None,
        checks: int = CHECKS,
    ) -> None:
        self._settings, self._checker, self._checks = settings, checker, checks
        self._clock = clock or Clock()
        self._kept: Bounded[Subject, tuple[ImageStatus, float]] = Bounded(_ENTRIES)
        self._flights: Flights[Subject, ImageStatus] = Flights()

    def of(self, deployments: Iterable[Deployment]) -> tuple[ImageStatus, ...]:
        """The status of each deployment, in their order. Never raises."""
        left, found = self._checks, []
        for deployment in deployments:
            subject = appraise(deployment, self._settings, self._now())
            if isinstance(subject, ImageStatus):
                found.append(subject)
            elif (kept := self._fresh(subject)) is not None:
                found.append(kept)
            elif left:
                left -= 1
                found.append(self._checked(subject))
            else:
                found.append(self._later())
        return tuple(found)

    def _fresh(self, subject: Subject) -> ImageStatus | None:
        if (kept := self._kept.get(subject)) is None:
            return None
        status, until = kept
        return status if self._clock.steady() < until else None

    def _checked(self, subject: Subject) -> ImageStatus:
        future, mine = self._flights.join(subject)
        if mine:
            self._flights.land(subject, lambda: self._check(subject))
        try:
            return future.result()
        except Interrupted:
            return self._later()

    def _check(self, subject: Subject) -> ImageStatus:
        if (kept := self._fresh(subject)) is not None:
            return kept
        try:
            check = self._checker.check(subject.source, subject.image)
        except Exception as error:  # noqa: BLE001 - whatever it is, nothing was checked
            why = f"the check failed: {type(error).__name__}"
            check = ImageCheck(
                NotChecked(subject.image, Kind.KEY, why),
                NotChecked(subject.image, Kind.KEYLESS, why),
            )
        status = judge(subject.source, check, self._now())
        seconds = UNKNOWN_SECONDS if _unsettled(status) else KEPT_SECONDS
        self._kept.put(subject, (status, self._clock.steady() + seconds))
        return status

    def _later(self) -> ImageStatus:
        text = "not yet checked: there are many new digests; the next look goes on"
        return ImageStatus(code=Code.NOT_CHECKED, reason=text, checked_at=self._now())

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self._clock.wall(), UTC)


def _unsettled(status: ImageStatus) -> bool:
    """Whether the answer may be another one as soon as a registry is back."""
    check = status.check
    away = check is not None and isinstance(check.workflow, NotChecked)
    return status.colour is Colour.UNKNOWN or away
