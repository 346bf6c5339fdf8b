"""The fleet as web pages: rendered here, complete without JavaScript, hostile texts as text.

``/`` lists the agents, ``/agent/{agent_id}`` one agent's deployments. The pages carry no secrets,
but they say what runs where: they are for who may see ``/metrics``. A few lines of JavaScript fetch
the page again now and then; the content security policy allows nothing else.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from importlib.resources import files
from typing import Final

from jinja2 import Environment, PackageLoader, StrictUndefined, Template
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from mrtd.printable import printable
from mrtd.service.fleet import SCRAPE_SECONDS, Agent, Fleet
from mrtd.service.fleet_rows import (
    BADGES,
    CHECKED,
    ORDER,
    agent_row,
    deployment_row,
    instant,
    linked,
    log_link,
)
from mrtd.service.service import Service
from mrtd.verifier.verdict import OK

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
_MISSING: Final = 404


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
        rows.sort(key=lambda row: ORDER[row.workloads.kind])
        found = Counter(row.workloads.kind for row in rows)
        summary = [(badge, found[badge.kind]) for badge in BADGES.values() if found[badge.kind]]
        return self._template("fleet.html").render(
            self._common, agents=rows, summary=summary, now=instant(now)
        )

    def render_agent(self, agent: Agent) -> str:
        """The page of one agent."""
        now = self._fleet.clock.wall()
        report = agent.report
        deployments = () if report is None else report.deployments
        server = self._service.policy.identity.server
        rows = [deployment_row(one, status, now, server) for one, status in deployments]
        rows.sort(key=lambda row: ORDER[row.badge.kind])
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
            outcomes=CHECKED,
            release=agent.verdict.release,
            attestation=attestation,
            run="" if attestation is None else linked(attestation.run, server),
            log="" if attestation is None else log_link(attestation.log_index),
            now=instant(now),
        )

    async def _page(self, render: Callable[[], str]) -> Response:
        # a thousand rows take as long as some hundred other requests
        loop = asyncio.get_running_loop()
        return _html(await loop.run_in_executor(self._service.workers, render))

    def _template(self, name: str) -> Template:
        return self._templates.get_template(name)


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
