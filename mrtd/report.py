"""A comparison as one HTML page, for people who have neither the evidence nor this program.

The page needs nothing: no network, no script, no font. Its content security policy says so, too.
Everything from evidence is escaped. The same values give the same page.
"""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from pathlib import Path
from typing import Final

from mrtd import __version__
from mrtd.compare import DIFFERENCES, Comparison, EventRow, Outcome, RegisterComparison, RowOutcome
from mrtd.depends import Dependence
from mrtd.eventlog import Event, type_name
from mrtd.explain.findings import Change, Explanation, Finding, FindingKind
from mrtd.printable import printable
from mrtd.registers import Exact, Rule, Sha384, Unpinned
from mrtd.side import Side

_STYLE: Final = Path(__file__).with_name("report.css")
_POLICY: Final = (
    "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
)
_EXPLAINED: Final = (
    "MRTD identifies the firmware only; what identifies an image is MRTD, RTMR0, RTMR1 and RTMR2 "
    "together. A register that was not compared is not a match."
)

# How an outcome looks: class of the style sheet and what is written
_OUTCOMES: Final = {
    Outcome.MATCH: ("good", "match"),
    Outcome.DIFFERS: ("bad", "differs"),
    Outcome.NOT_COMPARED: ("open", "not compared"),
}
_ROWS: Final = {
    RowOutcome.MATCH: ("good", "match"),
    RowOutcome.DIFFERS: ("bad", "differs"),
    RowOutcome.ONLY_EXPECTED: ("bad", "only expected"),
    RowOutcome.ONLY_OBSERVED: ("bad", "only observed"),
    RowOutcome.NOT_PREDICTED: ("open", "not predicted"),
}
_KINDS: Final = {
    FindingKind.FITS: "good",
    FindingKind.EXPLAINED: "link",
    FindingKind.RECOGNISED: "link",
    FindingKind.UNEXPLAINED: "bad",
    FindingKind.NOT_TRIED: "open",
}


def write_html(comparison: Comparison, explanation: Explanation | None = None) -> str:
    """The page.

    Args:
        comparison: what was compared.
        explanation: why it differs, if that was asked.
    """
    return "\n".join(_page(comparison, explanation)) + "\n"


def _page(comparison: Comparison, explanation: Explanation | None) -> Iterator[str]:
    title = f"Measurements: {_verdict(comparison)[1].lower()}"
    yield '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">'
    yield f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
    yield '<meta name="viewport" content="width=device-width, initial-scale=1">'
    yield '<meta name="referrer" content="no-referrer">'
    yield f"<title>{_text(title)}</title>"
    yield f"<style>\n{_STYLE.read_text(encoding='utf-8')}</style>\n</head>\n<body>"
    yield f"<header>\n<h1>Launch measurements: expected and observed</h1>\n{_head(comparison)}"
    yield "</header>\n<main>"
    for caution in comparison.cautions:
        yield f'<p class="caution">{_text(caution.text)}</p>'
    yield '<h2 id="registers">Registers</h2>'
    yield from _registers(comparison)
    if explanation is not None:
        yield '<h2 id="explanation">Why</h2>'
        yield from _explanation(explanation)
    logged = [register for register in comparison.registers if register.rows]
    if logged:
        yield '<h2 id="events">Events</h2>'
    for register in logged:
        yield from _events(register, explanation)
    yield f'</main>\n<footer class="small soft">\n<p>{_text(_EXPLAINED)}</p>'
    yield f"<p>mrtd {_text(__version__)}</p>\n</footer>\n</body>\n</html>"


def _head(comparison: Comparison) -> str:
    kind, word, sentence = _verdict(comparison)
    sides = "".join(
        f"<dt>{title}</dt><dd>{_side(side)}</dd>"
        for title, side in (("Expected", comparison.expected), ("Observed", comparison.observed))
    )
    return (
        f'<div class="verdict {kind}"><strong>{word}</strong><br>{_text(sentence)}</div>'
        f'<dl class="sides">{sides}</dl>'
    )


def _verdict(comparison: Comparison) -> tuple[str, str, str]:
    """Class, word, and sentence."""
    names = {
        outcome: ", ".join(r.name.upper() for r in comparison.registers if r.outcome is outcome)
        for outcome in Outcome
    }
    rest = ""
    if names[Outcome.NOT_COMPARED]:
        rest = f" Not compared: {names[Outcome.NOT_COMPARED]}."
    if names[Outcome.DIFFERS]:
        same = f" Match: {names[Outcome.MATCH]}." if names[Outcome.MATCH] else ""
        return "bad", "Differs", f"{names[Outcome.DIFFERS]}: not what was expected.{same}{rest}"
    if comparison.matches:
        return "good", "Match", f"{names[Outcome.MATCH]}: as expected.{rest}"
    return "open", "Not compared", f"No register is known on both sides.{rest}"


def _side(side: Side) -> str:
    log = f", {len(side.log)} events" if side.log is not None else ", no event log"
    about = f"{side.kind}{log}"
    return f'{_text(side.origin)} <span class="soft small">({_text(about)})</span>'


def _registers(comparison: Comparison) -> Iterator[str]:
    yield (
        '<table><thead><tr><th scope="col" class="col-register">Register</th>'
        '<th scope="col" class="col-result">Result</th><th scope="col">What follows</th>'
        '<th scope="col" class="col-digest">Value</th></tr></thead><tbody>'
    )
    for register in comparison.registers:
        kind, word = _OUTCOMES[register.outcome]
        yield (
            f'<tr{_row_class(kind)}><th scope="row">{register.name.upper()}</th>'
            f'<td class="inline">{_badge(kind, word)}</td>'
            f"<td>{_text(register.reason)}{_depends(register.depends)}{_differing(register)}</td>"
            f"<td>{_values(register.expected, register.observed)}</td></tr>"
        )
    yield "</tbody></table>"


def _differing(register: RegisterComparison) -> str:
    """The events that differ, each with the likeliest input."""
    items = "".join(
        f'<li><a href="#{_anchor(register, row)}">{_text(event.description)}</a>'
        f"{f': {_text(row.depends[0].text)}' if row.depends else ''}</li>"
        for row in register.rows
        if row.outcome in DIFFERENCES and (event := row.expected or row.observed) is not None
    )
    return f'<ul class="why">{items}</ul>' if items else ""


def _anchor(register: RegisterComparison, row: EventRow) -> str:
    places = ("x" if p is None else str(p) for p in (row.expected_index, row.observed_index))
    return "-".join((register.name, *places))


def _events(register: RegisterComparison, explanation: Explanation | None) -> Iterator[str]:
    kind, word = _OUTCOMES[register.outcome]
    same = sum(row.outcome is RowOutcome.MATCH for row in register.rows)
    yield (
        f"<details open><summary><h3>{register.name.upper()}</h3> {_badge(kind, word)}"
        f'<span class="small soft">{same} of {len(register.rows)} events match</span></summary>'
        '<table><thead><tr><th scope="col" class="col-place">Event</th>'
        '<th scope="col" class="col-result">Result</th><th scope="col">What is measured</th>'
        '<th scope="col" class="col-digest">Digest</th></tr></thead><tbody>'
    )
    findings = explanation.findings if explanation is not None else ()
    about = {f.event_index: f for f in findings if f.register is register.name}
    about.pop(None, None)
    for row in register.rows:
        finding = None if row.observed_index is None else about.get(row.observed_index)
        yield _event_row(register, row, finding)
    yield "</tbody></table></details>"


def _event_row(register: RegisterComparison, row: EventRow, finding: Finding | None) -> str:
    kind, word = _ROWS[row.outcome]
    places = [row.expected_index, row.observed_index]
    numbers = dict.fromkeys("-" if place is None else str(place) for place in places)
    event = row.observed or row.expected
    extra = "" if finding is None else _finding(finding, events=False)
    return (
        f'<tr{_row_class(kind)} id="{_anchor(register, row)}">'
        f'<th scope="row">{" / ".join(numbers)}</th>'
        f'<td class="inline">{_badge(kind, word)}</td>'
        f"<td>{'' if event is None else _what(row, event)}{_depends(row.depends)}{extra}</td>"
        f"<td>{_values(_rule(row.expected), _rule(row.observed))}</td></tr>"
    )


def _what(row: EventRow, event: Event) -> str:
    # the expectation knows what a body does not say: which file an "ACPI DATA" is
    main = row.expected or event
    lines = [_text(main.description)]
    if event.description != main.description:
        lines.append(f'<span class="small soft">observed: {_text(event.description)}</span>')
    lines.append(f'<span class="small soft">{_text(type_name(event.type))}</span>')
    if row.expected is not None and row.outcome in DIFFERENCES:
        lines.append(f'<span class="small soft">from {_text(row.expected.origin.where)}</span>')
    return "<br>".join(lines)


def _explanation(explanation: Explanation) -> Iterator[str]:
    if explanation.changes:
        title = "These changes make it fit:" if explanation.explained else "Brought nearer by:"
        yield f"<p>{title}</p>"
        yield from (_change(change) for change in explanation.changes)
    for finding in explanation.findings:
        if finding.event_index is None:
            yield _finding(finding, events=True)
    if explanation.next_steps:
        steps = "".join(f"<li>{_text(step)}</li>" for step in explanation.next_steps)
        yield f"<p>What to do next:</p><ol>{steps}</ol>"
    yield f'<p class="small soft">{explanation.tried} hypotheses were tried.</p>'


def _finding(finding: Finding, *, events: bool) -> str:
    badge = _badge(_KINDS[finding.kind], str(finding.kind))
    named = finding.text.startswith(finding.register.upper())
    name = f"<strong>{finding.register.upper()}</strong> " if events and not named else ""
    changes = "".join(f"<li>{_text(change.text)}</li>" for change in finding.changes)
    items = f'<ul class="why">{changes}</ul>' if changes else ""
    return f'<div class="finding">{name}{badge} {_text(finding.text)}{items}</div>'


def _change(change: Change) -> str:
    setting = f"<br><code>{_text(change.setting)}</code>" if change.setting else ""
    meaning = f'<br><span class="soft">{_text(change.meaning)}</span>' if change.meaning else ""
    return f'<div class="change">{_text(change.text)}{setting}{meaning}</div>'


def _depends(depends: tuple[Dependence, ...]) -> str:
    if not depends:
        return ""
    known = {True: '<li class="known">', False: "<li>"}
    items = "".join(f"{known[one.known]}{_text(one.text)}</li>" for one in depends)
    return f'<ul class="why">{items}</ul>'


def _values(expected: Rule | None, observed: Rule | None) -> str:
    """One value if both are the same, else both."""
    if expected is not None and expected == observed:
        return _value("", expected)
    shown = [("expected", expected), ("observed", observed)]
    return "".join(_value(title, rule) for title, rule in shown if rule is not None)


def _value(title: str, rule: Rule) -> str:
    label = f"<b>{title}</b>" if title else ""
    if isinstance(rule, Exact):
        return f'<span class="value">{label}<span class="digest">{rule.value}</span></span>'
    return f'<span class="value">{label}<span class="small soft">{_text(rule.reason)}</span></span>'


def _rule(event: Event | None) -> Rule | None:
    if event is None:
        return None
    digest: Sha384 | Unpinned = event.digest
    return Exact(digest) if isinstance(digest, Sha384) else digest


def _badge(kind: str, word: str) -> str:
    return f'<span class="badge {kind}">{_text(word)}</span>'


def _row_class(kind: str) -> str:
    return "" if kind == "good" else f' class="{kind}"'


def _text(text: str) -> str:
    """Any text as HTML."""
    return escape(printable(text), quote=True)
