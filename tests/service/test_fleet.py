"""The fleet: who is in it, who is asked and when, and what the pages say of it."""

from __future__ import annotations

import asyncio
import ipaddress
import json
import re
import threading
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mrtd.errors import TransportError
from mrtd.images.health import COUNT_LIMIT, SIZE_LIMIT
from mrtd.images.reference import ImageReference
from mrtd.images.settings import ImageSource
from mrtd.images.status import Colour, Deployment, ImageCheck
from mrtd.service.agent_fetch import AgentFetch
from mrtd.service.fleet import (
    AGENTS,
    DEPLOYMENTS,
    FORGET_SECONDS,
    SCRAPE_SECONDS,
    STALE_SECONDS,
    Fleet,
)
from mrtd.service.fleet import Agent as Known
from mrtd.service.fleet_pages import SECURITY_HEADERS
from mrtd.service.fleet_rows import linked
from mrtd.verifier.registration import register_context
from mrtd.workloads.statuses import CHECKS, Statuses
from tests.lab.agents import OURS, RUNS, Checker, MadeFleet, digest, health, verdict
from tests.lab.agents import settings as image_settings
from tests.lab.web import Answer, Server
from tests.lab.world import NOW, Times
from tests.processes import wait_for
from tests.service.fleet import Agent, Json, closing
from tests.service.fleet import Fleet as Lab

HOSTILE: Final = "<script>alert(1)</script>\"'&\x1b[31m\u202egnp.exe{{7*7}}"
HEALTH: Final = "https://vm-1.example:8443"


def made() -> tuple[MadeFleet, Times]:
    times = Times(NOW)
    return MadeFleet(times.clock), times


def known(fleet: Fleet, agent_id: str) -> Known:
    found = fleet.agent(agent_id)
    assert found is not None
    return found


class Text(HTMLParser):
    """The page's texts, tags and links."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.texts: list[str] = []
        self.tags: list[str] = []
        self.links: list[str] = []
        self.feed(page)
        self.close()

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.links += [value or "" for name, value in attrs if name in {"href", "src"}]
        assert not [name for name, _ in attrs if name.startswith("on") or name == "style"]

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())


def page(fleet: MadeFleet, path: str = "/", status: int = 200) -> Text:
    """A page, as a browser gets it."""
    return Text(raw_page(fleet, path, status))


def raw_page(fleet: MadeFleet, path: str = "/", status: int = 200) -> str:
    found: list[str] = []

    async def work() -> None:
        async with closing(Lab(kind="reference", fleet=fleet.fleet, owner="dd")) as lab:
            got = await lab.get(path)
            assert got.status == status
            assert got.headers["content-type"] == "text/html; charset=utf-8"
            assert got.headers["cache-control"] == "no-store"
            assert got.headers["x-content-type-options"] == "nosniff"
            assert SECURITY_HEADERS.items() <= got.headers.items()
            found.append(got.body.decode())

    asyncio.run(work())
    return found[0]


# registration


def registration(lab: Lab, agent: Agent, nonce: str, address: str | None) -> Json:
    context = register_context("vm-1", (), health=address)
    body = lab.verification(agent, nonce, context=context)
    bound = {key: body["binding"][key] for key in ("nonce", "public_key", "proof")}
    more = {} if address is None else {"health": address}
    return {"vm_name": "vm-1", "ita_token": body["ita_token"], **bound, **more}


def register(lab_options: Json, work: Any) -> None:
    async def inside() -> None:
        lab = Lab(kind="reference", **lab_options)
        lab.publish()
        async with closing(lab):
            nonce = (await lab.get("/register/nonce")).json["nonce"]
            await work(lab, nonce)

    asyncio.run(inside())


def test_an_agent_that_is_admitted_is_seen_with_what_was_attested() -> None:
    fleet, _ = made()

    async def work(lab: Lab, nonce: str) -> None:
        got = await lab.post("/register", registration(lab, Agent(), nonce, HEALTH))
        assert got.status == 200, got.json
        agent = known(fleet.fleet, got.json["agent_id"])
        assert (agent.vm_name, agent.health) == ("vm-1", HEALTH)
        assert agent.verdict.release is not None
        text = Text((await lab.get("/")).body.decode()).text
        assert "vm-1" in text
        assert agent.verdict.release.tag in text
        assert f"sequence {agent.verdict.release.sequence}" in text
        assert "UpToDate" in text

    register({"fleet": fleet.fleet}, work)


@pytest.mark.parametrize(
    ("signed", "sent"),
    [(HEALTH, "https://evil.example"), (None, "https://evil.example"), (HEALTH, None)],
    ids=["changed", "added", "removed"],
)
def test_nobody_on_the_way_can_say_where_an_agent_is(signed: str | None, sent: str | None) -> None:
    fleet, _ = made()

    async def work(lab: Lab, nonce: str) -> None:
        body = registration(lab, Agent(), nonce, signed)
        body.pop("health", None)
        got = await lab.post("/register", body if sent is None else body | {"health": sent})
        assert (got.status, got.code) == (401, "key_proof_invalid")
        assert fleet.fleet.agents() == []

    register({"fleet": fleet.fleet}, work)


def test_an_address_without_a_proof_is_refused() -> None:
    async def work(lab: Lab, nonce: str) -> None:
        body = {"vm_name": "vm-1", "ita_token": lab.token(Agent(), nonce), "health": HEALTH}
        got = await lab.post("/register", body)
        assert (got.status, got.code) == (400, "invalid_request")
        assert "proof" in got.json["error"]["message"]

    register({"allow_unbound": True}, work)


@pytest.mark.parametrize("address", ["http://a/b", "https://a:99999", "", "gopher://a", 7])
def test_what_is_no_address_is_refused(address: object) -> None:
    async def work(lab: Lab, nonce: str) -> None:
        body = registration(lab, Agent(), nonce, None) | {"health": address}
        got = await lab.post("/register", body)
        assert (got.status, got.code) == (400, "invalid_request")

    register({}, work)


def test_an_agent_without_address_is_seen_and_never_asked() -> None:
    fleet, _ = made()

    async def work(lab: Lab, nonce: str) -> None:
        assert (await lab.post("/register", registration(lab, Agent(), nonce, None))).status == 200

    register({"fleet": fleet.fleet}, work)
    assert fleet.fleet.take_due() == []
    assert "it gave no address" in page(fleet).text


def test_the_context_with_an_address_is_these_bytes() -> None:
    found = register_context("vm-1", (), health="https://a")
    magic = b"mrtd.register/v2\0"
    assert found == magic + b"\0\0\0\x04vm-1" + b"\0\0\0\0" + b"\0\0\0\x09https://a"


def test_a_key_that_registers_again_takes_its_own_place() -> None:
    fleet, _ = made()
    fleet.add("vm-1", "green")
    fleet.fleet.admit("new", vm_name="vm-1", hostname="h", public_key=b"vm-1-id", health=None,
                      verdict=verdict())  # fmt: skip
    assert [agent.agent_id for agent in fleet.fleet.agents()] == ["new"]
    # another key with the same name is another agent: names are their own choice
    fleet.fleet.admit("other", vm_name="vm-1", hostname="h", public_key=b"other", health=None,
                      verdict=verdict())  # fmt: skip
    assert [agent.agent_id for agent in fleet.fleet.agents()] == ["new", "other"]


def test_the_fleet_forgets_the_oldest_beyond_its_bound() -> None:
    fleet = Fleet(lambda _: b"", agents=3)
    for number in range(5):
        fleet.admit(str(number), vm_name="vm", hostname="h", public_key=bytes([number + 1]),
                    health="https://a", verdict=verdict())  # fmt: skip
    assert [agent.agent_id for agent in fleet.agents()] == ["2", "3", "4"]
    assert sorted(fleet.take_due()) == ["2", "3", "4"]


def test_many_agents_with_many_deployments_take_bounded_memory() -> None:
    said = {"a": ["green"] * 3, "b": ["green"] * 2}
    several = [msgspec.structs.replace(RUNS["green"], app_name=str(n)) for n in range(9)]
    fleet = Fleet(lambda at: health(several[: len(said[at])]), deployments=4)
    for name in said:
        fleet.admit(name, vm_name=name, hostname="h", public_key=name.encode(), health=name,
                    verdict=verdict())  # fmt: skip
        fleet.look(name)
    assert known(fleet, "a").report is not None
    assert "more than is kept" in known(fleet, "b").problem
    said["a"].pop()
    fleet.look("a")
    fleet.look("b")
    assert known(fleet, "b").problem == ""
    fleet.admit("a2", vm_name="a", hostname="h", public_key=b"a", health="a", verdict=verdict())
    said["b"] += ["green"] * 2  # what was taken by the agent that went is free again
    fleet.look("b")
    assert known(fleet, "b").problem == ""


# asking


def test_agents_are_asked_now_and_then_each_once_at_a_time() -> None:
    fleet, times = made()
    fleet.add("vm-1", "green")
    assert fleet.fleet.take_due() == ["vm-1-id"]
    assert fleet.fleet.take_due() == []  # it is being asked
    fleet.fleet.look("vm-1-id")
    assert fleet.fleet.take_due() == []
    times.pass_by(SCRAPE_SECONDS)
    assert fleet.fleet.take_due() == ["vm-1-id"]


def test_an_agents_own_word_does_not_count() -> None:
    fleet, _ = made()
    agent_id = fleet.add("vm-1", "unsigned")
    fleet.look()
    assert b'"attestation_status":"green"' in fleet.agents.says[f"https://{agent_id}.example"]  # type: ignore[operator]
    assert known(fleet.fleet, agent_id).colour(NOW.timestamp()) is Colour.RED


@pytest.mark.parametrize(
    ("runs", "colour"),
    [
        (("green", "green too"), Colour.GREEN),
        (("green", "exception"), Colour.YELLOW),
        (("exception", "away"), Colour.UNKNOWN),
        (("away", "unsigned"), Colour.RED),
        ((), None),
    ],
)
def test_an_agent_has_the_worst_colour_of_what_it_runs(
    runs: tuple[str, ...], colour: Colour | None
) -> None:
    fleet, _ = made()
    agent_id = fleet.add("vm-1", *runs)
    fleet.look()
    assert known(fleet.fleet, agent_id).colour(NOW.timestamp()) is colour


def test_an_old_report_is_green_no_more() -> None:
    fleet, times = made()
    agent_id = fleet.add("vm-1", "green")
    fleet.look()
    fleet.agents.says[f"https://{agent_id}.example"] = TransportError("vm-1: gone")
    times.pass_by(STALE_SECONDS)
    fleet.look()
    assert known(fleet.fleet, agent_id).colour(times.wall) is Colour.GREEN
    times.pass_by(1)
    assert known(fleet.fleet, agent_id).colour(times.wall) is Colour.UNKNOWN
    assert "vm-1: gone" in page(fleet).text
    assert "What follows is old" in page(fleet, f"/agent/{agent_id}").text


def test_an_agent_that_is_away_for_a_day_is_left_out() -> None:
    fleet, times = made()
    fleet.add("vm-1", down="vm-1: away")
    fleet.look()
    assert len(fleet.fleet.agents()) == 1
    times.pass_by(FORGET_SECONDS + 1)
    fleet.look()
    assert fleet.fleet.agents() == []
    assert fleet.fleet.take_due() == []


@pytest.mark.parametrize(
    ("says", "text"),
    [
        (b"[]", "is no /health"),
        (b'{"deployments": 5}', "is no /health"),
        (b'{"agent_id": "somebody else"}', "another agent"),
        (json.dumps({"deployments": [str(n) for n in range(10_000)]}).encode(), "10000 deploy"),
        (b" " * (5 << 20), "more than"),
        (TransportError(f"host: {HOSTILE}"), "host:"),
        (RuntimeError("https://secret"), "an error of ours: RuntimeError"),
    ],
    ids=["list", "types", "another", "10,000", "large", "hostile", "defect"],
)
def test_whatever_an_agent_answers_the_page_says_so(says: bytes | Exception, text: str) -> None:
    fleet, _ = made()
    agent_id = fleet.add("vm-1")
    fleet.add("vm-2", "green")
    fleet.agents.says[f"https://{agent_id}.example"] = says
    fleet.look()
    assert text in page(fleet).text
    assert text in page(fleet, f"/agent/{agent_id}").text
    assert "secret" not in page(fleet).text
    assert "1 green" in page(fleet).text


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
@given(st.binary(max_size=100) | st.dictionaries(st.text(max_size=5), st.none()).map(
    lambda value: json.dumps({"deployments": [value], "deployment_status": value}).encode()
))  # fmt: skip
def test_no_answer_ends_the_threads_that_ask(says: bytes) -> None:
    fleet, _ = made()
    agent_id = fleet.add("vm-1")
    fleet.agents.says[f"https://{agent_id}.example"] = says
    fleet.look()
    agent = known(fleet.fleet, agent_id)
    assert (agent.report is None) is bool(agent.problem)


def test_no_more_agents_are_asked_at_a_time_than_there_are_threads() -> None:
    entered, leave, lock = threading.Semaphore(0), threading.Event(), threading.Lock()
    now = most = 0

    def ask(health: str) -> bytes:
        assert health == HEALTH
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)
        entered.release()
        assert leave.wait(60)
        with lock:
            now -= 1
        return b"{}"

    fleet = Fleet(ask)
    for number in range(20):
        fleet.admit(str(number), vm_name="vm", hostname="h", public_key=bytes([number + 1]),
                    health=HEALTH, verdict=verdict())  # fmt: skip
    fleet.start()
    try:
        for _ in range(8):
            assert entered.acquire(timeout=60)
        leave.set()
        for _ in range(12):
            assert entered.acquire(timeout=60)
    finally:
        leave.set()
        fleet.close()
    assert most == 8


def test_the_page_is_there_while_agents_and_registries_are_slow() -> None:
    fleet, _ = made()
    fleet.add("vm-1", "green")
    entered, leave = threading.Event(), threading.Event()

    class Slow(Checker):
        def check(self, source: ImageSource, image: ImageReference) -> ImageCheck:
            entered.set()
            assert leave.wait(60)
            return super().check(source, image)

    slow = Fleet(fleet.agents, Statuses(image_settings(), Slow()), clock=fleet.clock)
    slow.admit("a", vm_name="vm-1", hostname="h", public_key=b"k", verdict=verdict(),
               health="https://vm-1-id.example")  # fmt: skip
    slow.start()
    try:
        assert entered.wait(60)
        lab = Lab(kind="reference", fleet=slow)
        text = Text(asyncio.run(lab.get("/")).body.decode()).text
        assert "answered: not yet" in text
        assert known(slow, "a").colour(NOW.timestamp()) is Colour.UNKNOWN
        leave.set()
        wait_for(lambda: known(slow, "a").report is not None)
        assert known(slow, "a").colour(NOW.timestamp()) is Colour.GREEN
    finally:
        leave.set()
        assert lab.service.close(60)


@pytest.mark.parametrize(
    ("labels", "word"),
    [
        ((), "attested"),
        (("stale",), "attested"),
        (("host_acpi_unmeasured",), "attested, see labels"),
        (("observe", "would_refuse_not_attested"), "not attested"),
    ],
)
def test_a_measurement_is_called_what_its_verdict_is(labels: tuple[str, ...], word: str) -> None:
    fleet, _ = made()
    fleet.add("vm-1", admitted=verdict(*labels))
    found = raw_page(fleet)
    assert f"</span>{word}</span>" in found
    assert all(label in found for label in labels)


def test_a_fleet_that_is_closed_asks_nobody() -> None:
    fleet, _ = made()
    agent_id = fleet.add("vm-1", "green")
    fleet.fleet.start()
    fleet.fleet.close()
    fleet.fleet.look(agent_id)
    assert known(fleet.fleet, agent_id).report is None


# pages


def test_an_empty_fleet_says_how_agents_come() -> None:
    found = page(made()[0])
    assert "No agent has registered yet" in found.text
    assert "0 agents" in found.text


def test_what_needs_somebody_comes_first() -> None:
    fleet, _ = made()
    for name, run in (("a", "green"), ("b", "exception"), ("c", "unsigned"), ("d", "away")):
        fleet.add(name, run)
    fleet.look()
    names = [link.removesuffix("-id") for link in page(fleet).links if link.startswith("/agent/")]
    assert names == ["/agent/c", "/agent/d", "/agent/b", "/agent/a"]


def test_an_agents_page_says_what_was_proved_and_what_was_not() -> None:
    fleet, _ = made()
    agent_id = fleet.add("vm-1", *RUNS)
    fleet.look()
    found = page(fleet, f"/agent/{agent_id}")
    for wanted in (
        "passed: signed by the release key: release.pub",
        "failed: not signed by the release workflow: the registry has none",
        "failed: not signed by the release workflow: identity.signer",
        "not checked: could not look for a signature of the release key: ghcr.io did not answer",
        "unsigned, by exception of platform team until 2027-01-31",
        "ended on 2026-11-23",
        "nobody vouches for it",
        "do without the workflow's signature",
        "Not proved: that the agent names everything that runs",
        digest("1"),
    ):
        assert wanted in re.sub(r"\s+:", ":", found.text), wanted
    assert "https://github.com/devopsdefender/dd/actions/runs/42/attempts/1" in found.links
    assert "https://github.com/devopsdefender/dd/actions/runs/41/attempts/1" in found.links
    assert "https://search.sigstore.dev/?logIndex=123456" in found.links


def test_every_colour_is_said_in_words_and_signs() -> None:
    fleet, _ = made()
    fleet.add("vm-1", *RUNS)
    fleet.look()
    found = raw_page(fleet, "/agent/vm-1-id")
    badges = set(
        re.findall(r'<span class="badge (\w+)"><span[^>]*>(.)</span>([\w ]+)</span>', found)
    )
    assert {("green", "✓", "green"), ("yellow", "!", "yellow"), ("red", "✕", "red")} <= badges
    assert ("unknown", "?", "unknown") in badges
    assert found.count('class="badge ') == len(re.findall(r'class="badge \w+"><span', found))


def test_hostile_texts_are_texts() -> None:
    fleet, _ = made()
    agent_id = fleet.add("vm-1")
    runs = [
        Deployment(HOSTILE, f"{OURS}:{HOSTILE}", HOSTILE),
        Deployment(HOSTILE, HOSTILE, HOSTILE),
    ]
    fleet.agents.says[f"https://{agent_id}.example"] = health(runs)
    fleet.look()
    for path in ("/", f"/agent/{agent_id}"):
        raw = raw_page(fleet, path)
        assert "<script>alert" not in raw
        assert "\x1b" not in raw
        assert "\u202e" not in raw
        assert Text(raw).tags.count("script") == 1
    assert "<script>alert(1)</script>" in page(fleet, f"/agent/{agent_id}").text
    assert "{{7*7}}" in page(fleet, f"/agent/{agent_id}").text


@pytest.mark.parametrize(
    "run",
    [
        "javascript:alert(1)",
        "https://github.com.evil.example/x",
        "https://[",
        "http://github.com/x",
        "",
    ],
)
def test_only_runs_on_the_repositorys_server_are_linked(run: str) -> None:
    assert linked(run, "https://github.com") == ""
    wanted = "https://github.com/o/r/actions/runs/1"
    assert linked(wanted, "https://github.com") == wanted


def test_who_is_not_there_is_a_page_that_says_so() -> None:
    assert "No such agent" in page(made()[0], "/agent/none", status=404).text


def test_the_pages_load_nothing_from_elsewhere() -> None:
    fleet, _ = made()
    fleet.add("vm-1", "green")
    fleet.look()
    found = page(fleet)
    assert {link for link in found.links if not link.startswith(("/agent/", "#"))} == {
        "/", "/static/fleet.css", "/static/fleet.js", "data:,",
    }  # fmt: skip
    assert "unsafe" not in SECURITY_HEADERS["content-security-policy"]


def test_static_files_have_their_types_and_pages_are_counted_by_kind() -> None:
    async def work() -> None:
        async with closing(Lab(kind="reference")) as lab:
            for name, kind in (("fleet.css", "text/css"), ("fleet.js", "text/javascript")):
                got = await lab.get(f"/static/{name}")
                assert (got.status, got.headers["content-type"]) == (200, f"{kind}; charset=utf-8")
            assert (await lab.get("/static/../fleet_pages.py")).status == 404
            for name in ("one", "two", "", "a/b"):
                await lab.get(f"/agent/{name}")
            metrics = (await lab.get("/metrics")).body.decode()
            wanted = 'mrtd_http_requests_total{path="/agent/{agent_id}",status="404"} 3'
            assert wanted in metrics, metrics

    asyncio.run(work())


def test_a_control_plane_without_images_says_that_it_does_not_know() -> None:
    lab = Lab(kind="reference")
    fleet = Fleet(lambda _: health([RUNS["green"]]))
    fleet.admit("a", vm_name="vm", hostname="h", public_key=b"k", health=HEALTH, verdict=verdict())
    fleet.look("a")
    assert known(fleet, "a").colour(fleet.clock.wall()) is Colour.UNKNOWN
    lab.service.close(60)


def test_an_agent_is_asked_where_it_said_and_shown_with_what_it_runs() -> None:
    loopback = (ipaddress.ip_network("127.0.0.0/8"),)
    statuses = Statuses(image_settings(), Checker())

    async def work(lab: Lab, nonce: str) -> None:
        with Server(lambda _: Answer(200, health([RUNS["green"], RUNS["unsigned"]]))) as server:
            address = f"http://127.0.0.1:{server.port}"
            got = await lab.post("/register", registration(lab, Agent(), nonce, address))
            agent_id = got.json["agent_id"]
            fleet.start()
            asked = lambda: known(fleet, agent_id).report is not None  # noqa: E731
            await asyncio.to_thread(wait_for, asked)
            text = Text((await lab.get(f"/agent/{agent_id}")).body.decode()).text
            assert "1 green, 1 red" in text
            assert address in text
            assert server.errors == []

    fleet = Fleet(AgentFetch(loopback), statuses)
    register({"fleet": fleet}, work)


def test_the_page_says_what_the_limits_are() -> None:
    text = (Path(__file__).parents[2] / "docs/fleet.md").read_text(encoding="utf-8")
    vector = register_context("vm-1", (), health="https://a").hex()
    assert vector in text.replace(" ", "")
    for wanted in (
        f"{COUNT_LIMIT:,}", f"{SIZE_LIMIT >> 20} MiB", f"Every {SCRAPE_SECONDS:.0f} s",
        f"{STALE_SECONDS / 60:.0f} minutes", f"{AGENTS:,} agents", f"| {CHECKS} for each answer",
        f"{DEPLOYMENTS:,} deployments",
    ):  # fmt: skip
        assert wanted in text, wanted


def test_a_sidecar_has_no_pages() -> None:
    async def work() -> None:
        async with closing(Lab()) as lab:
            assert (await lab.get("/")).status == 404

    asyncio.run(work())
