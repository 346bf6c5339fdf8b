"""The subjects of a statement: everything under whose SHA-256 somebody may look for it.

A subject is only an entry of an index. What holds is the document: a verifier that found it by a
digest compares registers with the document's launches, one launch at a time.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Final

import msgspec

from mrtd.errors import MalformedStatement
from mrtd.reference.digests import mrtd_digest, revocations_digest
from mrtd.reference.document import Launch, ReferenceValues, Revocation
from mrtd.reference.fields import Object
from mrtd.registers import Sha384

TDX_MRTD: Final = "tdx-mrtd"
TDX_LAUNCH: Final = "tdx-launch"
REVOKED_MRTD: Final = "revoked-tdx-mrtd"
REVOKED_LAUNCH: Final = "revoked-tdx-launch"
REVOCATIONS: Final = "tdx-revocations"
SUBJECT_NAMES: Final = frozenset({
    TDX_MRTD, TDX_LAUNCH, REVOKED_MRTD, REVOKED_LAUNCH, REVOCATIONS,
})  # fmt: skip
SUBJECT_LIMIT: Final = 1024  # of GitHub's actions/attest and of sigstore-go


class Subject(Object, frozen=True):
    """A subject of an in-toto statement: a name, and digests by algorithm, lower-case hex."""

    name: Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
    digest: dict[str, str]


def subjects(values: ReferenceValues) -> tuple[Subject, ...]:
    """The subjects that a document implies.

    Per launch ``tdx-mrtd`` (with MRTD itself as ``sha384``) and, if MRTD, RTMR1 and RTMR2 are all
    exact, ``tdx-launch``; then the artifacts; then ``revoked-tdx-mrtd`` and ``revoked-tdx-launch``,
    so that who asks about a revoked digest finds the revocation; and ``tdx-revocations`` if the
    document is the first to revoke something, so that who follows the channel finds it. Of several
    with the same SHA-256, the first stays.

    Raises:
        MalformedStatement: more than `SUBJECT_LIMIT`, a register is zero, or a revoked MRTD is
            none; what was read has none of this.
    """
    found: dict[str, Subject] = {}
    for subject in _all(values):
        found.setdefault(subject.digest["sha256"], subject)
    if len(found) > SUBJECT_LIMIT:
        raise MalformedStatement(
            f"{len(found)} subjects, more than the {SUBJECT_LIMIT} that GitHub takes",
            origin="reference values",
            field="launches",
            hint="split the shapes over several documents",
        )
    return tuple(found.values())


def _all(values: ReferenceValues) -> Iterator[Subject]:
    for launch in values.launches:
        yield from _of_launch(launch)
    for artifact in values.artifacts:
        yield Subject(name=artifact.name, digest={"sha256": artifact.sha256})
    for revocation in values.lifecycle.revoked:
        yield from _of_revocation(revocation)
    release = values.release
    if any(row.sequence == release.sequence for row in values.lifecycle.revoked):
        digest = revocations_digest(release.repository, release.channel)
        yield Subject(name=REVOCATIONS, digest={"sha256": digest})


def _of_launch(launch: Launch) -> Iterator[Subject]:
    mrtd = launch.registers.value("mrtd")
    if mrtd is not None:
        yield Subject(name=TDX_MRTD, digest={"sha256": mrtd_digest(mrtd), "sha384": str(mrtd)})
    digest = launch.launch_digest
    if digest is not None:
        yield Subject(name=TDX_LAUNCH, digest={"sha256": digest})


def _of_revocation(revocation: Revocation) -> Iterator[Subject]:
    if revocation.kind == "mrtd":
        mrtd = Sha384.fromhex(revocation.value)
        yield Subject(name=REVOKED_MRTD, digest={"sha256": mrtd_digest(mrtd)})
    if revocation.kind == "launch":
        yield Subject(name=REVOKED_LAUNCH, digest={"sha256": revocation.value})
