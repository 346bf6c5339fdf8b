"""Fetching collateral: from a service of our own, and over HTTP from this machine.

Intel's PCS and a real PCCS cannot be reached from tests; paths and headers are those of Intel's API
description.
"""

from __future__ import annotations

import json
import re
import threading
import urllib.parse
from collections.abc import Iterator, Mapping
from http.client import HTTPResponse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import cast

import pytest

from mrtd.errors import MalformedCollateral, TransportError
from mrtd.evidence import pcs
from mrtd.evidence.collateral import MAX_SIZE, load_collateral, read_collateral
from mrtd.evidence.dcap import verify_quote
from mrtd.evidence.pcs import Answer, fetch_collateral, get, platform_of
from mrtd.evidence.quote import read_quote
from mrtd.evidence.tcb import DcapPolicy

pytest.importorskip("dcap_qvl")
pytest.importorskip("cryptography")

from fixtures.dcap import NOW, World, authority
from fixtures.quotes import Signatures, build_quote, certification

URL = "https://pccs.test:8081"
CRL = "/sgx/certification/v4/pckcrl?ca=platform&encoding=der"
ROOT = "/sgx/certification/v4/rootcacrl"
TCB = "/tdx/certification/v4/tcb?fmspc=B0C06F000000&update=standard"
QE = "/tdx/certification/v4/qe/identity?update=standard"

DATA, COLLATERAL = World().build()
QUOTE = read_quote(DATA, origin="a.quote")


def chain(name: str) -> str:
    return urllib.parse.quote(COLLATERAL[name])


def signed(key: str, part: str) -> bytes:
    return (
        f'{{"{key}":{COLLATERAL[part]},"signature":"{COLLATERAL[f"{part}_signature"]}"}}'.encode()
    )


ANSWERS: dict[str, Answer] = {
    CRL: Answer(
        200,
        {"sgx-pck-crl-issuer-chain": chain("pck_crl_issuer_chain")},
        bytes.fromhex(COLLATERAL["pck_crl"]),
    ),
    ROOT: Answer(200, {}, COLLATERAL["root_ca_crl"].encode()),
    TCB: Answer(
        200,
        {"tcb-info-issuer-chain": chain("tcb_info_issuer_chain")},
        signed("tcbInfo", "tcb_info"),
    ),
    QE: Answer(
        200,
        {"sgx-enclave-identity-issuer-chain": chain("qe_identity_issuer_chain")},
        signed("enclaveIdentity", "qe_identity"),
    ),
}


class Service:
    """A PCCS without a network."""

    def __init__(self, changes: Mapping[str, Answer] | None = None) -> None:
        self.answers = {f"{URL}{path}": a for path, a in {**ANSWERS, **(changes or {})}.items()}
        self.asked: list[str] = []

    def __call__(self, url: str, *, max_bytes: int, timeout: float) -> Answer:
        assert 0 < max_bytes <= MAX_SIZE
        assert 0 < timeout <= 60
        self.asked.append(url)
        return self.answers.get(url, Answer(404, {}, b""))


def test_fetched_collateral_verifies_the_quote() -> None:
    service = Service()
    collateral = fetch_collateral(URL, QUOTE, service)
    assert collateral == read_collateral(json.dumps(COLLATERAL).encode(), origin="x")
    assert service.asked == [f"{URL}{path}" for path in (CRL, TCB, QE, ROOT)]
    assert verify_quote(
        QUOTE, collateral, policy=DcapPolicy(), now=NOW, root_ca=authority().root.der
    ).ok


def test_tcb_levels_of_tomorrow_are_asked_for_by_name() -> None:
    early = {path.replace("standard", "early"): ANSWERS[path] for path in (TCB, QE)}
    service = Service(early)
    fetch_collateral(f"{URL}/", QUOTE, service, update="early")
    assert f"{URL}{TCB}".replace("standard", "early") in service.asked
    with pytest.raises(TransportError, match="neither standard nor early"):
        fetch_collateral(URL, QUOTE, service, update="late&ca=x")


def test_the_root_revocation_list_may_come_from_elsewhere() -> None:
    service = Service({ROOT: Answer(404, {}, b"")})
    with pytest.raises(TransportError, match="root_crl_url"):
        fetch_collateral(URL, QUOTE, service)
    elsewhere = "https://crl.test/root.der"
    service.answers[elsewhere] = Answer(200, {}, bytes.fromhex(COLLATERAL["root_ca_crl"]))
    assert fetch_collateral(URL, QUOTE, service, root_crl_url=elsewhere).root_ca_crl
    assert service.asked[-1] == elsewhere


@pytest.mark.parametrize("path", [CRL, TCB, QE])
def test_an_answer_without_its_chain_is_refused(path: str) -> None:
    service = Service({path: Answer(200, {}, ANSWERS[path].body)})
    with pytest.raises(MalformedCollateral, match=r"header .*Issuer-Chain: is missing"):
        fetch_collateral(URL, QUOTE, service)


@pytest.mark.parametrize("path", [CRL, TCB, QE, ROOT])
@pytest.mark.parametrize(
    "answer",
    [
        Answer(500, {}, b""),
        Answer(302, {"location": "https://elsewhere.test"}, b""),
        Answer(200, {}, bytes(MAX_SIZE + 1)),
    ],
)
def test_a_service_that_does_not_answer_is_no_refusal(path: str, answer: Answer) -> None:
    with pytest.raises(TransportError) as caught:
        fetch_collateral(URL, QUOTE, Service({path: answer}))
    assert caught.value.exit_code == 3


@pytest.mark.parametrize(
    "url",
    [
        "http://pccs.test",
        "http://127.0.0.1.test",
        "http://localhost@pccs.test",
        "https://user:secret@pccs.test",
        "ftp://localhost",
        "file:///etc/passwd",
        "https://",
        "pccs.test",
        "https://pccs.test/?x=1",
        "https://pccs.test/#x",
        "https://[::1",
        "https://pccs.test:port",
        "https://pccs.test/\n",
        "https://pccs.test/ x",
        "",
    ],
)
def test_an_address_that_others_could_listen_to_is_not_asked(url: str) -> None:
    service = Service()
    with pytest.raises(TransportError) as caught:
        fetch_collateral(url, QUOTE, service)
    assert not service.asked
    assert "secret" not in str(caught.value)


def test_an_unsafe_address_of_the_root_revocation_list_is_not_asked() -> None:
    service = Service()
    with pytest.raises(TransportError, match="https"):
        fetch_collateral(URL, QUOTE, service, root_crl_url="http://crl.test/root.der")
    assert not service.asked


def test_a_quote_says_its_platform() -> None:
    assert platform_of(QUOTE) == ("B0C06F000000", "platform")


def test_a_quote_without_certificates_says_what_to_do() -> None:
    inner = certification(3, bytes(384 + 20))
    quote = read_quote(build_quote(signatures=Signatures(inner=inner).encode()), origin="b.quote")
    with pytest.raises(MalformedCollateral, match=r"pck_certificate_chain\.pem"):
        platform_of(quote)


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        if self.path == "/loop":
            self.send_response(302)
            self.send_header("Location", "/loop")
            self.end_headers()
            return
        answer = ANSWERS.get(self.path, Answer(404, {}, b""))
        body = bytes(100_000) if self.path == "/big" else answer.body
        self.send_response(200 if self.path == "/big" else answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def local(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_collateral_comes_over_http_from_this_machine(local: str) -> None:
    collateral = fetch_collateral(local, QUOTE, get)
    assert collateral.tcb_info == COLLATERAL["tcb_info"]
    assert collateral.tcb_info_issuer_chain == COLLATERAL["tcb_info_issuer_chain"]


def test_http_keeps_to_its_bounds(local: str) -> None:
    assert get(f"{local}/nothing", max_bytes=10, timeout=20).status == 404
    assert get(f"{local}/loop", max_bytes=10, timeout=20).status == 302
    assert len(get(f"{local}/big", max_bytes=100_000, timeout=20).body) == 100_000
    with pytest.raises(TransportError, match="more than 99999 bytes"):
        get(f"{local}/big", max_bytes=99_999, timeout=20)


class Dripping:
    """A socket that always has another byte, and time passes with each."""

    def read1(self, size: int) -> bytes:
        return b"x"[:size]


def test_a_service_that_drips_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(100))
    monkeypatch.setattr("mrtd.evidence.pcs.time.monotonic", lambda: next(clock))
    with pytest.raises(TimeoutError):
        pcs._read(cast("HTTPResponse", Dripping()), 1000, deadline=5)
    assert next(clock) == 7


def test_nobody_there_is_a_transport_error() -> None:
    with pytest.raises(TransportError, match="no answer"):
        get("http://127.0.0.1:1/", max_bytes=10, timeout=5)


def test_the_example_of_the_docs_makes_a_file_that_is_read(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    page = (Path(__file__).parents[2] / "docs/evidence.md").read_text(encoding="utf-8")
    (text,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    asked: list[str] = []

    def intel(url: str, *, max_bytes: int, timeout: float) -> Answer:
        assert len(url) < max_bytes + timeout
        parts = urllib.parse.urlsplit(url)
        asked.append(str(parts.hostname))
        if url == "https://certificates.trustedservices.intel.com/IntelSGXRootCA.der":
            return Answer(200, {}, bytes.fromhex(COLLATERAL["root_ca_crl"]))
        return ANSWERS[f"{parts.path}?{parts.query}"]

    monkeypatch.setattr(pcs, "get", intel)
    monkeypatch.chdir(tmp_path)
    Path("quote.bin").write_bytes(QUOTE.raw)
    exec(compile(text, "docs/evidence.md", "exec"), {})  # noqa: S102 - ours
    assert asked.count("api.trustedservices.intel.com") == 3
    collateral = load_collateral(Path("collateral.json"))
    assert collateral.tcb_info == COLLATERAL["tcb_info"]
    fields = json.loads(Path("collateral.json").read_text(encoding="utf-8"))
    assert [name for name in fields if f"`{name}`" not in page] == []
