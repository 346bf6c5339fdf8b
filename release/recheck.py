"""``recheck``: whether what the latest release rests on still holds, and for how long.

A signature does not expire, but what it is checked with does: the root of trust gets old, keys of
logs and CAs end, Intel's collateral is renewed every month and platforms fall out of date. This
says so before control planes do.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final, Literal

import msgspec

from mrtd.errors import MrtdError, ReleaseRefused, SpecError
from mrtd.evidence.bundle import read_bundle
from mrtd.evidence.collateral import load_collateral
from mrtd.evidence.dcap import appraise_quote
from mrtd.evidence.quote import read_quote
from mrtd.evidence.tcb import DcapPolicy
from mrtd.reference import Launch, ReferenceValues
from mrtd.registers import LAUNCH_REGISTERS
from mrtd.verifier.trust_root import Period, TrustRoot, key_id
from release import selfcheck
from release.channel import Anew, Channel, Published
from release.instance import load_instance
from release.job import Job, Trust
from release.lifecycle import ref_of
from release.status import state_name

_DAY: Final = timedelta(days=1)
_ROOT_REMEDY: Final = "update sigstore and mrtd, or fetch a new root and name it in the policy"


class RecheckRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What is checked; see ``python -m release recheck --help``."""

    repository: str | None = None
    policy: Path | None = None
    trust_config: Path | None = None
    previous: Path | Anew | None = None
    evidence: Path | None = None
    collateral: Path | None = None
    early_collateral: Path | None = None
    root_ca: Path | None = None
    minimum_days: int = 14


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that the release rests on.

    Attributes:
        name: what it is; stable.
        outcome: ``ok``; ``soon``: it ends within the demanded days; ``failed``; ``not checked``.
        observed: for a person.
        days: until it ends, rounded down; None if it does not.
        remedy: what to do unless it is ``ok``.
    """

    name: str
    outcome: Literal["ok", "soon", "failed", "not checked"]
    observed: str
    days: int | None = None
    remedy: str = ""


class Recheck(msgspec.Struct, frozen=True, kw_only=True):
    """What was found about the latest release."""

    tag: str
    sequence: int
    findings: tuple[Finding, ...]

    @property
    def ok(self) -> bool:
        """Whether nothing failed or ends soon."""
        return not any(one.outcome in {"failed", "soon"} for one in self.findings)


def recheck(job: Job, request: RecheckRequest) -> Recheck:
    """Check the newest release now.

    Raises:
        ReleaseRefused: there is none, or it is not genuine any more.
        TransportError: GitHub could not be read.
    """
    policy = job.policy(request.policy, request.repository)
    trust = Trust.of(policy, load_instance(request.trust_config).root)
    channel = Channel(trust, job.api(policy.identity.repository), job.lookup(policy), now=job.now)
    job.progress("asking GitHub")
    history = channel.history(previous=request.previous)
    releases = [one for one in history.documents if one.values.launches]
    if not releases:
        text = f"{policy.identity.repository} has no attested release"
        raise ReleaseRefused(text, refusals=(("no_release", text),))
    one = max(releases, key=lambda each: (each.values.release.sequence, each.signed.signed_at))
    job.progress("checking")
    findings = [
        *_keys(one.bundle, trust, job.now, request.minimum_days),
        _place(one, history.state.sequence, state_name(one, history.state)),
        _admitted(job, trust, one),
        *_evidence(job, request, one.values),
    ]
    release = ref_of(one.values)
    return Recheck(tag=release.tag, sequence=release.sequence, findings=tuple(findings))


def until(name: str, end: datetime | None, *, now: datetime, days: int, remedy: str) -> Finding:
    """What comes of an end: none is ok."""
    if end is None:
        return Finding(name=name, outcome="ok", observed="no end set")
    left = (end - now) // _DAY
    observed = f"until {end.date()}"
    if end <= now:
        return Finding(name=name, outcome="failed", observed=observed, days=left, remedy=remedy)
    if left < days:
        return Finding(name=name, outcome="soon", observed=observed, days=left, remedy=remedy)
    return Finding(name=name, outcome="ok", observed=observed, days=left)


def _keys(bundle: bytes, trust: Trust, now: datetime, days: int) -> Iterator[Finding]:
    """Root, CA and log keys that the bundle needs. That it verifies now is known by here."""
    yield Finding(name="signature", outcome="ok", observed="signature, identity and statement hold")
    root = trust.root
    age = root.dated + timedelta(days=trust.policy.trust_root.maximum_age_days)
    yield until("trust_root_age", age, now=now, days=days, remedy=_ROOT_REMEDY)
    # a key whose period has ended still verifies what it signed before; new releases need another
    renew = "only new signatures need another key: " + _ROOT_REMEDY
    for name, periods in _periods(bundle, root).items():
        ends = [period.end for period in periods]
        found = until(
            name,
            None if None in ends else max((end for end in ends if end), default=None),
            now=now,
            days=days,
            remedy=renew,
        )
        if found.outcome == "failed":
            found = msgspec.structs.replace(
                found, outcome="ok", observed=f"{found.observed}; covers the signature", remedy=""
            )
        yield found


def _periods(bundle: bytes, root: TrustRoot) -> dict[str, tuple[Period, ...]]:
    """Periods of the log key that the bundle names, and of the CAs and CT logs of the root."""
    tree: dict[str, Any] = json.loads(bundle)
    log = key_id(tree["verificationMaterial"]["tlogEntries"][0]["logId"]["keyId"])
    return {
        "log_key": root.logs.get(log, ()),
        "certificate_authority": tuple(period for _, period in root.authorities),
        "ct_log_key": tuple(one for periods in root.ct_logs.values() for one in periods),
    }


def _place(one: Published, sequence: int, state: str) -> Finding:
    release = one.values.release
    observed = f"{state}; sequence {release.sequence}, channel at {sequence}"
    if state == "current":
        return Finding(name="life_cycle", outcome="ok", observed=observed)
    return Finding(
        name="life_cycle", outcome="failed", observed=observed, remedy="release something newer"
    )


def _admitted(job: Job, trust: Trust, one: Published) -> Finding:
    """The verifier's word, over GitHub."""
    try:
        found = selfcheck.check_admitted(job, trust, one.values, one.bundle)
    except MrtdError as error:
        outcome: Literal["failed", "not checked"] = (
            "failed" if error.exit_code == 1 else "not checked"
        )
        return Finding(
            name="verifier",
            outcome=outcome,
            observed=error.message,
            remedy=error.hint or "run `python -m release attest` again for this release",
        )
    labels = f"; {', '.join(found.labels)}" if found.labels else ""
    return Finding(
        name="verifier", outcome="ok", observed=f"admits {len(found.shapes)} shapes{labels}"
    )


def _evidence(job: Job, request: RecheckRequest, values: ReferenceValues) -> Iterator[Finding]:
    """The archived quote with collateral of today, and with that which will come."""
    if request.evidence is None:
        yield Finding(
            name="dcap",
            outcome="not checked",
            observed="no evidence given; the public copy's quote is redacted",
            remedy="give the full copy: --evidence FILE --collateral FILE",
        )
        return
    quote = _quote(request.evidence, values)
    if isinstance(quote, Finding):
        yield quote
        return
    yield _registers(quote, values.launches)
    for name, path in (("dcap", request.collateral), ("dcap_early", request.early_collateral)):
        if path is not None:
            yield from _dcap(name, quote, path, request, job.now)
        elif name == "dcap":
            yield Finding(
                name=name,
                outcome="not checked",
                observed="no collateral given",
                remedy="fetch it from a PCS or PCCS and give it: --collateral FILE",
            )


def _quote(path: Path, values: ReferenceValues) -> bytes | Finding:
    """The quote of an evidence file that the release names."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise SpecError(f"cannot be read: {error.strerror}", origin=str(path)) from error
    digest = hashlib.sha256(data).hexdigest()
    if digest not in {artifact.sha256 for artifact in values.artifacts}:
        return Finding(
            name="evidence",
            outcome="failed",
            observed=f"sha256:{digest[:16]}... is no artifact of the release",
            remedy="give the file that was archived, byte for byte",
        )
    bundle = read_bundle(path)
    if bundle.quote is None or bundle.redacted:
        return Finding(
            name="evidence",
            outcome="not checked",
            observed="has no quote, or a redacted one",
            remedy="give the full copy",
        )
    return bundle.quote


def _registers(quote: bytes, launches: tuple[Launch, ...]) -> Finding:
    report = read_quote(quote, origin="archived quote").report
    for launch in launches:
        rules = [(name, launch.registers.value(name)) for name in LAUNCH_REGISTERS]
        if all(value in {None, report.registers[name]} for name, value in rules):
            return Finding(name="evidence", outcome="ok", observed=f"registers of {launch.shape}")
    return Finding(
        name="evidence",
        outcome="failed",
        observed="the archived quote has the registers of no launch",
        remedy="the evidence is of another release",
    )


def _dcap(
    name: str, quote: bytes, path: Path, request: RecheckRequest, now: datetime
) -> Iterator[Finding]:
    """The appraisal with one set of collateral: its status, and when it ends."""
    root = None if request.root_ca is None else request.root_ca.read_bytes()
    try:
        found = appraise_quote(
            quote, load_collateral(path), policy=DcapPolicy(), now=now, root_ca=root
        )
    except MrtdError as error:
        yield Finding(
            name=name,
            outcome="failed" if error.exit_code == 1 else "not checked",
            observed=error.message,
            remedy=error.hint or "fetch collateral again, or update the platform",
        )
        return
    failed = "; ".join(f"{c.name}: {c.observed}" for c in found.checks if not c.ok)
    yield Finding(
        name=name,
        outcome="ok" if found.ok else "failed",
        observed=f"{found.status}{f'; {failed}' if failed else ''}",
        remedy="" if found.ok else "update the platform, then confirm the launch again",
    )
    yield until(
        f"{name}_collateral",
        found.state.expires,
        now=now,
        days=request.minimum_days,
        remedy="fetch collateral again",
    )
