"""An audit as SARIF 2.1.0, which code-scanning services read."""

from __future__ import annotations

from typing import Any, Final

from mrtd import __version__
from mrtd.audit.findings import Audit, Finding
from mrtd.audit.rules import RULES, Rule
from mrtd.notes import Level

_SCHEMA: Final = "https://json.schemastore.org/sarif-2.1.0.json"
_LEVELS: Final = {Level.ALARM: "error", Level.WARNING: "warning", Level.INFO: "note"}


def sarif(audit: Audit, *, origin: str) -> dict[str, Any]:
    """The audit as a SARIF log of one run.

    Args:
        audit: the audit.
        origin: the file that describes the launch, relative to the repository.
    """
    ids = list(RULES)
    driver = {"name": "mrtd", "version": __version__, "rules": [_rule(RULES[id_]) for id_ in ids]}
    results = [_result(one, ids.index(one.rule), origin) for one in audit.findings]
    run = {"tool": {"driver": driver}, "results": results}
    return {"$schema": _SCHEMA, "version": "2.1.0", "runs": [run]}


def _rule(rule: Rule) -> dict[str, Any]:
    return {
        "id": rule.id,
        "shortDescription": {"text": rule.title},
        "fullDescription": {"text": rule.risk},
        "help": {"text": f"{rule.remedy} (source: {rule.source})"},
        "defaultConfiguration": {"level": _LEVELS[rule.level]},
    }


def _result(finding: Finding, index: int, origin: str) -> dict[str, Any]:
    rule = RULES[finding.rule]
    text = f"{finding.input}: {rule.title}: {finding.detail}. {rule.risk} {rule.remedy}"
    result: dict[str, Any] = {
        "ruleId": rule.id,
        "ruleIndex": index,
        "level": _LEVELS[rule.level],
        "message": {"text": text},
        "locations": [
            {
                "physicalLocation": {"artifactLocation": {"uri": origin}},
                "logicalLocations": [{"name": finding.input}],
            }
        ],
    }
    if finding.accepted is not None:
        result["suppressions"] = [{"kind": "external", "justification": finding.accepted}]
    return result
