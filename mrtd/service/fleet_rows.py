"""What the fleet's pages show, line by line: texts that are safe to show, and badges."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cache
from typing import Final
from urllib.parse import quote

import msgspec
from markupsafe import Markup

from mrtd.images.outcome import NotSigned, Refused, SignatureOutcome, Signed
from mrtd.images.status import Code, Colour, Deployment, ImageStatus
from mrtd.printable import printable
from mrtd.service.fleet import Agent
from mrtd.verifier.verdict import Outcome, Verdict

_LOG: Final = "https://search.sigstore.dev/?logIndex="
_UNITS: Final = ((86400, "d"), (3600, "h"), (60, "min"))
_WOULD: Final = "would_refuse_"  # a label of observe mode
_CLEAN: Final = ("stale",)
"""Labels of a verdict that are no reason to look twice."""
_OPTIONAL: Final = "images.toml lets this repository do without the workflow's signature"


class Badge(msgspec.Struct, frozen=True):
    """A colour, with the sign and the word that say the same.

    Attributes:
        html: all of it, for templates.
    """

    kind: str
    sign: str
    word: str

    @property
    def html(self) -> Markup:
        """The badge as HTML; made once."""
        return _badge(self)


@cache
def _badge(badge: Badge) -> Markup:
    html = '<span class="badge {}"><span class="sign" aria-hidden="true">{}</span>{}</span>'
    return Markup(html).format(  # noqa: S704 - ours; what is filled in is escaped
        badge.kind, badge.sign, badge.word
    )


BADGES: Final[Mapping[Colour | None, Badge]] = {
    Colour.GREEN: Badge("green", "✓", "green"),
    Colour.YELLOW: Badge("yellow", "!", "yellow"),
    Colour.RED: Badge("red", "✕", "red"),
    Colour.UNKNOWN: Badge("unknown", "?", "unknown"),
    None: Badge("none", "-", "nothing runs"),
}
CHECKED: Final = {
    Outcome.PASSED: Badge("green", "✓", "passed"),
    Outcome.FAILED: Badge("red", "✕", "failed"),
    Outcome.NOT_CHECKED: Badge("unknown", "?", "not checked"),
}
"""Outcomes of checks and proofs."""
ORDER: Final = {"red": 0, "unknown": 1, "yellow": 2, "green": 3, "none": 4}
"""By kind of badge: what needs somebody comes first."""
_ATTESTED: Final = Badge("green", "✓", "attested")
_LABELLED: Final = Badge("yellow", "!", "attested, see labels")
_OBSERVED: Final = Badge("red", "✕", "not attested")


class AgentRow(msgspec.Struct, frozen=True):
    """A line of ``/``."""

    agent_id: str
    href: str
    vm_name: str
    hostname: str
    measurement: Badge
    labels: str
    tag: str
    sequence: int | None
    tcb: str
    admitted: str
    admitted_at: str
    workloads: Badge
    counts: str
    seen: str
    problem: str


class Proof(msgspec.Struct, frozen=True):
    """One thing that was proved, or not, of an image."""

    badge: Badge
    text: str


class DeploymentRow(msgspec.Struct, frozen=True):
    """A line of ``/agent/{agent_id}``."""

    app_name: str
    image: str
    digest: str
    badge: Badge
    reason: str
    proofs: tuple[Proof, ...]
    note: str
    run: str
    log: str
    checked: str
    checked_at: str


def agent_row(agent: Agent, now: float) -> AgentRow:
    """What is shown of an agent in one line."""
    verdict, report = agent.verdict, agent.report
    release = verdict.release
    counts = Counter(s.colour for _, s in report.deployments) if report is not None else Counter()
    return AgentRow(
        agent_id=agent.agent_id,
        href=f"/agent/{quote(agent.agent_id, safe='')}",
        vm_name=printable(agent.vm_name),
        hostname=printable(agent.hostname),
        measurement=_measurement(verdict),
        labels=", ".join(verdict.labels),
        tag="" if release is None else release.tag,
        sequence=None if release is None else release.sequence,
        tcb=next((c.observed for c in verdict.checks if c.name == "tcb_status"), ""),
        admitted=_age(now - agent.admitted),
        admitted_at=instant(agent.admitted),
        workloads=BADGES[agent.colour(now)],
        counts=", ".join(f"{counts[colour]} {colour}" for colour in Colour if counts[colour]),
        seen=_seen(agent, now),
        problem=agent.problem,
    )


def _measurement(verdict: Verdict) -> Badge:
    if verdict.release is None or any(label.startswith(_WOULD) for label in verdict.labels):
        return _OBSERVED
    return _LABELLED if set(verdict.labels) - set(_CLEAN) else _ATTESTED


def _seen(agent: Agent, now: float) -> str:
    if agent.report is not None:
        return f"{_age(now - agent.report.at)} ago"
    return "not yet" if agent.health is not None else "never: it gave no address that it proved"


def deployment_row(
    deployment: Deployment, status: ImageStatus, now: float, server: str
) -> DeploymentRow:
    """What is shown of a deployment."""
    check = status.check
    proofs = () if check is None else (
        _proof("release key", check.key, server),
        _proof("release workflow", check.workflow, server),
    )  # fmt: skip
    checked = status.checked_at.timestamp()
    return DeploymentRow(
        app_name=printable(deployment.app_name),
        image=printable(deployment.image.removesuffix(f"@{deployment.image_digest}")),
        digest=printable(deployment.image_digest),
        badge=BADGES[status.colour],
        reason=status.reason,
        proofs=proofs,
        note=_OPTIONAL if status.code is Code.WORKFLOW_OPTIONAL else "",
        run="" if check is None else linked(check.run, server),
        log="" if check is None else log_link(check.log_index),
        checked=f"{_age(now - checked)} ago",
        checked_at=instant(checked),
    )


def _proof(what: str, outcome: SignatureOutcome, server: str) -> Proof:
    if isinstance(outcome, Signed):
        by = printable(outcome.by).removeprefix(f"{server}/")
        return Proof(CHECKED[Outcome.PASSED], f"signed by the {what}: {by}")
    why = printable(outcome.why)
    if isinstance(outcome, (Refused, NotSigned)):
        return Proof(CHECKED[Outcome.FAILED], f"not signed by the {what}: {why}")
    return Proof(
        CHECKED[Outcome.NOT_CHECKED], f"could not look for a signature of the {what}: {why}"
    )


def linked(url: str, server: str) -> str:
    """A URL of the server where the repositories are; empty for others, which are not linked."""
    same = url.startswith(f"{server}/") and server.startswith("https://")
    return url if same and url.isascii() and url.isprintable() else ""


def log_link(index: int | None) -> str:
    """Where the entry of the public log is shown; empty without one."""
    return "" if index is None else f"{_LOG}{index}"


def _age(seconds: float) -> str:
    for size, unit in _UNITS:
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return f"{max(seconds, 0):.0f} s"


def instant(seconds: float) -> str:
    """RFC 3339, UTC."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
