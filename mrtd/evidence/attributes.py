"""TDATTRIBUTES and XFAM of a TD, by the names of their bits.

Both are 64-bit little-endian fields that TDH.MNG.INIT takes from the VMM (TD_PARAMS) and that every
TD report carries. A name that is missing here is shown as a bit number, never dropped.
"""

from __future__ import annotations

from typing import Final

import msgspec

WIDTH: Final = 64


class Bit(msgspec.Struct, frozen=True):
    """One bit of a field.

    Attributes:
        number: 0 is the least significant bit.
        name: as the specification calls it.
        meaning: what it does while it is 1, for a person.
    """

    number: int
    name: str
    meaning: str


# Intel TDX Module ABI Specification (348551), table "ATTRIBUTES Definition"; the same numbers in
# Linux 6.16, arch/x86/include/asm/shared/tdx.h (TDX_ATTR_*). Bits 7:0 are the group TUD: "if any
# bit is set, the TD is untrusted"; 31:8 SEC may affect security; 63:32 OTHER do not.
TD_ATTRIBUTE_BITS: Final = (
    Bit(0, "DEBUG", "the host reads and writes the TD's memory and CPU state"),
    Bit(4, "HGS_PLUS_PROF", "the host profiles the TD (hardware guided scheduling)"),
    Bit(5, "PERF_PROF", "the host profiles the TD (performance monitoring)"),
    Bit(6, "PMT_PROF", "the host profiles the TD (platform monitoring)"),
    Bit(16, "ICSSD", "single-step defence by instruction count"),
    Bit(17, "SERVTD_EXT", "the TD report covers more of the bound service TDs"),
    Bit(27, "LASS", "the TD may use linear address space separation"),
    Bit(28, "SEPT_VE_DISABLE", "no #VE on access to a page that is not accepted"),
    Bit(29, "MIGRATABLE", "a migration TD may move the TD to another platform"),
    Bit(30, "PKS", "the TD may use supervisor protection keys"),
    Bit(31, "KL", "the TD may use key locker"),
    Bit(62, "TPA", "the TD is a TDX Connect provisioning agent"),
    Bit(63, "PERFMON", "the TD may use performance monitoring"),
)
_UNDER_DEBUG: Final = 0xFF
_DEBUG: Final = 1 << 0

# Intel SDM volume 1, section 13.1 (state components of XCR0 and IA32_XSS); Intel TDX Module Base
# Architecture Specification, "Extended Features Execution Control" (XFAM has the same bits).
XFAM_BITS: Final = (
    Bit(0, "FP", "x87"),
    Bit(1, "SSE", "XMM registers"),
    Bit(2, "AVX", "upper halves of the YMM registers"),
    Bit(3, "BNDREGS", "MPX bounds"),
    Bit(4, "BNDCSR", "MPX configuration"),
    Bit(5, "OPMASK", "AVX-512 masks"),
    Bit(6, "ZMM_HI256", "AVX-512, upper halves of ZMM0-15"),
    Bit(7, "HI16_ZMM", "AVX-512, ZMM16-31"),
    Bit(8, "PT", "processor trace"),
    Bit(9, "PKRU", "user protection keys"),
    Bit(10, "PASID", "ENQCMD"),
    Bit(11, "CET_U", "control-flow enforcement, user mode"),
    Bit(12, "CET_S", "control-flow enforcement, supervisor mode"),
    Bit(13, "HDC", "hardware duty cycling"),
    Bit(14, "UINTR", "user interrupts"),
    Bit(15, "LBR", "last branch records"),
    Bit(16, "HWP", "hardware-controlled performance states"),
    Bit(17, "TILECFG", "AMX configuration"),
    Bit(18, "TILEDATA", "AMX tiles"),
    Bit(19, "APX", "extended general-purpose registers"),
)


class _Bits(msgspec.Struct, frozen=True):
    """A 64-bit field; ``value`` is its integer value, bit 0 the least significant one."""

    value: int

    @classmethod
    def _table(cls) -> tuple[Bit, ...]:
        raise NotImplementedError

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the known bits that are 1, in the order of their numbers."""
        return tuple(bit.name for bit in self._table() if self.value >> bit.number & 1)

    @property
    def unknown(self) -> tuple[int, ...]:
        """Numbers of the bits that are 1 and have no name here."""
        known = sum(1 << bit.number for bit in self._table())
        rest = self.value & ~known
        return tuple(number for number in range(WIDTH) if rest >> number & 1)

    def describe(self) -> str:
        """Names of all bits that are 1, with unknown ones by number; ``none`` if there is none."""
        texts = [*self.names, *(f"bit {number} (unknown)" for number in self.unknown)]
        return ", ".join(texts) or "none"

    def __str__(self) -> str:
        return f"{self.value:#018x}"


class TdAttributes(_Bits, frozen=True):
    """TDATTRIBUTES: 8 bytes, see `TD_ATTRIBUTE_BITS`."""

    @classmethod
    def _table(cls) -> tuple[Bit, ...]:
        return TD_ATTRIBUTE_BITS

    @property
    def debug(self) -> bool:
        """Whether the host can read and write the TD: its report proves nothing."""
        return bool(self.value & _DEBUG)

    @property
    def under_debug(self) -> bool:
        """Whether any bit of group TUD (7:0) is set, known or not: the TD is untrusted."""
        return bool(self.value & _UNDER_DEBUG)


class Xfam(_Bits, frozen=True):
    """XFAM: which extended CPU state the TD may use, 8 bytes, see `XFAM_BITS`."""

    @classmethod
    def _table(cls) -> tuple[Bit, ...]:
        return XFAM_BITS
