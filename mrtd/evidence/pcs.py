"""Fetches collateral from a PCS or PCCS that the caller names; there is no default.

Source: Intel SGX and TDX Provisioning Certification Service API v4 (paths and headers); DCAP PCCS
design guide (the same paths, and the root CA's CRL, in hex). Whatever is answered is unverified:
`mrtd.evidence.dcap` checks the signatures.
"""

from __future__ import annotations

import ipaddress
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from email.message import Message
from http.client import HTTPException, HTTPResponse
from typing import IO, Final, Protocol

import msgspec

from mrtd.errors import MalformedCollateral, TransportError
from mrtd.evidence.collateral import MAX_SIZE, Collateral, assemble_collateral
from mrtd.evidence.quote import Quote
from mrtd.evidence.qvl import Refusal, call, import_qvl

TIMEOUT: Final = 20.0  # seconds, for each of the four answers
_OK: Final = 200
# Chains come in headers, URL-encoded; PCS v4 has the first name, PCCS may have the second.
_PCK_CRL_CHAIN: Final = ("SGX-PCK-CRL-Issuer-Chain",)
_TCB_CHAIN: Final = ("TCB-Info-Issuer-Chain", "SGX-TCB-Info-Issuer-Chain")
_QE_CHAIN: Final = ("SGX-Enclave-Identity-Issuer-Chain",)


class Answer(msgspec.Struct, frozen=True):
    """An HTTP answer.

    Attributes:
        status: HTTP status.
        headers: by name in lower case.
        body: at most as long as was asked for.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes


class Fetcher(Protocol):
    """Gets one address. Follows no redirects; raises `TransportError`."""

    def __call__(self, url: str, *, max_bytes: int, timeout: float) -> Answer:
        """Get ``url``: at most ``max_bytes`` of body, within ``timeout`` seconds."""


def fetch_collateral(
    url: str,
    quote: Quote,
    fetch: Fetcher,
    *,
    update: str = "standard",
    root_crl_url: str | None = None,
) -> Collateral:
    """Fetch the collateral for a quote's platform.

    Args:
        url: of the service, e.g. ``https://pccs.example.com:8081``; https, or http to this machine.
        quote: says which platform type and which CA.
        fetch: how to get an address, e.g. `get`.
        update: ``standard``, or ``early`` for the TCB levels that Intel enforces later.
        root_crl_url: of the root CA's CRL. A PCCS serves it itself; Intel's PCS does not: there
            it is the CRL distribution point in Intel's root certificate.

    Raises:
        TransportError: the address is not allowed, or the service does not answer as it should.
        MalformedCollateral: the quote names no platform, or an answer is not what it should be.
        ToolMissing: dcap-qvl, which reads the PCK certificate, is not installed.
    """
    if update not in {"standard", "early"}:
        raise TransportError(f"update={update!r} is neither standard nor early")
    base = _base(url)
    if root_crl_url is not None:
        _require_safe(root_crl_url)
    fmspc, ca = platform_of(quote)
    sgx, tdx = f"{base}/sgx/certification/v4", f"{base}/tdx/certification/v4"
    crl = _ask(fetch, f"{sgx}/pckcrl?ca={ca}&encoding=der")
    tcb = _ask(fetch, f"{tdx}/tcb?fmspc={fmspc}&update={update}")
    identity = _ask(fetch, f"{tdx}/qe/identity?update={update}")
    root_hint = "Intel's PCS does not serve the root CA's CRL: give its own address (root_crl_url)"
    root = _ask(fetch, root_crl_url or f"{sgx}/rootcacrl", hint=root_hint)
    parts = {
        "pck_crl": crl.body,
        "pck_crl_issuer_chain": _chain(crl, _PCK_CRL_CHAIN, base),
        "tcb_info": tcb.body,
        "tcb_info_issuer_chain": _chain(tcb, _TCB_CHAIN, base),
        "qe_identity": identity.body,
        "qe_identity_issuer_chain": _chain(identity, _QE_CHAIN, base),
        "root_ca_crl": root.body,
    }
    return assemble_collateral(parts, origin=base)


def platform_of(quote: Quote) -> tuple[str, str]:
    """FMSPC (12 hex digits) and CA (``processor`` or ``platform``) of a quote's PCK certificate.

    Raises:
        MalformedCollateral: the quote carries no PCK certificate chain, or an unusual one.
        ToolMissing: dcap-qvl is not installed.
    """
    qvl = import_qvl()
    try:
        parsed = call(qvl.parse_quote, quote.raw)
        fmspc, ca = str(call(parsed.fmspc)), str(call(parsed.ca))
    except Refusal as error:
        raise MalformedCollateral(
            f"no platform type in the quote: {error}",
            origin=quote.origin,
            hint="a quote without PCK chain needs collateral in files, pck_certificate_chain.pem",
        ) from error
    if len(bytes.fromhex(fmspc)) != 6 or ca not in {"processor", "platform"}:
        raise MalformedCollateral(f"platform type {fmspc!r}, CA {ca!r}", origin=quote.origin)
    return fmspc, ca


def get(url: str, *, max_bytes: int, timeout: float) -> Answer:
    """A `Fetcher` with the standard library: no redirects, https or http to this machine."""
    _require_safe(url)
    opener = urllib.request.build_opener(_NoRedirect)
    try:
        with opener.open(url, timeout=timeout) as answer:
            body = _read(answer, max_bytes + 1, time.monotonic() + timeout)
            status, headers = int(answer.status), _lower(answer.headers)
    except urllib.error.HTTPError as error:
        error.close()
        return Answer(error.code, {}, b"")
    except (OSError, HTTPException, ValueError) as error:
        raise TransportError(f"{url}: no answer: {error}") from error
    if len(body) > max_bytes:
        raise TransportError(f"{url}: answers with more than {max_bytes} bytes")
    return Answer(status, headers, body)


def _read(answer: HTTPResponse, size: int, deadline: float) -> bytes:
    """Up to ``size`` bytes: the time limit of a socket is one for each read only."""
    body = bytearray()
    while len(body) < size:
        chunk = answer.read1(min(size - len(body), 1 << 16))
        if not chunk:
            break
        body += chunk
        if time.monotonic() > deadline:
            raise TimeoutError("too slow")
    return bytes(body)


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(  # noqa: PLR0917 - the signature is urllib's
        self,
        req: urllib.request.Request,  # noqa: ARG002
        fp: IO[bytes],  # noqa: ARG002
        code: int,  # noqa: ARG002
        msg: str,  # noqa: ARG002
        headers: Message,  # noqa: ARG002
        newurl: str,  # noqa: ARG002
    ) -> urllib.request.Request | None:
        return None


def _lower(headers: Message) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}


def _base(url: str) -> str:
    _require_safe(url)
    parsed = urllib.parse.urlsplit(url)
    if parsed.query or parsed.fragment:
        raise TransportError(f"{url}: the service's address, without query or fragment, is needed")
    return url.rstrip("/")


def _require_safe(url: str) -> None:
    """https, or http to this machine, where nobody else listens in."""
    if not url.isascii() or not url.isprintable() or " " in url:
        raise TransportError(
            f"{url!a}: no address: not plain text"
        )  # urlsplit would drop a newline
    try:
        parsed = urllib.parse.urlsplit(url)
        host, _ = parsed.hostname or "", parsed.port
    except ValueError as error:
        raise TransportError(f"{url}: no address: {error}") from error
    if parsed.username or parsed.password or not host:
        raise TransportError(f"{host or url}: needs a host, and no user name or password")
    if parsed.scheme == "https" or (parsed.scheme == "http" and _is_loopback(host)):
        return
    raise TransportError(f"{url}: neither https nor http to this machine")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _ask(fetch: Fetcher, url: str, *, hint: str | None = None) -> Answer:
    answer = fetch(url, max_bytes=MAX_SIZE, timeout=TIMEOUT)
    if answer.status != _OK:
        raise TransportError(f"{url}: HTTP {answer.status}", hint=hint)
    if len(answer.body) > MAX_SIZE:
        raise TransportError(f"{url}: answers with more than {MAX_SIZE} bytes")
    return answer


def _chain(answer: Answer, names: tuple[str, ...], origin: str) -> bytes:
    """An issuer chain, from the first of the headers that is there."""
    for name in names:
        value = answer.headers.get(name.lower())
        if value is not None:
            return urllib.parse.unquote_to_bytes(value)
    raise MalformedCollateral("is missing", origin=origin, field=f"header {names[0]}")
