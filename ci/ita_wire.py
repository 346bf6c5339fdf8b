"""Requests to Intel Trust Authority, and its answers: bytes in, values out.

Source: Intel's REST API reference and the constants of its Python and Go clients
(``/appraisal/v1/attest``, ``/appraisal/v2/attest``, ``/appraisal/v2/nonce``). What the answers are
capped at is what the Go client caps them at.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from mrtd.errors import InputError, MalformedStatement, TransportError
from mrtd.printable import printable
from mrtd.reference.strict_json import read_json
from mrtd.verifier.token_claims import VerifierNonce

Api = Literal["v1", "v2"]

NONCE_LIMIT: Final = 4 << 10
TOKEN_LIMIT: Final = 64 << 10
BODY_LIMIT: Final = 500_000
POLICY_LIMIT: Final = 10
REQUEST_ID_LIMIT: Final = 128
NONCE_PATH: Final = "/appraisal/v2/nonce"
ATTEST_PATHS: Final[dict[Api, str]] = {"v1": "/appraisal/v1/attest", "v2": "/appraisal/v2/attest"}
_ERROR_SHOWN: Final = 300
_ID: Final = re.compile(r"[A-Za-z0-9_.:-]+")
_UUID: Final = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")


class RequestError(InputError):
    """What is asked of Intel Trust Authority goes beyond what it takes."""


@dataclass(frozen=True, slots=True)
class Nonce:
    """A nonce of Intel Trust Authority, exactly as it answered it.

    Attributes:
        val: base64; what it decodes to is hashed, even where that is base64 once more.
        iat: base64 of the time of issue as text.
        signature: base64; it comes back with the quote.
    """

    val: str
    iat: str
    signature: str

    @property
    def decoded(self) -> VerifierNonce:
        """What enters report data: base64 undone once."""
        return VerifierNonce(base64.b64decode(self.val), base64.b64decode(self.iat))

    def as_json(self) -> dict[str, str]:
        """As it is sent back."""
        return {"val": self.val, "iat": self.iat, "signature": self.signature}


@dataclass(frozen=True, slots=True)
class Options:
    """What else a request may say.

    Attributes:
        policy_ids: ids of appraisal policies of the subscription.
        policy_must_match: whether a policy that does not match is an error.
        algorithm: signature of the token; None for the service's default (PS384).
        request_id: for Intel's support.
    """

    policy_ids: tuple[str, ...] = ()
    policy_must_match: bool = False
    algorithm: Literal["PS384", "RS256"] | None = None
    request_id: str | None = None

    def __post_init__(self) -> None:
        _check_policies(self.policy_ids)
        wanted = self.request_id
        if wanted is not None and not (len(wanted) <= REQUEST_ID_LIMIT and _ID.fullmatch(wanted)):
            raise RequestError(
                f"is not 1 to {REQUEST_ID_LIMIT} of letters, digits and -_.:",
                origin="request",
                field="Request-Id",
            )


def _check_policies(ids: Sequence[str]) -> None:
    if len(ids) > POLICY_LIMIT:
        raise RequestError(
            f"{len(ids)} policies, more than {POLICY_LIMIT}", origin="request", field="policy_ids"
        )
    for one in ids:
        if not _UUID.fullmatch(one):
            shown = printable(one)[:50]
            raise RequestError(f"{shown} is no UUID", origin="request", field="policy_ids")


_NO_OPTIONS: Final = Options()


def attest_body(
    quote: bytes,
    *,
    api: Api,
    nonce: Nonce | None = None,
    data: bytes = b"",
    options: Options = _NO_OPTIONS,
) -> bytes:
    """The body of an attest request: evidence nested under ``tdx`` (v2), or flat (v1).

    Args:
        quote: exactly the quote.
        api: version of the API.
        nonce: that report data was made with.
        data: what else report data was made with; ``runtime_data``.
        options: policies and algorithm.

    Raises:
        RequestError: more than the service takes.
    """
    evidence: dict[str, Any] = {"quote": _text(quote)}
    if nonce is not None:
        evidence["verifier_nonce"] = nonce.as_json()
    if data:
        evidence["runtime_data"] = _text(data)
    rest: dict[str, Any] = {}
    if options.policy_ids:
        rest = {
            "policy_ids": list(options.policy_ids),
            "policy_must_match": options.policy_must_match,
        }
    if options.algorithm is not None:
        rest["token_signing_alg"] = options.algorithm
    document = {"tdx": evidence, **rest} if api == "v2" else {**evidence, **rest}
    body = json.dumps(document, separators=(",", ":")).encode()
    if len(body) > BODY_LIMIT:
        raise RequestError(
            f"the request has {len(body)} bytes, more than {BODY_LIMIT}", origin="request"
        )
    return body


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()


def read_nonce(body: bytes, *, origin: str = "nonce") -> Nonce:
    """Read a nonce: an answer of the service, or a file that was saved from one.

    Raises:
        MalformedStatement: it is none; base64 in another spelling than the only one is none.
    """
    tree = read_json(body, origin=origin, limit=NONCE_LIMIT)
    texts = [tree.get(name) if isinstance(tree, dict) else None for name in ("val", "iat")]
    signature = tree.get("signature") if isinstance(tree, dict) else None
    parts = []
    for name, text in zip(("val", "iat", "signature"), (*texts, signature), strict=True):
        if not isinstance(text, str) or not _is_base64(text):
            raise MalformedStatement("is no base64", origin=origin, field=name)
        parts.append(text)
    return Nonce(*parts)


def _is_base64(text: str) -> bool:
    try:
        data = base64.b64decode(text, validate=True)
    except ValueError:
        return False
    return bool(data) and base64.b64encode(data).decode() == text


def read_token(body: bytes) -> str:
    """The token in an answer; nothing of it is checked but that there is a text.

    Raises:
        TransportError: there is none.
    """
    try:
        tree = read_json(body, origin="answer", limit=TOKEN_LIMIT)
    except MalformedStatement:
        tree = None
    token = tree.get("token") if isinstance(tree, dict) else None
    if not isinstance(token, str) or not token:
        raise TransportError("Intel Trust Authority answered 200 with something that has no token")
    return token


def error_text(body: bytes) -> str:
    """What an error answer says: Intel's ``{"error": ...}``, safe to print; empty if nothing."""
    try:
        tree = read_json(body[: TOKEN_LIMIT + 1], origin="answer", limit=TOKEN_LIMIT)
    except MalformedStatement:
        return ""
    text = tree.get("error") if isinstance(tree, dict) else None
    return printable(text) if isinstance(text, str) else ""


def cut(text: str) -> str:
    """As much of a stranger's text as is shown."""
    return text if len(text) <= _ERROR_SHOWN else f"{text[:_ERROR_SHOWN]} ..."
