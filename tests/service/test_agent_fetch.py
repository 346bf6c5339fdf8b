"""Asking agents: only at addresses that may be asked, never at one that a name turns into later."""

from __future__ import annotations

import ipaddress
import socket
import ssl
from pathlib import Path
from typing import Final

import pytest

from mrtd.errors import MalformedDocument, TransportError
from mrtd.images.health import SIZE_LIMIT
from mrtd.service.agent_fetch import AddressRefused, AgentFetch, Network, Place, is_public
from tests.lab.web import Answer, How, Request, Server, make_certificate

LOOPBACK: Final[tuple[Network, ...]] = (ipaddress.ip_network("127.0.0.0/8"),)


def answering(answer: Answer) -> Server:
    return Server(lambda _: answer)


def address(server: Server, host: str = "127.0.0.1") -> str:
    return f"http://{host}:{server.port}"


def test_an_agent_in_a_named_network_is_asked_for_its_health() -> None:
    with answering(Answer(200, b'{"ok": true}')) as server:
        assert AgentFetch(LOOPBACK)(address(server)) == b'{"ok": true}'
        (request,) = server.requests
        assert (request.method, request.path) == ("GET", "/health")
        assert request.headers["host"] == f"127.0.0.1:{server.port}"
        assert "authorization" not in request.headers


@pytest.mark.parametrize(
    "text",
    [
        "127.0.0.1", "10.0.0.1", "192.168.1.1", "172.16.0.1", "169.254.169.254", "100.64.0.1",
        f"0.0.0.{0}", "255.255.255.255", "224.0.0.1", "240.0.0.1", "192.0.2.1", "::1", "::",
        "fe80::1", "fe80::1%1", "fc00::1", "fd00:ec2::254", "ff02::1", "::ffff:10.0.0.1",
        "::ffff:8.8.8.8", "2002:7f00:1::", "2001:0:53aa:64c:0:7fff:f5ff:fffe", "64:ff9b::a00:1",
        "64:ff9b:1::a00:1", "2001:db8::1", "fec0::1", "5f00::1", "3fff::1", "192.0.0.192",
        "168.63.129.16", "192.88.99.1",
    ],
)  # fmt: skip
def test_no_address_of_a_neighbour_is_public(text: str) -> None:
    assert not is_public(ipaddress.ip_address(text))

    def resolve(_: str, __: int) -> list[str]:
        return [text]

    with pytest.raises(AddressRefused, match="is not a public address"):
        AgentFetch(resolve=resolve)("https://agent.example")


@pytest.mark.parametrize("text", ["1.1.1.1", "8.8.8.8", "2606:4700:4700::1111"])
def test_addresses_of_the_internet_are_public(text: str) -> None:
    assert is_public(ipaddress.ip_address(text))


def test_one_private_address_among_public_ones_is_one_too_many() -> None:
    def resolve(_: str, __: int) -> list[str]:
        return ["1.1.1.1", "169.254.169.254"]

    with pytest.raises(AddressRefused, match=r"169\.254\.169\.254"):
        AgentFetch(resolve=resolve)("https://agent.example")


def test_the_connection_goes_to_the_address_that_was_looked_at() -> None:
    asked = []

    def rebinding(host: str, _: int) -> list[str]:
        asked.append(host)
        return ["127.0.0.1"] if len(asked) == 1 else ["169.254.169.254"]

    with answering(Answer(200, b"{}")) as server:
        url = address(server, "agent.example")
        assert AgentFetch(LOOPBACK, resolve=rebinding)(url) == b"{}"
        assert server.requests[0].headers["host"] == f"agent.example:{server.port}"
    assert asked == ["agent.example"]


def test_no_one_is_asked_in_the_clear_over_the_internet() -> None:
    with pytest.raises(AddressRefused, match="https only"):
        AgentFetch(resolve=lambda *_: ["1.1.1.1"])("http://agent.example")


def test_a_certificate_is_for_the_name_and_not_for_the_address(tmp_path: Path) -> None:
    both, ca = make_certificate(tmp_path, "agent.example")
    context = ssl.create_default_context(cafile=str(ca))
    with Server(lambda _: Answer(200, b"{}"), tls=both) as server:
        ask = AgentFetch(LOOPBACK, resolve=lambda *_: ["127.0.0.1"], tls=context)
        assert ask(f"https://agent.example:{server.port}") == b"{}"
        with pytest.raises(TransportError, match="SSLCertVerificationError"):
            ask(f"https://other.example:{server.port}")


def test_a_redirect_is_not_followed() -> None:
    moved = Answer(302, b"", {"Location": "http://169.254.169.254/"})
    with answering(moved) as server:
        with pytest.raises(TransportError, match="answered 302"):
            AgentFetch(LOOPBACK)(address(server))
        assert len(server.requests) == 1


def test_100_megabytes_are_not_read() -> None:
    declared = Answer(200, b"", {"Content-Length": str(100 << 20)})
    chunked = Answer(200, b" " * (SIZE_LIMIT + 1), how=How.CHUNKED)
    for answer in (declared, chunked):
        with (
            answering(answer) as server,
            pytest.raises(TransportError, match=f"more than {SIZE_LIMIT} bytes"),
        ):
            AgentFetch(LOOPBACK)(address(server))


def test_a_body_that_unpacks_to_100_megabytes_is_not_unpacked() -> None:
    import gzip

    bomb = gzip.compress(bytes(100 << 20))
    with (
        answering(Answer(200, bomb, {"Content-Encoding": "gzip"})) as server,
        pytest.raises(TransportError, match="more than"),
    ):
        AgentFetch(LOOPBACK)(address(server))


@pytest.mark.parametrize("how", [How.DRIPPING_HEAD, How.DRIPPING_BODY], ids=lambda how: how.name)
def test_an_agent_that_drips_is_given_up(how: How) -> None:
    with (
        answering(Answer(200, b"{}", how=how)) as server,
        pytest.raises(TransportError, match="not within"),
    ):
        AgentFetch(LOOPBACK, seconds=0.3)(address(server))


@pytest.mark.parametrize(
    "how", [How.TRUNCATED, How.RESET, How.WITHOUT_LENGTH], ids=lambda how: how.name
)
def test_half_an_answer_is_none(how: How) -> None:
    with answering(Answer(200, b"{}", how=how)) as server, pytest.raises(TransportError):
        AgentFetch(LOOPBACK)(address(server))


def test_nobody_listens_and_nobody_is_called_so() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        with pytest.raises(TransportError, match="ConnectionRefusedError"):
            AgentFetch(LOOPBACK)(f"http://127.0.0.1:{taken.getsockname()[1]}")

    def unknown(_: str, __: int) -> list[str]:
        raise socket.gaierror("no such name")

    with pytest.raises(TransportError, match="is not found"):
        AgentFetch(resolve=unknown)("https://agent.example")


@pytest.mark.parametrize(
    "text",
    [
        "", "agent.example", "ftp://agent.example", "https://", "https://agent.example/",
        "https://agent.example/health", "https://user@agent.example", "https://agent.example:0",
        "https://agent.example:65536", "https://AGENT.example", "https://a b", "https://a\n",
        "https://[::1", "https://::1", "https://agent.example?x", "https://agent.example#x",
        "https://agent.example\\@evil.example", "file:///etc/passwd", "https://[::1%25eth0]",
    ],
)  # fmt: skip
def test_what_is_no_plain_address_is_refused(text: str) -> None:
    with pytest.raises(MalformedDocument):
        Place.read(text)


def test_plain_addresses_are_read() -> None:
    assert Place.read("https://agent.example") == Place("https", "agent.example", 443)
    assert Place.read("http://10.8.0.1:8080") == Place("http", "10.8.0.1", 8080)
    assert Place.read("https://[2001:db8::1]:8443") == Place("https", "2001:db8::1", 8443)


def test_errors_never_say_more_than_the_host(request: pytest.FixtureRequest) -> None:
    del request

    def failing(_: Request) -> Answer:
        return Answer(500, b"secret")

    with Server(failing) as server, pytest.raises(TransportError) as raised:
        AgentFetch(LOOPBACK)(address(server))
    assert str(raised.value) == "127.0.0.1: /health answered 500"
