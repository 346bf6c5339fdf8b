"""Replicas with a Redis between them: what is shared, and servers that lie or are gone."""

from __future__ import annotations

import socket
import subprocess
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import msgspec
import pytest

from fixtures import reference
from mrtd.cli.main import main
from mrtd.errors import PolicyError
from mrtd.service.redis_cache import (
    ADDRESS,
    CERTIFICATES,
    ENTRY_LIMIT,
    PASSWORD,
    RedisCache,
    shared_cache,
)
from mrtd.verifier.verdict import Reason
from mrtd.verifier.verifier import Verifier
from tests.conftest import require_tool
from tests.lab.identity import REPOSITORY_ID
from tests.lab.web import make_certificate
from tests.lab.world import LAUNCH, ONCE_EACH, REVOCATIONS, World, claims_of
from tests.processes import wait_for
from tests.service.processes import serve

REVOKING: Final = reference.revoking(reference.revocation("launch", LAUNCH))


def key(digest: str) -> bytes:
    return f"mrtd:bundles:1:{REPOSITORY_ID}:{digest}".encode()


class Redis:
    """A server on a Unix socket, that may listen on more."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.path = folder / "redis.sock"
        command = [str(require_tool("redis")), "--port", "0", "--unixsocket", str(self.path)]
        command += ["--dir", str(folder), "--save", "", "--appendonly", "no", *options]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        wait_for(lambda: self.path.exists() or self.process.poll() is not None)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def say(self, *command: bytes) -> bytes:
        """The raw answer to a command, which is a short one."""
        parts = b"".join(b"$%d\r\n%s\r\n" % (len(part), part) for part in command)
        with socket.socket(socket.AF_UNIX) as line:
            line.settimeout(60)
            line.connect(str(self.path))
            line.sendall(b"*%d\r\n%s" % (len(command), parts))
            return line.recv(1 << 16)

    def put(self, entry: bytes, digest: str = LAUNCH) -> None:
        assert self.say(b"SET", key(digest), entry) == b"+OK\r\n"


@contextmanager
def running(*options: str) -> Iterator[Redis]:
    with tempfile.TemporaryDirectory(prefix="redis-") as folder:  # a short path: it is a socket's
        server = Redis(Path(folder), *options)
        try:
            yield server
        finally:
            server.kill()


@pytest.fixture
def redis() -> Iterator[Redis]:
    with running() as server:
        yield server


def cache_of(address: str, **more: str) -> RedisCache:
    found = shared_cache({ADDRESS: address, **more}, repository_id=REPOSITORY_ID)
    assert found is not None
    return found


def replica(world: World, redis: Redis) -> Verifier:
    return world.another(shared=cache_of(f"unix:{redis.path}"))


def test_the_second_replica_asks_github_for_revocations_only(redis: Redis) -> None:
    world = World()
    world.publish(reference.document())
    assert replica(world, redis).verify_claims(claims_of()).allowed
    assert world.github.about == ONCE_EACH
    assert replica(world, redis).verify_claims(claims_of()).allowed
    assert world.github.about == Counter({LAUNCH: 1, REVOCATIONS: 2})
    left = int(redis.say(b"TTL", key(LAUNCH))[1:])
    assert 0 < left <= world.policy.cache.soft_seconds


def test_a_revocation_reaches_all_replicas_whatever_the_cache_has(redis: Redis) -> None:
    world = World()
    world.publish(reference.document())
    replicas = [replica(world, redis) for _ in range(2)]
    assert all(one.verify_claims(claims_of()).allowed for one in replicas)
    world.github.add(world.mint(REVOKING), REVOCATIONS)
    world.times.pass_by(world.policy.cache.soft_seconds + 1)
    for one in replicas:
        verdict = one.verify_claims(claims_of())
        assert (verdict.allowed, verdict.reason) == (False, Reason.REVOKED)
    # the list of the launch came from the cache all the time
    assert world.github.about[LAUNCH] == 1


def test_the_cache_is_not_asked_about_revocations(redis: Redis) -> None:
    world = World()
    world.publish(reference.document())
    older = world.mint(reference.revoking(reference.revocation("launch", "ab" * 32)))
    world.github.add(older, REVOCATIONS)
    world.github.add(world.mint(REVOKING), REVOCATIONS)
    redis.put(msgspec.msgpack.encode([older]), REVOCATIONS)
    verdict = replica(world, redis).verify_claims(claims_of())
    assert (verdict.allowed, verdict.reason) == (False, Reason.REVOKED)
    assert world.github.about == ONCE_EACH


def test_what_the_cache_has_admits_nobody_while_revocations_cannot_be_read(redis: Redis) -> None:
    world = World()
    world.publish(reference.document())
    assert replica(world, redis).verify_claims(claims_of()).allowed
    world.github.down = True
    verdict = replica(world, redis).verify_claims(claims_of())
    assert (verdict.allowed, verdict.reason) == (False, Reason.LOOKUP_UNAVAILABLE)


def test_not_attested_and_what_cannot_be_read_is_not_shared(redis: Redis) -> None:
    world = World()
    assert not replica(world, redis).verify_claims(claims_of()).allowed
    world.publish(reference.document())
    world.github.add(b'{"mediaType": "unknown"}', LAUNCH)
    replica(world, redis).verify_claims(claims_of())
    assert redis.say(b"DBSIZE") == b":0\r\n"


def of_another_launch(world: World) -> bytes:
    launch = reference.launch()
    launch["registers"]["rtmr2"]["value"] = "ab" * 48
    return world.mint(reference.document(launch))


LIES: Final[dict[str, Callable[[World, bytes], bytes]]] = {
    "no list": lambda _, good: good,
    "cut short": lambda _, good: msgspec.msgpack.encode([good])[:-100],
    "empty list": lambda _, __: msgspec.msgpack.encode([]),
    "other types": lambda _, __: msgspec.msgpack.encode([1, None]),
    "nested": lambda _, __: b"\x91" * 100_000,
    "no bundle": lambda _, __: msgspec.msgpack.encode([b"{}"]),
    "changed": lambda _, good: msgspec.msgpack.encode([good.replace(b'"sig":"M', b'"sig":"N')]),
    "another launch": lambda w, _: msgspec.msgpack.encode([of_another_launch(w)]),
    "a good one and a bad one": lambda _, good: msgspec.msgpack.encode([good, b"{}"]),
    "too many": lambda _, good: msgspec.msgpack.encode([good] * 101),
    "huge": lambda _, __: bytes(ENTRY_LIMIT + 1),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_lie_is_dropped_and_github_is_asked(redis: Redis, lie: str) -> None:
    world = World()
    good = world.publish(reference.document())
    redis.put(LIES[lie](world, good))
    assert replica(world, redis).verify_claims(claims_of()).allowed
    assert world.github.about == ONCE_EACH


def test_what_nobody_attested_stays_refused_whatever_the_cache_says(redis: Redis) -> None:
    world = World()
    redis.put(msgspec.msgpack.encode([of_another_launch(world)]))
    verdict = replica(world, redis).verify_claims(claims_of())
    assert (verdict.allowed, verdict.reason) == (False, Reason.NOT_ATTESTED)


def test_a_server_that_is_killed_costs_a_lookup_and_is_left_alone(redis: Redis) -> None:
    world = World()
    world.publish(reference.document())
    cache = cache_of(f"unix:{redis.path}")
    assert world.another(shared=cache).verify_claims(claims_of()).allowed
    redis.kill()
    assert world.another(shared=cache).verify_claims(claims_of()).allowed
    assert world.github.about[LAUNCH] == 2
    for _ in range(20):
        assert cache.get(LAUNCH) == ()
    assert 2 <= cache.failures <= 5


@pytest.mark.parametrize(
    "answer",
    [
        b"", b"\r\n", b"-ERR no\r\n", b":1\r\n", b"+PONG\r\n", b"+OK\r\n", b"$-2\r\n", b"$abc\r\n",
        b"$5\r\nab", b"$99999999\r\n", b"$9999999999999\r\n", b"*1\r\n$1\r\na\r\n", b"x" * 5000,
        None,
    ],
)  # fmt: skip
def test_answers_that_are_none(answer: bytes | None) -> None:
    with (
        tempfile.TemporaryDirectory(prefix="redis-") as folder,
        socket.socket(socket.AF_UNIX) as listener,
    ):
        listener.bind(f"{folder}/s")
        listener.listen()
        over = threading.Event()

        def serve() -> None:
            line, _ = listener.accept()
            with line:
                line.recv(1 << 16)
                if answer is None:  # says nothing at all
                    over.wait(60)
                else:
                    line.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        cache = cache_of(f"unix:{folder}/s")
        assert cache.get(LAUNCH) == ()
        assert cache.failures == 1
        over.set()
        thread.join()


def test_a_password_and_tls(tmp_path: Path) -> None:
    both, certificate = make_certificate(tmp_path)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    options = ["--tls-port", str(port), "--tls-cert-file", str(both), "--tls-key-file", str(both)]
    options += ["--tls-auth-clients", "no", "--bind", "127.0.0.1", "--requirepass", "secret"]
    with running(*options) as redis:
        address = f"rediss://localhost:{port}"
        right = cache_of(address, **{PASSWORD: "secret", CERTIFICATES: str(certificate)})
        right.put(LAUNCH, (b"bundle",), 60)
        assert (right.get(LAUNCH), right.failures) == ((b"bundle",), 0)
        assert cache_of(f"unix:{redis.path}", **{PASSWORD: "secret"}).get(LAUNCH) == (b"bundle",)
        for more in (
            {PASSWORD: "wrong", CERTIFICATES: str(certificate)},
            {CERTIFICATES: str(certificate)},
            {PASSWORD: "secret"},  # nobody vouches for the certificate
        ):
            other = cache_of(address, **more)
            assert (other.get(LAUNCH), other.failures) == ((), 1)


@pytest.mark.parametrize(
    "address",
    [
        "localhost", "http://localhost", "redis://", "redis://cache.example.com:6379",
        "redis://10.0.0.1", "redis://localhost", "rediss://user:hunter2@cache.example.com",
        "redis://127.0.0.1:x", "redis://127.0.0.1/7", "unix:relative",
    ],
)  # fmt: skip
def test_addresses_that_are_refused(address: str) -> None:
    with pytest.raises(PolicyError) as caught:
        shared_cache({ADDRESS: address}, repository_id="1")
    assert ADDRESS in caught.value.message
    assert "hunter2" not in str(caught.value)


def test_without_an_address_nothing_is_shared() -> None:
    assert shared_cache({}, repository_id="1") is None
    assert shared_cache({ADDRESS: ""}, repository_id="1") is None


def test_serve_says_what_is_wrong_and_no_password(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DD_TRUSTED_REPO_ID", "1")
    monkeypatch.setenv("DD_TRUSTED_OWNER_ID", "2")
    monkeypatch.setenv(ADDRESS, "redis://user:hunter2@127.0.0.1")
    assert main(["serve", "--listen", "127.0.0.1:0"]) == 2
    said = capsys.readouterr()
    assert f"{ADDRESS}: has a password in it, which belongs into {PASSWORD}" in said.err
    assert "hunter2" not in said.err + said.out


def test_serve_starts_without_its_cache(tmp_path: Path) -> None:
    more = {ADDRESS: f"unix:{tmp_path}/nobody", PASSWORD: "hunter2"}
    with serve("--listen", "127.0.0.1:0", path=None, **more) as running:
        assert running.ask("GET", "/healthz").status == 200
        code, log = running.stop()
    assert code == 0
    assert "hunter2" not in str(log)
