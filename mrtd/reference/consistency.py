"""What a reference-values document must not contradict itself about.

The schema cannot say these things: an exact register has a value, a release has one place in the
life cycle, nothing is vouched for and revoked at once.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Final

from mrtd.reference.document import (
    BitRule,
    CoverageRow,
    Launch,
    ReferenceValues,
    RegisterRule,
    ReleaseRef,
)
from mrtd.reference.subjects import SUBJECT_NAMES, subjects

Contradiction = tuple[str, str]
"""Path of the field, and what is wrong with it."""

_VALUES: Final = {
    "mrtd": (re.compile(r"(?!0{96})[0-9a-f]{96}"), "a non-zero MRTD, 96 lower-case hex digits"),
    "launch": (re.compile(r"[0-9a-f]{64}"), "a launch digest, 64 lower-case hex digits"),
    "tag": (re.compile(r"[!-~]{1,200}"), "a tag"),
    "commit": (re.compile(r"[0-9a-f]{40}"), "a commit, 40 lower-case hex digits"),
}
# TDATTRIBUTES bits 7:0 (TUD): "if any bit is set, the TD is untrusted" (TDX Module ABI)
_UNTRUSTED: Final = 0xFF


def contradictions(values: ReferenceValues) -> Iterator[Contradiction]:
    """Everything that a document contradicts itself about, in the order of its fields."""
    yield from instant("release.created", values.release.created)
    yield from _lifecycle(values)
    yield from _revoked(values)
    if not values.launches and not values.lifecycle.revoked:
        yield "launches", "is empty, which only a document may have that revokes something"
    yield from repeated("launches", "shape", (launch.shape for launch in values.launches))
    for index, launch in enumerate(values.launches):
        yield from ((f"launches[{index}].{field}", problem) for field, problem in _launch(launch))
    yield from _artifacts(values)
    if not subjects(values):
        yield "launches", "the statement has no subject, so nobody can find it: revoke a launch too"


def instant(field: str, text: str) -> Iterator[Contradiction]:
    """That a text of the form of an instant is one."""
    try:
        datetime.strptime(text, "%Y-%m-%dT%H:%M:%S%z")
    except ValueError:
        yield field, f"{text!r} is no time"


def repeated(field: str, key: str, found: Iterable[str]) -> Iterator[Contradiction]:
    """That no two entries have the same key."""
    seen: set[str] = set()
    for index, value in enumerate(found):
        if value in seen:
            yield f"{field}[{index}].{key}", f"{value!r} comes twice"
        seen.add(value)


def _lifecycle(values: ReferenceValues) -> Iterator[Contradiction]:
    """A release has one place, and its tag, commit and sequence belong together."""
    cycle, own = values.lifecycle, values.release
    me = ReleaseRef(tag=own.tag, commit=own.commit, sequence=own.sequence)
    lists = (("current", cycle.current), ("next", cycle.next), ("retired", cycle.retired))
    for attribute in ("sequence", "tag", "commit"):
        seen: set[object] = set()
        for name, releases in lists:
            for index, release in enumerate(releases):
                value = getattr(release, attribute)
                where = f"lifecycle.{name}[{index}].{attribute}"
                if value in seen:
                    yield where, f"{value!r} comes twice: a release has one place"
                seen.add(value)
                if value == getattr(me, attribute) and not (name == "current" and release == me):
                    yield where, f"{value!r} is this document's own release, which is current"


def _revoked(values: ReferenceValues) -> Iterator[Contradiction]:
    good = _vouched_for(values)
    seen: set[tuple[str, str]] = set()
    for index, row in enumerate(values.lifecycle.revoked):
        where, key = f"lifecycle.revoked[{index}]", (row.kind, row.value)
        pattern, form = _VALUES[row.kind]
        if not pattern.fullmatch(row.value):
            yield f"{where}.value", f"{row.value[:100]!r} is not {form}"
        if row.sequence > values.release.sequence:
            yield f"{where}.sequence", f"{row.sequence} is later than this document"
        if key in seen:
            yield f"{where}.value", f"{row.kind} {row.value} is revoked twice"
        if key in good:
            yield f"{where}.value", f"revokes what the same document vouches for: {good[key]}"
        seen.add(key)


def _vouched_for(values: ReferenceValues) -> dict[tuple[str, str], str]:
    """What may not be revoked here, by kind and value, and where it stands.

    A document without launches vouches for nothing, so it may revoke its own tag and commit.
    """
    cycle, own = values.lifecycle, values.release
    good: dict[tuple[str, str], str] = {}
    for where, releases in (("lifecycle.current", cycle.current), ("lifecycle.next", cycle.next)):
        for release in releases:
            good |= {("tag", release.tag): where, ("commit", release.commit): where}
    if values.launches:
        good |= {("tag", own.tag): "release", ("commit", own.commit): "release"}
    for launch in values.launches:
        where = f"launch {launch.shape}"
        good[("mrtd", str(launch.registers.mrtd.value))] = where
        good[("launch", _digest(launch) or "")] = where
    return good


def _digest(launch: Launch) -> str | None:
    """The launch digest, where no register is zero (which is found elsewhere)."""
    values = [launch.registers.value(name) for name in ("mrtd", "rtmr1", "rtmr2")]
    return None if any(v is None or v.is_zero for v in values) else launch.launch_digest


def _launch(launch: Launch) -> Iterator[Contradiction]:
    for name, rule in launch.registers.items():
        yield from _rule(f"registers.{name}", rule)
    if launch.registers.mrtd.rule != "exact":
        yield "registers.mrtd", "is unpinned: nothing could be looked up"
    yield from repeated("inputs", "key", (file.key for file in launch.inputs))
    yield from repeated("coverage", "input", (row.input for row in launch.coverage))
    for index, row in enumerate(launch.coverage):
        yield from ((f"coverage[{index}]", problem) for problem in _coverage(row, launch))
    attributes = launch.expectations.td_attributes
    yield from _bits("expectations.td_attributes", attributes)
    yield from _bits("expectations.xfam", launch.expectations.xfam)
    if int(attributes.value, 16) & _UNTRUSTED:
        yield "expectations.td_attributes", "demands a bit of 7:0, with which no TD is trusted"
    yield from repeated("confirmations", "kind", (row.kind for row in launch.confirmations))


def _rule(field: str, rule: RegisterRule) -> Iterator[Contradiction]:
    exact = rule.rule == "exact"
    if exact != (rule.value is not None):
        yield field, "exact registers have a value, and others have none"
    if exact == (rule.reason is not None):
        yield field, "unpinned registers have a reason, and others have none"
    if rule.value is not None and rule.value.is_zero:
        yield field, "is zero: nothing was measured into it, which is evidence of nothing"


def _coverage(row: CoverageRow, launch: Launch) -> Iterator[str]:
    if len(set(row.registers)) != len(row.registers):
        yield "names a register twice"
    if (row.status in {"measured", "unpinned"}) != bool(row.registers):
        yield f"{row.status!r} and registers {list(row.registers)} contradict each other"
    unpinned = [name for name in row.registers if launch.registers.value(name) is None]
    if row.status == "measured" and unpinned:
        yield f"'measured' by {unpinned[0]}, which is unpinned: the input is 'unpinned'"
    if row.status == "unpinned" and not unpinned:
        yield "'unpinned', and all its registers are exact"
    if row.accepted is not None and row.status in {"measured", "absent"}:
        yield f"{row.status!r}, so there is nothing to accept"


def _bits(field: str, rule: BitRule) -> Iterator[Contradiction]:
    if int(rule.value, 16) & ~int(rule.mask, 16):
        yield field, "value has bits that are not in the mask, so nothing fulfils it"


def _artifacts(values: ReferenceValues) -> Iterator[Contradiction]:
    yield from repeated("artifacts", "name", (artifact.name for artifact in values.artifacts))
    for index, artifact in enumerate(values.artifacts):
        if artifact.name in SUBJECT_NAMES:
            yield f"artifacts[{index}].name", "is the name of a measurement, not of a file"
