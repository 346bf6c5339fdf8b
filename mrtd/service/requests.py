"""What can be asked: bodies of requests. Unknown fields are refused; bytes are base64url.

Base64url is RFC 4648 section 5 without padding, in its only spelling, as nonces are written.
"""

from __future__ import annotations

import base64
from typing import Annotated, Final

import msgspec

from mrtd.errors import MalformedDocument
from mrtd.service.agent_fetch import HEALTH_PATTERN, Place
from mrtd.service.answers import Refusal
from mrtd.verifier.binding import Binding, NonceBinding, ReportDataBinding
from mrtd.verifier.verdict import Reason

# "$" alone would match before a line end
_BASE64URL: Final = r"^[A-Za-z0-9_-]*$(?!\n)"
_NAME: Final = r"^[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?$(?!\n)"
_LABEL: Final = r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$(?!\n)"

_KEY: Final = "SubjectPublicKeyInfo (DER) of an Ed25519 or P-256 key, base64url"

Token = Annotated[
    str,
    msgspec.Meta(min_length=1, max_length=64 << 10, description="token of Intel Trust Authority"),
]
Nonce = Annotated[
    str, msgspec.Meta(pattern=_BASE64URL, max_length=128, description="a nonce as it was issued")
]
PublicKey = Annotated[str, msgspec.Meta(pattern=_BASE64URL, max_length=512, description=_KEY)]
Proof = Annotated[
    str,
    msgspec.Meta(
        pattern=_BASE64URL,
        max_length=512,
        description="signature over mrtd.registration.proof/v1, base64url",
    ),
]
Health = Annotated[str, msgspec.Meta(pattern=HEALTH_PATTERN, max_length=280)]
VmName = Annotated[str, msgspec.Meta(pattern=_NAME, description="name of the VM; it is logged")]


class _Body(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An object of a request."""


class NonceBindingBody(_Body, frozen=True, kw_only=True, tag_field="type", tag="nonce"):
    """Evidence for a nonce of this service, from the owner of a key.

    Attributes:
        context: what else the proof covers, base64url: the caller makes it, from the request that
            it has from the agent.
    """

    nonce: Nonce
    public_key: PublicKey
    proof: Proof
    context: Annotated[str, msgspec.Meta(pattern=_BASE64URL, max_length=64 << 10)] = ""


class ReportDataBindingBody(_Body, frozen=True, kw_only=True, tag_field="type", tag="report_data"):
    """Evidence with report data that the caller demands.

    Attributes:
        report_data: 64 bytes, base64url; that they are used only once is the caller's care.
    """

    report_data: Annotated[str, msgspec.Meta(pattern=_BASE64URL, min_length=86, max_length=86)]


class NoBindingBody(_Body, frozen=True, kw_only=True, tag_field="type", tag="none"):
    """Evidence that anybody may have copied: refused, unless the operator said otherwise."""


class VerifyRequest(_Body, frozen=True, kw_only=True):
    """``POST /v1/verify``: a token, or a quote with its collateral.

    Attributes:
        ita_token: the token.
        quote: a raw TDX quote, base64url, instead of a token.
        collateral: for the quote: an object with the fields of DCAP's QuoteCollateralV3.
        binding: what shows that the evidence was made for this registration; who leaves it out gets
            ``binding_missing``, whatever the operator said: that none is meant has to be said.
        bundles: Sigstore bundles that the agent presented, as they are.
        vm_name: for the log only; nothing is decided by it.
    """

    binding: NonceBindingBody | ReportDataBindingBody | NoBindingBody | None = None
    ita_token: Token | None = None
    quote: Annotated[str, msgspec.Meta(pattern=_BASE64URL, min_length=1)] | None = None
    collateral: dict[str, str | None] | None = None
    bundles: Annotated[tuple[msgspec.Raw, ...], msgspec.Meta(max_length=8)] = ()
    vm_name: VmName | None = None

    def __post_init__(self) -> None:
        if (self.ita_token is None) is (self.quote is None):
            raise ValueError("either ita_token or quote")
        if (self.collateral is None) is not (self.quote is None):
            raise ValueError("a quote comes with its collateral, and a token without")
        if not all(bytes(bundle).startswith(b"{") for bundle in self.bundles):
            raise ValueError("bundles are JSON objects")


class Ingress(_Body, frozen=True, kw_only=True):
    """A further host name of a VM, and the port behind it."""

    hostname_label: Annotated[str, msgspec.Meta(pattern=_LABEL)]
    port: Annotated[int, msgspec.Meta(ge=1, le=65535)]


class RegisterRequest(_Body, frozen=True, kw_only=True):
    """``POST /register``: as dd's agents send it, with what binds the token to it.

    Attributes:
        vm_name: the VM's name.
        ita_token: the token.
        extra_ingress: further host names.
        env_label: ignored: the control plane knows it from its own configuration.
        owner: ditto.
        health: ``https://HOST[:PORT]`` where the agent answers ``/health``; only with a proof,
            which covers it, too.
        nonce: of ``GET /register/nonce``; all three of these, or none of them.
        public_key: the agent's.
        proof: over nonce, token and the rest of the request (`reference_cp.register_context`).
    """

    vm_name: VmName
    ita_token: Token
    extra_ingress: Annotated[tuple[Ingress, ...], msgspec.Meta(max_length=32)] = ()
    env_label: Annotated[str, msgspec.Meta(max_length=256)] | None = None
    owner: Annotated[str, msgspec.Meta(max_length=256)] | None = None
    health: Health | None = None
    nonce: Nonce | None = None
    public_key: PublicKey | None = None
    proof: Proof | None = None

    def __post_init__(self) -> None:
        given = [part is not None for part in (self.nonce, self.public_key, self.proof)]
        if any(given) and not all(given):
            raise ValueError("nonce, public_key and proof come together")
        if self.health is not None:
            if not all(given):
                raise ValueError("health comes with a proof, which covers it")
            try:
                Place.read(self.health)
            except MalformedDocument as error:  # such as port 65536
                raise ValueError(error.message) from error


def read_bytes(text: str, field: str) -> bytes:
    """Bytes of base64url. Raises `Refusal`."""
    try:
        data = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except ValueError:
        data = b""
    if text_of(data) != text:
        raise Refusal(400, "invalid_request", f"body: {field}: no base64url without padding")
    return data


def text_of(data: bytes) -> str:
    """Base64url of bytes."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def binding_of(
    body: NonceBindingBody | ReportDataBindingBody | NoBindingBody | None, *, allow_none: bool
) -> Binding:
    """What the verifier takes. Raises `Refusal`: no binding, and the operator did not say so."""
    if isinstance(body, NonceBindingBody):
        return nonce_binding(body.nonce, body.public_key, body.proof,
                             context=read_bytes(body.context, "binding.context"))  # fmt: skip
    if isinstance(body, ReportDataBindingBody):
        return ReportDataBinding(read_bytes(body.report_data, "binding.report_data"))
    if body is None or not allow_none:
        raise binding_missing()
    return "none"


def nonce_binding(nonce: str, public_key: str, proof: str, *, context: bytes) -> NonceBinding:
    """A `NonceBinding` of texts. Raises `Refusal`."""
    return NonceBinding(
        nonce=read_bytes(nonce, "nonce"),
        public_key=read_bytes(public_key, "public_key"),
        proof=read_bytes(proof, "proof"),
        context=context,
    )


def binding_missing() -> Refusal:
    """The answer to evidence that nothing binds to this registration."""
    return Refusal(
        Reason.BINDING_MISSING.status,
        Reason.BINDING_MISSING,
        "nothing binds the evidence to this registration: get a nonce, and send it with public key "
        "and proof (an operator can allow this with --binding none)",
    )
