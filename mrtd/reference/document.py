"""Reference values: what a release measures on each shape of machine (``mrtd.reference/1``).

The classes are the schema; ``docs/reference-values.md`` explains every field and
``docs/schema/reference.schema.json`` is generated from here. A value made here may still
contradict itself; what is read or written was checked (`mrtd.reference.consistency`).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, Literal

from mrtd.reference.digests import launch_digest, mrtd_digest
from mrtd.reference.fields import (
    Bits64,
    CommitHex,
    ConfirmationKind,
    ConfirmationOutcome,
    GitRef,
    Instant,
    Name,
    Object,
    Register,
    Repository,
    RootHash,
    Sequence,
    Sha256Hex,
    Size,
    Tag,
    Text,
)
from mrtd.registers import LAUNCH_REGISTERS, RegisterName, Sha384

SCHEMA: Final = "mrtd.reference/1"


class Tool(Object, frozen=True):
    """What made the document: name, version, SHA-256 of the wheel that ran, or null."""

    name: Name
    version: Name
    sha256: Sha256Hex | None


class Release(Object, frozen=True):
    """What was released.

    Attributes:
        repository: ``owner/name``.
        channel: git ref of the release branch.
        tag: the release's tag.
        commit: that it was built from.
        sequence: its number in the channel; never goes back.
        created: when the document was made, RFC 3339 in UTC.
    """

    repository: Repository
    channel: GitRef
    tag: Tag
    commit: CommitHex
    sequence: Sequence
    created: Instant


class ReleaseRef(Object, frozen=True):
    """A release of the same repository and channel."""

    tag: Tag
    commit: CommitHex
    sequence: Sequence


class Revocation(Object, frozen=True):
    """Something that no attestation makes good any more.

    Attributes:
        kind: what ``value`` is: MRTD (96 hex digits), launch digest (64), tag, or commit (40).
        value: what is revoked.
        reason: for a person.
        sequence: of the document that revoked it first.
    """

    kind: Literal["mrtd", "launch", "tag", "commit"]
    value: Text
    reason: Text
    sequence: Sequence


class Lifecycle(Object, frozen=True):
    """The channel as this document's signer knew it; the own release is current besides.

    Attributes:
        current: further releases that may run.
        next: releases that are about to become current.
        retired: releases that may no longer run.
        revoked: everything revoked so far: each document carries all of it on.
    """

    current: tuple[ReleaseRef, ...]
    next: tuple[ReleaseRef, ...]
    retired: tuple[ReleaseRef, ...]
    revoked: tuple[Revocation, ...]


class RegisterRule(Object, frozen=True):
    """How a register is compared: ``exact`` with a value, or ``unpinned`` with a reason."""

    rule: Literal["exact", "unpinned"]
    value: Sha384 | None
    reason: Text | None

    @classmethod
    def exact(cls, value: Sha384) -> RegisterRule:
        """The register has to hold this value."""
        return cls(rule="exact", value=value, reason=None)

    @classmethod
    def unpinned(cls, reason: str) -> RegisterRule:
        """The register's value does not follow from the inputs."""
        return cls(rule="unpinned", value=None, reason=reason)


class LaunchRegisters(Object, frozen=True):
    """The four registers that a launch fills, each with its rule."""

    mrtd: RegisterRule
    rtmr0: RegisterRule
    rtmr1: RegisterRule
    rtmr2: RegisterRule

    def __getitem__(self, name: Register | RegisterName) -> RegisterRule:
        rule: RegisterRule = getattr(self, RegisterName(name).value)
        return rule

    def items(self) -> Iterator[tuple[RegisterName, RegisterRule]]:
        """All four, in order."""
        return ((name, self[name]) for name in LAUNCH_REGISTERS)

    def value(self, name: Register | RegisterName) -> Sha384 | None:
        """The register's value; None if it is unpinned."""
        return self[name].value


class Components(Object, frozen=True):
    """Digests of what was launched, as they are measured; null: none, or not known.

    Attributes:
        firmware: SHA-384 of the firmware image, as it is mapped below 4 GiB.
        kernel_authenticode: SHA-384 Authenticode digest of the kernel, with the setup header that
            the firmware sees (RTMR1).
        initrd: SHA-384 of the initrd (RTMR2).
        cmdline: SHA-384 of the kernel's load options: UTF-16LE with the final NUL (RTMR2).
        root_hash: dm-verity root hash on the command line.
        acpi: SHA-384 over the digests of the ACPI events in the order of the log, 48 bytes each
            (RTMR0).
    """

    firmware: Sha384 | None
    kernel_authenticode: Sha384 | None
    initrd: Sha384 | None
    cmdline: Sha384 | None
    root_hash: RootHash | None
    acpi: Sha384 | None


class Input(Object, frozen=True):
    """An input file: key of the launch spec, name, size in bytes, SHA-384 of its bytes."""

    key: Text
    name: Text
    size: Size
    sha384: Sha384


class CoverageRow(Object, frozen=True):
    """What measures an input of the launch.

    Attributes:
        input: such as ``kernel`` or ``rootfs``.
        status: ``measured``; ``unpinned``: into a register that is not compared; ``not
            measured``: by none; ``absent``: the launch has no such input.
        registers: those that depend on it.
        note: what measures it, or what follows from its not being measured.
        accepted: why the signer took it although no exact register covers it; else null.
    """

    input: Name
    status: Literal["measured", "unpinned", "not measured", "absent"]
    registers: tuple[Register, ...]
    note: Text
    accepted: Text | None


class BitRule(Object, frozen=True):
    """Demanded bits of a 64-bit field: ``field & mask == value``.

    Both are integers in 16 hex digits, most significant first: SEPT_VE_DISABLE, bit 28 of
    TDATTRIBUTES, is ``0000000010000000``. (A quote has the field little-endian, as
    ``0000001000000000``.)
    """

    value: Bits64
    mask: Bits64

    def allows(self, field: int) -> bool:
        """Whether a field has the demanded bits."""
        return field & int(self.mask, 16) == int(self.value, 16)


class Expectations(Object, frozen=True):
    """What else a TD of this launch has: TDATTRIBUTES and XFAM."""

    td_attributes: BitRule
    xfam: BitRule


class Confirmation(Object, frozen=True):
    """A check of the launch's figures: its kind, what came out, SHA-256 of the result document."""

    kind: ConfirmationKind
    sha256: Sha256Hex
    outcome: ConfirmationOutcome


class Launch(Object, frozen=True):
    """One launch: a release on one shape of machine.

    Attributes:
        shape: its name in this document.
        registers: what it measures.
        components: digests of what was launched.
        inputs: the files that the figures were derived from.
        coverage: which input is measured where.
        expectations: of the TD itself.
        confirmations: who checked the figures.
        spec: the launch spec as JSON; for people and for deriving again, never interpreted here.
    """

    shape: Name
    registers: LaunchRegisters
    components: Components
    inputs: tuple[Input, ...]
    coverage: tuple[CoverageRow, ...]
    expectations: Expectations
    confirmations: tuple[Confirmation, ...]
    spec: dict[str, Any]

    @property
    def mrtd_digest(self) -> str | None:
        """`mrtd_digest` of this launch; None without an exact MRTD."""
        mrtd = self.registers.value("mrtd")
        return None if mrtd is None else mrtd_digest(mrtd)

    @property
    def launch_digest(self) -> str | None:
        """`launch_digest` of this launch; None unless MRTD, RTMR1 and RTMR2 are exact."""
        mrtd, rtmr1, rtmr2 = (self.registers[name].value for name in ("mrtd", "rtmr1", "rtmr2"))
        if mrtd is None or rtmr1 is None or rtmr2 is None:
            return None
        return launch_digest(mrtd, rtmr1, rtmr2)


class Artifact(Object, frozen=True):
    """A file of the release: name, SHA-256, size in bytes."""

    name: Name
    sha256: Sha256Hex
    size: Size


class ReferenceValues(Object, frozen=True):
    """A reference-values document: the predicate of the statement that a release signs."""

    schema: Literal["mrtd.reference/1"]
    tool: Tool
    release: Release
    lifecycle: Lifecycle
    launches: tuple[Launch, ...]
    artifacts: tuple[Artifact, ...]
