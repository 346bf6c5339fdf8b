"""The appraisal policy for a platform's TCB, and what it says about a verified quote.

Terms: a *TCB level* is a row of Intel's signed TCB info that a platform's security version numbers
meet; the *evaluation data number* counts Intel's TCB recoveries (Intel SGX and TDX PCS API v4).
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

import msgspec

from mrtd.errors import MalformedDocument


class TcbStatus(StrEnum):
    """Intel PCS API v4, "tcbStatus"; TDRelaunchAdvised...: Intel QVL, for TD reports 1.5."""

    UP_TO_DATE = "UpToDate"
    SW_HARDENING_NEEDED = "SWHardeningNeeded"
    CONFIGURATION_NEEDED = "ConfigurationNeeded"
    CONFIGURATION_AND_SW_HARDENING_NEEDED = "ConfigurationAndSWHardeningNeeded"
    OUT_OF_DATE = "OutOfDate"
    OUT_OF_DATE_CONFIGURATION_NEEDED = "OutOfDateConfigurationNeeded"
    TD_RELAUNCH_ADVISED = "TDRelaunchAdvised"
    TD_RELAUNCH_ADVISED_CONFIGURATION_NEEDED = "TDRelaunchAdvisedConfigurationNeeded"
    REVOKED = "Revoked"


_OUT_OF_DATE: Final = {TcbStatus.OUT_OF_DATE, TcbStatus.OUT_OF_DATE_CONFIGURATION_NEEDED}
_RELAUNCH: Final = {
    TcbStatus.TD_RELAUNCH_ADVISED,
    TcbStatus.TD_RELAUNCH_ADVISED_CONFIGURATION_NEEDED,
}
_U32: Final = 1 << 32


class DcapPolicy(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is accepted of a genuine platform; the default accepts ``UpToDate`` only.

    The three platform flags are in the PCK certificate. They are accepted by default, on purpose:
    servers that can run TDX are multi-package platforms, which Intel registers with cached keys and
    as dynamic (two real platforms whose quotes were read have all three flags), and whether
    multithreading matters for a TCB level is said by its status. Set one to False to refuse it.

    Attributes:
        accepted_statuses: TCB statuses that are accepted. ``Revoked`` never is.
        rejected_advisories: ids (``INTEL-SA-...``) that must not apply to platform, TDX module
            or quoting enclave, whatever the status.
        platform_grace: how long after the date of its TCB level an out-of-date platform is still
            accepted. ``OutOfDate`` needs both: to be accepted, and grace.
        qe_grace: the same for an out-of-date quoting enclave.
        minimum_evaluation_number: lowest TCB evaluation data number of the collateral: stops an
            attester from presenting older collateral in which its TCB was still up to date.
        dynamic_platform: accept platforms to which packages can be added.
        cached_keys: accept platforms whose keys Intel's registration service keeps.
        smt: accept platforms with simultaneous multithreading.

    Raises:
        MalformedDocument: a setting that can only be a mistake.
    """

    accepted_statuses: frozenset[TcbStatus] = frozenset({TcbStatus.UP_TO_DATE})
    rejected_advisories: frozenset[str] = frozenset()
    platform_grace: timedelta = timedelta()
    qe_grace: timedelta = timedelta()
    minimum_evaluation_number: int = 0
    dynamic_platform: bool = True
    cached_keys: bool = True
    smt: bool = True

    def __post_init__(self) -> None:
        def refuse(message: str, field: str) -> MalformedDocument:
            return MalformedDocument(message, origin="DCAP policy", field=field)

        if not self.accepted_statuses:
            raise refuse("accepts nothing", "accepted_statuses")
        if TcbStatus.REVOKED in self.accepted_statuses:
            raise refuse("Revoked cannot be accepted", "accepted_statuses")
        for field, grace in (("platform_grace", self.platform_grace), ("qe_grace", self.qe_grace)):
            if grace < timedelta():
                raise refuse(f"{grace} is negative", field)
        if not 0 <= self.minimum_evaluation_number < _U32:
            raise refuse(
                f"{self.minimum_evaluation_number} is no 32-bit number", "minimum_evaluation_number"
            )


class Check(msgspec.Struct, frozen=True):
    """One question of the appraisal, and its answer.

    Attributes:
        name: what was asked; stable.
        ok: whether the answer is accepted.
        expected: what the policy wants, for a person.
        observed: what the evidence says, for a person.
    """

    name: str
    ok: bool
    expected: str
    observed: str


class Level(msgspec.Struct, frozen=True):
    """A TCB level that a platform or a quoting enclave meets.

    Attributes:
        status: its status.
        date: when Intel's recommendations that it stands for were published.
        advisories: what it is open to, ``INTEL-SA-...``.
    """

    status: TcbStatus
    date: datetime
    advisories: tuple[str, ...]


class PlatformState(msgspec.Struct, frozen=True):
    """What verification established about the platform that signed a quote.

    Attributes:
        status: of platform, TDX module and quoting enclave together.
        platform: TCB level of the platform at the TD's launch.
        current: the same for now, where the report is 1.5 or later.
        qe: TCB level of the quoting enclave.
        evaluation_number: TCB evaluation data number of the collateral.
        expires: when the first part of the collateral (or a certificate) expires.
        fmspc: family, model, stepping, platform type and SKU: 6 bytes.
        dynamic_platform: see `DcapPolicy`; None where the certificate does not say.
        cached_keys: ditto.
        smt: ditto.
    """

    status: TcbStatus
    platform: Level
    current: Level | None
    qe: Level
    evaluation_number: int
    expires: datetime
    fmspc: bytes
    dynamic_platform: bool | None
    cached_keys: bool | None
    smt: bool | None

    @property
    def advisories(self) -> tuple[str, ...]:
        """All advisories that apply, sorted, each once."""
        levels = (self.platform, self.qe, *([self.current] if self.current else []))
        return tuple(sorted({name for level in levels for name in level.advisories}))


def appraise(state: PlatformState, policy: DcapPolicy, now: datetime) -> tuple[Check, ...]:
    """Ask every question of the policy; a failure hides none of the others."""
    rejected = {name.upper() for name in policy.rejected_advisories}
    found = [name for name in state.advisories if name.upper() in rejected]
    checks = [
        Check(
            "tcb_status",
            state.status in policy.accepted_statuses,
            " or ".join(_sorted(policy.accepted_statuses)),
            state.status.value,
        ),
        Check(
            "advisories",
            not found,
            f"none of {', '.join(sorted(policy.rejected_advisories)) or '(nothing rejected)'}",
            ", ".join(state.advisories) or "none",
        ),
        _freshness("platform_date", state.platform, policy.platform_grace, now, state.status),
        _freshness("qe_date", state.qe, policy.qe_grace, now, state.qe.status),
        Check(
            "collateral_expiry",
            now <= state.expires,
            f"after {now.isoformat()}",
            state.expires.isoformat(),
        ),
        Check(
            "evaluation_number",
            state.evaluation_number >= policy.minimum_evaluation_number,
            f"at least {policy.minimum_evaluation_number}",
            str(state.evaluation_number),
        ),
        _flag("dynamic_platform", state.dynamic_platform, accepted=policy.dynamic_platform),
        _flag("cached_keys", state.cached_keys, accepted=policy.cached_keys),
        _flag("smt", state.smt, accepted=policy.smt),
    ]
    return tuple(checks)


def _sorted(statuses: Iterable[TcbStatus]) -> list[str]:
    return [status.value for status in TcbStatus if status in statuses]


def _freshness(
    name: str, level: Level, grace: timedelta, now: datetime, together: TcbStatus
) -> Check:
    """An out-of-date level is accepted for a while after its date.

    A relaunch advice replaces that of the platform's level: its TCB of now is not out of date.
    """
    if level.status not in _OUT_OF_DATE or together in _RELAUNCH:
        return Check(name, ok=True, expected="not out of date", observed=level.status.value)
    age = now - level.date
    return Check(
        name,
        age <= grace,
        f"not out of date, or for at most {grace.days} days",
        f"{level.status.value}, {age.days} days after {level.date.date().isoformat()}",
    )


def _flag(name: str, value: bool | None, *, accepted: bool) -> Check:  # noqa: FBT001 - a state
    observed = {True: "yes", False: "no", None: "not said by the certificate"}[value]
    return Check(name, accepted or value is not True, "any" if accepted else "not yes", observed)
