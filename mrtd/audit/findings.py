"""What an audit says: inputs with what covers them, and findings by rule."""

from __future__ import annotations

import msgspec

from mrtd.audit.rules import RULES
from mrtd.coverage import CoverageStatus
from mrtd.notes import Level
from mrtd.registers import RegisterName


class AuditedInput(msgspec.Struct, frozen=True, kw_only=True):
    """An input of the launch.

    Attributes:
        name: what it is, such as ``kernel`` or ``disk root: partition 2 (ext4)``.
        status: whether its content is measured.
        registers: those that depend on its content.
        event: the events that measure it, as the derivation describes them; empty without one.
        note: what measures it, or what follows.
    """

    name: str
    status: CoverageStatus
    registers: tuple[RegisterName, ...] = ()
    event: str = ""
    note: str = ""


class Finding(msgspec.Struct, frozen=True):
    """Something that a rule is about.

    Attributes:
        rule: its id, a key of `mrtd.audit.rules.RULES`.
        input: the input that it is about.
        detail: what was found.
        accepted: why it is accepted; None if it is not.
    """

    rule: str
    input: str
    detail: str
    accepted: str | None = None

    @property
    def level(self) -> Level:
        """How urgent it is: its rule's."""
        return RULES[self.rule].level


class Audit(msgspec.Struct, frozen=True):
    """An audit.

    Attributes:
        inputs: every input of the launch.
        findings: alarms first.
        ignored: acceptances that accept nothing.
    """

    inputs: tuple[AuditedInput, ...]
    findings: tuple[Finding, ...]
    ignored: tuple[str, ...] = ()

    def at_least(self, level: Level) -> tuple[Finding, ...]:
        """Findings as urgent as a level, or more, that nobody accepted."""
        order = list(Level)
        most = order.index(level)
        return tuple(
            one for one in self.findings
            if one.accepted is None and order.index(one.level) <= most
        )  # fmt: skip
