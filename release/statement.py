"""The document that is signed, and the files that go with it. Pure."""

from __future__ import annotations

import base64
import zlib
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Final

import msgspec

from mrtd.launches import tool
from mrtd.reference import (
    Artifact,
    Launch,
    Lifecycle,
    ReferenceValues,
    Release,
    encode_reference_values,
    launch_bytes,
)
from mrtd.verifier.bundle import SIZE_LIMIT
from mrtd.verifier.github import PACKED_LIMIT
from release.channel import BUNDLE, Published
from release.refusals import Refusal

DOCUMENT: Final = "mrtd-reference.json"
_AROUND: Final = 16 << 10
"""Bytes of a bundle beside its payload: certificate, log entry, timestamps."""


def document(
    release: Release,
    lifecycle: Lifecycle,
    launches: Iterable[Launch] = (),
    artifacts: Iterable[Artifact] = (),
) -> ReferenceValues:
    """The reference values of a release."""
    return ReferenceValues(
        schema="mrtd.reference/1",
        tool=tool(),
        release=release,
        lifecycle=lifecycle,
        launches=tuple(launches),
        artifacts=tuple(artifacts),
    )


def instant(now: datetime) -> str:
    """A time as the document has it."""
    return now.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def same(one: ReferenceValues, other: ReferenceValues) -> bool:
    """Whether two documents say the same, whenever they were made."""
    release = msgspec.structs.replace(one.release, created=other.release.created)
    return msgspec.structs.replace(one, release=release) == other


def already(documents: Iterable[Published], values: ReferenceValues) -> Published | None:
    """A genuine document that says the same: the newest, preferably one that is listed."""
    found = [one for one in documents if same(one.values, values)]
    return max(found, key=lambda one: (one.stored, one.signed.signed_at), default=None)


def of_size(payload: bytes) -> Iterator[Refusal]:
    """A statement whose bundle no verifier would read to its end, or download.

    GitHub packs bundles with snappy; what zlib cannot make small enough, snappy cannot either.
    """
    estimate = len(payload) * 4 // 3 + _AROUND
    if estimate <= PACKED_LIMIT:
        return
    packed = len(zlib.compress(base64.b64encode(payload), 1))
    if estimate > SIZE_LIMIT or packed > PACKED_LIMIT:
        yield Refusal(
            "too_large",
            "statement",
            f"its bundle has about {estimate >> 10} KiB, {packed >> 10} KiB packed; verifiers read "
            f"{SIZE_LIMIT >> 10} KiB, and download {PACKED_LIMIT >> 10} KiB",
            "attest fewer shapes at once, or shorten specs and notes",
        )


def size_warning(payload: bytes) -> tuple[str, ...]:
    """That a bundle may be larger than what verifiers download, once GitHub has packed it."""
    estimate = len(payload) * 4 // 3 + _AROUND
    if estimate <= PACKED_LIMIT:
        return ()
    known = f"{PACKED_LIMIT >> 10} KiB packed, which is what it may or may not come to"
    return (f"the bundle has about {estimate >> 10} KiB; verifiers download {known}",)


def files_of(values: ReferenceValues, bundle: bytes | None) -> dict[str, bytes]:
    """Files that are published beside the artifacts, by name.

    ``mrtd.bin`` and ``launch.bin`` are what ``gh attestation verify`` and ``sha256sum`` make the
    subjects' digests of.
    """
    found = {DOCUMENT: encode_reference_values(values)}
    if bundle is not None:
        found[BUNDLE] = bundle
    mrtds: dict[str, bytes] = {}
    launches: dict[str, bytes] = {}
    for launch in values.launches:
        mrtd, rtmr1, rtmr2 = (launch.registers.value(n) for n in ("mrtd", "rtmr1", "rtmr2"))
        if mrtd is not None:
            mrtds[launch.shape] = mrtd.raw
            if rtmr1 is not None and rtmr2 is not None:
                launches[launch.shape] = launch_bytes(mrtd, rtmr1, rtmr2)
    return found | _named("mrtd", mrtds) | _named("launch", launches)


def _named(stem: str, by_shape: dict[str, bytes]) -> dict[str, bytes]:
    """One file where all shapes have the same content, otherwise one for each."""
    if len(set(by_shape.values())) == 1:
        return {f"{stem}.bin": next(iter(by_shape.values()))}
    return {f"{stem}-{shape}.bin": content for shape, content in by_shape.items()}
