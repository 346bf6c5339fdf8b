"""What the release channel has said so far: the newest release, and everything revoked.

Learned from every genuine document that is seen, whichever VM it was looked up for. A revocation,
once seen, stays; the newest document says which older releases may still run.
"""

from __future__ import annotations

import threading

import msgspec

from mrtd.reference import Launch, ReferenceValues, Release, ReleaseRef, launch_digest
from mrtd.verifier.claims import TdClaims
from mrtd.verifier.policy import ReleasePolicy
from mrtd.verifier.verdict import Check, Reason, check


class _Newest(msgspec.Struct, frozen=True):
    """The newest release of the channel, and what its documents say about others."""

    sequence: int = 0
    current: frozenset[ReleaseRef] = frozenset()
    retired: frozenset[ReleaseRef] = frozenset()


class Ledger:
    """What documents of the trusted channel have said. Thread-safe.

    Attributes:
        generation: grows with everything learned: answers of an older one are judged again.
    """

    def __init__(self, policy: ReleasePolicy) -> None:
        self._policy = policy
        self._lock = threading.Lock()
        self._newest = _Newest()
        self._revoked: dict[tuple[str, str], str] = self._by_operator()
        self._firmware: set[bytes] = set()
        self.generation = 0

    @property
    def highest_sequence(self) -> int:
        """Sequence of the newest release seen; 0 before the first."""
        return self._newest.sequence

    def learn(self, values: ReferenceValues) -> None:
        """Take note of a document whose signature and identity have been verified."""
        with self._lock:
            before = (self._newest, len(self._revoked))
            self._newest = _newer(self._newest, values)
            for row in values.lifecycle.revoked:
                self._revoked.setdefault((row.kind, row.value), f"{row.reason} ({row.kind})")
            for launch in values.launches:
                if (mrtd := launch.registers.value("mrtd")) is not None:
                    self._firmware.add(mrtd.raw)
            if before != (self._newest, len(self._revoked)):
                self.generation += 1

    def knows_firmware(self, claims: TdClaims) -> bool:
        """Whether any document vouched for this MRTD: such lookups may use the reserve."""
        return claims.report.mr_td.raw in self._firmware

    def check_launch(self, claims: TdClaims) -> Check:
        """Whether the TD's own measurements are revoked, whoever attested them."""
        keys = [("mrtd", str(claims.report.mr_td))]
        rtmr1, rtmr2 = claims.report.rtmrs[1:3]
        if not any(value.is_zero for value in (claims.report.mr_td, rtmr1, rtmr2)):
            keys.append(("launch", launch_digest(claims.report.mr_td, rtmr1, rtmr2)))
        return self._check("launch_not_revoked", keys, "documents and policy")

    def check_origin(self, release: Release, run: str) -> Check:
        """Whether the release, or the workflow run that signed it, is revoked.

        Certificates name an attempt of the run; people may name the run, as GitHub's pages do.
        """
        keys = [("tag", release.tag), ("commit", release.commit)]
        keys += [("run", url) for url in dict.fromkeys((run, run.partition("/attempts/")[0]))]
        return self._check("release_not_revoked", keys, "documents and policy")

    def check_sequence(self, release: Release) -> Check:
        """Whether the release is the newest, or one that the newest one lets run."""
        newest, minimum = self._newest, self._policy.minimum_sequence
        own = ReleaseRef(tag=release.tag, commit=release.commit, sequence=release.sequence)
        reason = Reason.RELEASE_ROLLED_BACK
        if own in newest.retired:
            reason = Reason.RELEASE_RETIRED
        known = release.sequence >= newest.sequence or own in newest.current
        return check(
            "sequence",
            reason,
            ok=release.sequence >= minimum and known and own not in newest.retired,
            expected=f"at least {max(newest.sequence, minimum)}, or named current by the newest",
            observed=f"{release.sequence} ({release.tag})",
            source="statement",
        )

    def _check(self, name: str, keys: list[tuple[str, str]], source: str) -> Check:
        found = [self._revoked[key] for key in keys if key in self._revoked]
        return check(
            name,
            Reason.REVOKED,
            ok=not found,
            expected="not revoked",
            observed=f"revoked: {'; '.join(found)}" if found else "not revoked",
            source=source,
        )

    def _by_operator(self) -> dict[tuple[str, str], str]:
        revoked = self._policy.revoked
        named = {
            "mrtd": map(str, revoked.mrtds),
            "launch": revoked.launches,
            "tag": revoked.tags,
            "commit": revoked.commits,
            "run": revoked.runs,
        }
        return {(kind, value): f"by policy ({kind})" for kind, of in named.items() for value in of}


def _newer(newest: _Newest, values: ReferenceValues) -> _Newest:
    """The newest release after one more document; of several documents of it, the strictest."""
    sequence, cycle = values.release.sequence, values.lifecycle
    if sequence < newest.sequence:
        return newest
    current, retired = frozenset((*cycle.current, *cycle.next)), frozenset(cycle.retired)
    if sequence == newest.sequence:
        current, retired = current & newest.current, retired | newest.retired
    return _Newest(sequence, current, retired)


def shown_launch(launch: Launch, release: Release) -> str:
    """A launch and its release, for a person."""
    return f"release {release.tag} ({release.sequence}), shape {launch.shape}"
