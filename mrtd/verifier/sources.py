"""Bundles of a local directory, for control planes that do not reach GitHub, or not always."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Final

from mrtd.reference import PREDICATE_TYPE
from mrtd.verifier.lookup import BUNDLE_LIMIT, Found, Lookup, peek
from mrtd.verifier.verdict import Reason

COUNT_LIMIT: Final = 1000
"""Files that are read, and bundles in them."""
TOTAL_LIMIT: Final = 64 << 20
"""Bytes that are read."""
_SOURCE: Final = "directory"


def directory_bundles(folder: Path, digest: str | None = None) -> Lookup:
    """Bundles whose statement names a SHA-256 digest (64 hex digits) as a subject. Never raises.

    Without a digest, all whose statement is a document of ours: what they revoke holds, too.

    All ``*.json`` (one bundle) and ``*.jsonl`` (one a line, as ``gh attestation download`` writes
    them) are read, by name. Links inside the directory are followed, as Kubernetes makes them.
    What cannot be read, or is too much, makes the answer ``LOOKUP_INCOMPLETE``: it may be a
    revocation. A bundle whose statement cannot be read is kept; the verifier says what is wrong.
    """
    try:
        with os.scandir(folder) as entries:
            names = sorted(e.name for e in entries if e.name.endswith((".json", ".jsonl")))
        root = folder.resolve(strict=True)
    except (OSError, ValueError, RuntimeError) as error:
        return Lookup(
            reason=Reason.LOOKUP_UNAVAILABLE,
            message=f"the directory of bundles cannot be read: {type(error).__name__}",
            source=_SOURCE,
        )
    found: list[Found] = []
    problems = [f"more than {COUNT_LIMIT} files"] if len(names) > COUNT_LIMIT else []
    count, left = 0, TOTAL_LIMIT
    for name in names[:COUNT_LIMIT]:
        try:
            data = _read(root, name, left)
            texts = [line for line in data.split(b"\n") if line.strip()]
            texts = texts if name.endswith(".jsonl") else [data]
            left, count = left - len(data), count + len(texts)
            if count > COUNT_LIMIT or max(map(len, texts), default=0) > BUNDLE_LIMIT:
                raise ValueError("too many bundles, or too large a one")  # noqa: TRY301 - one way on
        except (OSError, ValueError, RuntimeError) as error:
            what = (error.strerror if isinstance(error, OSError) else None) or str(error)
            problems.append(f"{name!a}: {what}")
            continue
        found += [Found(text, f"directory, {name!a}") for text in texts if is_about(text, digest)]
    message = "; ".join((f"directory: {len(found)} of {_shown(digest)}", *problems[:5]))
    reason = Reason.LOOKUP_INCOMPLETE if problems else None
    return Lookup(bundles=tuple(found), reason=reason, message=message, source=_SOURCE)


def is_about(bundle: bytes, digest: str | None) -> bool:
    """Whether a bundle's statement is ours, and names a digest; unknown counts as yes."""
    peeked = peek(bundle)
    if peeked is None:
        return True
    return peeked.predicate_type == PREDICATE_TYPE and (digest is None or digest in peeked.sha256)


def _shown(digest: str | None) -> str:
    return "any digest" if digest is None else f"sha256:{digest[:12]}..."


def _read(root: Path, name: str, limit: int) -> bytes:
    """A regular file inside the directory. Raises `OSError`, `ValueError`, `RuntimeError`."""
    path = (root / name).resolve(strict=True)
    if not path.is_relative_to(root):
        raise ValueError("leads out of the directory")
    # a pipe would wait for its writer; a link that came only now is not followed
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise ValueError("is no file")
        data = file.read(limit + 1)
    if len(data) > limit:
        raise ValueError(f"with it, more than {TOTAL_LIMIT} bytes")
    return data
