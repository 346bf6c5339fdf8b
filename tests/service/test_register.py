"""The reference control plane: dd's registration, with what binds it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from mrtd.service.reference_cp import Admitted, Registration
from mrtd.service.requests import Ingress
from mrtd.verifier.registration import register_context
from mrtd.verifier.verdict import Verdict
from tests.service.fleet import Agent, Fleet, Json, ask, run

INGRESS: list[Json] = [
    {"hostname_label": "gpu", "port": 8080},
    {"hostname_label": "api", "port": 1},
]


async def nonce(fleet: Fleet) -> str:
    found: str = (await fleet.get("/register/nonce")).json["nonce"]
    return found


def made(**options: Any) -> Fleet:
    fleet = Fleet(kind="reference", **options)
    fleet.publish()
    return fleet


def test_the_context_of_a_proof_is_these_bytes() -> None:
    # The vector of docs/service.md, for agents in other languages
    ingress = (Ingress(hostname_label="gpu", port=8080), Ingress(hostname_label="api", port=1))
    magic = "6d7274642e72656769737465722f763100"
    gpu, api = "000000036770751f90", "000000036170690001"
    assert register_context("vm-1", ingress).hex() == (f"{magic}00000004766d2d3100000002{gpu}{api}")
    assert register_context("vm-1", ()).hex() == f"{magic}00000004766d2d3100000000"


def test_a_vm_whose_image_was_released_is_registered() -> None:
    async def work(fleet: Fleet) -> None:
        body = fleet.registration(Agent(), await nonce(fleet), ingress=INGRESS)
        got = await fleet.post("/register", body | {"owner": "me", "env_label": "prod"})
        assert got.status == 200, got.json
        assert set(got.json) == {"tunnel_token", "hostname", "agent_id"}
        assert got.json["hostname"] == f"{got.json['agent_id']}.staging.invalid"
        assert got.json["tunnel_token"].startswith("reference-no-tunnel-")
        again = await fleet.post("/register", body)
        assert (again.status, again.code) == (401, "nonce_used")

    run(made(environment="staging"), work)


def test_a_vm_with_another_initrd_is_not_registered() -> None:
    async def work(fleet: Fleet) -> None:
        agent = Agent(image="image with another initrd")
        got = await fleet.post("/register", fleet.registration(agent, await nonce(fleet)))
        assert got.status == 403
        assert got.code in {"registers_differ", "not_attested"}
        assert got.json["error"]["message"].startswith("refused: ")
        assert {"report_data", "nonce"} <= {check["name"] for check in got.json["checks"]}
        assert "tunnel_token" not in got.json

    run(made(), work)


@pytest.mark.parametrize(
    "change",
    [
        {"vm_name": "vm-2"},
        {"extra_ingress": INGRESS[::-1]},
        {"extra_ingress": INGRESS[:1]},
        {"extra_ingress": [{**INGRESS[0], "port": 22}, INGRESS[1]]},
        {"extra_ingress": []},
    ],
)
def test_no_field_can_be_swapped_on_the_way(change: Json) -> None:
    async def work(fleet: Fleet) -> None:
        body = fleet.registration(Agent(), await nonce(fleet), ingress=INGRESS)
        got = await fleet.post("/register", body | change)
        assert (got.status, got.code) == (401, "key_proof_invalid")
        # and nobody has used the nonce up
        assert (await fleet.post("/register", body)).status == 200

    run(made(), work)


def test_an_agent_without_proof_is_refused_unless_the_operator_lets_it() -> None:
    async def refused(fleet: Fleet) -> None:
        token = fleet.token(Agent(), await nonce(fleet))
        got = await fleet.post("/register", {"vm_name": "old", "ita_token": token})
        assert (got.status, got.code) == (401, "binding_missing")

    async def admitted(fleet: Fleet) -> None:
        token = fleet.token(Agent(), await nonce(fleet))
        got = await fleet.post("/register", {"vm_name": "old", "ita_token": token})
        assert got.status == 200
        # one that sends a proof is held to it all the same
        body = fleet.registration(Agent(), await nonce(fleet))
        got = await fleet.post("/register", body | {"vm_name": "vm-2"})
        assert (got.status, got.code) == (401, "key_proof_invalid")

    run(made(), refused)
    run(made(allow_unbound=True), admitted)


@pytest.mark.parametrize(
    "change",
    [
        {"proof": None},
        {"vm_name": ""},
        {"vm_name": "a b"},
        {"vm_name": "vm-1\n"},
        {"vm_name": "x" * 64},
        {"more": 1},
        {"extra_ingress": [{"hostname_label": "gpu", "port": 0}]},
        {"extra_ingress": [{"hostname_label": "gpu", "port": 65536}]},
        {"extra_ingress": [{"hostname_label": "a.b", "port": 1}]},
        {"extra_ingress": [{"hostname_label": "a", "port": 1, "more": 1}]},
        {"extra_ingress": [{"hostname_label": "a", "port": 1}] * 33},
        {"public_key": "A===="},
        {"ita_token": ""},
        {"ita_token": "x" * 65537},
    ],
)
def test_what_is_no_registration_is_refused(change: Json) -> None:
    async def work(fleet: Fleet) -> None:
        body = fleet.registration(Agent(), await nonce(fleet))
        got = await fleet.post("/register", body | change)
        assert (got.status, got.code) == (400, "invalid_request")

    run(made(), work)


def test_owner_and_environment_are_the_operators() -> None:
    seen: list[Registration] = []

    def admission(registration: Registration, verdict: Verdict) -> Admitted:
        assert verdict.allowed
        seen.append(registration)
        return Admitted("secret-tunnel", "h.example", "agent-1")

    async def work(fleet: Fleet) -> None:
        body = fleet.registration(Agent(), await nonce(fleet), ingress=INGRESS)
        got = await fleet.post("/register", body | {"owner": "mallory", "env_label": "prod"})
        assert got.json == {
            "tunnel_token": "secret-tunnel", "hostname": "h.example", "agent_id": "agent-1",
        }  # fmt: skip

    fleet = made(admission=admission, owner="dd", environment="staging")
    run(fleet, work)
    assert [(r.owner, r.environment, r.vm_name) for r in seen] == [("dd", "staging", "vm-1")]
    assert len(seen[0].extra_ingress) == 2
    fleet.log()
    assert b"secret-tunnel" not in fleet.stream.getvalue()


def test_a_refused_vm_never_reaches_the_admission() -> None:
    def admission(_: Registration, __: Verdict) -> Admitted:
        raise AssertionError("it did")

    async def work(fleet: Fleet) -> None:
        body = fleet.registration(Agent(image="other"), await nonce(fleet))
        assert (await fleet.post("/register", body)).status == 403

    run(made(admission=admission), work)


def test_an_admission_that_fails_is_503() -> None:
    def admission(_: Registration, __: Verdict) -> Admitted:
        raise ConnectionError("https://tunnels.example?key=secret-key")

    async def work(fleet: Fleet) -> None:
        got = await fleet.post("/register", fleet.registration(Agent(), await nonce(fleet)))
        assert (got.status, got.code) == (503, "admission_failed")
        assert got.headers["retry-after"] == "5"
        assert b"secret" not in got.body

    fleet = made(admission=admission)
    run(fleet, work)
    assert any(line["event"] == "admission failed" for line in fleet.log())
    assert b"secret" not in fleet.stream.getvalue()


def test_the_log_has_no_secrets() -> None:
    fleet = made()
    secrets: list[str] = []

    async def work(fleet: Fleet) -> None:
        for agent in (Agent(), Agent(image="other")):
            body = fleet.registration(agent, await nonce(fleet), ingress=INGRESS)
            secrets.extend(body[name] for name in ("ita_token", "nonce", "proof", "public_key"))
            got = await fleet.post("/register", body, authorization="Bearer secret-header")
            secrets.append(got.json.get("tunnel_token", "secret-header"))
            await fleet.post(f"/register/{body['nonce']}", body)
            await fleet.post("/register", json.dumps(body).encode()[:-9])
            await fleet.post("/register", {"vm_name": body["ita_token"]})
            await ask(fleet.app, body["proof"], "/register")
            await ask(fleet.app, "GET", "/healthz", headers={"x-request-id": body["nonce"]})

    run(fleet, work)
    lines = fleet.log()
    assert len(lines) == 14
    text = fleet.stream.getvalue().decode()
    for secret in secrets:
        for part in (secret, *secret.split("."), secret[:20], secret[-20:]):
            assert part not in text
    known = {"time", "level", "event", "method", "path", "status", "reason", "duration_ms",
             "request_id", "vm", "labels", "check", "detail"}  # fmt: skip
    assert all(set(line) <= known for line in lines)
    refused = [line for line in lines if line.get("check")]
    assert refused
    assert all(line["check"] in line["detail"] for line in refused)
