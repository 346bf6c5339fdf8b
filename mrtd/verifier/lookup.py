"""What a lookup finds, wherever it looks, and a glance at bundles. Nothing is verified here."""

from __future__ import annotations

import json
from base64 import b64decode
from typing import Any, Final, NamedTuple, Protocol

import msgspec

from mrtd.verifier.verdict import Reason

BUNDLE_LIMIT: Final = 4 << 20
"""Largest bundle, bytes."""
DEPTH_LIMIT: Final = 64
"""Deepest nesting of a JSON text."""


class Found(msgspec.Struct, frozen=True):
    """A bundle as it was read, and where, for a person; no secrets."""

    bundle: bytes
    source: str


class Lookup(msgspec.Struct, frozen=True, kw_only=True):
    """What a lookup found.

    Attributes:
        bundles: all that could be read and may be ours, even where others could not be read:
            there may be a revocation among them.
        reason: None if everything was read; otherwise ``LOOKUP_UNAVAILABLE`` (no list),
            ``LOOKUP_INCOMPLETE`` (not all of it) or ``LOOKUP_BUDGET`` (not now).
        message: what was found or went wrong, for a person; no secrets.
        retry_after: seconds after which asking again makes sense; None if that is not known.
        source: who was asked: ``GitHub``, or the operator's ``directory``.
    """

    bundles: tuple[Found, ...] = ()
    reason: Reason | None = None
    message: str = ""
    retry_after: float | None = None
    source: str = "GitHub"


class AskGitHub(Protocol):
    """Looks a digest up; never raises."""

    def __call__(self, digest: str, *, priority: float) -> Lookup:
        """Look a digest up."""


class FolderLookup(Protocol):
    """Reads the operator's folder; never raises."""

    def __call__(self) -> Lookup:
        """All bundles in it."""


class Peeked(NamedTuple):
    """What a bundle says its statement is about; anybody can have written that."""

    predicate_type: str
    sha256: frozenset[str]


def peek(bundle: bytes) -> Peeked | None:
    """Predicate type and subject digests of a bundle's statement.

    None if they cannot be read, or can be read in two ways. Such a bundle is not left out: the
    verifier says what is wrong with it.
    """
    try:
        payload = read_tree(bundle)["dsseEnvelope"]["payload"]
        statement = read_tree(b64decode(payload, validate=True))
        kind, subjects = statement["predicateType"], statement["subject"]
        if not isinstance(kind, str) or not isinstance(subjects, list):
            return None
        digests = [subject["digest"].get("sha256") for subject in subjects]
        return Peeked(kind, frozenset(d for d in digests if isinstance(d, str)))
    except (AttributeError, LookupError, TypeError, ValueError):
        return None


def read_tree(data: bytes) -> Any:  # noqa: ANN401 - JSON
    """The value of a JSON text. Foreign predicates may have fractions, unlike our statements.

    Raises:
        ValueError: no JSON in UTF-8, a key that comes twice in an object, or nested too deeply.
    """
    try:
        tree = json.loads(data.decode("utf-8"), object_pairs_hook=_object)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    level = [tree]
    for _ in range(DEPTH_LIMIT):
        deeper: list[Any] = []
        for item in level:
            if isinstance(item, dict):
                deeper += item.values()
            elif isinstance(item, list):
                deeper += item
        if not deeper:
            return tree
        level = deeper
    raise ValueError("nested too deeply")


def _object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key comes twice in one object")
    return found
