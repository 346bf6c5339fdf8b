"""The issuer's keys: what is read, when they are fetched, and who waits for that."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from hypothesis import given
from hypothesis import strategies as st

from mrtd.errors import MalformedStatement, MrtdError
from mrtd.verifier.jwks import SIZE_LIMIT, KeySource, read_keys
from mrtd.verifier.policy import TokenPolicy
from mrtd.verifier.token import check_token
from mrtd.verifier.verdict import Reason
from tests.lab.trust_authority import (
    NOW,
    Fault,
    KeysFetch,
    LabClock,
    Service,
    TrustAuthority,
    encode,
    jwk,
    signing_key,
)

POLICY: Final = TokenPolicy()
PUBLIC: Final = signing_key("key-1").public_key()


class Source:
    """A key source with everything that it depends on."""

    def __init__(self, policy: TokenPolicy = POLICY) -> None:
        self.authority = TrustAuthority()
        self.fetch = KeysFetch(self.authority)
        self.clock = LabClock()
        self.policy = policy
        self.keys = KeySource(policy, self.fetch, self.clock.clock)

    def reason(self, kid: str = "key-1", alg: str = "PS384") -> Reason | None:
        found = self.keys.key(kid, alg)
        return found if isinstance(found, Reason) else None

    def accepts(self, token: str) -> bool:
        return check_token(token, keys=self.keys, policy=self.policy, now=self.clock.wall).ok


def keys_of(*entries: object) -> set[str]:
    return set(read_keys(encode({"keys": list(entries)})))


# What is read


def test_members_of_a_key_that_says_what_it_is_for() -> None:
    entry = jwk("a", PUBLIC, alg="PS384", use="sig", key_ops=["verify"], x5c=["AA=="], more={})
    found = read_keys(encode({"keys": [entry]}))["a"]
    assert found.public.public_numbers() == PUBLIC.public_numbers()
    assert found.algorithm == "PS384"


@pytest.mark.parametrize(
    "more",
    [
        {"use": "enc"},
        {"use": 1},
        {"key_ops": ["encrypt"]},
        {"key_ops": "verify"},
        {"kty": "oct"},
        {"kty": "EC"},
        {"kty": None},
        {"kid": None},
        {"kid": ""},
        {"kid": 7},
        {"kid": "k" * 201},
        {"alg": 7},
        {"d": "AQAB"},
        {"n": None},
        {"n": 7},
        {"n": "*"},
        {"n": ""},
        {"n": "AQAB"},
        {"n": "-" * 300},
        {"e": None},
        {"e": "AA"},
        {"e": "AQ"},
        {"e": "Ag"},
        {"e": "AQAAAAAB"},
    ],
    ids=str,
)
def test_a_key_that_cannot_be_used_is_left_out(more: dict[str, Any]) -> None:
    good = jwk("good", PUBLIC)
    assert keys_of(jwk("a", PUBLIC) | more, good) == {"good"}
    without = {name: v for name, v in (jwk("a", PUBLIC) | more).items() if v is not None}
    assert keys_of(without, good) == {"good"}


@pytest.mark.parametrize(
    ("bits", "taken"),
    [(1024, False), (2047, False), (2048, True), (4096, True), (8192, True), (8193, False)],
)
def test_size_of_a_key(bits: int, *, taken: bool) -> None:
    numbers = rsa.RSAPublicNumbers(65537, (1 << bits - 1) | 1)
    entry = jwk("a", PUBLIC) | {"n": _b64url(numbers.n)}
    assert keys_of(entry, jwk("good", PUBLIC)) == ({"a", "good"} if taken else {"good"})


def _b64url(value: int) -> str:
    import base64

    data = value.to_bytes((value.bit_length() + 7) // 8, "big")
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{}",
        b'{"keys":{}}',
        b'{"keys":[]}',
        b'{"keys":[1,null,[],"a"]}',
        encode({"keys": [jwk("a", PUBLIC), jwk("a", signing_key("other").public_key())]}),
        encode({"keys": [jwk("a", PUBLIC), jwk("a", PUBLIC)]}),
        encode({"keys": [jwk(f"{i}", PUBLIC) for i in range(101)]}),
        b'{"keys":[],"keys":[]}',
        b" " * (SIZE_LIMIT + 1),
        b"[" * 100_000,
    ],
)
def test_what_is_no_set_of_keys_is_refused(body: bytes) -> None:
    with pytest.raises(MalformedStatement):
        read_keys(body)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=9),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(st.sampled_from(["keys", "kty", "kid", "n", "e", "use"]), inner)
        ),
        max_leaves=12,
    )
)
def test_reading_raises_our_errors_only(value: object) -> None:
    for document in (value, {"keys": value}, {"keys": [value]}):
        with suppress(MrtdError):
            read_keys(json.dumps(document).encode())


# When they are fetched


def test_nothing_is_fetched_before_a_key_is_asked_for() -> None:
    assert Source().fetch.calls == 0


def test_keys_are_fetched_once_in_their_lifetime() -> None:
    source = Source()
    assert source.reason() is None
    source.clock.advance(POLICY.jwks_lifetime_seconds - 1)
    assert source.reason() is None
    assert source.fetch.calls == 1
    source.clock.advance(1)
    assert source.reason() is None
    assert source.fetch.calls == 2


def test_unknown_key_ids_cause_one_fetch_per_interval() -> None:
    source = Source()
    assert source.reason() is None
    source.clock.advance(POLICY.jwks_refresh_seconds)
    for number in range(100):
        assert source.reason(f"invented-{number}") is Reason.TOKEN_KEY_UNKNOWN
    assert source.fetch.calls == 2
    source.clock.advance(POLICY.jwks_refresh_seconds - 1)
    assert source.reason("invented") is Reason.TOKEN_KEY_UNKNOWN
    assert source.fetch.calls == 2
    source.clock.advance(1)
    assert source.reason("invented") is Reason.TOKEN_KEY_UNKNOWN
    assert source.fetch.calls == 3


def test_a_new_key_is_found_when_the_keys_rotate() -> None:
    source = Source()
    before = source.authority.token()
    assert source.accepts(before)
    source.authority.rotate()
    source.clock.advance(POLICY.jwks_refresh_seconds)
    assert source.accepts(source.authority.token())
    assert source.accepts(before)
    assert source.fetch.calls == 2


def test_a_key_that_was_taken_back_is_not_used_after_the_next_fetch() -> None:
    source = Source()
    before = source.authority.token()
    assert source.accepts(before)
    source.authority.rotate(drop=True)
    source.clock.advance(POLICY.jwks_refresh_seconds)
    assert source.accepts(source.authority.token())
    assert not source.accepts(before)
    assert source.reason("key-1") is Reason.TOKEN_KEY_UNKNOWN


def test_a_key_of_another_algorithm_is_not_used() -> None:
    source = Source()
    source.fetch.body = encode({"keys": [jwk("key-1", PUBLIC, alg="RS256")]})
    assert source.reason(alg="RS256") is None
    assert source.reason(alg="PS384") is Reason.TOKEN_ALGORITHM
    assert source.fetch.calls == 1


BROKEN: Final[dict[str, Callable[[KeysFetch], None]]] = {
    "down": lambda fetch: setattr(fetch, "down", True),
    "status-500": lambda fetch: setattr(fetch, "status", 500),
    "status-204": lambda fetch: setattr(fetch, "status", 204),
    "status-302": lambda fetch: setattr(fetch, "status", 302),
    "html": lambda fetch: setattr(fetch, "body", b"<html>"),
    "no-keys": lambda fetch: setattr(fetch, "body", b'{"keys":[]}'),
    "too-long": lambda fetch: setattr(fetch, "body", b" " * (SIZE_LIMIT + 1)),
    "foreign-error": lambda fetch: setattr(fetch, "gate", None),
}


@pytest.mark.parametrize("how", BROKEN)
def test_old_keys_serve_until_their_hard_end(how: str) -> None:
    source = Source()
    assert source.reason() is None
    BROKEN[how](source.fetch)
    source.clock.advance(POLICY.jwks_hard_lifetime_seconds - 1)
    assert source.reason() is None
    assert source.reason("key-2") is Reason.TOKEN_KEYS_UNAVAILABLE
    assert source.fetch.calls == 2
    source.clock.advance(1)
    assert source.reason() is Reason.TOKEN_KEYS_UNAVAILABLE


@pytest.mark.parametrize("how", BROKEN)
def test_without_any_keys_the_answer_is_not_known(how: str) -> None:
    source = Source()
    BROKEN[how](source.fetch)
    assert source.reason() is Reason.TOKEN_KEYS_UNAVAILABLE
    assert source.reason() is Reason.TOKEN_KEYS_UNAVAILABLE
    assert source.fetch.calls == 1


def test_keys_come_back_with_the_service() -> None:
    source = Source()
    source.fetch.down = True
    assert source.reason() is Reason.TOKEN_KEYS_UNAVAILABLE
    assert source.keys.problem
    source.fetch.down = False
    source.clock.advance(POLICY.jwks_refresh_seconds)
    assert source.reason() is None
    assert source.keys.problem == ""


@pytest.mark.parametrize(
    ("how", "why"),
    [
        ("status-500", "the keys' address answered 500"),
        ("html", "keys: "),
        ("no-keys", "no RSA signature key"),
    ],
)
def test_a_check_says_why_there_are_no_keys(how: str, why: str) -> None:
    source = Source()
    BROKEN[how](source.fetch)
    token = source.authority.token()
    checked = check_token(token, keys=source.keys, policy=POLICY, now=source.clock.wall)
    (failed,) = (c for c in checked.checks if not c.ok)
    assert failed.name == "token_key"
    assert failed.observed == f"'key-1': {source.keys.problem}"
    assert why in failed.observed


def test_the_words_of_foreign_errors_are_not_repeated() -> None:
    def fetch(*_: object, **__: object) -> Any:
        raise ValueError("https://user:secret@keys.example")

    keys = KeySource(POLICY, fetch, Source().clock.clock)
    assert keys.key("key-1", "PS384") is Reason.TOKEN_KEYS_UNAVAILABLE
    assert keys.problem == "ValueError"


@pytest.mark.parametrize("jump", [-(10**9), 10**9])
def test_the_wall_clock_does_not_matter(jump: int) -> None:
    source = Source()
    assert source.reason() is None
    source.clock.wall += jump
    assert source.reason() is None
    assert source.reason("key-2") is Reason.TOKEN_KEY_UNKNOWN
    assert source.fetch.calls == 1


def test_lifetimes_of_zero_use_no_key_twice() -> None:
    policy = TokenPolicy(
        jwks_lifetime_seconds=0, jwks_hard_lifetime_seconds=0, jwks_refresh_seconds=0
    )
    source = Source(policy)
    assert source.reason() is Reason.TOKEN_KEYS_UNAVAILABLE
    assert source.fetch.calls == 1


# Threads


def test_many_threads_at_the_start_fetch_once() -> None:
    source = Source()
    source.fetch.gate.clear()
    with ThreadPoolExecutor(8) as pool:
        answers = [pool.submit(source.reason) for _ in range(8)]
        assert source.fetch.entered.wait(30)
        source.fetch.gate.set()
        assert {answer.result(30) for answer in answers} == {None}
    assert source.fetch.calls == 1


@pytest.mark.parametrize("refresh", [POLICY.jwks_refresh_seconds, 0])
@pytest.mark.parametrize("fails", [False, True])
def test_a_slow_fetch_delays_nobody_whose_key_is_known(refresh: int, *, fails: bool) -> None:
    source = Source(TokenPolicy(jwks_refresh_seconds=refresh))
    assert source.reason() is None
    source.clock.advance(POLICY.jwks_lifetime_seconds)
    source.fetch.entered.clear()
    source.fetch.gate.clear()
    source.fetch.down = fails
    with ThreadPoolExecutor(1) as pool:
        slow = pool.submit(source.reason)
        assert source.fetch.entered.wait(30)
        # here, while the other thread fetches
        assert source.reason() is None
        assert source.reason("key-2") is Reason.TOKEN_KEYS_UNAVAILABLE
        assert not slow.done()
        source.fetch.gate.set()
        assert slow.result(30) is None
    assert source.fetch.calls == 2


def test_who_waits_for_a_fetch_that_fails_learns_that() -> None:
    source = Source()
    source.fetch.gate.clear()
    source.fetch.down = True
    with ThreadPoolExecutor(4) as pool:
        answers = [pool.submit(source.reason) for _ in range(4)]
        assert source.fetch.entered.wait(30)
        source.fetch.gate.set()
        assert {a.result(30) for a in answers} == {Reason.TOKEN_KEYS_UNAVAILABLE}
    assert source.fetch.calls == 1


def test_an_interrupt_of_a_fetch_ends_it() -> None:
    source = Source()

    def interrupted(*_: object, **__: object) -> Any:
        raise KeyboardInterrupt

    source.keys._fetch = interrupted
    with pytest.raises(KeyboardInterrupt):
        source.reason()
    source.keys._fetch = source.fetch
    source.clock.advance(POLICY.jwks_refresh_seconds)
    assert source.reason() is None


def test_keys_rotate_while_threads_verify() -> None:
    source = Source(TokenPolicy(jwks_refresh_seconds=0))
    old = source.authority.token()
    source.authority.rotate()
    new = source.authority.token()
    start = threading.Barrier(4)

    def verify(token: str) -> bool:
        start.wait(30)
        return all(source.accepts(token) for _ in range(20))

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(verify, [old, new, old, new]))
    assert source.fetch.calls == 1


# Over a real connection


def test_keys_over_http(tmp_path: Path) -> None:
    with Service(tmp_path) as service:
        keys = KeySource(POLICY, service.fetch, LabClock().clock)
        token = service.authority.token()
        assert check_token(token, keys=keys, policy=POLICY, now=NOW).ok
        request = service.server.requests[0]
        assert (request.method, request.path) == ("GET", "/certs")
        assert "authorization" not in request.headers


@pytest.mark.parametrize("fault", Fault)
def test_a_service_with_a_fault_gives_no_keys_and_takes_none(fault: Fault, tmp_path: Path) -> None:
    clock = LabClock()
    with Service(tmp_path) as service:
        keys = KeySource(POLICY, service.fetch, clock.clock)
        service.fault = fault
        assert keys.key("key-1", "PS384") is Reason.TOKEN_KEYS_UNAVAILABLE
        service.fault = None
        clock.advance(POLICY.jwks_refresh_seconds)
        assert not isinstance(keys.key("key-1", "PS384"), Reason)
        service.fault = fault
        clock.advance(POLICY.jwks_lifetime_seconds)
        assert not isinstance(keys.key("key-1", "PS384"), Reason)
        assert len(service.server.requests) == 3
