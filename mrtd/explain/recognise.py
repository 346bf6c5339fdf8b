"""Name observed events by their digests alone, whatever was expected."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from mrtd.eventlog import Event
from mrtd.explain.acpi import AcpiCandidate
from mrtd.explain.findings import Change
from mrtd.explain.known import known_digests
from mrtd.explain.memory import LAYOUTS, memory_of_hob, shown_memory
from mrtd.firmware.tdvf import Tdvf
from mrtd.registers import Sha384
from mrtd.subject import Subject

_OPAQUE = frozenset({Subject.BOOT_IMAGE, Subject.TD_HOB, Subject.CFV, Subject.SMBIOS})


class Recognised(msgspec.Struct, frozen=True):
    """What an event is.

    Attributes:
        text: what its digest says; empty if nothing is known of it.
        change: what an expectation would have to say; None if that is not clear.
        tried: how many digests were compared.
    """

    text: str
    change: Change | None = None
    tried: int = 0


def _measured(subject: Subject, body: bytes) -> Iterator[bytes]:
    """What a digest can be of, if it is of the body or of a part of it (facts 3.3, 4.5)."""
    if not body or subject in _OPAQUE:
        return
    yield body
    if subject is Subject.BOOT_VARIABLE:
        # UEFI_VARIABLE_DATA; only the data is measured, behind GUID, two sizes and the name
        size = min(int.from_bytes(body[16:24], "little"), len(body))
        yield body[32 + 2 * size :]
    if subject is Subject.LOADER:
        # GRUB writes "grub_cmd: X" or "kernel_cmdline: X" and measures X
        yield body.partition(b": ")[2].rstrip(b"\0")


class Recogniser:
    """Knows constants, TD HOBs of every plausible memory size, and ACPI blobs it is given.

    Args:
        layouts: layouts to try before those of known OVMF builds.
        acpi: ACPI blobs that may have been measured.
    """

    def __init__(
        self, layouts: tuple[Tdvf, ...] = (), acpi: tuple[AcpiCandidate, ...] = ()
    ) -> None:
        self.layouts = (*layouts, *LAYOUTS)
        self.acpi = acpi

    def event(self, subject: Subject, event: Event) -> Recognised:
        """What an observed event is."""
        digest = event.digest
        if not isinstance(digest, Sha384):
            return Recognised("")
        known = known_digests().get(digest)
        if known is not None:
            return Recognised(known, tried=len(known_digests()))
        if subject is Subject.TD_HOB:
            return self.hob(digest)
        for candidate in self.acpi:
            if candidate.digests.get(subject) == digest:
                change = candidate.changes[0] if candidate.changes else None
                return Recognised(change.text if change else "as expected", change, len(self.acpi))
        if any(Sha384.of(content) == digest for content in _measured(subject, event.data)):
            return Recognised(f"{event.description}: what was measured is in the log")
        return Recognised("", tried=len(known_digests()) + len(self.acpi))

    def hob(self, digest: Sha384) -> Recognised:
        """The memory size behind a TD HOB."""
        match, tried = memory_of_hob(digest, self.layouts)
        if match is None:
            return Recognised("", tried=tried)
        memory = shown_memory(match.memory)
        change = Change("memory", f"{memory} of memory", f'machine.memory = "{memory}"',
                        "the VM was given another memory size")  # fmt: skip
        return Recognised(f"TD HOB of {memory} of memory with {match.layout}", change, tried)
