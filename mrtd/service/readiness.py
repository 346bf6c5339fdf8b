"""Whether the service can decide about VMs now, and what of that was looked at."""

from __future__ import annotations

import asyncio
import shutil
from typing import Final

import msgspec

from mrtd.service.service import Service

_PROBE_SECONDS: Final = 10.0  # what a probe found counts as long


class ReadyCheck(msgspec.Struct, frozen=True):
    """One question, and its answer for a person.

    Attributes:
        name: ``running``, ``trust_root`` or ``token_keys``.
        ok: whether VMs can be decided about, as far as this goes.
        detail: what was found.
    """

    name: str
    ok: bool
    detail: str


class ReadyBody(msgspec.Struct, frozen=True):
    """Body of ``/readyz``."""

    ready: bool
    checks: tuple[ReadyCheck, ...]


class Readiness:
    """Looks. GitHub is not looked at: what is cached, or a presented bundle, may do without."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._probing = asyncio.Lock()
        self._probed_at: float | None = None
        self._problem = ""

    async def look(self) -> ReadyBody:
        """Look at everything."""
        service = self._service
        running = ReadyCheck(
            "running", not service.draining, "stops" if service.draining else "takes requests"
        )
        checks = (running, self._trust_root(), await self._token_keys())
        return ReadyBody(all(one.ok for one in checks), checks)

    def _trust_root(self) -> ReadyCheck:
        root, policy = self._service.verifier.trust_root, self._service.policy
        if root is None:
            found = shutil.which("gh")
            text = "gh, for GitHub's private instance"
            return ReadyCheck("trust_root", found is not None, f"{text}: {found or 'missing'}")
        days = int((self._service.clock.wall() - root.dated.timestamp()) // 86400)
        old = ", which is old" if days > policy.trust_root.maximum_age_days else ""
        # an old one still decides; verdicts carry the label trust_root_old
        text = f"{root.source}, sha256 {root.sha256}, known to be current {days} days ago{old}"
        return ReadyCheck("trust_root", ok=True, detail=text)

    async def _token_keys(self) -> ReadyCheck:
        service, name = self._service, "token_keys"
        fetched, now = service.upstreams.keys_fetched_at, service.clock.steady()
        if fetched is not None:
            age = now - fetched
            if age < service.policy.token.jwks_hard_lifetime_seconds:
                return ReadyCheck(name, ok=True, detail=f"fetched {age:.0f} s ago")
        async with self._probing:
            now = service.clock.steady()
            if self._probed_at is None or now - self._probed_at >= _PROBE_SECONDS:
                # not asyncio's own threads: a service that stops would wait for them
                self._problem = await asyncio.get_running_loop().run_in_executor(
                    service.workers, service.upstreams.reach_keys
                )
                self._probed_at = service.clock.steady()
            problem = self._problem
        return ReadyCheck(name, not problem, problem or "reachable")
