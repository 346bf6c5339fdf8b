"""Registrations of strangers: tokens of others, and tokens that are not genuine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Final

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from fixtures import reference
from fixtures.quotes import Td
from mrtd.verifier.binding import (
    Binding,
    NonceBinding,
    ReportDataBinding,
    prove,
    registration_data,
    report_data,
)
from mrtd.verifier.fetch import Response
from mrtd.verifier.nonce import Nonces
from mrtd.verifier.verdict import Reason, Verdict
from mrtd.verifier.verifier import Verifier
from tests.lab.answers import ADMITTED, Answer, answer, failed
from tests.lab.trust_authority import ISSUER, Recipe, TrustAuthority, signing_key
from tests.lab.world import ONCE_EACH, World

REGISTERS: Final = {
    name: bytes.fromhex(rule["value"]) for name, rule in reference.launch()["registers"].items()
}
SEPT: Final = 1 << 28


def spki(key: ed25519.Ed25519PrivateKey) -> bytes:
    return key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


@cache
def authority() -> TrustAuthority:
    return TrustAuthority()


@dataclass
class Agent:
    """A VM that registers; it does everything right unless told otherwise."""

    key: ed25519.Ed25519PrivateKey = field(default_factory=ed25519.Ed25519PrivateKey.generate)
    context: bytes = b"POST /register"

    def body(self, nonce: bytes, **changes: Any) -> bytes:
        """TD report of the attested launch, with this nonce and key in report data."""
        td: dict[str, Any] = {
            "mr_td": REGISTERS["mrtd"],
            "rtmrs": (*(REGISTERS[f"rtmr{n}"] for n in range(3)), bytes(48)),
            "report_data": report_data(registration_data(nonce, spki(self.key))),
            "xfam": 0x61AE7,
        }
        return Td(**td | changes).report10()

    def binding(self, nonce: bytes, token: str) -> NonceBinding:
        proof = prove(self.key, nonce=nonce, token_or_quote=token.encode(), context=self.context)
        return NonceBinding(
            nonce=nonce, public_key=spki(self.key), proof=proof, context=self.context
        )


class Scene(World):
    """A world in which the launch is attested, with a trust authority."""

    def __init__(self, policy: str = "") -> None:
        super().__init__(policy)
        self.keys_asked = 0
        self.publish(reference.document())
        self.verifier = self.another(fetch=self.fetch)
        self.agent = Agent()

    def fetch(
        self, url: str, *, headers: Mapping[str, str], limit: int, timeout: float
    ) -> Response:
        if url == f"{ISSUER}/certs":
            self.keys_asked += 1
            return Response(200, {}, authority().jwks())
        return self.github(url, headers=headers, limit=limit, timeout=timeout)

    @property
    def now(self) -> int:
        return int(self.times.wall)

    def token(self, nonce: bytes, *, td: Any = None, **recipe: Any) -> str:
        body = self.agent.body(nonce, **(td or {}))
        recipe.setdefault("now", self.now)
        return authority().token(body, Recipe(**recipe))

    def register(self, token: str, binding: Binding) -> Verdict:
        return self.verifier.verify_registration(token, binding=binding)


def token_and_binding(scene: Scene, **recipe: Any) -> tuple[str, NonceBinding]:
    nonce = scene.verifier.nonces.issue()
    token = scene.token(nonce, **recipe)
    return token, scene.agent.binding(nonce, token)


def unasked(scene: Scene) -> bool:
    """Whether the refusal spent nothing of GitHub's budget."""
    return scene.github.asked == []


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_who_does_everything_right_is_admitted(version: str) -> None:
    scene = Scene()
    verdict = scene.register(*token_and_binding(scene, version=version))
    assert answer(verdict) == ADMITTED
    assert verdict.labels == ()


def test_a_nonce_registers_once() -> None:
    scene = Scene()
    token, binding = token_and_binding(scene)
    assert answer(scene.register(token, binding)) == ADMITTED
    again = scene.token(binding.nonce)
    verdict = scene.register(again, scene.agent.binding(binding.nonce, again))
    assert answer(verdict) == (401, Reason.NONCE_USED, "nonce")


def test_the_same_registration_again_is_refused() -> None:
    scene = Scene()
    token, binding = token_and_binding(scene)
    assert answer(scene.register(token, binding)) == ADMITTED
    assert answer(scene.register(token, binding)) == (401, Reason.NONCE_USED, "nonce")


def test_a_nonce_expires() -> None:
    scene = Scene()
    nonce = scene.verifier.nonces.issue()
    scene.times.pass_by(301)
    token = scene.token(nonce)
    verdict = scene.register(token, scene.agent.binding(nonce, token))
    assert answer(verdict) == (401, Reason.NONCE_EXPIRED, "nonce")
    assert unasked(scene)


def test_a_nonce_of_somebody_else_is_unknown() -> None:
    scene = Scene()
    for nonce in (
        Nonces(clock=scene.times.clock).issue(),
        bytes(56),
        b"",
        scene.verifier.nonces.issue()[:-1] + b"\0\0",
    ):
        token = scene.token(nonce)
        verdict = scene.register(token, scene.agent.binding(nonce, token))
        assert answer(verdict) == (401, Reason.NONCE_UNKNOWN, "nonce")
    assert unasked(scene)


def test_a_quote_of_another_vm_cannot_be_relayed() -> None:
    """The stranger has a genuine VM's token, and a nonce and key of his own."""
    scene, stranger = Scene(), Agent()
    token, _ = token_and_binding(scene)
    nonce = scene.verifier.nonces.issue()
    verdict = scene.register(token, stranger.binding(nonce, token))
    assert answer(verdict) == (401, Reason.BINDING_MISMATCH, "report_data")
    assert unasked(scene)


def test_a_genuine_registration_cannot_be_taken_over() -> None:
    """Token, nonce and public key are the genuine VM's; only its private key is not at hand."""
    scene, stranger = Scene(), Agent()
    token, genuine = token_and_binding(scene)
    forged = stranger.binding(genuine.nonce, token)
    binding = msgspec.structs.replace(forged, public_key=genuine.public_key)
    verdict = scene.register(token, binding)
    assert answer(verdict) == (401, Reason.KEY_PROOF_INVALID, "key_proof")
    assert unasked(scene)
    assert answer(scene.register(token, genuine)) == ADMITTED, "the nonce is still its owner's"


def test_a_proof_is_over_its_token_context_and_nonce() -> None:
    scene = Scene()
    token, genuine = token_and_binding(scene)
    other_token, _ = token_and_binding(scene)
    other = Agent(scene.agent.key, b"DELETE /fleet")
    nonce = scene.verifier.nonces.issue()
    proofs = {
        "token": scene.agent.binding(genuine.nonce, other_token).proof,
        "context": other.binding(genuine.nonce, token).proof,
        "nonce": scene.agent.binding(nonce, token).proof,
        "nothing": b"",
        "bits": genuine.proof[:-1] + bytes([genuine.proof[-1] ^ 1]),
    }
    for about, proof in proofs.items():
        verdict = scene.register(token, msgspec.structs.replace(genuine, proof=proof))
        assert answer(verdict) == (401, Reason.KEY_PROOF_INVALID, "key_proof"), about
    assert unasked(scene)
    assert answer(scene.register(token, genuine)) == ADMITTED


def test_runtime_data_that_the_token_repeats_is_this_nonce_and_key() -> None:
    scene = Scene()
    td = {"attester_held_data": "bm90IHRoaXM="}
    verdict = scene.register(*token_and_binding(scene, td=None))
    assert answer(verdict) == ADMITTED
    nonce = scene.verifier.nonces.issue()
    token = authority().token(scene.agent.body(nonce), Recipe(now=scene.now, td=td))
    verdict = scene.register(token, scene.agent.binding(nonce, token))
    assert answer(verdict) == (401, Reason.BINDING_MISMATCH, "runtime_data")


@pytest.mark.parametrize("binding", [None, "", "None", b"none", 0, ("none",)])
def test_a_binding_has_to_be_given(binding: Any) -> None:
    scene = Scene()
    verdict = scene.register(scene.token(b""), binding)
    assert answer(verdict) == (401, Reason.BINDING_MISSING, "binding")
    assert unasked(scene)


def test_without_binding_only_by_name_and_with_a_label() -> None:
    scene = Scene()
    verdict = scene.register(scene.token(b""), "none")
    assert answer(verdict) == ADMITTED
    assert "binding_none" in verdict.labels


def test_report_data_that_the_caller_demands() -> None:
    scene = Scene()
    token = scene.token(b"", td={"report_data": b"\x07" * 64})
    for wrong in (b"\x08" * 64, b"\x07" * 63, b"", bytes(64)):
        verdict = scene.register(token, ReportDataBinding(wrong))
        assert answer(verdict) == (401, Reason.BINDING_MISMATCH, "report_data")
    assert unasked(scene)
    assert answer(scene.register(token, ReportDataBinding(b"\x07" * 64))) == ADMITTED


def test_report_data_of_zero_binds_nothing() -> None:
    scene = Scene()
    token = scene.token(b"", td={"report_data": bytes(64)})
    verdict = scene.register(token, ReportDataBinding(bytes(64)))
    assert answer(verdict) == (401, Reason.BINDING_MISMATCH, "report_data")


@pytest.mark.parametrize("binding", ["none", ReportDataBinding(b"\x07" * 64)])
def test_a_token_admits_once(binding: Binding) -> None:
    scene = Scene()
    token = scene.token(b"", td={"report_data": b"\x07" * 64})
    assert answer(scene.register(token, binding)) == ADMITTED
    assert answer(scene.register(token, binding)) == (401, Reason.TOKEN_REPLAYED, "token_used_once")


def test_a_refused_token_is_not_used_up() -> None:
    scene = Scene()
    scene.github.down = True
    token = scene.token(b"")
    assert scene.register(token, "none").status == 503
    scene.github.down = False
    scene.times.pass_by(60)
    assert answer(scene.register(token, "none")) == ADMITTED


def by_secret(**changes: Any) -> dict[str, Any]:
    return {"alg": "HS256"} | changes


TOKENS: Final[dict[str, tuple[dict[str, Any], Answer]]] = {
    "HS256": (by_secret(), (401, Reason.TOKEN_DEVELOPMENT, "token_algorithm")),
    "none": ({"alg": "none"}, (401, Reason.TOKEN_MALFORMED, "token_form")),
    "PS384 said, HS256 made": (
        {"alg": "HS256", "header": {"alg": "PS384"}},
        (401, Reason.TOKEN_SIGNATURE, "token_signature"),
    ),
    "another key under the same id": (
        {"key": signing_key("stranger")},
        (401, Reason.TOKEN_SIGNATURE, "token_signature"),
    ),
    "unknown key": (
        {"key": signing_key("stranger"), "kid": "stranger"},
        (401, Reason.TOKEN_KEY_UNKNOWN, "token_key"),
    ),
    "LOCAL": (
        {"claims": {"attester_type": "LOCAL"}},
        (401, Reason.TOKEN_DEVELOPMENT, "token_production"),
    ),
    "another issuer": (
        {"top": {"iss": "https://portal.eu.trustauthority.intel.com"}},
        (401, Reason.TOKEN_ISSUER, "token_issuer"),
    ),
    "no issuer": ({"top": {"iss": None}}, (401, Reason.TOKEN_ISSUER, "token_issuer")),
    "expired": ({"age": 361}, (401, Reason.TOKEN_EXPIRED, "token_expiry")),
    "not yet": ({"age": -61}, (401, Reason.TOKEN_NOT_YET_VALID, "token_not_before")),
    "no id": ({"top": {"jti": None}}, (401, Reason.TOKEN_CLAIMS, "token_id")),
    "no expiry": ({"top": {"exp": None}}, (401, Reason.TOKEN_CLAIMS, "token_expiry")),
    "v1 and v2 contradict": (
        {"version": "v2", "top": {"tdx_mrtd": "ab" * 48}},
        (401, Reason.TOKEN_CLAIMS, "token_claims"),
    ),
    "v1 and v2 contradict about debug": (
        {"version": "v2", "top": {"tdx_is_debuggable": True}},
        (401, Reason.TOKEN_CLAIMS, "token_claims"),
    ),
    "debug denied": (
        {"td": {"attributes": SEPT | 1}, "claims": {"tdx_is_debuggable": False}},
        (401, Reason.TOKEN_CLAIMS, "token_claims"),
    ),
    "debug not mentioned": (
        {"claims": {"tdx_is_debuggable": None}},
        (401, Reason.TOKEN_CLAIMS, "token_claims"),
    ),
    "no RTMR1": ({"claims": {"tdx_rtmr1": None}}, (401, Reason.TOKEN_CLAIMS, "token_claims")),
    "no TCB status": (
        {"claims": {"attester_tcb_status": None}},
        (401, Reason.TOKEN_CLAIMS, "token_claims"),
    ),
    "debug": ({"td": {"attributes": SEPT | 1}}, (403, Reason.TD_DEBUG, "td_debug")),
    "out of date": (
        {"claims": {"attester_tcb_status": "OutOfDate"}},
        (403, Reason.TCB_STATUS, "tcb_status"),
    ),
    "another SEAM signer": (
        {"td": {"mr_signer_seam": b"\1" * 48}},
        (403, Reason.SEAM, "seam_signer"),
    ),
}


@pytest.mark.parametrize("mode", ["enforce", "observe"])
@pytest.mark.parametrize("name", TOKENS)
def test_a_token_is_refused_in_both_modes_and_costs_no_lookup(name: str, mode: str) -> None:
    recipe, expected = TOKENS[name]
    made = dict(recipe)
    scene = Scene(f'mode = "{mode}"\n')
    scene.times.pass_by(100_000)
    when = scene.now - made.pop("age", 0)
    claims = {"td": made.pop("claims")} if "claims" in made else {}
    nonce = scene.verifier.nonces.issue()
    body = scene.agent.body(nonce, **made.pop("td", {}))
    token = authority().token(body, Recipe(now=when, **made, **claims))
    verdict = scene.register(token, scene.agent.binding(nonce, token))
    assert answer(verdict) == expected
    assert unasked(scene)
    if expected[0] == 401 and expected[1] is not Reason.TOKEN_KEY_UNKNOWN:
        assert scene.keys_asked <= 1
    elif expected[0] == 403:
        # the nonce was its owner's, and is used up
        assert scene.verifier.nonces.consume(nonce) is Reason.NONCE_USED
    if expected[0] == 401:
        assert scene.verifier.nonces.consume(nonce) is None, "a stranger does not use it up"


@pytest.mark.parametrize("text", ["", ".", "..", "a.b", "a.b.c.d", "\ud800", "a" * 70_000, "{}"])
def test_what_is_no_token_is_refused(text: str) -> None:
    scene = Scene()
    verdict = scene.register(text, "none")
    assert (verdict.status, verdict.reason) == (401, Reason.TOKEN_MALFORMED)
    assert unasked(scene)
    assert scene.keys_asked == 0


def test_the_tokens_own_key_address_is_never_asked() -> None:
    scene = Scene()
    token, binding = token_and_binding(
        scene, header={"jku": "https://evil.example/certs"}, kid="theirs"
    )
    verdict = scene.register(token, binding)
    assert verdict.reason is Reason.TOKEN_KEY_UNKNOWN  # `Scene.fetch` answers no other address


def test_the_answer_about_one_token_is_not_that_about_the_next() -> None:
    """The admission is kept; token, nonce and proof are asked for every time."""
    scene = Scene()
    for _ in range(2):
        assert answer(scene.register(*token_and_binding(scene))) == ADMITTED
    token, binding = token_and_binding(scene)
    bad = msgspec.structs.replace(binding, proof=bytes(64))
    assert failed(scene.register(token, bad)) == {"key_proof"}
    assert scene.github.about == ONCE_EACH


def test_two_verifiers_do_not_take_each_others_nonces() -> None:
    scene = Scene()
    other: Verifier = scene.another(fetch=scene.fetch)
    nonce = other.nonces.issue()
    token = scene.token(nonce)
    verdict = scene.register(token, scene.agent.binding(nonce, token))
    assert answer(verdict) == (401, Reason.NONCE_UNKNOWN, "nonce")
