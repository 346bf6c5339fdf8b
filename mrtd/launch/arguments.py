"""What became of each argument of a machine: modelled, without influence, or a warning."""

from __future__ import annotations

from enum import StrEnum

import msgspec

from mrtd.launch.spec import LaunchSpec


class Treatment(StrEnum):
    """What the reader made of an argument."""

    MODELLED = "modelled"
    """The spec says it, or says what it does."""
    NO_INFLUENCE = "no influence"
    """Nothing that is measured depends on it."""
    WARNING = "warning"
    """A measurement depends on it, and the spec cannot say it: RTMR0 is unpinned."""


class Influence(StrEnum):
    """What an argument shows in."""

    ACPI = "ACPI tables"
    SMBIOS = "SMBIOS tables"
    FW_CFG = "measured fw_cfg items"
    BOOT = "boot options"
    TD_HOB = "TD HOB"
    MRTD = "MRTD"
    KERNEL = "kernel, initrd, command line"
    OPTION_ROM = "option ROMs"
    ATTRIBUTES = "TD attributes, in the quote beside the registers"
    NONE = "nothing"


class Argument(msgspec.Struct, frozen=True):
    """An argument of a command line or a domain, and what became of it.

    Attributes:
        text: the argument, as it was given (an element's path, for a domain).
        treatment: what the reader made of it.
        influence: what it shows in.
        reason: why, in one sentence.
        code: stable code of a warning; empty otherwise.
    """

    text: str
    treatment: Treatment
    influence: Influence
    reason: str
    code: str = ""


class MachineReading(msgspec.Struct, frozen=True):
    """A machine that somebody else described.

    Attributes:
        spec: it as a launch spec.
        arguments: what became of each argument, in order.
    """

    spec: LaunchSpec
    arguments: tuple[Argument, ...]

    @property
    def warnings(self) -> tuple[Argument, ...]:
        """What could not be modelled."""
        return tuple(a for a in self.arguments if a.treatment is Treatment.WARNING)
