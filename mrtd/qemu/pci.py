"""Where a firmware puts the 64-bit PCI window, which the measured ACPI tables describe.

Source: edk2 OvmfPkg/Library/PlatformInitLib/MemDetect.c (PlatformGetFirstNonAddress,
PlatformAddressWidthFromCpuid, PlatformDynamicMmioWindow, PlatformReservationConflictCB) and
OvmfPkg/PciHotPlugInitDxe. Compared with the BARs and tables of booted firmware (edk2 2022.11,
2025.02 and 2026.08) for widths of 40, 42, 46 and 52 bits and both CPU vendors.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

from mrtd.errors import ToolFailed

_GIB: Final = 1 << 30
CLASSIC_SIZE: Final = 32 * _GIB  # PcdPciMmio64Size in edk2 OvmfPkg*.dsc
_LARGEST_KNOB: Final = 0x1000000  # "Accept an aperture size up to 16TB"
_RAM: Final = 1


@dataclass(frozen=True, slots=True)
class Cpu:
    """What CPUID tells the firmware.

    Attributes:
        vendor: such as ``GenuineIntel``.
        phys_bits: physical address width in bits.
        gib_pages: whether there are 1 GiB pages.
    """

    vendor: str
    phys_bits: int
    gib_pages: bool

    @property
    def width_is_trusted(self) -> bool:
        """Whether the firmware believes the width: QEMU says 40 bits whatever the host has."""
        known = {"GenuineIntel": (36, 39), "AuthenticAMD": (40,)}
        return self.phys_bits >= 41 or self.phys_bits in known.get(self.vendor, ())


@dataclass(frozen=True, slots=True)
class E820Entry:
    """An entry of fw_cfg ``etc/e820``.

    Attributes:
        base: guest physical address.
        size: bytes.
        type: 1 is RAM, 2 reserved (ACPI 6.5, table 15.4).
    """

    base: int
    size: int
    type: int


@dataclass(frozen=True, slots=True)
class Window:
    """A range of guest physical addresses, both figures in bytes."""

    base: int
    size: int


@dataclass(frozen=True, slots=True)
class Mmio64Rule:
    """How a firmware chooses the window.

    Attributes:
        max_phys_bits: the width that larger ones are cut to: 47 in edk2 2022.11, 46 since 2023.
        avoids_reserved: whether the window moves below reserved ranges of ``etc/e820``: not in
            edk2 2022.11.
    """

    max_phys_bits: int = 46
    avoids_reserved: bool = True

    def window(
        self,
        cpu: Cpu,
        e820: tuple[E820Entry, ...],
        *,
        size: int = CLASSIC_SIZE,
        reserved_end: int = 0,
    ) -> Window | None:
        """The window; None if there is none.

        Args:
            cpu: the first virtual CPU.
            e820: the entries of ``etc/e820``.
            size: size of the classic window in bytes (see `classic_size`).
            reserved_end: ``etc/reserved-memory-end``, 0 if that is absent.
        """
        end = max([4 * _GIB, *(entry.base + entry.size for entry in e820 if entry.type == _RAM)])
        size = _up(size, _GIB)
        base = _up(max(end, reserved_end), _GIB) if size else 0
        if size:
            base = _up(base, 1 << size.bit_length() - 1)
        classic = Window(base, size) if size else None
        if not cpu.width_is_trusted:
            return classic
        width = min(cpu.phys_bits, self.max_phys_bits if cpu.gib_pages else 40)
        space = 1 << width - 3
        if size >= space or base + space >= 1 << width:
            return classic
        base = (1 << width) - space
        if self.avoids_reserved:
            for entry in e820:
                if max(entry.base, base) < min(entry.base + entry.size, base + space):
                    base = entry.base - space & -space
        return Window(base, space)


def hotplug_reserve(window: Window | None) -> int:
    """Bytes of the window that a hotplug slot gets by default (GetResourcePadding)."""
    if window is None or window.size <= CLASSIC_SIZE:
        return 0
    return power_of_two(window.size >> 8)


def power_of_two(value: int) -> int:
    """The smallest power of two that is not below ``value``; 0 for 0."""
    return 1 << (value - 1).bit_length() if value else 0


def classic_size(knob: bytes | None) -> int:
    """Size of the classic window: 32 GiB, or what ``opt/ovmf/X-PciMmio64Mb`` says in MiB."""
    if knob is not None and knob.rstrip(b"\0\n").isdigit() and len(knob) <= 16:
        mib = int(knob.rstrip(b"\0\n"))
        if mib <= _LARGEST_KNOB:
            return mib << 20
    return CLASSIC_SIZE


def parse_e820(blob: bytes) -> tuple[E820Entry, ...]:
    """The entries of fw_cfg ``etc/e820``, 20 bytes each. Raises `ToolFailed`."""
    if len(blob) % 20:
        raise ToolFailed(f"{len(blob)} bytes are no whole entries", origin="fw_cfg etc/e820")
    return tuple(E820Entry(*fields) for fields in struct.iter_unpack("<QQI", blob))


def _up(value: int, alignment: int) -> int:
    return -(-value // alignment) * alignment
