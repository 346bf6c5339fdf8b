"""The fleet as the control plane sees it: who was admitted, and what each agent runs now.

Agents are kept by their public key. Threads ask each for its ``/health`` now and then, at the
address that its proof of possession covers, and work out the status of what it runs.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime
from typing import Final, Protocol

import msgspec

from mrtd.errors import MalformedDocument, MrtdError
from mrtd.images.health import Health, read_health
from mrtd.images.status import Code, Colour, Deployment, ImageStatus
from mrtd.printable import printable
from mrtd.service.agent_fetch import AskAgent
from mrtd.verifier.clock import Clock
from mrtd.verifier.verdict import Verdict

SCRAPE_SECONDS: Final = 30.0
"""How often an agent is asked."""
STALE_SECONDS: Final = 300.0
"""A report that is older says nothing any more about what runs."""
FORGET_SECONDS: Final = 86400.0
"""An agent that has not answered for so long is left out; it registers again when it starts."""
AGENTS: Final = 10_000
DEPLOYMENTS: Final = 100_000
"""Of all agents together; each may name a thousand, of up to 5 KiB in memory."""
_WORKERS: Final = 8  # agents that are asked at a time
_SHOWN: Final = 300
_WORST: Final = (Colour.RED, Colour.UNKNOWN, Colour.YELLOW, Colour.GREEN)


class StatusOf(Protocol):
    """Works out what is known of deployments; see `mrtd.workloads.statuses.Statuses`."""

    def of(self, deployments: Iterable[Deployment]) -> tuple[ImageStatus, ...]:
        """The status of each. Never raises."""


class Report(msgspec.Struct, frozen=True):
    """What an agent last said.

    Attributes:
        at: when, Unix time.
        deployments: what it runs, and the status that was worked out here.
    """

    at: float
    deployments: tuple[tuple[Deployment, ImageStatus], ...]


class Agent(msgspec.Struct, frozen=True, kw_only=True):
    """An agent of the fleet.

    Attributes:
        agent_id: its id, given by the admission.
        vm_name: its name, its own choice.
        hostname: given by the admission.
        key: SHA-256 of its public key, hex; empty if it was admitted without one.
        health: where its ``/health`` is; None: it did not say, or nothing binds it.
        admitted: when, Unix time.
        verdict: the verdict by which it was admitted.
        report: what it last said; None for nothing yet.
        problem: why it could not be asked lately; empty if it could.
    """

    agent_id: str
    vm_name: str
    hostname: str
    key: str
    health: str | None
    admitted: float
    verdict: Verdict
    report: Report | None = None
    problem: str = ""

    def stale(self, now: float) -> bool:
        """Whether what it last said is too old to count."""
        return self.report is None or now - self.report.at > STALE_SECONDS

    def colour(self, now: float) -> Colour | None:
        """The worst of its deployments; None for an agent that runs nothing."""
        if self.report is None or self.stale(now):
            return Colour.UNKNOWN
        found = {status.colour for _, status in self.report.deployments}
        return next((colour for colour in _WORST if colour in found), None)


class Unconfigured:
    """`StatusOf` of a control plane without an ``images.toml``: nothing is known."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def of(self, deployments: Iterable[Deployment]) -> tuple[ImageStatus, ...]:
        """Unknown, each."""
        now = datetime.fromtimestamp(self._clock.wall(), UTC)
        text = "not checked: this control plane was given no images.toml (serve --images)"
        unknown = ImageStatus(code=Code.NOT_CHECKED, reason=text, checked_at=now)
        return tuple(unknown for _ in deployments)


class Fleet:
    """All agents. Thread-safe.

    Args:
        ask: fetches an agent's ``/health``.
        statuses: works out the status of deployments.
        clock: of the control plane.
        agents: most that are kept; beyond, the one that was admitted first goes.
        deployments: most that are kept of all agents; a report beyond is none.
    """

    def __init__(
        self,
        ask: AskAgent,
        statuses: StatusOf | None = None,
        *,
        clock: Clock | None = None,
        agents: int = AGENTS,
        deployments: int = DEPLOYMENTS,
    ) -> None:
        self.clock = clock or Clock()
        self._ask, self._statuses = ask, statuses or Unconfigured(self.clock)
        self._limit, self._room = agents, deployments
        self._agents: dict[str, Agent] = {}
        self._due: dict[str, float] = {}
        self._asking: set[str] = set()
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._threads: ThreadPoolExecutor | None = None

    def admit(
        self,
        agent_id: str,
        *,
        vm_name: str,
        hostname: str,
        public_key: bytes,
        health: str | None,
        verdict: Verdict,
    ) -> None:
        """Take in an agent that was admitted; one with the same key takes the place of the old."""
        agent = Agent(
            agent_id=agent_id,
            vm_name=vm_name,
            hostname=hostname,
            key=hashlib.sha256(public_key).hexdigest() if public_key else "",
            health=health if public_key else None,
            admitted=self.clock.wall(),
            verdict=verdict,
        )
        with self._lock:
            for old in [a for a in self._agents.values() if a.key and a.key == agent.key]:
                self._drop(old.agent_id)
            self._agents[agent_id] = agent
            if agent.health is not None:
                self._due[agent_id] = self.clock.steady()
            while len(self._agents) > self._limit:
                self._drop(next(iter(self._agents)))

    def agents(self) -> list[Agent]:
        """All agents, by name."""
        with self._lock:
            found = list(self._agents.values())
        return sorted(found, key=lambda agent: (agent.vm_name, agent.agent_id))

    def agent(self, agent_id: str) -> Agent | None:
        """An agent by its id."""
        with self._lock:
            return self._agents.get(agent_id)

    def start(self) -> None:
        """Ask agents from now on, in threads of its own."""
        with self._lock:
            if self._threads is not None:
                return
            self._threads = ThreadPoolExecutor(_WORKERS, thread_name_prefix="mrtd-fleet")
        threading.Thread(target=self._watch, name="mrtd-fleet-watch", daemon=True).start()

    def close(self) -> None:
        """Ask nobody any more; waits for those that are being asked."""
        self._stop.set()
        if self._threads is not None:
            self._threads.shutdown(cancel_futures=True)

    def take_due(self) -> list[str]:
        """Ids of agents to ask now; each is taken by one caller, who then calls `look`."""
        now = self.clock.steady()
        with self._lock:
            found = [i for i, at in self._due.items() if at <= now and i not in self._asking]
            self._asking.update(found)
        return found

    def look(self, agent_id: str) -> None:
        """Ask an agent, and keep what came of it. Never raises."""
        agent = self.agent(agent_id)
        try:
            if agent is not None and agent.health is not None and not self._stop.is_set():
                self._keep(agent_id, *self._asked(agent, agent.health))
        finally:
            with self._lock:
                self._asking.discard(agent_id)
                if agent_id in self._due:
                    self._due[agent_id] = self.clock.steady() + SCRAPE_SECONDS

    def _asked(self, agent: Agent, health: str) -> tuple[Report | None, str]:
        try:
            said = read_health(self._ask(health), origin="/health")
            _demand_own(said, agent)
            found = tuple(zip(said.deployments, self._statuses.of(said.deployments), strict=True))
            return Report(self.clock.wall(), found), ""
        except MrtdError as error:
            return None, printable(error.message)[:_SHOWN]
        except Exception as error:  # noqa: BLE001 - a thread tells nobody else
            return None, f"an error of ours: {type(error).__name__}"

    def _keep(self, agent_id: str, report: Report | None, problem: str) -> None:
        with self._lock:
            if (agent := self._agents.get(agent_id)) is None:
                return
            if report is not None and _size(report) > self._room + _size(agent.report):
                report, problem = None, "all agents together report more than is kept"
            last = agent.admitted if agent.report is None else agent.report.at
            if report is None and self.clock.wall() - last > FORGET_SECONDS:
                self._drop(agent_id)
                return
            kept = report or agent.report
            self._room += _size(agent.report) - _size(kept)
            self._agents[agent_id] = msgspec.structs.replace(agent, problem=problem, report=kept)

    def _drop(self, agent_id: str) -> None:
        if (agent := self._agents.pop(agent_id, None)) is not None:
            self._room += _size(agent.report)
        self._due.pop(agent_id, None)

    def _watch(self) -> None:
        threads = self._threads
        while threads is not None and not self._stop.wait(1.0):
            for agent_id in self.take_due():
                with suppress(RuntimeError):  # shut down meanwhile
                    threads.submit(self.look, agent_id)
                    continue
                return


def _size(report: Report | None) -> int:
    """Deployments of a report."""
    return 0 if report is None else len(report.deployments)


def _demand_own(said: Health, agent: Agent) -> None:
    """An agent that knows its id answers with it."""
    if said.agent_id not in {None, agent.agent_id}:
        raise MalformedDocument("is another agent's", origin="/health", field="agent_id")
