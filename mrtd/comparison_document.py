"""Comparisons and explanations as JSON: ``mrtd.comparison/1`` and ``mrtd.explanation/1``."""

from __future__ import annotations

from typing import Any, Final

from mrtd import __version__
from mrtd.compare import Comparison, EventRow, RegisterComparison
from mrtd.eventlog import Event, type_name
from mrtd.explain.findings import Change, Explanation, Finding
from mrtd.registers import Exact, Rule, Unpinned
from mrtd.side import Side

COMPARISON_SCHEMA: Final = "mrtd.comparison/1"
EXPLANATION_SCHEMA: Final = "mrtd.explanation/1"

_Json = dict[str, Any]


def comparison_document(comparison: Comparison) -> _Json:
    """A comparison as JSON values."""
    return {
        "schema": COMPARISON_SCHEMA,
        "tool": {"name": "mrtd", "version": __version__},
        **_comparison(comparison),
    }


def explanation_document(explanation: Explanation) -> _Json:
    """An explanation as JSON values; with the comparison, where there is one."""
    comparison = explanation.comparison
    return {
        "schema": EXPLANATION_SCHEMA,
        "tool": {"name": "mrtd", "version": __version__},
        "observed": _side(explanation.observed),
        "explained": explanation.explained,
        "changes": [_change(change) for change in explanation.changes],
        "findings": [_finding(finding) for finding in explanation.findings],
        "hypotheses_tried": explanation.tried,
        "next_steps": list(explanation.next_steps),
        "comparison": None if comparison is None else _comparison(comparison),
    }


def _comparison(comparison: Comparison) -> _Json:
    return {
        "expected": _side(comparison.expected),
        "observed": _side(comparison.observed),
        "target": str(comparison.target),
        "matches": comparison.matches,
        "registers": {str(r.name): _register(r) for r in comparison.registers},
        "cautions": [
            {"code": caution.code, "side": caution.side, "text": caution.text}
            for caution in comparison.cautions
        ],
    }


def _side(side: Side) -> _Json:
    return {"origin": side.origin, "kind": str(side.kind), "has_log": side.log is not None}


def _register(register: RegisterComparison) -> _Json:
    return {
        "outcome": str(register.outcome),
        "expected": _value(register.expected),
        "observed": _value(register.observed),
        "reason": register.reason or None,
        "depends": [{"code": d.code, "text": d.text} for d in register.depends],
        "events": [_row(row) for row in register.rows],
    }


def _row(row: EventRow) -> _Json:
    return {
        "outcome": str(row.outcome),
        "expected": _event(row.expected, row.expected_index),
        "observed": _event(row.observed, row.observed_index),
        "depends": [{"code": d.code, "text": d.text} for d in row.depends],
    }


def _event(event: Event | None, index: int | None) -> _Json | None:
    if event is None:
        return None
    unknown = event.digest.reason if isinstance(event.digest, Unpinned) else None
    return {
        "index": index,
        "type": event.type,
        "type_name": type_name(event.type),
        "digest": None if unknown is not None else str(event.digest),
        "description": event.description,
        "origin": event.origin.where,
        "reason": unknown,
    }


def _value(rule: Rule | None) -> str | None:
    return str(rule.value) if isinstance(rule, Exact) else None


def _finding(finding: Finding) -> _Json:
    return {
        "register": str(finding.register),
        "event": finding.event_index,
        "kind": str(finding.kind),
        "text": finding.text,
        "changes": [_change(change) for change in finding.changes],
        "hypotheses_tried": finding.tried,
    }


def _change(change: Change) -> _Json:
    return {
        "code": change.code,
        "text": change.text,
        "setting": change.setting or None,
        "meaning": change.meaning or None,
    }
