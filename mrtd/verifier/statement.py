"""What a signed document says about a TD: whether one of its launches is this one.

Registers are compared launch by launch, all of one launch or none: MRTD of one shape with RTMRs of
another is no launch that anybody attested.
"""

from __future__ import annotations

import hmac
from typing import Final, NamedTuple

from mrtd.errors import MalformedStatement
from mrtd.reference import Launch, ReferenceValues, RegisterRule, read_statement
from mrtd.registers import LAUNCH_REGISTERS, RegisterName
from mrtd.verifier.bundle import SIZE_LIMIT, Signed
from mrtd.verifier.claims import TdClaims
from mrtd.verifier.policy import IdentityPolicy, MeasurementPolicy
from mrtd.verifier.verdict import Check, Outcome, Reason, check, not_made, passed

_ALWAYS_THERE: Final = frozenset({"firmware", "kernel"})
"""Inputs that no launch is without: that one is ``absent`` is no answer."""
_IMAGE: Final = {RegisterName.MRTD, RegisterName.RTMR1, RegisterName.RTMR2}


class Read(NamedTuple):
    """What came of a payload: checks, and the document if all are passed."""

    checks: tuple[Check, ...]
    values: ReferenceValues | None


def read_signed(signed: Signed, policy: IdentityPolicy) -> Read:
    """Read the statement; it has to be about repository, branch and commit of its signer."""
    try:
        values = read_statement(signed.payload, origin="statement", limit=SIZE_LIMIT)
    except MalformedStatement as error:
        refused = check(
            "statement",
            Reason.STATEMENT_MALFORMED,
            ok=False,
            expected="reference values",
            observed=error.message[:400],
            source="payload",
        )
        return Read((refused,), None)
    release = values.release
    about = (
        ("repository", policy.repository, release.repository),
        ("channel", policy.ref, release.channel),
        ("commit", signed.signer["sourceRepositoryDigest"], release.commit),
    )
    checks = (
        passed("statement", expected="reference values", observed=values.schema, source="payload"),
        *(
            check(
                f"statement.{name}",
                Reason.STATEMENT_OF_OTHERS,
                ok=wanted == found,
                expected=wanted,
                observed=found,
                source="statement",
            )
            for name, wanted, found in about
        ),
    )
    return Read(checks, values if all(c.ok for c in checks) else None)


class Match(NamedTuple):
    """A launch of a document against a TD.

    Attributes:
        launch: the launch.
        checks: of registers, coverage, attributes and confirmations.
        same_registers: whether it is the TD's launch, whatever else is wrong.
        same_image: whether it is the TD's firmware, kernel and what that measured, on this or
            another shape of machine: a release that is revoked is so on all of them.
        labels: what a reader has to know even of an admission.
    """

    launch: Launch
    checks: tuple[Check, ...]
    same_registers: bool
    same_image: bool
    labels: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return all(c.ok for c in self.checks)


def match_launches(
    values: ReferenceValues, claims: TdClaims, policy: MeasurementPolicy
) -> tuple[Match, ...]:
    """Launches of a document against a TD, the one that fits best first.

    Those with the TD's registers; where there is none, all of them: which one comes nearest is for
    the message, and comparing hundreds of shapes in full takes longer than everything else.
    """
    compared = tuple(
        (name.value, value.raw, name in policy.required)
        for name, value in claims.report.registers.items()
        if name in (policy.required if policy.mrtd_only else LAUNCH_REGISTERS)
    )
    same = [launch for launch in values.launches if _has_registers(launch, compared)]
    found = [_match(launch, claims, policy) for launch in same or values.launches]
    return tuple(sorted(found, key=_misfit))


def _has_registers(launch: Launch, compared: tuple[tuple[str, bytes, bool], ...]) -> bool:
    """Whether all registers are equal (name, value), and none is unpinned that is required."""
    for name, value, required in compared:
        rule: RegisterRule = getattr(launch.registers, name)
        if rule.value is None and required:
            return False
        if rule.value is not None and not hmac.compare_digest(rule.value.raw, value):
            return False
    return True


def _misfit(match: Match) -> tuple[bool, bool, int]:
    failed = sum(not c.ok for c in match.checks)
    return (not match.ok, not match.same_registers, failed)


def _match(launch: Launch, claims: TdClaims, policy: MeasurementPolicy) -> Match:
    registers = tuple(_register(name, launch, claims, policy) for name in LAUNCH_REGISTERS)
    compared = {
        name
        for name, c in zip(LAUNCH_REGISTERS, registers, strict=True)
        if c.outcome is Outcome.PASSED
    }
    differing = {
        name
        for name, c in zip(LAUNCH_REGISTERS, registers, strict=True)
        if c.reason is Reason.REGISTERS_DIFFER
    }
    coverage = tuple(
        _coverage(name, launch, compared, differing) for name in policy.required_coverage
    )
    checks = (*registers, *coverage, *_expectations(launch, claims), *_confirmed(launch, policy))
    same = all(c.ok for c in registers)
    return Match(
        launch,
        checks,
        same,
        same or compared >= _IMAGE,
        _labels(launch, compared | differing, policy),
    )


def _register(
    name: RegisterName, launch: Launch, claims: TdClaims, policy: MeasurementPolicy
) -> Check:
    rule, observed = launch.registers[name], claims.report.registers[name]
    title, source = f"attested.{name}", claims.source
    if rule.value is None:
        if name in policy.required:
            return check(
                title,
                Reason.REGISTER_UNPINNED,
                ok=False,
                expected="a value",
                observed=f"unpinned: {rule.reason}",
                source="statement",
            )
        return Check(title, Outcome.NOT_CHECKED, f"unpinned: {rule.reason}", str(observed), source)
    if policy.mrtd_only and name is not RegisterName.MRTD:
        return Check(title, Outcome.NOT_CHECKED, str(rule.value), str(observed), source)
    return check(
        title,
        Reason.REGISTERS_DIFFER,
        ok=hmac.compare_digest(rule.value.raw, observed.raw),
        expected=str(rule.value),
        observed=str(observed),
        source=source,
    )


def _coverage(
    name: str, launch: Launch, compared: set[RegisterName], differing: set[RegisterName]
) -> Check:
    """An input is covered if a register that depends on it was compared, and is equal.

    Where that register differs, which refuses by itself, it is not said that nothing measured it.
    """
    if not _is_covered(name, launch, compared) and _is_covered(name, launch, differing):
        found = (r for row in launch.coverage if row.input == name for r in row.registers)
        which = " and ".join(sorted(differing & {RegisterName(register) for register in found}))
        return not_made(f"coverage.{name}", f"{which} differs")
    row = next((row for row in launch.coverage if row.input == name), None)
    if row is None:
        observed = "the document does not say"
    else:
        accepted = f"; signer: {row.accepted}" if row.accepted else ""
        observed = f"{row.status} {' '.join(row.registers)}".strip() + accepted
    return check(
        f"coverage.{name}",
        Reason.INPUT_NOT_MEASURED,
        ok=_is_covered(name, launch, compared),
        expected="measured by a compared register",
        observed=observed,
        source="statement",
    )


def _is_covered(name: str, launch: Launch, compared: set[RegisterName]) -> bool:
    rows = [row for row in launch.coverage if row.input == name]
    return any(
        (row.status == "absent" and name not in _ALWAYS_THERE)
        or (row.status in {"measured", "unpinned"} and bool(compared & set(row.registers)))
        for row in rows
    )


def _expectations(launch: Launch, claims: TdClaims) -> tuple[Check, ...]:
    wanted, report = launch.expectations, claims.report
    rules = (
        ("td_attributes", Reason.TD_ATTRIBUTES, wanted.td_attributes, report.td_attributes.value),
        ("xfam", Reason.XFAM, wanted.xfam, report.xfam.value),
    )
    return tuple(
        check(
            f"attested.{name}",
            reason,
            ok=rule.allows(field),
            expected=f"{rule.value} under mask {rule.mask}",
            observed=f"{field:016x}",
            source=claims.source,
        )
        for name, reason, rule, field in rules
    )


def _confirmed(launch: Launch, policy: MeasurementPolicy) -> tuple[Check, ...]:
    """Required cross-checks confirmed the launch, and none refuted it."""
    found = {row.kind: row.outcome for row in launch.confirmations}
    asked = dict.fromkeys((*policy.required_confirmations, *found))
    return tuple(
        check(
            f"confirmation.{kind}",
            Reason.CONFIRMATION_MISSING,
            ok=found.get(kind) == "confirmed"
            or (kind not in policy.required_confirmations and found.get(kind) == "not-checked"),
            expected="confirmed",
            observed=found.get(kind, "not in the document"),
            source="statement",
        )
        for kind in asked
    )


def _labels(
    launch: Launch, compared: set[RegisterName], policy: MeasurementPolicy
) -> tuple[str, ...]:
    labels = {
        f"{name}_unmeasured"
        for name in MeasurementPolicy().required_coverage
        if not _is_covered(name, launch, compared)
    }
    if policy.mrtd_only:
        labels.add("image_unmeasured")
    if RegisterName.RTMR0 not in compared:
        labels.add("host_acpi_unmeasured")
    return tuple(sorted(labels))
