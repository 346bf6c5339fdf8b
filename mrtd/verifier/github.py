"""Attestations of a digest, from GitHub's REST API. Nothing here is verified yet.

Source: GitHub REST API 2022-11-28, "List attestations". Since July 2026 its answers have ``bundle:
null`` and a pre-signed ``bundle_url`` of another host; both forms are read.
"""

from __future__ import annotations

import random
import re
import time
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple
from urllib.parse import parse_qs, quote, unquote, urlencode, urlsplit

import msgspec

import mrtd
from mrtd.errors import TransportError
from mrtd.reference import PREDICATE_TYPE
from mrtd.verifier.budget import HOLD_LIMIT, Breaker, Budget
from mrtd.verifier.clock import Clock
from mrtd.verifier.fetch import Fetch, Response
from mrtd.verifier.lookup import BUNDLE_LIMIT, Found, Lookup, peek, read_tree
from mrtd.verifier.policy import LookupPolicy
from mrtd.verifier.snappy import MalformedSnappy, decode_bundle_body
from mrtd.verifier.verdict import Reason

LIST_LIMIT: Final = 4 << 20
PACKED_LIMIT: Final = 1 << 20
PAGES: Final = 3
_RETRIES: Final = 2
_PAUSE: Final = 60.0  # GitHub REST docs, "Rate limits": where no header says so, wait a minute
# a name, no IP address in any notation: the last label of those begins with a digit
_HOST: Final = re.compile(r"([a-z0-9-]+\.)+[a-z][a-z0-9-]*")
_LINK: Final = re.compile(r'<([^<>]*)>\s*;\s*rel="?next"?\s*(?:,|$)')  # RFC 8288 section 3


class GitHubLookup:
    """Looks up a digest. Thread-safe; budget and breakers are common to all its lookups.

    Args:
        policy: where, how long and how often.
        repository: ``owner/name``.
        repository_id: its number; entries of another one are left out.
        fetch: for HTTP.
        clock: for deadlines, and for the time that rate limits name.
        token: for the API's host only.
        sleep: waits some seconds before a request is repeated.
        jitter: a number from 0 to 1, so that not everybody repeats at the same time.
    """

    def __init__(
        self,
        policy: LookupPolicy,
        *,
        repository: str,
        repository_id: str,
        fetch: Fetch,
        clock: Clock,
        token: str | None = None,
        sleep: Callable[[float], None] = time.sleep,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._policy, self._repository, self._id = policy, repository, repository_id
        self._fetch, self._clock, self._sleep, self._jitter = fetch, clock, sleep, jitter
        self._budget = Budget(policy.requests_per_hour, policy.reserve_percent, clock)
        agent = {"User-Agent": f"mrtd/{mrtd.__version__}"}
        api = {
            **agent,
            "Accept": "application/vnd.github+json",
            "X-GitHub-Api-Version": "2022-11-28",
            **({"Authorization": f"Bearer {token}"} if token else {}),
        }
        self._api = _Service("GitHub's API", api, LIST_LIMIT, Breaker(clock))
        # no token: the URL is the permission, and the host is not GitHub's
        self._blobs = _Service("the bundles' host", agent, PACKED_LIMIT, Breaker(clock))

    def __call__(self, digest: str, *, priority: bool = False) -> Lookup:
        """Every attestation of a SHA-256 digest (64 hex digits). Never raises."""
        run = _Run(self._clock.steady() + self._policy.total_seconds, priority)
        try:
            for entry in self._entries(run, digest):
                self._read(run, entry, f"{self._repository}, sha256:{digest[:12]}...")
        except _Stop as stop:
            run.note(stop)
        except Exception as error:  # noqa: BLE001 - whatever it is, not everything was read
            run.note(_Stop(f"internal error: {type(error).__name__}", Reason.LOOKUP_INCOMPLETE))
        return run.result(f"{self._repository}: {len(run.found)} of sha256:{digest[:12]}...")

    def _entries(self, run: _Run, digest: str) -> list[_Entry]:
        """The list; what of it could not be read is noted."""
        if not re.fullmatch("[0-9a-f]{64}", digest):
            raise _Stop("that is no SHA-256 digest")
        most = self._policy.maximum_attestations
        found: list[_Entry] = []
        cursor: str | None = ""
        for page in range(PAGES):
            try:
                more, cursor = self._page(run, digest, cursor or "")
            except _Stop as stop:
                run.note(stop if page == 0 else stop.incomplete())
                return found[:most]
            found += more
            if cursor is None or len(found) > most:
                break
        if cursor is not None or len(found) > most:
            run.note(_Stop(f"more than {min(most, 100 * PAGES)} entries", Reason.LOOKUP_INCOMPLETE))
        return found[:most]

    def _page(self, run: _Run, digest: str, cursor: str) -> tuple[list[_Entry], str | None]:
        """Entries of a page, and the cursor of the next one; None for the last."""
        path = f"/repos/{quote(self._repository)}/attestations/sha256:{digest}"
        query = {"per_page": "100", "predicate_type": PREDICATE_TYPE}
        query |= {"after": cursor} if cursor else {}
        answer = self._ask(run, self._api, f"{self._policy.api}{path}?{urlencode(query)}")
        if answer.status == 404 and not cursor:
            return [], None  # of a digest without attestations, as is an empty list
        if answer.status in {401, 403}:
            self._api.breaker.failed()
            raise _Stop(f"GitHub's API refuses: HTTP {answer.status}; token expired or too narrow?")
        if 300 <= answer.status < 400:
            raise _Stop(f"GitHub's API answers with HTTP {answer.status}; repository renamed?")
        if answer.status != 200:
            raise _Stop(f"GitHub's API answers with HTTP {answer.status}")
        try:
            read_tree(answer.body)  # which msgspec would read, whatever keys come twice
            entries = msgspec.json.decode(answer.body, type=_List).attestations
        except (ValueError, RecursionError) as error:  # msgspec's errors are ValueErrors
            raise _Stop(f"GitHub's API: unreadable list: {type(error).__name__}") from error
        return entries, self._cursor(answer.headers.get("link", ""), digest)

    def _cursor(self, link: str, digest: str) -> str | None:
        """Of the next page (GitHub REST docs, "Using pagination"). Its URL is not followed: only
        the cursor is taken from it, and only if it belongs to the same list.
        """
        if "next" not in re.sub("<[^>]*>", "", link).lower():
            return None
        api, match = urlsplit(self._policy.api), _LINK.search(link)
        # GitHub's links name a repository by its number
        of = {f"repos/{self._repository}".lower(), f"repositories/{self._id}"}
        same = {f"{api.path}/{one}/attestations/sha256:{digest}" for one in of}
        try:
            url = urlsplit(match[1] if match else "")
            cursors = parse_qs(url.query).get("after", [])
        except ValueError:
            cursors = []
        if (
            len(cursors) != 1
            or (url.scheme, url.netloc) != (api.scheme, api.netloc)
            or unquote(url.path).lower() not in same
        ):
            raise _Stop("GitHub's API: link to a next page that is none", Reason.LOOKUP_INCOMPLETE)
        return cursors[0]

    def _read(self, run: _Run, entry: _Entry, source: str) -> None:
        """Read the bundle of an entry; if that cannot be done it is noted."""
        run.entries += 1
        if entry.repository_id is not None and str(entry.repository_id) != self._id:
            run.others += 1
            return
        try:
            inline = bytes(entry.bundle)
            if inline == b"null":
                inline = self._blob(run, entry.bundle_url)
        except _Stop as stop:
            run.note(stop.incomplete())
            return
        peeked = peek(inline)
        if peeked is None or peeked.predicate_type == PREDICATE_TYPE:
            run.found.append(Found(inline, f"{source}, entry {run.entries}"))

    def _blob(self, run: _Run, url: str | None) -> bytes:
        if url is None:
            raise _Stop("an entry has neither bundle nor bundle_url")
        if not _allowed(url, self._policy.blob_hosts):
            raise _Stop("a bundle_url is not https on one of lookup.blob_hosts")
        answer = self._ask(run, self._blobs, url)
        if answer.status != 200:
            raise _Stop(f"the bundles' host answers with HTTP {answer.status}")
        try:
            return decode_bundle_body(answer.body, limit=BUNDLE_LIMIT)
        except MalformedSnappy as error:
            raise _Stop(f"a bundle cannot be unpacked: {error.message}") from error

    def _ask(self, run: _Run, service: _Service, url: str) -> Response:
        """An answer below 500, after at most two repetitions."""
        for attempt in range(_RETRIES + 1):
            if attempt:
                pause = 0.25 * 2**attempt * (1 + self._jitter())
                if pause >= run.deadline - self._clock.steady():
                    break
                self._sleep(pause)
            answer, problem = self._ask_once(run, service, url)
            if answer is not None:
                return answer
        raise _Stop(f"{service.name}: {problem}")

    def _ask_once(self, run: _Run, service: _Service, url: str) -> tuple[Response | None, str]:
        left = run.deadline - self._clock.steady()
        if left <= 0:
            raise _Stop(f"no time left after {self._policy.total_seconds} s")
        if (wait := service.breaker.enter()) is not None:
            raise _Stop(f"{service.name}: not asked now, for {wait:.0f} s", retry_after=wait)
        if (wait := self._budget.take(priority=run.priority)) is not None:
            text = f"lookup.requests_per_hour is used up for {wait:.0f} s"
            raise _Stop(text, Reason.LOOKUP_BUDGET, wait)
        timeout = min(left, float(self._policy.timeout_seconds))
        try:
            answer = self._fetch(url, headers=service.headers, limit=service.limit, timeout=timeout)
        except Exception as error:  # noqa: BLE001 - the interface may be anybody's
            service.breaker.failed()
            return None, error.message if isinstance(error, TransportError) else "no answer"
        if (wait := self._pause(answer)) is not None:
            service.breaker.hold(wait)
        if answer.status in {403, 429, 503} and wait is not None:
            raise _Stop(f"{service.name}: rate limit, for {wait:.0f} s", retry_after=wait)
        if answer.status >= 500:
            service.breaker.failed()
            return None, f"HTTP {answer.status}"
        service.breaker.succeeded()
        return answer, ""

    def _pause(self, answer: Response) -> float | None:
        """Seconds that GitHub wants to be left alone (REST docs, "Rate limits")."""
        refused, found = answer.status in {403, 429, 503}, answer.headers
        pause = None
        if refused and "retry-after" in found:
            pause = _number(found["retry-after"]) or _PAUSE
        elif found.get("x-ratelimit-remaining") == "0":
            reset = _number(found.get("x-ratelimit-reset", ""))
            pause = _PAUSE if reset is None else max(1.0, reset - self._clock.wall())
        elif answer.status == 429 or (refused and b"rate limit" in answer.body[:4096].lower()):
            pause = _PAUSE
        return None if pause is None else min(pause, HOLD_LIMIT)


class _Service(NamedTuple):
    name: str
    headers: Mapping[str, str]
    limit: int
    breaker: Breaker


class _Entry(msgspec.Struct, frozen=True):
    """Of the list; either ``bundle``, or null and ``bundle_url``."""

    repository_id: int | str | None = None
    bundle: msgspec.Raw = msgspec.Raw(b"null")
    bundle_url: str | None = None


class _List(msgspec.Struct, frozen=True):
    attestations: list[_Entry]


class _Stop(Exception):
    """Why reading ends, here or altogether."""

    def __init__(
        self,
        message: str,
        reason: Reason = Reason.LOOKUP_UNAVAILABLE,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.message, self.reason, self.retry_after = message, reason, retry_after

    def incomplete(self) -> _Stop:
        """The same where a part has been read."""
        if self.reason is Reason.LOOKUP_UNAVAILABLE:
            return _Stop(self.message, Reason.LOOKUP_INCOMPLETE, self.retry_after)
        return self


class _Run:
    """One lookup: what it has found, and the first thing that stood in its way."""

    def __init__(self, deadline: float, priority: bool) -> None:  # noqa: FBT001
        self.deadline, self.priority = deadline, priority
        self.found: list[Found] = []
        self.entries = self.others = 0
        self.stopped: _Stop | None = None

    def note(self, stop: _Stop) -> None:
        self.stopped = self.stopped or stop

    def result(self, message: str) -> Lookup:
        if self.others:
            message += f"; {self.others} of another repository left out"
        if self.stopped is None:
            return Lookup(bundles=tuple(self.found), message=message)
        return Lookup(
            bundles=tuple(self.found),
            reason=self.stopped.reason,
            message=f"{message}; {self.stopped.message}",
            retry_after=self.stopped.retry_after,
        )


def _allowed(url: str, hosts: tuple[str, ...]) -> bool:
    """Whether a bundle may be fetched from there: https, a host of the policy, nothing unusual."""
    if not url.isascii() or not url.isprintable() or " " in url or "\\" in url:
        return False
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        return False
    usual = parts.scheme == "https" and "@" not in parts.netloc and port in {None, 443}
    named = any(host == h.lower() or (h[:1] == "." and host.endswith(h.lower())) for h in hosts)
    return usual and named and _HOST.fullmatch(host) is not None


def _number(text: str) -> float | None:
    return float(text) if re.fullmatch("[0-9]{1,12}", text) else None
