"""The examples of docs/verifier.md are run as they stand there."""

from __future__ import annotations

import asyncio
import json
import re
import textwrap
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from fixtures import reference
from fixtures.quotes import Td
from mrtd.service.requests import NonceBindingBody, RegisterRequest, VerifyRequest, read_bytes
from mrtd.verifier import Verifier, proof_message, read_nonce
from mrtd.verifier.fetch import Response
from mrtd.verifier.registration import register_context
from mrtd.verifier.verdict import Reason
from tests.lab.identity import OWNER_ID, REPOSITORY_ID
from tests.lab.trust_authority import Recipe, TrustAuthority, report_body
from tests.lab.world import World

Json = dict[str, Any]

DOCS: Final = Path(__file__).resolve().parents[2] / "docs"
PAGE: Final = (DOCS / "verifier.md").read_text(encoding="utf-8")
CONTROL_PLANE, PARTS, AGENT = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
LABELS: Final = {"observe", "binding_none", "host_acpi_unmeasured", "image_unmeasured", "stale",
                 "freshness_unchecked", "github_not_asked", "trust_root_old"}  # fmt: skip


class Lab:
    """The page's control plane and agent, in a world with a trust authority."""

    def __init__(self, environment: pytest.MonkeyPatch) -> None:
        environment.setenv("DD_TRUSTED_REPO_ID", REPOSITORY_ID)
        environment.setenv("DD_TRUSTED_OWNER_ID", OWNER_ID)
        self.world, self.issuer = World(), TrustAuthority()
        self.plane = run_text(CONTROL_PLANE)
        assert isinstance(self.plane["verifier"], Verifier)
        self.plane["verifier"].close()
        self.plane["verifier"] = self.world.another(fetch=self.fetch)
        self.agent: Callable[..., Json] = run_text(AGENT)["registration"]
        self.key = Ed25519PrivateKey.generate()

    def fetch(
        self, url: str, *, headers: Mapping[str, str], limit: int, timeout: float
    ) -> Response:
        if url == self.world.policy.token.jwks_url:
            return Response(200, {}, self.issuer.jwks())
        return self.world.github(url, headers=headers, limit=limit, timeout=timeout)

    def ask(self, method: str, path: str, body: Json | None = None) -> tuple[int, Json, Json]:
        """Status, headers and body of an answer of the page's application."""
        scope = {"type": "http", "method": method, "path": path, "headers": [],
                 "query_string": b"", "root_path": ""}  # fmt: skip
        sent: list[Json] = []

        async def receive() -> Json:
            return {"type": "http.request", "body": json.dumps(body).encode()}

        async def send(message: Json) -> None:
            sent.append(message)

        asyncio.run(self.plane["app"](scope, receive, send))
        headers = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
        return sent[0]["status"], headers, json.loads(sent[1]["body"])

    def registration(
        self, *, image: str = "image", vm_name: str = "vm-1", ingress: Sequence[Json] = ()
    ) -> Json:
        """What the page's agent sends from a TD that runs an image."""
        public = self.key.public_key().public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        registers = reference.launch(image=image)["registers"]
        mrtd, rtmr0, rtmr1, rtmr2 = (
            bytes.fromhex(registers[name]["value"]) for name in sorted(registers)
        )

        def get_quote(data: bytes) -> bytes:
            td = Td(mr_td=mrtd, rtmrs=(rtmr0, rtmr1, rtmr2, bytes(48)), report_data=data)
            return (4).to_bytes(2, "little") + bytes(46) + td.report10()

        def get_token(quote: bytes, *, runtime_data: bytes) -> str:
            del runtime_data
            return self.issuer.token(report_body(quote), Recipe(now=int(self.world.times.wall)))

        _, _, got = self.ask("GET", "/register/nonce")
        asked = list(ingress)
        return self.agent(vm_name, asked, got["nonce"], self.key, public, get_quote, get_token)


def run_text(text: str) -> Json:
    found: Json = {}
    exec(compile(text, "docs/verifier.md", "exec"), found)  # noqa: S102 - ours
    return found


@pytest.fixture
def lab(monkeypatch: pytest.MonkeyPatch) -> Lab:
    return Lab(monkeypatch)


def test_the_pages_agent_is_admitted_by_the_pages_control_plane(lab: Lab) -> None:
    lab.world.publish(reference.document())
    body = lab.registration()
    assert lab.ask("POST", "/register", body)[::2] == (
        200,
        {"vm_name": "vm-1", "release": "v1.4.0"},
    )
    status, _, said = lab.ask("POST", "/register", body)
    assert (status, said["error"]["code"]) == (401, "nonce_used")


def test_an_image_that_nobody_attested_gets_403_with_the_reason(lab: Lab) -> None:
    lab.world.publish(reference.document())
    status, _, said = lab.ask("POST", "/register", lab.registration(image="another"))
    assert (status, said["error"]["code"]) == (403, "registers_differ")
    assert said["error"]["message"].startswith("refused: ")


def test_what_cannot_be_checked_gets_503_and_when_to_come_back(lab: Lab) -> None:
    lab.world.github.down = True
    status, headers, said = lab.ask("POST", "/register", lab.registration())
    assert (status, said["error"]["code"]) == (503, "lookup_unavailable")
    for _ in range(4):  # the breaker opens, and knows when it closes
        status, headers, _ = lab.ask("POST", "/register", lab.registration())
    assert status == 503
    assert int(headers["retry-after"]) > 0


def test_the_proof_covers_the_name_of_the_vm(lab: Lab) -> None:
    lab.world.publish(reference.document())
    body = lab.registration() | {"vm_name": "vm-2"}
    status, _, said = lab.ask("POST", "/register", body)
    assert (status, said["error"]["code"]) == (401, "key_proof_invalid")


@pytest.mark.parametrize("ingress", [[{"hostname_label": "gpu", "port": 8080}], []])
def test_the_proof_covers_further_host_names(lab: Lab, ingress: list[Json]) -> None:
    lab.world.publish(reference.document())
    assert lab.ask("POST", "/register", lab.registration(ingress=ingress))[0] == 200
    body = lab.registration(ingress=ingress)
    other = {"extra_ingress": [{"hostname_label": "api", "port": 8080}]}
    status, _, said = lab.ask("POST", "/register", body | other)
    assert (status, said["error"]["code"]) == (401, "key_proof_invalid")


@pytest.mark.parametrize(
    "changes",
    [
        {"extra_ingress": [1]},
        {"extra_ingress": None},
        {"nonce": None},
        {"nonce": "!"},
        {"proof": 1},
        {"vm_name": None},
    ],
)
def test_what_is_no_registration_gets_400(lab: Lab, changes: Json) -> None:
    status, _, said = lab.ask("POST", "/register", lab.registration() | changes)
    assert (status, said["error"]["code"]) == (400, "invalid_request")


def test_parts_can_be_injected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DD_TRUSTED_REPO_ID", REPOSITORY_ID)
    monkeypatch.setenv("DD_TRUSTED_OWNER_ID", OWNER_ID)
    found = run_text(PARTS)
    assert found["verifier"].nonces.consume(found["verifier"].nonces.issue()) is None


def test_sizes_of_the_protocol_are_those_of_the_vectors() -> None:
    file = DOCS.parent / "fixtures/vectors/registration.json"
    cases = {case["name"]: case for case in json.loads(file.read_text())["cases"]}
    ed25519, p256 = cases["ed25519"], cases["ecdsa-p256"]
    sizes = [len(case["public_key"]) // 2 for case in (ed25519, p256)]
    assert (len(ed25519["nonce"]) // 2, *sizes) == (56, 44, 91)
    assert len(ed25519["registration_data"]) // 2 == 129


def test_the_whole_request_is_one_and_its_proof_is_right() -> None:
    asked, sidecar = (text.encode() for text in re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL))
    request = msgspec.json.decode(asked, type=RegisterRequest)
    body = msgspec.json.decode(sidecar, type=VerifyRequest)
    assert isinstance(body.binding, NonceBindingBody)
    assert body.binding.nonce == request.nonce
    context = register_context(request.vm_name, request.extra_ingress)
    assert read_bytes(body.binding.context, "context") == context
    for public, proof in (
        (request.public_key, request.proof),
        (body.binding.public_key, body.binding.proof),
    ):
        assert public is not None
        assert proof is not None
        key = serialization.load_der_public_key(read_bytes(public, "public_key"))
        assert isinstance(key, Ed25519PublicKey)
        message = proof_message(
            nonce=read_nonce(body.binding.nonce),
            token_or_quote=request.ita_token.encode(),
            context=context,
        )
        key.verify(read_bytes(proof, "proof"), message)


def test_every_label_is_explained() -> None:
    assert {label for label in LABELS if f"`{label}`" not in PAGE} == set()


@pytest.mark.parametrize(
    "page", ["verifier", "verifier-rust", "policy", "rollout", "verify", "evidence"]
)
def test_links_lead_somewhere(page: str) -> None:
    text = (DOCS / f"{page}.md").read_text(encoding="utf-8")
    for target, anchor in re.findall(r"\]\((?!https?:)([^)#]*)(?:#([^)]*))?\)", text):
        there = (DOCS / target) if target else DOCS / f"{page}.md"
        assert there.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.*)$", there.read_text(encoding="utf-8"), re.MULTILINE)
            slugs = {re.sub(r"[^a-z0-9 -]", "", h.lower()).replace(" ", "-") for h in headings}
            assert anchor in slugs, f"{target}#{anchor}"


@pytest.mark.parametrize("page", ["verifier-rust", "rollout"])
def test_reasons_that_are_named_exist(page: str) -> None:
    text = (DOCS / f"{page}.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`((?:token|nonce|register|registers|release|lookup|td|tcb|statement|"
                           r"bundle|binding|key|quote)_[a-z_]+)`", text))  # fmt: skip
    fields = {"tdx_mrtd", "td_attributes", "bundle_url", "release_tag"}
    assert named - fields - {str(reason) for reason in Reason} - {"binding_none"} == set()


def test_the_example_of_the_readme_refuses_who_has_no_token(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("DD_TRUSTED_REPO_ID", REPOSITORY_ID)
    monkeypatch.setenv("DD_TRUSTED_OWNER_ID", OWNER_ID)
    (text,) = re.findall(
        r"```python\n(.*?)```", (DOCS.parent / "README.md").read_text(encoding="utf-8"), re.DOTALL
    )
    body = textwrap.indent(text, "    ")
    found = run_text(
        f"import os\nasync def main(nonce, public_key, proof, ita_token):\n{body}    return 200\n"
    )
    status, reason, _ = asyncio.run(found["main"](b"", b"", b"", "no token"))
    assert (status, reason) == (401, Reason.TOKEN_MALFORMED)
