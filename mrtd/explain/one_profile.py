"""Several registers, one firmware: name the profiles that suit all of them at once."""

from __future__ import annotations

from msgspec.structs import replace

from mrtd.explain.findings import Change, Finding, FindingKind
from mrtd.explain.hypotheses import Known, profile_change, same_profiles
from mrtd.explain.search import Solution, lines_of
from mrtd.registers import RegisterName

_PREFIX = "firmware profile "


def one_profile(
    findings: list[Finding], known: Known | None, solutions: dict[RegisterName, Solution]
) -> list[Finding]:
    """Findings whose profile changes name only profiles that suit the other registers, too.

    Where no profile suits all of them, the findings stay as they are.
    """
    if known is None:
        return findings
    choices = [_profiles(solution) for solution in solutions.values()]
    changed = [names for names in choices if names]
    if not changed:
        return findings
    suitable = set.intersection(*changed)
    for finding in findings:
        if finding.kind is FindingKind.FITS and finding.event_index is None:
            lines = lines_of(known.derivation.log, finding.register)
            same = set(same_profiles(known, finding.register).get(lines, ()))
            suitable = suitable & same or suitable
    names = tuple(name for name, _ in known.profiles if name in suitable)
    return (
        [_with_change(finding, profile_change(names)) for finding in findings]
        if names
        else (findings)
    )


def _profiles(solution: Solution) -> set[str]:
    return {name for option in solution.options for name in option.names}


def _with_change(finding: Finding, change: Change) -> Finding:
    """The finding with this profile change in place of its own, if it has one."""
    text = finding.text
    changes = []
    for old in finding.changes:
        named = old.code == "profile" and old.text.startswith(_PREFIX)
        text = text.replace(old.text, change.text) if named else text
        changes.append(change if named else old)
    return replace(finding, text=text, changes=tuple(changes))
