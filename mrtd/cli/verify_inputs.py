"""What ``mrtd verify`` is given, and how the verifier is asked about it."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

import msgspec

from mrtd.document import MeasurementDocument, read_document
from mrtd.errors import (
    MalformedDocument,
    MalformedStatement,
    SpecError,
    ToolMissing,
    TransportError,
)
from mrtd.evidence.bundle import Bundle, decode_bundle, read_bundle
from mrtd.evidence.collateral import Collateral, load_collateral
from mrtd.launch.inputs import read_file
from mrtd.side_documents import unhex
from mrtd.sources import is_quote
from mrtd.verifier.clock import Clock
from mrtd.verifier.fetch import Fetch, Response
from mrtd.verifier.policy import Policy
from mrtd.verifier.verdict import Verdict
from mrtd.verifier.verifier import Verifier

if TYPE_CHECKING:
    from mrtd.verifier.binding import Binding

_ZIP: Final = b"PK\x03\x04"
_TOKEN: Final = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*")
_SIZE_LIMIT: Final = 65 << 20
_TRIED: Final = (
    "token of Intel Trust Authority (three parts with dots between them), TDX quote (version 4 or "
    "5, binary or hex), evidence bundle (zip or folder), measurement document (JSON with schema)"
)


class Input(NamedTuple):
    """Something to verify; one of the last three is set.

    Attributes:
        name: the file.
        kind: what it is, for a person.
        token: a token.
        quote: a quote.
        document: a measurement document.
    """

    name: str
    kind: str
    token: str | None = None
    quote: bytes | None = None
    document: MeasurementDocument | None = None


class Answer(NamedTuple):
    """An input and its verdict; ``td`` is whether that is about a TD at all."""

    input: Input
    verdict: Verdict
    td: bool


class Source(NamedTuple):
    """Something that a verdict rests on and that ages.

    Attributes:
        what: ``trust root``, ``token keys`` or ``collateral``.
        name: where it came from.
        dated: when it was made, as far as is known.
        expires: until when it holds, if it says so.
        sha256: of it, hex; empty if there is no one file.
    """

    what: str
    name: str
    dated: datetime | None = None
    expires: datetime | None = None
    sha256: str = ""


def read_input(name: str) -> Input:
    """Read something to verify. Raises `InputError`."""
    path = Path(name)
    if name == "-":
        data = sys.stdin.buffer.read(_SIZE_LIMIT + 1)
        if len(data) > _SIZE_LIMIT:
            raise SpecError(f"more than {_SIZE_LIMIT} bytes", origin=name)
    elif path.is_dir():
        return _of_bundle(read_bundle(path), name)
    else:
        data = read_file(path, key="INPUT", hint=None)
    if data.startswith(_ZIP):
        return _of_bundle(decode_bundle(data, origin=name), name)
    if is_quote(data):
        return Input(name, "TDX quote", quote=data)
    return _of_text(data, name)


def _of_text(data: bytes, name: str) -> Input:
    text = data.decode("utf-8", "replace").strip()
    if _TOKEN.fullmatch(text):
        return Input(name, "token of Intel Trust Authority", token=text)
    if (raw := unhex(text)) is not None and is_quote(raw):
        return Input(name, "TDX quote, in hex", quote=raw)
    if text.startswith("{") and '"mrtd.measurement/' in text:
        document = read_document(data, origin=name)
        return Input(name, "measurement document", document=document)
    hint = None
    if text.startswith("{") and "dsseEnvelope" in text:
        hint = "a Sigstore bundle is given with --bundle"
    raise MalformedDocument(f"is none of these: {_TRIED}", origin=name, hint=hint)


def _of_bundle(bundle: Bundle, name: str) -> Input:
    redacted = ", redacted" if bundle.redacted else ""
    if bundle.token is not None:
        token = bundle.token.decode("utf-8", "replace").strip()
        return Input(name, f"evidence bundle{redacted}: its token", token=token)
    if bundle.quote is not None:
        return Input(name, f"evidence bundle{redacted}: its quote", quote=bundle.quote)
    raise MalformedDocument("has neither a token nor a quote", origin=name)


class Asker:
    """A verifier with what the command line gave it.

    Args:
        policy: of the control plane; ``--offline`` changes its lookup.
        fetch: how to ask; None for ``--offline``: ask nobody.
        binding: ``"none"``, report data, or None if nothing was said.
        bundles: files of Sigstore bundles.
        collateral: file or folder.
        jwks: file of token keys.
        now: the time; None for now.
        github_token: for lookups.

    Attributes:
        sources: what verdicts rest on.

    Raises:
        InputError: a file cannot be used.
        TransportError: the policy needs a network.
    """

    def __init__(
        self,
        policy: Policy,
        *,
        fetch: Fetch | None,
        binding: Literal["none"] | bytes | None,
        bundles: Iterable[Path],
        collateral: Path | None,
        jwks: Path | None,
        now: datetime | None,
        github_token: str | None,
    ) -> None:
        if fetch is None:
            fetch, policy = _no_fetch, _offline(policy)
        # what a control plane remembers is its own: asking here neither reads nor changes it
        cache = msgspec.structs.replace(policy.cache, directory=None)
        policy = msgspec.structs.replace(policy, cache=cache)
        self.sources: list[Source] = []
        self._now = now or datetime.now(UTC)
        self._binding = binding
        self._collateral: Collateral | None = None
        if collateral is not None:
            self._collateral = load_collateral(collateral)
            self.sources.append(_source_of_collateral(collateral, self._collateral))
        if jwks is not None:
            fetch = _keys_from(jwks, policy.token.jwks_url, fetch)
            dated = datetime.fromtimestamp(jwks.stat().st_mtime, UTC)
            self.sources.append(Source("token keys", str(jwks), dated))
        self._bundles = tuple(read_file(path, key="--bundle", hint=None) for path in bundles)
        clock = Clock() if now is None else Clock(wall=now.timestamp)
        self.verifier = Verifier(policy, fetch=fetch, clock=clock, github_token=github_token)
        root = self.verifier.trust_root
        found = Source("trust root", "GitHub's own, by gh")
        if root is not None:
            found = Source("trust root", root.source, root.dated, None, root.sha256)
        self.sources.insert(0, found)

    @property
    def now(self) -> datetime:
        """The time of all verdicts."""
        return self._now

    def ask(self, given: Input) -> Answer:
        """The verdict about an input.

        Raises:
            SpecError: an option is missing without which there is none.
        """
        if given.document is not None:
            from mrtd.cli.verify_document import ask_about_registers  # noqa: PLC0415

            verdict = ask_about_registers(
                self.verifier, given.document, self._bundles, self._now, origin=given.name
            )
            return Answer(given, verdict, td=False)
        binding = self._demand_binding(given)
        if given.token is not None:
            verdict = self.verifier.verify_registration(
                given.token, binding=binding, now=self._now, bundles=self._bundles
            )
            return Answer(given, verdict, td=True)
        if self._collateral is None:
            raise SpecError(
                "is needed to verify a quote", origin=given.name, field="--collateral",
                hint="docs/evidence.md: how to fetch collateral for a quote's platform",
            )  # fmt: skip
        verdict = self.verifier.verify_quote(
            given.quote or b"", self._collateral, binding=binding, now=self._now,
            bundles=self._bundles,
        )  # fmt: skip
        return Answer(given, verdict, td=True)

    def _demand_binding(self, given: Input) -> Binding:
        from mrtd.verifier.binding import ReportDataBinding  # noqa: PLC0415

        if self._binding is None:
            raise SpecError(
                "what binds the evidence to its presenter has to be said",
                origin=given.name, field="--report-data",
                hint="--report-data HEX, or --binding none: then anybody may have presented it",
            )  # fmt: skip
        return "none" if self._binding == "none" else ReportDataBinding(bytes(self._binding))


def _offline(policy: Policy) -> Policy:
    if policy.identity.visibility == "private":
        raise TransportError(
            "--offline: a private repository's bundles are verified by gh, which asks GitHub"
        )
    lookup = msgspec.structs.replace(policy.lookup, github="off")
    return msgspec.structs.replace(policy, lookup=lookup)


def _no_fetch(*_: object, **__: object) -> Response:
    """Only the keys are asked for: see `_offline`."""
    raise TransportError("--offline: nobody is asked, give the keys with --jwks FILE")


def _keys_from(path: Path, place: str, other: Fetch) -> Fetch:
    """A `Fetch` that has the token issuer's answer in a file."""
    from mrtd.verifier.jwks import read_keys  # noqa: PLC0415 - heavy

    body = read_file(path, key="--jwks", hint=None)
    try:
        read_keys(body)
    except MalformedStatement as error:
        raise SpecError(
            f"is no JWK set with keys of a token issuer: {error.message}",
            origin=str(path), field="--jwks",
        ) from error  # fmt: skip
    except ImportError as error:
        raise ToolMissing(
            "cryptography is not installed", hint="pip install './mrtd[verifier]'"
        ) from error

    def fetch(url: str, *, headers: Mapping[str, str], limit: int, timeout: float) -> Response:
        if url == place:
            return Response(200, {}, body)
        return other(url, headers=headers, limit=limit, timeout=timeout)

    return fetch


class _Statement(msgspec.Struct, rename="camel"):
    """What TCB info and QE identity say of themselves."""

    issue_date: datetime
    next_update: datetime


def _source_of_collateral(path: Path, collateral: Collateral) -> Source:
    """The older and the shorter-lived of its two statements, as they say; see the checks, too."""
    try:
        said = [
            msgspec.json.decode(text, type=_Statement)
            for text in (collateral.tcb_info, collateral.qe_identity)
        ]
        dated, expires = min(s.issue_date for s in said), min(s.next_update for s in said)
    except (msgspec.DecodeError, TypeError):  # verifying it will say what is wrong
        return Source("collateral", str(path))
    return Source("collateral", str(path), dated, expires)
