"""Measurement registers of a TD, and how one is extended.

MRTD is the build-time measurement, RTMR0..3 the run-time measurement registers of an Intel TD
(Intel TDX Module Base Architecture Specification, "Measurement and Attestation"); each holds a
SHA-384 value. PCR0..23 are the registers of a TPM's SHA-384 bank, which the same firmware extends
in a VM that is no TD (target ``tpm``).
"""

from __future__ import annotations

import hashlib
import hmac
from enum import StrEnum
from typing import Final

import msgspec

from mrtd.errors import MalformedDocument

SHA384_SIZE: Final = 48
_HEX: Final = frozenset("0123456789abcdefABCDEF")


class Sha384:
    """A SHA-384 value: 48 bytes, shown as 96 lower-case hex digits, compared in constant time."""

    __slots__ = ("raw",)
    raw: bytes

    def __init__(self, raw: bytes) -> None:
        if len(raw) != SHA384_SIZE:
            raise MalformedDocument(f"{len(raw)} bytes where 48 are needed", origin="SHA-384 value")
        object.__setattr__(self, "raw", bytes(raw))

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"Sha384 is immutable: {name}")

    @classmethod
    def of(cls, *chunks: bytes | bytearray | memoryview) -> Sha384:
        """The SHA-384 digest of the chunks, one after the other."""
        state = hashlib.sha384()
        for chunk in chunks:
            state.update(chunk)
        return cls(state.digest())

    @classmethod
    def fromhex(cls, text: str, *, origin: str = "SHA-384 value") -> Sha384:
        """Read 96 hex digits. Raises `MalformedDocument`."""
        if len(text) != 2 * SHA384_SIZE or not _HEX.issuperset(text):
            raise MalformedDocument(f"not 96 hex digits: {text[:100]!r}", origin=origin)
        return cls(bytes.fromhex(text))

    @property
    def is_zero(self) -> bool:
        """Whether all 48 bytes are zero, which a register is that nothing extended."""
        return self == ZERO

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sha384) and hmac.compare_digest(self.raw, other.raw)

    def __hash__(self) -> int:
        return hash(self.raw)

    def __str__(self) -> str:
        return self.raw.hex()

    def __repr__(self) -> str:
        return f"Sha384({self.raw.hex()})"


ZERO: Final = Sha384(bytes(SHA384_SIZE))


class RegisterName(StrEnum):
    """The registers that events are extended into."""

    MRTD = "mrtd"
    RTMR0 = "rtmr0"
    RTMR1 = "rtmr1"
    RTMR2 = "rtmr2"
    RTMR3 = "rtmr3"
    PCR0 = "pcr0"
    PCR1 = "pcr1"
    PCR2 = "pcr2"
    PCR3 = "pcr3"
    PCR4 = "pcr4"
    PCR5 = "pcr5"
    PCR6 = "pcr6"
    PCR7 = "pcr7"
    PCR8 = "pcr8"
    PCR9 = "pcr9"
    PCR10 = "pcr10"
    PCR11 = "pcr11"
    PCR12 = "pcr12"
    PCR13 = "pcr13"
    PCR14 = "pcr14"
    PCR15 = "pcr15"
    PCR16 = "pcr16"
    PCR17 = "pcr17"
    PCR18 = "pcr18"
    PCR19 = "pcr19"
    PCR20 = "pcr20"
    PCR21 = "pcr21"
    PCR22 = "pcr22"
    PCR23 = "pcr23"


LAUNCH_REGISTERS: Final = (
    RegisterName.MRTD,
    RegisterName.RTMR0,
    RegisterName.RTMR1,
    RegisterName.RTMR2,
)


class Target(StrEnum):
    """Who takes the measurements of a launch.

    ``cc``: the TD's own registers (EFI_CC_MEASUREMENT_PROTOCOL). ``tpm``: the PCRs of a TPM in a
    VM without TDX, which the same firmware extends (EFI_TCG2_PROTOCOL).
    """

    CC = "cc"
    TPM = "tpm"


class Exact(msgspec.Struct, frozen=True):
    """The register's value follows from the inputs."""

    value: Sha384


class Unpinned(msgspec.Struct, frozen=True):
    """The value does not follow from the inputs; ``reason`` says why, for a person."""

    reason: str


Rule = Exact | Unpinned


class Registers(msgspec.Struct, frozen=True):
    """Registers of one launch, each with its rule, in the order of `RegisterName`.

    For target ``cc`` these are `LAUNCH_REGISTERS`, for ``tpm`` the PCRs that are extended.
    """

    rules: tuple[tuple[RegisterName, Rule], ...]

    def __getitem__(self, name: RegisterName) -> Rule:
        return dict(self.rules)[name]

    def value(self, name: RegisterName) -> Sha384 | None:
        """The register's value; None if it is unpinned."""
        rule = self[name]
        return rule.value if isinstance(rule, Exact) else None


def extend(register: Sha384, digest: Sha384) -> Sha384:
    """What a register holds after one more event: SHA-384(register || digest).

    Source: Intel TDX Module Base Architecture Specification, TDG.MR.RTMR.EXTEND; the same rule is
    TPM 2.0's PCR_Extend for a SHA-384 bank.
    """
    return Sha384.of(register.raw, digest.raw)
