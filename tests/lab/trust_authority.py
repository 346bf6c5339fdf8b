"""A double of Intel Trust Authority: tokens, genuine and with one flaw each, and its service.

Nothing of `mrtd` and no JWT library has a part in making tokens: claims are cut out of the bytes of
a TD report here, and signed with cryptography. Names and forms: facts of Intel's REST API, EAT
profile and clients (token versions 1 and 2, ``/appraisal/...``, ``/certs``).
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import secrets
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum, auto
from functools import cache
from pathlib import Path
from typing import Any, Final, Literal, Self

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from fixtures.quotes import Td
from mrtd.errors import TransportError
from mrtd.verifier.clock import Clock
from mrtd.verifier.fetch import HttpFetch, Response
from tests.lab.web import Answer, How, Request, Server, make_certificate

Json = dict[str, Any]
Version = Literal["v1", "v2"]

NOW: Final = 1_795_000_000
LIFETIME: Final = 300
ISSUER: Final = "https://portal.trustauthority.intel.com"
API_KEY: Final = "lab-api-key"
REPORT_DATA: Final = slice(520, 584)
PATIENCE: Final = 2.0
"""Seconds that a fetch from the service on this machine may take."""
_BODY_LIMIT: Final = 500_000
# Claims cut out of a TD report 1.0, in its order (Intel TDX DCAP Quoting Library API, A.3)
_CUTS: Final = (
    ("tdx_tee_tcb_svn", 16), ("tdx_mrseam", 48), ("tdx_mrsignerseam", 48),
    ("tdx_seam_attributes", 8), ("tdx_td_attributes", 8), ("tdx_xfam", 8), ("tdx_mrtd", 48),
    ("tdx_mrconfigid", 48), ("tdx_mrowner", 48), ("tdx_mrownerconfig", 48), ("tdx_rtmr0", 48),
    ("tdx_rtmr1", 48), ("tdx_rtmr2", 48), ("tdx_rtmr3", 48), ("tdx_report_data", 64),
)  # fmt: skip


@cache
def signing_key(name: str) -> rsa.RSAPrivateKey:
    """An RSA key of 3072 bits; the same one for the same name, made once per session."""
    del name
    return rsa.generate_private_key(public_exponent=65537, key_size=3072)


def b64url(data: bytes) -> str:
    """Base64url without padding."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def encode(value: object) -> bytes:
    """JSON without spaces."""
    return json.dumps(value, separators=(",", ":")).encode()


def jwk(kid: str, key: rsa.RSAPublicKey, **more: object) -> Json:
    """A public RSA key as a JWK; a None in ``more`` leaves a member out."""
    numbers = key.public_numbers()

    def text(value: int) -> str:
        return b64url(value.to_bytes((value.bit_length() + 7) // 8, "big"))

    members = {"kty": "RSA", "kid": kid, "n": text(numbers.n), "e": text(numbers.e), **more}
    return {name: value for name, value in members.items() if value is not None}


def sign(alg: str, key: rsa.RSAPrivateKey, message: bytes) -> bytes:
    """A signature of RFC 7518; the HMAC's secret is the one word that everybody tries."""
    if alg == "PS384":
        salted = padding.PSS(padding.MGF1(hashes.SHA384()), hashes.SHA384.digest_size)
        return key.sign(message, salted, hashes.SHA384())
    if alg == "RS256":
        return key.sign(message, padding.PKCS1v15(), hashes.SHA256())
    return b"" if alg == "none" else hmac.digest(b"secret", message, hashlib.sha256)


def td_claims(body: bytes) -> Json:
    """What a token says of a TD report (its first 584 bytes), all well with its platform."""
    claims: Json = {}
    start = 0
    for name, size in _CUTS:
        claims[name] = body[start : start + size].hex()
        start += size
    attributes = int.from_bytes(body[120:128], "little")
    named = {"debug": 0, "septve_disable": 28, "protection_keys": 30, "key_locker": 31}
    for name, bit in {**named, "perfmon": 63}.items():
        claims[f"tdx_td_attributes_{name}"] = bool(attributes >> bit & 1)
    return claims | {
        "attester_type": "TDX",
        "attester_tcb_status": "UpToDate",
        "attester_tcb_date": "2026-03-12T00:00:00Z",
        "dbgstat": "enabled" if attributes & 1 else "disabled",
        "tdx_is_debuggable": bool(attributes & 1),
        "tdx_seamsvn": int.from_bytes(body[:2], "little"),
    }


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a token is made; by default a genuine one of now.

    Attributes:
        td: claims about the TD to replace; None leaves one out.
        top: other claims to replace (``iss``, ``exp`` ...), ditto.
        header: members of the header to replace, ditto.
        payload: the payload's bytes instead of all that.
    """

    version: Version = "v1"
    alg: str = "PS384"
    kid: str | None = None
    key: rsa.RSAPrivateKey | None = None
    now: int = NOW
    td: Mapping[str, object] = field(default_factory=dict)
    top: Mapping[str, object] = field(default_factory=dict)
    header: Mapping[str, object] = field(default_factory=dict)
    payload: bytes | None = None
    raw_header: bytes | None = None


GOOD: Final = Recipe()


def _replaced(old: Json, new: Mapping[str, object]) -> Json:
    return {name: value for name, value in (old | dict(new)).items() if value is not None}


class TrustAuthority:
    """Keys, tokens and the service's answers.

    Attributes:
        published: keys at ``/certs``, by id.
        current: id of the key that signs.
    """

    def __init__(self) -> None:
        self.published = {"key-1": signing_key("key-1")}
        self.current = "key-1"
        self._nonce_key = secrets.token_bytes(32)
        self._serial = 0

    def rotate(self, *, drop: bool = False) -> None:
        """Sign with a new key from now on; ``drop`` takes the old ones from ``/certs``."""
        if drop:
            self.published.clear()
        self.current = f"key-{int(self.current.partition('-')[2]) + 1}"
        self.published[self.current] = signing_key(self.current)

    def jwks(self) -> bytes:
        """The answer of ``/certs``."""
        return encode({"keys": [jwk(kid, k.public_key()) for kid, k in self.published.items()]})

    def payload(self, body: bytes, recipe: Recipe = GOOD) -> Json:
        """Claims of a token."""
        self._serial += 1
        about = _replaced(td_claims(body), recipe.td)
        top: Json = {
            "iss": ISSUER,
            "iat": recipe.now,
            "nbf": recipe.now,
            "exp": recipe.now + LIFETIME,
            "jti": f"lab-{self._serial}",
            "eat_profile": f"{ISSUER}/eat_profile.html",
            "intuse": "generic",
            "ver": "1.0.0" if recipe.version == "v1" else "2.0.0",
            "policy_ids_unmatched": [{"id": "f6e5", "version": "v1", "hash": "aGFzaA=="}],
        }
        placed = about if recipe.version == "v1" else {"tdx": about}
        return _replaced(top | placed, recipe.top)

    def token(self, body: bytes | None = None, recipe: Recipe = GOOD) -> str:
        """A token about a TD report."""
        if body is None:
            body = Td().report10()
        kid = recipe.kid or self.current
        header = {"alg": recipe.alg, "kid": kid, "typ": "JWT", "jku": f"{ISSUER}/certs"}
        head = recipe.raw_header or encode(_replaced(header, recipe.header))
        payload = recipe.payload or encode(self.payload(body, recipe))
        message = f"{b64url(head)}.{b64url(payload)}"
        key = recipe.key or signing_key(self.current)
        return f"{message}.{b64url(sign(recipe.alg, key, message.encode()))}"

    def nonce(self) -> dict[str, str]:
        """A nonce as the service answers it: base64 around base64, and around a date as text."""
        val = base64.b64encode(base64.b64encode(secrets.token_bytes(32))).decode()
        iat = base64.b64encode(b"2026-11-23 12:26:40 +0000 UTC").decode()
        mac = hmac.digest(self._nonce_key, f"{val}.{iat}".encode(), hashlib.sha256)
        return {"val": val, "iat": iat, "signature": base64.b64encode(mac).decode()}

    def answer(self, request: Request) -> Answer:
        """What the service says."""
        if (request.method, request.path) == ("GET", "/certs"):
            return _json(200, self.jwks())
        if request.headers.get("x-api-key") != API_KEY:
            return _error(401, "unauthorized")
        if (request.method, request.path) == ("GET", "/appraisal/v2/nonce"):
            return _json(200, encode(self.nonce()))
        if request.method == "POST" and request.path in {
            "/appraisal/v1/attest",
            "/appraisal/v2/attest",
        }:
            return self._attest(request)
        return _error(404, "not found")

    def _attest(self, request: Request) -> Answer:
        if len(request.body) > _BODY_LIMIT:
            return _error(413, "request too large")
        version: Version = "v1" if "/v1/" in request.path else "v2"
        try:
            document = json.loads(request.body)
            evidence = document.get("tdx", document) if version == "v2" else document
            body = report_body(base64.b64decode(evidence["quote"], validate=True))
            nonce = evidence.get("verifier_nonce")
            runtime_data = base64.b64decode(evidence.get("runtime_data", ""), validate=True)
        except (ValueError, KeyError, TypeError, AttributeError):
            return _error(400, "cannot unmarshal the request")
        if nonce is not None and not self._issued(nonce):
            return _error(400, "nonce is not genuine")
        prefix = (
            b"".join(base64.b64decode(nonce[name]) for name in ("val", "iat")) if nonce else b""
        )
        bound = hashlib.sha512(prefix + runtime_data).digest()
        if (nonce or runtime_data) and body[REPORT_DATA] != bound:
            return _error(400, "report data does not match nonce and runtime data")
        td = {
            "attester_held_data": base64.b64encode(runtime_data).decode() or None,
            "verifier_nonce": nonce,
        }
        return _json(200, encode({"token": self.token(body, Recipe(version=version, td=td))}))

    def _issued(self, nonce: Mapping[str, str]) -> bool:
        mac = hmac.digest(
            self._nonce_key, f"{nonce['val']}.{nonce['iat']}".encode(), hashlib.sha256
        )
        return nonce["signature"] == base64.b64encode(mac).decode()


def report_body(quote: bytes) -> bytes:
    """The first 584 bytes of a quote's TD report, by version 4 or 5. Raises `ValueError`."""
    start = {4: 48, 5: 54}.get(int.from_bytes(quote[:2], "little"))
    if start is None or len(quote) < start + 584:
        raise ValueError("no quote")
    return quote[start : start + 584]


def _json(status: int, body: bytes) -> Answer:
    return Answer(status, body, {"Content-Type": "application/json"})


def _error(status: int, text: str) -> Answer:
    return _json(status, encode({"error": text}))


class Fault(Enum):
    """What can be wrong with the service."""

    REFUSED = auto()
    SERVER_ERROR = auto()
    TOO_MANY_REQUESTS = auto()
    SLOW_DRIP = auto()
    TRUNCATED = auto()
    WRONG_CONTENT = auto()
    EMPTY_SET = auto()
    REDIRECT = auto()


class Service:
    """The double behind a server with TLS on this machine; use as a context manager.

    Args:
        folder: for the server's certificate.
        authority: the double.

    Attributes:
        fault: how every request is answered; None for well.
    """

    def __init__(self, folder: Path, authority: TrustAuthority | None = None) -> None:
        self.authority = authority or TrustAuthority()
        self.fault: Fault | None = None
        both, ca = make_certificate(folder)
        self.server = Server(self._answer, tls=both)
        self._fetch = HttpFetch(ca_bundle=ca)

    def __enter__(self) -> Self:
        self.server.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self.server.__exit__(None, None, None)

    def fetch(
        self, url: str, *, headers: Mapping[str, str], limit: int, timeout: float
    ) -> Response:
        """A `Fetch` over HTTP that finds the portal on this machine."""
        here = url.replace(ISSUER, self.server.origin)
        return self._fetch(here, headers=headers, limit=limit, timeout=min(timeout, PATIENCE))

    def _answer(self, request: Request) -> Answer:
        good = self.authority.answer(request)
        answers = {
            Fault.REFUSED: Answer(how=How.RESET),
            Fault.SERVER_ERROR: _error(503, "try again"),
            Fault.TOO_MANY_REQUESTS: Answer(429, b"", {"Retry-After": "300"}),
            Fault.SLOW_DRIP: Answer(how=How.DRIPPING_BODY),
            Fault.TRUNCATED: Answer(good.status, good.body, good.headers, How.TRUNCATED),
            Fault.WRONG_CONTENT: Answer(200, b"<html>maintenance</html>"),
            Fault.EMPTY_SET: Answer(200, b'{"keys":[]}'),
            Fault.REDIRECT: Answer(302, b"", {"Location": f"{ISSUER}/certs"}),
        }
        return good if self.fault is None else answers[self.fault]


class KeysFetch:
    """A `Fetch` without a server.

    Attributes:
        calls: how often it was asked.
        down: raise `TransportError`.
        body: what to answer instead of the authority's keys.
        entered: set when a call has begun; ``gate`` holds it until set.
    """

    def __init__(self, authority: TrustAuthority) -> None:
        self.authority = authority
        self.calls = 0
        self.down = False
        self.status = 200
        self.body: bytes | None = None
        self.entered = threading.Event()
        self.gate = threading.Event()
        self.gate.set()

    def __call__(
        self, url: str, *, headers: Mapping[str, str], limit: int, timeout: float
    ) -> Response:
        if url != f"{ISSUER}/certs" or timeout <= 0 or "Authorization" in headers:
            raise AssertionError(url)
        self.calls += 1
        self.entered.set()
        if not self.gate.wait(30):
            raise AssertionError("nobody opened the gate")
        if self.down:
            raise TransportError("down")
        body = self.authority.jwks() if self.body is None else self.body
        if len(body) > limit:
            raise TransportError("too long")
        return Response(self.status, {}, body)


class LabClock:
    """Two clocks that a test sets."""

    def __init__(self) -> None:
        self.wall = float(NOW)
        self.steady = 1000.0

    @property
    def clock(self) -> Clock:
        return Clock(wall=lambda: self.wall, steady=lambda: self.steady)

    def advance(self, seconds: float) -> None:
        """Time goes by."""
        self.wall += seconds
        self.steady += seconds
