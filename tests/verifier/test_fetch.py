"""HTTP: against a server on this machine that answers wrongly in one way each."""

from __future__ import annotations

import gzip
import os
import socket
import threading
import tracemalloc
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path
from typing import Self
from urllib.parse import SplitResult

import pytest

from mrtd.errors import TransportError
from mrtd.verifier.fetch import HttpFetch, Response, UnusableAnswer
from tests.lab.web import Answer, How, Request, Server, make_certificate

SECRET = "sig=pre-signed-secret"  # noqa: S105 - it opens nothing
BODY = b'{"attestations":[]}'


class PlainFetch(HttpFetch):
    """Without TLS, to the port of a server of ours."""

    def __init__(self, port: int) -> None:
        super().__init__()
        self.port = port

    def _connection(self, parts: SplitResult) -> HTTPConnection:
        assert parts.scheme == "https"
        return HTTPConnection("127.0.0.1", self.port)


def get(
    answer: Answer, *, limit: int = 1000, timeout: float = 30, headers: dict[str, str] | None = None
) -> tuple[Response, Request]:
    with Server(lambda _: answer) as server:
        url = f"https://host.test/path/x?{SECRET}#part"
        found = PlainFetch(server.port)(url, headers=headers or {}, limit=limit, timeout=timeout)
        return found, server.requests[0]


def refused(answer: Answer, *, limit: int = 1000, timeout: float = 30) -> str:
    with pytest.raises(TransportError) as caught:
        get(answer, limit=limit, timeout=timeout)
    assert SECRET not in str(caught.value)
    assert "path" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert str(caught.value).startswith("host.test: no usable answer: ")
    return str(caught.value)


@pytest.mark.parametrize("how", [How.WHOLE, How.CHUNKED])
def test_answer(how: How) -> None:
    found, request = get(Answer(200, BODY, {"X-A": "1"}, how), headers={"Accept": "a/b"})
    assert (found.status, found.body, found.headers["x-a"]) == (200, BODY, "1")
    assert (request.method, request.path, dict(request.query)) == (
        "GET",
        "/path/x",
        dict([SECRET.split("=")]),
    )
    assert request.headers["accept"] == "a/b"


def test_nothing_is_sent_that_was_not_asked_for(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / ".netrc").write_text("default login a password b\n", encoding="utf-8")
    (tmp_path / ".netrc").chmod(0o600)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:9")
    _, request = get(Answer(200, BODY))
    assert set(request.headers) == {"host", "accept-encoding", "connection"}


def test_lines_of_the_same_name_are_one_list() -> None:
    found, _ = get(Answer(200, BODY, {"Link": "<a>; rel=prev", "link": "<b>; rel=next"}))
    assert found.headers["link"] == "<a>; rel=prev, <b>; rel=next"


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_redirects_are_answers(status: int) -> None:
    found, _ = get(Answer(status, b"", {"Location": "https://elsewhere.test/"}))
    assert (found.status, found.headers["location"]) == (status, "https://elsewhere.test/")


@pytest.mark.parametrize("status", [204, 304, 404, 429, 503])
def test_any_status_is_an_answer(status: int) -> None:
    assert get(Answer(status))[0].status == status


def test_body_of_exactly_the_limit() -> None:
    assert get(Answer(200, bytes(1000)), limit=1000)[0].body == bytes(1000)


@pytest.mark.parametrize("how", [How.WHOLE, How.CHUNKED])
def test_body_beyond_the_limit(how: How) -> None:
    assert "more than 1000 bytes" in refused(Answer(200, bytes(1001), how=how))


def test_declared_length_beyond_the_limit_is_not_read() -> None:
    short = Answer(200, b"x", {"Content-Length": str(1 << 40)})
    assert "more than 1000 bytes" in refused(short)


def test_packed_body() -> None:
    packed = Answer(200, gzip.compress(bytes(1000)), {"Content-Encoding": "gzip"})
    assert get(packed)[0].body == bytes(1000)


def test_bomb() -> None:
    bomb = Answer(200, gzip.compress(bytes(100 << 20)), {"Content-Encoding": "gzip"})
    tracemalloc.start()
    try:
        assert f"more than {1 << 20} bytes" in refused(bomb, limit=1 << 20)
        assert tracemalloc.get_traced_memory()[1] < 16 << 20
    finally:
        tracemalloc.stop()


def test_much_that_unpacks_to_nothing() -> None:
    # RFC 1951 section 3.2.4: stored blocks of no bytes
    empty = gzip.compress(b"")[:10] + b"\x00\x00\x00\xff\xff" * 1000
    packed = Answer(200, empty, {"Content-Encoding": "gzip"}, How.CHUNKED)
    assert "more than 1000 bytes" in refused(packed)


@pytest.mark.parametrize(
    ("body", "encoding"),
    [
        (gzip.compress(BODY, mtime=0)[:-1], "gzip"),
        (gzip.compress(BODY, mtime=0) + b"x", "gzip"),
        (gzip.compress(BODY, mtime=0) * 2, "gzip"),
        (BODY, "gzip"),
        (BODY, "br"),
        (BODY, "gzip, gzip"),
    ],
)
def test_packed_body_that_cannot_be_unpacked(body: bytes, encoding: str) -> None:
    refused(Answer(200, body, {"Content-Encoding": encoding}))


@pytest.mark.parametrize("how", [How.TRUNCATED, How.CHUNKED_TRUNCATED])
def test_truncated_body(how: How) -> None:
    refused(Answer(200, BODY, how=how))


def test_body_without_a_length() -> None:
    assert "without a length" in refused(Answer(200, BODY, how=How.WITHOUT_LENGTH))


@pytest.mark.parametrize("how", [How.DRIPPING_HEAD, How.DRIPPING_BODY])
def test_slow_drip_ends_in_time(how: How) -> None:
    assert "not within 0 s" in refused(Answer(how=how), limit=1 << 20, timeout=0.3)


def test_silence_ends_in_time() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        fetch = PlainFetch(silent.getsockname()[1])
        with pytest.raises(TransportError, match="no usable answer"):
            fetch("https://host.test/", headers={}, limit=10, timeout=0.3)


def test_reset() -> None:
    refused(Answer(how=How.RESET))


def test_nobody_there() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(TransportError, match=r"host\.test: no usable answer: ConnectionRefused"):
        PlainFetch(port)("https://host.test/", headers={}, limit=10, timeout=30)


def test_no_http_at_all() -> None:
    with Server(lambda _: Answer()) as server, socket.create_server(("127.0.0.1", 0)) as other:
        assert server.port

        def babble() -> None:
            line, _ = other.accept()
            with line:
                line.recv(4096)
                line.sendall(b"220 mail.test ESMTP\r\n")

        thread = threading.Thread(target=babble)
        thread.start()
        with pytest.raises(TransportError, match="BadStatusLine"):
            PlainFetch(other.getsockname()[1])("https://h.test/", headers={}, limit=9, timeout=30)
        thread.join()


def test_no_thread_is_left_behind() -> None:
    get(Answer(200, BODY))
    assert not [t for t in threading.enumerate() if isinstance(t, threading.Timer)]


def test_a_header_that_cannot_be_sent_is_not_shown() -> None:
    with Server(lambda _: Answer()) as server:
        fetch = PlainFetch(server.port)
        with pytest.raises(TransportError) as caught:
            fetch("https://h.test/", headers={"Authorization": "se\ncret"}, limit=9, timeout=30)
    assert "cret" not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "http://host.test/",
        "ftp://host.test/",
        "file:///etc/passwd",
        "host.test/",
        "",
        "https:///path",
        "https://user@host.test/",
        "https://user:secret@host.test/",
        "https://host.test:port/",
        "https://host.test:99999/",
        "https://[::1/",
        "https://host.test/a b",
        "https://host.test/a\nb",
        "https://host.test\\@evil.test/",
        "https://höst.test/",
    ],
)
def test_addresses_that_are_not_asked(url: str) -> None:
    with pytest.raises(TransportError) as caught:
        HttpFetch()(url, headers={}, limit=10, timeout=30)
    assert "secret" not in str(caught.value)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    pytest.importorskip("cryptography")
    return make_certificate(tmp_path_factory.mktemp("tls"))


@pytest.fixture
def server(certificate: tuple[Path, Path]) -> Iterator[Server]:
    with Server(lambda _: Answer(200, BODY), tls=certificate[0]) as running:
        yield running


def test_tls_with_a_bundle_of_ones_own(server: Server, certificate: tuple[Path, Path]) -> None:
    fetch = HttpFetch(ca_bundle=certificate[1])
    for _ in range(2):
        assert fetch(server.origin, headers={}, limit=100, timeout=30).body == BODY
    assert [request.path for request in server.requests] == ["/", "/"]


@pytest.mark.parametrize("how", [How.DRIPPING_HEAD, How.DRIPPING_BODY])
def test_slow_drip_over_tls_ends_in_time(certificate: tuple[Path, Path], how: How) -> None:
    with Server(lambda _: Answer(how=how), tls=certificate[0]) as slow:
        fetch = HttpFetch(ca_bundle=certificate[1])
        with pytest.raises(TransportError, match="not within"):
            fetch(slow.origin, headers={}, limit=1 << 20, timeout=1)


def test_unknown_authority(
    server: Server, certificate: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate[1]))
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate[1]))
    with pytest.raises(TransportError, match="SSLCertVerificationError"):
        HttpFetch()(server.origin, headers={}, limit=100, timeout=30)


def test_other_host(server: Server, certificate: tuple[Path, Path]) -> None:
    url = server.origin.replace("localhost", "127.0.0.1")
    with pytest.raises(TransportError, match="SSLCertVerificationError"):
        HttpFetch(ca_bundle=certificate[1])(url, headers={}, limit=100, timeout=30)


def test_no_tls_behind_https() -> None:
    with Server(lambda _: Answer()) as plain:
        url = plain.origin.replace("http:", "https:")
        with pytest.raises(TransportError, match="SSLError"):
            HttpFetch()(url, headers={}, limit=100, timeout=30)


def test_keys_are_not_logged(
    server: Server,
    certificate: tuple[Path, Path],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setenv("SSLKEYLOGFILE", str(tmp_path / "keys"))
    HttpFetch(ca_bundle=certificate[1])(server.origin, headers={}, limit=100, timeout=30)
    assert not (tmp_path / "keys").exists()


@pytest.mark.parametrize("content", [None, b"no certificate"])
def test_bundle_that_cannot_be_used(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "ca.pem"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(TransportError, match="no usable answer"):
        HttpFetch(ca_bundle=path)("https://localhost:1/", headers={}, limit=100, timeout=30)


class Proxy:
    """Takes one ``CONNECT`` and passes bytes on, or refuses it."""

    def __init__(self, *, refuse: bool = False) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._refuse = refuse
        self.port = self._listener.getsockname()[1]
        self.asked = b""
        self._thread = threading.Thread(target=self._serve)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.join()
        self._listener.close()

    def _serve(self) -> None:
        near, _ = self._listener.accept()
        with near:
            while not self.asked.endswith(b"\r\n\r\n"):
                self.asked += near.recv(4096)
            if self._refuse:
                near.sendall(b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n")
                return
            target = self.asked.split(b" ")[1].decode().rpartition(":")[2]
            with socket.create_connection(("127.0.0.1", int(target))) as far:
                near.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
                back = threading.Thread(target=self._pass, args=(far, near))
                back.start()
                self._pass(near, far)
                back.join()

    @staticmethod
    def _pass(source: socket.socket, sink: socket.socket) -> None:
        try:
            while data := source.recv(4096):
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            return


def test_proxy(server: Server, certificate: tuple[Path, Path]) -> None:
    with Proxy() as proxy:
        fetch = HttpFetch(
            ca_bundle=certificate[1], proxy=f"http://me:se%40cret@127.0.0.1:{proxy.port}"
        )
        found = fetch(server.origin, headers={"Authorization": "Bearer t"}, limit=100, timeout=30)
    assert found.body == BODY
    assert b"Proxy-Authorization: Basic bWU6c2VAY3JldA==" in proxy.asked
    assert b"Bearer" not in proxy.asked
    assert "proxy-authorization" not in server.requests[0].headers


def test_proxy_that_refuses() -> None:
    with Proxy(refuse=True) as proxy, pytest.raises(TransportError, match="OSError") as caught:
        HttpFetch(proxy=f"http://me:secret@127.0.0.1:{proxy.port}")(
            "https://host.test/", headers={}, limit=100, timeout=30
        )
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("proxy", ["https://proxy.test", "socks5://proxy.test", "proxy.test:3128"])
def test_proxy_of_another_kind(proxy: str) -> None:
    with pytest.raises(TransportError, match="the proxy is not of the form"):
        HttpFetch(proxy=proxy)("https://host.test/", headers={}, limit=100, timeout=30)


def test_no_proxy_of_the_environment(
    server: Server, certificate: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("https_proxy", "HTTPS_PROXY", "all_proxy"):
        monkeypatch.setitem(os.environ, name, "http://127.0.0.1:1")
    fetch = HttpFetch(ca_bundle=certificate[1])
    assert fetch(server.origin, headers={}, limit=100, timeout=30).status == 200


def test_a_body_is_posted() -> None:
    with Server(lambda r: Answer(200, r.body)) as server:
        found = PlainFetch(server.port)(
            "https://host.test/x",
            headers={"Content-Type": "a/b"},
            limit=1000,
            timeout=30,
            body=b"question",
        )
    (request,) = server.requests
    assert (request.method, request.body, found.body) == ("POST", b"question", b"question")
    assert set(request.headers) == {
        "host", "accept-encoding", "connection", "content-type", "content-length",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("answer", "final"),
    [
        (Answer(200, bytes(1001)), True),
        (Answer(200, BODY, how=How.WITHOUT_LENGTH), True),
        (Answer(200, BODY, {"Content-Encoding": "br"}), True),
        (Answer(200, BODY, how=How.TRUNCATED), False),
        (Answer(200, BODY, how=How.CHUNKED_TRUNCATED), False),
        (Answer(how=How.RESET), False),
    ],
)
def test_whether_asking_again_makes_sense(answer: Answer, *, final: bool) -> None:
    with pytest.raises(TransportError) as caught:
        get(answer)
    assert isinstance(caught.value, UnusableAnswer) is final
