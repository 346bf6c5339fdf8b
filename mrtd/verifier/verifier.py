"""The verifier: a token or quote in, a verdict out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from mrtd.verifier.attestations import Attestations, OpenBundle, Pool
from mrtd.verifier.binding import Binding, check_binding
from mrtd.verifier.cache import Flights, Interrupted, Workers
from mrtd.verifier.claims import TdClaims
from mrtd.verifier.clock import Clock
from mrtd.verifier.fetch import Fetch, HttpFetch
from mrtd.verifier.judgement import Judgement, judge
from mrtd.verifier.jwks import KeySource
from mrtd.verifier.kept import KeptVerdicts
from mrtd.verifier.ledger import Ledger
from mrtd.verifier.nonce import Nonces, TokenMemory
from mrtd.verifier.parts import folder_of, lookup_of, opener_of, root_of, store_of
from mrtd.verifier.policy import Policy
from mrtd.verifier.shared import BundleCache
from mrtd.verifier.store import Storage
from mrtd.verifier.td import check_td
from mrtd.verifier.token import CheckedToken, check_token
from mrtd.verifier.trust_root import TrustRoot
from mrtd.verifier.verdict import Check, Reason, Verdict, check, not_made
from mrtd.verifier.wording import broken_off, compose

if TYPE_CHECKING:
    from mrtd.evidence.collateral import Collateral

_Question = tuple[bytes | int | datetime | None, ...]


class _Evidence(NamedTuple):
    """A token (or quote) that was checked, and every check of it and of what binds it to us."""

    token: CheckedToken
    checks: tuple[Check, ...]


class Verifier:
    """Admits VMs whose measurements the release workflow attested. Thread-safe.

    Nothing is fetched, and nothing heavy is imported, before the first call.

    Args:
        policy: whom to trust, and what to demand.
        fetch: HTTP; requests by default.
        clock: where time comes from.
        github_token: for the lookup, which may be made anonymously only 60 times an hour.
        trust_root: of signatures; by default as the policy says.
        opener: verifies bundles; by default sigstore, or ``gh`` for a private repository.
        nonces: issued and consumed; give one to share it.
        storage: keeps bundles across restarts; by default the folder of the policy.
        shared: lists of bundles that replicas share; none by default.

    Attributes:
        counters: how often what happened since start, by name.

    Raises:
        PolicyError: a folder of the policy cannot be used.
        TrustRootError: the root of trust cannot be used.
    """

    def __init__(
        self,
        policy: Policy,
        *,
        fetch: Fetch | None = None,
        clock: Clock | None = None,
        github_token: str | None = None,
        trust_root: TrustRoot | None = None,
        opener: OpenBundle | None = None,
        nonces: Nonces | None = None,
        storage: Storage | None = None,
        shared: BundleCache | None = None,
    ) -> None:
        self.policy = policy
        self.clock = clock or Clock()
        self.nonces = nonces or Nonces(clock=self.clock)
        self.ledger = Ledger(policy.release)
        self.counters: Counter[str] = Counter()
        self.trust_root = trust_root
        if opener is None:
            self.trust_root = trust_root or root_of(policy)
            opener = opener_of(policy, self.trust_root)
        fetch = fetch or HttpFetch()
        self._keys = KeySource(policy.token, fetch, self.clock)
        self._tokens = TokenMemory(clock=self.clock)
        self._kept = KeptVerdicts(policy.cache.entries, self.ledger, self.clock)
        self._flights: Flights[_Question, Verdict] = Flights()
        self._workers = Workers()
        self.attestations = Attestations(
            policy,
            opener=opener,
            ask=lookup_of(policy, fetch, self.clock, github_token),
            folder=folder_of(policy),
            ledger=self.ledger,
            store=storage or store_of(policy),
            clock=self.clock,
            shared=shared,
        )

    def verify_registration(
        self,
        ita_token: str,
        *,
        binding: Binding,
        now: datetime | None = None,
        bundles: Iterable[bytes] = (),
    ) -> Verdict:
        """Whether to admit the VM that presents a token of Intel Trust Authority.

        Args:
            ita_token: the token.
            binding: what shows that the token was made for this registration: a nonce of ours with
                the agent's key, expected report data, or ``"none"``.
            now: the time, with its zone, for token and signatures; the clock's by default.
            bundles: Sigstore bundles that the agent presents.
        """
        moment = self._moment(now)
        evidence = self._check_token(ita_token, binding, moment)
        return self._concluded(evidence, binding, now, bundles)

    def verify_quote(
        self,
        quote: bytes,
        collateral: Collateral,
        *,
        binding: Binding,
        now: datetime | None = None,
        bundles: Iterable[bytes] = (),
        root_ca: bytes | None = None,
    ) -> Verdict:
        """Whether to admit the VM of a raw quote, verified with DCAP (extra ``mrtd[dcap]``).

        Args:
            quote: the quote.
            collateral: for its platform.
            binding: see `verify_registration`; a proof is over the quote.
            now: ditto.
            bundles: ditto.
            root_ca: certificate in DER to trust instead of Intel's root: for tests.
        """
        moment = self._moment(now)
        evidence = self._check_quote(quote, collateral, binding, moment, root_ca)
        return self._concluded(evidence, binding, now, bundles)

    def verify_claims(
        self, claims: TdClaims, *, now: datetime | None = None, bundles: Iterable[bytes] = ()
    ) -> Verdict:
        """Whether to admit a TD whose token, and what binds it, the caller has checked."""
        about = claims.key
        if now is None and (verdict := self._held(about)) is not None:
            return verdict
        presented = tuple(bundles)
        key: _Question = (about, self.ledger.generation, now, *presented)
        future, mine = self._flights.join(key)
        if mine:
            self._flights.land(key, lambda: self._decide(claims, presented, now))
        try:
            return future.result()
        except Interrupted as error:
            return self._broken(error)

    async def averify_registration(
        self,
        ita_token: str,
        *,
        binding: Binding,
        now: datetime | None = None,
        bundles: Iterable[bytes] = (),
    ) -> Verdict:
        """`verify_registration` without blocking the event loop."""
        import asyncio  # noqa: PLC0415 - not every control plane has it

        moment = self._moment(now)
        # threads of their own: a GitHub that hangs shall not keep those out whose answer is kept
        evidence = await asyncio.get_running_loop().run_in_executor(
            self._workers.named("tokens"), self._check_token, ita_token, binding, moment
        )
        return await self._aconcluded(evidence, binding, now, bundles)

    async def averify_quote(
        self,
        quote: bytes,
        collateral: Collateral,
        *,
        binding: Binding,
        now: datetime | None = None,
        bundles: Iterable[bytes] = (),
        root_ca: bytes | None = None,
    ) -> Verdict:
        """`verify_quote` without blocking the event loop."""
        import asyncio  # noqa: PLC0415 - not every control plane has it

        moment = self._moment(now)
        evidence = await asyncio.get_running_loop().run_in_executor(
            self._workers.named("tokens"),
            partial(self._check_quote, quote, collateral, binding, moment, root_ca),
        )
        return await self._aconcluded(evidence, binding, now, bundles)

    async def averify_claims(
        self, claims: TdClaims, *, now: datetime | None = None, bundles: Iterable[bytes] = ()
    ) -> Verdict:
        """`verify_claims` without blocking the event loop; who waits for others holds no thread."""
        import asyncio  # noqa: PLC0415 - not every control plane has it

        about = claims.key
        if now is None and (verdict := self._held(about)) is not None:
            return verdict
        presented = tuple(bundles)
        key: _Question = (about, self.ledger.generation, now, *presented)
        future, mine = self._flights.join(key)
        if mine:
            self._submit(key, lambda: self._decide(claims, presented, now))
        try:
            # shielded: the answer is for everybody, also when one of them hangs up
            return await asyncio.shield(asyncio.wrap_future(future))
        except Interrupted as error:
            return self._broken(error)

    def learn(self, bundle: bytes, *, now: datetime | None = None) -> tuple[Check, ...]:
        """Take note of the bundle of a release: its sequence, and what it revokes.

        A control plane that is told of each release refuses older ones at once, not only after it
        has seen a VM of the new one. What was checked comes back; nothing is learned unless all of
        it is passed.
        """
        return self.attestations.learn(bundle, self._moment(now)).checks

    def close(self) -> None:
        """End the worker threads; calls under way are finished."""
        self._workers.close()

    def _check_token(self, token: str, binding: Binding, now: datetime) -> _Evidence:
        checked = check_token(token, keys=self._keys, policy=self.policy.token, now=now.timestamp())
        # str(): what is no text has been refused, and shall not raise here
        return self._check_binding(checked, binding, str(token).encode("utf-8", "replace"))

    def _check_quote(
        self,
        quote: bytes,
        collateral: Collateral,
        binding: Binding,
        now: datetime,
        root_ca: bytes | None,
    ) -> _Evidence:
        from mrtd.verifier.quote import check_quote  # noqa: PLC0415 - an extra

        checked = check_quote(quote, collateral, policy=self.policy, now=now, root_ca=root_ca)
        return self._check_binding(checked, binding, quote)

    def _check_binding(self, checked: CheckedToken, binding: Binding, evidence: bytes) -> _Evidence:
        """The checks of a token (or quote), and if they are passed, of what binds it to us."""
        if checked.claims is None or not all(c.ok for c in checked.checks):
            left_out = not_made("binding", "the evidence was refused")
            return _Evidence(checked, (*checked.checks, left_out))
        bound = check_binding(
            binding,
            report_data=checked.claims.report.report_data,
            evidence=evidence,
            runtime_data=checked.runtime_data,
            verifier_nonce=checked.verifier_nonce,
            nonces=self.nonces,
        )
        return _Evidence(checked, (*checked.checks, *bound))

    def _concluded(
        self,
        evidence: _Evidence,
        binding: Binding,
        now: datetime | None,
        bundles: Iterable[bytes],
    ) -> Verdict:
        claims = evidence.token.claims
        if claims is None or not all(c.ok for c in evidence.checks):
            return self._refuse(evidence.checks, claims)
        verdict = self.verify_claims(claims, now=now, bundles=bundles)
        return self._registered(verdict, evidence, binding)

    async def _aconcluded(
        self,
        evidence: _Evidence,
        binding: Binding,
        now: datetime | None,
        bundles: Iterable[bytes],
    ) -> Verdict:
        claims = evidence.token.claims
        if claims is None or not all(c.ok for c in evidence.checks):
            return self._refuse(evidence.checks, claims)
        verdict = await self.averify_claims(claims, now=now, bundles=bundles)
        return self._registered(verdict, evidence, binding)

    def _decide(
        self, claims: TdClaims, presented: tuple[bytes, ...], now: datetime | None
    ) -> Verdict:
        """The answer for claims of which none is kept. Never raises."""
        try:
            return self._appraise(claims, presented, now)
        except Exception as error:  # noqa: BLE001 - whatever it is, it admits nobody
            return self._broken(error)

    def _broken(self, error: Exception) -> Verdict:
        self.counters["internal_errors"] += 1
        return compose((broken_off(error),), self.policy)

    def _held(self, key: bytes) -> Verdict | None:
        if (verdict := self._kept.get(key)) is not None:
            self.counters["cache_hits"] += 1
        return verdict

    def _appraise(
        self, claims: TdClaims, presented: tuple[bytes, ...], asked_for: datetime | None
    ) -> Verdict:
        now, checks = self._moment(asked_for), check_td(claims, self.policy)
        if not all(c.ok for c in checks):
            return self._refuse(checks, None)
        pool = self.attestations.find(claims, presented, now)
        generation = self.ledger.generation  # what was found has been learned by now
        judgement = judge(pool.candidates, claims, self.policy, self.ledger, now)
        age = max(0, int(self.clock.steady() - pool.at))
        verdict = compose(
            (*checks, pool.lookup, *judgement.checks, *pool.dated_ahead),
            self.policy,
            labels=(*pool.labels, *self._old_root(now)),
            judgement=judgement,
            age=age,
            retry_after=pool.retry_after,
        )
        # in observe mode others are admitted, too: what may be attested soon is not kept; nor what
        # was asked about another time than now
        if pool.lasting and asked_for is None and all(c.ok for c in verdict.checks):
            until = self._holds_until(pool, judgement, now)
            self._kept.put(claims.key, verdict, generation=generation, until=until)
        return verdict

    def _holds_until(self, pool: Pool, judgement: Judgement, now: datetime) -> float:
        """Until the lists are due to be read again, or the signature is too old."""
        until = pool.at + self.policy.cache.soft_seconds
        limit, attestation = self.policy.release.maximum_age_seconds, judgement.attestation
        if limit is not None and attestation is not None:
            rest = attestation.signed_at.timestamp() + limit - now.timestamp()
            until = min(until, self.clock.steady() + rest)
        return until

    def _refuse(self, before: tuple[Check, ...], claims: TdClaims | None) -> Verdict:
        """A refusal before anything was looked up: strangers shall not spend the budget."""
        checks = before if claims is None else (*before, *check_td(claims, self.policy))
        if all(c.ok for c in checks):
            return self._broken(RuntimeError())  # nobody is admitted unasked
        self.counters["refused_early"] += 1
        left_out = not_made("attestation", "refused before")
        return compose((*checks, left_out), self.policy, early=True)

    def _registered(self, verdict: Verdict, evidence: _Evidence, binding: Binding) -> Verdict:
        """The verdict about claims, with what was checked of the token; an admission uses it up."""
        token, checks = evidence
        if verdict.allowed and token.token_id:
            fault = self._tokens.use(token.token_id, token.expires)
            checks = (
                *checks,
                check(
                    "token_used_once",
                    fault or Reason.TOKEN_REPLAYED,
                    ok=fault is None,
                    expected="never admitted before",
                    observed="new" if fault is None else "seen, or no room to remember it",
                    source="token",
                ),
            )
        labels = {"binding_none"} if binding == "none" else set()
        self.counters["registrations"] += 1
        return compose(
            (*checks, *verdict.checks), self.policy, labels=tuple(labels), based_on=verdict
        )

    def _moment(self, now: datetime | None) -> datetime:
        wall = self.clock.wall()
        return datetime.fromtimestamp(wall, UTC) if now is None else now.astimezone(UTC)

    def _old_root(self, now: datetime) -> tuple[str, ...]:
        if self.trust_root is None:
            return ()
        old = (now - self.trust_root.dated).days > self.policy.trust_root.maximum_age_days
        return ("trust_root_old",) if old else ()

    def _submit(self, key: _Question, work: Callable[[], Verdict]) -> None:
        """Have a worker answer a question; where there is none any more, the answer says so."""
        try:
            self._workers.named("lookups").submit(self._flights.land, key, work)
        except RuntimeError as error:  # closed just now, out of threads, or the process ends
            broken = error
            self._flights.land(key, lambda: self._broken(broken))
