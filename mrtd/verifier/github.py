"""Attestations of a digest, from GitHub's REST API. Nothing here is verified yet.

Source: GitHub REST API 2022-11-28, "List attestations". Since July 2026 its answers have ``bundle:
null`` and a pre-signed ``bundle_url`` of another host; both forms are read.
"""

from __future__ import annotations

import random
import re
import time
from collections.abc import Callable
from functools import partial
from typing import Final
from urllib.parse import parse_qs, quote, unquote, urlencode, urlsplit

import msgspec

import mrtd
from mrtd.reference import PREDICATE_TYPE
from mrtd.verifier.budget import Budget
from mrtd.verifier.clock import Clock
from mrtd.verifier.fetch import Fetch
from mrtd.verifier.lookup import BUNDLE_LIMIT, Found, Lookup, peek, read_tree
from mrtd.verifier.policy import LookupPolicy
from mrtd.verifier.snappy import MalformedSnappy, decode_bundle_body
from mrtd.verifier.upstream import Stop, Turn, Upstream
from mrtd.verifier.verdict import Reason

LIST_LIMIT: Final = 4 << 20
"""Longest page of the list, bytes."""
PACKED_LIMIT: Final = 1 << 20
"""Largest packed bundle, bytes."""
TOTAL_LIMIT: Final = 64 << 20
"""Bytes of all bundles of a lookup together."""
PAGES: Final = 3
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
        self._policy, self._clock = policy, clock
        self._repository, self._id = repository, repository_id
        upstream = partial(
            Upstream,
            timeout=policy.timeout_seconds,
            fetch=fetch,
            clock=clock,
            sleep=sleep,
            jitter=jitter,
        )
        agent = {"User-Agent": f"mrtd/{mrtd.__version__}"}
        api = {"Accept": "application/vnd.github+json", "X-GitHub-Api-Version": "2022-11-28"}
        known = {"Authorization": f"Bearer {token}"} if token else {}
        self._api = upstream(
            "GitHub's API",
            headers=agent | api | known,
            limit=LIST_LIMIT,
            budget=Budget(policy.requests_per_hour, policy.reserve_percent, clock),
        )
        # no token: the URL is the permission, and the host is not GitHub's; nor does GitHub count
        self._blobs = upstream("the bundles' host", headers=agent, limit=PACKED_LIMIT, budget=None)

    def __call__(self, digest: str, *, priority: float = 0.0) -> Lookup:
        """Every attestation of a SHA-256 digest (64 hex digits). Never raises."""
        run = _Run(Turn(self._clock.steady() + self._policy.total_seconds, priority))
        what = f"{self._repository}, sha256:{digest!s:.12}..."
        try:
            for number, entry in enumerate(self._entries(run, digest), 1):
                self._read(run, entry, f"{what}, entry {number}")
        except Stop as stop:
            run.note(stop)
        except Exception as error:  # noqa: BLE001 - whatever it is, not everything was read
            run.note(Stop(f"internal error: {type(error).__name__}", Reason.LOOKUP_INCOMPLETE))
        return run.result(f"{what}: {len(run.found)}")

    def _entries(self, run: _Run, digest: str) -> list[_Entry]:
        """The list; what of it could not be read is noted."""
        if not re.fullmatch("[0-9a-f]{64}", digest):
            raise Stop("that is no SHA-256 digest")
        most = self._policy.maximum_attestations
        found: list[_Entry] = []
        cursor: str | None = ""
        for page in range(PAGES):
            try:
                more, cursor = self._page(run.turn, digest, cursor or "")
            except Stop as stop:
                run.note(stop if page == 0 else stop.incomplete())
                return found
            found += more
            if cursor is None or len(found) > most:
                break
        if cursor is not None or len(found) > most:
            run.note(Stop("there are more entries than are read", Reason.LOOKUP_INCOMPLETE))
        return found[:most]

    def _page(self, turn: Turn, digest: str, cursor: str) -> tuple[list[_Entry], str | None]:
        """Entries of a page, and the cursor of the next one; None for the last."""
        path = f"/repos/{quote(self._repository)}/attestations/sha256:{digest}"
        query = {"per_page": "100", "predicate_type": PREDICATE_TYPE}
        query |= {"after": cursor} if cursor else {}
        answer = self._api.ask(f"{self._policy.api}{path}?{urlencode(query)}", turn)
        if answer.status == 404 and not cursor:
            return [], None  # of a digest without attestations, as is an empty list
        if answer.status in {401, 403}:
            raise Stop(f"GitHub's API refuses: HTTP {answer.status}; token expired or too narrow?")
        if 300 <= answer.status < 400:
            raise Stop(f"GitHub's API redirects: HTTP {answer.status}; repository renamed?")
        if answer.status != 200:
            raise Stop(f"GitHub's API answers with HTTP {answer.status}")
        try:
            read_tree(answer.body)  # msgspec takes the last one of keys that come twice
            entries = msgspec.json.decode(answer.body, type=_List).attestations
        except (ValueError, RecursionError) as error:  # msgspec's errors are ValueErrors
            raise Stop(f"GitHub's API: unreadable list: {type(error).__name__}") from error
        return entries, self._cursor(answer.headers.get("link", ""), digest)

    def _cursor(self, link: str, digest: str) -> str | None:
        """Of the next page (GitHub REST docs, "Using pagination"). Its URL is not followed: only
        the cursor is taken from it, and only if it belongs to the same list.
        """
        if "next" not in re.sub("<[^<>]*>", "", link).lower():
            return None
        api, match = urlsplit(self._policy.api), _LINK.search(link)
        # GitHub's links name a repository by its number
        of = {f"repos/{self._repository}".lower(), f"repositories/{self._id}"}
        same = {f"{api.path}/{one}/attestations/sha256:{digest}".lower() for one in of}
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
            raise Stop("GitHub's API: link to a next page that is none", Reason.LOOKUP_INCOMPLETE)
        return cursors[0]

    def _read(self, run: _Run, entry: _Entry, source: str) -> None:
        """Read the bundle of an entry; if that cannot be done it is noted."""
        if entry.repository_id is not None and str(entry.repository_id) != self._id:
            run.others += 1
            return
        try:
            bundle = bytes(entry.bundle).strip()
            peeked = peek(bundle)
            if peeked is None and entry.bundle_url is not None:
                bundle = self._blob(run.turn, entry.bundle_url)
                peeked = peek(bundle)
            if bundle == b"null":
                raise Stop("an entry has neither bundle nor bundle_url")  # noqa: TRY301 - one way out
        except Stop as stop:
            run.note(stop.incomplete())
            return
        if peeked is None or peeked.predicate_type == PREDICATE_TYPE:
            run.add(Found(bundle, source))

    def _blob(self, turn: Turn, url: str) -> bytes:
        if not _allowed(url, self._policy.blob_hosts):
            raise Stop("a bundle_url is not https on one of lookup.blob_hosts")
        answer = self._blobs.ask(url, turn)
        if answer.status != 200:
            raise Stop(f"the bundles' host answers with HTTP {answer.status}")
        try:
            return decode_bundle_body(answer.body, limit=BUNDLE_LIMIT)
        except MalformedSnappy as error:
            raise Stop(f"a bundle cannot be unpacked: {error.message}") from error


class _Entry(msgspec.Struct, frozen=True):
    """Of the list: ``bundle``, or null and ``bundle_url``."""

    repository_id: int | str | None = None
    bundle: msgspec.Raw = msgspec.Raw(b"null")
    bundle_url: str | None = None


class _List(msgspec.Struct, frozen=True):
    attestations: list[_Entry]


class _Run:
    """One lookup: what it has found, and the first thing that stood in its way."""

    def __init__(self, turn: Turn) -> None:
        self.turn = turn
        self.found: list[Found] = []
        self.left, self.others = TOTAL_LIMIT, 0
        self.stopped: Stop | None = None

    def add(self, found: Found) -> None:
        self.left -= len(found.bundle)
        if self.left < 0:
            self.note(Stop(f"more than {TOTAL_LIMIT} bytes", Reason.LOOKUP_INCOMPLETE))
        else:
            self.found.append(found)

    def note(self, stop: Stop) -> None:
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
