"""What the firmware does to the chipset and to PCI before it reads the ACPI tables.

QEMU builds the tables when they are first read, from what the registers hold at that moment; a dump
must write the same values first. Established by comparing dumps with what booted guests read.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from mrtd.errors import ToolFailed
from mrtd.qemu.qtest import Qtest

_ADDRESS: Final = 0xCF8
_DATA: Final = 0xCFC
_PCIEXBAR: Final = 0x60  # host bridge 00:00.0 (Intel 3 Series datasheet, 5.1.17)
_PMBASE: Final = 0x40  # LPC bridge 00:1f.0 (Intel ICH9 datasheet, 13.1.13)
_ACPI_CNTL: Final = 0x44
_PM_BASE: Final = 0x600  # edk2 OvmfPkg/Include/OvmfPlatforms.h, ICH9_PMBASE_VALUE
_COMMAND: Final = 4
_MEMORY_ENABLE: Final = 2
_HEADER: Final = 0x0C
_BAR0: Final = 0x10
_BUSES: Final = 0x18
_PREFETCH: Final = 0x24
_GIB: Final = 1 << 30
_CLASSIC_SIZE: Final = 32 * _GIB  # edk2 OvmfPkg*.dsc, PcdPciMmio64Size


@dataclass(frozen=True, slots=True)
class Cpu:
    """What CPUID tells the firmware: vendor, physical address width in bits, 1 GiB pages."""

    vendor: str
    phys_bits: int
    gib_pages: bool


@dataclass(frozen=True, slots=True)
class E820Entry:
    """An entry of fw_cfg ``etc/e820``: guest physical address and size in bytes, type."""

    base: int
    size: int
    type: int


@dataclass(frozen=True, slots=True)
class Mmio64Rule:
    """Where a firmware puts its 64-bit PCI window.

    Source: edk2 OvmfPkg/Library/PlatformInitLib/MemDetect.c: PlatformGetFirstNonAddress,
    PlatformAddressWidthFromCpuid, PlatformDynamicMmioWindow, PlatformReservationConflictCB.

    Attributes:
        max_phys_bits: the width that larger ones are cut to.
        avoids_reserved: whether the window moves below reserved ranges of ``etc/e820``.
    """

    max_phys_bits: int = 46
    avoids_reserved: bool = True

    def window(
        self,
        cpu: Cpu,
        e820: tuple[E820Entry, ...],
        *,
        size: int = _CLASSIC_SIZE,
        reserved_end: int = 0,
    ) -> tuple[int, int]:
        """Base and size in bytes.

        Args:
            cpu: the first virtual CPU.
            e820: the entries of ``etc/e820``.
            size: size of the classic window, 32 GiB unless ``opt/ovmf/X-PciMmio64Mb`` is given.
            reserved_end: ``etc/reserved-memory-end``, 0 if that is absent.
        """
        ends = [entry.base + entry.size for entry in e820 if entry.type == 1]
        first = max([4 * _GIB, *ends])
        size = _up(size, _GIB)
        base = _up(_up(max(first, reserved_end), _GIB), 1 << max(size.bit_length() - 1, 0))
        if not self._width_is_trusted(cpu):
            return base, size
        width = min(cpu.phys_bits, self.max_phys_bits if cpu.gib_pages else 40)
        space = 1 << (width - 3)
        if not (size < space and base + space < 1 << width):
            return base, size
        base = (1 << width) - space
        if self.avoids_reserved:
            for entry in e820:
                if max(entry.base, base) < min(entry.base + entry.size, base + space):
                    base = (entry.base - space) & ~(space - 1)
        return base, space

    @staticmethod
    def _width_is_trusted(cpu: Cpu) -> bool:
        """QEMU says 40 bits by default whatever the host has; only AMD has such CPUs."""
        known = {"GenuineIntel": (36, 39), "AuthenticAMD": (40,)}
        return cpu.phys_bits >= 41 or cpu.phys_bits in known.get(cpu.vendor, ())


def parse_e820(blob: bytes) -> tuple[E820Entry, ...]:
    """The entries of fw_cfg ``etc/e820``, 20 bytes each. Raises `ToolFailed`."""
    if len(blob) % 20:
        raise ToolFailed(f"{len(blob)} bytes are no whole entries", origin="fw_cfg etc/e820")
    return tuple(E820Entry(*fields) for fields in struct.iter_unpack("<QQI", blob))


@dataclass(frozen=True, slots=True)
class Region:
    """A 64-bit memory BAR on bus 0, or the prefetchable window of a bridge there.

    Attributes:
        function: device and function number, device << 3 | function.
        register: configuration space offset of the BAR, or 0x24 for a bridge's window.
        size: bytes.
    """

    function: int
    register: int
    size: int


class Pci:
    """Configuration space of a stopped machine, through ports 0xCF8 and 0xCFC."""

    def __init__(self, qtest: Qtest) -> None:
        self._qtest = qtest

    def read(self, function: int, register: int, *, bus: int = 0) -> int:
        """32 bits of configuration space."""
        self._select(bus, function, register)
        return self._qtest.inl(_DATA)

    def write(self, function: int, register: int, value: int, *, bus: int = 0) -> None:
        """Write 32 bits of configuration space."""
        self._select(bus, function, register)
        self._qtest.outl(_DATA, value)

    def set_chipset(self, ecam_base: int) -> None:
        """Configuration space and power management base, as the firmware sets them."""
        self.write(0, _PCIEXBAR + 4, ecam_base >> 32)
        self.write(0, _PCIEXBAR, (ecam_base & 0xFFFFFFFF) | 1)
        self.write(0x1F << 3, _PMBASE, _PM_BASE)
        self._select(0, 0x1F << 3, _ACPI_CNTL)
        self._qtest.outb(_DATA, 0x80)

    def functions(self, bus: int = 0) -> Iterator[int]:
        """Device << 3 | function of every function on a bus."""
        for device in range(32):
            multi = False
            for number in range(8):
                function = device << 3 | number
                if number and not multi:
                    break
                if self.read(function, 0, bus=bus) & 0xFFFF == 0xFFFF:
                    if number == 0:
                        break
                    continue
                if number == 0:
                    multi = bool(self.read(function, _HEADER, bus=bus) >> 23 & 1)
                yield function

    def regions64(self) -> tuple[Region, ...]:
        """The 64-bit regions that the root bus has to place."""
        found: list[Region] = []
        for function in list(self.functions()):
            found += self._bars64(function)
        return tuple(found)

    def place(self, region: Region, address: int) -> None:
        """Put a region at an address and let it decode memory."""
        self.write(region.function, region.register, address & 0xFFFFFFFF)
        self.write(region.function, region.register + 4, address >> 32)
        command = self.read(region.function, _COMMAND) & 0xFFFF
        self.write(region.function, _COMMAND, command | _MEMORY_ENABLE)

    def _bars64(self, function: int) -> Iterator[Region]:
        bars = 2 if self.read(function, _HEADER) >> 16 & 0x7F == 1 else 6
        index = 0
        while index < bars:
            register = _BAR0 + 4 * index
            index += 1
            low = self.read(function, register)
            if low & 7 == 4 and index < bars:
                index += 1
                yield Region(function, register, self._size64(function, register))

    def _size64(self, function: int, register: int) -> int:
        """Size of a BAR: the lowest address bit that can be written (PCI 3.0, 6.2.5.1)."""
        old = self.read(function, register), self.read(function, register + 4)
        self.write(function, register, 0xFFFFFFFF)
        self.write(function, register + 4, 0xFFFFFFFF)
        mask = self.read(function, register + 4) << 32 | self.read(function, register) & ~0xF
        self.write(function, register, old[0])
        self.write(function, register + 4, old[1])
        return mask & -mask

    def _select(self, bus: int, function: int, register: int) -> None:
        self._qtest.outl(_ADDRESS, 1 << 31 | bus << 16 | function << 8 | register & ~3)


def _up(value: int, alignment: int) -> int:
    return -(-value // alignment) * alignment
