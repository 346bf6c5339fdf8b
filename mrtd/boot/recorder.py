"""What the programs of a boot chain measure, collected in order."""

from __future__ import annotations

from mrtd.eventlog import Event, EventLog, EventType, Origin, register_of_pcr
from mrtd.registers import Sha384, Target, Unpinned

Content = bytes | bytearray | memoryview | Sha384 | Unpinned
"""What is measured, or its digest, or why that is not known."""


class Recorder:
    """Takes measurements in the terms of a TPM, and keeps them as events of a target.

    Attributes:
        target: who takes the measurements.
        events: what was measured so far.
    """

    def __init__(self, target: Target) -> None:
        self.target = target
        self.events: list[Event] = []

    @property
    def log(self) -> EventLog:
        """The events so far."""
        return tuple(self.events)

    def measure(
        self,
        pcr: int,
        kind: EventType,
        content: Content,
        label: str,
        origin: Origin,
        *,
        data: bytes = b"",
        unconfirmed: str = "",
    ) -> None:
        """Measure content.

        Args:
            pcr: the PCR, which for target ``cc`` stands for a register.
            kind: the event's type.
            content: the bytes that are hashed, or their digest, or why it is not known.
            label: what was measured, for a person.
            origin: which input it came from.
            data: the event's body, where it is known.
            unconfirmed: why no real log confirms the rule; empty if one does.
        """
        digest = content if isinstance(content, (Sha384, Unpinned)) else Sha384.of(content)
        register = register_of_pcr(pcr, self.target)
        self.events.append(Event(register, kind, digest, label, origin, data, unconfirmed))

    def unknown(self, pcrs: tuple[int, ...], reason: str, label: str, origin: Origin) -> None:
        """What follows is not known: one event that unpins each of the PCRs."""
        for pcr in pcrs:
            self.measure(pcr, EventType.EV_IPL, Unpinned(reason), label, origin)


def utf16(text: str) -> bytes:
    """Text as UTF-16 with its terminating NUL, as UEFI programs measure and log it."""
    return (text + "\0").encode("utf-16-le", "surrogatepass")
