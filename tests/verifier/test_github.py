"""Lookup at GitHub: against a double of it on this machine, and against answers made by hand."""

from __future__ import annotations

import itertools
import json
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping
from http.client import HTTPConnection
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

import mrtd
from mrtd.errors import TransportError
from mrtd.reference import PREDICATE_TYPE
from mrtd.verifier import github
from mrtd.verifier.budget import HOLD_LIMIT
from mrtd.verifier.clock import Clock
from mrtd.verifier.fetch import Fetch, HttpFetch, Response
from mrtd.verifier.github import GitHubLookup
from mrtd.verifier.lookup import Lookup
from mrtd.verifier.policy import LookupPolicy
from mrtd.verifier.verdict import Reason
from tests.lab.github import API, BLOBS, Form, GitHub
from tests.lab.web import Answer, How

DIGEST: Final = "ab" * 32
OTHER: Final = "cd" * 32
TOKEN: Final = "lab-token"  # noqa: S105 - it opens nothing
WALL: Final = 1_800_000_000
RATE_LIMITED: Final = {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": str(WALL + 600)}


def bundle(
    *digests: str, predicate_type: str = PREDICATE_TYPE, mark: int = 0, payload: str | None = None
) -> bytes:
    statement = {
        "subject": [{"name": "x", "digest": {"sha256": digest}} for digest in digests or [DIGEST]],
        "predicateType": predicate_type,
        "predicate": {"mark": mark},
    }
    text = b64encode(json.dumps(statement).encode()).decode() if payload is None else payload
    return json.dumps({"mediaType": "x", "dsseEnvelope": {"payload": text}}).encode()


class Time:
    """Clocks that only sleeping moves."""

    def __init__(self) -> None:
        self.now = 500.0
        self.slept: list[float] = []
        self.clock = Clock(wall=lambda: WALL + self.now - 500, steady=lambda: self.now)

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


class World:
    """A lookup, and what it looks at."""

    def __init__(self, hub: GitHub) -> None:
        self.hub = hub
        self.time = Time()

    def lookup(
        self, *, token: str | None = None, fetch: Fetch | None = None, **policy: Any
    ) -> GitHubLookup:
        return make(fetch or self.hub.fetch, self.time, token=token, **policy)

    def asked(self) -> tuple[int, int]:
        """How many requests there were: to the API, to the host of blobs."""
        return len(self.hub.api.requests), len(self.hub.blobs.requests)


def make(fetch: Fetch, time: Time, *, token: str | None = None, **policy: Any) -> GitHubLookup:
    return GitHubLookup(
        LookupPolicy(**{"timeout_seconds": 60, "total_seconds": 300, **policy}),
        repository="devopsdefender/dd",
        repository_id="1234",
        fetch=fetch,
        clock=time.clock,
        token=token,
        sleep=time.sleep,
        jitter=lambda: 0.5,
    )


def answering(answer: Callable[[str], Response]) -> Fetch:
    """HTTP where only the URL matters."""

    def fetch(url: str, *, headers: Mapping[str, str], limit: int, timeout: float) -> Response:
        del headers, limit, timeout
        return answer(url)

    return fetch


@pytest.fixture
def world() -> Iterator[World]:
    with GitHub(token=TOKEN) as hub:
        yield World(hub)


def found(lookup: Lookup) -> list[bytes]:
    return [json.dumps(json.loads(one.bundle)).encode() for one in lookup.bundles]


# what is found


@pytest.mark.parametrize("form", ["inline", "raw", "framed", "plain"])
def test_every_form_of_a_bundle(world: World, form: Form) -> None:
    world.hub.add(bundle(), form=form)
    lookup = world.lookup()(DIGEST)
    assert (found(lookup), lookup.reason, lookup.retry_after) == ([bundle()], None, None)
    assert world.asked() == (1, 0 if form == "inline" else 1)


def test_an_inline_bundle_is_as_it_was_sent() -> None:
    text = b'{ "dsseEnvelope" : {"payload": ""} ,"n":1.50e1}'
    body = b'{"attestations": [{"repository_id": 1234, "bundle": %s}]}' % text
    lookup = told(Response(200, {}, body))
    assert [one.bundle for one in lookup.bundles] == [text]


def test_several_attestations_in_their_order(world: World) -> None:
    for mark in range(3):
        world.hub.add(bundle(DIGEST, OTHER, mark=mark), form="raw" if mark else "inline")
    lookup = world.lookup()(DIGEST)
    assert found(lookup) == [bundle(DIGEST, OTHER, mark=mark) for mark in range(3)]
    assert lookup.bundles[1].source == "devopsdefender/dd, sha256:abababababab..., entry 2"


@pytest.mark.parametrize("none_is_404", [True, False])
def test_none(world: World, none_is_404: bool) -> None:  # noqa: FBT001
    world.hub.none_is_404 = none_is_404
    world.hub.add(bundle(OTHER))
    lookup = world.lookup()(DIGEST)
    assert (lookup.bundles, lookup.reason) == ((), None)


def test_what_is_sent(world: World) -> None:
    world.hub.add(bundle())
    world.lookup(token=TOKEN)(DIGEST)
    (request,) = world.hub.api.requests
    assert request.path == f"/repos/devopsdefender/dd/attestations/sha256:{DIGEST}"
    assert dict(request.query) == {"per_page": "100", "predicate_type": PREDICATE_TYPE}
    assert request.headers["x-github-api-version"] == "2022-11-28"
    assert request.headers["accept"] == "application/vnd.github+json"
    assert request.headers["user-agent"] == f"mrtd/{mrtd.__version__}"
    assert request.headers["authorization"] == f"Bearer {TOKEN}"


def test_the_token_goes_to_the_api_only(world: World) -> None:
    world.hub.add(bundle())
    assert world.lookup(token=TOKEN)(DIGEST).reason is None
    (request,) = world.hub.blobs.requests
    assert "authorization" not in request.headers
    assert TOKEN not in repr(request)


def test_other_predicate_types_are_left_out(world: World) -> None:
    # GitHub's own release attestations have the same subjects
    world.hub.add(bundle(mark=1))
    world.hub.add(bundle(predicate_type="https://in-toto.io/attestation/release/v0.1"))
    world.hub.answer_next("api", unfiltered(world.hub))
    lookup = world.lookup()(DIGEST)
    assert (found(lookup), lookup.reason) == ([bundle(mark=1)], None)
    assert world.asked() == (1, 2)


def unfiltered(hub: GitHub) -> Answer:
    entries = [
        {
            "repository_id": one.repository_id,
            "bundle": None,
            "bundle_url": f"{BLOBS}/attestations/1234/{one.number}.json.sn?sig=pre-signed-secret",
        }
        for one in hub.stored
    ]
    return Answer(200, json.dumps({"attestations": entries}).encode())


def test_entries_of_another_repository_are_left_out(world: World) -> None:
    world.hub.add(bundle(mark=1))
    world.hub.add(bundle(mark=2), repository_id=4321)
    lookup = world.lookup()(DIGEST)
    assert (found(lookup), lookup.reason) == ([bundle(mark=1)], None)
    assert "1 of another repository left out" in lookup.message
    assert world.asked() == (1, 1)


def test_entries_without_a_repository_are_read() -> None:
    body = b'{"attestations": [{"bundle": %s}, {"repository_id": "1234", "bundle": %s}]}'
    assert len(told(Response(200, {}, body % (bundle(), bundle()))).bundles) == 2


@pytest.mark.parametrize(
    "payload",
    [
        "",
        "?",
        b64encode(b"no JSON").decode(),
        b64encode(b"{}").decode(),
        b64encode(b'{"predicateType":"a","predicateType":"b","subject":[]}').decode(),
        b64encode(b'{"predicateType":["a"],"subject":[]}').decode(),
        b64encode(b"[" * 100_000).decode(),
    ],
)
def test_an_unreadable_statement_is_kept_for_the_verifier(world: World, payload: str) -> None:
    text = bundle(payload=payload)
    world.hub.answer_next("api", listed({"repository_id": 1234, "bundle": json.loads(text)}))
    lookup = world.lookup()(DIGEST)
    assert (found(lookup), lookup.reason) == ([text], None)


def listed(*entries: object, headers: Mapping[str, str] | None = None) -> Answer:
    return Answer(200, json.dumps({"attestations": entries}).encode(), headers or {})


def blob_entry(url: str | None) -> dict[str, object]:
    return {"repository_id": 1234, "bundle": None, "bundle_url": url}


# pages


def test_pages(world: World) -> None:
    world.hub.page_size = 2
    for mark in range(5):
        world.hub.add(bundle(mark=mark), form="inline")
    lookup = world.lookup()(DIGEST)
    assert found(lookup) == [bundle(mark=mark) for mark in range(5)]
    assert lookup.reason is None
    assert world.asked() == (3, 0)


def test_more_pages_than_are_read(world: World) -> None:
    world.hub.page_size = 1
    for mark in range(4):
        world.hub.add(bundle(mark=mark), form="inline")
    lookup = world.lookup()(DIGEST)
    assert (len(lookup.bundles), lookup.reason) == (3, Reason.LOOKUP_INCOMPLETE)
    assert world.asked() == (3, 0)


@pytest.mark.parametrize(("count", "reason"), [(5, None), (6, Reason.LOOKUP_INCOMPLETE)])
def test_as_many_entries_as_the_policy_allows(
    world: World, count: int, reason: Reason | None
) -> None:
    for mark in range(count):
        world.hub.add(bundle(mark=mark), form="inline")
    lookup = world.lookup(maximum_attestations=5)(DIGEST)
    assert (len(lookup.bundles), lookup.reason) == (5, reason)


PATH: Final = f"/repos/devopsdefender/dd/attestations/sha256:{DIGEST}"


@pytest.mark.parametrize(
    "link",
    [
        f'<{API}{PATH}?after=x>; rel="next"',
        f'<{API}{PATH}?after=x>; rel=next, <{API}{PATH}?before=y>; rel="prev"',
        f'<{API}{PATH}?before=y>; rel="prev", <{API}{PATH}?per_page=1&after=x>; rel="next"',
        f'<{API}/repositories/1234/attestations/sha256%3A{DIGEST}?after=x>; rel="next"',
        f'<{API}/repos/DevOpsDefender/DD/attestations/sha256:{DIGEST}?after=x>; rel="next"',
    ],
)
def test_links_to_the_next_page(world: World, link: str) -> None:
    world.hub.add(bundle(mark=1), form="inline")
    entry = {"bundle": json.loads(bundle())}
    world.hub.answer_next("api", listed(entry, headers={"Link": link}), listed(entry))
    assert world.lookup()(DIGEST).reason is None
    assert [request.query.get("after") for request in world.hub.api.requests] == [None, "x"]
    assert {request.path for request in world.hub.api.requests} == {PATH}


@pytest.mark.parametrize(
    "link",
    [
        f'<https://evil.test{PATH}?after=x>; rel="next"',
        f'<http://api.github.com{PATH}?after=x>; rel="next"',
        f'<{API}:8443{PATH}?after=x>; rel="next"',
        f'<https://x@api.github.com{PATH}?after=x>; rel="next"',
        f'<{API}/repos/evil/dd/attestations/sha256:{DIGEST}?after=x>; rel="next"',
        f'<{API}/repositories/4321/attestations/sha256:{DIGEST}?after=x>; rel="next"',
        f'<{API}/repositories/1234/attestations/sha256:{OTHER}?after=x>; rel="next"',
        f'<{API}{PATH}?page=2>; rel="next"',
        f'<{API}{PATH}?after=x&after=y>; rel="next"',
        f'<{PATH}?after=x>; rel="next"',
        f'<{API}{PATH}?after=x>; title="<>"; rel="next"',
        f'<{API}{PATH}?after=x>; REL="NEXT last"',
        'rel="next"',
        '<https://[>; rel="next"',
        "<" * 50_000 + 'rel="next"',
    ],
)
def test_links_to_somewhere_else(world: World, link: str) -> None:
    entry = {"bundle": json.loads(bundle())}
    world.hub.answer_next("api", listed(entry, headers={"Link": link}))
    lookup = world.lookup()(DIGEST)
    assert lookup.reason is not None
    assert lookup.reason.could_not_check
    assert world.asked() == (1, 0)
    assert world.hub.fetch.strangers == []


def test_other_links_are_no_next_page(world: World) -> None:
    link = f'<{API}{PATH}?before=next>; rel="prev", <{API}/next>; rel="first"'
    world.hub.answer_next("api", listed({"bundle": json.loads(bundle())}, headers={"Link": link}))
    assert world.lookup()(DIGEST).reason is None
    assert world.asked() == (1, 0)


@pytest.mark.parametrize("status", [404, 422, 500])
def test_a_second_page_that_cannot_be_had(world: World, status: int) -> None:
    first = listed(
        {"bundle": json.loads(bundle(mark=7))},
        headers={"Link": f'<{API}{PATH}?after=x>; rel="next"'},
    )
    world.hub.answer_next("api", first)
    world.hub.answer_always("api", Answer(status))
    lookup = world.lookup()(DIGEST)
    assert (found(lookup), lookup.reason) == ([bundle(mark=7)], Reason.LOOKUP_INCOMPLETE)


# lists that are none


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b"[]",
        b"null",
        b'{"attestations": null}',
        b'{"attestations": [1]}',
        b'{"attestations": [{"repository_id": 1.5}]}',
        b'{"attestations": [{"bundle_url": 5}]}',
        b'{"attestations": []} x',
        b'{"attestations": [',
        b'{"attestations": [], "attestations": []}',
        b'{"attestations": [{"bundle": {"a": 1, "a": 2}}]}',
        b"\xff\xfe{\x00}\x00",
        b'{"attestations": [{"bundle": ' + b"[" * 100 + b"]" * 100 + b"}]}",
        b'{"attestations": ' + b"[" * 200_000,
        b"{'attestations': []}",
    ],
)
def test_a_list_that_is_none(world: World, body: bytes) -> None:
    world.hub.answer_next("api", Answer(200, body))
    lookup = world.lookup()(DIGEST)
    assert (lookup.bundles, lookup.reason) == ((), Reason.LOOKUP_UNAVAILABLE)


def test_unknown_fields_do_not_matter(world: World) -> None:
    entry = {"repository_id": 1234, "bundle": json.loads(bundle()), "initiator": "user", "new": 1.5}
    world.hub.answer_next(
        "api", Answer(200, json.dumps({"attestations": [entry], "n": 1}).encode())
    )
    assert world.lookup()(DIGEST).reason is None


def test_too_long_a_list(world: World) -> None:
    world.hub.answer_always("api", Answer(200, b" " * ((4 << 20) + 1)))
    assert world.lookup()(DIGEST).reason is Reason.LOOKUP_UNAVAILABLE


@pytest.mark.parametrize("entry", [{"repository_id": 1234}, blob_entry(None)])
def test_neither_bundle_nor_url(world: World, entry: object) -> None:
    world.hub.answer_next("api", listed(entry, {"bundle": json.loads(bundle())}))
    lookup = world.lookup()(DIGEST)
    assert (found(lookup), lookup.reason) == ([bundle()], Reason.LOOKUP_INCOMPLETE)


@pytest.mark.parametrize("inline", [{}, "", 5, [], {"mediaType": "x"}])
def test_an_empty_bundle_with_url(world: World, inline: object) -> None:
    world.hub.add(bundle())
    entry = blob_entry(f"{BLOBS}/attestations/1234/1.json.sn?sig=pre-signed-secret")
    world.hub.answer_next("api", listed({**entry, "bundle": inline}))
    lookup = world.lookup()(DIGEST)
    assert (found(lookup), lookup.reason) == ([bundle()], None)


def test_more_than_fits_into_memory(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(github, "TOTAL_LIMIT", 2 * len(bundle()))
    for mark in range(3):
        world.hub.add(bundle(mark=mark))
    lookup = world.lookup()(DIGEST)
    assert (len(lookup.bundles), lookup.reason) == (2, Reason.LOOKUP_INCOMPLETE)


# hosts of bundles


@pytest.mark.parametrize(
    "url",
    [
        "http://blobs.blob.core.windows.net/1",
        "https://blobs.blob.core.windows.net:8443/1",
        "https://blobs.blob.core.windows.net:0/1",
        "https://blobs.blob.core.windows.net:x/1",
        "https://u@blobs.blob.core.windows.net/1",
        "https://u:p@blobs.blob.core.windows.net/1",
        "https://@blobs.blob.core.windows.net/1",
        "https://evil.test/1",
        "https://evil.test/.blob.core.windows.net",
        "https://evil.test?.blob.core.windows.net",
        "https://evil.test#.blob.core.windows.net",
        "https://evil.test\\.blob.core.windows.net/",
        "https://evilblob.core.windows.net/1",
        "https://blob.core.windows.net.evil.test/1",
        "https://blobs.blob.core.windows.net./1",
        "https://.blob.core.windows.net/1",
        "https://a..blob.core.windows.net/1",
        "https://api.github.com/1",
        "https://127.0.0.1/1",
        "https://[::1]/1",
        "https://169.254.169.254/latest/meta-data",
        "https://0x7f.1/1",
        "https://2130706433/1",
        "https://localhost/1",
        "https://blobs.blob.core.windows.net/a b",
        "https://blobs.blob.core.windows.net/a\nb",
        "https://blöbs.blob.core.windows.net/1",
        "https:/blobs.blob.core.windows.net/1",
        "https:blobs.blob.core.windows.net/1",
        "//blobs.blob.core.windows.net/1",
        "file:///etc/passwd",
        "https://[x/1",
        "",
    ],
)
def test_urls_that_are_not_followed(world: World, url: str) -> None:
    asked: list[str] = []
    lookup = world.lookup(fetch=naming(url, asked))(DIGEST)
    assert (lookup.bundles, lookup.reason) == ((), Reason.LOOKUP_INCOMPLETE)
    assert len(asked) == 1


def naming(url: str, asked: list[str]) -> Fetch:
    """An API that names one URL, and bundles everywhere."""
    body = json.dumps({"attestations": [blob_entry(url)]}).encode()

    def answer(url: str) -> Response:
        asked.append(url)
        return Response(200, {}, body if len(asked) == 1 else bundle())

    return answering(answer)


@pytest.mark.parametrize("hosts", [("127.0.0.1",), (".0.0.1",), ("0x7f.1",), ("[::1]", "::1")])
def test_addresses_are_not_followed_even_if_the_policy_names_them(
    world: World, hosts: tuple[str, ...]
) -> None:
    for url in ("https://127.0.0.1/", "https://0x7f.1/", "https://[::1]/"):
        asked: list[str] = []
        lookup = world.lookup(fetch=naming(url, asked), blob_hosts=hosts)(DIGEST)
        assert (len(asked), lookup.reason) == (1, Reason.LOOKUP_INCOMPLETE)


@pytest.mark.parametrize(
    ("hosts", "url"),
    [
        (("blobs.blob.core.windows.net",), f"{BLOBS}/1"),
        ((".windows.net",), "https://blobs.blob.core.windows.net:443/1"),
        ((".BLOB.core.windows.net",), "https://BLOBS.blob.core.windows.net/1"),
    ],
)
def test_urls_that_are_followed(world: World, hosts: tuple[str, ...], url: str) -> None:
    body = json.dumps({"attestations": [blob_entry(url)]}).encode()
    asked = []

    def fetch(url: str, *, headers: Mapping[str, str], limit: int, timeout: float) -> Response:
        asked.append((url, sorted(headers), limit, timeout))
        return Response(200, {}, body if url.startswith(API) else bundle())

    lookup = world.lookup(fetch=fetch, blob_hosts=hosts, token=TOKEN)(DIGEST)
    assert (found(lookup), lookup.reason) == ([bundle()], None)
    assert asked[1] == (url, ["User-Agent"], 1 << 20, 60.0)


@pytest.mark.parametrize("status", [301, 302, 307, 400, 403, 404, 410, 204])
def test_a_bundle_that_is_not_there(world: World, status: int) -> None:
    for mark in range(2):
        world.hub.add(bundle(mark=mark))
    world.hub.answer_next("blobs", Answer(status, b"", {"Location": f"{API}/token"}))
    lookup = world.lookup()(DIGEST)
    assert (found(lookup), lookup.reason) == ([bundle(mark=1)], Reason.LOOKUP_INCOMPLETE)
    assert world.asked() == (1, 2)


@pytest.mark.parametrize(
    "body", [b"", b"\xff\xff\xff\xff\x0f", b"\x85\x80\x80\x02", b" " * ((1 << 20) + 1)]
)
def test_a_bundle_that_cannot_be_unpacked(world: World, body: bytes) -> None:
    world.hub.add(bundle())
    world.hub.answer_always("blobs", Answer(200, body))
    lookup = world.lookup()(DIGEST)
    assert (lookup.bundles, lookup.reason) == ((), Reason.LOOKUP_INCOMPLETE)


@pytest.mark.parametrize("how", [How.TRUNCATED, How.RESET, How.WITHOUT_LENGTH])
def test_a_bundle_that_is_cut_short(world: World, how: How) -> None:
    world.hub.add(bundle())
    world.hub.answer_always("blobs", Answer(200, bundle(), how=how))
    lookup = world.lookup()(DIGEST)
    assert (lookup.bundles, lookup.reason) == ((), Reason.LOOKUP_INCOMPLETE)
    assert world.asked() == (1, 3)


def test_a_pre_signed_url_is_not_shown(world: World) -> None:
    for mark in range(3):
        world.hub.add(bundle(mark=mark))
    world.hub.answer_next("blobs", Answer(404), Answer(200, b"x"))
    assert "pre-signed-secret" not in repr(world.lookup(token=TOKEN)(DIGEST))


# refusals, limits, failures


@pytest.mark.parametrize("status", [401, 403])
def test_a_token_that_is_refused(world: World, status: int) -> None:
    world.hub.answer_always("api", Answer(status, b'{"message": "Bad credentials"}'))
    lookup = world.lookup(token=TOKEN)(DIGEST)
    assert lookup.reason is Reason.LOOKUP_UNAVAILABLE
    assert "token" in lookup.message
    assert TOKEN not in lookup.message
    assert world.asked() == (1, 0)


@pytest.mark.parametrize("status", [401, 403])
def test_an_api_that_refuses_is_left_alone(world: World, status: int) -> None:
    world.hub.answer_always("api", Answer(status))
    look = world.lookup()
    assert [look(DIGEST).retry_after for _ in range(6)] == [*[None] * 5, pytest.approx(30)]
    assert world.asked() == (5, 0)


def test_a_wrong_token(world: World) -> None:
    lookup = world.lookup(token="another")(DIGEST)  # noqa: S106 - it opens nothing
    assert lookup.reason is Reason.LOOKUP_UNAVAILABLE


@pytest.mark.parametrize("status", [301, 302, 307, 400, 422, 418])
def test_other_answers(world: World, status: int) -> None:
    answer = Answer(status, b"", {"Location": f"{BLOBS}/1"})
    world.hub.answer_next("api", answer)
    lookup = world.lookup()(DIGEST)
    assert (lookup.bundles, lookup.reason) == ((), Reason.LOOKUP_UNAVAILABLE)
    assert str(status) in lookup.message
    assert world.asked() == (1, 0)


@pytest.mark.parametrize(
    ("answer", "seconds"),
    [
        (Answer(403, b"{}", RATE_LIMITED), 600),
        (Answer(429, b"{}", RATE_LIMITED), 600),
        (Answer(403, b"{}", {"Retry-After": "90"}), 90),
        (Answer(429, b"{}", {"Retry-After": "90", **RATE_LIMITED}), 90),
        (Answer(503, b"{}", {"Retry-After": "90"}), 90),
        (Answer(429, b"{}", {"Retry-After": "Wed, 21 Oct 2026 07:28:00 GMT"}), 60),
        (Answer(429), 60),
        (Answer(403, b'{"message": "You have exceeded a secondary rate limit."}'), 60),
        (Answer(403, b"{}", {"X-RateLimit-Remaining": "0"}), 60),
        (Answer(403, b"{}", {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "5"}), 1),
        (Answer(429, b"{}", {"Retry-After": "999999999999"}), HOLD_LIMIT),
    ],
)
def test_rate_limits_are_waited_for(world: World, answer: Answer, seconds: float) -> None:
    world.hub.add(bundle())
    world.hub.answer_next("api", answer)
    look = world.lookup()
    first = look(DIGEST)
    assert first.reason is Reason.LOOKUP_UNAVAILABLE
    assert first.retry_after == pytest.approx(seconds)
    world.time.now += seconds - 0.5
    second = look(DIGEST, priority=True)
    assert second.reason is Reason.LOOKUP_UNAVAILABLE
    assert second.retry_after == pytest.approx(0.5)
    assert world.asked() == (1, 0)
    world.time.now += 0.5
    assert look(DIGEST).reason is None
    assert world.time.slept == []


def test_the_last_request_that_a_rate_limit_allows(world: World) -> None:
    world.hub.add(bundle())
    answer = unfiltered(world.hub)
    world.hub.answer_next("api", Answer(200, answer.body, RATE_LIMITED))
    look = world.lookup()
    assert found(look(DIGEST)) == [bundle()]
    assert look(DIGEST).retry_after == pytest.approx(600)
    assert world.asked() == (1, 1)


@pytest.mark.parametrize("answer", [Answer(500), Answer(502), Answer(503), Answer(how=How.RESET)])
def test_failures_are_repeated_twice(world: World, answer: Answer) -> None:
    world.hub.add(bundle())
    world.hub.answer_next("api", answer, answer)
    assert found(world.lookup()(DIGEST)) == [bundle()]
    assert world.asked() == (3, 1)
    assert world.time.slept == [0.75, 1.5]


def test_failures_are_repeated_no_more_than_twice(world: World) -> None:
    world.hub.answer_always("api", Answer(500))
    lookup = world.lookup()(DIGEST)
    assert (lookup.reason, world.asked()) == (Reason.LOOKUP_UNAVAILABLE, (3, 0))
    assert "HTTP 500" in lookup.message


def test_a_failure_of_the_host_of_bundles_is_repeated(world: World) -> None:
    world.hub.add(bundle())
    world.hub.answer_next("blobs", Answer(503), Answer(how=How.RESET))
    assert found(world.lookup()(DIGEST)) == [bundle()]
    assert world.asked() == (1, 3)


def test_nothing_is_repeated_when_time_is_over(world: World) -> None:
    world.hub.answer_always("api", Answer(500))
    lookup = world.lookup(total_seconds=1)(DIGEST)
    assert (lookup.reason, world.asked()) == (Reason.LOOKUP_UNAVAILABLE, (2, 0))


def test_time_is_for_the_whole_lookup(world: World) -> None:
    body = json.dumps({"attestations": [blob_entry(f"{BLOBS}/1"), blob_entry(f"{BLOBS}/2")]})
    asked = []

    def fetch(url: str, *, headers: Mapping[str, str], limit: int, timeout: float) -> Response:
        del headers, limit
        asked.append(timeout)
        world.time.now += 8
        return Response(200, {}, body.encode() if url.startswith(API) else bundle())

    lookup = world.lookup(fetch=fetch, timeout_seconds=10, total_seconds=15)(DIGEST)
    assert asked == [10, 7]
    assert (found(lookup), lookup.reason) == ([bundle()], Reason.LOOKUP_INCOMPLETE)


def test_failures_open_the_breaker(world: World) -> None:
    world.hub.answer_always("api", Answer(500))
    look = world.lookup()
    for _ in range(2):
        assert look(DIGEST).reason is Reason.LOOKUP_UNAVAILABLE
    assert world.asked() == (5, 0)
    assert look(DIGEST).retry_after is not None
    assert world.asked() == (5, 0)
    world.hub.answer_always("api", None)
    world.time.now += 30
    assert look(DIGEST).reason is None
    assert world.asked() == (6, 0)


def test_a_host_of_bundles_that_fails_does_not_stop_the_api(world: World) -> None:
    world.hub.add(bundle())
    world.hub.answer_always("blobs", Answer(500))
    look = world.lookup()
    for _ in range(3):
        assert look(DIGEST).reason is Reason.LOOKUP_INCOMPLETE
    assert world.asked() == (3, 5)


def test_the_budget(world: World) -> None:
    look = world.lookup(requests_per_hour=4, reserve_percent=50)
    assert [look(DIGEST).reason for _ in range(3)] == [None, None, Reason.LOOKUP_BUDGET]
    assert look(DIGEST, priority=True).reason is None
    assert look(DIGEST, priority=True).reason is None
    last = look(DIGEST, priority=True)
    assert last.reason is Reason.LOOKUP_BUDGET
    assert last.retry_after == pytest.approx(900)
    assert world.asked() == (4, 0)


def test_downloads_are_not_in_the_budget(world: World) -> None:
    for mark in range(3):
        world.hub.add(bundle(mark=mark))
    lookup = world.lookup(requests_per_hour=1, reserve_percent=0)(DIGEST)
    assert (len(lookup.bundles), lookup.reason) == (3, None)
    assert world.asked() == (1, 3)


def test_a_budget_that_ends_within_a_lookup(world: World) -> None:
    world.hub.page_size = 1
    for mark in range(3):
        world.hub.add(bundle(mark=mark))
    lookup = world.lookup(requests_per_hour=2, reserve_percent=0)(DIGEST)
    assert lookup.reason is Reason.LOOKUP_BUDGET
    assert len(lookup.bundles) == 2
    assert world.asked() == (2, 2)


@pytest.mark.parametrize("digest", ["", "ab", "AB" * 32, "ab" * 48, f"{DIGEST}/..", f"{DIGEST}\n"])
def test_no_digest(world: World, digest: str) -> None:
    lookup = world.lookup()(digest)
    assert lookup.reason is not None
    assert lookup.reason.could_not_check
    assert world.asked() == (0, 0)


@pytest.mark.parametrize("error", [TransportError("host: no"), OSError(), KeyError("x")])
def test_no_error_leaves_a_lookup(world: World, error: Exception) -> None:
    def fail(_: str) -> Response:
        raise error

    lookup = world.lookup(fetch=answering(fail))(DIGEST)
    assert (lookup.bundles, lookup.reason) == ((), Reason.LOOKUP_UNAVAILABLE)


def test_a_lookup_does_not_reach_http_without_tls() -> None:
    lookup = make(HttpFetch(), Time(), api="http://localhost:1")(DIGEST)
    assert lookup.reason is Reason.LOOKUP_UNAVAILABLE


# whatever is answered


def told(*answers: Response) -> Lookup:
    """A lookup that gets these answers, the last one for ever."""
    queue = itertools.chain(answers, itertools.repeat(answers[-1]))
    return make(answering(lambda _: next(queue)), Time())(DIGEST)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)
ENTRIES = st.fixed_dictionaries(
    {},
    optional={
        "repository_id": st.sampled_from([1234, "1234", 99]) | JSON,
        "bundle": st.just({"dsseEnvelope": {"payload": "e30="}}) | JSON,
        "bundle_url": st.sampled_from([f"{BLOBS}/1", "https://x/"]) | JSON,
    },
)
LISTS = st.fixed_dictionaries({"attestations": st.lists(ENTRIES, max_size=4)})
BODIES = st.one_of(
    st.binary(max_size=60),
    JSON.map(lambda v: json.dumps(v).encode()),
    LISTS.map(lambda v: json.dumps(v).encode()),
)
HEADERS = st.dictionaries(
    st.sampled_from(["link", "retry-after", "x-ratelimit-remaining", "x-ratelimit-reset"]),
    st.text(max_size=20) | st.sampled_from(["0", "5", f'<{API}{PATH}?after=x>; rel="next"']),
)
STATUSES = st.sampled_from([200, 200, 200, 204, 301, 401, 403, 404, 429, 500, 503, 999])
RESPONSES = st.builds(Response, STATUSES, HEADERS, BODIES)


@given(st.lists(RESPONSES, min_size=1, max_size=6))
def test_whatever_is_answered_nothing_is_raised(answers: list[Response]) -> None:
    lookup = told(*answers)
    assert lookup.reason is None or lookup.reason.could_not_check
    assert lookup.retry_after is None or 0 <= lookup.retry_after <= HOLD_LIMIT
    if all(answer.status not in {200, 404} for answer in answers):
        assert lookup.reason is not None


@given(
    st.text(max_size=80) | st.text("https:/.@[]\\blob.core.windows.net?#%0123456789", max_size=80)
)
def test_whatever_url_is_named_only_known_hosts_are_asked(text: str) -> None:
    asked: list[str] = []
    make(naming(text, asked), Time())(DIGEST)
    assert all(url.lower().startswith("https://") for url in asked)
    assert all("blob.core.windows.net" in url.lower() for url in asked[1:])


# the double itself: what release and end-to-end tests rest on


def post(world: World, body: bytes, token: str | None = TOKEN, path: str = "") -> tuple[int, bytes]:
    headers = {"User-Agent": "test"} | ({"Authorization": f"Bearer {token}"} if token else {})
    connection = HTTPConnection("127.0.0.1", world.hub.api.port, timeout=30)
    try:
        target = path or "/repos/devopsdefender/dd/attestations"
        connection.request("POST", target, body, headers)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def test_what_is_uploaded_is_found_under_every_subject(world: World) -> None:
    body = b'{"bundle": %s}' % bundle(DIGEST, OTHER)
    assert post(world, body) == (201, b'{"id": 1}')
    for digest in (DIGEST, OTHER):
        assert found(world.lookup()(digest)) == [bundle(DIGEST, OTHER)]
    world.hub.remove(world.hub.stored[0])
    assert found(world.lookup()(DIGEST)) == []


@pytest.mark.parametrize("body", [b"", b"{}", b'{"bundle": {}}', b'{"bundle": []}', bundle()])
def test_what_is_no_bundle_is_not_taken(world: World, body: bytes) -> None:
    assert post(world, body)[0] == 422
    assert world.hub.stored == []


def test_who_may_not_upload(world: World) -> None:
    body = b'{"bundle": %s}' % bundle()
    assert post(world, body, token=None)[0] == 401
    assert post(world, body, token="another")[0] == 401  # noqa: S106 - it opens nothing
    assert post(world, body, path="/repos/devopsdefender/other/attestations")[0] == 404


def test_a_token_at_the_host_of_blobs_fails_the_test() -> None:
    def leak() -> None:
        with GitHub() as hub:
            stored = hub.add(bundle())
            url = f"{BLOBS}/attestations/1234/{stored.number}.json.sn?sig=pre-signed-secret"
            hub.fetch(url, headers={"Authorization": "Bearer t"}, limit=1 << 20, timeout=30)

    with pytest.raises(AssertionError, match="the token was sent"):
        leak()
