"""Where the service listens, and where it does not."""

from __future__ import annotations

import fcntl
import os
import socket
import stat
from pathlib import Path

import pytest

from mrtd.errors import SpecError
from mrtd.service.sockets import listen_tcp, listening_unix


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    tmp_path.chmod(0o700)
    return tmp_path


def test_a_folder_that_is_missing_can_be_made(folder: Path) -> None:
    path = folder / "mrtd" / "mrtd.sock"
    with pytest.raises(SpecError, match="no such folder") as caught, listening_unix(path):
        raise AssertionError
    assert caught.value.hint == f"mkdir -m 700 {path.parent}"
    (folder / "file").touch()
    with (
        pytest.raises(SpecError, match="it is a file"),
        listening_unix(folder / "file" / "mrtd.sock"),
    ):
        raise AssertionError


@pytest.mark.parametrize("text", ["127.0.0.1:0", "127.8.9.1:0"])
def test_loopback_addresses(text: str) -> None:
    with listen_tcp(text, allow_remote=False) as listener:
        assert listener.getsockname()[0] == text.partition(":")[0]
        assert listener.proto == socket.IPPROTO_TCP  # without which asyncio leaves Nagle's delay on


@pytest.mark.parametrize("text", ["0.0.0.0:0", "[::]:0", "192.0.2.1:0", "[::ffff:192.0.2.1]:0"])
def test_other_addresses_have_to_be_allowed(text: str) -> None:
    with pytest.raises(SpecError, match="others can reach") as caught:
        listen_tcp(text, allow_remote=False)
    assert "--allow-remote" in str(caught.value)


def test_all_addresses_if_allowed() -> None:
    with listen_tcp("0.0.0.0:0", allow_remote=True) as listener:
        assert listener.getsockname()[1]


@pytest.mark.parametrize(
    "text",
    ["", "127.0.0.1", ":80", "localhost:80", "127.0.0.1:65536", "127.0.0.1:-1", "::1:80",
     "127.1:80", "127.0.0.1:80 ", "[127.0.0.1]:x"],
)  # fmt: skip
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(SpecError, match="is no address"):
        listen_tcp(text, allow_remote=True)


def test_an_address_in_use() -> None:
    with (
        listen_tcp("127.0.0.1:0", allow_remote=False) as first,
        pytest.raises(SpecError, match="cannot listen"),
    ):
        listen_tcp(f"127.0.0.1:{first.getsockname()[1]}", allow_remote=False)


def test_a_unix_socket_is_for_its_owner(folder: Path) -> None:
    path = folder / "s"
    before = os.umask(0)
    try:
        with listening_unix(path):
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
            with pytest.raises(SpecError, match="somebody listens"), listening_unix(path):
                raise AssertionError
            assert path.exists()
        assert os.umask(0) == 0
    finally:
        os.umask(before)
    assert not path.exists()


@pytest.mark.parametrize("mode", [0o770, 0o777, 0o1777])
def test_not_where_others_may_write(folder: Path, mode: int) -> None:
    folder.chmod(mode)
    with pytest.raises(SpecError, match="others may write"), listening_unix(folder / "s"):
        raise AssertionError
    assert list(folder.iterdir()) == []


def test_no_file_is_replaced(folder: Path) -> None:
    path = folder / "s"
    path.write_text("precious")
    with pytest.raises(SpecError, match="is no socket"), listening_unix(path):
        raise AssertionError
    assert path.read_text() == "precious"


def test_no_link_is_followed(folder: Path) -> None:
    with listening_unix(folder / "target"):
        (folder / "s").symlink_to(folder / "target")
        with pytest.raises(SpecError, match="is no socket"), listening_unix(folder / "s"):
            raise AssertionError


def test_not_without_a_folder(folder: Path) -> None:
    with pytest.raises(SpecError, match="no such folder"), listening_unix(folder / "none" / "s"):
        raise AssertionError


def test_not_with_a_path_that_is_too_long(folder: Path) -> None:
    with pytest.raises(SpecError, match="cannot listen"), listening_unix(folder / ("s" * 120)):
        raise AssertionError


def test_a_stale_socket_is_replaced_by_one_at_a_time(folder: Path) -> None:
    path = folder / "s"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as killed:
        killed.bind(str(path))
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        with pytest.raises(SpecError, match="is locked"), listening_unix(path):
            raise AssertionError
    finally:
        os.close(descriptor)
    with listening_unix(path), socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.connect(str(path))


def test_a_socket_with_a_full_queue_is_not_stale(folder: Path) -> None:
    path = folder / "s"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as busy:
        busy.bind(str(path))
        busy.listen(0)
        waiting = []
        try:
            for _ in range(3):
                client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
                waiting.append(client)
                client.setblocking(False)
                client.connect_ex(str(path))
            with pytest.raises(SpecError, match="somebody listens"), listening_unix(path):
                raise AssertionError
        finally:
            for client in waiting:
                client.close()
    assert path.exists()
