"""The sidecar decides: with tokens, attestations and agents of the lab."""

from __future__ import annotations

import asyncio
import json
from datetime import timedelta
from functools import partial

import pytest

from fixtures import dcap
from mrtd.service.requests import text_of
from mrtd.verifier.binding import prove, registration_data, report_data
from mrtd.verifier.nonce import read_nonce
from tests.lab.world import NOW, ONCE_EACH, World
from tests.service.fleet import Agent, Fleet, Json, ask, run


def test_a_vm_whose_image_was_released_is_admitted_once() -> None:
    fleet = Fleet()
    fleet.publish()

    async def work(fleet: Fleet) -> None:
        body = fleet.verification(Agent(), await fleet.nonce()) | {"vm_name": "vm-7"}
        got = await fleet.post("/v1/verify", body)
        assert got.status == 200, got.json["message"]
        assert got.json["allowed"] is True
        assert got.json["release"]["tag"] == "v1.4.0"
        again = await fleet.post("/v1/verify", body)
        assert (again.status, again.json["reason"]) == (401, "nonce_used")
        metrics = (await fleet.get("/metrics")).body.decode()
        assert 'mrtd_verdicts_total{status="200",reason="admitted"} 1' in metrics
        assert 'mrtd_verdicts_total{status="401",reason="nonce_used"} 1' in metrics
        assert "mrtd_highest_sequence 412" in metrics

    run(fleet, work)
    assert [line.get("vm") for line in fleet.log()] == [None, "vm-7", "vm-7", None]


def test_a_vm_with_another_initrd_is_refused() -> None:
    fleet = Fleet()
    fleet.publish()

    async def work(fleet: Fleet) -> None:
        agent = Agent(image="image with another initrd")
        got = await fleet.post("/v1/verify", fleet.verification(agent, await fleet.nonce()))
        assert (got.status, got.json["allowed"]) == (403, False)
        assert got.json["reason"] in {"registers_differ", "not_attested"}
        log.append(got.json["message"])

    log: list[str] = []
    run(fleet, work)
    line = fleet.log()[-1]
    assert line["detail"] == log[0]
    assert f"({line['check']}: expected " in line["detail"]


def test_a_token_of_another_vm_is_refused() -> None:
    fleet = Fleet()
    fleet.publish()

    async def work(fleet: Fleet) -> None:
        nonce = await fleet.nonce()
        body = fleet.verification(Agent(), nonce)
        thief = Agent()
        token = body["ita_token"].encode()
        proof = prove(thief.key, nonce=read_nonce(nonce), token_or_quote=token)
        body["binding"] |= {"public_key": text_of(thief.public_key), "proof": text_of(proof)}
        got = await fleet.post("/v1/verify", body)
        assert (got.status, got.json["reason"]) == (401, "binding_mismatch")

    run(fleet, work)


def test_another_context_is_refused() -> None:
    fleet = Fleet()
    fleet.publish()

    async def work(fleet: Fleet) -> None:
        body = fleet.verification(Agent(), await fleet.nonce(), context=b"name=a")
        body["binding"]["context"] = text_of(b"name=b")
        got = await fleet.post("/v1/verify", body)
        assert (got.status, got.json["reason"]) == (401, "key_proof_invalid")

    run(fleet, work)


@pytest.mark.parametrize("said", [{}, {"binding": {"type": "none"}}])
@pytest.mark.parametrize("operator", [False, True])
def test_evidence_without_binding_needs_the_operator(*, operator: bool, said: Json) -> None:
    """And that none is meant has to be said."""
    allow = operator and bool(said)
    fleet = Fleet(allow_unbound=operator)
    fleet.publish()

    async def work(fleet: Fleet) -> None:
        token = fleet.token(Agent(), await fleet.nonce())
        got = await fleet.post("/v1/verify", {"ita_token": token, **said})
        if allow:
            assert (got.status, got.json["labels"]) == (200, ["binding_none"])
        else:
            assert (got.status, got.code) == (401, "binding_missing")

    run(fleet, work)
    assert fleet.log()[-1].get("reason") == (None if allow else "binding_missing")


def test_github_down_is_503_with_a_time_to_come_back() -> None:
    fleet = Fleet()
    fleet.publish()
    fleet.world.github.down = True

    async def work(fleet: Fleet) -> None:
        got = await fleet.post("/v1/verify", fleet.verification(Agent(), await fleet.nonce()))
        assert (got.status, got.json["reason"]) == (503, "lookup_unavailable")
        metrics = (await fleet.get("/metrics")).body.decode()
        assert 'mrtd_upstream_failures_total{upstream="github",kind="no_answer"}' in metrics
        if got.json["retry_after"] is not None:
            assert got.headers["retry-after"] == str(got.json["retry_after"])

    run(fleet, work)


def test_a_presented_bundle_is_used_where_policy_lets_it() -> None:
    fleet = Fleet('lookup.github = "off"')
    fleet.publish()
    bundle = next(iter(fleet.world.github.listed.values()))[0]

    async def work(fleet: Fleet) -> None:
        body = fleet.verification(Agent(), await fleet.nonce())
        got = await fleet.post("/v1/verify", body | {"bundles": [json.loads(bundle)]})
        assert got.status == 200, got.json["message"]
        assert "github_not_asked" in got.json["labels"]

    run(fleet, work)


def test_observe_mode_admits_and_counts() -> None:
    async def work(fleet: Fleet) -> None:
        got = await fleet.post("/v1/verify", fleet.verification(Agent(), await fleet.nonce()))
        assert got.status == 200
        assert {"observe", "would_refuse_not_attested"} <= set(got.json["labels"])
        metrics = (await fleet.get("/metrics")).body.decode()
        assert 'mrtd_would_refuse_total{reason="not_attested"} 1' in metrics

    run(Fleet('mode = "observe"'), work)


def quote_of(nonce: str, agent: Agent) -> Json:
    """A body of ``/v1/verify`` with a quote of the lab's root of trust."""
    td = agent.td(report_data(registration_data(read_nonce(nonce), agent.public_key)))
    quote, collateral = dcap.World(td=td, expires=NOW + timedelta(days=20)).build()
    proof = prove(agent.key, nonce=read_nonce(nonce), token_or_quote=quote)
    binding = {
        "type": "nonce",
        "nonce": nonce,
        "public_key": text_of(agent.public_key),
        "proof": text_of(proof),
    }
    return {"quote": text_of(quote), "collateral": collateral, "binding": binding}


@pytest.mark.parametrize("trusted", [False, True])
def test_a_quote_is_as_good_as_a_token(
    trusted: bool,  # noqa: FBT001
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pytest.importorskip("dcap_qvl")
    fleet = Fleet()
    fleet.publish()

    async def work(fleet: Fleet) -> None:
        verifier = fleet.service.verifier
        if trusted:
            root = dcap.authority().root.der
            monkeypatch.setattr(
                verifier, "averify_quote", partial(verifier.averify_quote, root_ca=root)
            )
        body = quote_of(await fleet.nonce(), Agent())
        got = await fleet.post("/v1/verify", body)
        assert (got.status == 200) is trusted, got.json
        assert got.json["allowed"] is trusted
        if trusted:
            again = await fleet.post("/v1/verify", body)
            assert (again.status, again.json["reason"]) == (401, "nonce_used")
        body["binding"] = {"type": "none"}
        assert (await fleet.post("/v1/verify", body)).status == 401
        body["binding"] = {"type": "report_data", "report_data": text_of(bytes(64))}
        assert (await fleet.post("/v1/verify", body)).status in {401, 503}

    run(fleet, work)


def test_ready_with_keys_and_root() -> None:
    fleet = Fleet()

    async def work(fleet: Fleet) -> None:
        fleet.keys_down = True
        got = await fleet.get("/readyz")
        assert got.status == 503
        assert {c["name"]: c["ok"] for c in got.json["checks"]} == {
            "running": True, "trust_root": True, "token_keys": False,
        }  # fmt: skip
        assert got.json["checks"][-1]["detail"] == "the keys' address answered 503"
        fleet.keys_down = False
        assert (await fleet.get("/readyz")).status == 503  # not asked again at once
        fleet.world.times.pass_by(10)
        assert (await fleet.get("/readyz")).status == 200
        fleet.keys_down = True
        fleet.world.times.pass_by(10)
        assert (await fleet.get("/readyz")).status == 503

    run(fleet, work)


def test_ready_with_keys_that_were_fetched() -> None:
    async def work(fleet: Fleet) -> None:
        await fleet.post("/v1/verify", fleet.verification(Agent(), await fleet.nonce()))
        fleet.keys_down = True
        fleet.world.times.pass_by(3000)
        got = await fleet.get("/readyz")
        assert got.json["checks"][-1] == {
            "name": "token_keys", "ok": True, "detail": "fetched 3000 s ago",
        }  # fmt: skip
        fleet.world.times.pass_by(86400)
        assert (await fleet.get("/readyz")).status == 503

    run(Fleet(), work)


def test_a_hundred_at_once_cost_one_lookup_of_each_list() -> None:
    fleet = Fleet()
    fleet.publish()

    async def work(fleet: Fleet) -> None:
        bodies = [fleet.verification(Agent(), await fleet.nonce()) for _ in range(100)]
        answers = await asyncio.gather(*(fleet.post("/v1/verify", body) for body in bodies))
        assert {answer.status for answer in answers} == {200}
        assert b"\nmrtd_lookups_total 2\n" in (await fleet.get("/metrics")).body
        assert fleet.world.github.about == ONCE_EACH
        assert b'upstream="keys"} 1\n' in (await fleet.get("/metrics")).body

    run(fleet, work)


def test_the_request_id_is_the_clients_if_it_can_be_logged() -> None:
    async def work(fleet: Fleet) -> None:
        for given, kept in (("abc-1", True), ("a b", False), ("x" * 65, False), ("", False)):
            got = await ask(fleet.app, "GET", "/healthz", headers={"x-request-id": given})
            assert (got.headers["x-request-id"] == given) is kept
            assert got.headers["x-request-id"]

    run(Fleet(), work)


def test_the_worlds_of_this_test_and_the_verifiers_are_the_same() -> None:
    assert Fleet().world.policy == World().policy
