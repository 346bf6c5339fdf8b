"""A whole Sigstore instance on a loopback port, for clients that sign.

with SigningServer() as server:
    config = server.trust_config(rekor=1)       # ClientTrustConfig JSON that points here
    environment = server.actions_environment()  # what a job of GitHub Actions has
    server.faults[Endpoint.FULCIO] = Fault(Kind.STATUS, 503, times=2)
    ...
    server.counts[Endpoint.FULCIO]
"""

from __future__ import annotations

import json
from base64 import b64decode
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from enum import StrEnum
from threading import Lock
from types import TracebackType
from typing import Any, Final, Self

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_public_key

from tests.lab.faults import Fault
from tests.lab.github_oidc import OidcProvider, TokenRefused, fulcio_identity, utc_now
from tests.lab.instance import Instance, default_instance
from tests.lab.rekor_api import EntryRefused, RekorV1Api, RekorV2Api
from tests.lab.web import Answer, Request, Server

_JSON: Final = {"Content-Type": "application/json"}


class Endpoint(StrEnum):
    """A service's path."""

    OIDC = "/oidc/token"
    FULCIO = "/api/v2/signingCert"
    REKOR_V1 = "/api/v1/log/entries"
    REKOR_V2 = "/api/v2/log/entries"
    TSA = "/api/v1/timestamp"


class SigningServer:
    """Serves while it is entered.

    Args:
        instance: whose keys sign.
        now: the time at all services.
        claims: of the run that the OIDC endpoint gives tokens to.

    Attributes:
        faults: what is wrong with an endpoint.
        counts: requests to each endpoint.
        done: how often each service did its work, whether or not the answer arrived.
        provider: the OIDC provider.
        request_token: the secret that a job asks the OIDC endpoint with.
        issued: tokens that the OIDC endpoint has given out.
        certificates: that Fulcio has issued.
    """

    def __init__(
        self,
        instance: Instance | None = None,
        *,
        now: Callable[[], datetime] = utc_now,
        claims: dict[str, Any] | None = None,
    ) -> None:
        self.instance = instance or default_instance()
        self.provider = OidcProvider(now)
        self.faults: dict[Endpoint, Fault] = {}
        self.counts: Counter[Endpoint] = Counter()
        self.done: Counter[Endpoint] = Counter()
        self.request_token = "lab-request-token-which-nobody-may-see"  # noqa: S105 - opens nothing
        self.issued: list[str] = []
        self.certificates: list[x509.Certificate] = []
        self._claims = claims
        self._now = now
        self._lock = Lock()
        self._rekor_v1 = RekorV1Api(self.instance.rekor_v1)
        self._rekor_v2 = RekorV2Api(self.instance.rekor_v2)
        self._services: dict[Endpoint, Callable[[Request], Answer]] = {
            Endpoint.OIDC: self._oidc,
            Endpoint.FULCIO: self._fulcio,
            Endpoint.REKOR_V1: lambda request: self._rekor_v1.create(request.body, self._now()),
            Endpoint.REKOR_V2: lambda request: self._rekor_v2.create(request.body),
            Endpoint.TSA: self._timestamp,
        }
        self.web = Server(self._closing_answer)

    @property
    def origin(self) -> str:
        """Scheme, host and port."""
        return self.web.origin

    def __enter__(self) -> Self:
        self.web.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.web.__exit__(kind, error, trace)

    def trust_config(self, *, rekor: int = 1, timestamps: bool = True) -> bytes:
        """ClientTrustConfig JSON: the instance's keys, and this server's addresses."""
        config = self.instance.signing_config(
            fulcio=self.origin,
            oidc=self.origin,
            rekor_v1=self.origin if rekor == 1 else None,
            rekor_v2=self.origin if rekor == 2 else None,
            tsa=f"{self.origin}{Endpoint.TSA}",
        )
        if not timestamps:
            config["tsaUrls"] = []
        return self.instance.client_trust_config_json(signing_config=config)

    def actions_environment(self) -> dict[str, str]:
        """What GitHub Actions gives to a job that may ask for OIDC tokens."""
        return {
            "GITHUB_ACTIONS": "true",
            "ACTIONS_ID_TOKEN_REQUEST_URL": f"{self.origin}{Endpoint.OIDC}?api-version=2.0",
            "ACTIONS_ID_TOKEN_REQUEST_TOKEN": self.request_token,
        }

    def _closing_answer(self, request: Request) -> Answer:
        """The server closes every connection; one that was not told would use it again."""
        answer = self._answer(request)
        return replace(answer, headers={**answer.headers, "Connection": "close"})

    def _answer(self, request: Request) -> Answer:
        try:
            endpoint = Endpoint(request.path)
        except ValueError:
            return _refusal(404, f"no such endpoint: {request.path}")
        wanted = "GET" if endpoint is Endpoint.OIDC else "POST"
        if request.method != wanted:
            return _refusal(405, f"{endpoint} is asked with {wanted}")
        with self._lock:
            number = self.counts[endpoint]
            self.counts[endpoint] += 1
        fault = self.faults.get(endpoint)
        if fault is not None and fault.hits(number):
            return fault.answer(request, lambda: self._serve(endpoint, request))
        return self._serve(endpoint, request)

    def _serve(self, endpoint: Endpoint, request: Request) -> Answer:
        try:
            answer = self._services[endpoint](request)
        except TokenRefused as error:
            return _refusal(401, f"There was an error processing the identity token: {error}")
        except (EntryRefused, ValueError) as error:
            return _refusal(400, str(error))
        with self._lock:
            self.done[endpoint] += answer.status < 400
        return answer

    def _oidc(self, request: Request) -> Answer:
        if request.headers.get("authorization") != f"bearer {self.request_token}":
            return _refusal(401, "unauthorized")
        audience = request.query.get("audience", "https://github.com/devopsdefender")
        if request.query.get("api-version") != "2.0":
            return _refusal(400, "the request URL was not used as it was given")
        token = self.provider.token(self._claims, audience=audience)
        self.issued.append(token)
        return Answer(200, json.dumps({"count": len(token), "value": token}).encode(), _JSON)

    def _fulcio(self, request: Request) -> Answer:
        """POST /api/v2/signingCert: fulcio.proto, CreateSigningCertificateRequest."""
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme != "Bearer":
            raise TokenRefused("no bearer token")
        claims = self.provider.check(token)
        key = _proven_key(json.loads(request.body), claims["sub"])
        if key is None:
            return _refusal(400, "the request is not signed with an ECDSA key")
        leaf = self.instance.fulcio.issue(
            fulcio_identity(claims), key, self._now(), log=self.instance.ct_log
        )
        self.certificates.append(leaf)
        chain = [
            certificate.public_bytes(Encoding.PEM).decode()
            for certificate in (leaf, *self.instance.fulcio.chain)
        ]
        body = {"signedCertificateEmbeddedSct": {"chain": {"certificates": chain}}}
        return Answer(200, json.dumps(body).encode(), _JSON)

    def _timestamp(self, request: Request) -> Answer:
        """RFC 3161 over HTTP (section 3.4)."""
        if request.headers.get("content-type") != "application/timestamp-query":
            return _refusal(400, "no timestamp query")
        stamp = self.instance.timestamp_authority.answer(request.body, self._now())
        return Answer(201, stamp, {"Content-Type": "application/timestamp-reply"})


def _proven_key(asked: dict[str, Any], subject: str) -> ec.EllipticCurvePublicKey | None:
    """The key of a request, if whoever asks has its private half.

    Python's client sends a CSR; Go's sends the key, and signs the token's subject with it.
    """
    if "certificateSigningRequest" in asked:
        pem = b64decode(asked["certificateSigningRequest"], validate=True)
        csr = x509.load_pem_x509_csr(pem)
        key = csr.public_key()
        proven = csr.is_signature_valid
    else:
        parts = asked["publicKeyRequest"]
        key = load_pem_public_key(parts["publicKey"]["content"].encode())  # type: ignore[assignment] # looked at below
        proof = b64decode(parts["proofOfPossession"], validate=True)
        proven = isinstance(key, ec.EllipticCurvePublicKey) and _signed(key, proof, subject)
    return key if proven and isinstance(key, ec.EllipticCurvePublicKey) else None


def _signed(key: ec.EllipticCurvePublicKey, signature: bytes, text: str) -> bool:
    try:
        key.verify(signature, text.encode(), ec.ECDSA(hashes.SHA256()))
    except InvalidSignature:
        return False
    return True


def _refusal(status: int, message: str) -> Answer:
    return Answer(status, json.dumps({"code": status, "message": message}).encode(), _JSON)
