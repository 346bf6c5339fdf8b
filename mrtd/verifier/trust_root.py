"""The root of trust for signatures: one Sigstore instance, named by policy.

It is the ``trusted_root.json`` in the installed sigstore package, if it is the one that this module
knows by its digest, or a file that the policy names. sigstore's own cache in HOME is never used: it
is trusted there without verification, so whoever can write to HOME would choose the keys.
"""

from __future__ import annotations

import base64
import hashlib
import importlib.util
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Final, Literal

import msgspec

from mrtd.errors import ToolMissing, TrustRootError

MEDIA_TYPE: Final = "application/vnd.dev.sigstore.trustedroot+json;version=0.1"
_SIZE_LIMIT: Final = 1 << 20
_EMBEDDED: Final = "_store/https%3A%2F%2Ftuf-repo-cdn.sigstore.dev/trusted_root.json"
# Digest of the embedded root -> when a release of sigstore last shipped it, as far as is known.
# sigstore 4.2.0 (2026-01-26) to 4.5.1 (2026-10-20) have the same one.
KNOWN: Final = {
    "6494e21ea73fa7ee769f85f57d5a3e6a08725eae1e38c755fc3517c9e6bc0b66": datetime(
        2026, 10, 20, tzinfo=UTC
    ),
}


class Period(msgspec.Struct, frozen=True):
    """When a key or CA may be used; without ``end``, until further notice."""

    start: datetime
    end: datetime | None = None

    def covers(self, time: datetime) -> bool:
        """Whether a moment lies in it."""
        return self.start <= time and (self.end is None or time <= self.end)


class _LogId(msgspec.Struct, rename="camel"):
    key_id: bytes


class _PublicKey(msgspec.Struct, rename="camel"):
    valid_for: Period


class _Log(msgspec.Struct, rename="camel"):
    public_key: _PublicKey
    log_id: _LogId


class _Certificate(msgspec.Struct, rename="camel"):
    raw_bytes: bytes


class _Chain(msgspec.Struct, rename="camel"):
    certificates: Annotated[tuple[_Certificate, ...], msgspec.Meta(min_length=1)]


class _Authority(msgspec.Struct, rename="camel"):
    cert_chain: _Chain
    valid_for: Period


class _Root(msgspec.Struct, rename="camel"):
    """What is used here of sigstore's ``TrustedRoot`` message (protobuf-specs, trustroot v1)."""

    media_type: Literal["application/vnd.dev.sigstore.trustedroot+json;version=0.1"]
    tlogs: Annotated[tuple[_Log, ...], msgspec.Meta(min_length=1)]
    certificate_authorities: Annotated[tuple[_Authority, ...], msgspec.Meta(min_length=1)]
    ctlogs: Annotated[tuple[_Log, ...], msgspec.Meta(min_length=1)]
    timestamp_authorities: tuple[_Authority, ...] = ()


class TrustRoot(msgspec.Struct, frozen=True, kw_only=True):
    """A root of trust, and when its keys may be used.

    sigstore checks signatures and certificates, but not when the keys of logs and CAs were in use;
    that is what the periods here are for.

    Attributes:
        raw: ``trusted_root.json``.
        source: where it came from.
        dated: when it was last known to be current.
        logs: periods of transparency log keys by log id.
        ct_logs: the same for certificate transparency logs.
        authorities: certificates (DER) of each CA, the issuing one first, and its period.
    """

    raw: bytes
    source: str
    dated: datetime
    logs: dict[bytes, tuple[Period, ...]]
    ct_logs: dict[bytes, tuple[Period, ...]]
    authorities: tuple[tuple[tuple[bytes, ...], Period], ...]

    @property
    def sha256(self) -> str:
        """Digest of the file, hex."""
        return hashlib.sha256(self.raw).hexdigest()


def load_trust_root(file: Path | None = None) -> TrustRoot:
    """The root of trust: of a file, or the known one in the installed sigstore package.

    Raises:
        TrustRootError: it cannot be read, or is not the one that is known.
        ToolMissing: sigstore is not installed.
    """
    path = _embedded() if file is None else file
    try:
        with path.open("rb") as stream:  # of any kind: what has no end is not read to its end
            raw = stream.read(_SIZE_LIMIT + 1)
        if len(raw) > _SIZE_LIMIT:
            raise TrustRootError(f"more than {_SIZE_LIMIT} bytes", origin=str(path))
        modified = datetime.fromtimestamp(path.stat().st_mtime, UTC)
    except OSError as error:
        raise TrustRootError(f"cannot be read: {error.strerror}", origin=str(path)) from error
    if file is not None:
        return read_trust_root(raw, source=str(path), dated=modified)
    digest = hashlib.sha256(raw).hexdigest()
    if digest not in KNOWN:
        raise TrustRootError(
            f"the installed sigstore package has a root that is not known here ({digest})",
            origin=str(path),
            hint="update mrtd, or fetch one with `mrtd trust refresh` and name it in the policy",
        )
    return read_trust_root(raw, source="sigstore package", dated=KNOWN[digest])


def read_trust_root(raw: bytes, *, source: str, dated: datetime) -> TrustRoot:
    """Read a ``trusted_root.json``. Raises `TrustRootError`."""
    try:
        root = msgspec.json.decode(raw, type=_Root)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise TrustRootError(f"is no trusted root: {error}", origin=source) from error
    authorities = tuple(
        (tuple(c.raw_bytes for c in authority.cert_chain.certificates), authority.valid_for)
        for authority in root.certificate_authorities
    )
    moments = [log.public_key.valid_for for log in (*root.tlogs, *root.ctlogs)]
    moments += [authority.valid_for for authority in root.certificate_authorities]
    if any(time and time.tzinfo is None for p in moments for time in (p.start, p.end)):
        raise TrustRootError("has a time without time zone", origin=source, field="validFor")
    return TrustRoot(
        raw=raw,
        source=source,
        dated=dated,
        logs=_periods(root.tlogs),
        ct_logs=_periods(root.ctlogs),
        authorities=authorities,
    )


def _embedded() -> Path:
    """Path of the root in the installed package, found without importing it."""
    spec = importlib.util.find_spec("sigstore")
    if spec is None or not spec.submodule_search_locations:
        raise ToolMissing("sigstore is not installed", hint="pip install './mrtd[verifier]'")
    return Path(next(iter(spec.submodule_search_locations)), _EMBEDDED)


def _periods(logs: Iterable[_Log]) -> dict[bytes, tuple[Period, ...]]:
    found: dict[bytes, tuple[Period, ...]] = {}
    for log in logs:
        key = log.log_id.key_id
        found[key] = (*found.get(key, ()), log.public_key.valid_for)
    return found


def key_id(text: str) -> bytes:
    """A log's id as a bundle has it (base64). Raises `ValueError`."""
    return base64.b64decode(text, validate=True)
