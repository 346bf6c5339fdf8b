"""Whether a control plane takes what was published: asked of the verifier itself, over GitHub.

The verifier is the public one, with the whole policy; the bundle is downloaded by digest from
GitHub's store, which lists it some seconds after its upload.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import msgspec

from mrtd.errors import TransportError, VerificationError
from mrtd.evidence.attributes import TdAttributes, Xfam
from mrtd.evidence.td_report import TdReport
from mrtd.reference import Launch, ReferenceValues
from mrtd.registers import LAUNCH_REGISTERS, ZERO, Sha384
from mrtd.verifier.bundle import bundle_digest
from mrtd.verifier.claims import TdClaims
from mrtd.verifier.policy import Policy
from mrtd.verifier.verdict import Reason, Verdict
from mrtd.verifier.verifier import Verifier
from release.job import Job, Trust
from release.refusals import uncovered

_LOOKS: Final = 8
_PAUSE: Final = 1.0
_LONGEST: Final = 20.0
_SOME: Final = Sha384.of(b"whatever the host has in a register that is not compared")


class SelfCheck(msgspec.Struct, frozen=True, kw_only=True):
    """What the verifier said.

    Attributes:
        shapes: launches that it admits.
        labels: of its verdicts.
        relaxed: settings that a control plane needs to say the same; empty for the given policy.
    """

    shapes: tuple[str, ...]
    labels: tuple[str, ...]
    relaxed: tuple[str, ...] = ()


def claims_of(launch: Launch, policy: Policy) -> TdClaims:
    """What a token says of a TD that runs a launch, on a platform that the policy takes."""
    td, bits = policy.td, launch.expectations
    values = {name: launch.registers.value(name) or _SOME for name in LAUNCH_REGISTERS}
    mrtd, *rtmrs = (values[name] for name in LAUNCH_REGISTERS)
    report = TdReport(
        version="1.0",
        tee_tcb_svn=bytes(16),
        mr_seam=td.modules[0] if td.modules else _SOME,
        mr_signer_seam=ZERO,
        seam_attributes=bytes(8),
        td_attributes=TdAttributes(
            int(bits.td_attributes.value, 16) | int(td.td_attributes.value, 16)
        ),
        xfam=Xfam(int(bits.xfam.value, 16) | int(td.xfam.value, 16)),
        mr_td=mrtd,
        mr_config_id=td.mr_config_id or ZERO,
        mr_owner=td.mr_owner or ZERO,
        mr_owner_config=td.mr_owner_config or ZERO,
        rtmrs=(rtmrs[0], rtmrs[1], rtmrs[2], td.rtmr3 or ZERO),
        report_data=bytes(64),
    )
    return TdClaims(
        report=report, tcb_status=policy.tcb.statuses[0], tcb_date=policy.tcb.minimum_date
    )


def policy_for(policy: Policy, launches: Iterable[Launch]) -> tuple[Policy, tuple[str, ...]]:
    """The policy that admits launches with inputs that were accepted unmeasured, and its name.

    The signer has accepted them; a control plane has to do so as well, or it refuses the release.
    """
    wanted = policy.measurements.required_coverage
    missing = {name for launch in launches for name in uncovered(launch, wanted)}
    kept = tuple(name for name in wanted if name not in missing)
    never = msgspec.structs.replace(policy.cache, negative_seconds=0, directory=None)
    # Only what GitHub lists counts, and nothing of this machine's.
    lookup = msgspec.structs.replace(policy.lookup, github="required", directory=None)
    measurements = msgspec.structs.replace(policy.measurements, required_coverage=kept)
    relaxed = (f"measurements.required_coverage = {list(kept)}",) if missing else ()
    made = msgspec.structs.replace(
        policy, mode="enforce", cache=never, lookup=lookup, measurements=measurements
    )
    return made, relaxed


def wait_until_listed(job: Job, trust: Trust, bundle: bytes, digests: Iterable[str]) -> None:
    """Ask GitHub until it lists a bundle under all digests; bounded. Raises `TransportError`."""
    policy, _ = policy_for(trust.policy, ())
    ask, wanted = job.lookup(policy), bundle_digest(bundle)
    for digest in digests:
        said = ""
        for look in range(_LOOKS):
            if look:
                job.sleep(min(_LONGEST, _PAUSE * 2 ** (look - 1)))
            found = ask(digest, priority=True)
            if any(bundle_digest(one.bundle) == wanted for one in found.bundles):
                break
            said = found.message
        else:
            raise TransportError(
                f"GitHub does not list the attestation under sha256:{digest} ({said})",
                hint="it was uploaded: run the same command again in a minute",
            )


def check_admitted(job: Job, trust: Trust, values: ReferenceValues, bundle: bytes) -> SelfCheck:
    """Have the verifier judge a TD of every launch of a published document.

    Args:
        job: this one.
        trust: as always.
        values: the document.
        bundle: over it.

    Raises:
        VerificationError: it refuses one.
        TransportError: it could not check one.
    """
    policy, relaxed = policy_for(trust.policy, values.launches)
    verifier, alone = _verifier(job, trust, policy), None
    labels: set[str] = set()
    for launch in values.launches:
        claims = claims_of(launch, policy)
        verdict = verifier.verify_claims(claims, now=job.now)
        _demand(verdict, launch.shape)
        if verdict.release != values.release:  # an older release has the very same launch
            alone = alone or _verifier(job, trust, _only_given(policy))
            verdict = alone.verify_claims(claims, now=job.now, bundles=(bundle,))
            _demand(verdict, launch.shape)
        labels.update(verdict.labels)
    return SelfCheck(
        shapes=tuple(launch.shape for launch in values.launches),
        labels=tuple(sorted(labels)),
        relaxed=relaxed,
    )


def check_refused(
    job: Job, trust: Trust, launches: Iterable[Launch], *, learned: Iterable[bytes] = ()
) -> tuple[str, ...]:
    """Have the verifier refuse a TD of every launch as revoked; their shapes.

    Args:
        job: this one.
        trust: as always.
        launches: that are revoked.
        learned: bundles that a control plane has been told of: a revoked tag or commit without
            its launches is known to nobody else.

    Raises:
        VerificationError: it does not.
        TransportError: it could not check.
    """
    found = tuple(launches)
    policy, _ = policy_for(trust.policy, found)
    verifier = _verifier(job, trust, policy)
    for bundle in learned:
        verifier.learn(bundle, now=job.now)
    for launch in found:
        verdict = verifier.verify_claims(claims_of(launch, policy), now=job.now)
        if verdict.reason is not Reason.REVOKED:
            if verdict.reason is not None and verdict.reason.could_not_check:
                raise TransportError(f"{launch.shape} could not be checked: {verdict.message}")
            raise VerificationError(
                f"the verifier does not refuse {launch.shape} as revoked: {verdict.message}"
            )
    return tuple(launch.shape for launch in found)


def _verifier(job: Job, trust: Trust, policy: Policy) -> Verifier:
    return Verifier(
        policy,
        fetch=job.fetch,
        clock=job.clock,
        github_token=job.token.reveal() if job.token else None,
        trust_root=trust.root,
        opener=trust.opener,
    )


def _only_given(policy: Policy) -> Policy:
    lookup = msgspec.structs.replace(policy.lookup, github="off")
    return msgspec.structs.replace(policy, lookup=lookup)


def _demand(verdict: Verdict, shape: str) -> None:
    if verdict.allowed:
        return
    text = f"the verifier refuses {shape}: {verdict.message}"
    if verdict.reason is not None and verdict.reason.could_not_check:
        raise TransportError(text)
    raise VerificationError(
        text, hint="do not release this: control planes with this policy would refuse it too"
    )
