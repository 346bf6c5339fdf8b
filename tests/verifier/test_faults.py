"""Faults of upstreams, clocks and networks: never a wrong admission, never an exception, and once
the fault is over nobody has to do anything.

GitHub, its host of bundles and the trust authority are servers on this machine. The clock is the
test's, so that breakers and pauses are over when the test says so.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, Literal

import pytest

from fixtures import reference
from fixtures.quotes import Td
from mrtd.verifier.fetch import Response
from mrtd.verifier.github import GitHubLookup
from mrtd.verifier.verdict import Reason, Verdict
from mrtd.verifier.verifier import Verifier
from tests.lab.github import GitHub
from tests.lab.identity import REPOSITORY, REPOSITORY_ID
from tests.lab.trust_authority import ISSUER, Fault, Recipe, Service
from tests.lab.web import Answer, How
from tests.lab.world import ONCE_EACH, World, claims_of, digest_asked

POLICY: Final = "[cache]\nsoft_seconds = 600\nhard_seconds = 10000\n"
JSON: Final = {"Content-Type": "application/json"}
HTML: Final = {"Content-Type": "text/html"}
FAULTS: Final = {
    "reset": Answer(how=How.RESET),
    "500": Answer(500, b"Server Error", HTML),
    "502": Answer(502, b"<html>Unicorn!</html>", HTML),
    "503": Answer(503, b"{}", JSON),
    "503 with Retry-After": Answer(503, b"{}", {**JSON, "Retry-After": "20"}),
    "429 with Retry-After": Answer(429, b"{}", {**JSON, "Retry-After": "60"}),
    "429 without": Answer(429, b"", {}),
    "429 until a date": Answer(429, b"", {"Retry-After": "Wed, 21 Oct 2026 07:28:00 GMT"}),
    "403 rate limited": Answer(
        403, b'{"message":"API rate limit exceeded"}', {**JSON, "x-ratelimit-remaining": "0"}
    ),
    "403 secondary": Answer(403, b'{"message":"You have exceeded a secondary rate limit"}', JSON),
    "401": Answer(401, b'{"message":"Bad credentials"}', JSON),
    "403": Answer(403, b'{"message":"Resource not accessible by integration"}', JSON),
    "301": Answer(301, b"", {"Location": "https://evil.example/"}),
    "204": Answer(204, b"", {}),
    "a page": Answer(200, b"<html>captive portal</html>", HTML),
    "nothing": Answer(200, b"", JSON),
    "null": Answer(200, b"null", JSON),
    "a list": Answer(200, b"[]", JSON),
    "half of an object": Answer(200, b'{"attestations": [', JSON),
    "two lists": Answer(200, b'{"attestations": [], "attestations": []}', JSON),
    "no list": Answer(200, b'{"message": "moved"}', JSON),
    "an entry without bundle": Answer(200, b'{"attestations": [{"bundle": null}]}', JSON),
    "deep nesting": Answer(200, b'{"attestations": ' + b"[" * 100_000, JSON),
    "gzip that is none": Answer(200, b"plain", {**JSON, "Content-Encoding": "gzip"}),
    "unknown encoding": Answer(200, b"{}", {**JSON, "Content-Encoding": "br"}),
    "wrong length": Answer(200, b'{"attestations": []}', {**JSON, "Content-Length": "9999"}),
    "negative length": Answer(200, b"{}", {**JSON, "Content-Length": "-1"}),
    "truncated": Answer(200, b'{"attestations": []}', JSON, How.TRUNCATED),
    "truncated chunks": Answer(200, b'{"attestations": []}', JSON, How.CHUNKED_TRUNCATED),
    "end unknown": Answer(200, b'{"attestations": []}', JSON, How.WITHOUT_LENGTH),
}
SLOW: Final = {
    "dripping head": Answer(how=How.DRIPPING_HEAD),
    "dripping body": Answer(how=How.DRIPPING_BODY),
}
OBJECTS: Final = (
    "half of an object", "two lists", "no list", "an entry without bundle", "deep nesting",
)  # fmt: skip
"""From the host of bundles these are bundles, and as such wrong."""
CASES: Final = [
    (host, name) for host in ("api", "blobs") for name in FAULTS if (host, name) not in
    {("blobs", name) for name in OBJECTS}
]  # fmt: skip
HOST = Literal["api", "blobs"]


@pytest.fixture(autouse=True)
def without_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Requests that failed are repeated at once."""
    defaults = GitHubLookup.__init__.__kwdefaults__
    assert defaults is not None
    monkeypatch.setitem(defaults, "sleep", lambda _: None)


class Real(World):
    """A world with GitHub as a server, and one release."""

    def __init__(self, github: GitHub, policy: str = POLICY) -> None:
        super().__init__(policy)
        self.server = github
        self.stored = github.add(self.mint(reference.document()))
        self.verifier = self.another()

    def another(self, **changes: Any) -> Verifier:
        fetch = self.server.fetch if hasattr(self, "server") else self.github
        return super().another(**{"fetch": fetch} | changes)

    def ask(self) -> Verdict:
        return self.verifier.verify_claims(claims_of())


@pytest.fixture
def github() -> Iterator[GitHub]:
    with GitHub(REPOSITORY, int(REPOSITORY_ID)) as server:
        yield server


def about(github: GitHub) -> Counter[str]:
    """How often the API was asked about each digest."""
    return Counter(digest_asked(request.path) for request in github.api.requests)


def recovered(world: Real) -> None:
    """Some time after the fault, everything is as if there had been none."""
    world.times.pass_by(3601)
    verdict = world.ask()
    assert (verdict.allowed, verdict.labels) == (True, ()), verdict.message


@pytest.mark.parametrize(("host", "fault"), CASES)
def test_a_fault_of_github_admits_no_stranger_and_passes(
    github: GitHub, fault: str, host: HOST
) -> None:
    world = Real(github)
    github.answer_always(host, FAULTS[fault])
    verdict = world.ask()
    assert (verdict.allowed, verdict.status) == (False, 503), verdict.message
    assert verdict.reason in {Reason.LOOKUP_UNAVAILABLE, Reason.LOOKUP_INCOMPLETE}
    github.answer_always(host, None)
    recovered(world)


@pytest.mark.parametrize(("host", "fault"), CASES)
def test_a_fault_of_github_keeps_nobody_out_who_is_known(
    github: GitHub, fault: str, host: HOST
) -> None:
    world = Real(github)
    assert world.ask().allowed
    github.answer_always(host, FAULTS[fault])
    world.times.pass_by(700)
    verdict = world.ask()
    assert (verdict.allowed, verdict.labels, verdict.age) == (True, ("stale",), 700)
    world.times.pass_by(9400)
    assert world.ask().status == 503  # but not for ever
    github.answer_always(host, None)
    recovered(world)


@pytest.mark.parametrize("fault", OBJECTS)
def test_something_else_instead_of_a_bundle_is_refused_until_it_is_there(
    github: GitHub, fault: str
) -> None:
    """Not a fault to be waited out: whoever may upload could cause it."""
    world = Real(github)
    assert world.ask().allowed
    github.answer_always("blobs", FAULTS[fault])
    world.times.pass_by(601)
    verdict = world.ask()
    assert verdict.status == 403
    assert verdict.reason in {Reason.BUNDLE_MALFORMED, Reason.BUNDLE_INVALID}
    github.answer_always("blobs", None)
    recovered(world)


@pytest.mark.parametrize("host", ["api", "blobs"])
@pytest.mark.parametrize("fault", SLOW)
def test_an_answer_that_drips_in_is_cut_off(github: GitHub, fault: str, host: HOST) -> None:
    world = Real(github, f"{POLICY}[lookup]\ntimeout_seconds = 1\ntotal_seconds = 1\n")
    github.answer_next(host, *[SLOW[fault]] * 3)
    verdict = world.ask()
    assert verdict.status == 503, verdict.message
    github._next[host].clear()
    recovered(world)


def test_a_server_that_is_not_there(github: GitHub) -> None:
    world = Real(github)
    ports = github.fetch._ports
    assert isinstance(ports, dict)
    kept = dict(ports)
    ports.clear()
    assert world.ask().status == 503
    ports.update(kept)
    recovered(world)


def test_a_pause_that_github_asks_for_is_kept(github: GitHub) -> None:
    world = Real(github)
    github.answer_always("api", FAULTS["429 with Retry-After"])
    first = world.ask()
    assert (first.status, first.retry_after) == (503, 61)
    github.answer_always("api", None)
    asked = len(github.api.requests)
    world.times.pass_by(59)
    again = world.ask()
    assert (again.status, again.retry_after) == (503, 2)
    assert len(github.api.requests) == asked
    world.times.pass_by(2)
    assert world.ask().allowed


def test_a_deleted_attestation_is_not_a_fault(github: GitHub) -> None:
    world = Real(github)
    assert world.ask().allowed
    github.remove(world.stored)
    world.times.pass_by(601)
    assert world.ask().status == 403


@pytest.mark.parametrize(
    "fault", ["truncated", "500", "429 with Retry-After", "a page", "gzip that is none"]
)
def test_a_revocation_that_cannot_be_read_admits_nobody_new(github: GitHub, fault: str) -> None:
    """Of two bundles one does not arrive: it might be the revocation, and here it is."""
    world = Real(github)
    registers = reference.launch()["registers"]
    digest = reference.launch_digest(*(registers[n]["value"] for n in ("mrtd", "rtmr1", "rtmr2")))
    github.add(world.mint(reference.revoking(reference.revocation("launch", digest))))
    normal, failing = github._answer_blob, FAULTS[fault]

    def second_fails(request: Any) -> Answer:
        return failing if request.path.endswith("/2.json.sn") else normal(request)

    github._answer_blob = second_fails  # type: ignore[method-assign]
    assert world.ask().status == 503
    github._answer_blob = normal  # type: ignore[method-assign]
    world.times.pass_by(3601)
    assert world.ask().reason is Reason.REVOKED


# --- clocks


@pytest.mark.parametrize("jump", [-3600.0, 3600.0, -86400.0 * 365, 86400.0 * 365])
def test_a_wall_clock_that_jumps_changes_nothing_of_what_is_kept(
    github: GitHub, jump: float
) -> None:
    """Lifetimes are of the steady clock: nothing is kept longer, nothing is lost."""
    world = Real(github)
    assert world.ask().allowed
    assert about(github) == ONCE_EACH
    world.times.wall += jump
    world.times.steady += 599
    assert world.ask().allowed
    assert about(github) == ONCE_EACH
    world.times.steady += 2
    assert world.ask().allowed
    assert about(github) == ONCE_EACH + ONCE_EACH


def test_with_a_clock_that_was_set_back_a_signature_is_of_the_future(github: GitHub) -> None:
    world = Real(github)
    right = world.times.wall
    world.times.wall -= 86400
    refused = world.ask()
    assert (refused.status, refused.reason) == (403, Reason.SIGNING_TIME)
    world.times.wall = right
    recovered(world)


@pytest.mark.parametrize("jump", [-1e9, 1e9, 1e11])
def test_a_pause_until_a_time_is_bounded_wherever_the_clock_jumps(
    github: GitHub, jump: float
) -> None:
    """``x-ratelimit-reset`` is a time of GitHub's clock."""
    world = Real(github)
    reset = str(int(world.times.wall + jump)) if jump > -1e9 else "5"
    limited = {**JSON, "x-ratelimit-remaining": "0", "x-ratelimit-reset": reset}
    github.answer_next("api", Answer(403, b"{}", limited))
    verdict = world.ask()
    assert verdict.status == 503
    assert verdict.retry_after is not None
    assert 1 <= verdict.retry_after <= 3601
    recovered(world)


def test_a_steady_clock_that_stands_still_is_survived(github: GitHub) -> None:
    """A machine that was suspended: nothing breaks, nothing is asked twice."""
    world = Real(github)
    verdicts = [world.ask() for _ in range(10)]
    assert all(verdict.allowed for verdict in verdicts)
    assert about(github) == ONCE_EACH


@pytest.mark.parametrize("wall", [0.0, -1e6, 4e9, 253402300799.0])
def test_an_absurd_wall_clock_is_no_exception(github: GitHub, wall: float) -> None:
    world = Real(github)
    right = world.times.wall
    world.times.wall = wall
    assert world.ask().status in {200, 403, 503}
    world.times.wall = right
    recovered(world)


# --- the trust authority


@pytest.fixture
def authority(tmp_path: Path) -> Iterator[Service]:
    with Service(tmp_path) as service:
        yield service


class Registering(World):
    """A world whose tokens are verified with keys of a server."""

    def __init__(self, service: Service) -> None:
        super().__init__(POLICY)
        self.service = service
        self.publish(reference.document())
        self.verifier = self.another(fetch=self.fetch)

    def fetch(self, url: str, **options: Any) -> Response:
        """`Fetch`: keys from the server, attestations from memory."""
        if url.startswith(ISSUER):
            return self.service.fetch(url, **options)
        return self.github(url, **options)

    def register(self) -> Verdict:
        registers = reference.launch()["registers"]
        names = ("mrtd", "rtmr0", "rtmr1", "rtmr2")
        td = {f"tdx_{name}": registers[name]["value"] for name in names}
        td["tdx_xfam"] = (0x61AE7).to_bytes(8, "little").hex()
        recipe = Recipe(now=int(self.times.wall), td=td)
        token = self.service.authority.token(Td().report10(), recipe)
        return self.verifier.verify_registration(token, binding="none")


@pytest.mark.parametrize("fault", Fault)
def test_a_fault_of_the_authority_admits_nobody_and_passes(
    authority: Service, fault: Fault
) -> None:
    world = Registering(authority)
    authority.fault = fault
    verdict = world.register()
    assert (verdict.status, verdict.reason) == (503, Reason.TOKEN_KEYS_UNAVAILABLE)
    authority.fault = None
    world.times.pass_by(601)
    assert world.register().allowed


@pytest.mark.parametrize("fault", Fault)
def test_a_fault_of_the_authority_keeps_nobody_out_while_its_keys_are_known(
    authority: Service, fault: Fault
) -> None:
    world = Registering(authority)
    assert world.register().allowed
    authority.fault = fault
    world.times.pass_by(world.policy.token.jwks_lifetime_seconds + 1)
    assert world.register().allowed
    world.times.pass_by(world.policy.token.jwks_hard_lifetime_seconds)
    assert world.register().reason is Reason.TOKEN_KEYS_UNAVAILABLE
    authority.fault = None
    world.times.pass_by(601)
    assert world.register().allowed


@pytest.mark.parametrize("drop", [False, True], ids=["old key stays", "old key is gone"])
def test_keys_that_rotate_in_the_middle(authority: Service, drop: bool) -> None:  # noqa: FBT001
    world = Registering(authority)
    assert world.register().allowed
    authority.authority.rotate(drop=drop)
    world.times.pass_by(world.policy.token.jwks_refresh_seconds + 1)
    assert world.register().allowed
    fetched = len(authority.server.requests)
    assert world.register().allowed
    assert len(authority.server.requests) == fetched


def test_keys_that_rotate_during_an_outage(authority: Service) -> None:
    """A token of a new key, which cannot be fetched: not known, rather than wrong."""
    world = Registering(authority)
    assert world.register().allowed
    authority.authority.rotate(drop=True)
    authority.fault = Fault.SERVER_ERROR
    world.times.pass_by(world.policy.token.jwks_refresh_seconds + 1)
    assert world.register().reason is Reason.TOKEN_KEYS_UNAVAILABLE
    authority.fault = None
    world.times.pass_by(world.policy.token.jwks_refresh_seconds + 1)
    assert world.register().allowed


@pytest.mark.parametrize("jump", [-86400.0, 86400.0])
def test_a_token_is_judged_by_the_wall_clock_and_recovers_with_it(
    authority: Service, jump: float
) -> None:
    world = Registering(authority)
    right = world.times.wall
    token_time = int(right)
    registers = reference.launch()["registers"]
    td = {f"tdx_{n}": registers[n]["value"] for n in ("mrtd", "rtmr0", "rtmr1", "rtmr2")}
    td["tdx_xfam"] = (0x61AE7).to_bytes(8, "little").hex()
    token = authority.authority.token(Td().report10(), Recipe(now=token_time, td=td))
    world.times.wall = right + jump
    assert world.verifier.verify_registration(token, binding="none").status == 401
    world.times.wall = right
    assert world.verifier.verify_registration(token, binding="none").allowed
    assert world.verifier.verify_registration(token, binding="none").reason is Reason.TOKEN_REPLAYED


def test_a_revocation_of_the_future_admits_nobody(github: GitHub) -> None:
    """A clock that was set back makes the newest document unreadable: it may be a revocation."""
    world = Real(github)
    assert world.ask().allowed
    registers = reference.launch()["registers"]
    digest = reference.launch_digest(*(registers[n]["value"] for n in ("mrtd", "rtmr1", "rtmr2")))
    github.add(world.mint(reference.revoking(reference.revocation("launch", digest))))
    right = world.times.wall
    world.times.wall -= 86400
    world.times.steady += 601
    assert world.ask().reason is Reason.SIGNING_TIME
    world.times.wall = right
    world.times.steady += 61
    assert world.ask().reason is Reason.REVOKED


def test_who_is_genuine_is_back_a_minute_after_the_clock_is_right(github: GitHub) -> None:
    world = Real(github)
    assert world.ask().allowed
    github.add(world.mint(reference.document(artifacts=[])))
    right = world.times.wall
    world.times.wall -= 86400
    world.times.steady += 601
    assert world.ask().reason is Reason.SIGNING_TIME
    world.times.wall = right
    world.times.steady += 61
    assert world.ask().allowed
