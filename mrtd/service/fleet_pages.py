"""The fleet as web pages: rendered here, complete without JavaScript, hostile texts as text.

``/`` lists the agents, ``/agent/{agent_id}`` one agent's deployments. The pages carry no secrets,
but they say what runs where: they are for who may see ``/metrics``. A few lines of JavaScript fetch
the page again now and then; the content security policy allows nothing else.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from functools import cache
from importlib.resources import files
from typing import Final
from urllib.parse import quote, urlsplit

import msgspec
from jinja2 import Environment, PackageLoader, StrictUndefined, Template
from markupsafe import Markup
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from mrtd.images.outcome import NotSigned, Refused, SignatureOutcome, Signed
from mrtd.images.status import Colour, Deployment, ImageStatus
from mrtd.printable import printable
from mrtd.service.fleet import SCRAPE_SECONDS, Agent, Fleet
from mrtd.service.service import Service
from mrtd.verifier.verdict import OK, Attestation, Outcome, Verdict

SECURITY_HEADERS: Final = {
    "content-security-policy": "default-src 'none'; style-src 'self'; script-src 'self'; "
    "connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-frame-options": "DENY",
}
STATIC: Final = {
    "fleet.css": "text/css; charset=utf-8",
    "fleet.js": "text/javascript; charset=utf-8",
}
"""Files beside the pages, and their types."""
_LOG: Final = "https://search.sigstore.dev/?logIndex="
_UNITS: Final = ((86400, "d"), (3600, "h"), (60, "min"))
_MISSING: Final = 404
_WOULD: Final = "would_refuse_"  # a label of observe mode
_CLEAN: Final = ("stale",)
"""Labels of a verdict that are no reason to look twice."""


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
_ORDER: Final = {"red": 0, "unknown": 1, "yellow": 2, "green": 3, "none": 4}
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
    run: str
    log: str
    checked: str
    checked_at: str


class FleetPages:
    """The routes.

    Args:
        service: with the policy.
        fleet: what is shown.
        owner: of the fleet.
        environment: its label.
    """

    def __init__(
        self, service: Service, fleet: Fleet, *, owner: str = "", environment: str = ""
    ) -> None:
        self._service, self._fleet = service, fleet
        self._templates = _environment()
        name = " / ".join(printable(part) for part in (owner, environment) if part)
        self._common = {
            "fleet_name": name,
            "refresh_seconds": int(SCRAPE_SECONDS),
            "badges": {badge.kind: badge for badge in BADGES.values()},
        }

    @property
    def routes(self) -> tuple[Route, ...]:
        """The endpoints."""
        return (
            Route("/", self.agents),
            Route("/agent/{agent_id}", self.agent),
            *(Route(f"/static/{name}", _static(name, kind)) for name, kind in STATIC.items()),
        )

    async def agents(self, _: Request) -> Response:
        """All agents."""
        return await self._page(self.render_agents)

    async def agent(self, request: Request) -> Response:
        """One agent."""
        agent = self._fleet.agent(request.path_params["agent_id"])
        if agent is None:
            return _html(self._template("missing.html").render(self._common), _MISSING)
        return await self._page(lambda: self.render_agent(agent))

    def render_agents(self) -> str:
        """The page of all agents."""
        now = self._fleet.clock.wall()
        rows = [agent_row(agent, now) for agent in self._fleet.agents()]
        rows.sort(key=lambda row: _ORDER[row.workloads.kind])  # what needs somebody comes first
        found = Counter(row.workloads.kind for row in rows)
        summary = [(badge, found[badge.kind]) for badge in BADGES.values() if found[badge.kind]]
        return self._template("fleet.html").render(
            self._common, agents=rows, summary=summary, now=_instant(now)
        )

    def render_agent(self, agent: Agent) -> str:
        """The page of one agent."""
        now = self._fleet.clock.wall()
        report = agent.report
        deployments = () if report is None else report.deployments
        server = self._service.policy.identity.server
        rows = [_deployment_row(one, status, now, server) for one, status in deployments]
        rows.sort(key=lambda row: _ORDER[row.badge.kind])
        attestation = agent.verdict.attestation
        return self._template("agent.html").render(
            self._common,
            agent=agent_row(agent, now),
            deployments=rows,
            stale=agent.stale(now),
            reported=report is not None,
            health=agent.health,
            key=agent.key,
            message=printable(agent.verdict.message),
            checks=[check for check in agent.verdict.checks if check.expected or check.observed],
            outcomes=_CHECKED,
            release=agent.verdict.release,
            attestation=attestation,
            run=_run_link(attestation, server),
            log="" if attestation is None else _log_link(attestation.log_index),
            now=_instant(now),
        )

    async def _page(self, render: Callable[[], str]) -> Response:
        # a thousand rows take as long as some hundred other requests
        loop = asyncio.get_running_loop()
        return _html(await loop.run_in_executor(self._service.workers, render))

    def _template(self, name: str) -> Template:
        return self._templates.get_template(name)


_CHECKED: Final = {
    Outcome.PASSED: Badge("green", "✓", "passed"),
    Outcome.FAILED: Badge("red", "✕", "failed"),
    Outcome.NOT_CHECKED: Badge("unknown", "?", "not checked"),
}


def _environment() -> Environment:
    return Environment(
        loader=PackageLoader("mrtd.service"),
        autoescape=True,
        auto_reload=False,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )


def _static(name: str, kind: str) -> Callable[[Request], Awaitable[Response]]:
    data = files("mrtd.service").joinpath("static", name).read_bytes()

    async def answer(_: Request) -> Response:
        return Response(data, headers={**SECURITY_HEADERS, "content-type": kind})

    return answer


def _html(text: str, status: int = OK) -> Response:
    return Response(text, status, SECURITY_HEADERS, "text/html")


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
        admitted_at=_instant(agent.admitted),
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


def _deployment_row(
    deployment: Deployment, status: ImageStatus, now: float, server: str
) -> DeploymentRow:
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
        run="" if check is None else linked(check.run, server),
        log="" if check is None else _log_link(check.log_index),
        checked=f"{_age(now - checked)} ago",
        checked_at=_instant(checked),
    )


def _proof(what: str, outcome: SignatureOutcome, server: str) -> Proof:
    if isinstance(outcome, Signed):
        by = printable(outcome.by).removeprefix(f"{server}/")
        return Proof(_CHECKED[Outcome.PASSED], f"signed by the {what}: {by}")
    why = printable(outcome.why)
    if isinstance(outcome, (Refused, NotSigned)):
        return Proof(_CHECKED[Outcome.FAILED], f"not signed by the {what}: {why}")
    return Proof(
        _CHECKED[Outcome.NOT_CHECKED], f"could not look for a signature of the {what}: {why}"
    )


def _run_link(attestation: Attestation | None, server: str) -> str:
    return "" if attestation is None else linked(attestation.run, server)


def linked(url: str, server: str) -> str:
    """A URL of the server where the repositories are; others are not linked."""
    same = urlsplit(url)[:2] == urlsplit(server)[:2] and url.startswith("https://")
    return url if same and url.isascii() and url.isprintable() else ""


def _log_link(index: int | None) -> str:
    return "" if index is None else f"{_LOG}{index}"


def _age(seconds: float) -> str:
    for size, unit in _UNITS:
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return f"{max(seconds, 0):.0f} s"


def _instant(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
