"""A matrix of shapes over several jobs: who derives which of them.

Shapes --plan--> Plan, the ``matrix`` of a GitHub Actions job --one job each--> Shapes
"""

from __future__ import annotations

import re
from typing import Annotated, Final

import msgspec

from mrtd.errors import SpecError
from mrtd.shapes import SHAPE_LIMIT, Shape

JOB_LIMIT: Final = 256
"""Jobs that one matrix makes at most (GitHub Actions, "Usage limits")."""
DEFAULT_JOBS: Final = 20
"""Jobs that run at once for an account without a plan (GitHub Actions, "Usage limits")."""
SIZE_LIMIT: Final = 1 << 20
"""Largest plan, bytes: no output of a job is longer (GitHub Actions, "Usage limits")."""
_PART: Final = re.compile("([1-9][0-9]{0,3})/([1-9][0-9]{0,3})")


class Part(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A job.

    Attributes:
        part: ``number/jobs``, from 1; what ``mrtd matrix --part`` takes.
        shapes: the names of its shapes.
    """

    part: Annotated[str, msgspec.Meta(pattern="^[1-9][0-9]{0,3}/[1-9][0-9]{0,3}$")]
    shapes: Annotated[tuple[str, ...], msgspec.Meta(min_length=1, max_length=SHAPE_LIMIT)]


class Plan(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All jobs, as the ``matrix`` of a job takes them: any other key would be an axis of it."""

    include: Annotated[tuple[Part, ...], msgspec.Meta(min_length=1, max_length=JOB_LIMIT)]

    @property
    def shapes(self) -> tuple[str, ...]:
        """Names of all shapes, in their order."""
        return tuple(name for part in self.include for name in part.shapes)


def plan(shapes: tuple[Shape, ...], jobs: int) -> Plan:
    """Shapes over jobs that differ by one shape at most; no job is without work.

    Args:
        shapes: at least one, in their order, which the jobs keep.
        jobs: at most so many, from 1 to `JOB_LIMIT`.
    """
    jobs = min(jobs, len(shapes))
    return Plan(
        tuple(
            Part(f"{number}/{jobs}", tuple(one.name for one in _slice(shapes, number, jobs)))
            for number in range(1, jobs + 1)
        )
    )


def part_of(shapes: tuple[Shape, ...], part: tuple[int, int]) -> tuple[Shape, ...]:
    """The shapes of a job of the plan, by its number and how many jobs there are.

    Raises:
        SpecError: the plan of these shapes has no such job.
    """
    number, jobs = part
    if not number <= jobs <= min(len(shapes), JOB_LIMIT):
        raise SpecError(
            f"{number}/{jobs} is no job of {len(shapes)} shapes", origin="shapes", field="--part",
            hint="give the axes that the plan was made with",
        )  # fmt: skip
    return _slice(shapes, number, jobs)


def read_part(text: str) -> tuple[int, int]:
    """Number and jobs of ``3/12``. Raises ``ValueError``."""
    found = _PART.fullmatch(text)
    if found is None or int(found[1]) > int(found[2]):
        raise ValueError(f"{text[:40]!r} is no part such as 3/12")
    return int(found[1]), int(found[2])


def encode_plan(made: Plan) -> bytes:
    """JSON in one line, as ``$GITHUB_OUTPUT`` wants it."""
    return msgspec.json.encode(made)


def read_plan(data: bytes, *, origin: str) -> Plan:
    """The plan that `encode_plan` wrote.

    Raises:
        SpecError: it is none, or names a shape twice, or not every part once and in order.
    """
    hint = "mrtd matrix --plan writes one"
    if len(data) > SIZE_LIMIT:
        raise SpecError(f"is larger than {SIZE_LIMIT} bytes", origin=origin, hint=hint)
    try:
        found = msgspec.json.decode(data, type=Plan)
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise SpecError(f"is no plan: {error}", origin=origin, hint=hint) from error
    jobs = len(found.include)
    if [one.part for one in found.include] != [f"{n}/{jobs}" for n in range(1, jobs + 1)]:
        raise SpecError(f"does not have parts 1/{jobs} to {jobs}/{jobs}", origin=origin, hint=hint)
    if len(set(found.shapes)) != len(found.shapes):
        raise SpecError("names a shape twice", origin=origin, hint=hint)
    return found


def _slice(shapes: tuple[Shape, ...], number: int, jobs: int) -> tuple[Shape, ...]:
    total = len(shapes)
    return shapes[total * (number - 1) // jobs : total * number // jobs]
