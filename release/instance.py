"""Which Sigstore signs: its addresses and its keys, together.

By default the public-good instance, as the installed sigstore package describes it and only if that
description is the one known here; or the instance of a client trust config (a file with
``trustedRoot`` and ``signingConfig``). Nothing is fetched, and sigstore's cache in HOME is not
used: whoever can write there would choose whom the token is sent to.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import msgspec

from mrtd.errors import InputError, TrustRootError
from mrtd.reference.strict_json import read_json
from mrtd.verifier.trust_root import TrustRoot, load_trust_root, read_trust_root
from release.secret import is_private

CONFIG_TYPE: Final = "application/vnd.dev.sigstore.clienttrustconfig.v0.1+json"
PRODUCTION: Final = "sigstore.dev"
_EMBEDDED: Final = "_store/https%3A%2F%2Ftuf-repo-cdn.sigstore.dev/signing_config.v0.2.json"
_SIZE_LIMIT: Final = 1 << 20
# That of sigstore 4.5.1 (2026-10-20): Rekor v1 and one timestamp authority.
KNOWN: Final = frozenset({"9711a6d5375706957a4859af31c5866a4474f81f0544f9f4b76c9c4f4c8a539c"})


class _Service(msgspec.Struct, rename="camel"):
    url: str
    major_api_version: int


class _SigningConfig(msgspec.Struct, rename="camel"):
    """What is used here of sigstore's ``SigningConfig`` message (protobuf-specs, trustroot v1)."""

    ca_urls: tuple[_Service, ...]
    rekor_tlog_urls: tuple[_Service, ...]
    tsa_urls: tuple[_Service, ...] = ()


@dataclass(frozen=True, slots=True)
class SigstoreInstance:
    """One Sigstore instance, for signing.

    Attributes:
        source: where it is described: a file, or `PRODUCTION`.
        root: its keys, for verifying what it gives.
        config: ClientTrustConfig JSON, for sigstore.
        rekor_version: of the transparency log to use; None: the newest that it names.
    """

    source: str
    root: TrustRoot
    config: str
    rekor_version: int | None = None


def load_instance(
    file: Path | None = None, *, root: TrustRoot | None = None, rekor_version: int | None = None
) -> SigstoreInstance:
    """The instance that a file describes, or the public-good one.

    Args:
        file: a client trust config.
        root: of the public-good instance, newer than the embedded one; not with ``file``.
        rekor_version: 1 or 2, where there is a choice.

    Raises:
        TrustRootError: it cannot be read, is not known, or is no description of an instance.
    """
    if file is not None:
        try:
            raw = file.read_bytes() if file.stat().st_size <= _SIZE_LIMIT else b""
            dated = datetime.fromtimestamp(file.stat().st_mtime, UTC)
        except OSError as error:
            raise TrustRootError(f"cannot be read: {error.strerror}", origin=str(file)) from error
        return read_instance(raw, source=str(file), dated=dated, rekor_version=rekor_version)
    path = _embedded()
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise TrustRootError(f"cannot be read: {error.strerror}", origin=str(path)) from error
    digest = hashlib.sha256(raw).hexdigest()
    if digest not in KNOWN:
        raise TrustRootError(
            f"the signing config of the installed sigstore package is not known here ({digest})",
            origin=str(path),
            hint="update this project, or name a client trust config file",
        )
    return _instance(json.loads(raw), root or load_trust_root(), PRODUCTION, rekor_version)


def read_instance(
    raw: bytes, *, source: str, dated: datetime, rekor_version: int | None = None
) -> SigstoreInstance:
    """The instance that a client trust config describes. Raises `TrustRootError`."""
    try:
        tree = read_json(raw, origin=source, limit=_SIZE_LIMIT)
    except InputError as error:
        raise TrustRootError(f"is no client trust config: {error}", origin=source) from error
    parts = tree if isinstance(tree, dict) else {}
    if parts.get("mediaType") != CONFIG_TYPE or not {"trustedRoot", "signingConfig"} <= {*parts}:
        raise TrustRootError(
            f"is no client trust config ({CONFIG_TYPE} with trustedRoot and signingConfig)",
            origin=source,
        )
    trusted = json.dumps(parts["trustedRoot"]).encode()
    root = read_trust_root(trusted, source=source, dated=dated)
    return _instance(parts["signingConfig"], root, source, rekor_version)


def _instance(
    signing: Any,  # noqa: ANN401 - JSON
    root: TrustRoot,
    source: str,
    rekor_version: int | None,
) -> SigstoreInstance:
    try:
        config = msgspec.convert(signing, _SigningConfig)
    except msgspec.ValidationError as error:
        raise TrustRootError(f"is no signing config: {error}", origin=source) from error
    logs = [
        log
        for log in config.rekor_tlog_urls
        if rekor_version is None or log.major_api_version == rekor_version
    ]
    if not logs:
        wanted = "" if rekor_version is None else f" of version {rekor_version}"
        raise TrustRootError(f"names no transparency log{wanted}", origin=source)
    for service in (*config.ca_urls, *logs, *config.tsa_urls):
        if not is_private(service.url):
            raise TrustRootError(
                f"{service.url[:200]} is not https", origin=source, field="signingConfig"
            )
    if not config.tsa_urls and any(log.major_api_version > 1 for log in logs):
        raise TrustRootError(
            "names no timestamp authority, and Rekor v2 knows no time", origin=source
        )
    parts = {
        "mediaType": CONFIG_TYPE,
        "trustedRoot": json.loads(root.raw),
        "signingConfig": signing,
    }
    return SigstoreInstance(source, root, json.dumps(parts), rekor_version)


def _embedded() -> Path:
    """Path of the signing config in the installed package, found without importing it."""
    spec = importlib.util.find_spec("sigstore")
    if spec is None or not spec.submodule_search_locations:
        raise TrustRootError(
            "sigstore is not installed",
            origin="signing config",
            hint="pip install 'mrtd[verifier]'",
        )
    return Path(next(iter(spec.submodule_search_locations)), _EMBEDDED)
