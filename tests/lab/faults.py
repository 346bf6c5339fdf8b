"""What can go wrong between a client and a service: `Fault` stands in for genuine answers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from enum import StrEnum, auto
from typing import Final, TypeAlias

from tests.lab.web import Answer, How, Request

Genuine: TypeAlias = Callable[[], Answer]
"""What the service would do and say; not called, it has done nothing."""


class Kind(StrEnum):
    """How an answer is spoilt."""

    STATUS = auto()
    """An error status; the service has done nothing."""
    GARBAGE = auto()
    """Status 200 and a body that is none of the format."""
    EMPTY_OBJECT = auto()
    """Status 200 and JSON that says nothing."""
    DRIPPING_HEAD = auto()
    DRIPPING_BODY = auto()
    TRUNCATED = auto()
    """The genuine answer lacks its last byte."""
    RESET = auto()
    """The connection is reset, before the service has done anything."""
    ANSWER_LOST = auto()
    """The service has done its work, then the connection is reset."""
    ECHO = auto()
    """An error status whose body repeats the request's credentials."""


@dataclass(frozen=True, slots=True)
class Fault:
    """Spoils answers of one endpoint.

    Attributes:
        kind: how.
        status: for those kinds that have one.
        after: so many requests are served first.
        times: so many are spoilt then; None: all.
        headers: further headers of an error status.
    """

    kind: Kind
    status: int = 503
    after: int = 0
    times: int | None = None
    headers: dict[str, str] = field(default_factory=dict)

    def hits(self, number: int) -> bool:
        """Whether it spoils a request; the first one is number 0."""
        return number >= self.after and (self.times is None or number < self.after + self.times)

    def answer(self, request: Request, genuine: Genuine) -> Answer:
        """The answer instead of the genuine one."""
        if self.kind is Kind.STATUS:
            return Answer(self.status, b'{"code":0,"message":"lab says no"}', self.headers)
        if self.kind is Kind.ECHO:
            sent = request.headers.get("authorization", "")
            # The signature first: whoever shows the beginning of an answer only would show it.
            return Answer(self.status, f"sent: {sent.rpartition('.')[2]}, of {sent}".encode())
        if self.kind is Kind.TRUNCATED:
            return replace(genuine(), how=How.TRUNCATED)
        if self.kind is Kind.ANSWER_LOST:
            genuine()
            return Answer(how=How.RESET)
        return _STEADY[self.kind]


_STEADY: Final = {
    Kind.GARBAGE: Answer(200, b"\x00<html>it works!</html>"),
    Kind.EMPTY_OBJECT: Answer(200, b"{}"),
    Kind.DRIPPING_HEAD: Answer(how=How.DRIPPING_HEAD),
    Kind.DRIPPING_BODY: Answer(how=How.DRIPPING_BODY),
    Kind.RESET: Answer(how=How.RESET),
}
