"""GitHub on this machine: attestations are uploaded, listed, and fetched from a host of blobs.

Source: GitHub REST API 2022-11-28 ("Attestations", "Using pagination", "Rate limits"). Releases
with their assets have room in `GitHub._answer_api`.
"""

from __future__ import annotations

import json
import threading
from base64 import b64decode, urlsafe_b64encode
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http.client import HTTPConnection
from types import TracebackType
from typing import Any, Final, Literal, Self
from urllib.parse import SplitResult, quote, urlencode

from mrtd.verifier.fetch import HttpFetch
from tests.lab.snappy import encode_block, encode_frames
from tests.lab.web import Answer, Request, Server

API: Final = "https://api.github.com"
BLOBS: Final = "https://blobs.blob.core.windows.net"
SIGNATURE: Final = "sig=pre-signed-secret"
Form = Literal["inline", "raw", "framed", "plain"]


@dataclass(frozen=True, slots=True)
class Stored:
    """An attestation: its bundle, what its statement says, and how it is served."""

    number: int
    bundle: bytes
    repository_id: int
    predicate_type: str
    digests: frozenset[str]
    form: Form


class RewritingFetch(HttpFetch):
    """`HttpFetch` that finds two hosts on this machine, without TLS, and no others.

    Attributes:
        strangers: hosts that do not exist here, and were asked for.
    """

    def __init__(self, ports: Mapping[str, int]) -> None:
        super().__init__()
        self._ports = ports
        self.strangers: list[str] = []

    def _connection(self, parts: SplitResult) -> HTTPConnection:
        origin = f"{parts.scheme}://{parts.netloc}"
        if origin not in self._ports:
            self.strangers.append(origin)
            raise ConnectionRefusedError
        return HTTPConnection("127.0.0.1", self._ports[origin])


class GitHub:
    """One repository's attestations, as GitHub serves them while it is entered.

    Args:
        repository: ``owner/name``.
        repository_id: its number.
        token: that may upload; whoever sends another one gets 401.

    Attributes:
        page_size: longest page, however many are asked for.
        none_is_404: a digest without attestations is "not found", otherwise an empty list.
        api: server of the API, with its requests.
        blobs: server of bundles, with its requests.
        fetch: reaches both under the names that they have in the world.
    """

    def __init__(
        self,
        repository: str = "devopsdefender/dd",
        repository_id: int = 1234,
        *,
        token: str = "lab-token",  # noqa: S107 - it opens nothing
    ) -> None:
        self.repository, self.repository_id, self.token = repository, repository_id, token
        self.page_size = 100
        self.none_is_404 = True
        self.stored: list[Stored] = []
        self._next: dict[str, deque[Answer]] = {"api": deque(), "blobs": deque()}
        self._always: dict[str, Answer | None] = {"api": None, "blobs": None}
        self._lock = threading.RLock()
        self.api = Server(lambda request: self._answer("api", request))
        self.blobs = Server(lambda request: self._answer("blobs", request))
        self.fetch = RewritingFetch({API: self.api.port, BLOBS: self.blobs.port})

    def __enter__(self) -> Self:
        self.api.__enter__()
        self.blobs.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.blobs.__exit__(None, None, None)
        self.api.__exit__(None, None, None)
        errors = [*self.api.errors, *self.blobs.errors]
        if kind is None and errors:
            raise AssertionError("; ".join(errors))

    def add(self, bundle: bytes, *, form: Form = "raw", repository_id: int | None = None) -> Stored:
        """Store a bundle, as an upload does, under the digests of its statement's subjects."""
        statement = statement_of(bundle)
        with self._lock:
            stored = Stored(
                len(self.stored) + 1,
                bundle,
                self.repository_id if repository_id is None else repository_id,
                statement["predicateType"],
                frozenset(subject["digest"]["sha256"] for subject in statement["subject"]),
                form,
            )
            self.stored.append(stored)
        return stored

    def remove(self, stored: Stored) -> None:
        """Delete an attestation."""
        with self._lock:
            self.stored.remove(stored)

    def answer_next(self, server: Literal["api", "blobs"], *answers: Answer) -> None:
        """Answers instead of the next ones."""
        self._next[server].extend(answers)

    def answer_always(self, server: Literal["api", "blobs"], answer: Answer | None) -> None:
        """An answer instead of every other one; None for the usual ones."""
        self._always[server] = answer

    def _answer(self, server: Literal["api", "blobs"], request: Request) -> Answer:
        if server == "blobs" and "authorization" in request.headers:
            raise AssertionError("the token was sent to the host of blobs")
        with self._lock:
            told = self._next[server].popleft() if self._next[server] else self._always[server]
            if told is not None:
                return told
            return self._answer_api(request) if server == "api" else self._answer_blob(request)

    def _answer_api(self, request: Request) -> Answer:
        known = request.headers.get("authorization")
        if known is not None and known != f"Bearer {self.token}":
            return _json(401, {"message": "Bad credentials"})
        if "user-agent" not in request.headers:
            return _json(403, {"message": "Request forbidden by administrative rules"})
        base = f"/repos/{self.repository}/attestations".lower()
        path = request.path.lower()
        if request.method == "POST" and path == base:
            return self._upload(request, known)
        if request.method == "GET" and path.startswith(f"{base}/sha256:"):
            return self._list(request, path.rpartition(":")[2])
        return _json(404, {"message": "Not Found"})

    def _upload(self, request: Request, known: str | None) -> Answer:
        if known is None:
            return _json(401, {"message": "Requires authentication"})
        try:
            bundle = json.dumps(json.loads(request.body)["bundle"]).encode()
            statement_of(bundle)
        except (KeyError, TypeError, ValueError):
            return _json(422, {"message": "Validation failed, or the endpoint has been spammed."})
        return _json(201, {"id": self.add(bundle).number})

    def _list(self, request: Request, digest: str) -> Answer:
        assert request.headers.get("x-github-api-version") == "2022-11-28"
        assert request.headers.get("accept") == "application/vnd.github+json"
        kind = request.query.get("predicate_type")
        found = [s for s in self.stored if digest in s.digests]
        found = [s for s in found if kind is None or s.predicate_type == kind]
        if not found and self.none_is_404:
            return _json(404, {"message": "Not Found"})
        after = request.query.get("after")
        start = 0 if after is None else [_cursor(s) for s in found].index(after) + 1
        size = min(int(request.query.get("per_page", "30")), 100, self.page_size)
        page = found[start : start + size]
        headers = {}
        if start + size < len(found):
            query = urlencode({**request.query, "after": _cursor(page[-1])})
            path = f"/repositories/{self.repository_id}/attestations/sha256:{digest}"
            headers["Link"] = f'<{API}{path}?{query}>; rel="next"'
        return _json(200, {"attestations": [_entry(s) for s in page]}, headers)

    def _answer_blob(self, request: Request) -> Answer:
        number = int(request.path.rpartition("/")[2].partition(".")[0])
        if dict([SIGNATURE.split("=")]) != dict(request.query):
            return Answer(403, b"<Error><Code>AuthenticationFailed</Code></Error>")
        stored = next((s for s in self.stored if s.number == number), None)
        if stored is None:
            return Answer(404)
        packers: dict[str, Callable[[bytes], bytes]] = {
            "raw": encode_block,
            "framed": encode_frames,
            "plain": bytes,
        }
        pack = packers[stored.form]
        return Answer(200, pack(stored.bundle), {"Content-Type": "application/x-snappy"})


def statement_of(bundle: bytes) -> dict[str, Any]:
    """The statement in a bundle, unverified."""
    found: dict[str, Any] = json.loads(b64decode(json.loads(bundle)["dsseEnvelope"]["payload"]))
    return found


def _entry(stored: Stored) -> dict[str, Any]:
    path = f"attestations/{stored.repository_id}/{quote(str(stored.number))}.json.sn"
    return {
        "bundle": json.loads(stored.bundle) if stored.form == "inline" else None,
        "bundle_url": f"{BLOBS}/{path}?{SIGNATURE}",
        "initiator": "user",
        "repository_id": stored.repository_id,
    }


def _cursor(stored: Stored) -> str:
    return urlsafe_b64encode(f"cursor:{stored.number}".encode()).decode()


def _json(status: int, value: object, headers: Mapping[str, str] | None = None) -> Answer:
    kind = {"Content-Type": "application/json; charset=utf-8"}
    return Answer(status, json.dumps(value).encode(), {**kind, **(headers or {})})
