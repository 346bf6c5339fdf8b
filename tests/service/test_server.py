"""The process: real sockets, broken clients, and signals."""

from __future__ import annotations

import signal
import socket
import stat
import threading
from contextlib import ExitStack, suppress
from http.client import HTTPException
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.processes import wait_for
from tests.service.fleet import Agent, Got
from tests.service.processes import PATIENCE, Running, child, published

HEAD = b"POST /v1/verify HTTP/1.1\r\nHost: mrtd\r\nContent-Type: application/json\r\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    tmp_path.chmod(0o700)
    return tmp_path


def later(running: Running, body: dict[str, Any]) -> tuple[threading.Thread, list[Got]]:
    """Send a request from a thread."""
    found: list[Got] = []

    def ask() -> None:
        try:
            found.append(running.ask("POST", "/v1/verify", body))
        except OSError:
            found.append(Got(0, {}, b""))

    thread = threading.Thread(target=ask)
    thread.start()
    return thread, found


def in_flight(running: Running) -> bool:
    return b"\nmrtd_http_in_flight 1\n" in running.ask("GET", "/metrics").body


def test_registration_over_a_unix_socket(folder: Path) -> None:
    fleet = published()
    path = folder / "mrtd.sock"
    with child(fleet, folder, str(path), kind="reference") as running:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        for image, status in (("image", 200), ("image with another initrd", 403)):
            nonce = running.ask("GET", "/register/nonce").json["nonce"]
            body = fleet.registration(Agent(image=image), nonce, name="vm-9")
            got = running.ask("POST", "/register", body)
            assert got.status == status, got.json
            again = running.ask("POST", "/register", body)
            assert again.status == 401
            assert again.code == "nonce_used"
        code, log = running.stop()
    assert code == 0
    assert not path.exists()
    assert [line["event"] for line in log][::7] == ["started", "stopped"]
    assert [line["status"] for line in log if line.get("vm") == "vm-9"] == [200, 401, 403, 401]


def test_verification_over_tcp_with_another_client(folder: Path) -> None:
    fleet = published()
    with child(fleet, folder, "127.0.0.1:0") as running, requests.Session() as client:
        base = f"http://127.0.0.1:{running.port}"
        client.trust_env = False
        nonce = client.post(f"{base}/v1/nonce", timeout=PATIENCE).json()["nonce"]
        answer = client.post(
            f"{base}/v1/verify", json=fleet.verification(Agent(), nonce), timeout=PATIENCE
        )
        assert (answer.status_code, answer.json()["allowed"]) == (200, True)
        assert "server" not in answer.headers
        metrics = client.get(f"{base}/metrics", timeout=PATIENCE)
        assert metrics.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
        assert running.stop()[0] == 0


LONG = b"X: " + b"x" * 20_000 + b"\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    ("data", "status", "code"),
    [
        (b"nonsense\r\n\r\n", b"400", b"no_http"),
        (b"GET /healthz HTTP/1.1\r\nHost: mrtd\r\n" + LONG * 4, b"431", b"head_too_large"),
        (HEAD + LONG + b"Content-Length: 2\r\n\r\n{}", b"431", b"head_too_large"),
        (HEAD + b"Content-Length: 1048577\r\n\r\n", b"413", b"body_too_large"),
        (CHUNKED + b"8000\r\n" + b" " * 0x8000 + b"\r\n", b"408", b"body_timeout"),
        (HEAD + b"Content-Length: 900\r\n\r\n{", b"408", b"body_timeout"),
        (HEAD + b"Content-Length: x\r\n\r\n{", b"400", b"no_http"),
        (HEAD + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n{", b"400", b"no_http"),
        (CHUNKED[:-2] + b"Content-Length: 4\r\n\r\n0\r\n\r\n", b"400", b"invalid_request"),
        (HEAD + b"Connection: close\r\nContent-Length: 2\r\n\r\n{}", b"400", b"invalid_request"),
    ],
)
def test_broken_requests_are_answered_with_errors(
    shared: Running, data: bytes, status: bytes, code: bytes
) -> None:
    answer = shared.raw(data)
    assert answer.startswith(b"HTTP/1.1 " + status), answer
    assert b'{"error":{"code":"' + code in answer
    assert b"content-type: application/json" in answer
    assert shared.ask("GET", "/healthz").status == 200


@pytest.mark.parametrize("head", [b"POST /v1/verify", b"GET /healthz"])
def test_no_request_hides_in_the_body_of_another(shared: Running, head: bytes) -> None:
    """A proxy that goes by the length sees one request here, and by chunks there are two."""
    hidden = b"GET /metrics HTTP/1.1\r\nHost: mrtd\r\n\r\n"
    length = str(5 + len(hidden)).encode()
    data = head + b" HTTP/1.1\r\nHost: mrtd\r\nContent-Type: application/json\r\n"
    data += b"Transfer-Encoding: chunked\r\nContent-Length: " + length + b"\r\n\r\n"
    answer = shared.raw(data + b"0\r\n\r\n" + hidden)
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert answer.count(b"HTTP/1.1 ") == 1
    assert b"connection: close" in answer
    assert b"Content-Length and Transfer-Encoding together" in answer


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"GET /healthz HT",
        HEAD,
        HEAD + b"Content-Length: 900\r\n\r\n{",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n8000\r\n{",
    ],
)
def test_clients_that_go_away_leave_nothing(shared: Running, data: bytes) -> None:
    answer = shared.raw(data, end=True)
    assert b" 200 " not in answer
    wait_for(lambda: b"\nmrtd_http_in_flight 0\n" in shared.ask("GET", "/metrics").body)


def test_a_head_that_never_ends_is_not_waited_for(shared: Running) -> None:
    assert shared.raw(b"GET /healthz HTTP/1.1\r\nHost: mrtd\r\n") == b""
    assert shared.raw(b"") == b""


def test_a_huge_body_without_a_length_is_refused(shared: Running) -> None:
    with shared.connect() as client:
        client.sendall(HEAD + b"Transfer-Encoding: chunked\r\n\r\n")
        chunk = b"10000\r\n" + b" " * 0x10000 + b"\r\n"
        answer = b""
        try:
            for _ in range(40):
                client.sendall(chunk)
            answer = client.recv(1 << 16)
        except OSError:  # it had enough, and said so by closing
            answer = answer or b"HTTP/1.1 413 "
    assert answer.startswith(b"HTTP/1.1 413 ")
    wait_for(lambda: b'{path="/v1/verify",status="413"}' in shared.ask("GET", "/metrics").body)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("shared", numbered=True)
    folder.chmod(0o700)
    limits = {"head_seconds": 0.3, "body_seconds": 0.3}
    with child(published(), folder, str(folder / "s"), limits=limits) as running:
        yield running
        code, log = running.stop()
        assert code == 0
        assert [line for line in log if line["level"] == "error"] == []


def test_a_request_in_flight_is_finished_when_told_to_stop(folder: Path) -> None:
    fleet = published()
    path, closed = folder / "s", folder / "closed"
    with child(fleet, folder, str(path)) as running:
        nonce = running.ask("POST", "/v1/nonce").json["nonce"]
        closed.touch()
        thread, found = later(running, fleet.verification(Agent(), nonce))
        wait_for(lambda: in_flight(running))
        running.process.terminate()
        wait_for(lambda: not running.listens())
        assert found == []
        closed.unlink()
        thread.join(PATIENCE)
        assert found[0].status == 200, found
        code, _ = running.finish()
    assert code == 0
    assert not path.exists()


def test_a_request_that_does_not_end_is_given_up(folder: Path) -> None:
    fleet = published()
    path, closed = folder / "s", folder / "closed"
    with child(fleet, folder, str(path), limits={"drain_seconds": 1}) as running:
        nonce = running.ask("POST", "/v1/nonce").json["nonce"]
        closed.touch()
        thread, found = later(running, fleet.verification(Agent(), nonce))
        wait_for(lambda: in_flight(running))
        code, log = running.stop()
        thread.join(PATIENCE)
    assert code == 0
    assert found[0].status != 200
    assert not path.exists()
    assert log[-1] == log[-1] | {"event": "stopped", "detail": "threads were still at work"}


def test_what_a_killed_process_left_is_replaced(folder: Path) -> None:
    fleet = published()
    path = folder / "s"
    with child(fleet, folder, str(path)) as running:
        running.process.send_signal(signal.SIGKILL)
        running.process.wait(PATIENCE)
        assert path.exists()
    with child(fleet, folder, str(path)) as running:
        assert running.ask("GET", "/healthz").status == 200
        with child(fleet, folder, str(path)) as second:
            second.process.wait(PATIENCE)
            assert second.process.returncode != 0
        assert running.ask("GET", "/healthz").status == 200
        assert running.stop()[0] == 0
    assert not path.exists()


def test_a_socket_that_was_replaced_is_left_alone(folder: Path) -> None:
    path = folder / "s"
    with child(published(), folder, str(path)) as running:
        path.unlink()
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as other:
            other.bind(str(path))
            assert running.stop()[0] == 0
            assert path.exists()


def test_the_second_head_on_a_connection_has_to_end_too(shared: Running) -> None:
    with shared.connect() as client:
        client.sendall(b"GET /healthz HTTP/1.1\r\nHost: mrtd\r\n\r\n")
        answer = client.recv(1 << 16)
        while b'"ok":true' not in answer:
            answer += client.recv(1 << 16)
        client.sendall(b"GET /healthz HTTP/1.1\r\nHo")
        with suppress(ConnectionResetError):
            assert client.recv(1) == b""


def test_connections_are_limited(folder: Path) -> None:
    limits = {"in_flight": 1, "head_seconds": 3600}
    with (
        child(published(), folder, str(folder / "s"), limits=limits) as running,
        ExitStack() as all_,
    ):
        for _ in range(4 + 64):
            client = all_.enter_context(running.connect())
            client.sendall(b"G")
        # accepted in the order of their arrival, so this one is too many
        with running.connect() as client, suppress(ConnectionResetError):
            assert client.recv(1) == b""
        all_.close()
        wait_for(lambda: answers(running))
        assert running.stop()[0] == 0


def answers(running: Running) -> bool:
    try:
        return running.ask("GET", "/healthz").status == 200
    except (OSError, HTTPException):
        return False
